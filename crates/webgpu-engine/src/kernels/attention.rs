//! Attention of the step's tokens to what is kept, split over the context: each split gives the maximum of its scores, the
//! sum of their exponentials and the values weighted with those; `merge` joins the splits of a head.

use super::total::bindings;
use crate::gpu::{Access, Source};
use crate::model::CacheType;

/// A layer's attention.
///
/// Bindings of `source`: queries, keys and values of each token (read), kept keys, kept values, partials (written), the
/// step. Of `merge_source`: partials, outputs (`heads · head_size` of each token), the step.
#[derive(Debug, Clone, PartialEq)]
pub struct Attend {
    /// What it is called in messages.
    pub label: String,
    /// Heads of queries.
    pub heads: u32,
    /// Heads of keys, and of values; each serves as many heads of queries.
    pub kv_heads: u32,
    /// Numbers of a head, a multiple of 4 up to 256.
    pub head_size: u32,
    /// What products of query and key are multiplied with.
    pub scale: f32,
    /// Bounds them.
    pub soft_cap: Option<f32>,
    /// How many tokens are seen, the one that attends among them; all before it where there is none.
    pub window: Option<u32>,
    /// Tokens that the layer keeps.
    pub kept_tokens: u32,
    /// How they are kept.
    pub cache: CacheType,
    /// Tokens that one split sees.
    pub split_tokens: u32,
    /// Tokens of the steps that it is for, or a few more: those of a prompt can share what is read.
    pub batch_tokens: u32,
    /// Whether it is for an adapter that computes on the CPU.
    pub is_software: bool,
}

/// Queries that a workgroup serves at once: their sums must stay in registers.
const QUERIES_MAX: u32 = 8;

/// Numbers of them, which lie in the memory of a workgroup beside twice as many of other things: 16 KiB in all.
const QUERY_NUMBERS_MAX: u32 = 1024;

/// Up to so many quads of a head have a line each on software adapters.
const QUADS_UNROLLED: u32 = 16;

impl Attend {
    /// The text of the splits.
    pub fn source(&self) -> Source {
        let kept = match self.cache {
            CacheType::F16 => "vec2<u32>",
            CacheType::F32 => "vec4<f32>",
        };
        let (bindings, storage) = bindings(&[
            ("qkv", "vec4<f32>", Access::Read),
            ("keys", kept, Access::Read),
            ("values", kept, Access::Read),
            ("partials", "vec4<f32>", Access::Write),
        ]);
        let quads = self.head_size / 4;
        let body = if !self.is_software {
            let queries = self.heads_at_once() * self.tokens_at_once();
            repeated(include_str!("attention/parallel.wgsl"), queries)
        } else if quads <= QUADS_UNROLLED {
            repeated(include_str!("attention/unrolled.wgsl"), quads)
        } else {
            include_str!("attention/rolled.wgsl").to_owned()
        };
        let body = body.replace("SOFTWARE\n", include_str!("attention/software.wgsl"));
        let score = self
            .soft_cap
            .map_or_else(|| "product * SCALE".to_owned(), soft_cap);
        Source {
            label: self.label.clone(),
            wgsl: format!(
                "{bindings}{}{SPLITS}{SLOT}{}{}{}{body}",
                self.constants(),
                format_args!("fn score_of(product: f32) -> f32 {{ return {score}; }}\n"),
                reader(self.cache, "key", "keys"),
                reader(self.cache, "value", "values")
            ),
            storage,
        }
    }

    /// The same for a card.
    fn for_card(&self) -> Self {
        Self {
            is_software: false,
            ..self.clone()
        }
    }

    fn constants(&self) -> String {
        let numbers = [
            ("HEADS", self.heads),
            ("KV_HEADS", self.kv_heads),
            ("SERVED", self.heads / self.kv_heads.max(1)),
            ("SHARED", self.heads_at_once()),
            ("TOKENS_AT_ONCE", self.tokens_at_once()),
            ("RANGES", self.ranges()),
            ("QUADS", self.head_size / 4),
            ("WINDOW", self.window.unwrap_or(u32::MAX)),
            ("KEPT_TOKENS", self.kept_tokens),
            ("SPLIT_TOKENS", self.split_tokens),
        ];
        let numbers = numbers.map(|(name, value)| format!("const {name}: u32 = {value}u;\n"));
        // Lower than any score, and its differences to scores are still numbers.
        let lowest = "const LOWEST: f32 = -1e37;\n";
        format!(
            "{}const SCALE: f32 = {:?};\n{lowest}",
            numbers.concat(),
            self.scale
        )
    }

    /// Its workgroups, for so many tokens from a position on: only as many splits as the longest range that is seen has.
    pub fn groups(&self, position: u32, tokens: u32) -> [u32; 3] {
        let splits = self.splits(position, tokens);
        let groups = if self.is_software && self.tokens_at_once() == 1 {
            splits.div_ceil(self.ranges())
        } else {
            splits
        };
        [
            self.heads / self.heads_at_once(),
            groups,
            tokens.div_ceil(self.tokens_at_once()),
        ]
    }

