//! The texts of the stages, put together of parts. The parts lie in `*.wgsl` files beside this one; here are their
//! constants and bindings.

use ::sampling::GREEDY_BELOW;

use super::record::{ALTERNATIVES_MAX, HEAD_WORDS, NONE, RECORD_WORDS, RECORDS};
use super::{Sampling, SamplingBuffer, SamplingMethod, SamplingStage};
use crate::gpu::{Access, Source};
use crate::kernels::{Flags, Step};

/// The most workgroups of a stage. What each has found is read by every thread of the next stage.
const GROUPS_MAX: u32 = 64;

/// Bins of the first search: with three words each they fit into what workgroups share by default.
const BINS: u32 = 1024;

/// Values of a digit of the second search.
const DIGIT_VALUES: u32 = 256;

const ORDER: &str = include_str!("order.wgsl");
const SUMS: &str = include_str!("sums.wgsl");
const CORRECT: &str = include_str!("correct.wgsl");
const RULES: &str = include_str!("rules.wgsl");
const TALLY: &str = include_str!("tally.wgsl");
const WEIGH: &str = include_str!("weigh.wgsl");
const FIND: &str = include_str!("find.wgsl");
const NEED: &str = include_str!("need.wgsl");
const LOGARITHM: &str = include_str!("logarithm.wgsl");
const RANDOMNESS: &str = include_str!("randomness.wgsl");
const RACE: &str = include_str!("race.wgsl");
const CHOOSE_LIKELIEST: &str = include_str!("choose_likeliest.wgsl");
const CHOOSE_WINNER: &str = include_str!("choose_winner.wgsl");
const CHOOSE: &str = include_str!("choose.wgsl");

/// Words of the scratch buffer; see [`Shape::scratch`], whose length is a multiple of its widest member's.
pub(super) fn scratch_words(vocabulary: u32) -> u64 {
    let head = u64::from(8 + 4 * 2 * GROUPS_MAX + 3 * BINS);
    (head + 2 * u64::from(vocabulary)).next_multiple_of(4)
}

/// How the work is cut.
pub(super) struct Shape {
    vocabulary: u32,
    threads: u32,
    groups: u32,
    /// Tokens of a workgroup.
    chunk: u32,
}

/// Which words of the scratch buffer a stage writes to from several workgroups at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shared {
    Nothing,
    Bins,
    List,
}

impl Shape {
    /// Small: small workgroups, and only as many of them as keep all cores of a machine busy.
    pub(super) fn new(sampling: Sampling, is_small: bool) -> Self {
        let (threads, groups_max) = if is_small {
            (64, 16)
        } else {
            (256, GROUPS_MAX)
        };
        let vocabulary = sampling.vocabulary.max(1);
        let chunk = vocabulary.div_ceil(groups_max).next_multiple_of(threads);
        Self {
            vocabulary,
            threads,
            groups: vocabulary.div_ceil(chunk),
            chunk,
        }
    }

    pub(super) fn stages(&self, method: SamplingMethod) -> Vec<SamplingStage> {
        match method {
            SamplingMethod::Greedy => vec![self.correct(method), self.choose(method)],
            SamplingMethod::Draw => vec![
                self.correct(method),
                self.weigh(),
                self.race(),
                self.choose(method),
            ],
        }
    }

    fn correct(&self, method: SamplingMethod) -> SamplingStage {
        let draws = match method {
            SamplingMethod::Greedy => "const DRAWS = false;\n",
            SamplingMethod::Draw => "const DRAWS = true;\n",
        };
        let buffers = [
            (SamplingBuffer::Logits, Access::Read),
            (SamplingBuffer::Counts, Access::Read),
            (SamplingBuffer::Biases, Access::Read),
            (SamplingBuffer::Mask, Access::Read),
            (SamplingBuffer::Scratch, Access::Write),
        ];
        let parts = [draws, ORDER, SUMS, CORRECT];
        self.stage("correct", &buffers, Shared::Nothing, &parts, self.groups)
    }

    fn weigh(&self) -> SamplingStage {
        let bins = format!("const TALLY_BINS = {BINS}u;\n");
        let buffers = [(SamplingBuffer::Scratch, Access::Write)];
        let parts = [&bins, ORDER, RULES, TALLY, WEIGH];
        self.stage("weigh", &buffers, Shared::Bins, &parts, self.groups)
    }

    fn race(&self) -> SamplingStage {
        let bins = format!("const FIND_BINS = {BINS}u;\n");
        let buffers = [(SamplingBuffer::Scratch, Access::Write)];
        let parts = [&bins, ORDER, RULES, FIND, NEED, LOGARITHM, RANDOMNESS, RACE];
        self.stage("race", &buffers, Shared::List, &parts, self.groups)
    }

