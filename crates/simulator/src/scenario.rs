//! What one seed stands for: who takes part, who asks what when, and what goes wrong when. All of it is drawn before the run
//! begins, so that a fault can be read from the seed alone.

mod faults;
mod people;

use protocol::{Capabilities, JobId, ModelOffer, NodeClass};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scheduler::{Config, ModelEntry, TierEntry};

use crate::engine::CONTEXT_TOKENS;
use crate::script::Shape;
use crate::{Millis, Mode};

pub(crate) use self::faults::{Break, Fault};

/// Models of the fake catalog; the tier has both.
pub(crate) const MODELS: [&str; 2] = ["model-a", "model-b"];
/// The tier over both.
pub(crate) const TIER: &str = "tier";

/// What sort of trouble a seed is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Theme {
    /// Nothing goes wrong: every job must be answered.
    Calm,
    /// More jobs than the nodes can do; nothing else goes wrong.
    Overload,
    /// Nodes die, stall, hang, break and drain.
    Nodes,
    /// Clients go, stall and read slowly.
    Clients,
    /// The relay dies and comes back.
    Relay,
    /// Connections break in every way.
    Network,
    /// Nodes and clients lie.
    Liars,
    /// All of it.
    Everything,
}

/// How a node lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Says other bytes than it should.
    Text,
    /// Skips bytes of its stream.
    Offsets,
    /// Sends frames twice.
    Duplicates,
    /// Says that its tokens are three times as many.
    Tokens,
    /// Sends entries under names of other nodes' attempts.
    ForeignText,
    /// Announces other nodes' attempts with their genuine tickets.
    StolenTickets,
    /// Announces with tickets that it made up.
    ForgedTickets,
    /// Announces its own attempts of long ago.
    StaleTickets,
    /// Says that an answer is whole where it is not.
    EarlyEnd,
    /// Takes no notice of the window.
    NoWindow,
    /// Never stops when told to.
    NeverStops,
}

const LIES: [Lie; 11] = [
    Lie::Text,
    Lie::Offsets,
    Lie::Duplicates,
    Lie::Tokens,
    Lie::ForeignText,
    Lie::StolenTickets,
    Lie::ForgedTickets,
    Lie::StaleTickets,
    Lie::EarlyEnd,
    Lie::NoWindow,
    Lie::NeverStops,
];

/// A clock that is not the world's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Skew {
    /// What it shows at the world's zero.
    pub(crate) offset_ms: Millis,
    /// Parts per million that it runs too fast, or too slow.
    pub(crate) drift_ppm: i64,
}

impl Skew {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        Self {
            offset_ms: rng.random_range(0..10_000_000),
            drift_ppm: rng.random_range(-20_000..=20_000),
        }
    }

    fn rate(self) -> u64 {
        u64::try_from(1_000_000 + self.drift_ppm).unwrap_or(1_000_000)
    }

    /// What it shows.
    pub(crate) fn local(self, world: Millis) -> Millis {
        self.offset_ms + world * self.rate() / 1_000_000
    }

    /// The first moment of the world at which it shows at least that.
    pub(crate) fn world(self, local: Millis) -> Millis {
        let elapsed = local.saturating_sub(self.offset_ms).min(1 << 40);
        (elapsed * 1_000_000).div_ceil(self.rate())
    }
}

/// A node.
#[derive(Debug, Clone)]
pub(crate) struct NodePlan {
    pub(crate) name: String,
    pub(crate) account: String,
    pub(crate) slots: u32,
    pub(crate) offers: Vec<ModelOffer>,
    /// Time of a decode step.
    pub(crate) step_ms: Millis,
    pub(crate) lie: Option<Lie>,
    pub(crate) skew: Skew,
    pub(crate) starts_at: Millis,
}

/// A client.
#[derive(Debug, Clone)]
pub(crate) struct ClientPlan {
    pub(crate) account: String,
    pub(crate) skew: Skew,
    /// Wants what is not its own, and never has a job of its own.
    pub(crate) is_intruder: bool,
}

/// A job.
#[derive(Debug, Clone)]
pub(crate) struct JobPlan {
    pub(crate) id: JobId,
    pub(crate) at: Millis,
    pub(crate) client: usize,
    pub(crate) model: &'static str,
    pub(crate) shape: Shape,
    /// Its user stops it so long after asking.
    pub(crate) cancelled_after: Option<Millis>,
    /// Needs a seed, penalties, or a grammar of its node.
    pub(crate) need: u8,
}

