//! A GGUF file on disk: its header, its tokens, its weights piece by piece.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use webgpu_engine::gguf::{Header, Parser, Progress};
use webgpu_engine::tokenizer::{Encoding, Tokenizer, Vocabulary};

/// Bytes that are read at once.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// A file and what it says about itself.
#[derive(Debug)]
pub(crate) struct GgufFile {
    file: File,
    /// What it says.
    pub(crate) header: Header,
    /// Where the header ends, in bytes; padding follows.
    pub(crate) header_bytes: u64,
}

impl GgufFile {
    /// Reads the header.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).with_context(|| path.display().to_string())?;
        let bytes = file.metadata()?.len();
        let mut parser = Parser::new(Some(bytes));
        let mut piece = vec![0; PIECE_BYTES];
        let mut before = 0;
        loop {
            let count = file.read(&mut piece)?;
            let Some(come) = piece.get(..count).filter(|come| !come.is_empty()) else {
                bail!("{}: it ends within its header", path.display());
            };
            match parser
                .push(come)
                .with_context(|| path.display().to_string())?
            {
                Progress::More => before += u64::try_from(count)?,
                Progress::Whole { taken, header } => {
                    return Ok(Self {
                        file,
                        header: *header,
                        header_bytes: before + u64::try_from(taken)?,
                    });
                }
            }
        }
    }

    /// Bytes of the file.
    pub(crate) fn read(&mut self, range: Range<u64>) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(range.end - range.start)?];
        self.file.seek(SeekFrom::Start(range.start))?;
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// The first tokens of a text, as the model reads it. Refuses a text that has fewer.
    pub(crate) fn tokens(&self, text: &str, count: usize) -> Result<Vec<u32>> {
        let vocabulary = Vocabulary::from_metadata(&self.header.metadata)?;
        let encoding = Encoding {
            add_special: true,
            parse_special: false,
        };
        let mut tokens = Tokenizer::new(&vocabulary)?.encode(text, encoding)?;
        if tokens.len() < count {
            bail!("the text has {} tokens, wanted are {count}", tokens.len());
        }
        tokens.truncate(count);
        Ok(tokens)
    }
}
