//! What JavaScript holds: a device, and the model on it.

mod answer;
mod chat;
mod load;

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use serde::Serialize;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, WorkerGlobalScope};
use webgpu_engine::gpu::{Gpu, GpuError, Wish, bandwidth};
use webgpu_engine::kernels;
use webgpu_engine::run::{self, Session};

use crate::cancel::unless;
use crate::heap;
use crate::report::{Adapter, Figures, Kernel};
use crate::turn::Turn;

/// The engine. All of it takes turns in the worker's one thread.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Engine {
    wish: Wish,
    /// What the page calls the adapter.
    adapter: String,
    gpu: RefCell<Arc<Gpu>>,
    /// Whether a model was put on the device, or a part of one.
    is_used: Cell<bool>,
    turn: Turn,
    model: RefCell<Option<Arc<run::Engine>>>,
    /// Away while it answers.
    session: RefCell<Option<Session>>,
}

#[wasm_bindgen]
impl Engine {
    /// Opens the adapter. `plain` keeps it to WebGPU's default limits and no feature; `software` says that the page knows
    /// it to compute on the CPU. `adapter` is what the page calls it: findings of tuning runs are kept for this name.
    pub async fn open(plain: bool, software: bool, adapter: String) -> Result<Self, JsValue> {
        console_error_panic_hook::set_once();
        let wish = Wish {
            is_plain: plain,
            is_software: software,
            ..Wish::default()
        };
        let gpu = device(&wish).await.map_err(failed)?;
        Ok(Self {
            wish,
            adapter,
            gpu: RefCell::new(gpu),
            is_used: Cell::new(false),
            turn: Turn::default(),
            model: RefCell::default(),
            session: RefCell::default(),
        })
    }

    /// What the adapter can do: an [`Adapter`].
    pub fn adapter(&self) -> Result<String, JsValue> {
        json(&Adapter::from(self.gpu().abilities()))
    }

    /// What was done on this device so far: [`Figures`].
    pub fn figures(&self) -> Result<String, JsValue> {
        json(&self.figures_now())
    }

    /// Bytes a second that the adapter can stream.
    pub async fn bandwidth(&self) -> Result<f64, JsValue> {
        let clock = clock()?;
        let gpu = self.gpu();
        let seconds = move || clock.now() / 1000.0;
        let measured = bandwidth(&gpu, seconds).await;
        let measured = measured.map_err(|error| or_lost(&error, error.is_lost()))?;
        Ok(measured.bytes_per_second)
    }

    /// Gives the device up, as if the browser had lost it.
    pub fn destroy(&self) {
        self.gpu().destroy();
    }

    /// Gives device and model up for good, so that their memory is free before the collector comes. What is under way
    /// ends as if the device were lost.
    pub fn close(&self) {
        self.destroy();
        drop(self.session.take());
        drop(self.model.take());
    }
}

impl Engine {
    fn gpu(&self) -> Arc<Gpu> {
        Arc::clone(&self.gpu.borrow())
    }

    fn figures_now(&self) -> Figures {
        Figures::new(&self.gpu().counters().read(), heap::peak_bytes())
    }

    /// The device for a model. Browsers free the buffers of the one before when their collector comes, which may be long
    /// after the next one wants the room; those of a device that was given up are free at once.
    async fn empty_gpu(&self) -> Result<Arc<Gpu>, GpuError> {
        let old = self.gpu();
        if self.is_used.replace(true) && old.lost().is_none() {
            let new = device(&self.wish).await?;
            old.destroy();
            self.gpu.replace(new);
        }
        Ok(self.gpu())
    }

    fn model(&self) -> Result<Arc<run::Engine>, JsValue> {
        let model = self.model.borrow().clone();
        model.ok_or_else(|| failed("no model is loaded"))
    }
}

/// Every kernel that the engine can make for any adapter, for tests: a JSON list of [`Kernel`].
#[wasm_bindgen]
pub fn every_kernel() -> Result<String, JsValue> {
    let kernels: Vec<Kernel> = kernels::every().into_iter().map(Kernel::from).collect();
    json(&kernels)
}

/// The worker's clock.
fn clock() -> Result<web_sys::Performance, JsValue> {
    use wasm_bindgen::JsCast as _;
    let scope: WorkerGlobalScope = js_sys::global().dyn_into()?;
    scope
        .performance()
        .ok_or_else(|| JsValue::from_str("a worker without a clock"))
}

async fn device(wish: &Wish) -> Result<Arc<Gpu>, GpuError> {
    #[expect(
        clippy::arc_with_non_send_sync,
        reason = "natively it is both; a worker has one thread"
    )]
    Ok(Arc::new(Gpu::open(wish).await?))
}

/// Does the work until it is over or the signal says that nobody wants it any more.
async fn cancellable<T>(
    signal: &AbortSignal,
    work: impl Future<Output = Result<T, JsValue>>,
) -> Result<T, JsValue> {
    if signal.aborted() {
        return Err(aborted());
    }
    let stop = js_sys::Promise::new(&mut |resolve, _| signal.set_onabort(Some(&resolve)));
    let done = unless(JsFuture::from(stop), work).await;
    signal.set_onabort(None);
    done.unwrap_or_else(|| Err(aborted()))
}

/// What JavaScript catches; its name says where a new device would mend it.
fn or_lost(error: &impl std::fmt::Display, is_lost: bool) -> JsValue {
    let thrown = js_sys::Error::new(&error.to_string());
    if is_lost {
        thrown.set_name("LostError");
    }
    thrown.into()
}

/// What JavaScript catches.
fn failed(error: impl std::fmt::Display) -> JsValue {
    js_sys::Error::new(&error.to_string()).into()
}

/// What JavaScript's own functions throw when they are cancelled.
fn aborted() -> JsValue {
    let error = js_sys::Error::new("it was cancelled");
    error.set_name("AbortError");
    error.into()
}

fn json(value: &impl Serialize) -> Result<String, JsValue> {
    serde_json::to_string(value).map_err(failed)
}
