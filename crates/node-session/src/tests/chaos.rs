//! A relay and an engine that say anything: the session never panics, never has more jobs in the engine than slots
//! (`Stage` checks), ends every attempt that it was given exactly once on the connection that gave it, never says what the
//! engine did not, and keeps no more than it may.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use protocol::{
    Alias, Answer, AnswerHash, ErrorCode, Failure, NodeToRelay, Piece, PieceKind, RelayToNode,
    TokenFrame, encode,
};

use super::stage::*;
use crate::job::Phase;
use crate::{EngineEvent, Input, JobKey, Output};

const SLOTS: u32 = 2;

#[derive(Debug, Clone)]
enum Act {
    Connected,
    Closed(Option<u16>),
    /// Falls and comes back, welcomed.
    Returns,
    Says(RelayToNode),
    Perturbed(RelayToNode, usize, u8),
    /// Takes the n-th job over at a place where it was, or lies about the hash.
    Adopts {
        n: usize,
        alias: Alias,
        per_mille: u32,
        is_honest: bool,
    },
    Text(String),
    Binary(Vec<u8>),
    /// The engine's n-th job, or one that never was.
    Engine(usize, u8, String),
    Busy(bool),
    Wait(u64),
    Drain,
}

fn assignment() -> impl Strategy<Value = RelayToNode> {
    let begun = prop::option::of("[a-zé]{0,12}".prop_map(|text| Answer {
        model: Some(MODEL.into()),
        pieces: vec![Piece {
            kind: PieceKind::Text,
            tokens: vec![1; text.chars().count()],
            text,
        }],
    }));
    (0_u32..6, 0_u32..4, 1_u32..4, 0_u32..40, begun).prop_map(
        |(name, id, number, window, begun)| {
            let mut message = assign(name);
            if let RelayToNode::Assign {
                job,
                attempt,
                window_bytes,
                answer,
                ..
            } = &mut message
            {
                (*job, *attempt) = (job_id(id), number);
                (*window_bytes, *answer) = (window, begun);
            }
            message
        },
    )
}

fn relay_message() -> impl Strategy<Value = RelayToNode> {
    let alias = 0_u32..6;
    prop_oneof![
        3 => any::<u64>().prop_map(|heartbeat_ms| RelayToNode::Welcome { node: "n".into(), heartbeat_ms }),
        6 => assignment(),
        2 => alias.clone().prop_map(|alias| RelayToNode::Cancel { alias }),
        4 => (alias, 0_u32..60, any::<bool>())
            .prop_map(|(alias, offset, whole)| RelayToNode::Acknowledge { alias, offset, whole }),
        2 => (0_u32..4, 1_u32..4).prop_map(|(id, attempt)| RelayToNode::Fence {
            job: job_id(id),
            attempt,
            failure: Failure::new(ErrorCode::UnknownJob, "no"),
        }),
        1 => prop_oneof![Just(0), 0_u64..100, any::<u64>()].prop_map(|ms| RelayToNode::Merge { ms }),
        1 => (0_u32..3).prop_map(|check| RelayToNode::CheckPrompt {
            check,
            model: MODEL.into(),
            request: request().into(),
        }),
        1 => Just(RelayToNode::Pong),
        1 => Just(RelayToNode::Unknown),
        1 => Just(RelayToNode::Refused { failure: Failure::new(ErrorCode::Internal, "no") }),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Connected),
        2 => prop_oneof![9 => Just(None), 9 => Just(Some(1001)), 1 => any::<u16>().prop_map(Some)].prop_map(Act::Closed),
        3 => Just(Act::Returns),
        20 => relay_message().prop_map(Act::Says),
        2 => (relay_message(), any::<usize>(), any::<u8>()).prop_map(|(m, at, byte)| Act::Perturbed(m, at, byte)),
        6 => (0_usize..4, 0_u32..6, 0_u32..1_001, prop::bool::weighted(0.8))
            .prop_map(|(n, alias, per_mille, is_honest)| Act::Adopts { n, alias, per_mille, is_honest }),
        1 => ".{0,40}".prop_map(Act::Text),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Act::Binary),
        30 => (0_usize..3, 0_u8..9, ".{0,8}").prop_map(|(n, kind, text)| Act::Engine(n, kind, text)),
        3 => any::<bool>().prop_map(Act::Busy),
        3 => prop_oneof![0_u64..60, 0_u64..20_000].prop_map(Act::Wait),
        1 => prop::bool::weighted(0.1).prop_map(|drains| if drains { Act::Drain } else { Act::Returns }),
    ]
}

