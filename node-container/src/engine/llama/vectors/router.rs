//! Two engines behind one door: conversations go to the one, texts for vectors to the other, on its own thread.

use std::thread::{Builder, Scope};

use protocol::JobRequest;
use tokio::sync::mpsc::{UnboundedSender, WeakUnboundedSender, unbounded_channel};

use super::Embedder;
use crate::engine::llama::load::outcome::LoadError;
use crate::engine::llama::wake::WakeAtEnd;
use crate::engine::{Command, Engine, EngineEvent, run};

/// Starts the thread that makes vectors; it tells its events itself, and ends when the sender is gone.
pub(in crate::engine::llama) fn spawn<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    mut embedder: Embedder<'env>,
    events: UnboundedSender<EngineEvent>,
    engine: &'env WeakUnboundedSender<Command>,
) -> Result<UnboundedSender<Command>, LoadError> {
    let (commands, received) = unbounded_channel();
    Builder::new()
        .name("vectors".to_owned())
        .spawn_scoped(scope, move || {
            // Dropped in reverse: the engine wakes up and finds the channel closed.
            let _wake = WakeAtEnd(engine);
            let mut received = received;
            run(&mut embedder, &mut received, &events);
        })
        .map_err(|error| LoadError::Thread(error.to_string()))?;
    Ok(commands)
}

/// An engine for conversations, and the way to one for vectors.
#[derive(Debug)]
pub(in crate::engine::llama) struct Router<E> {
    pub(in crate::engine::llama) chat: E,
    pub(in crate::engine::llama) vectors: UnboundedSender<Command>,
}

impl<E> Router<E> {
    /// Sends a copy; the command itself is for conversations.
    fn tell_both(&self, copy: Command) -> bool {
        drop(self.vectors.send(copy));
        false
    }
}

impl<E: Engine> Engine for Router<E> {
    fn handle_command(&mut self, command: Command) {
        let is_for_vectors = match &command {
            Command::Start { request, .. } | Command::Check { request, .. } => match **request {
                JobRequest::Embed(_) => true,
                JobRequest::Chat(_) | JobRequest::Unknown => false,
            },
            // Only one of them has the job; to the other it is no fault.
            Command::Pause { key } => self.tell_both(Command::Pause { key: *key }),
            Command::Unpause { key } => self.tell_both(Command::Unpause { key: *key }),
            Command::Stop { key } => self.tell_both(Command::Stop { key: *key }),
            Command::Wake | Command::Shutdown => false,
        };
        if is_for_vectors {
            // Where nobody listens any more, this engine is dead too.
            drop(self.vectors.send(command));
        } else {
            self.chat.handle_command(command);
        }
    }

    fn is_idle(&self) -> bool {
        self.chat.is_idle()
    }

    fn is_dead(&self) -> bool {
        self.chat.is_dead() || self.vectors.is_closed()
    }

    fn step(&mut self) {
        self.chat.step();
    }

    fn poll_event(&mut self) -> Option<EngineEvent> {
        self.chat.poll_event()
    }
}
