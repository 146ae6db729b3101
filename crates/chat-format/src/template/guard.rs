//! Content stays content: who writes `<|im_end|>` in a message must not end the turn.
//!
//! Before rendering, texts of users, tools and names are marked with [`SEAM`]s, which templates carry along; after
//! rendering, every spelling of a control token that holds a seam was not written by the template alone. It is cut
//! there, and each piece is tokenised alone, so that no piece holds a control token that the template did not write.
//! Seams outside of such spellings are dropped: a prompt without them is tokenised exactly as usual.
//!
//! ```text
//! content   x<|im_/thinkend|>      marked    SEAM x < SEAM |im_/thinkend| > SEAM
//! template  .replace('/think', '') rendered  SEAM x < SEAM |im_end|> SEAM <|im_end|>
//!                                  pieces    "x<"  "|im_end|><|im_end|>"
//! ```
//!
//! A template may look into contents, and seams could be in its way. A prompt is therefore rendered without seams too,
//! and only a [`Care`] that changes nothing is taken, the most careful first.

use std::collections::BTreeSet;
use std::ops::Range;

use aho_corasick::AhoCorasick;

/// A place in a text that a control token may not span. Marks are Unicode noncharacters: they are never exchanged, so
/// nobody misses them in their text.
const SEAM: char = '\u{fdd0}';
/// Before an image's number and place.
const IMAGE_BEGIN: char = '\u{fdd1}';
/// After an image's place.
const IMAGE_END: char = '\u{fdd2}';
/// Where an answer goes on.
const TAIL: char = '\u{fdd3}';
/// The digit 0 of an image's number; the others follow.
const DIGIT_0: u32 = 0xfde0;

/// Whether a character is one of ours.
pub(super) const fn is_mark(char: char) -> bool {
    matches!(char, '\u{fdd0}'..='\u{fdef}')
}

/// How texts are marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// At both ends, and wherever a control token could begin: also what the template puts together is found.
    Everywhere,
    /// In spellings of control tokens.
    Spelled,
    /// The same, but the assistant's texts may hold what the template itself looks for in them, like `</think>`.
    Trusting,
    /// Not at all.
    Plain,
}

/// Whose text it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    /// The model's, or what is said to be.
    Assistant,
    /// Anybody else's.
    Other,
    /// Anybody's, but a word that stands for something: names, keys, types.
    Word,
}

/// Knows the spellings of control tokens.
#[derive(Debug)]
pub(super) struct Guard {
    spellings: Vec<String>,
    /// Finds them; `None` where there are none.
    finder: Option<AhoCorasick>,
    /// What they begin with.
    firsts: BTreeSet<char>,
    /// What they begin or end with.
    edges: BTreeSet<char>,
    /// Spellings that the template looks for in contents.
    looked_for: BTreeSet<String>,
}

impl Guard {
    /// Knows these spellings, and the template that contents go through.
    pub(super) fn new(spellings: &[String], template: &str) -> Self {
        let mut spellings: Vec<String> = spellings
            .iter()
            .filter(|spelling| !spelling.is_empty() && !spelling.contains(is_mark))
            .cloned()
            .collect();
        spellings.sort();
        spellings.dedup();
        let looked_for = spellings
            .iter()
            .filter(|spelling| is_looked_for(template, spelling))
            .cloned()
            .collect();
        Self {
            finder: AhoCorasick::new(&spellings)
                .ok()
                .filter(|_| !spellings.is_empty()),
            firsts: spellings
                .iter()
                .filter_map(|it| it.chars().next())
                .collect(),
            edges: spellings
                .iter()
                .flat_map(|it| [it.chars().next(), it.chars().next_back()])
                .flatten()
                .collect(),
            spellings,
            looked_for,
        }
    }

    /// `text` with seams.
    pub(super) fn marked(&self, text: &str, author: Author, care: Care) -> String {
        let text = text.replace(is_mark, "");
        match care {
            Care::Spelled => self.spelled(text, |_| true),
            Care::Trusting => self.spelled(text, |spelling| {
                author != Author::Assistant || !self.looked_for.contains(spelling)
            }),
            Care::Everywhere if text.contains(|char| self.edges.contains(&char)) => {
                self.everywhere(&text)
            }
            Care::Everywhere if author == Author::Word && self.is_core(&text) => {
                format!("{SEAM}{text}{SEAM}")
            }
            Care::Everywhere | Care::Plain => text,
        }
    }

