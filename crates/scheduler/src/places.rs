//! What waiting clients hear of their place.

use protocol::{JobId, RelayToClient};

use crate::Scheduler;
use crate::job::{Job, Place};

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
        };
        if let Some(owner) = job.owner {
            self.tell_client(owner, queued);
        }
    }

    /// Tells waiting clients their place, where it is not the one they know.
    pub(crate) fn tell_places(&mut self) {
        let mut moved: Vec<JobId> = Vec::new();
        for model in std::mem::take(&mut self.dirty) {
            moved.extend(self.models[model].queue.places().map(|(_, id)| id));
        }
        for id in moved {
            self.tell_place_if_news(id);
        }
    }

    fn tell_place_if_news(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.alias.is_none()) else {
            return;
        };
        let place = self.place_of(job);
        if place != job.told {
            self.tell_place(id, place);
        }
    }
}