/// What the test knows beside the session.
#[derive(Default)]
struct Known {
    /// Each attempt's answer: what it was given, and what the engine said while the session listened.
    answers: BTreeMap<JobKey, Vec<u8>>,
    paused: BTreeSet<JobKey>,
    /// How many ends the relay waits for by each name.
    open: BTreeMap<Alias, i32>,
    names: BTreeMap<Alias, JobKey>,
    /// Names that were given twice while the first one's frames still waited: nobody can tell them apart.
    murky: BTreeSet<Alias>,
    /// Where each name's next entry begins.
    offsets: BTreeMap<Alias, u32>,
    /// A perturbed message may still have been one: until the next connection nothing is known of names.
    is_lost: bool,
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
        3..=6 => EngineEvent::Step(vec![advance(key, &[1], text)]),
        7 => EngineEvent::Finished {
            key,
            finish_reason: protocol::FinishReason::Stop,
            usage: USAGE,
        },
        _ => EngineEvent::Cancelled { key, usage: USAGE },
    }
}

fn perform(stage: &mut Stage, known: &mut Known, act: Act) {
    match act {
        Act::Connected => stage.input(Input::Connected),
        Act::Closed(code) => stage.input(Input::Closed { code }),
        Act::Returns => {
            stage.input(Input::Closed { code: None });
            stage.wait(40_000);
            stage.input(Input::Connected);
            stage.hears(&RelayToNode::Welcome {
                node: "n".into(),
                heartbeat_ms: 60_000,
            });
        }
        Act::Says(message) => stage.hears(&message),
        Act::Perturbed(message, at, byte) => {
            let mut bytes = encode(&message).into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            stage.input(Input::Text(&String::from_utf8_lossy(&bytes)));
        }
        Act::Adopts {
            n,
            alias,
            per_mille,
            is_honest,
        } => adopt_nth(stage, n, alias, per_mille, is_honest),
        Act::Text(text) => stage.input(Input::Text(&text)),
        Act::Binary(bytes) => stage.input(Input::Binary(&bytes)),
        Act::Engine(n, kind, text) => {
            let key = stage.engine.get(n).copied().unwrap_or(JobKey(1_000_000));
            let event = engine_event(key, kind, &text);
            let end = |stage: &Stage| stage.session.jobs.get(&key).map(|job| job.stream.end());
            let before = end(stage);
            stage.engine(event);
            if end(stage).is_some_and(|end| Some(end) != before) {
                known.answers.entry(key).or_default().extend(text.bytes());
            }
        }
        Act::Busy(true) => stage.input(Input::Busy),
        Act::Busy(false) => stage.input(Input::Writable),
        Act::Wait(ms) => stage.wait(ms),
        Act::Drain => stage.input(Input::DrainRequested),
    }
}

fn adopt_nth(stage: &mut Stage, n: usize, alias: Alias, per_mille: u32, is_honest: bool) {
    let Some(job) = stage.session.jobs.values().nth(n) else {
        return;
    };
    let end = job.stream.end();
    let (from, _) = job.stream.released();
    let offset = from + (end.offset - from) * per_mille / 1_000;
    let hash = match job.stream.hash(offset) {
        Some(hash) if is_honest => hash,
        Some(_) | None => AnswerHash::of(b"a lie"),
    };
    let message = RelayToNode::Adopt {
        job: job.id,
        attempt: job.attempt,
        alias,
        lease_ms: 1,
        window_bytes: per_mille,
        offset,
        tokens: end.tokens * per_mille / 1_000,
        hash,
    };
    stage.hears(&message);
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
            | NodeToRelay::Announce { .. }
            | NodeToRelay::Accepted { .. }
            | NodeToRelay::Progress { .. }
            | NodeToRelay::PromptChecked { .. }
            | NodeToRelay::Cached { .. }
            | NodeToRelay::Draining
            | NodeToRelay::Ping
            | NodeToRelay::Unknown => None,
        })
        .collect()
}

impl Known {
    /// The names of attempts that have not ended, and whose they are.
    fn named(stage: &Stage) -> BTreeMap<Alias, JobKey> {
        let aliases = stage.session.aliases.iter();
        let is_open = |key: &JobKey| stage.session.jobs[key].ended().is_none();
        aliases
            .filter(|(_, key)| is_open(key))
            .map(|(alias, key)| (*alias, *key))
            .collect()
    }