    fn everywhere(&self, text: &str) -> String {
        // Templates trim contents: seams stand within the white space.
        let core = text.trim();
        let lead = text.len() - text.trim_start().len();
        let (before, rest) = text.split_at(lead);
        let after = rest.get(core.len()..).unwrap_or_default();
        let mut out = String::with_capacity(text.len() + 16);
        out.push_str(before);
        out.push(SEAM);
        for char in core.chars() {
            out.push(char);
            if self.firsts.contains(&char) {
                out.push(SEAM);
            }
        }
        out.push(SEAM);
        out.push_str(after);
        out
    }

    fn spelled(&self, text: String, is_cut: impl Fn(&str) -> bool) -> String {
        let mut places = BTreeSet::new();
        for found in self.found(&text) {
            let spelling = text.get(found.clone()).unwrap_or_default();
            if is_cut(spelling) {
                places.insert(found.start + spelling.chars().next().map_or(0, char::len_utf8));
            }
        }
        if places.is_empty() {
            return text;
        }
        let mut out = String::with_capacity(text.len() + places.len() * SEAM.len_utf8());
        let mut begin = 0;
        for place in places {
            out.push_str(text.get(begin..place).unwrap_or_default());
            out.push(SEAM);
            begin = place;
        }
        out.push_str(text.get(begin..).unwrap_or_default());
        out
    }

    /// Whether a template that puts a word between brackets could make a control token of it.
    fn is_core(&self, word: &str) -> bool {
        !word.is_empty()
            && self.spellings.iter().any(|spelling| {
                spelling.split_once(word).is_some_and(|(before, after)| {
                    ![before, after].concat().contains(char::is_alphanumeric)
                })
            })
    }

    fn found<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
        let finder = self.finder.iter();
        finder.flat_map(move |finder| finder.find_overlapping_iter(text).map(|it| it.range()))
    }

    /// What is left of a rendered text when its marks are taken out, and where it has to be cut.
    pub(super) fn read(&self, rendered: &str) -> Read {
        let mut read = Read::of(rendered);
        let seams = std::mem::take(&mut read.cuts);
        if seams.is_empty() {
            return read;
        }
        let mut cuts = BTreeSet::new();
        for found in self.found(&read.text) {
            if let Some(seam) = seams.range(found.start + 1..found.end).next() {
                cuts.insert(*seam);
            }
        }
        read.cuts = cuts;
        read
    }
}

/// Whether a template's source compares contents with a text.
fn is_looked_for(template: &str, text: &str) -> bool {
    ['\'', '"'].into_iter().any(|quote| {
        let literal = format!("{quote}{text}{quote}");
        template.match_indices(&literal).any(|(place, _)| {
            let before = template.get(..place).unwrap_or_default().trim_end();
            let after = template.get(place + literal.len()..).unwrap_or_default();
            let after = after.trim_start();
            let is_argument = [
                "split(",
                "startswith(",
                "endswith(",
                "replace(",
                "find(",
                "strip(",
                "partition(",
            ]
            .iter()
            .any(|method| before.ends_with(method));
            is_argument || after.starts_with("in ") || after.starts_with("not in ")
        })
    })
}

/// A rendered text without its marks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) text: String,
    /// Between which bytes it is cut.
    pub(super) cuts: BTreeSet<usize>,
    /// Which image stands where; what the template wrote for it is in there.
    pub(super) images: Vec<(usize, Range<usize>)>,
    /// Where the answer goes on.
    pub(super) tail: Option<usize>,
}

impl Read {
    fn of(rendered: &str) -> Self {
        let mut read = Self::default();
        let mut open: Option<(usize, usize)> = None;
        for char in rendered.chars() {
            let place = read.text.len();
            match (char, &mut open) {
                (SEAM, _) => {
                    read.cuts.insert(place);
                }
                (IMAGE_BEGIN, open) => *open = Some((0, place)),
                (IMAGE_END, Some((index, begin))) => {
                    read.images.push((*index, *begin..place));
                    open = None;
                }
                (TAIL, _) => read.tail = Some(place),
                (char, Some((index, _))) if is_mark(char) => {
                    let digit = u32::from(char).saturating_sub(DIGIT_0);
                    *index = *index * 10 + usize::try_from(digit).unwrap_or_default();
                }
                (char, _) if is_mark(char) => {}
                (char, _) => read.text.push(char),
            }
        }
        read
    }
}

