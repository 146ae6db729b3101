//! A streamed answer: server-sent events.
//!
//! ```text
//! pool's socket ──▶ on_message ──▶ session ──▶ SSE text ──▶ controller.enqueue      in one go, where the reader waits
//!                      └─▶ queue, where it does not ──▶ pull takes all of it
//! ```
//! A token takes no promise and no timer of ours: its socket's event is turned into text and given to the stream that
//! the reader waits at. Nothing is taken from the pool that the reader has not asked for, and cancelling the stream (the
//! HTTP client went away) drops the exchange, which cancels the job. So does the request's abort, where it comes first.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use client_session::{Event, Millis};
use futures_util::future::{AbortHandle, abortable};
use openai_api::{
    ApiError, CompletionStream, SSE_CONTENT_TYPE, SSE_DONE, TokenLogprob, decode_logprobs,
    sse_comment, sse_error,
};
use protocol::{DeltaKind, Failure};
use wasm_bindgen::closure::{Closure, IntoWasmClosure, WasmClosure};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::spawn_local;
use web_sys::{ReadableStream, ReadableStreamDefaultController};
use worker::{Delay, Response, ResponseBuilder, Result};

use crate::api::chat::{interrupted, unreadable};
use crate::api::exchange::{Exchange, QUIET_MS, now};

/// Answers with a stream.
pub(crate) fn respond(
    exchange: Exchange,
    writer: CompletionStream,
    wants_logprobs: bool,
) -> Result<Response> {
    let pending = writer.role();
    let pipe = Rc::new(Pipe {
        sse: RefCell::new(Some(Sse {
            exchange,
            writer,
            wants_logprobs,
            held: None,
            pending,
            over: false,
        })),
        controller: RefCell::default(),
        is_wanted: Cell::new(false),
        is_pumping: Cell::new(false),
        wrote_at: Cell::new(now()),
        timer: RefCell::default(),
        timer_at: Cell::new(None),
    });
    ResponseBuilder::new()
        .with_header("Content-Type", SSE_CONTENT_TYPE)?
        .with_header("Cache-Control", "no-cache, no-transform")?
        // nginx and its like would gather tokens into large blocks.
        .with_header("X-Accel-Buffering", "no")
        .and_then(|response| Ok(response.stream(pipe.into_stream()?)))
}

/// From the exchange to the HTTP client's stream. The stream's functions own it.
struct Pipe {
    /// Absent once the answer is over or nobody wants it.
    sse: RefCell<Option<Sse>>,
    controller: RefCell<Option<ReadableStreamDefaultController>>,
    /// Whether the reader waits.
    is_wanted: Cell<bool>,
    /// Giving the reader a chunk makes it ask for the next from within the call.
    is_pumping: Cell<bool>,
    wrote_at: Cell<Millis>,
    timer: RefCell<Option<AbortHandle>>,
    timer_at: Cell<Option<Millis>>,
}

impl Pipe {
    fn into_stream(self: Rc<Self>) -> Result<ReadableStream> {
        let listening = Rc::downgrade(&self);
        if let Some(sse) = &*self.sse.borrow() {
            sse.exchange.listen(move || {
                if let Some(pipe) = listening.upgrade() {
                    pipe.pump();
                }
            });
        }
        let source = js_sys::Object::new();
        let pipe = Rc::clone(&self);
        let pull = move |controller: ReadableStreamDefaultController| {
            if pipe.sse.borrow().is_none() {
                drop(controller.close());
                return;
            }
            pipe.controller.replace(Some(controller));
            pipe.is_wanted.set(true);
            pipe.pump();
        };
        set::<dyn Fn(ReadableStreamDefaultController)>(&source, "pull", pull)?;
        set::<dyn Fn(JsValue)>(&source, "cancel", move |_| self.stop())?;
        Ok(ReadableStream::new_with_underlying_source(&source)?)
    }

    /// Lets go of everything. The controller keeps the stream, and the stream its functions, which own this.
    fn stop(&self) {
        drop(self.controller.take());
        drop(self.sse.take());
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
    }

    /// Whether the request was aborted. Its context goes, and nothing else may happen in it: not even `cancel`.
    fn is_aborted(&self) -> bool {
        let sse = self.sse.borrow();
        sse.as_ref().is_some_and(|sse| sse.exchange.is_over())
    }

    /// Gives the reader what there is, as often as it asks.
    fn pump(self: &Rc<Self>) {
        if self.is_aborted() {
            self.stop();
            return;
        }
        if self.is_pumping.replace(true) {
            return;
        }
        while self.is_wanted.get() {
            let Some((chunk, is_over)) = self.sse.borrow_mut().as_mut().map(Sse::chunk) else {
                break;
            };
            let is_empty = chunk.is_empty();
            if !is_empty {
                self.is_wanted.set(false);
                self.wrote_at.set(now());
                self.enqueue(&chunk);
            }
            if is_over {
                let controller = self.controller.take();
                self.stop();
                if let Some(controller) = controller {
                    drop(controller.close());
                }
            }
            if is_empty {
                break;
            }
        }
        self.is_pumping.set(false);
        self.arm();
    }

    fn enqueue(&self, chunk: &str) {
        let controller = self.controller.borrow().clone();
        if let Some(controller) = controller {
            // It fails only on a stream that was cancelled, and `cancel` has been told.
            let bytes = js_sys::Uint8Array::from(chunk.as_bytes());
            drop(controller.enqueue_with_chunk(&bytes));
        }
    }

