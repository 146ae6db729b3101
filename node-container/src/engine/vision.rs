//! Pictures in prompts: a picture becomes embeddings that stand among the prompt's tokens.
//!
//! ```text
//! reader ─▶ Projector::tokens    size → how many tokens the picture takes, before anything is unpacked
//!        ─▶ Projector::prepare   pixels → pieces of the projector's size
//! eye    ─▶ Projector::encode    pieces → embeddings: the expensive part, on a thread of its own
//! engine ─▶ View::decode         embeddings → cache, between decode steps
//! ```
//! Where a token of text has its id, a token of a picture has one that no vocabulary has, made from the picture's hash:
//! two prompts have the same ids exactly where they show the same.

mod eye;
mod raw;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use sha2::{Digest as _, Sha256};

use super::image::Picture;
use raw::{Chunk, ImageChunk, Mtmd};

pub use eye::Eye;
pub(crate) use eye::KEPT_BYTES_MAX;
pub use raw::DecodeFault;

/// Why pictures cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum VisionError {
    /// `mtmd` refused the file.
    #[error(
        "llama.cpp could not load the projector {0}: it is no projector, or one for another model (RUST_LOG=debug tells what llama.cpp says)"
    )]
    Unusable(PathBuf),
    /// A projector for sounds.
    #[error("the projector {0} is not for pictures")]
    Blind(PathBuf),
    /// A picture must be decoded at once, but the batch is too small for it.
    #[error(
        "the projector {path} makes {tokens} tokens of a picture, which must be decoded at once, but a batch holds {batch}"
    )]
    TooManyTokens {
        /// Which file.
        path: PathBuf,
        /// Of one picture.
        tokens: usize,
        /// Of one batch.
        batch: usize,
    },
}

/// Side of the picture with which a projector is tried, in pixels.
const TRIAL_SIDE: u32 = 64;

/// A projector of one model.
#[derive(Debug)]
pub struct Projector<'m> {
    mtmd: Mtmd,
    /// It is for this model, and must not outlive it.
    model: &'m LlamaModel,
    /// Tokens that are decoded at once at most.
    batch_tokens: usize,
}

/// A picture in the terms of a model.
#[derive(Debug)]
pub struct Sight {
    parts: Vec<Part>,
}

/// A part of a [`Sight`].
#[derive(Debug)]
enum Part {
    /// The model wants these around pictures.
    Tokens(Vec<LlamaToken>),
    /// What is to be encoded, and what stands for it in the prompt.
    Image(Vec<LlamaToken>, Piece),
}

/// What is to be encoded, once.
#[derive(Debug)]
struct Piece {
    chunk: ImageChunk,
    /// Names what is seen: the picture's hash and the number of the piece.
    name: [u8; 32],
}

impl<'m> Projector<'m> {
    /// Loads a projector file. Of a picture that must be decoded at once, `batch_tokens` is the most that fits.
    pub fn load(
        path: &Path,
        model: &'m LlamaModel,
        threads: u32,
        batch_tokens: usize,
    ) -> Result<Self, VisionError> {
        let mtmd = Mtmd::load(path, model, threads)
            .ok_or_else(|| VisionError::Unusable(path.to_owned()))?;
        if !mtmd.sees() {
            return Err(VisionError::Blind(path.to_owned()));
        }
        let projector = Self {
            mtmd,
            model,
            batch_tokens,
        };
        let grey = Picture {
            width: TRIAL_SIDE,
            height: TRIAL_SIDE,
            rgb: [127; 3 * (TRIAL_SIDE * TRIAL_SIDE) as usize].to_vec(),
            hash: [0; 32],
        };
        match projector.chunks(&grey) {
            Err(PrepareError::TooManyTokens { tokens }) => Err(VisionError::TooManyTokens {
                path: path.to_owned(),
                tokens,
                batch: batch_tokens,
            }),
            Err(PrepareError::Refused) => Err(VisionError::Unusable(path.to_owned())),
            Ok(_) => Ok(projector),
        }
    }

    fn chunks(&self, picture: &Picture) -> Result<Vec<Chunk>, PrepareError> {
        let chunks = self
            .mtmd
            .prepare(picture.width, picture.height, &picture.rgb)
            .ok_or(PrepareError::Refused)?;
        self.check(&chunks)?;
        Ok(chunks)
    }

