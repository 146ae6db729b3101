//! How long to wait before the next try: clients that lost the same relay must not return at the same moment.

use crate::Millis;

/// The first pause: a restarted relay is back at once, and a person hardly notices.
const FIRST_MS: std::ops::Range<Millis> = 100..400;
/// No pause is longer: somebody looks at the page and waits.
const MS_MAX: Millis = 5_000;

/// A pause that grows while tries fail.
#[derive(Debug)]
pub(crate) struct Pause {
    seed: u64,
    ms_last: Option<Millis>,
}

impl Pause {
    /// Other seeds make other pauses.
    pub(crate) const fn new(seed: u64) -> Self {
        Self {
            seed,
            ms_last: None,
        }
    }

    /// The next pause: somewhere between the least and three times the last one.
    pub(crate) fn next(&mut self) -> Millis {
        let most = self
            .ms_last
            .map_or(FIRST_MS.end, |last| last.saturating_mul(3))
            .clamp(FIRST_MS.end, MS_MAX);
        let ms = FIRST_MS.start + self.draw() % (most - FIRST_MS.start);
        // What grows is the range: a draw that happens to be short must not begin everything anew.
        self.ms_last = Some(ms.max(most / 2));
        ms
    }

    /// The connection was a good one.
    pub(crate) const fn reset(&mut self) {
        self.ms_last = None;
    }

    /// `SplitMix64`: enough to tell pages apart.
    const fn draw(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
