//! Markdown that still arrives: only its last block is parsed again.
//!
//! A block is settled once a later line has begun another one; Markdown never reopens it. So each piece of text costs
//! the length of the last block, not of the answer.

use super::Node;
use super::build::{parse, parse_blocks};
use super::mend::mend;

/// An answer as it grows.
#[derive(Debug, Clone, Default)]
pub struct Document {
    open: String,
}

/// What changes on the page: everything after the blocks settled so far is `settled`, then `open`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// Blocks that will not change any more.
    pub settled: Vec<Node>,
    /// The block that still grows, as it looks now.
    pub open: Vec<Node>,
}

impl Document {
    /// An empty answer.
    pub const fn new() -> Self {
        Self {
            open: String::new(),
        }
    }

    /// Takes text in and says what to show.
    pub fn push(&mut self, text: &str) -> Update {
        self.open.push_str(text);
        let settled = if text.contains('\n') {
            self.settle()
        } else {
            Vec::new()
        };
        Update {
            settled,
            open: parse(&mend(&self.open)),
        }
    }

    /// The answer is over, and the document is empty again. A whole answer shows what was held back; one that broke
    /// off in mid-line stays mended.
    pub fn finish(&mut self, is_whole: bool) -> Update {
        let rest = std::mem::take(&mut self.open);
        let settled = if is_whole {
            parse(&rest)
        } else {
            parse(&mend(&rest))
        };
        Update {
            settled,
            open: Vec::new(),
        }
    }

    /// Only whole lines decide: half a line may yet continue the block before it (`2` before `2. two`).
    fn settle(&mut self) -> Vec<Node> {
        let Some(lines) = self.open.rfind('\n').and_then(|end| self.open.get(..=end)) else {
            return Vec::new();
        };
        let mut blocks = parse_blocks(lines);
        let Some((start, _)) = blocks.pop() else {
            return Vec::new();
        };
        self.open.drain(..start);
        blocks.into_iter().map(|(_, node)| node).collect()
    }
}