    fn choose(&self, method: SamplingMethod) -> SamplingStage {
        let bins =
            format!("const TALLY_BINS = {DIGIT_VALUES}u;\nconst FIND_BINS = {DIGIT_VALUES}u;\n");
        let buffers = [
            (SamplingBuffer::Logits, Access::Read),
            (SamplingBuffer::Counts, Access::Write),
            (SamplingBuffer::Ids, Access::Write),
            (SamplingBuffer::Results, Access::Write),
            (SamplingBuffer::Scratch, Access::Read),
        ];
        let own: &[&str] = match method {
            SamplingMethod::Greedy => &[CHOOSE_LIKELIEST],
            SamplingMethod::Draw => &[&bins, RULES, TALLY, FIND, NEED, RANDOMNESS, CHOOSE_WINNER],
        };
        let parts = [&[ORDER, SUMS, LOGARITHM], own, &[CHOOSE]].concat();
        self.stage("choose", &buffers, Shared::Nothing, &parts, 1)
    }

    fn stage(
        &self,
        label: &str,
        buffers: &[(SamplingBuffer, Access)],
        shared: Shared,
        parts: &[&str],
        groups: u32,
    ) -> SamplingStage {
        let mut wgsl = format!("{}{}{}", Step::WGSL, self.constants(), self.scratch(shared));
        for (binding, (buffer, access)) in buffers.iter().enumerate() {
            wgsl.push_str(&declaration(binding, *buffer, *access));
        }
        let last = buffers.len();
        let parameters = format!("@group(0) @binding({last}) var<uniform> step: Step;\n");
        wgsl.push_str(&parameters);
        wgsl.extend(parts.iter().copied());
        SamplingStage {
            source: Source {
                label: format!("sampling: {label}"),
                wgsl,
                storage: buffers.iter().map(|(_, access)| *access).collect(),
            },
            groups: [groups, 1, 1],
            buffers: buffers.iter().map(|(buffer, _)| *buffer).collect(),
        }
    }

    fn constants(&self) -> String {
        let Self {
            vocabulary,
            threads,
            groups,
            chunk,
        } = self;
        let fan = threads.isqrt();
        let [biases, mask, penalties, log_probabilities] = [
            Flags::BIASES,
            Flags::MASK,
            Flags::PENALTIES,
            Flags::LOG_PROBABILITIES,
        ]
        .map(|flags| flags.0);
        format!(
            "const VOCABULARY = {vocabulary}u;
const THREADS = {threads}u;
// Its square is THREADS.
const FAN = {fan}u;
const GROUPS = {groups}u;
const CHUNK = {chunk}u;
const BINS = {BINS}u;
const BIASES = {biases}u;
const MASK = {mask}u;
const PENALTIES = {penalties}u;
const LOG_PROBABILITIES = {log_probabilities}u;
const GREEDY_BELOW = {GREEDY_BELOW:e};
const RECORDS = {RECORDS}u;
const HEAD_WORDS = {HEAD_WORDS}u;
const RECORD_WORDS = {RECORD_WORDS}u;
const ALTERNATIVES_MAX = {ALTERNATIVES_MAX}u;
const NO_TOKEN = {NONE}u;
const MINUS_INFINITY = 0xff800000u;
"
        )
    }

    /// What the stages tell each other. Only what several workgroups write to is atomic, since a stage that merely reads
    /// could not declare so.
    fn scratch(&self, shared: Shared) -> String {
        let word = |is_shared: bool| if is_shared { "atomic<u32>" } else { "u32" };
        let bin = word(shared == Shared::Bins);
        let listed = word(shared == Shared::List);
        let vocabulary = self.vocabulary;
        format!(
            "struct Scratch {{
    // Count and mass of what lies before the list.
    before_list: vec4<u32>,
    // Of all tokens.
    mass: vec2<u32>,
    listed: {listed},
    is_cut_by_count: u32,
    // Of each workgroup, pairs of a key and an id.
    best: array<vec2<u32>, {GROUPS_MAX}>,
    raw_best: array<vec2<u32>, {GROUPS_MAX}>,
    winners: array<vec2<u32>, {GROUPS_MAX}>,
    sums: array<vec2<f32>, {GROUPS_MAX}>,
    // All counts, then the lower words of all masses, then the upper ones.
    bins: array<{bin}, {}>,
    list: array<u32, {vocabulary}>,
    keys: array<u32, {vocabulary}>,
}}
",
            3 * BINS
        )
    }
}

fn declaration(binding: usize, buffer: SamplingBuffer, access: Access) -> String {
    let (name, kind) = match buffer {
        SamplingBuffer::Logits => ("logits", "array<f32>"),
        SamplingBuffer::Counts => ("counts", "array<u32>"),
        SamplingBuffer::Biases => ("biases", "array<f32>"),
        SamplingBuffer::Mask => ("mask", "array<u32>"),
        SamplingBuffer::Ids => ("ids", "array<u32>"),
        SamplingBuffer::Results => ("results", "array<u32>"),
        SamplingBuffer::Scratch => ("scratch", "Scratch"),
    };
    let access = match access {
        Access::Read => "read",
        Access::Write => "read_write",
    };
    format!("@group(0) @binding({binding}) var<storage, {access}> {name}: {kind};\n")
}
