//! `POST /v1/chat/completions`.
//!
//! ```text
//! key → announced length → pool has room? → body → request → submit
//!   └─▶ wait for the node's word that the prompt fits ─▶ stream  (headers, SSE)
//!                                                     └▶ whole   (JSON)
//! ```

use client_session::Event;
use futures_util::stream;
use openai_api::{
    ApiError, ChatCompletionRequest, CompletionHead, CompletionStream, SSE_CONTENT_TYPE, SSE_DONE,
    TokenLogprob, WholeAnswer, decode_logprobs, parse_chat_completion, sse_comment, sse_error,
};
use protocol::{DeltaKind, ErrorCode, Failure, JobId};
use worker::{Date, Env, Request, Response, Result, WebSocket};

use crate::api::exchange::{Exchange, Happening};
use crate::api::{account, body};
use crate::config::Access;
use crate::random::random;
use crate::{reply, upgrade};

/// What came before the answer itself.
enum Opening {
    /// The prompt fits, or so much time has passed that the headers must go out without that word.
    Answering { model: String },
    /// It will not be answered.
    Refused(Failure),
}

/// Answers one request.
pub(crate) async fn completions(
    mut request: Request,
    env: &Env,
    access: &Access,
) -> Result<Response> {
    let account = match account(&request, access)? {
        Ok(account) => account,
        Err(refusal) => return Ok(refusal),
    };
    let bytes = match body::announced_bytes(&request) {
        Ok(bytes) => bytes,
        Err(error) => return reply::error(&error),
    };
    let upgrade = upgrade::to_pool("/client", Some(&account), Some(bytes))?;
    let response = upgrade::pool(env)?.fetch_with_request(upgrade).await?;
    if response.status_code() != 101 {
        return Ok(response); // The pool has no room, and says so in our shape.
    }
    let Some(socket) = response.websocket() else {
        return reply::internal();
    };
    let parsed = match body::read(&mut request).await {
        Ok(read) => read.and_then(|body| parse_chat_completion(&body)),
        Err(error) => {
            hang_up(&socket);
            return Err(error);
        }
    };
    match parsed {
        Ok(parsed) => answer(&request, socket, parsed).await,
        Err(error) => {
            hang_up(&socket);
            reply::error(&error)
        }
    }
}

async fn answer(
    request: &Request,
    socket: WebSocket,
    parsed: ChatCompletionRequest,
) -> Result<Response> {
    let ChatCompletionRequest {
        model,
        stream,
        include_usage,
        request: chat,
    } = parsed;
    let wants_logprobs = chat.top_logprobs.is_some();
    let job = JobId::from_random(random());
    let mut exchange = Exchange::new(socket, request.inner().signal(), job)?;
    exchange.submit(model.clone(), chat);
    let created = Date::now().as_millis() / 1000;
    match open(&mut exchange, model, stream).await {
        Opening::Refused(failure) => reply::failure(failure),
        Opening::Answering { model } => {
            let head = CompletionHead::new(job, created, model);
            if stream {
                streamed(exchange, CompletionStream::new(head, include_usage))
            } else {
                whole(exchange, &head, wants_logprobs).await
            }
        }
    }
}

/// Waits for the node's word that the prompt fits. A stream that waits for longer must show a sign of life; a whole
/// answer's client has none to see.
async fn open(exchange: &mut Exchange, asked: String, stream: bool) -> Opening {
    let mut model = asked;
    loop {
        match exchange.next().await {
            Some(Happening::Event(Event::Started { .. })) => return Opening::Answering { model },
            Some(Happening::Event(
                Event::Assigned {
                    model: assigned, ..
                }
                | Event::Queued {
                    model: assigned, ..
                },
            )) => {
                model = assigned;
            }
            Some(Happening::Event(Event::Failed(failure))) => return Opening::Refused(failure),
            Some(Happening::Quiet) if stream => return Opening::Answering { model },
            Some(Happening::Quiet) => {}
            Some(Happening::Event(
                Event::Interrupted | Event::Delta { .. } | Event::Completed { .. },
            ))
            | None => {
                return Opening::Refused(interrupted());
            }
        }
    }
}

async fn whole(
    mut exchange: Exchange,
    head: &CompletionHead,
    wants_logprobs: bool,
) -> Result<Response> {
    let mut answer = WholeAnswer {
        logprobs: wants_logprobs.then(Vec::new),
        ..WholeAnswer::default()
    };
    loop {
        match exchange.next().await {
            Some(Happening::Event(Event::Delta { kind, text, .. })) => {
                gather(&mut answer, kind, &text);
            }
            Some(Happening::Event(Event::Completed {
                finish_reason,
                usage,
                ..
            })) => {
                let mut response = Response::ok(answer.body(head, finish_reason, usage))?;
                response
                    .headers_mut()
                    .set("Content-Type", "application/json")?;
                return Ok(response);
            }
            Some(Happening::Event(Event::Failed(failure))) => return reply::failure(failure),
            Some(Happening::Event(Event::Interrupted)) | None => {
                return reply::failure(interrupted());
            }
            Some(
                Happening::Quiet
                | Happening::Event(
                    Event::Queued { .. } | Event::Assigned { .. } | Event::Started { .. },
                ),
            ) => {}
        }
    }
}

fn gather(answer: &mut WholeAnswer, kind: DeltaKind, text: &str) {
    match kind {
        DeltaKind::Text => answer.text.push_str(text),
        DeltaKind::Reasoning => answer.reasoning.push_str(text),
        DeltaKind::Logprobs => {
            if let (Some(all), Some(more)) =
                (&mut answer.logprobs, decode_logprobs(text.as_bytes()))
            {
                all.extend(more);
            }
        }
        DeltaKind::ToolCall | DeltaKind::Unknown(_) => {}
    }
}

/// A stream that is pulled: nothing is read from the pool faster than the HTTP client takes it, and dropping it (the
/// client went away) drops the exchange, which cancels the job.
fn streamed(exchange: Exchange, writer: CompletionStream) -> Result<Response> {
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
        while self.pending.is_empty() && !self.over {
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

fn interrupted() -> Failure {
    Failure::new(
        ErrorCode::Internal,
        "the connection to the pool ended; ask again",
    )
    .with_retry_after_ms(1_000)
}

/// A socket that will not be used: it has to be accepted before it can be closed.
fn hang_up(socket: &WebSocket) {
    drop(socket.accept());
    drop(socket.close(Some(1000), Some("")));
}
