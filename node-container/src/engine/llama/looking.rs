//! The thread that looks at pictures, which takes long: neither the decode loop nor the next prompts wait for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, Scope};

use protocol::{ErrorCode, Failure};
use tokio::sync::mpsc::WeakUnboundedSender;

use super::load::file::{load_model, projector};
use super::load::options::LlamaOptions;
use super::load::outcome::LoadError;
use super::reader::{Done, Prepared, Ticket};
use super::wake::WakeAtEnd;
use crate::engine::image::Picture;
use crate::engine::vision::{Eye, Projector, View};
use crate::engine::{Command, JobKey};

/// A job whose prompt is read but for its pictures.
#[derive(Debug)]
pub(super) struct Looking {
    pub(super) ticket: Ticket,
    pub(super) key: JobKey,
    pub(super) prepared: Box<Prepared>,
}

/// Starts the thread. It ends when nothing more can come.
pub(super) fn spawn<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    projector: &'env Projector<'env>,
    done: Sender<Done>,
    engine: &'env WeakUnboundedSender<Command>,
) -> Result<Sender<Looking>, LoadError> {
    let (sender, jobs) = channel();
    Builder::new()
        .name("eye".to_owned())
        .spawn_scoped(scope, move || {
            // Dropped in reverse, as the reader's.
            let _wake = WakeAtEnd(engine);
            let done = done;
            run(projector, &jobs, &done, engine);
        })
        .map_err(|error| LoadError::Thread(error.to_string()))?;
    Ok(sender)
}

fn run(
    projector: &Projector<'_>,
    jobs: &Receiver<Looking>,
    done: &Sender<Done>,
    engine: &WeakUnboundedSender<Command>,
) {
    let mut eye = Eye::new(projector);
    while let Ok(mut job) = jobs.recv() {
        let view = job.prepared.slot.view_mut();
        let is_wanted = || !job.ticket.is_abandoned();
        // What panics costs its job, and what was kept.
        let seen = catch_unwind(AssertUnwindSafe(|| eye.look(view, is_wanted)));
        let result = match seen {
            Ok(true) => Ok(job.prepared),
            Ok(false) => Err(failure()),
            Err(_) => {
                eye = Eye::new(projector);
                Err(failure())
            }
        };
        if done.send(Done::Prepared(job.key, result)).is_err() {
            return;
        }
        if let Some(engine) = engine.upgrade() {
            // Fails where the loop has ended, which ends the jobs too.
            drop(engine.send(Command::Wake));
        }
    }
}

/// What a model's projector makes of a picture: a list of numbers for each piece of it; `None` where it cannot be looked
/// at. For finding out whether a projector computes what it should.
pub fn look_at(
    options: &LlamaOptions,
    picture: &Picture,
) -> Result<Option<Vec<Vec<f32>>>, LoadError> {
    let model = load_model(options)?;
    let Some(projector) = projector(&model, options, options.threads.unwrap_or(1))? else {
        return Ok(None);
    };
    let Ok(sight) = projector.prepare(picture) else {
        return Ok(None);
    };
    let mut view = View::default();
    view.push(sight, &mut Vec::new());
    let is_seen = Eye::new(&projector).look(&mut view, || true);
    Ok(is_seen.then(|| view.embeddings().map(<[f32]>::to_vec).collect()))
}

fn failure() -> Failure {
    Failure::new(
        ErrorCode::EngineFailed,
        "the node could not look at an image; try again",
    )
}
