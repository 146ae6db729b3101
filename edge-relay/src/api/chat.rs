//! `POST /v1/chat/completions`, and `POST /v1/embeddings`, which goes the same way.
//!
//! ```text
//! key → announced length → pool has room? → body → request → submit
//!   └─▶ wait for the node's word that the prompt fits ─▶ stream  (headers, SSE)
//!                                                     └▶ whole   (JSON)
//! ```

use std::rc::Rc;

use client_session::Event;
use openai_api::{
    ApiError, ChatCompletionRequest, CompletionHead, CompletionStream, EmbeddingsRequest,
    parse_chat_completion, parse_embeddings,
};
use protocol::{ErrorCode, Failure, JobId, JobRequest};
use worker::{Context, Date, Env, Request, Response, Result, WebSocket};

use crate::api::exchange::{Dial, Exchange, Happening, decline};
use crate::api::whole::Answer;
use crate::api::{account, body, stream, whole};
use crate::config::Access;
use crate::random::random;
use crate::{reply, upgrade};

/// A stream's headers go out after this, although the job still waits. A busy node says within milliseconds whether a
/// waiting prompt fits; from the headers on, comments show that the connection lives and find out when it does not.
const STREAM_HEADERS_MS_MAX: u64 = 2_000;

/// The same for an answer in one piece, which has no way to tell an error once its status has gone out; clients and
/// proxies give up on a connection that says nothing for much longer.
const WHOLE_HEADERS_MS_MAX: u64 = 15_000;

/// What came before the answer itself.
enum Opening {
    /// The prompt fits, or so much time has passed that the headers must go out without that word.
    Answering { model: String },
    /// It will not be answered.
    Refused(Failure),
}

/// A request of either kind.
enum Parsed {
    Chat(ChatCompletionRequest),
    Embeddings(EmbeddingsRequest),
}

fn parse_chat(body: &[u8]) -> std::result::Result<Parsed, ApiError> {
    parse_chat_completion(body).map(Parsed::Chat)
}

fn parse_inputs(body: &[u8]) -> std::result::Result<Parsed, ApiError> {
    parse_embeddings(body).map(Parsed::Embeddings)
}

/// Answers a request for a completion.
pub(crate) async fn completions(
    request: Request,
    env: &Env,
    context: Context,
    access: &Access,
) -> Result<Response> {
    take_in(request, env, context, access, parse_chat).await
}

/// Answers a request for embeddings.
pub(crate) async fn embeddings(
    request: Request,
    env: &Env,
    context: Context,
    access: &Access,
) -> Result<Response> {
    take_in(request, env, context, access, parse_inputs).await
}

async fn take_in(
    mut request: Request,
    env: &Env,
    context: Context,
    access: &Access,
    parse: fn(&[u8]) -> std::result::Result<Parsed, ApiError>,
) -> Result<Response> {
    let (dial, socket) = match admit(&request, env, context, access).await? {
        Ok(admitted) => admitted,
        Err(refusal) => {
            body::drop_body(&mut request).await;
            return Ok(refusal);
        }
    };
    let parsed = match body::read(&mut request).await {
        Ok(read) => read.and_then(|body| parse(&body)),
        Err(error) => {
            decline(&socket);
            return Err(error);
        }
    };
    match parsed {
        Ok(Parsed::Chat(parsed)) => answer(&request, dial, socket, parsed).await,
        Ok(Parsed::Embeddings(parsed)) => embed(&request, dial, socket, parsed).await,
        Err(error) => {
            decline(&socket);
            reply::error(&error)
        }
    }
}

/// All that can be said before the body is read: a socket to the pool, or why there is none.
async fn admit(
    request: &Request,
    env: &Env,
    context: Context,
    access: &Access,
) -> Result<std::result::Result<(Dial, WebSocket), Response>> {
    let account = match account(request, access)? {
        Ok(account) => account,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let bytes = match body::announced_bytes(request) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(reply::error(&error)?)),
    };
    let upgrade = upgrade::to_pool("/client", Some(&account), Some(bytes))?;
    let response = upgrade::pool(env)?.fetch_with_request(upgrade).await?;
    if response.status_code() != 101 {
        return Ok(Err(response)); // The pool has no room, and says so in our shape.
    }
    match response.websocket() {
        Some(socket) => {
            let dial = Dial {
                env: env.clone(),
                account,
                context: Rc::new(context),
            };
            Ok(Ok((dial, socket)))
        }
        None => Ok(Err(reply::internal()?)),
    }
}

