//! Who takes part, and who asks for what.

use protocol::{JobId, ModelOffer};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::Millis;
use crate::engine::CONTEXT_TOKENS;
use crate::scenario::{
    ClientPlan, JobPlan, LIES, Lie, MODELS, NodePlan, Skew, TIER, Theme, capabilities,
};
use crate::script::Shape;

pub(super) fn nodes(
    theme: Theme,
    is_uniform: bool,
    trouble_ms: Millis,
    stretch: u64,
    rng: &mut ChaCha8Rng,
) -> Vec<NodePlan> {
    let count = match theme {
        Theme::Overload => rng.random_range(1..4),
        Theme::Liars => rng.random_range(3..8),
        Theme::Everything => rng.random_range(2..8),
        Theme::Calm | Theme::Nodes | Theme::Clients | Theme::Relay | Theme::Network => {
            rng.random_range(1..7)
        }
    };
    (0..count)
        .map(|index| {
            let lie = draw_lie(theme, index, rng);
            let has_both = index == 0 || rng.random_ratio(1, 2);
            let only = rng.random_range(0..MODELS.len());
            let is_whole = is_uniform || index == 0;
            let offers = MODELS
                .iter()
                .enumerate()
                .filter(|(number, _)| has_both || *number == only)
                .map(|(_, model)| ModelOffer {
                    model: (*model).into(),
                    runtime: "fake".into(),
                    context_tokens: CONTEXT_TOKENS,
                    capabilities: capabilities(is_whole, rng),
                    measured: None,
                })
                .collect();
            let starts_late = index > 0 && rng.random_ratio(1, 5);
            NodePlan {
                name: format!("node-{index}"),
                // An operator may have several nodes; a liar works alone.
                account: match lie {
                    Some(_) => format!("liar-{index}"),
                    None => format!("operator-{}", index % 3),
                },
                slots: rng.random_range(1..5),
                offers,
                step_ms: rng.random_range(8..40) * stretch,
                lie,
                skew: Skew::draw(rng),
                starts_at: if starts_late {
                    rng.random_range(0..trouble_ms)
                } else {
                    rng.random_range(0..200)
                },
            }
        })
        .collect()
}

/// The first node is honest, so that somebody is.
fn draw_lie(theme: Theme, index: usize, rng: &mut ChaCha8Rng) -> Option<Lie> {
    let one_in = match theme {
        Theme::Liars => 2,
        Theme::Everything => 6,
        Theme::Calm
        | Theme::Overload
        | Theme::Nodes
        | Theme::Clients
        | Theme::Relay
        | Theme::Network => return None,
    };
    (index > 0 && rng.random_ratio(1, one_in)).then(|| LIES[rng.random_range(0..LIES.len())])
}

pub(super) fn clients(theme: Theme, rng: &mut ChaCha8Rng) -> Vec<ClientPlan> {
    let count = rng.random_range(2..7);
    let mut clients: Vec<ClientPlan> = (0..count)
        .map(|index| ClientPlan {
            // The last one is somebody new, who comes late.
            account: if index + 1 == count {
                "newcomer".into()
            } else {
                format!("user-{}", index % 4)
            },
            skew: Skew::draw(rng),
            is_intruder: false,
        })
        .collect();
    if matches!(theme, Theme::Liars | Theme::Everything) {
        clients.push(ClientPlan {
            account: "intruder".into(),
            skew: Skew::draw(rng),
            is_intruder: true,
        });
    }
    clients
}

pub(super) fn jobs(
    theme: Theme,
    clients: &[ClientPlan],
    trouble_ms: Millis,
    is_uniform: bool,
    rng: &mut ChaCha8Rng,
) -> Vec<JobPlan> {
    let honest = clients.iter().filter(|client| !client.is_intruder).count();
    let count = match theme {
        Theme::Overload => rng.random_range(60..140),
        Theme::Calm
        | Theme::Nodes
        | Theme::Clients
        | Theme::Relay
        | Theme::Network
        | Theme::Liars
        | Theme::Everything => rng.random_range(10..45),
    };
    // Sometimes many ask at once.
    let is_herd = rng.random_ratio(1, 4) || theme == Theme::Overload;
    let hog = rng.random_ratio(1, 2).then(|| rng.random_range(0..honest));
    (0..count)
        .map(|_| {
            let client = match hog {
                Some(hog) if rng.random_ratio(3, 4) => hog,
                Some(_) | None => rng.random_range(0..honest),
            };
            let at = if client + 1 == honest {
                rng.random_range(trouble_ms / 16..trouble_ms)
            } else if is_herd && rng.random_ratio(2, 3) {
                rng.random_range(0..trouble_ms / 8)
            } else {
                rng.random_range(0..trouble_ms)
            };
            JobPlan {
                id: JobId::from_random(rng.random()),
                at: at + 300,
                client,
                model: match rng.random_range(0..6) {
                    0 | 1 => TIER,
                    2 | 3 => MODELS[1],
                    _ => MODELS[0],
                },
                shape: shape(rng),
                cancelled_after: rng
                    .random_ratio(1, 12)
                    .then(|| rng.random_range(0..trouble_ms / 4)),
                need: if !is_uniform && rng.random_ratio(1, 4) {
                    rng.random_range(1..4)
                } else {
                    0
                },
            }
        })
        .collect()
}

fn shape(rng: &mut ChaCha8Rng) -> Shape {
    let tokens = match rng.random_range(0..10) {
        0 => rng.random_range(1..4),
        1 => rng.random_range(200..500),
        _ => rng.random_range(10..120),
    };
    Shape {
        tokens,
        // Some answers are longer than a window.
        is_wide: rng.random_ratio(1, 6),
        reasons: rng.random_ratio(1, 3),
        calls_tool: rng.random_ratio(1, 6),
        has_logprobs: rng.random_ratio(1, 8),
        max_tokens: match rng.random_range(0..3) {
            0 => Some(rng.random_range(1..200)),
            1 => Some(2_048),
            _ => None,
        },
        prompt_tokens: match rng.random_range(0..24) {
            0 => CONTEXT_TOKENS + 1,
            1..4 => rng.random_range(1_000..6_000),
            _ => rng.random_range(5..600),
        },
    }
}
