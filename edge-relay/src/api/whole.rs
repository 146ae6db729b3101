//! An answer in one piece.
//!
//! A client that went away is noticed only when it is written to. So an answer that takes longer than a second begins
//! with white space, one byte a second, which JSON allows. Its status has gone out by then: if the job breaks later, the
//! connection breaks with it, and the client's library asks again.

use client_session::Event;
use futures_util::stream;
use openai_api::{CompletionHead, WholeAnswer, decode_logprobs};
use protocol::{DeltaKind, Failure};
use worker::{Date, Error, Response, Result};

use crate::api::chat::interrupted;
use crate::api::exchange::{Exchange, Happening, QUIET_MS};
use crate::reply;

/// Answers with JSON.
pub(crate) async fn respond(
    exchange: Exchange,
    head: CompletionHead,
    wants_logprobs: bool,
) -> Result<Response> {
    let answer = WholeAnswer {
        logprobs: wants_logprobs.then(Vec::new),
        ..WholeAnswer::default()
    };
    let mut whole = Whole {
        exchange,
        head,
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
    head: CompletionHead,
    answer: WholeAnswer,
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
                    gather(&mut self.answer, kind, &text);
                }
                Some(Happening::Event(Event::Completed {
                    finish_reason,
                    usage,
                    ..
                })) => {
                    return Progress::Finished(self.answer.body(&self.head, finish_reason, usage));
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