async fn answer(
    request: &Request,
    dial: Dial,
    socket: WebSocket,
    parsed: ChatCompletionRequest,
) -> Result<Response> {
    let ChatCompletionRequest {
        model,
        stream,
        include_usage,
        request: chat,
    } = parsed;
    let submitted_at = Date::now().as_millis();
    let wants_logprobs = chat.top_logprobs.is_some();
    let headers_by = submitted_at
        + if stream {
            STREAM_HEADERS_MS_MAX
        } else {
            WHOLE_HEADERS_MS_MAX
        };
    let job = JobId::from_random(random());
    let exchange = Exchange::new(dial, &socket, &request.inner().signal(), job)?;
    match ask(exchange, model, chat.into(), headers_by).await? {
        Err(refusal) => Ok(refusal),
        Ok((exchange, model)) => {
            let head = CompletionHead::new(job, submitted_at / 1000, model);
            if stream {
                let writer = CompletionStream::new(head, include_usage);
                stream::respond(exchange, writer, wants_logprobs)
            } else {
                whole::respond(exchange, Answer::chat(head, wants_logprobs)).await
            }
        }
    }
}

async fn embed(
    request: &Request,
    dial: Dial,
    socket: WebSocket,
    parsed: EmbeddingsRequest,
) -> Result<Response> {
    let EmbeddingsRequest {
        model,
        is_base64,
        request: inputs,
    } = parsed;
    let count = inputs.inputs.len();
    let headers_by = Date::now().as_millis() + WHOLE_HEADERS_MS_MAX;
    let job = JobId::from_random(random());
    let exchange = Exchange::new(dial, &socket, &request.inner().signal(), job)?;
    match ask(exchange, model, inputs.into(), headers_by).await? {
        Err(refusal) => Ok(refusal),
        Ok((exchange, model)) => {
            let answer = Answer::vectors(model, count, is_base64);
            whole::respond(exchange, answer).await
        }
    }
}

/// Submits the job and waits until it is answered, with the model that answers; a refusal is a response already.
async fn ask(
    mut exchange: Exchange,
    model: String,
    asked: JobRequest,
    headers_by: u64,
) -> Result<std::result::Result<(Exchange, String), Response>> {
    exchange.submit(model.clone(), asked);
    Ok(match open(&mut exchange, model, headers_by).await {
        Opening::Refused(failure) => Err(reply::failure(failure)?),
        Opening::Answering { model } => Ok((exchange, model)),
    })
}

/// Waits for the node's word that the prompt fits, until `headers_by`: then there must be a sign of life.
async fn open(exchange: &mut Exchange, asked: String, headers_by: u64) -> Opening {
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
            )) => model = assigned,
            Some(Happening::Event(Event::Failed(failure))) => return Opening::Refused(failure),
            Some(Happening::Quiet | Happening::Event(Event::Reconnecting)) => {}
            Some(Happening::Event(
                Event::Interrupted | Event::Delta { .. } | Event::Completed { .. },
            ))
            | None => {
                return Opening::Refused(interrupted());
            }
        }
        if Date::now().as_millis() >= headers_by {
            return Opening::Answering { model };
        }
    }
}

/// A node wrote something that means nothing.
pub(crate) fn unreadable(error: &dyn std::error::Error) -> Failure {
    Failure::new(ErrorCode::EngineFailed, format!("{error}; ask again")).with_retry_after_ms(1_000)
}

/// The pool's socket ended, or the stream had a hole.
pub(crate) fn interrupted() -> Failure {
    Failure::new(
        ErrorCode::Internal,
        "the connection to the pool ended; ask again",
    )
    .with_retry_after_ms(1_000)
}
