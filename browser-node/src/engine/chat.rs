//! Answers as text.

use chrono::{DateTime, Utc};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::AbortSignal;
use webgpu_engine::run::{Session, TextError};

use super::load::{run_failed, whole};
use super::{Engine, failed, json};
use crate::report::{Begun, Chatted, Reason, Said};
use crate::request::{self, Chat};
use crate::turn::Work;

#[wasm_bindgen]
impl Engine {
    /// Answers as text: `request` is a [`Chat`], the result a [`Chatted`]. `happened` is called with a [`Begun`] once it is
    /// known that the prompt can be read, then with each [`Said`]. Answers take turns with those of [`Engine::generate`].
    pub async fn chat(
        &self,
        request: String,
        happened: js_sys::Function,
        signal: AbortSignal,
    ) -> Result<String, JsValue> {
        let request: Chat = request::read(&request).map_err(failed)?;
        let chatted = self.in_turn(Work::Answer, &signal, async |session| {
            self.answer_text(session, request, &happened).await
        });
        json(&chatted.await?)
    }
}

impl Engine {
    async fn answer_text(
        &self,
        session: &mut Session,
        mut request: Chat,
        happened: &js_sys::Function,
    ) -> Result<Chatted, JsValue> {
        let prompt = request.read(session.engine(), now());
        let prompt = prompt.map_err(|error| text_failed(&error))?;
        let begun = Begun {
            prompt_tokens: prompt.tokens().len(),
        };
        let request = request.request(prompt, js_sys::Math::random().to_bits());
        let checked = request.check(session.engine());
        checked.map_err(|error| text_failed(&error))?;
        happened.call1(&JsValue::NULL, &json(&begun)?.into())?;
        let answer = session.answer_text(request).await;
        let mut answer = answer.map_err(|error| text_failed(&error))?;
        let mut first = None;
        while let Some(piece) = answer.next().await.map_err(|error| text_failed(&error))? {
            first.get_or_insert_with(|| self.figures_now());
            let said = Said::new(piece, answer.usage().completion_tokens);
            happened.call1(&JsValue::NULL, &json(&said)?.into())?;
        }
        let usage = answer.usage();
        Ok(Chatted {
            tokens: answer.tokens().to_vec(),
            ended: answer.ended().and_then(Reason::of_text),
            prompt_tokens: usage.prompt_tokens,
            cached_tokens: usage.cached_tokens,
            answer_tokens: usage.completion_tokens,
            at_first: first,
            at_end: self.figures_now(),
        })
    }
}

fn text_failed(error: &TextError) -> JsValue {
    match error {
        TextError::Run(error) => run_failed(error),
        TextError::Refused(_) | TextError::Template(_) | TextError::TooLong { .. } => failed(error),
    }
}

/// The time by the browser's clock.
fn now() -> DateTime<Utc> {
    let ms = i64::try_from(whole(js_sys::Date::now())).ok();
    ms.and_then(DateTime::from_timestamp_millis)
        .unwrap_or_default()
}
