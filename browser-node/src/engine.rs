//! What JavaScript holds: a device, and the model on it.

mod answer;
mod load;

use std::cell::RefCell;
use std::sync::Arc;

use serde::Serialize;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::WorkerGlobalScope;
use webgpu_engine::gpu::{Gpu, Wish, bandwidth};
use webgpu_engine::kernels;
use webgpu_engine::run::{self, Session};

use crate::heap;
use crate::report::{Adapter, Figures, Kernel};

/// The engine. All of it takes turns in the worker's one thread.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Engine {
    gpu: Arc<Gpu>,
    model: RefCell<Option<Arc<run::Engine>>>,
    /// Away while it answers.
    session: RefCell<Option<Session>>,
}

#[wasm_bindgen]
impl Engine {
    /// Opens the adapter. `plain` keeps it to WebGPU's default limits and no feature.
    pub async fn open(plain: bool) -> Result<Self, JsValue> {
        console_error_panic_hook::set_once();
        let wish = Wish {
            is_plain: plain,
            ..Wish::default()
        };
        let gpu = Gpu::open(&wish).await.map_err(failed)?;
        #[expect(
            clippy::arc_with_non_send_sync,
            reason = "natively it is both; a worker has one thread"
        )]
        let gpu = Arc::new(gpu);
        Ok(Self {
            gpu,
            model: RefCell::default(),
            session: RefCell::default(),
        })
    }

    /// What the adapter can do: an [`Adapter`].
    pub fn adapter(&self) -> Result<String, JsValue> {
        json(&Adapter::from(self.gpu.abilities()))
    }

    /// What was done so far: [`Figures`].
    pub fn figures(&self) -> Result<String, JsValue> {
        let counts = self.gpu.counters().read();
        json(&Figures::new(&counts, heap::peak_bytes()))
    }

    /// Bytes a second that the adapter can stream.
    pub async fn bandwidth(&self) -> Result<f64, JsValue> {
        let clock = clock()?;
        let gpu = Arc::clone(&self.gpu);
        let seconds = move || clock.now() / 1000.0;
        let measured = bandwidth(&gpu, seconds).await.map_err(failed)?;
        Ok(measured.bytes_per_second)
    }

    /// Gives the device up, as if the browser had lost it.
    pub fn destroy(&self) {
        self.gpu.destroy();
    }
}

impl Engine {
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