    /// Whether all of them can be decoded here.
    fn check(&self, chunks: &[Chunk]) -> Result<(), PrepareError> {
        for chunk in chunks {
            if let Chunk::Image(image) = chunk
                && self.mtmd.is_non_causal(image)
                && image.tokens() > self.batch_tokens
            {
                return Err(PrepareError::TooManyTokens {
                    tokens: image.tokens(),
                });
            }
        }
        Ok(())
    }

    /// How many tokens a picture of this size takes, with those that the model wants around it; `None` where only its
    /// pixels would tell.
    pub fn tokens(&self, width: u32, height: u32) -> Result<Option<usize>, PrepareError> {
        let Some(chunks) = self.mtmd.measure(width, height) else {
            return Ok(None);
        };
        self.check(&chunks)?;
        let tokens = chunks.iter().map(|chunk| match chunk {
            Chunk::Tokens(tokens) => tokens.len(),
            Chunk::Image(image) => image.tokens(),
        });
        Ok(Some(tokens.sum()))
    }

    /// Brings a picture to the model's size, and tells how many tokens it takes.
    pub fn prepare(&self, picture: &Picture) -> Result<Sight, PrepareError> {
        let chunks = self.chunks(picture)?;
        let parts = (0u32..).zip(chunks).map(|(number, chunk)| match chunk {
            Chunk::Tokens(tokens) => Part::Tokens(tokens),
            Chunk::Image(chunk) => {
                let name = named(&picture.hash, number);
                let ids = (0u32..).take(chunk.tokens());
                let ids = ids.map(|index| self.id(&name, index)).collect();
                Part::Image(ids, Piece { chunk, name })
            }
        });
        Ok(Sight {
            parts: parts.collect(),
        })
    }

    /// An id beyond the vocabulary. Two that are the same by chance do no harm alone: a picture has many.
    fn id(&self, name: &[u8; 32], index: u32) -> LlamaToken {
        let vocabulary = self.model.n_vocab();
        let [first, second, third, fourth, ..] = named(name, index);
        let number = u32::from_be_bytes([first, second, third, fourth]);
        let room = i32::MAX.abs_diff(vocabulary);
        let beyond = number.checked_rem(room).unwrap_or(0);
        LlamaToken::new(vocabulary.saturating_add_unsigned(beyond))
    }

    /// Looks at a piece of a picture. Takes long.
    fn encode(&self, piece: &Piece) -> Option<Vec<f32>> {
        self.mtmd.encode(&piece.chunk)
    }
}

fn named(name: &[u8; 32], number: u32) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(name);
    hash.update(number.to_be_bytes());
    hash.finalize().into()
}

/// Why a picture cannot be shown to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// `mtmd` would not have it.
    #[error("the model cannot take a picture of this size; scale it to about 1000 pixels a side")]
    Refused,
    /// It must be decoded at once.
    #[error("it takes {tokens} tokens at once, more than this node can decode; scale it down")]
    TooManyTokens {
        /// How many.
        tokens: usize,
    },
}

/// The pictures of one prompt.
#[derive(Debug, Default)]
pub struct View {
    pieces: Vec<Shown>,
}

/// A piece in its place.
#[derive(Debug)]
struct Shown {
    piece: Piece,
    /// Index of its first token in the prompt.
    start: usize,
    tokens: usize,
    /// Places in the sequence that all before it take up, less their tokens.
    saved: usize,
    /// Once it was looked at.
    embeddings: Option<Arc<[f32]>>,
}

impl Shown {
    const fn end(&self) -> usize {
        self.start + self.tokens
    }

    fn saved_after(&self) -> usize {
        self.saved + self.tokens.saturating_sub(self.piece.chunk.places())
    }
}

impl View {
    /// Adds a picture at the end of a prompt.
    pub fn push(&mut self, sight: Sight, prompt: &mut Vec<LlamaToken>) {
        for part in sight.parts {
            match part {
                Part::Tokens(tokens) => prompt.extend(tokens),
                Part::Image(ids, piece) => {
                    self.pieces.push(Shown {
                        start: prompt.len(),
                        tokens: ids.len(),
                        saved: self.pieces.last().map_or(0, Shown::saved_after),
                        piece,
                        embeddings: None,
                    });
                    prompt.extend(ids);
                }
            }
        }
    }

