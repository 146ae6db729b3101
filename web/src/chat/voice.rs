//! What a screen reader is told: where a question stands, the answer by the sentence, how it ended.

use std::time::Duration;

use leptos::prelude::*;

use super::Chat;
use crate::announce::Announcer;
use crate::state::{MessageId, Phase, State};
use crate::wording::{self, Place};

/// Text that rests this long is read out even in mid-sentence.
const PAUSE: Duration = Duration::from_millis(1500);
/// Readers take additions; old ones may go.
const SAYINGS_MAX: usize = 12;

/// Something said, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Saying {
    /// Tells two equal sayings apart.
    pub(crate) number: u32,
    /// What.
    pub(crate) text: String,
}

/// How much of the answer has been said.
#[derive(Default)]
pub(super) struct Voice {
    announcer: Announcer,
    message: Option<MessageId>,
    said_bytes: usize,
    said_phase: Option<String>,
    number: u32,
    pause: Option<TimeoutHandle>,
    /// The present loss of the connection has been noticed.
    noticed_loss: bool,
}

impl Chat {
    /// Tells screen readers something.
    pub(crate) fn say(&self, text: impl Into<String>) {
        let number = self.hub.with_value(|hub| {
            let mut voice = hub.voice.borrow_mut();
            voice.number = voice.number.wrapping_add(1);
            voice.number
        });
        let text = text.into();
        self.sayings.update(|sayings| {
            sayings.push(Saying { number, text });
            let old = sayings.len().saturating_sub(SAYINGS_MAX);
            sayings.drain(..old);
        });
    }

    /// Says what changed in the answer that is, or just was, under way.
    pub(super) fn speak(&self, before: Option<MessageId>) {
        let Some(id) = self.state.with_untracked(State::running).or(before) else {
            return;
        };
        let sayings = self.state.with_untracked(|state| {
            let answer = state.message(id).and_then(|message| message.answer())?;
            self.hub
                .with_value(|hub| Some(hub.voice.borrow_mut().follow(id, &answer.text)))
                .map(|heard| {
                    (
                        heard,
                        self.phase_saying(id, &answer.phase),
                        answer.phase.is_final(),
                    )
                })
        });
        let Some((text, phase, is_final)) = sayings else {
            return;
        };
        if let Some(text) = text {
            self.say(text);
        }
        if is_final {
            self.say_rest();
        } else {
            self.say_rest_later();
        }
        let fresh = self.hub.with_value(|hub| {
            let mut voice = hub.voice.borrow_mut();
            let fresh = phase.is_some() && voice.said_phase != phase;
            voice.said_phase.clone_from(&phase);
            fresh
        });
        if let (true, Some(phase)) = (fresh, phase) {
            self.say(phase);
        }
    }

    fn phase_saying(&self, id: MessageId, phase: &Phase) -> Option<String> {
        let is_lost = *phase == Phase::Reconnecting;
        let was_lost = self.hub.with_value(|hub| {
            let mut voice = hub.voice.borrow_mut();
            std::mem::replace(&mut voice.noticed_loss, is_lost)
        });
        match phase {
            Phase::Unsent
            | Phase::Sent
            | Phase::Reading
            | Phase::Thinking
            | Phase::Streaming
            | Phase::Stopped => None,
            Phase::Queued { .. } => untrack(|| self.queue_place(id, phase, 0)),
            Phase::Reconnecting => {
                if !was_lost {
                    self.say_loss_later(id);
                }
                None
            }
            Phase::Done(_) => Some("The answer is complete.".to_owned()),
            Phase::Failed(trouble) => Some(wording::failure(trouble).0),
        }
    }

    /// Most losses are over before they can be read out.
    fn say_loss_later(&self, id: MessageId) {
        let chat = *self;
        set_timeout(
            move || {
                let is_lost = chat.state.with_untracked(|state| {
                    let answer = state.message(id).and_then(|message| message.answer());
                    answer.is_some_and(|answer| answer.phase == Phase::Reconnecting)
                });
                if is_lost {
                    chat.say(wording::reconnecting(chat.link.get_untracked()));
                }
            },
            PAUSE,
        );
    }

    /// Where a question stands that waits, named as the person asked for it.
    pub(crate) fn queue_place(
        &self,
        id: MessageId,
        phase: &Phase,
        elapsed_ms: u64,
    ) -> Option<String> {
        let Phase::Queued {
            model,
            position,
            nodes,
            wait,
        } = phase
        else {
            return None;
        };
        let (tier, goes_on) = self.state.with_untracked(|state| {
            let answer = state.message(id)?.answer()?;
            Some((answer.tier.clone(), !answer.text.is_empty()))
        })?;
        let tier = self.catalog.with(|catalog| {
            let tier = catalog.as_ref()?.tier(&tier?)?;
            Some(tier.name.clone())
        });
        Some(wording::queue_place(Place {
            position: *position,
            nodes: *nodes,
            wait: *wait,
            elapsed_ms,
            name: &tier.unwrap_or_else(|| self.model_name(model)),
            goes_on,
        }))
    }

    /// What a model is called.
    pub(crate) fn model_name(&self, model: &str) -> String {
        self.catalog.with(|catalog| {
            catalog
                .as_ref()
                .map_or(model, |catalog| catalog.name(model))
                .to_owned()
        })
    }

    fn say_rest(&self) {
        let rest = self.hub.with_value(|hub| {
            let mut voice = hub.voice.borrow_mut();
            if let Some(pause) = voice.pause.take() {
                pause.clear();
            }
            voice.announcer.flush()
        });
        if let Some(rest) = rest {
            self.say(rest);
        }
    }

    fn say_rest_later(&self) {
        let chat = *self;
        let pause = set_timeout_with_handle(move || chat.say_rest(), PAUSE).ok();
        self.hub.with_value(|hub| {
            let old = std::mem::replace(&mut hub.voice.borrow_mut().pause, pause);
            if let Some(old) = old {
                old.clear();
            }
        });
    }
}

impl Voice {
    fn follow(&mut self, id: MessageId, text: &str) -> Option<String> {
        if self.message != Some(id) {
            *self = Self {
                message: Some(id),
                number: self.number,
                ..Self::default()
            };
        }
        let fresh = text.get(self.said_bytes..).unwrap_or_default();
        self.said_bytes = text.len();
        self.announcer.push(fresh)
    }
}
