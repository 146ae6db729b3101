//! A streamed answer: server-sent events.

use client_session::Event;
use futures_util::stream;
use openai_api::{
    ApiError, CompletionStream, SSE_CONTENT_TYPE, SSE_DONE, TokenLogprob, decode_logprobs,
    sse_comment, sse_error,
};
use protocol::{DeltaKind, Failure};
use worker::{Response, Result};

use crate::api::chat::interrupted;
use crate::api::exchange::{Exchange, Happening};

/// A stream that is pulled: nothing is read from the pool faster than the HTTP client takes it, and dropping it (the
/// client went away) drops the exchange, which cancels the job.
pub(crate) fn respond(exchange: Exchange, writer: CompletionStream) -> Result<Response> {
    let first = writer.role();
    let sse = Sse {
        exchange,
        writer,
        held: None,
        pending: first,
        over: false,
    };
    let chunks = stream::unfold(sse, |mut sse| async move {
        let chunk = sse.next_chunk().await?;
        Some((Ok::<_, worker::Error>(chunk.into_bytes()), sse))
    });
    let mut response = Response::from_stream(Box::pin(chunks))?;
    let headers = response.headers_mut();
    headers.set("Content-Type", SSE_CONTENT_TYPE)?;
    headers.set("Cache-Control", "no-cache, no-transform")?;
    // nginx and its like would gather tokens into large blocks.
    headers.set("X-Accel-Buffering", "no")?;
    Ok(response)
}

/// Turns what happens to a job into SSE text.
struct Sse {
    exchange: Exchange,
    writer: CompletionStream,
    /// Text whose log-probabilities may stand in the entry after it.
    held: Option<String>,
    /// Written, not yet given to the client.
    pending: String,
    over: bool,
}

impl Sse {
    /// The next piece, holding all that has come by now; `None` at the end.
    async fn next_chunk(&mut self) -> Option<String> {
        while self.pending.is_empty() && self.held.is_none() && !self.over {
            match self.exchange.next().await {
                Some(Happening::Event(event)) => self.write(event),
                Some(Happening::Quiet) => self.pending.push_str(&sse_comment("waiting")),
                None => self.over = true,
            }
            while let Some(event) = self.exchange.next_ready() {
                self.write(event);
            }
        }
        self.release(None);
        let chunk = std::mem::take(&mut self.pending);
        (!chunk.is_empty()).then_some(chunk)
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
                kind: DeltaKind::ToolCall | DeltaKind::Unknown(_),
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
