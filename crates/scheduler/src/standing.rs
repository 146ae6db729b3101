//! A node's seat in the tables of its models: how far it is trusted, how much it is drawn. And the choice of a node.

use protocol::JobId;

use crate::groups::{Member, Standing};
use crate::models::ModelIndex;
use crate::placement::Need;
use crate::timers::Timer;
use crate::{Scheduler, SocketId};

impl Scheduler {
    /// Brings a node's seats up to date.
    pub(crate) fn refresh_node(&mut self, socket: SocketId) {
        let Some(node) = self.nodes.get_mut(&socket) else {
            return;
        };
        let trust = self.karma.trust(node.karma, self.now, &self.config);
        match trust.until {
            Some(until) => self.timers.set(Timer::Quarantine(socket), until),
            None => self.timers.clear(Timer::Quarantine(socket)),
        }
        let has_none = node.slots.free() == node.slots.total();
        let free_slots = match (trust.is_single, has_none) {
            (false, _) => node.slots.free(),
            (true, has_none) => u32::from(has_none),
        };
        let is_free = free_slots > 0;
        for (index, offer) in node.offers.iter_mut() {
            self.dirty.insert(index);
            let model = &mut self.models[index];
            if node.draining || node.arriving > 0 {
                if model.unseat(&mut offer.seat) {
                    self.lines.moved.insert(index);
                }
                continue;
            }
            let decode = offer.speed.decode().or_else(|| model.mean_decode());
            let decode = decode.unwrap_or(0.0).max(self.config.decode_floor);
            let member = Member {
                socket,
                slots: node.slots.total(),
                free_slots,
                context_tokens: offer.context_tokens,
                millitokens_per_second: millis(offer.speed.decode()),
            };
            let group = (trust.standing, Need::met_by(offer.capabilities));
            let weight = if is_free { decode * trust.factor } else { 0.0 };
            if model.seat(&mut offer.seat, group, member, weight) {
                self.lines.moved.insert(index);
            }
        }
    }

    /// A node for a job: one that has read its beginning, if that is free, else one drawn by weight.
    pub(crate) fn choose_node(
        &mut self,
        id: JobId,
        model: ModelIndex,
        need: Need,
    ) -> Option<SocketId> {
        let job = self.jobs.get(&id)?;
        let seat_of = |socket: SocketId| {
            let offer = self.nodes.get(&socket)?.offers.get(model)?;
            offer.seat
        };
        let is_free = |socket: SocketId| {
            job.avoid != Some(socket)
                && seat_of(socket).is_some_and(|seat| {
                    let (standing, can) = seat.group;
                    let is_trusted = standing != Standing::Suspect;
                    is_trusted && need.is_within(can) && self.models[model].can_be_drawn(seat)
                })
        };
        let reader = self.reader(model, &job.prefixes, is_free);
        let (avoid, prefixes) = (job.avoid.and_then(seat_of), job.prefixes.clone());
        let share = self.config.newcomers_share;
        let chosen =
            reader.or_else(|| self.models[model].choose(need, &mut self.rng, avoid, share))?;
        self.note_reader(model, &prefixes, chosen);
        Some(chosen)
    }
}

/// A speed as a whole number; 0 where there is none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bounded speed, which is never negative"
)]
fn millis(tokens_per_second: Option<f64>) -> u32 {
    tokens_per_second.map_or(0, |speed| (speed * 1_000.0).ceil() as u32)
}
