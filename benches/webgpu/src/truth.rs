//! The truth that engines are compared with: rows of logits as `rig logits` writes them, read one at a time.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::compare::{Agreement, Comparison};
use crate::engine::Engine;
use crate::file::PIECE_BYTES;

/// Rows of logits in a file.
#[derive(Debug)]
pub(crate) struct Rows<R> {
    source: R,
    bytes: Vec<u8>,
    row: Vec<f32>,
}

impl Rows<BufReader<File>> {
    /// Rows of this length.
    pub(crate) fn open(path: &Path, width: usize) -> Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let source = BufReader::with_capacity(PIECE_BYTES, file);
        Ok(Self::new(source, width))
    }
}

impl<R: Read> Rows<R> {
    /// Rows of this length.
    pub(crate) fn new(source: R, width: usize) -> Self {
        Self {
            source,
            bytes: vec![0; width * size_of::<f32>()],
            row: vec![0.0; width],
        }
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> Result<&[f32]> {
        self.source
            .read_exact(&mut self.bytes)
            .context("there are too few rows")?;
        let (words, _) = self.bytes.as_chunks();
        for (logit, word) in self.row.iter_mut().zip(words) {
            *logit = f32::from_le_bytes(*word);
        }
        Ok(&self.row)
    }

    /// Refuses what has more of them.
    pub(crate) fn end(&mut self) -> Result<()> {
        let left = self.source.read(&mut self.bytes)?;
        anyhow::ensure!(left == 0, "there are more rows than tokens");
        Ok(())
    }
}

/// Compares an engine with the truth about these tokens.
pub(crate) fn compare(
    engine: &mut dyn Engine,
    tokens: &[u32],
    truth: &mut Rows<impl Read>,
) -> Result<Agreement> {
    let mut comparison = Comparison::default();
    engine.logits(tokens, &mut |row| comparison.add(truth.next()?, row))?;
    let agreement = comparison.agreement();
    anyhow::ensure!(
        usize::try_from(agreement.positions)? == tokens.len(),
        "the engine gave {} rows for {} tokens",
        agreement.positions,
        tokens.len()
    );
    Ok(agreement)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Recorded, Visit};

    /// Gives each token's row as it was told.
    struct Told(Vec<Vec<f32>>);

    impl Engine for Told {
        fn adapter(&self) -> String {
            "none".to_owned()
        }

        fn logits(&mut self, _: &[u32], visit: &mut Visit<'_>) -> Result<()> {
            self.0.iter().try_for_each(|row| visit(row))
        }
    }

    fn bytes(rows: &[Vec<f32>]) -> Vec<u8> {
        let logits = rows.iter().flatten();
        logits.flat_map(|logit| logit.to_le_bytes()).collect()
    }

    #[test]
    fn each_row_is_compared_with_that_of_its_own_position() {
        let rows = vec![vec![0.0, 4.0, 1.0], vec![5.0, -1.0, 2.0]];
        let written = bytes(&rows);
        let compared = |rows: Vec<Vec<f32>>| {
            let mut truth = Rows::new(&written[..], 3);
            compare(&mut Told(rows), &[7, 8], &mut truth)
        };
        let same = compared(rows.clone()).unwrap();
        assert_eq!((same.top1, same.positions), (1.0, 2));
        let swapped = compared(rows.iter().rev().cloned().collect()).unwrap();
        assert!(swapped.top1 < 0.1);
        assert!(compared(rows[..1].to_vec()).is_err());
        assert!(compared([&rows[..], &rows[..1]].concat()).is_err());
    }

    #[test]
    fn rows_of_a_file_are_as_many_as_tokens() {
        let rows = vec![vec![0.0, 4.0], vec![5.0, -1.0]];
        let written = bytes(&rows);
        let compared = |tokens: &[u32], found: &[u8]| {
            let mut found = Recorded(Rows::new(found, 2));
            compare(&mut found, tokens, &mut Rows::new(&written[..], 2))
        };
        assert_eq!(compared(&[1, 2], &written).unwrap().positions, 2);
        assert!(compared(&[1], &written).is_err());
        assert!(compared(&[1, 2], &written[..15]).is_err());
    }
}