    /// Of threads without barriers, how many tokens a workgroup has, or splits of one token.
    fn ranges(&self) -> u32 {
        match self.tokens_at_once() {
            1 => (QUERIES_MAX / self.heads_at_once()).max(1),
            tokens => tokens,
        }
    }

    /// Heads of queries that a workgroup serves from one reading of keys and values: those of a head of keys, or an even
    /// share of them where their queries are too many for the memory of a workgroup.
    fn heads_at_once(&self) -> u32 {
        let served = self.heads / self.kv_heads.max(1);
        let fits = |heads: &u32| served.is_multiple_of(*heads) && self.fits(*heads);
        (1..=served.min(QUERIES_MAX)).rev().find(fits).unwrap_or(1)
    }

    /// Tokens that a workgroup serves, by as many heads of each.
    fn tokens_at_once(&self) -> u32 {
        let heads = self.heads_at_once();
        let fits = |tokens: &u32| self.fits(tokens * heads);
        let most = (QUERIES_MAX / heads).clamp(1, self.batch_tokens.max(1));
        (1..=most).rev().find(fits).unwrap_or(1)
    }

    const fn fits(&self, queries: u32) -> bool {
        queries * self.head_size <= QUERY_NUMBERS_MAX
    }

    /// Splits of a step.
    pub fn splits(&self, position: u32, tokens: u32) -> u32 {
        self.splits_max(position.saturating_add(tokens))
    }

    /// The most splits of a step that ends at this position.
    pub fn splits_max(&self, end: u32) -> u32 {
        let seen = self.window.map_or(end, |window| window.min(end));
        seen.div_ceil(self.split_tokens.max(1)).max(1)
    }

    /// Words of the partials of steps of up to so many tokens that end at this position or before.
    pub fn partial_words(&self, end: u32, tokens: u32) -> u64 {
        let heads = u64::from(self.heads) * u64::from(tokens);
        u64::from(self.splits_max(end)) * heads * u64::from(self.head_size + 4)
    }

    /// The text that joins splits.
    pub fn merge_source(&self) -> Source {
        let (bindings, storage) = bindings(&[
            ("partials", "vec4<f32>", Access::Read),
            ("outputs", "vec4<f32>", Access::Write),
        ]);
        Source {
            label: format!("{} merge", self.label),
            wgsl: format!(
                "{bindings}{}{SPLITS}{}",
                self.constants(),
                include_str!("attention/merge.wgsl")
            ),
            storage,
        }
    }

    /// Its workgroups.
    pub const fn merge_groups(&self, tokens: u32) -> [u32; 3] {
        let quads = self.heads * self.head_size / 4;
        [quads.div_ceil(64), tokens, 1]
    }
}

/// How many splits the step's longest range has, which is what partials are apart by.
const SPLITS: &str = "fn splits_of_step() -> u32 {
    let seen = min(WINDOW, step.position + step.tokens);
    return (seen - 1u) / SPLIT_TOKENS + 1u;
}
";

/// Where a position is kept.
const SLOT: &str = "fn slot_of(position: u32) -> u32 { return position % KEPT_TOKENS; }\n";

/// Four numbers of what is kept.
fn reader(cache: CacheType, name: &str, from: &str) -> String {
    match cache {
        CacheType::F32 => {
            format!("fn {name}(quad: u32) -> vec4<f32> {{ return {from}[quad]; }}\n")
        }
        CacheType::F16 => format!(
            "fn {name}(quad: u32) -> vec4<f32> {{
    let words = {from}[quad];
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}}
"
        ),
    }
}

/// `tanh` of large numbers is made of infinities by some compilers; beyond 15 it is 1 in 32 bits.
fn soft_cap(cap: f32) -> String {
    format!("{cap:?} * tanh(clamp(product * SCALE / {cap:?}, -15.0, 15.0))")
}

/// So many times each line with a number sign, which stands there for 0, 1, 2 and so on.
fn repeated(text: &str, times: u32) -> String {
    let lines = text.lines().map(|line| {
        if !line.contains('#') {
            return format!("{line}\n");
        }
        let lines = (0..times).map(|time| line.replace('#', &time.to_string()) + "\n");
        lines.collect()
    });
    lines.collect()
}

/// Kernels of all kinds and variants, to be compiled by tests.
pub(super) fn every() -> Vec<Source> {
    let plain = Attend {
        label: "attend".to_owned(),
        heads: 9,
        kv_heads: 3,
        head_size: 64,
        scale: 0.125,
        soft_cap: None,
        window: None,
        kept_tokens: 4096,
        cache: CacheType::F16,
        split_tokens: 128,
        batch_tokens: 1,
        is_software: true,
    };
    let prompt = Attend {
        batch_tokens: 64,
        ..plain.clone()
    };
    let gemma = Attend {
        heads: 4,
        kv_heads: 1,
        head_size: 256,
        soft_cap: Some(50.0),
        window: Some(512),
        kept_tokens: 640,
        cache: CacheType::F32,
        ..plain.clone()
    };
    // The text for a step of one token has nothing that the one for a prompt has not.
    vec![
        plain.source(),
        plain.merge_source(),
        prompt.source(),
        prompt.for_card().source(),
        gemma.source(),
        gemma.for_card().source(),
        gemma.merge_source(),
    ]
}

#[cfg(test)]
mod tests;
