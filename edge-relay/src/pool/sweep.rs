//! Time: the timer that keeps a busy pool awake, the alarm that sweeps a sleeping one, and what models are live.

use std::rc::Rc;
use std::time::Duration;

use protocol::CloseCode;
use scheduler::{Input, Millis, ModelAvailability, SocketId};
use wasm_bindgen::{JsCast, JsValue};
use worker::{Date, Delay};

use crate::pool::drive::Core;
use crate::pool::peers::{Peer, Standing};
use crate::pool::secrets::Secrets;

/// A busy pool never goes without a timer for longer: the runtime drops an object after 10 s without one.
const AWAKE_MS: u64 = 5_000;

/// A quiet pool looks for dead nodes this often. A pending timer would keep it awake; an alarm does not.
const IDLE_SWEEP_MS: u64 = 60_000;

impl Core {
    /// Sets the timer or the alarm that the present state needs.
    pub(crate) fn arm(self: &Rc<Self>) {
        let hello = self.peers.borrow().next_deadline();
        let (busy, scheduler) = {
            let scheduler = self.scheduler.borrow();
            (scheduler.is_busy(), scheduler.poll_timeout())
        };
        // A job that waits without any node has no time of its own; only a pending timer keeps the object, and with it
        // the job, alive.
        let due = if busy {
            let awake = self.clock.latest() + AWAKE_MS;
            hello.into_iter().chain(scheduler).chain([awake]).min()
        } else {
            hello
        };
        match due {
            Some(due) => self.arm_timer(due),
            None => self.arm_alarm(),
        }
    }

    fn arm_timer(self: &Rc<Self>, due: Millis) {
        if self.timer_at.get().is_some_and(|at| at <= due) {
            return;
        }
        self.timer_at.set(Some(due));
        let wait = Duration::from_millis(due.saturating_sub(self.clock.now()).max(1));
        let core = Rc::clone(self);
        wasm_bindgen_futures::spawn_local(async move {
            Delay::from(wait).await;
            // A later, earlier-due timer may have taken this one's place.
            if core.timer_at.get() == Some(due) {
                core.timer_at.set(None);
                core.sweep();
            }
        });
    }

    /// Only an idle pool with sockets needs one; nobody waits for the storage write then.
    fn arm_alarm(self: &Rc<Self>) {
        if self.alarm_set.get() || self.peers.borrow().count() == 0 {
            return;
        }
        self.alarm_set.set(true);
        let core = Rc::clone(self);
        wasm_bindgen_futures::spawn_local(async move {
            let at = Duration::from_millis(IDLE_SWEEP_MS);
            let storage = core.state.storage();
            // The alarm may have been set before the object slept; setting it again would put the sweep off for ever.
            let is_set = storage.get_alarm().await.is_ok_and(|alarm| alarm.is_some());
            if is_set {
                return;
            }
            // A job may have come meanwhile: it does not wait for a write, and whoever is idle next sets the alarm.
            let is_busy = core.scheduler.borrow().is_busy();
            if is_busy || storage.set_alarm(at).await.is_err() {
                core.alarm_set.set(false);
            }
        });
    }

    /// The alarm's work.
    pub(crate) fn idle_sweep(self: &Rc<Self>) {
        self.alarm_set.set(false);
        self.sweep();
        self.renew_secrets();
    }

    /// A storage write, so it waits until no job is under way.
    fn renew_secrets(&self) {
        let now = self.clock.now();
        if self.scheduler.borrow().is_busy() || !self.secrets.borrow().is_stale(now) {
            return;
        }
        let secrets = Secrets::load(&self.state.storage().sql(), now);
        self.scheduler.borrow_mut().trust(secrets.all());
        self.secrets.replace(secrets);
    }

    /// Tells the scheduler who was heard and that time has passed; dismisses those who never said `hello`.
    fn sweep(self: &Rc<Self>) {
        let now = self.clock.now();
        let heard: Vec<(SocketId, Millis)> = self
            .peers
            .borrow()
            .iter()
            .filter(|(_, peer)| peer.standing == Standing::Joined)
            .filter_map(|(id, peer)| Some((id, self.answered_at(peer)?)))
            .collect();
        for (socket, at) in heard {
            self.scheduler
                .borrow_mut()
                .handle_input(now, Input::Heard { socket, at });
        }
        let late = self.peers.borrow().late(now);
        for id in late {
            self.expel(id, CloseCode::HelloTimeout, "no hello in time");
        }
        self.drive(Input::Tick);
    }

    /// When the runtime last answered this socket's heartbeat. workers-rs does not bind the call.
    pub(crate) fn answered_at(&self, peer: &Peer) -> Option<Millis> {
        let state: &JsValue = self.state.as_raw().as_ref();
        let method =
            js_sys::Reflect::get(state, &"getWebSocketAutoResponseTimestamp".into()).ok()?;
        let method: &js_sys::Function = method.dyn_ref()?;
        let socket: &JsValue = peer.socket.as_ref().as_ref();
        let date = method.call1(state, socket).ok()?;
        let date: js_sys::Date = date.dyn_into().ok()?;
        Some(Date::from(date).as_millis())
    }

    /// What can be had now, for `/v1/models`.
    pub(crate) fn live_models(&self) -> Vec<crate::api::Live> {
        let live = self.scheduler.borrow().availability();
        live.into_iter()
            .map(|model: ModelAvailability| model.into())
            .collect()
    }
}
