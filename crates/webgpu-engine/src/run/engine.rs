//! A model on a device.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::language::Language;
use super::load::About;
use super::{LoadError, RunError, Session, Settings};
use crate::gpu::Gpu;
use crate::model::{Config, Demand, MemoryNeed, Turns};
use crate::plan::{Choice, Scratch, Weights};
use crate::tokenizer::Tokenizer;

/// A model on a device. Sessions share its weights and what is computed in.
#[derive(Debug)]
pub struct Engine {
    pub(super) gpu: Arc<Gpu>,
    about: About,
    tokenizer: Tokenizer,
    template: Option<String>,
    /// Made when it is first asked for: who works with tokens does not need it.
    language: OnceLock<Language>,
    pub(super) weights: Weights,
    pub(super) scratch: Scratch,
    pub(super) choice: Choice,
    /// Of layers without a window, and of those with one.
    pub(super) turns: [Turns; 2],
    /// Sessions that there are.
    sessions: AtomicU32,
    /// What a step writes must not be overwritten before the step is submitted, by a thread of another session.
    pub(super) recording: Mutex<()>,
}

/// What a loader hands over.
pub(super) struct Parts {
    pub(super) gpu: Arc<Gpu>,
    pub(super) about: About,
    pub(super) tokenizer: Tokenizer,
    pub(super) template: Option<String>,
    pub(super) weights: Weights,
    pub(super) settings: Settings,
}

impl Engine {
    pub(super) fn new(parts: Parts) -> Result<Self, LoadError> {
        let Parts {
            gpu,
            about,
            tokenizer,
            template,
            weights,
            settings,
        } = parts;
        let choice = Choice::new(gpu.abilities(), settings.numbers);
        let scratch = Scratch::new(&gpu, &about.config, &about.demand)?;
        let factors = weights.factors();
        let turns = [false, true].map(|window| Turns::new(&about.config.rope, window, factors));
        Ok(Self {
            gpu,
            about,
            tokenizer,
            template,
            language: OnceLock::new(),
            weights,
            scratch,
            choice,
            turns,
            sessions: AtomicU32::new(0),
            recording: Mutex::new(()),
        })
    }

    /// How the model computes.
    pub const fn config(&self) -> &Config {
        &self.about.config
    }

    /// What it was loaded for.
    pub const fn demand(&self) -> &Demand {
        &self.about.demand
    }

    /// The memory that it takes, all sessions included.
    pub const fn need(&self) -> MemoryNeed {
        self.about.need
    }

    /// Text to tokens and back.
    pub const fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The file's chat template.
    pub fn template(&self) -> Option<&str> {
        self.template.as_deref()
    }

    /// How the model is talked to. The first call compiles the template and lists what the tokens write.
    pub fn language(&self) -> &Language {
        self.language
            .get_or_init(|| Language::of(&self.tokenizer, self.template()))
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// A session that has read nothing. Dropping it gives its memory back.
    ///
    /// There can be as many as the model was loaded for.
    pub async fn session(self: &Arc<Self>) -> Result<Session, RunError> {
        let place = Place::take(Arc::clone(self))?;
        Session::new(place).await
    }
}

/// One of the sessions that a model was loaded for.
#[derive(Debug)]
pub(super) struct Place(Arc<Engine>);

impl Place {
    fn take(engine: Arc<Engine>) -> Result<Self, RunError> {
        let most = engine.demand().sessions;
        let before = engine.sessions.fetch_add(1, Ordering::Relaxed);
        // From here on it is given back.
        let place = Self(engine);
        if before >= most {
            return Err(RunError::SessionsFull(most));
        }
        Ok(place)
    }

    /// The engine whose it is.
    pub(super) const fn engine(&self) -> &Arc<Engine> {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}