/// A seed's world.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) theme: Theme,
    pub(crate) mode: Mode,
    pub(crate) config: Config,
    /// All nodes can do all: what the relay says of itself is exact.
    pub(crate) is_uniform: bool,
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) clients: Vec<ClientPlan>,
    pub(crate) jobs: Vec<JobPlan>,
    pub(crate) faults: Vec<(Millis, Fault)>,
    /// Nobody asks and nothing goes wrong after this.
    pub(crate) trouble_ms: Millis,
    /// Every job has ended by then.
    pub(crate) end_ms: Millis,
    pub(crate) latency_ms: Millis,
    pub(crate) jitter_ms: Millis,
    /// What the relay's clock shows at the world's zero.
    pub(crate) wall_ms: Millis,
}

impl Scenario {
    /// Draws the world of a seed.
    pub(crate) fn draw(seed: u64, mode: Mode) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5CE7_A210);
        let theme = match rng.random_range(0..16) {
            0 => Theme::Calm,
            1 | 2 => Theme::Overload,
            3 | 4 => Theme::Nodes,
            5 | 6 => Theme::Clients,
            7 | 8 => Theme::Relay,
            9 | 10 => Theme::Network,
            11 | 12 => Theme::Liars,
            _ => Theme::Everything,
        };
        let stretch = match mode {
            Mode::Quick => 1,
            Mode::Default => 8,
        };
        let trouble_ms = rng.random_range(8_000..25_000) * stretch;
        let is_uniform = rng.random_ratio(2, 3);
        let nodes = people::nodes(theme, is_uniform, trouble_ms, stretch, &mut rng);
        let clients = people::clients(theme, &mut rng);
        let jobs = people::jobs(theme, &clients, trouble_ms, is_uniform, &mut rng);
        let faults = faults::draw(
            theme,
            (nodes.len(), clients.len()),
            trouble_ms,
            stretch,
            &mut rng,
        );
        let config = config(mode, theme, &mut rng);
        let end_ms = trouble_ms + settle_ms(&config, &nodes, &jobs);
        Self {
            theme,
            mode,
            config,
            is_uniform,
            nodes,
            clients,
            jobs,
            faults,
            trouble_ms,
            end_ms,
            latency_ms: rng.random_range(0..80),
            jitter_ms: rng.random_range(0..40),
            wall_ms: 1_790_000_000_000 + rng.random_range(0..1_000_000_000),
        }
    }

    /// Whether anything may go wrong but for too much to do.
    pub(crate) const fn has_faults(&self) -> bool {
        !matches!(self.theme, Theme::Calm | Theme::Overload)
    }
}

/// By when every job has ended: the longest silence that anybody needs to find out, what waits, and then the same again.
fn settle_ms(config: &Config, nodes: &[NodePlan], jobs: &[JobPlan]) -> Millis {
    let tokens: u64 = jobs
        .iter()
        .map(|job| {
            u64::from(
                job.shape
                    .tokens
                    .min(job.shape.max_tokens.unwrap_or(u32::MAX)),
            ) + 64
        })
        .sum();
    let slowest = nodes.iter().map(|node| node.step_ms).max().unwrap_or(1);
    let patience = config.client_silent_ms_max + config.node_silent_ms_max + 4 * config.lease_ms;
    patience + tokens * slowest + 120_000
}

fn config(mode: Mode, theme: Theme, rng: &mut ChaCha8Rng) -> Config {
    let models = MODELS.iter().map(|id| ModelEntry {
        id: (*id).into(),
        class: NodeClass::Rig,
        context_tokens: CONTEXT_TOKENS,
    });
    let mut config = Config {
        models: models.collect(),
        tiers: vec![TierEntry {
            id: TIER.into(),
            models: MODELS.iter().map(|id| (*id).into()).collect(),
        }],
        ..Config::default()
    };
    if mode == Mode::Quick {
        config.lease_ms = 4_000;
        config.grace_ms = 3_000;
        config.heartbeat_ms = 2_000;
        config.node_silent_ms_max = 6_000;
        config.client_silent_ms_max = 20_000;
        if theme == Theme::Overload {
            config.queue_jobs_max = rng.random_range(4..40);
            config.queue_jobs_max_per_model = rng.random_range(4..40);
            config.jobs_per_client_max = rng.random_range(4..20);
        }
    }
    config
}

/// What a node can do: all of it, or a draw.
fn capabilities(is_uniform: bool, rng: &mut ChaCha8Rng) -> Capabilities {
    let mut draw = || is_uniform || rng.random_ratio(2, 3);
    Capabilities {
        grammar: draw(),
        logprobs: true,
        penalties: draw(),
        logit_bias: draw(),
        seed: draw(),
        continuation: draw(),
        ..Capabilities::default()
    }
}
