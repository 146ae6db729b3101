//! Answers, and rows of logits.

use js_sys::{Float32Array, Uint8Array};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::AbortSignal;
use webgpu_engine::run::{Request, RunError, Session};
use webgpu_engine::tokenizer::Encoding;

use super::{Engine, aborted, failed, heap, json};
use crate::report::{Answered, Figures};
use crate::request::Generate;

#[wasm_bindgen]
impl Engine {
    /// The tokens of a text. `whole` adds what the vocabulary wants at a text's ends; `special` reads control tokens
    /// where the text spells them.
    pub fn encode(&self, text: &str, whole: bool, special: bool) -> Result<Vec<u32>, JsValue> {
        let encoding = Encoding {
            add_special: whole,
            parse_special: special,
        };
        let model = self.model()?;
        model.tokenizer().encode(text, encoding).map_err(failed)
    }

    /// Answers: `request` is a [`Generate`], the result an [`Answered`]. `drawn` is called with each token and the bytes
    /// that it writes, which need not be whole characters. One answer at a time; what the one before has read of the
    /// same prompt is not read again.
    pub async fn generate(
        &self,
        request: String,
        drawn: js_sys::Function,
        signal: AbortSignal,
    ) -> Result<String, JsValue> {
        let request: Generate = serde_json::from_str(&request).map_err(failed)?;
        let mut session = self.take_session()?;
        let answered = self.answer(&mut session, request.into(), &drawn, &signal);
        let answered = answered.await;
        self.session.replace(Some(session));
        json(&answered?)
    }

    /// Reads tokens from an empty session on and gives `visit` the row of logits behind each of them.
    pub async fn logits(&self, tokens: Vec<u32>, visit: js_sys::Function) -> Result<(), JsValue> {
        let mut session = self.take_session()?;
        let mut thrown = None;
        let read = session.logits(&tokens, |row| {
            if thrown.is_none() {
                let row = Float32Array::from(row);
                thrown = visit.call1(&JsValue::NULL, &row).err();
            }
        });
        let read = read.await;
        self.session.replace(Some(session));
        read.map_err(failed)?;
        thrown.map_or(Ok(()), Err)
    }
}

impl Engine {
    fn take_session(&self) -> Result<Session, JsValue> {
        drop(self.model()?);
        let session = self.session.take();
        session.ok_or_else(|| failed("an answer is under way"))
    }

    async fn answer(
        &self,
        session: &mut Session,
        request: Request,
        drawn: &js_sys::Function,
        signal: &AbortSignal,
    ) -> Result<Answered, JsValue> {
        let model = self.model()?;
        let figures = || Figures::new(&self.gpu.counters().read(), heap::peak_bytes());
        let mut answer = session
            .answer(request, None)
            .await
            .map_err(|error| run_failed(&error))?;
        let mut first = None;
        while let Some(next) = answer.next().await.map_err(|error| run_failed(&error))? {
            first.get_or_insert_with(figures);
            let mut bytes = Vec::new();
            model.tokenizer().write_piece(next.token, false, &mut bytes);
            let bytes = Uint8Array::from(bytes.as_slice());
            drawn.call2(&JsValue::NULL, &next.token.into(), &bytes)?;
            if signal.aborted() {
                return Err(aborted());
            }
        }
        Ok(Answered {
            tokens: answer.drawn().to_vec(),
            ended: answer.ended().map(Into::into),
            at_first: first,
            at_end: figures(),
        })
    }
}

/// An error whose name says where a new device would mend it.
fn run_failed(error: &RunError) -> JsValue {
    let thrown = js_sys::Error::new(&error.to_string());
    if error.is_lost() {
        thrown.set_name("LostError");
    }
    thrown.into()
}
