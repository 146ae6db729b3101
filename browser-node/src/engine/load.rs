//! Loading a model from a stream.

use std::sync::Arc;

use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::{AbortSignal, ReadableStream};
use webgpu_engine::run::{LoadError, Loader, RunError, Settings, Tuning};

use super::{Engine, cancellable, clock, failed, heap, json, or_lost};
use crate::report::Loaded;
use crate::request::Load;
use crate::stream::Pieces;
use crate::turn::Work;

#[wasm_bindgen]
impl Engine {
    /// Loads the model that a stream brings, in place of the one before: `settings` is a [`Load`], the result a
    /// [`Loaded`]. `bytes` is the stream's length where that is known; `happened` is called with the bytes so far and,
    /// once the header has come, those in all. A refused model is known from its header, before its weights are asked
    /// for; then and when `signal` says so, the stream is cancelled. Refused while an answer is under way.
    pub async fn load(
        &self,
        stream: ReadableStream,
        bytes: Option<f64>,
        settings: String,
        happened: js_sys::Function,
        signal: AbortSignal,
    ) -> Result<String, JsValue> {
        // First, so that whatever is refused ends the download.
        let pieces = Pieces::of(&stream)?;
        let settings: Load = serde_json::from_str(&settings).map_err(failed)?;
        let _turn = self.turn.take(Work::Load).map_err(failed)?;
        let loaded = self.take_model(pieces, bytes, settings, &happened);
        json(&cancellable(&signal, loaded).await?)
    }
}

impl Engine {
    async fn take_model(
        &self,
        mut pieces: Pieces,
        bytes: Option<f64>,
        settings: Load,
        happened: &js_sys::Function,
    ) -> Result<Loaded, JsValue> {
        drop(self.session.take());
        drop(self.model.take());
        let gpu = self.empty_gpu().await;
        let gpu = gpu.map_err(|error| load_failed(&error.into()))?;
        let counters = Arc::clone(&gpu);
        let before = gpu.counters().read();
        let (known, tunes) = (settings.tuning.clone(), settings.tunes);
        let mut loader = Loader::new(gpu, bytes.map(whole), Settings::from(settings));
        while let Some(piece) = pieces.next().await? {
            let progress = loader.push(piece).await;
            let progress = progress.map_err(|error| load_failed(&error))?;
            let end = progress.end.map_or(JsValue::UNDEFINED, number);
            happened.call2(&JsValue::NULL, &number(progress.bytes), &end)?;
        }
        drop(pieces);
        let model = loader.finish().await;
        let mut model = model.map_err(|error| load_failed(&error))?;
        let mut tuning = None;
        let key = format!("{}; {}", self.adapter, model.tuning_key());
        let known = known.and_then(|text| Tuning::from_text(&text, &key));
        if let Some(known) = known {
            model.use_tuning(&known);
        } else if tunes {
            let clock = clock()?;
            let found = model.tune(move || clock.now() / 1000.0).await;
            let found = found.map_err(|error| run_failed(&error))?;
            tuning = Some(found.to_text(&key));
        }
        #[expect(
            clippy::arc_with_non_send_sync,
            reason = "natively it is both; a worker has one thread"
        )]
        let model = Arc::new(model);
        let session = model.session().await;
        let session = session.map_err(|error| run_failed(&error))?;
        let created = counters.counters().read().since(before);
        let report = Loaded {
            tuning,
            ..Loaded::new(&model, &session, &created, heap::peak_bytes())
        };
        self.session.replace(Some(session));
        self.model.replace(Some(model));
        Ok(report)
    }
}

fn load_failed(error: &LoadError) -> JsValue {
    or_lost(error, error.is_lost())
}

/// The same for what runs on the model.
pub(super) fn run_failed(error: &RunError) -> JsValue {
    or_lost(error, error.is_lost())
}

/// JavaScript's numbers are floats; lengths of files are whole ones among them.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float beyond the range becomes its end, which no file reaches"
)]
pub(super) const fn whole(number: f64) -> u64 {
    number as u64
}

/// A count for JavaScript.
#[expect(
    clippy::cast_precision_loss,
    reason = "files are shorter than 2⁵³ bytes, so their lengths are exact"
)]
fn number(count: u64) -> JsValue {
    JsValue::from_f64(count as f64)
}