    /// The embeddings of each piece that was looked at.
    pub fn embeddings(&self) -> impl Iterator<Item = &[f32]> {
        self.pieces
            .iter()
            .filter_map(|shown| shown.embeddings.as_deref())
    }

    /// Whether there is nothing to see.
    pub const fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether the prompt ends with a picture, so that nothing could be drawn after it.
    pub fn is_last(&self, prompt_tokens: usize) -> bool {
        self.pieces
            .last()
            .is_some_and(|shown| shown.end() >= prompt_tokens)
    }

    /// The place in the sequence of the token with this index.
    pub fn place(&self, index: usize) -> usize {
        let before = self.pieces.iter().rev().find(|shown| shown.end() <= index);
        index - before.map_or(0, Shown::saved_after)
    }

    /// Whether places tell how many tokens come before; they do not where they have two dimensions.
    pub fn is_in_line(&self, prompt_tokens: usize) -> bool {
        self.place(prompt_tokens) == prompt_tokens
    }

    /// How many tokens of text come from this index on before the next picture; none where it is within one.
    pub fn text_after(&self, index: usize) -> usize {
        let next = self.pieces.iter().find(|shown| shown.end() > index);
        next.map_or(usize::MAX, |shown| shown.start.saturating_sub(index))
    }

    /// Whether a cut before the token with this index would go through a picture.
    pub fn is_within(&self, index: usize) -> bool {
        self.within(index).is_some_and(|shown| shown.start < index)
    }

    /// The first `covered` tokens of the prompt are in the cache, as `tokens` tokens. No picture is cut by that.
    /// Whether there were pictures among them, which are dropped.
    pub fn begin_after(&mut self, covered: usize, tokens: usize) -> bool {
        let before = self.pieces.len();
        self.pieces.retain(|shown| shown.start >= covered);
        let is_less = self.pieces.len() < before;
        for shown in &mut self.pieces {
            shown.start = shown.start - covered + tokens;
        }
        is_less
    }

    fn within(&self, index: usize) -> Option<&Shown> {
        self.pieces
            .iter()
            .find(|shown| (shown.start..shown.end()).contains(&index))
    }

    /// What of the picture at `index` is decoded next; `None` where there is none.
    pub fn next_piece(&self, projector: &Projector<'_>, index: usize) -> Option<NextPiece> {
        let shown = self.within(index)?;
        let left = shown.end() - index;
        Some(if is_whole(&projector.mtmd, shown) {
            NextPiece::Whole(left)
        } else {
            NextPiece::UpTo(left.min(projector.batch_tokens.max(1)))
        })
    }

    /// Puts so many tokens of the picture at `index` into the cache.
    pub fn decode(
        &self,
        projector: &Projector<'_>,
        context: &mut LlamaContext<'_>,
        index: usize,
        tokens: usize,
        sequence: i32,
    ) -> Result<(), DecodeFault> {
        let mtmd = &projector.mtmd;
        let found = self.within(index).and_then(|shown| {
            let place = i32::try_from(self.place(index)).ok()?;
            Some((shown, shown.embeddings.as_deref()?, place))
        });
        let (shown, embeddings, place) = found.ok_or(DecodeFault::Refused)?;
        let first = index - shown.start;
        if is_whole(mtmd, shown) {
            let is_all = first == 0 && tokens == shown.tokens;
            let chunk = &shown.piece.chunk;
            return if is_all {
                mtmd.decode_whole(context, chunk, embeddings, place, sequence)
            } else {
                Err(DecodeFault::Refused)
            };
        }
        let range = first * mtmd.width()..(first + tokens) * mtmd.width();
        let some = embeddings.get(range).ok_or(DecodeFault::Refused)?;
        mtmd.decode_some(context, some, place, sequence)
    }
}

/// What of a picture may be decoded at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextPiece {
    /// As many tokens as is convenient, up to so many.
    UpTo(usize),
    /// Just so many.
    Whole(usize),
}

/// Whether a piece is decoded all at once. Where its tokens look at each other in both directions, llama.cpp can compute
/// it in no other way. Where places have two dimensions, `mtmd`'s own function decodes, and takes whole pieces only.
fn is_whole(mtmd: &Mtmd, shown: &Shown) -> bool {
    mtmd.has_places_in_two_dimensions() || mtmd.is_non_causal(&shown.piece.chunk)
}
