//! What goes wrong, and when.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::Millis;
use crate::scenario::Theme;

/// How a connection breaks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Break {
    /// What the peer sent still arrives, so much later, after what it says on its next connection perhaps; else it is lost.
    pub(crate) tail_late_by: Option<Millis>,
    /// When the relay hears of it; never, but by its own patience, where `None`.
    pub(crate) relay_hears_after: Option<Millis>,
    /// When the peer hears of it.
    pub(crate) peer_hears_after: Option<Millis>,
}

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// A node's program dies and is started again; silently, as in a power cut, or with its sockets reset.
    KillNode {
        node: usize,
        is_silent: bool,
        back_after: Millis,
    },
    /// A node's program stands still.
    StallNode { node: usize, ms: Millis },
    /// A node's engine stands still; its session goes on.
    HangEngine { node: usize, ms: Millis },
    /// An engine breaks one job.
    BreakEngine { node: usize },
    /// An operator stops a node in order, and starts it again.
    DrainNode { node: usize, back_after: Millis },
    /// A node's connection breaks.
    CutNode { node: usize, how: Break },
    /// A client's connection breaks.
    CutClient { client: usize, how: Break },
    /// Every connection breaks.
    CutAll { how: Break },
    /// Nothing gets through to or from a node for a while.
    PartNode { node: usize, ms: Millis },
    /// The same for a client.
    PartClient { client: usize, ms: Millis },
    /// A client goes for good.
    KillClient { client: usize },
    /// A client stops reading and acting.
    StallClient { client: usize, ms: Millis },
    /// A client reads so many bytes a millisecond until the trouble is over.
    SlowClient { client: usize, bytes_per_ms: u64 },
    /// The relay dies, every socket with it, and is back after a while.
    KillRelay { down_ms: Millis },
    /// The relay's clock is set.
    SetClock { by_ms: i64 },
}

pub(super) fn draw(
    theme: Theme,
    (nodes, clients): (usize, usize),
    trouble_ms: Millis,
    stretch: u64,
    rng: &mut ChaCha8Rng,
) -> Vec<(Millis, Fault)> {
    let count = match theme {
        Theme::Calm | Theme::Overload => 0,
        Theme::Relay => rng.random_range(1..5),
        Theme::Liars => rng.random_range(0..3),
        Theme::Nodes | Theme::Clients | Theme::Network => rng.random_range(2..16),
        Theme::Everything => rng.random_range(3..24),
    };
    let mut faults: Vec<(Millis, Fault)> = (0..count)
        .flat_map(|_| {
            let at = rng.random_range(500..trouble_ms);
            let (node, client) = (rng.random_range(0..nodes), rng.random_range(0..clients));
            let fault = match kind(theme, rng) {
                Theme::Nodes => node_fault(node, stretch, rng),
                Theme::Clients => client_fault(client, stretch, rng),
                Theme::Relay => relay_fault(rng),
                Theme::Calm
                | Theme::Overload
                | Theme::Network
                | Theme::Liars
                | Theme::Everything => network_fault(node, client, stretch, rng),
            };
            repeated(at, fault, stretch, rng)
        })
        .collect();
    faults.retain(|(at, _)| *at < trouble_ms);
    faults.sort_by_key(|(at, _)| *at);
    faults
}

/// What breaks a connection may break the next one too, before it has settled: a storm of reconnects.
fn repeated(at: Millis, fault: Fault, stretch: u64, rng: &mut ChaCha8Rng) -> Vec<(Millis, Fault)> {
    let times = match fault {
        Fault::CutNode { .. }
        | Fault::CutClient { .. }
        | Fault::CutAll { .. }
        | Fault::KillRelay { .. }
            if rng.random_ratio(1, 3) =>
        {
            rng.random_range(2..6)
        }
        _once => 1,
    };
    let mut at = at;
    (0..times)
        .map(|_| {
            let now = at;
            at += rng.random_range(20..900) * if rng.random() { stretch } else { 1 };
            (now, fault)
        })
        .collect()
}

fn kind(theme: Theme, rng: &mut ChaCha8Rng) -> Theme {
    match theme {
        Theme::Everything => match rng.random_range(0..8) {
            0..3 => Theme::Nodes,
            3 | 4 => Theme::Clients,
            5 => Theme::Relay,
            _ => Theme::Network,
        },
        Theme::Calm
        | Theme::Overload
        | Theme::Nodes
        | Theme::Clients
        | Theme::Relay
        | Theme::Network
        | Theme::Liars => theme,
    }
}

fn ms(most: Millis, stretch: u64, rng: &mut ChaCha8Rng) -> Millis {
    rng.random_range(50..most) * stretch
}

fn node_fault(node: usize, stretch: u64, rng: &mut ChaCha8Rng) -> Fault {
    match rng.random_range(0..6) {
        0 | 1 => Fault::KillNode {
            node,
            is_silent: rng.random_ratio(1, 3),
            back_after: ms(6_000, stretch, rng),
        },
        2 => Fault::StallNode {
            node,
            ms: ms(8_000, stretch, rng),
        },
        3 => Fault::HangEngine {
            node,
            ms: ms(8_000, stretch, rng),
        },
        4 => Fault::BreakEngine { node },
        _ => Fault::DrainNode {
            node,
            back_after: ms(3_000, stretch, rng),
        },
    }
}

fn client_fault(client: usize, stretch: u64, rng: &mut ChaCha8Rng) -> Fault {
    match rng.random_range(0..5) {
        0 => Fault::KillClient { client },
        1 => Fault::StallClient {
            client,
            ms: ms(10_000, stretch, rng),
        },
        2 => Fault::SlowClient {
            client,
            bytes_per_ms: rng.random_range(1..8),
        },
        _ => Fault::CutClient {
            client,
            how: how(stretch, rng),
        },
    }
}

fn relay_fault(rng: &mut ChaCha8Rng) -> Fault {
    match rng.random_range(0..4) {
        0 => Fault::SetClock {
            by_ms: rng.random_range(-3_000..3_000),
        },
        _ => Fault::KillRelay {
            down_ms: rng.random_range(0..3_000),
        },
    }
}

fn network_fault(node: usize, client: usize, stretch: u64, rng: &mut ChaCha8Rng) -> Fault {
    match rng.random_range(0..8) {
        0..3 => Fault::CutNode {
            node,
            how: how(stretch, rng),
        },
        3 | 4 => Fault::CutClient {
            client,
            how: how(stretch, rng),
        },
        5 => Fault::PartNode {
            node,
            ms: ms(10_000, stretch, rng),
        },
        6 => Fault::PartClient {
            client,
            ms: ms(10_000, stretch, rng),
        },
        _ => Fault::CutAll {
            how: how(stretch, rng),
        },
    }
}

fn how(stretch: u64, rng: &mut ChaCha8Rng) -> Break {
    let after = |rng: &mut ChaCha8Rng| {
        rng.random_ratio(3, 4)
            .then(|| rng.random_range(0..1_500) * if rng.random() { stretch } else { 1 })
    };
    Break {
        tail_late_by: rng.random_bool(0.6).then(|| ms(3_000, stretch, rng)),
        relay_hears_after: after(rng),
        peer_hears_after: after(rng),
    }
}
