//! Model output as a tree of nodes that are safe to show.
//!
//! What it is: a pure function from Markdown to [`Node`]s, and [`Document`], which does it while text still arrives.
//! What it is not: HTML. Raw HTML stays text, images are named and never fetched, links go to `http`, `https` and
//! `mailto` only; whatever a model writes, no other element can come out.

mod build;
mod document;
mod mend;
#[cfg(test)]
mod tests;

pub use build::parse;
pub use document::{Document, Update};

/// A piece of a rendered answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Characters, shown as they are.
    Text(String),
    /// One of the elements that exist, with what is in it.
    Element(Tag, Vec<Self>),
}

/// Every element that an answer can hold. There is no other way into the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tag {
    /// A paragraph.
    Paragraph,
    /// A heading of level 1 to 6, as the model counts.
    Heading(u8),
    /// A quotation.
    Quote,
    /// A list without numbers.
    Bullets,
    /// A numbered list and its first number.
    Numbers(u64),
    /// An item of either list.
    Item,
    /// A block of code and what language it claims to be; its one child is the text.
    CodeBlock(String),
    /// Code within a line.
    Code,
    /// Stressed.
    Emphasis,
    /// Strong.
    Strong,
    /// Struck out.
    Strikethrough,
    /// A link whose target passed [`safe_href`].
    Link(String),
    /// What an image said about itself; its one child is the text.
    Image,
    /// A table; its children are rows, the first of which is the head.
    Table,
    /// A row of a table.
    Row,
    /// A cell of a table's head.
    HeadCell(Alignment),
    /// A cell of a table's body.
    Cell(Alignment),
    /// A line across.
    Rule,
    /// The end of a line within a paragraph.
    Break,
}

/// Where a table cell's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alignment {
    /// At the start, or nothing said.
    Start,
    /// In the middle.
    Middle,
    /// At the end.
    End,
}

/// The target of a link, if it may be one: absolute, and with a scheme that cannot run code.
pub fn safe_href(url: &str) -> Option<String> {
    let url = url.trim();
    let lower = url.to_ascii_lowercase();
    let known = ["http://", "https://", "mailto:"]
        .iter()
        .any(|scheme| lower.starts_with(scheme));
    (known && !url.chars().any(|c| c.is_control() || c.is_whitespace())).then(|| url.to_owned())
}

/// The words alone, for screen readers: a code block is named, not spelt.
pub fn spoken(nodes: &[Node]) -> String {
    let mut words = String::new();
    speak(nodes, &mut words);
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

// As deep as the tree is, which `build` bounds.
fn speak(nodes: &[Node], words: &mut String) {
    for node in nodes {
        match node {
            Node::Text(text) => words.push_str(text),
            Node::Element(Tag::CodeBlock(language), _) => {
                words.push_str(" Code block");
                if !language.is_empty() {
                    words.push_str(": ");
                    words.push_str(language);
                }
                words.push_str(". ");
            }
            Node::Element(tag, children) => {
                speak(children, words);
                if !tag.is_inline() {
                    words.push(' ');
                }
            }
        }
    }
}

impl Tag {
    /// Whether it stands within a line.
    pub const fn is_inline(&self) -> bool {
        match self {
            Self::Code
            | Self::Emphasis
            | Self::Strong
            | Self::Strikethrough
            | Self::Link(_)
            | Self::Image => true,
            Self::Paragraph
            | Self::Heading(_)
            | Self::Quote
            | Self::Bullets
            | Self::Numbers(_)
            | Self::Item
            | Self::CodeBlock(_)
            | Self::Table
            | Self::Row
            | Self::HeadCell(_)
            | Self::Cell(_)
            | Self::Rule
            | Self::Break => false,
        }
    }
}
