//! pulldown-cmark's events → [`Node`]s.

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, LinkType, Options, Parser, TagEnd};

use super::{Alignment, Node, Tag, safe_href};

/// Containers within containers: deeper ones dissolve into the deepest kept one. Keeps recursion over the tree short.
const DEPTH_MAX: usize = 24;
/// Letters of a code block's language, and of an image's address: labels, not content.
const LANGUAGE_CHARS_MAX: usize = 24;
const IMAGE_URL_CHARS_MAX: usize = 160;

/// The nodes of a whole text.
pub fn parse(text: &str) -> Vec<Node> {
    parse_blocks(text)
        .into_iter()
        .map(|(_, node)| node)
        .collect()
}

/// The nodes of a text, each with the byte where its first line begins.
pub(super) fn parse_blocks(text: &str) -> Vec<(usize, Node)> {
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut builder = Builder::default();
    for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
        if builder.stack.is_empty() {
            // An indented block's range begins after its indentation, which it needs.
            builder.start = text
                .get(..range.start)
                .and_then(|before| before.rfind('\n'))
                .map_or(0, |newline| newline + 1);
        }
        builder.event(event);
    }
    while !builder.stack.is_empty() {
        builder.close();
    }
    builder.blocks
}

/// What an open container will become.
enum Frame {
    /// This element.
    Tag(Tag),
    /// Nothing: its children go to its parent.
    Dissolve,
    /// A named image with this address; its children are its description.
    Image(String),
}

