//! The page's hub: what views read, what they may do, and once a frame what the relay said.

mod editing;
mod models;
mod voice;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use leptos::prelude::*;
use protocol::ErrorCode;

use crate::browser;
use crate::connection::{Connection, News};
use crate::edits::Edits;
use crate::link::Link;
use crate::state::{Action, Effect, MessageId, State};
use crate::storage;
use crate::tiers::Catalog;
use crate::wording::Remedy;

pub(crate) use self::voice::Saying;
use self::voice::Voice;

/// While an answer comes, a reload loses at most this much of it.
const SAVE_EVERY: Duration = Duration::from_secs(2);
/// A page that nobody sees gets no frames; its text moves on all the same.
const FRAME_MS_MAX: Duration = Duration::from_millis(200);

/// The hub; copies share it.
#[derive(Clone, Copy)]
pub(crate) struct Chat {
    /// The conversation.
    pub(crate) state: RwSignal<State>,
    /// The connection.
    pub(crate) link: RwSignal<Link>,
    /// What can be picked; `None` until the relay has said.
    pub(crate) catalog: RwSignal<Option<Catalog>>,
    /// What stands in the composer.
    pub(crate) draft: RwSignal<String>,
    /// Questions that are being rewritten.
    pub(crate) edits: RwSignal<Edits>,
    /// Grows whenever the composer should take the focus, always as an answer to something the person did.
    pub(crate) focus: RwSignal<u32>,
    /// Grows whenever the page should follow the answer again.
    pub(crate) follow: RwSignal<u32>,
    /// What a screen reader has been told of late.
    pub(crate) sayings: RwSignal<Vec<Saying>>,
    hub: StoredValue<Hub, LocalStorage>,
}

struct Hub {
    connection: Connection,
    /// What the relay said since the last frame.
    waiting: RefCell<Vec<Action>>,
    frame_due: Cell<bool>,
    save_due: Cell<bool>,
    voice: RefCell<Voice>,
}

impl Chat {
    /// Restores what this browser keeps and opens the connection.
    pub(crate) fn start() -> Self {
        let messages = browser::load(browser::CONVERSATION)
            .map(|text| storage::read(&text))
            .unwrap_or_default();
        let edits = browser::load(browser::EDITS)
            .map(|text| Edits::read(&text, &messages))
            .unwrap_or_default();
        let key = browser::key();
        let hub = StoredValue::new_local(Hub {
            // Replaced below, once there is a chat to talk to.
            connection: Connection::new(None, |_| {}),
            waiting: RefCell::default(),
            frame_due: Cell::new(false),
            save_due: Cell::new(false),
            voice: RefCell::default(),
        });
        let chat = Self {
            state: RwSignal::new(State::restore(messages, None)),
            link: RwSignal::new(Link::Connecting),
            catalog: RwSignal::new(models::kept()),
            draft: RwSignal::new(browser::load(browser::DRAFT).unwrap_or_default()),
            edits: RwSignal::new(edits),
            focus: RwSignal::new(0),
            follow: RwSignal::new(0),
            sayings: RwSignal::new(Vec::new()),
            hub,
        };
        let connection = Connection::new(key, move |news| chat.hear(news));
        connection.open();
        hub.update_value(|hub| hub.connection = connection);
        chat.keep_catalog_fresh();
        chat
    }

    /// Something happened that the conversation must know.
    pub(crate) fn dispatch(&self, action: Action) {
        self.flush();
        self.apply(vec![action]);
    }

