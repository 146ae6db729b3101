//! Loading a model from a stream.

use std::sync::Arc;

use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::{AbortSignal, ReadableStream};
use webgpu_engine::run::{Loader, Settings, Tuning};

use super::{Engine, aborted, clock, failed, heap, json};
use crate::report::Loaded;
use crate::request::Load;
use crate::stream::Pieces;

#[wasm_bindgen]
impl Engine {
    /// Loads the model that a stream brings, in place of the one before: `settings` is a [`Load`], the result a
    /// [`Loaded`]. `bytes` is the stream's length where that is known; `happened` is called with the bytes so far and,
    /// once the header has come, those in all. A refused model is known from its header, before its weights are asked
    /// for; then and when `signal` says so, the stream is cancelled.
    pub async fn load(
        &self,
        stream: ReadableStream,
        bytes: Option<f64>,
        settings: String,
        happened: js_sys::Function,
        signal: AbortSignal,
    ) -> Result<String, JsValue> {
        let settings: Load = serde_json::from_str(&settings).map_err(failed)?;
        drop(self.session.take());
        drop(self.model.take());
        let gpu = Arc::clone(&self.gpu);
        let before = gpu.counters().read();
        let known = settings.tuning.as_deref().map(Tuning::from_text);
        let tunes = settings.tunes;
        let mut loader = Loader::new(gpu, bytes.map(whole), Settings::from(settings));
        let mut pieces = Pieces::of(&stream)?;
        while let Some(piece) = pieces.next().await? {
            if signal.aborted() {
                return Err(aborted());
            }
            let progress = loader.push(piece).await.map_err(failed)?;
            let end = progress.end.map_or(JsValue::UNDEFINED, number);
            happened.call2(&JsValue::NULL, &number(progress.bytes), &end)?;
        }
        drop(pieces);
        let mut model = loader.finish().await.map_err(failed)?;
        let mut tuning = None;
        if let Some(known) = known {
            model.use_tuning(&known);
        } else if tunes {
            let clock = clock()?;
            let found = model.tune(move || clock.now() / 1000.0).await;
            tuning = Some(found.map_err(failed)?.to_text());
        }
        #[expect(
            clippy::arc_with_non_send_sync,
            reason = "natively it is both; a worker has one thread"
        )]
        let model = Arc::new(model);
        let session = model.session().await.map_err(failed)?;
        let created = self.gpu.counters().read().since(before);
        let report = Loaded {
            tuning,
            ..Loaded::new(&model, &session, &created, heap::peak_bytes())
        };
        self.session.replace(Some(session));
        self.model.replace(Some(model));
        json(&report)
    }
}

/// JavaScript's numbers are floats; lengths of files are whole ones among them.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float beyond the range becomes its end, which no file reaches"
)]
const fn whole(number: f64) -> u64 {
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