/// Marks where an image begins. What the template writes for it follows.
pub(super) fn image_begin(index: usize) -> String {
    let digits = index.to_string();
    let digits = digits.bytes().filter_map(|digit| {
        let digit = u32::from(digit.saturating_sub(b'0'));
        char::from_u32(DIGIT_0 + digit)
    });
    std::iter::once(IMAGE_BEGIN).chain(digits).collect()
}

/// Marks where an image ends.
pub(super) fn image_end() -> String {
    IMAGE_END.to_string()
}

/// Stands at the end of a text that the answer goes on with. The space shows whether the template trims it.
pub(super) fn tail() -> String {
    format!("{TAIL} ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        let spellings = ["<|im_start|>", "<|im_end|>", "</think>", "<s>", "<key>"];
        Guard::new(
            &spellings.map(ToOwned::to_owned),
            "{% if '</think>' in content %}{{ '<|im_end|>' + x }}",
        )
    }

    fn pieces(guard: &Guard, rendered: &str) -> Vec<String> {
        let read = guard.read(rendered);
        let mut begin = 0;
        let ends = read.cuts.iter().copied().chain([read.text.len()]);
        ends.map(|end| {
            let piece = read.text[begin..end].to_owned();
            begin = end;
            piece
        })
        .collect()
    }

    #[test]
    fn what_the_template_writes_is_whole_and_what_others_write_is_cut() {
        let guard = guard();
        let marked = guard.marked(" <|im_end|> ", Author::Other, Care::Everywhere);
        assert_eq!(
            pieces(&guard, &format!("<s>{marked}<|im_end|>")),
            ["<s> <", "|im_end|> <|im_end|>"]
        );
    }

    #[test]
    fn what_a_template_puts_together_is_cut_too() {
        let guard = guard();
        let joined = guard
            .marked("<|im_/xend|>", Author::Other, Care::Everywhere)
            .replace("/x", "");
        assert_eq!(pieces(&guard, &joined), ["<", "|im_end|>"]);
        let halves = guard.marked("a<|im_", Author::Other, Care::Everywhere) + "end|>";
        assert_eq!(pieces(&guard, &halves), ["a<", "|im_end|>"]);
        for word in ["key", "|im_end|"] {
            let word = guard.marked(word, Author::Word, Care::Everywhere);
            assert_eq!(pieces(&guard, &format!("<{word}>")).len(), 2);
        }
    }

    #[test]
    fn other_text_is_left_whole() {
        let guard = guard();
        let marked = guard.marked("a < b && c > d <|", Author::Other, Care::Everywhere);
        assert_eq!(pieces(&guard, &marked), ["a < b && c > d <|"]);
        assert_eq!(
            guard.marked("plain", Author::Other, Care::Everywhere),
            "plain"
        );
    }

    #[test]
    fn the_assistant_may_be_trusted_with_what_the_template_looks_for() {
        let guard = guard();
        let said = "x</think>y<|im_end|>";
        let trusted = guard.marked(said, Author::Assistant, Care::Trusting);
        assert!(trusted.contains("</think>") && !trusted.contains("<|im_end|>"));
        assert!(
            !guard
                .marked(said, Author::Other, Care::Trusting)
                .contains("</think>")
        );
    }

    #[test]
    fn marks_of_others_are_dropped() {
        for care in [Care::Everywhere, Care::Spelled, Care::Trusting, Care::Plain] {
            assert_eq!(
                guard().marked("a\u{fdd1}\u{fde3}b", Author::Other, care),
                "ab"
            );
        }
    }

    #[test]
    fn images_and_the_tail_are_found() {
        let rendered = format!("a{}<img>{}b {}", image_begin(12), image_end(), tail());
        let read = guard().read(&rendered);
        assert_eq!(read.text, "a<img>b  ");
        assert_eq!(read.images, [(12, 1..6)]);
        assert_eq!(read.tail, Some(8));
    }
}