    /// Asks a new question.
    pub(crate) fn ask(&self, text: &str) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        self.follow.update(|count| *count += 1);
        self.dispatch(Action::Ask {
            text: text.to_owned(),
            job: browser::job_id(),
        });
    }

    /// Asks the same once more.
    pub(crate) fn ask_again(&self, message: MessageId) {
        self.follow.update(|count| *count += 1);
        self.focus_composer();
        self.dispatch(Action::AskAgain {
            message,
            job: browser::job_id(),
        });
    }

    /// Asks differently.
    pub(crate) fn rewrite(&self, message: MessageId, text: &str) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        self.discard_edit(message);
        self.focus_composer();
        self.follow.update(|count| *count += 1);
        self.dispatch(Action::Rewrite {
            message,
            text: text.to_owned(),
            job: browser::job_id(),
        });
    }

    /// Stops the answer.
    pub(crate) fn stop(&self) {
        self.dispatch(Action::Stop);
        self.say("Stopped.");
    }

    /// Starts over.
    pub(crate) fn new_chat(&self) {
        self.change_edits(Edits::close);
        self.dispatch(Action::NewChat);
        self.focus_composer();
    }

    /// Picks who answers, for good.
    pub(crate) fn choose_tier(&self, tier: String) {
        browser::save(browser::TIER, &tier);
        self.dispatch(Action::ChooseTier(tier));
    }

    /// Presses the one button of a failure.
    pub(crate) fn remedy(&self, message: MessageId, remedy: Remedy) {
        match remedy {
            Remedy::AskAgain => self.ask_again(message),
            Remedy::NewChat => self.new_chat(),
            Remedy::EnterKey => self.link.set(Link::KeyNeeded { refused: false }),
        }
    }

    /// Shows the relay a key.
    pub(crate) fn enter_key(&self, key: &str) {
        let key = key.trim().to_owned();
        browser::keep_key(&key);
        self.link.set(Link::Connecting);
        self.hub
            .with_value(|hub| hub.connection.clone())
            .set_key(key);
        self.load_catalog();
        self.focus_composer();
    }

    /// The network may be back.
    pub(crate) fn hurry(&self) {
        self.hub.with_value(|hub| hub.connection.clone()).hurry();
    }

    /// Keeps what stands in the composer.
    pub(crate) fn write_draft(&self, text: String) {
        browser::save(browser::DRAFT, &text);
        self.draft.set(text);
    }

    /// Puts the cursor where the next question goes. Where that would bring up a keyboard over the answer, the answer
    /// takes the focus: what had it is often gone.
    pub(crate) fn focus_composer(&self) {
        self.leave(None);
    }

    fn hear(&self, news: News) {
        match news {
            // Tokens come faster than frames: they are gathered, everything else is taken at once and in order.
            News::Action(action @ Action::Progress { .. }) => {
                self.hub
                    .with_value(|hub| hub.waiting.borrow_mut().push(action));
                self.flush_soon();
            }
            News::Action(action) => self.dispatch(action),
            News::Link(link) => {
                self.link.set(link);
                if link == Link::Open {
                    self.load_catalog();
                }
            }
            News::Refused(failure) => {
                if failure.code == ErrorCode::Unauthorized {
                    self.link.set(Link::KeyNeeded { refused: true });
                }
            }
        }
    }

    fn flush_soon(&self) {
        if self.hub.with_value(|hub| hub.frame_due.replace(true)) {
            return;
        }
        let chat = *self;
        if browser::is_visible() {
            request_animation_frame(move || chat.flush());
        }
        set_timeout(move || chat.flush(), FRAME_MS_MAX);
    }

    fn flush(&self) {
        let actions = self.hub.with_value(|hub| {
            hub.frame_due.set(false);
            std::mem::take(&mut *hub.waiting.borrow_mut())
        });
        if !actions.is_empty() {
            self.apply(actions);
        }
    }

    fn apply(&self, actions: Vec<Action>) {
        let before = self.state.with_untracked(State::running);
        let mut effects = Vec::new();
        self.state.update(|state| {
            for action in actions {
                effects.extend(state.apply(action));
            }
        });
        self.forget_edits();
        let connection = self.hub.with_value(|hub| hub.connection.clone());
        let mut save = false;
        for effect in effects {
            save |= effect == Effect::Save;
            connection.perform(effect);
        }
        if save {
            self.save();
        } else if before.is_some() {
            self.save_later();
        }
        self.speak(before);
        if before.is_some() && self.state.with_untracked(State::running).is_none() {
            self.load_catalog();
        }
    }

    fn save(&self) {
        let text = self.state.with_untracked(|state| {
            if state.messages().is_empty() {
                String::new()
            } else {
                storage::write(state.messages())
            }
        });
        browser::save(browser::CONVERSATION, &text);
    }

    fn save_later(&self) {
        if self.hub.with_value(|hub| hub.save_due.replace(true)) {
            return;
        }
        let chat = *self;
        set_timeout(
            move || {
                chat.hub.with_value(|hub| hub.save_due.set(false));
                chat.save();
            },
            SAVE_EVERY,
        );
    }
}
