//! What a step tells about the token that it chose.

/// Records of the ring: so many tokens may be drawn before the first of them is read back.
pub const RECORDS: u32 = 16;

/// The most alternatives that a step tells: as many as a request may ask for.
pub const ALTERNATIVES_MAX: u32 = 20;

/// Words of a record before its alternatives: token, its logit, the logarithm of the sum, the count of alternatives.
pub(super) const HEAD_WORDS: u32 = 4;

/// Words of a record. All numbers are little endian, as WebGPU has them.
pub const RECORD_WORDS: u32 = HEAD_WORDS + 2 * ALTERNATIVES_MAX;

/// The token where none may be drawn; in place of the count, that log-probabilities were not asked for.
pub(super) const NONE: u32 = u32::MAX;

/// The token that was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The token, or none where nothing may be drawn.
    pub token: Option<u32>,
    /// Its raw logit, before any rule.
    pub logit: f32,
    /// With [`crate::kernels::Flags::LOG_PROBABILITIES`], what they are made of.
    pub told: Option<Told>,
}

/// What log-probabilities are made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// `ln Σ e^xᵢ` of the raw logits: a token's log-probability is its raw logit less this.
    pub log_sum: f32,
    /// The likeliest tokens by their raw logits, of equals the lower id first, each with its raw logit. As many as the
    /// step says, at most [`ALTERNATIVES_MAX`].
    pub alternatives: Vec<(u32, f32)>,
}

impl Record {
    /// Reads a record from the start of the bytes; none where they are too short or no record.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut words = bytes.as_chunks::<4>().0.iter().copied();
        let mut word = || words.next().map(u32::from_le_bytes);
        let token = Some(word()?).filter(|token| *token != NONE);
        let logit = f32::from_bits(word()?);
        let log_sum = f32::from_bits(word()?);
        let count = word()?;
        if count == NONE {
            let told = None;
            return Some(Self { token, logit, told });
        }
        if count > ALTERNATIVES_MAX {
            return None;
        }
        let mut pair = || Some((word()?, f32::from_bits(word()?)));
        let alternatives = (0..count).map(|_| pair()).collect::<Option<_>>()?;
        let told = Some(Told {
            log_sum,
            alternatives,
        });
        Some(Self { token, logit, told })
    }
}
