//! Mixed text, the same on each run: what people write in many scripts, and what only a tokenizer's enemy would.

use std::path::{Path, PathBuf};

/// `SplitMix64`.
struct Draw(u64);

impl Draw {
    /// Below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        usize::try_from(bits % limit as u64).unwrap()
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// First and last character of scripts and of what is no script at all.
const RANGES: [(u32, u32); 40] = [
    (0x00, 0x1F),
    (0x20, 0x7E),
    (0x61, 0x7A),
    (0x7F, 0xA0),
    (0xA1, 0xFF),
    (0x100, 0x24F),
    (0x250, 0x2FF),
    (0x300, 0x36F),
    (0x370, 0x3FF),
    (0x400, 0x52F),
    (0x530, 0x58F),
    (0x590, 0x5FF),
    (0x600, 0x6FF),
    (0x900, 0x97F),
    (0x980, 0x9FF),
    (0xB80, 0xBFF),
    (0xC00, 0xC7F),
    (0xE00, 0xE7F),
    (0xF00, 0xFFF),
    (0x1000, 0x109F),
    (0x10A0, 0x10FF),
    (0x1100, 0x11FF),
    (0x1200, 0x137F),
    (0x13A0, 0x13FF),
    (0x1780, 0x17FF),
    (0x1E00, 0x1FFF),
    (0x2000, 0x206F),
    (0x2070, 0x24FF),
    (0x2500, 0x2BFF),
    (0x3000, 0x30FF),
    (0x3400, 0x9FFF),
    (0xA960, 0xABFF),
    (0xAC00, 0xD7A3),
    (0xE000, 0xF8FF),
    (0xFB00, 0xFEFF),
    (0xFF00, 0xFFFF),
    (0x10000, 0x1FFFF),
    (0x1F300, 0x1FAFF),
    (0x20000, 0x3FFFF),
    (0xE0000, char::MAX as u32),
];

/// What goes between other things, or over and over.
const PIECES: [&str; 66] = [
    "'s",
    "'S",
    "'t",
    "'T",
    "'re",
    "'RE",
    "'Re",
    "'ve",
    "'vE",
    "'m",
    "'M",
    "'ll",
    "'LL",
    "'lL",
    "'d",
    "'D",
    "’s",
    "'x",
    "''s",
    "'ſ",
    "don't",
    "I'LL",
    "we'Ve",
    " ",
    "  ",
    "   ",
    "\t",
    "\t\t",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    " \n",
    "\n ",
    "\u{a0}",
    "\u{3000}",
    "\u{85}",
    "\u{2028}",
    "\u{200b}",
    "\u{feff}",
    "\u{2581}",
    "\u{2581}\u{2581}",
    "0",
    "12",
    "345",
    "6789",
    "1234567890",
    "٣٤٥",
    "²³",
    "½",
    "Ⅷ",
    "3.14",
    "1,000",
    "/",
    "//",
    "</",
    "{}",
    "();",
    "=>",
    "$1",
    "café",
    "e\u{301}\u{302}",
    "👩‍👩‍👧‍👦",
    "🏳️‍🌈",
    "ÉAB",
    "camelCaseHTTPServer",
];

/// What chat templates spell, whole and broken.
const MARKS: [&str; 16] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<s>",
    "</s>",
    "<unk>",
    "<bos>",
    "<eos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|eot_id|>",
    "<|begin_of_text|>",
    "<0x0A>",
    "[INST]",
    "<|im_",
    "<unused7>",
];

const LINES: [&str; 12] = [
    "The quick brown fox jumps over the lazy dog.",
    "Falsches Üben von Xylophonmusik quält jeden größeren Zwerg.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "いろはにほへと ちりぬるを 我が世誰ぞ常ならむ。",
    "天地玄黃,宇宙洪荒。日月盈昃,辰宿列張。",
    "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر.",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה.",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश।",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "fn main() { let x: Vec<u8> = (0..10).map(|i| i * 2).collect(); println!(\"{x:?}\"); }",
];

/// Documents of at least `bytes` bytes together, each of at most some thousand characters: letters at random, lines of
/// languages, code, runs, marks of templates, and `vocabulary`'s own pieces put together.
pub(crate) fn documents(seed: u64, bytes: usize, vocabulary: &[String]) -> Vec<String> {
    let mut draw = Draw(seed);
    let pieces: Vec<&str> = vocabulary.iter().map(String::as_str).collect();
    let sources = sources();
    let mut documents = Vec::new();
    let mut written = 0;
    while written < bytes {
        let mut document = String::new();
        for _ in 0..=draw.below(40) {
            append(&mut document, &mut draw, &pieces, &sources);
        }
        written += document.len();
        documents.push(document);
    }
    documents
}

fn append(document: &mut String, draw: &mut Draw, vocabulary: &[&str], sources: &[String]) {
    match draw.below(10) {
        0 | 1 => {
            let (first, last) = RANGES[draw.below(RANGES.len())];
            for _ in 0..=draw.below(30) {
                let code = first + u32::try_from(draw.below((last - first + 1) as usize)).unwrap();
                document.extend(char::from_u32(code));
                if draw.below(6) == 0 {
                    document.push_str(draw.one(&PIECES));
                }
            }
        }
        2 => document.push_str(draw.one(&LINES)),
        3 => (0..=draw.below(12)).for_each(|_| document.push_str(draw.one(&PIECES))),
        4 => {
            let piece = draw.one(&PIECES);
            document.push_str(&piece.repeat(1 + draw.below(60)));
        }
        5 => document.push_str(draw.one(&MARKS)),
        6 | 7 => {
            for _ in 0..=draw.below(30) {
                document.push_str(draw.one(vocabulary));
                if draw.below(3) == 0 {
                    document.push(' ');
                }
            }
        }
        _ => {
            let source = &sources[draw.below(sources.len())];
            let from = source.floor_char_boundary(draw.below(source.len()));
            let to = source.floor_char_boundary(from + draw.below(1500));
            document.push_str(source.get(from..to).unwrap_or(&source[from..]));
        }
    }
}

/// Every character there is, between letters, digits and blanks; each of them in one of the documents.
pub(crate) fn all_characters() -> Vec<String> {
    let all: Vec<char> = ('\0'..=char::MAX).collect();
    let around = |character: &char| format!("a{character}b 1{character}2 {character}{character}\n");
    all.chunks(512)
        .map(|these| these.iter().map(around).collect())
        .collect()
}

/// Texts of this repository.
fn sources() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders: Vec<PathBuf> = ["crates", "docs", "node-container", "web"]
        .map(|name| root.join(name))
        .into();
    let mut files = vec![root.join("README.md"), root.join("Cargo.lock")];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).unwrap();
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.retain(|file| {
        let kind = file.extension().and_then(|it| it.to_str());
        matches!(
            kind,
            Some("rs" | "md" | "toml" | "lock" | "json" | "js" | "css" | "html")
        )
    });
    // Folders are listed in no order of their own.
    files.sort();
    let texts = files
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok());
    texts.filter(|text| !text.is_empty()).collect()
}
