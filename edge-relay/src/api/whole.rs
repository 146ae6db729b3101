//! An answer in one piece.
//!
//! A client that went away is noticed only when it is written to. So an answer that takes longer than a second begins
//! with white space, one byte a second, which JSON allows. Its status has gone out by then: if the job breaks later, the
//! connection breaks with it, and the client's library asks again.

use client_session::Event;
use futures_util::stream;
use openai_api::{CompletionHead, Embeddings, WholeAnswer, decode_logprobs};
use protocol::{DeltaKind, ErrorCode, Failure, FinishReason, Usage};
use worker::{Date, Error, Response, Result};

use crate::api::chat::{interrupted, unreadable};
use crate::api::exchange::{Exchange, Happening, QUIET_MS};
use crate::reply;

/// What is gathered.
pub(crate) enum Answer {
    Chat {
        head: CompletionHead,
        answer: Box<WholeAnswer>,
    },
    Vectors {
        model: String,
        count: usize,
        is_base64: bool,
        vectors: Embeddings,
    },
}

impl Answer {
    /// A completion.
    pub(crate) fn chat(head: CompletionHead, wants_logprobs: bool) -> Self {
        let mut answer = Box::<WholeAnswer>::default();
        answer.logprobs = wants_logprobs.then(Vec::new);
        Self::Chat { head, answer }
    }

    /// `count` vectors.
    pub(crate) fn vectors(model: String, count: usize, is_base64: bool) -> Self {
        Self::Vectors {
            model,
            count,
            is_base64,
            vectors: Embeddings::default(),
        }
    }

    fn push(&mut self, kind: DeltaKind, text: &str) -> std::result::Result<(), Failure> {
        match (self, kind) {
            (Self::Chat { answer, .. }, kind) => gather(answer, kind, text),
            (Self::Vectors { vectors, .. }, DeltaKind::Text) => {
                vectors.push(text);
                Ok(())
            }
            (
                Self::Vectors { .. },
                DeltaKind::Reasoning
                | DeltaKind::ToolCall
                | DeltaKind::Logprobs
                | DeltaKind::Unknown(_),
            ) => Ok(()),
        }
    }

    fn body(
        &self,
        finish_reason: FinishReason,
        usage: Usage,
    ) -> std::result::Result<String, Failure> {
        match self {
            Self::Chat { head, answer } => Ok(answer.body(head, finish_reason, usage)),
            Self::Vectors {
                model,
                count,
                is_base64,
                vectors,
            } => vectors
                .body(model, *count, *is_base64, usage)
                .ok_or_else(|| {
                    Failure::new(
                        ErrorCode::EngineFailed,
                        "a node sent vectors that cannot be read; ask again",
                    )
                }),
        }
    }
}

/// Answers with JSON.
pub(crate) async fn respond(exchange: Exchange, answer: Answer) -> Result<Response> {
    let mut whole = Whole {
        exchange,
        answer,
        is_over: false,
    };
    let body = match whole.advance().await {
        Progress::Finished(body) => return json(Response::ok(body)?),
        Progress::Failed(failure) => return reply::failure(failure),
        Progress::Unfinished => stream::unfold(whole, |mut whole| async move {
            let chunk = whole.next_chunk().await?;
            Some((chunk.map(String::into_bytes), whole))
        }),
    };
    json(Response::from_stream(Box::pin(body))?)
}

fn json(mut response: Response) -> Result<Response> {
    response
        .headers_mut()
        .set("Content-Type", "application/json")?;
    Ok(response)
}

/// An answer that is being gathered.
struct Whole {
    exchange: Exchange,
    answer: Answer,
    is_over: bool,
}

/// How far it came within a second.
enum Progress {
    Finished(String),
    Failed(Failure),
    Unfinished,
}

impl Whole {
    /// The whole answer, or a sign of life; `None` after the answer.
    async fn next_chunk(&mut self) -> Option<Result<String>> {
        if self.is_over {
            return None;
        }
        match self.advance().await {
            Progress::Unfinished => Some(Ok(" ".to_owned())),
            Progress::Finished(body) => {
                self.is_over = true;
                Some(Ok(body))
            }
            Progress::Failed(failure) => {
                self.is_over = true;
                Some(Err(Error::RustError(failure.message)))
            }
        }
    }

    /// Gathers for a second at most.
    async fn advance(&mut self) -> Progress {
        let until = Date::now().as_millis() + QUIET_MS;
        while Date::now().as_millis() < until {
            match self.exchange.next().await {
                Some(Happening::Event(Event::Delta { kind, text, .. })) => {
                    if let Err(failure) = self.answer.push(kind, &text) {
                        return Progress::Failed(failure);
                    }
                }
                Some(Happening::Event(Event::Completed {
                    finish_reason,
                    usage,
                    ..
                })) => {
                    return match self.answer.body(finish_reason, usage) {
                        Ok(body) => Progress::Finished(body),
                        Err(failure) => Progress::Failed(failure),
                    };
                }
                Some(Happening::Event(Event::Failed(failure))) => return Progress::Failed(failure),
                Some(Happening::Event(Event::Interrupted)) | None => {
                    return Progress::Failed(interrupted());
                }
                Some(
                    Happening::Quiet
                    | Happening::Event(
                        Event::Queued { .. }
                        | Event::Assigned { .. }
                        | Event::Started { .. }
                        | Event::Reconnecting,
                    ),
                ) => {}
            }
        }
        Progress::Unfinished
    }
}

fn gather(
    answer: &mut WholeAnswer,
    kind: DeltaKind,
    text: &str,
) -> std::result::Result<(), Failure> {
    match kind {
        DeltaKind::ToolCall => {
            let pushed = answer.push_tool_calls(text);
            return pushed.map_err(|error| unreadable(&error));
        }
        DeltaKind::Text => answer.text.push_str(text),
        DeltaKind::Reasoning => answer.reasoning.push_str(text),
        DeltaKind::Logprobs => {
            if let (Some(all), Some(more)) =
                (&mut answer.logprobs, decode_logprobs(text.as_bytes()))
            {
                all.extend(more);
            }
        }
        DeltaKind::Unknown(_) => {}
    }
    Ok(())
}
