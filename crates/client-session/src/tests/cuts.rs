//! Whatever happens to the connection, the text is the source, exactly once.

use proptest::prelude::*;
use protocol::{Answer, AnswerHash, ClientToRelay, DeltaKind, TokenFrameWriter};

use super::{JOB, Stage, assigned, completed, counted, text_of};
use crate::job::Job;
use crate::{Event, Input};

/// Something that the world does.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// So many deltas come, in one frame or merged into one entry.
    Deliver(usize, bool),
    /// A frame comes twice.
    Repeat,
    /// A frame never comes.
    Skip,
    /// The connection is cut; so many deltas that were on their way are lost.
    Cut(usize),
    /// The relay restarts: it knows only what the client tells it.
    Restart,
    /// The node resends from before what the client has.
    Overlap(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..5_usize, any::<bool>()).prop_map(|(count, merged)| Step::Deliver(count, merged)),
        1 => Just(Step::Repeat),
        1 => Just(Step::Skip),
        2 => (0..4_usize).prop_map(Step::Cut),
        1 => Just(Step::Restart),
        1 => (1..6_usize).prop_map(Step::Overlap),
    ]
}

/// One delta of the source: one token, and its text or none yet.
type Piece = String;

fn source() -> impl Strategy<Value = Vec<Piece>> {
    proptest::collection::vec(
        prop_oneof![3 => "[a-zäß€🦀 ]{1,6}", 1 => Just(String::new())],
        0..40,
    )
}

/// The other end: a relay with a node that knows the whole answer.
struct World {
    stage: Stage,
    source: Vec<Piece>,
    /// The next delta to be sent.
    at: usize,
    alias: u32,
    /// Whether the client could tell every token from every other: no node resent what it had.
    is_exact: bool,
    /// What the client had when a frame was last lost.
    skipped_at: u32,
}

impl World {
    fn new(source: Vec<Piece>) -> Self {
        let mut stage = Stage::new();
        stage.submit();
        let mut world = Self {
            stage,
            source,
            at: 0,
            alias: 0,
            is_exact: true,
            skipped_at: 0,
        };
        world.attend();
        world
    }

    fn offset(&self, at: usize) -> u32 {
        let bytes: usize = self.source[..at].iter().map(String::len).sum();
        u32::try_from(bytes).unwrap()
    }

    fn received(&self) -> u32 {
        let job = self.stage.session.jobs.get(&JOB);
        job.map_or(0, Job::received)
    }

    /// Reads what the client said since last time.
    fn attend(&mut self) {
        for frame in std::mem::take(&mut self.stage.sent) {
            match frame {
                ClientToRelay::Submit { .. } => self.go_on(0),
                ClientToRelay::Resume {
                    offset,
                    tokens,
                    hash,
                    answer,
                    ..
                } => {
                    let whole = self.source.concat();
                    let had = &whole.as_bytes()[..usize::try_from(offset).unwrap()];
                    assert_eq!(hash, AnswerHash::of(had));
                    if let Some(answer) = &answer {
                        let carried: usize = answer.token_count();
                        assert_eq!(tokens, u32::try_from(carried).unwrap());
                        self.check(answer, had);
                    } else {
                        assert_eq!(tokens, 0);
                    }
                    self.go_on(self.position(offset, tokens));
                }
                ClientToRelay::Acknowledge { offset, .. } => {
                    assert!(offset <= self.offset(self.source.len()));
                }
                other @ (ClientToRelay::Hello { .. }
                | ClientToRelay::Cancel { .. }
                | ClientToRelay::Ping
                | ClientToRelay::Unknown) => panic!("{other:?}"),
            }
        }
    }

    /// Where to go on: after the bytes, and after their tokens as far as those can be told.
    fn position(&self, offset: u32, tokens: u32) -> usize {
        let least = (0..=self.source.len())
            .find(|at| self.offset(*at) == offset)
            .expect("deltas are whole");
        if !self.is_exact {
            return least;
        }
        let at = usize::try_from(tokens).unwrap();
        assert_eq!(self.offset(at), offset, "tokens and bytes agree");
        at
    }

