//! What waiting clients hear of their place.

use std::collections::BTreeSet;

use protocol::{JobId, RelayToClient};

use crate::job::{Job, Place};
use crate::models::ModelIndex;
use crate::placement::{Need, NeedSet};
use crate::timers::Timer;
use crate::{Millis, Scheduler, waits};

/// Those who wait behind many hear of their steps this often.
const TAIL_TOLD_EVERY_MS: Millis = 1_000;

/// Those whose line stands still hear this often how long it will be, where that changed.
const WAIT_TOLD_EVERY_MS: Millis = 5_000;

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

impl Place {
    /// Whether a client that was told `told` would learn something.
    fn is_news(self, told: Option<Self>) -> bool {
        told.is_none_or(|told| {
            let same = (told.model, told.position, told.has_nodes)
                == (self.model, self.position, self.has_nodes);
            !same || waits::is_news(told.wait, self.wait)
        })
    }
}

impl Scheduler {
    /// Where a waiting job stands: in a line that moves before one that does not, then where it is nearest to the head,
    /// then where its preference lies.
    pub(crate) fn place_of(&self, job: &Job) -> Option<Place> {
        let places = job.choices.iter().map(|&index| {
            let queue = &self.models[index].queue;
            let position = queue.place(job.ticket, self.those_ahead(index, job.need));
            (
                !self.models[index].can(job.need),
                self.place_at(index, job.need, position),
            )
        });
        places
            .min_by_key(|(stands_still, place)| (*stands_still, place.position))
            .map(|(_, place)| place)
    }

    /// Who counts as ahead of such a job. A job that nobody can do now keeps no other waiting.
    pub(crate) fn those_ahead(&self, model: ModelIndex, need: Need) -> NeedSet {
        let servable = self.models[model].servable();
        if servable.contains(need) {
            servable
        } else {
            NeedSet::ALL
        }
    }

    fn place_at(&self, index: ModelIndex, need: Need, position: u32) -> Place {
        let model = &self.models[index];
        Place {
            model: index,
            position,
            has_nodes: model.nodes() > 0,
            wait: model.pace.wait(self.now, position, model.slots(need)),
        }
    }

    /// After how long somebody who is refused for a full line may try again: when its end will have come.
    pub(crate) fn retry_after_ms(&self, choices: &[ModelIndex], need: Need) -> Option<Millis> {
        let waits = choices.iter().filter_map(|&index| {
            let model = &self.models[index];
            let length = u32::try_from(model.queue.len_of(model.servable())).unwrap_or(u32::MAX);
            let wait = model.pace.wait(self.now, length, model.slots(need))?;
            Some(wait.ms_min.midpoint(wait.ms_max))
        });
        waits.min()
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
            wait: place.wait,
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
            let told = self.jobs.get(&id).and_then(|job| job.told);
            if let Some(place) = told {
                self.tell_later(place.model, false);
            }
        }
        for &model in &tail_due {
            self.tell_line(model, usize::MAX);
            self.tell_later(model, false);
        }
        for model in moved {
            if !tail_due.contains(&model) {
                self.tell_line(model, self.config.places_told_at_once);
                self.tell_later(model, true);
            }
        }
    }

    /// When the line is told as a whole again: soon where it moved and has a tail, else when estimates have grown old.
    fn tell_later(&mut self, index: ModelIndex, has_moved: bool) {
        let (timer, model) = (Timer::Places(index), &self.models[index]);
        let has_tail = model.queue.len() > self.config.places_told_at_once;
        let has_estimates = model.queue.needs().any(|need| {
            let wait = model.pace.wait(self.now, 1, model.slots(need));
            wait.is_some()
        });
        let after_ms = if has_moved && has_tail {
            TAIL_TOLD_EVERY_MS
        } else if has_estimates {
            WAIT_TOLD_EVERY_MS
        } else {
            // A tail that has still to hear of a step will.
            if !has_tail {
                self.timers.clear(timer);
            }
            return;
        };
        let at = self.now.saturating_add(after_ms);
        if self.timers.at(timer).is_none_or(|set| set > at) {
            self.timers.set(timer, at);
        }
    }

    /// Those who can be served count themselves; the others count everybody.
    fn tell_line(&mut self, index: ModelIndex, jobs_max: usize) {
        let model = &self.models[index];
        let servable = model.servable();
        let is_servable = |job: &Job| servable.contains(job.need);
        let first = self.line(index, servable, jobs_max, |_| true);
        let all_are = model.queue.len_of(servable) == model.queue.len();
        let rest = if all_are {
            Vec::new()
        } else {
            self.line(index, NeedSet::ALL, jobs_max, |job| !is_servable(job))
        };
        for (id, place) in first.into_iter().chain(rest) {
            if let Some(place) = place {
                if let Some(job) = self.jobs.get(&id)
                    && place.is_news(job.told)
                {
                    self.tell_place(id, Some(place));
                }
            } else {
                self.tell_place_if_news(id);
            }
        }
    }

    /// The head of a line, with the place of each where it stands in no other line.
    fn line(
        &self,
        index: ModelIndex,
        needs: NeedSet,
        jobs_max: usize,
        is_wanted: impl Fn(&Job) -> bool,
    ) -> Vec<(JobId, Option<Place>)> {
        let order = self.models[index].queue.order(needs).take(jobs_max);
        (1..)
            .zip(order)
            .filter_map(|(position, (_, id))| {
                let job = self.jobs.get(&id).filter(|job| is_wanted(job))?;
                let is_alone = job.choices.len() == 1;
                let place = is_alone.then(|| self.place_at(index, job.need, position));
                Some((id, place))
            })
            .collect()
    }

    fn tell_place_if_news(&mut self, id: JobId) {
        let Some(job) = self
            .jobs
            .get(&id)
            .filter(|job| job.alias.is_none() && !job.is_held)
        else {
            return;
        };
        if let Some(place) = self.place_of(job)
            && place.is_news(job.told)
        {
            self.tell_place(id, Some(place));
        }
    }
}