#[derive(Default)]
struct Builder {
    blocks: Vec<(usize, Node)>,
    start: usize,
    stack: Vec<(Frame, Vec<Node>)>,
    alignments: Vec<Alignment>,
    in_head: bool,
    column: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.open(tag),
            Event::End(end) => {
                if end == TagEnd::TableHead {
                    self.in_head = false;
                }
                self.close();
            }
            Event::Text(text)
            | Event::Html(text)
            | Event::InlineHtml(text)
            | Event::InlineMath(text)
            | Event::DisplayMath(text)
            | Event::FootnoteReference(text) => self.text(&text),
            Event::Code(code) => {
                self.push(Node::Element(
                    Tag::Code,
                    vec![Node::Text(code.into_string())],
                ));
            }
            Event::SoftBreak => self.text("\n"),
            Event::HardBreak => self.push(Node::Element(Tag::Break, Vec::new())),
            Event::Rule => self.push(Node::Element(Tag::Rule, Vec::new())),
            Event::TaskListMarker(done) => self.text(if done { "☑ " } else { "☐ " }),
        }
    }

    fn open(&mut self, tag: pulldown_cmark::Tag<'_>) {
        use pulldown_cmark::Tag as Theirs;
        let frame = match tag {
            Theirs::Paragraph | Theirs::HtmlBlock => Frame::Tag(Tag::Paragraph),
            Theirs::Heading { level, .. } => Frame::Tag(Tag::Heading(match level {
                HeadingLevel::H1 => 1,
                HeadingLevel::H2 => 2,
                HeadingLevel::H3 => 3,
                HeadingLevel::H4 => 4,
                HeadingLevel::H5 => 5,
                HeadingLevel::H6 => 6,
            })),
            Theirs::BlockQuote(_) => Frame::Tag(Tag::Quote),
            Theirs::CodeBlock(kind) => Frame::Tag(Tag::CodeBlock(language(&kind))),
            Theirs::List(None) => Frame::Tag(Tag::Bullets),
            Theirs::List(Some(first)) => Frame::Tag(Tag::Numbers(first)),
            Theirs::Item => Frame::Tag(Tag::Item),
            Theirs::Emphasis => Frame::Tag(Tag::Emphasis),
            Theirs::Strong => Frame::Tag(Tag::Strong),
            Theirs::Strikethrough => Frame::Tag(Tag::Strikethrough),
            Theirs::Link {
                link_type,
                dest_url,
                ..
            } => link(link_type, &dest_url),
            Theirs::Image { dest_url, .. } => {
                Frame::Image(dest_url.chars().take(IMAGE_URL_CHARS_MAX).collect())
            }
            Theirs::Table(alignments) => {
                self.alignments = alignments.into_iter().map(alignment).collect();
                Frame::Tag(Tag::Table)
            }
            Theirs::TableHead => {
                self.in_head = true;
                self.column = 0;
                Frame::Tag(Tag::Row)
            }
            Theirs::TableRow => {
                self.column = 0;
                Frame::Tag(Tag::Row)
            }
            Theirs::TableCell => Frame::Tag(self.cell()),
            Theirs::FootnoteDefinition(_)
            | Theirs::DefinitionList
            | Theirs::DefinitionListTitle
            | Theirs::DefinitionListDefinition
            | Theirs::Superscript
            | Theirs::Subscript
            | Theirs::MetadataBlock(_) => Frame::Dissolve,
        };
        let frame = if self.stack.len() < DEPTH_MAX {
            frame
        } else {
            Frame::Dissolve
        };
        self.stack.push((frame, Vec::new()));
    }

    fn cell(&mut self) -> Tag {
        let alignment = self
            .alignments
            .get(self.column)
            .copied()
            .unwrap_or(Alignment::Start);
        self.column += 1;
        if self.in_head {
            Tag::HeadCell(alignment)
        } else {
            Tag::Cell(alignment)
        }
    }

    fn close(&mut self) {
        let Some((frame, children)) = self.stack.pop() else {
            return;
        };
        match frame {
            Frame::Tag(Tag::CodeBlock(language)) => {
                let mut code = spelt(&children);
                if code.ends_with('\n') {
                    code.pop();
                }
                self.push(Node::Element(
                    Tag::CodeBlock(language),
                    vec![Node::Text(code)],
                ));
            }
            Frame::Tag(tag) => self.push(Node::Element(tag, children)),
            Frame::Dissolve => {
                for child in children {
                    match child {
                        Node::Text(text) => self.text(&text),
                        Node::Element(..) => self.push(child),
                    }
                }
            }
            Frame::Image(url) => {
                let description = spelt(&children);
                let text = if description.is_empty() {
                    format!("Image: {url}")
                } else {
                    format!("Image: {description} ({url})")
                };
                self.push(Node::Element(Tag::Image, vec![Node::Text(text)]));
            }
        }
    }

    fn text(&mut self, text: &str) {
        if let Some((_, children)) = self.stack.last_mut()
            && let Some(Node::Text(before)) = children.last_mut()
        {
            before.push_str(text);
        } else {
            self.push(Node::Text(text.to_owned()));
        }
    }

    fn push(&mut self, node: Node) {
        match self.stack.last_mut() {
            Some((_, children)) => children.push(node),
            None => self.blocks.push((self.start, node)),
        }
    }
}

fn link(link_type: LinkType, url: &str) -> Frame {
    let url = if link_type == LinkType::Email {
        format!("mailto:{url}")
    } else {
        url.to_owned()
    };
    safe_href(&url).map_or(Frame::Dissolve, |href| Frame::Tag(Tag::Link(href)))
}

fn language(kind: &CodeBlockKind<'_>) -> String {
    match kind {
        CodeBlockKind::Indented => String::new(),
        CodeBlockKind::Fenced(info) => info
            .split([' ', ',', '{', '\t'])
            .next()
            .unwrap_or_default()
            .chars()
            .filter(|c| !c.is_control())
            .take(LANGUAGE_CHARS_MAX)
            .collect(),
    }
}

const fn alignment(theirs: pulldown_cmark::Alignment) -> Alignment {
    match theirs {
        pulldown_cmark::Alignment::None | pulldown_cmark::Alignment::Left => Alignment::Start,
        pulldown_cmark::Alignment::Center => Alignment::Middle,
        pulldown_cmark::Alignment::Right => Alignment::End,
    }
}

/// All characters below, in order.
fn spelt(nodes: &[Node]) -> String {
    let mut all = String::new();
    for node in nodes {
        match node {
            Node::Text(text) => all.push_str(text),
            Node::Element(_, children) => all.push_str(&spelt(children)),
        }
    }
    all
}
