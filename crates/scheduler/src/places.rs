//! What waiting clients hear of their place.

use std::collections::BTreeSet;

use protocol::{JobId, RelayToClient};

use crate::job::{Job, Place};
use crate::models::ModelIndex;
use crate::timers::Timer;
use crate::{Millis, Scheduler};

/// Those who wait behind many hear of their steps this often.
const TAIL_TOLD_EVERY_MS: Millis = 1_000;

/// What happened to the lines during this input.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Jobs whose client has still to hear where they stand.
    pub(crate) entered: Vec<JobId>,
    /// Models whose places changed.
    pub(crate) moved: BTreeSet<ModelIndex>,
    /// Models whose whole line is to be told now.
    pub(crate) tail_due: BTreeSet<ModelIndex>,
}

impl Scheduler {
    /// Where a waiting job stands: in a line that moves before one that does not, then where it is nearest to the head,
    /// then where its preference lies.
    pub(crate) fn place_of(&self, job: &Job) -> Option<Place> {
        let places = job.choices.iter().map(|&index| {
            let model = &self.models[index];
            let place = Place {
                model: index,
                position: model.queue.place(job.ticket),
                has_nodes: model.nodes() > 0,
            };
            (!model.can(job.need), place)
        });
        places
            .min_by_key(|(stands_still, place)| (*stands_still, place.position))
            .map(|(_, place)| place)
    }

    /// Tells a client its job's place, whether or not it knows.
    pub(crate) fn tell_place(&mut self, id: JobId, place: Option<Place>) {
        let (Some(place), Some(job)) = (place, self.jobs.get_mut(&id)) else {
            return;
        };
        job.told = Some(place);
        let model = &self.models[place.model];
        let queued = RelayToClient::Queued {
            job: id,
            model: model.entry.id.clone(),
            position: place.position,
            nodes: model.nodes(),
            wait: None,
        };
        if let Some(owner) = job.owner {
            self.tell_client(owner, queued);
        }
    }

    /// Tells clients whose jobs came into line, and those at the head of a line that moved; its tail's turn comes later.
    pub(crate) fn tell_places(&mut self) {
        self.dirty.clear();
        let Lines {
            entered,
            moved,
            tail_due,
        } = std::mem::take(&mut self.lines);
        for id in entered {
            self.tell_place_if_news(id);
        }
        for &model in &tail_due {
            self.tell_line(model, usize::MAX);
        }
        for model in moved {
            if tail_due.contains(&model) {
                continue;
            }
            self.tell_line(model, self.config.places_told_at_once);
            let timer = Timer::Places(model);
            if self.models[model].queue.len() <= self.config.places_told_at_once {
                self.timers.clear(timer);
            } else if !self.timers.is_set(timer) {
                let at = self.now.saturating_add(TAIL_TOLD_EVERY_MS);
                self.timers.set(timer, at);
            }
        }
    }

    fn tell_line(&mut self, model: ModelIndex, jobs_max: usize) {
        let places = self.models[model].queue.places();
        let line: Vec<JobId> = places.take(jobs_max).map(|(_, id)| id).collect();
        for id in line {
            self.tell_place_if_news(id);
        }
    }

    fn tell_place_if_news(&mut self, id: JobId) {
        let Some(job) = self
            .jobs
            .get(&id)
            .filter(|job| job.alias.is_none() && !job.is_held)
        else {
            return;
        };
        let place = self.place_of(job);
        if place != job.told {
            self.tell_place(id, place);
        }
    }
}
