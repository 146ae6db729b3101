//! What executes jobs: one thread, one decode loop, several slots.
//!
//! What it is not: it knows neither the relay nor the wire. Commands go in, events come out, both over channels.
//!
//! ```text
//! Command ──▶ run() ──▶ Engine::handle_command      at most one decode step after it was sent
//! Event   ◀── run() ◀── Engine::poll_event ◀── Engine::step
//! ```

pub mod embed;
pub mod grammar;
pub mod image;
pub mod llama;
pub mod logprobs;
mod packed;
pub mod reordered;
pub mod sampling;
pub mod tuning;
pub mod vision;

use protocol::{JobRequest, PrefixHash};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

pub use node_session::{Advance, EngineEvent, JobKey};

/// What the engine is told.
#[derive(Debug)]
pub enum Command {
    /// Answer this request. There must be a free slot.
    Start {
        /// Names the job in events.
        key: JobKey,
        /// By which catalog id it asks for the model: ids of tokens mean the same to all who offer it.
        model: String,
        /// What to answer.
        request: Box<JobRequest>,
        /// What the client has of the answer already: go on from there, and tell only what lies beyond.
        answer: Option<Box<protocol::Answer>>,
        /// What the relay calls this conversation once it is read.
        prefix: Option<PrefixHash>,
    },
    /// Leave this job out of decode steps; it keeps its slot. A job that is not there (any more) is no fault.
    Pause {
        /// Which job.
        key: JobKey,
    },
    /// Go on with this job.
    Unpause {
        /// Which job.
        key: JobKey,
    },
    /// Find out whether this request could be answered here; needs no slot.
    Check {
        /// Names the question in its answer.
        check: u32,
        /// What would be answered.
        request: Box<JobRequest>,
    },
    /// Stop this job before the next decode step. A job that is not there (any more) is no fault.
    Stop {
        /// Which job.
        key: JobKey,
    },
    /// Look again: something that the engine does aside is done. Only the engine's own threads send this.
    Wake,
    /// End the loop; running jobs are dropped without a word.
    Shutdown,
}

/// Something that executes jobs, driven by [`run`].
pub trait Engine {
    /// Takes a command; [`Command::Shutdown`] never arrives here.
    fn handle_command(&mut self, command: Command);

    /// Whether there is nothing to decode.
    fn is_idle(&self) -> bool;

    /// Whether it can never do anything again.
    fn is_dead(&self) -> bool;

    /// One decode step over all slots.
    fn step(&mut self);

    /// What is to be told; asked for until there is nothing.
    fn poll_event(&mut self) -> Option<EngineEvent>;
}

/// Drives an engine until it is told to shut down, nobody listens any more or it is dead.
///
/// Every command that was sent before a step began is handled before it: that is what makes `Stop` prompt.
pub fn run(
    engine: &mut dyn Engine,
    commands: &mut UnboundedReceiver<Command>,
    events: &UnboundedSender<EngineEvent>,
) {
    // What it has to say before anybody asks.
    if !tell(engine, events) {
        return;
    }
    while !engine.is_dead() {
        let command = if engine.is_idle() {
            commands.blocking_recv()
        } else {
            match commands.try_recv() {
                Ok(command) => Some(command),
                Err(TryRecvError::Empty) => {
                    engine.step();
                    if !tell(engine, events) {
                        return;
                    }
                    continue;
                }
                Err(TryRecvError::Disconnected) => None,
            }
        };
        match command {
            Some(
                command @ (Command::Start { .. }
                | Command::Pause { .. }
                | Command::Unpause { .. }
                | Command::Check { .. }
                | Command::Stop { .. }
                | Command::Wake),
            ) => {
                engine.handle_command(command);
                if !tell(engine, events) {
                    return;
                }
            }
            Some(Command::Shutdown) | None => return,
        }
    }
}

fn tell(engine: &mut dyn Engine, events: &UnboundedSender<EngineEvent>) -> bool {
    while let Some(event) = engine.poll_event() {
        if events.send(event).is_err() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dies of the first command.
    struct Mortal {
        is_dead: bool,
    }

    impl Engine for Mortal {
        fn handle_command(&mut self, _: Command) {
            self.is_dead = true;
        }

        fn is_idle(&self) -> bool {
            true
        }

        fn is_dead(&self) -> bool {
            self.is_dead
        }

        fn step(&mut self) {}

        fn poll_event(&mut self) -> Option<EngineEvent> {
            None
        }
    }

    /// Is told to stop while it computes.
    struct Interrupted {
        commands: UnboundedSender<Command>,
        steps: u32,
        is_stopped: bool,
    }

    impl Engine for Interrupted {
        fn handle_command(&mut self, command: Command) {
            self.is_stopped = matches!(command, Command::Stop { .. });
        }

        fn is_idle(&self) -> bool {
            false
        }

        fn is_dead(&self) -> bool {
            self.is_stopped
        }

        fn step(&mut self) {
            self.steps += 1;
            let stop = Command::Stop { key: JobKey(1) };
            self.commands.send(stop).expect("received");
        }

        fn poll_event(&mut self) -> Option<EngineEvent> {
            None
        }
    }

    #[test]
    fn what_is_said_during_a_step_is_handled_before_the_next() {
        let (commands, mut received) = tokio::sync::mpsc::unbounded_channel();
        let (events, _listener) = tokio::sync::mpsc::unbounded_channel();
        let mut engine = Interrupted {
            commands,
            steps: 0,
            is_stopped: false,
        };
        run(&mut engine, &mut received, &events);
        assert_eq!(engine.steps, 1);
    }

    #[test]
    fn a_dead_engine_is_driven_no_longer() {
        let (commands, mut received) = tokio::sync::mpsc::unbounded_channel();
        let (events, _listener) = tokio::sync::mpsc::unbounded_channel();
        commands.send(Command::Wake).expect("received");
        // Would wait for ever, since `commands` is still there.
        run(&mut Mortal { is_dead: false }, &mut received, &events);
    }
}
