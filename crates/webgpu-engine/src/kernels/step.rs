//! What changes from step to step.

/// Bytes of the parameters on the device.
pub const STEP_BYTES: u64 = 64;

/// The parameters of a step. Written once for each, before it is submitted.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Step {
    /// Tokens whose keys and values were kept before this step: the position of its first token.
    pub position: u32,
    /// Tokens of this step.
    pub tokens: u32,
    /// The first of them whose logits are made.
    pub output_first: u32,
    /// For how many logits are made.
    pub output_tokens: u32,
    /// Of the draws, the lower and the upper half.
    pub seed: u64,
    /// How many tokens of the answer were drawn before this one.
    pub draw: u32,
    /// What sampling has to do.
    pub flags: Flags,
    /// Logits are divided by it; 0 is greedy.
    pub temperature: f32,
    /// The likeliest tokens that sum up to this; 1 is all.
    pub top_p: f32,
    /// At least this share of the likeliest token's probability; 0 is all.
    pub min_p: f32,
    /// So many of the likeliest tokens; 0 is all.
    pub top_k: u32,
    /// Subtracted once per time that a token was drawn.
    pub frequency_penalty: f32,
    /// Subtracted from the logit of a token that was drawn at all.
    pub presence_penalty: f32,
    /// How many of the likeliest tokens are told with their logits.
    pub alternatives: u32,
}

/// What sampling has to do beyond the likeliest token. Bits, as kernels read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u32);

impl Flags {
    /// Tokens have biases.
    pub const BIASES: Self = Self(1);
    /// Only tokens of the mask may be drawn.
    pub const MASK: Self = Self(2);
    /// Tokens that were drawn have penalties.
    pub const PENALTIES: Self = Self(4);
    /// The log-probability of the token is told, and as many alternatives as the step says.
    pub const LOG_PROBABILITIES: Self = Self(8);

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Step {
    /// The structure in WGSL. Kernels declare `@group(0) @binding(N) var<uniform> step: Step;`.
    pub const WGSL: &'static str = "struct Step {
    position: u32,
    tokens: u32,
    output_first: u32,
    output_tokens: u32,
    seed_low: u32,
    seed_high: u32,
    draw: u32,
    flags: u32,
    temperature: f32,
    top_p: f32,
    min_p: f32,
    top_k: u32,
    frequency_penalty: f32,
    presence_penalty: f32,
    alternatives: u32,
    unused: u32,
}
";

    /// As the device reads it.
    pub fn to_bytes(self) -> Vec<u8> {
        let [low, high] = [self.seed, self.seed >> 32].map(|half| half & u64::from(u32::MAX));
        let half = |half: u64| u32::try_from(half).unwrap_or(u32::MAX);
        let words = [
            self.position,
            self.tokens,
            self.output_first,
            self.output_tokens,
            half(low),
            half(high),
            self.draw,
            self.flags.0,
            self.temperature.to_bits(),
            self.top_p.to_bits(),
            self.min_p.to_bits(),
            self.top_k,
            self.frequency_penalty.to_bits(),
            self.presence_penalty.to_bits(),
            self.alternatives,
            0,
        ];
        words.into_iter().flat_map(u32::to_le_bytes).collect()
    }
}