    /// Sets what goes on without a message: a new socket, the session's time, a sign of life.
    fn arm(self: &Rc<Self>) {
        let (dialing, session_due) = match &mut *self.sse.borrow_mut() {
            Some(sse) => (sse.exchange.take_dialing(), sse.exchange.due()),
            None => return,
        };
        if let Some(dialing) = dialing {
            let pipe = Rc::downgrade(self);
            spawn_local(async move {
                let dialled = dialing.await;
                let Some(pipe) = pipe.upgrade() else {
                    return dialled.decline();
                };
                match &mut *pipe.sse.borrow_mut() {
                    Some(sse) => sse.exchange.dialled(dialled),
                    None => return dialled.decline(),
                }
                pipe.pump();
            });
        }
        let due = (self.wrote_at.get() + QUIET_MS).min(session_due.unwrap_or(Millis::MAX));
        if self.timer_at.get().is_none_or(|at| at > due) {
            self.set_timer(due);
        }
    }

    fn set_timer(self: &Rc<Self>, due: Millis) {
        self.timer_at.set(Some(due));
        let pipe = Rc::downgrade(self);
        let wait = Duration::from_millis(due.saturating_sub(now()).max(1));
        let (waiting, timer) = abortable(Delay::from(wait));
        if let Some(earlier) = self.timer.replace(Some(timer)) {
            earlier.abort();
        }
        spawn_local(async move {
            let is_due = waiting.await.is_ok();
            if is_due
                && let Some(pipe) = pipe.upgrade()
                && pipe.timer_at.get() == Some(due)
            {
                pipe.timer_at.set(None);
                pipe.tick();
            }
        });
    }

    fn tick(self: &Rc<Self>) {
        let now = now();
        let is_quiet = now >= self.wrote_at.get() + QUIET_MS;
        if let Some(sse) = &mut *self.sse.borrow_mut() {
            sse.exchange.tick();
            if is_quiet && self.is_wanted.get() {
                sse.pending.push_str(&sse_comment("waiting"));
            }
        }
        if is_quiet {
            // A reader that does not read needs no sign of life before it does.
            self.wrote_at.set(now);
        }
        self.pump();
    }
}

/// Makes a Rust function a property of a JavaScript object; it lives as long as the object.
fn set<F: WasmClosure + ?Sized + 'static>(
    object: &js_sys::Object,
    name: &str,
    function: impl IntoWasmClosure<F> + 'static,
) -> Result<()> {
    let function = Closure::<F>::new(function).into_js_value();
    js_sys::Reflect::set(object, &name.into(), &function.unchecked_into())?;
    Ok(())
}

/// Turns what happens to a job into SSE text.
struct Sse {
    exchange: Exchange,
    writer: CompletionStream,
    wants_logprobs: bool,
    /// Text whose log-probabilities may stand in the entry after it: in another frame, where a resume cut between them.
    held: Option<String>,
    /// Written, not yet given to the client.
    pending: String,
    over: bool,
}

impl Sse {
    /// All that has come by now, and whether that is the end.
    fn chunk(&mut self) -> (String, bool) {
        while !self.over {
            match self.exchange.next_ready() {
                Some(event) => self.write(event),
                None => break,
            }
        }
        self.over |= !self.exchange.is_busy();
        if self.over || !self.wants_logprobs {
            self.release(None);
        }
        (std::mem::take(&mut self.pending), self.over)
    }

    fn write(&mut self, event: Event) {
        match event {
            Event::Delta {
                kind: DeltaKind::Text,
                text,
                ..
            } => {
                self.release(None);
                self.held = Some(text);
            }
            Event::Delta {
                kind: DeltaKind::Logprobs,
                text,
                ..
            } => {
                let logprobs = decode_logprobs(text.as_bytes());
                self.release(logprobs.as_deref());
            }
            Event::Delta {
                kind: DeltaKind::Reasoning,
                text,
                ..
            } => {
                self.release(None);
                self.pending.push_str(&self.writer.reasoning(&text));
            }
            Event::Delta {
                kind: DeltaKind::ToolCall,
                text,
                ..
            } => {
                self.release(None);
                match self.writer.tool_calls(&text) {
                    Ok(chunks) => self.pending.push_str(&chunks),
                    Err(error) => self.fail(unreadable(&error)),
                }
            }
            Event::Completed {
                finish_reason,
                usage,
                ..
            } => {
                self.release(None);
                self.pending.push_str(&self.writer.finish(finish_reason));
                self.pending.push_str(&self.writer.usage(usage));
                self.pending.push_str(SSE_DONE);
                self.over = true;
            }
            Event::Failed(failure) => self.fail(failure),
            Event::Interrupted => self.fail(interrupted()),
            Event::Queued { position, .. } => {
                self.pending
                    .push_str(&sse_comment(&format!("queued, place {position}")));
            }
            Event::Reconnecting => self.pending.push_str(&sse_comment("reconnecting")),
            Event::Assigned { .. }
            | Event::Started { .. }
            | Event::Delta {
                kind: DeltaKind::Unknown(_),
                ..
            } => {}
        }
    }

    /// Writes the text that was held, with its log-probabilities where they came.
    fn release(&mut self, logprobs: Option<&[TokenLogprob]>) {
        if let Some(text) = self.held.take() {
            self.pending.push_str(&self.writer.text(&text, logprobs));
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.release(None);
        self.pending.push_str(&sse_error(&ApiError::from(failure)));
        self.over = true;
    }
}