    fn check(&self, answer: &Answer, had: &[u8]) {
        let text: String = answer
            .pieces
            .iter()
            .map(|piece| piece.text.as_str())
            .collect();
        assert_eq!(text.as_bytes(), had);
        let tokens: Vec<u32> = answer
            .pieces
            .iter()
            .flat_map(|piece| piece.tokens.clone())
            .collect();
        // Tokens that are carried are those of the text, in order; a node goes on from them.
        for (index, token) in tokens.iter().enumerate() {
            assert_eq!(*token, u32::try_from(index).unwrap());
        }
        if !tokens.is_empty() {
            assert_eq!(self.offset(tokens.len()), u32::try_from(had.len()).unwrap());
        }
    }

    fn go_on(&mut self, at: usize) {
        self.at = at;
        self.alias += 1;
        self.stage.submitted();
        self.stage.say(&assigned(1, self.alias, self.offset(at)));
    }

    fn frame(&self, count: usize, merged: bool) -> Vec<u8> {
        let end = (self.at + count).min(self.source.len());
        let mut writer = TokenFrameWriter::new();
        let mut push = |from: usize, to: usize| {
            let tokens: Vec<u32> = (from..to)
                .map(|token| u32::try_from(token).unwrap())
                .collect();
            let bytes = self.source[from..to].concat();
            let offset = self.offset(from);
            assert!(writer.push(
                self.alias,
                offset,
                DeltaKind::Text,
                &tokens,
                bytes.as_bytes()
            ));
        };
        if merged {
            push(self.at, end);
        } else {
            (self.at..end).for_each(|at| push(at, at + 1));
        }
        writer.finish()
    }

    fn deliver(&mut self, count: usize, merged: bool) {
        let frame = self.frame(count, merged);
        self.at = (self.at + count).min(self.source.len());
        self.stage.input(Input::Binary(&frame));
        self.attend();
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Deliver(count, merged) => self.deliver(count, merged),
            Step::Repeat => {
                // A repeated token without text looks like one more: WebSockets do not repeat, so only text is here.
                if self
                    .source
                    .get(self.at)
                    .is_some_and(|piece| !piece.is_empty())
                {
                    let frame = self.frame(1, false);
                    self.deliver(1, false);
                    self.stage.input(Input::Binary(&frame));
                    self.attend();
                }
            }
            Step::Skip => {
                // Of a token without text nobody can miss anything. A hole that is asked for again and again without
                // anything new ends the job: this world is not that bad.
                let has = self.received();
                let is_text = |piece: &Piece| !piece.is_empty();
                if has > self.skipped_at && self.source.get(self.at).is_some_and(is_text) {
                    self.skipped_at = has;
                    self.at += 1;
                }
            }
            Step::Cut(lost) => {
                self.at = (self.at + lost).min(self.source.len());
                self.come_back();
            }
            Step::Restart => {
                self.alias += 1_000;
                self.come_back();
            }
            Step::Overlap(back) => {
                // Attempts are cut at bytes: tokens without text are resent with the text after them, or not at all.
                let at = self.at.saturating_sub(back);
                if self.offset(at) < self.received() {
                    self.is_exact = false;
                    self.go_on(at);
                }
            }
        }
    }

    fn come_back(&mut self) {
        self.stage.lost();
        self.stage.pass();
        self.stage.connected();
        self.attend();
    }

    fn finish(&mut self) {
        for _ in 0..8 {
            if !self.stage.session.is_busy() {
                break;
            }
            self.deliver(usize::from(u16::MAX), false);
            let end = self.offset(self.source.len());
            self.stage.say(&completed(end));
            self.attend();
        }
    }
}

proptest! {
    #[test]
    fn the_text_is_the_source_exactly_once(
        source in source(),
        steps in proptest::collection::vec(step(), 0..40),
    ) {
        let mut world = World::new(source);
        for step in steps {
            world.take(step);
        }
        world.finish();
        let events = &world.stage.events;
        prop_assert_eq!(text_of(events), world.source.concat());
        prop_assert!(matches!(events.last(), Some(Event::Completed { .. })), "{:?}", events.last());
        let ends = events.iter().filter(|event| matches!(
            event,
            Event::Completed { .. } | Event::Failed(_) | Event::Interrupted
        ));
        prop_assert_eq!(ends.count(), 1);
        if world.is_exact {
            prop_assert_eq!(usize::try_from(counted(events)).unwrap(), world.source.len());
        }
    }
}
