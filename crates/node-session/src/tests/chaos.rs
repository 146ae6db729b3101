//! A relay and an engine that say anything: the session never panics, never has more jobs in the engine than slots
//! (`Stage` checks), and ends every job it was given exactly once on the connection that gave it.

use std::collections::BTreeSet;

use proptest::prelude::*;
use protocol::{Alias, ErrorCode, Failure, NodeToRelay, RelayToNode, encode};

use super::stage::*;
use crate::{EngineEvent, Input, JobKey};

const SLOTS: u32 = 2;

#[derive(Debug, Clone)]
enum Act {
    Connected,
    Closed(Option<u16>),
    Says(RelayToNode),
    Perturbed(RelayToNode, usize, u8),
    Text(String),
    Binary(Vec<u8>),
    /// The engine's n-th job, or one that never was.
    Engine(usize, u8, String),
    Wait(u64),
    Drain,
}

fn relay_message() -> impl Strategy<Value = RelayToNode> {
    let alias = 0_u32..6;
    prop_oneof![
        3 => any::<u64>().prop_map(|heartbeat_ms| RelayToNode::Welcome { node: "n".into(), heartbeat_ms }),
        6 => alias.clone().prop_map(assign),
        2 => alias.clone().prop_map(|alias| RelayToNode::Cancel { alias }),
        2 => (alias, 0_u32..60).prop_map(|(alias, offset)| RelayToNode::Acknowledge { alias, offset }),
        1 => Just(RelayToNode::Pong),
        1 => Just(RelayToNode::Unknown),
        1 => Just(RelayToNode::Refused { failure: Failure::new(ErrorCode::Internal, "no") }),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Connected),
        2 => prop_oneof![9 => Just(None), 9 => Just(Some(1001)), 1 => any::<u16>().prop_map(Some)].prop_map(Act::Closed),
        20 => relay_message().prop_map(Act::Says),
        2 => (relay_message(), any::<usize>(), any::<u8>()).prop_map(|(m, at, byte)| Act::Perturbed(m, at, byte)),
        1 => ".{0,40}".prop_map(Act::Text),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Act::Binary),
        20 => (0_usize..3, 0_u8..7, ".{0,8}").prop_map(|(n, kind, text)| Act::Engine(n, kind, text)),
        4 => (0_u64..20_000).prop_map(Act::Wait),
        1 => Just(Act::Drain),
    ]
}

fn engine_event(key: JobKey, kind: u8, text: &str) -> EngineEvent {
    match kind {
        0 => EngineEvent::Progress {
            key,
            prefilled_tokens: 1,
        },
        1 | 2 => EngineEvent::Accepted {
            key,
            prompt_tokens: 7,
            context_tokens: 4_096,
        },
        3 | 4 => EngineEvent::Step(vec![advance(key, &[1], text)]),
        5 => EngineEvent::Finished {
            key,
            finish_reason: protocol::FinishReason::Stop,
            usage: USAGE,
        },
        _ => EngineEvent::Cancelled { key, usage: USAGE },
    }
}

fn perform(stage: &mut Stage, act: Act) {
    match act {
        Act::Connected => stage.input(Input::Connected),
        Act::Closed(code) => stage.input(Input::Closed { code }),
        Act::Says(message) => stage.hears(&message),
        Act::Perturbed(message, at, byte) => {
            let mut bytes = encode(&message).into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            stage.input(Input::Text(&String::from_utf8_lossy(&bytes)));
        }
        Act::Text(text) => stage.input(Input::Text(&text)),
        Act::Binary(bytes) => stage.input(Input::Binary(&bytes)),
        Act::Engine(n, kind, text) => {
            let key = stage.engine.get(n).copied().unwrap_or(JobKey(1_000_000));
            stage.engine(engine_event(key, kind, &text));
        }
        Act::Wait(ms) => stage.wait(ms),
        Act::Drain => stage.input(Input::DrainRequested),
    }
}

/// The aliases that were ended by what was said since the last look.
fn ended(stage: &mut Stage) -> Vec<Alias> {
    let said = stage.said();
    said.into_iter()
        .filter_map(|message| match message {
            NodeToRelay::Completed { alias, .. }
            | NodeToRelay::Failed { alias, .. }
            | NodeToRelay::Cancelled { alias, .. } => Some(alias),
            NodeToRelay::Hello { .. }
            | NodeToRelay::Accepted { .. }
            | NodeToRelay::Progress { .. }
            | NodeToRelay::PromptChecked { .. }
            | NodeToRelay::Draining
            | NodeToRelay::Ping
            | NodeToRelay::Unknown => None,
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_relay_and_the_engine_say_every_job_ends_once(
        acts in prop::collection::vec(act(), 1..200),
    ) {
        let mut stage = Stage::new(SLOTS);
        // Aliases that the relay counts a slot for.
        let mut open: BTreeSet<Alias> = BTreeSet::new();
        for act in acts {
            let was_up = stage.session.is_up();
            let mut assigned = None;
            if let Act::Says(RelayToNode::Assign { alias, .. }) = &act && was_up {
                assigned = Some(*alias);
            }
            let is_perturbed = matches!(act, Act::Perturbed(..));
            open.extend(assigned);
            perform(&mut stage, act);
            if !stage.session.is_up() {
                open.clear();
            }
            for alias in ended(&mut stage) {
                let known = open.remove(&alias);
                prop_assert!(known || !stage.session.is_up() || is_perturbed, "{alias} ended twice");
            }
            if is_perturbed {
                // A perturbed message may still have been one.
                open = stage.session.aliases.keys().copied().collect();
            }
            let held: Vec<Alias> = stage.session.aliases.keys().copied().collect();
            prop_assert_eq!(held, open.iter().copied().collect::<Vec<_>>());
            prop_assert!(open.len() <= 2);
        }
    }
}
