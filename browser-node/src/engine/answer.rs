//! Answers, and rows of logits.

use std::sync::Arc;

use js_sys::{Float32Array, Uint8Array};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::AbortSignal;
use webgpu_engine::run::{Request, Session};
use webgpu_engine::tokenizer::Encoding;

use super::load::run_failed;
use super::{Engine, cancellable, failed, json};
use crate::report::{Answered, Told};
use crate::request::{self, Generate};
use crate::turn::Work;

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

    /// Answers: `request` is a [`Generate`], the result an [`Answered`]. `drawn` is called with each token, the bytes
    /// that it writes, which need not be whole characters, and a [`Told`] where that was asked for. One answer at a time;
    /// what the one before has read of the same prompt is not read again.
    pub async fn generate(
        &self,
        request: String,
        drawn: js_sys::Function,
        signal: AbortSignal,
    ) -> Result<String, JsValue> {
        let request: Generate = request::read(&request).map_err(failed)?;
        let answered = self.in_turn(Work::Answer, &signal, async |session| {
            self.answer(session, request.into(), &drawn).await
        });
        json(&answered.await?)
    }

    /// Reads tokens from an empty session on and gives `visit` the row of logits behind each of them.
    pub async fn logits(
        &self,
        tokens: Vec<u32>,
        visit: js_sys::Function,
        signal: AbortSignal,
    ) -> Result<(), JsValue> {
        let read = self.in_turn(Work::Logits, &signal, async |session| {
            let mut thrown = None;
            let read = session.logits(&tokens, |row| {
                if thrown.is_none() {
                    let row = Float32Array::from(row);
                    thrown = visit.call1(&JsValue::NULL, &row).err();
                }
            });
            read.await.map_err(|error| run_failed(&error))?;
            thrown.map_or(Ok(()), Err)
        });
        read.await
    }
}

impl Engine {
    /// Does work on the session, unless something else is under way, until it is over or the signal says that nobody wants
    /// it any more.
    pub(super) async fn in_turn<T>(
        &self,
        what: Work,
        signal: &AbortSignal,
        work: impl AsyncFnOnce(&mut Session) -> Result<T, JsValue>,
    ) -> Result<T, JsValue> {
        let _turn = self.turn.take(what).map_err(failed)?;
        self.model()?;
        let session = self.session.take();
        let mut session = session.ok_or_else(|| failed("the model has no session"))?;
        let done = cancellable(signal, work(&mut session)).await;
        self.put_back(session);
        done
    }

    /// Keeps the session for the next answer, where its model is still the one that is loaded.
    fn put_back(&self, session: Session) {
        let model = self.model.borrow();
        if model
            .as_ref()
            .is_some_and(|model| Arc::ptr_eq(model, session.engine()))
        {
            self.session.replace(Some(session));
        }
    }

    async fn answer(
        &self,
        session: &mut Session,
        request: Request,
        drawn: &js_sys::Function,
    ) -> Result<Answered, JsValue> {
        let model = Arc::clone(session.engine());
        let prompt_tokens = request.prompt.len() + request.given.len();
        let mut answer = session
            .answer(request, None)
            .await
            .map_err(|error| run_failed(&error))?;
        let mut first = None;
        while let Some(next) = answer.next().await.map_err(|error| run_failed(&error))? {
            first.get_or_insert_with(|| self.figures_now());
            let mut bytes = Vec::new();
            model.tokenizer().write_piece(next.token, false, &mut bytes);
            let bytes = Uint8Array::from(bytes.as_slice());
            let told = next.told.map(|told| json(&Told::from(told))).transpose()?;
            let told = told.map_or(JsValue::UNDEFINED, JsValue::from);
            drawn.call3(&JsValue::NULL, &next.token.into(), &bytes, &told)?;
        }
        let (tokens, ended) = (answer.drawn().to_vec(), answer.ended());
        drop(answer);
        let middle = u32::try_from(prompt_tokens + tokens.len() / 2).unwrap_or(u32::MAX);
        Ok(Answered {
            tokens,
            ended: ended.map(Into::into),
            token_bytes: session.decode_reads(middle).total(),
            at_first: first,
            at_end: self.figures_now(),
        })
    }
}