    fn reset_connection(&mut self) {
        self.open.clear();
        self.murky.clear();
        self.offsets.clear();
        self.is_lost = false;
    }

    fn take_outputs(&mut self, stage: &mut Stage) {
        for output in stage.wanted() {
            match output {
                Output::Start { key, answer, .. } => {
                    let begun = answer.map_or_else(Vec::new, |answer| {
                        let texts = answer.pieces.iter().map(|piece| piece.text.as_bytes());
                        texts.collect::<Vec<_>>().concat()
                    });
                    self.answers.insert(key, begun);
                }
                Output::Pause { key } => assert!(self.paused.insert(key), "paused twice"),
                Output::Unpause { key } => assert!(self.paused.remove(&key), "not paused"),
                Output::Connect
                | Output::Send(_)
                | Output::SendBinary(_)
                | Output::Check { .. }
                | Output::Stop { .. }
                | Output::CloseSocket { .. }
                | Output::Welcomed { .. }
                | Output::Refused(_)
                | Output::Exit(_) => {}
            }
        }
        for (key, job) in &stage.session.jobs {
            if matches!(job.phase, Phase::Accepted { .. } | Phase::Started) {
                let is_full = job.stream.unacknowledged() >= job.window_bytes;
                assert_eq!(self.paused.contains(key), is_full);
            }
        }
    }

    fn check_frames(&mut self, stage: &mut Stage) {
        for frame in std::mem::take(&mut stage.frames) {
            for entry in TokenFrame::decode(&frame).unwrap().entries() {
                if self.is_lost || self.murky.contains(&entry.alias) {
                    continue;
                }
                let answer = &self.answers[&self.names[&entry.alias]];
                let start = usize::try_from(entry.offset).unwrap();
                assert_eq!(&answer[start..start + entry.bytes.len()], entry.bytes);
                let end = entry.end_offset().unwrap();
                if let Some(expected) = self.offsets.insert(entry.alias, end) {
                    assert_eq!(entry.offset, expected, "a gap or an overlap");
                }
            }
        }
    }

    /// One act, and whether all is well after it.
    fn check(&mut self, stage: &mut Stage, act: Act) {
        let was_up = stage.session.is_up();
        let before = Self::named(stage);
        let used: BTreeSet<Alias> = stage.session.aliases.keys().copied().collect();
        let mut given = None;
        let mut is_naming = false;
        match &act {
            Act::Says(RelayToNode::Assign { alias, .. }) => {
                (given, is_naming) = (Some(*alias), true);
            }
            Act::Adopts { n, alias, .. } => {
                is_naming = true;
                given = (*n < stage.session.jobs.len()).then_some(*alias);
            }
            Act::Returns => self.reset_connection(),
            Act::Perturbed(..) => self.is_lost = true,
            Act::Connected
            | Act::Closed(_)
            | Act::Says(_)
            | Act::Text(_)
            | Act::Binary(_)
            | Act::Engine(..)
            | Act::Busy(_)
            | Act::Wait(_)
            | Act::Drain => {}
        }
        if let Some(alias) = given.filter(|alias| was_up && !used.contains(alias)) {
            *self.open.entry(alias).or_default() += 1;
            if stage.session.outbox.is_busy && self.names.contains_key(&alias) {
                self.murky.insert(alias);
            }
            self.offsets.remove(&alias);
        }
        perform(stage, self, act);
        self.names.extend(stage.session.aliases.iter());
        self.take_outputs(stage);
        self.check_frames(stage);
        if !stage.session.is_up() {
            self.reset_connection();
            stage.said();
            return;
        }
        let after = Self::named(stage);
        for (alias, key) in before {
            if is_naming && after.get(&alias) != Some(&key) {
                // It gave way to a later attempt, or has another name now.
                *self.open.entry(alias).or_default() -= 1;
            }
        }
        for alias in ended(stage) {
            *self.open.entry(alias).or_default() -= 1;
        }
        if !stage.session.outbox.is_busy && !self.is_lost {
            self.open.retain(|_, count| *count != 0);
            let expected = after.keys().map(|alias| (*alias, 1)).collect();
            assert_eq!(self.open, expected, "each name ends once");
        }
        assert!(stage.session.job_count() <= 2);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_relay_and_the_engine_say_every_attempt_ends_once_and_no_byte_is_wrong(
        acts in prop::collection::vec(act(), 1..200),
    ) {
        let mut stage = Stage::new(SLOTS);
        let mut known = Known::default();
        for act in acts {
            known.check(&mut stage, act);
        }
    }
}
