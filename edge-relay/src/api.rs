//! The `OpenAI`-compatible API: keys, models, cross-origin rules. Chat is in [`chat`], its stream in [`exchange`].

mod body;
mod chat;
mod exchange;
mod stream;
mod whole;

use openai_api::{ApiError, LiveModel, model_json, models_json};
use scheduler::ModelAvailability;
use serde::{Deserialize, Serialize};
use worker::{Context, Env, Headers, Method, Request, Response, Result};

use crate::auth::{Claims, Identity};
use crate::config::{self, Access};
use crate::{reply, upgrade};

/// One model's live numbers on their way from the pool to the Worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Live {
    model: String,
    nodes: u32,
    slots: u32,
    slots_free: u32,
    queued: u32,
    context_tokens: Option<u32>,
}

impl From<ModelAvailability> for Live {
    fn from(live: ModelAvailability) -> Self {
        Self {
            model: live.model,
            nodes: live.nodes,
            slots: live.slots,
            slots_free: live.free_slots,
            queued: live.queued,
            context_tokens: Some(live.context_tokens).filter(|tokens| *tokens > 0),
        }
    }
}

/// Everything below `/v1/`.
pub(crate) async fn route(
    request: Request,
    env: &Env,
    context: Context,
    access: &Access,
    path: &str,
) -> Result<Response> {
    match (request.method(), path) {
        (Method::Options, _) => preflight(&request),
        (Method::Post, "chat/completions") => {
            chat::completions(request, env, context, access).await
        }
        (Method::Post, "embeddings") => chat::embeddings(request, env, context, access).await,
        (_, "chat/completions" | "embeddings") => reply::method_not_allowed("POST"),
        (Method::Get | Method::Head, "models") => models(&request, env, access, None).await,
        (Method::Get | Method::Head, path) if path.starts_with("models/") => {
            let id = path.trim_start_matches("models/");
            models(&request, env, access, Some(id)).await
        }
        (_, path) if path == "models" || path.starts_with("models/") => {
            reply::method_not_allowed("GET")
        }
        (method, path) => reply::no_such_route(&method, &format!("/v1/{path}")),
    }
}

/// The account of an API request, or the answer that refuses it.
pub(crate) fn account(
    request: &Request,
    access: &Access,
) -> Result<std::result::Result<String, Response>> {
    Ok(
        match Claims::of(&request.url()?, request.headers()).client(access) {
            Identity::Known(account) => Ok(account),
            Identity::Anonymous => Err(reply::error(&ApiError::unauthorized(false))?),
            Identity::Refused(reason) => Err(reply::unauthorized(reason)?),
        },
    )
}

/// `GET /v1/models`, or one of them.
async fn models(
    request: &Request,
    env: &Env,
    access: &Access,
    id: Option<&str>,
) -> Result<Response> {
    if let Err(refusal) = account(request, access)? {
        return Ok(refusal);
    }
    let catalog = match config::catalog(env) {
        Ok(catalog) => catalog,
        Err(reason) => return reply::misconfigured(&reason),
    };
    let live: Vec<Live> = upgrade::pool(env)?
        .fetch_with_request(Request::new("https://pool/models", Method::Get)?)
        .await?
        .json()
        .await?;
    let live = |model: &str| {
        let found = live.iter().find(|live| live.model == model);
        found.map_or_else(LiveModel::default, |live| LiveModel {
            nodes: live.nodes,
            slots: live.slots,
            slots_free: live.slots_free,
            queued: live.queued,
            context_tokens: live.context_tokens,
        })
    };
    // The catalog has no dates, and a time that moves would look like news.
    let created = 0;
    let body = match id {
        None => Some(models_json(&catalog, created, live)),
        Some(id) => model_json(&catalog, id, created, live),
    };
    match (body, id) {
        (Some(body), _) => {
            let mut response = Response::ok(body)?;
            response
                .headers_mut()
                .set("Content-Type", "application/json")?;
            Ok(response)
        }
        (None, id) => reply::error(&ApiError::model_not_found(id.unwrap_or_default())),
    }
}

/// Any page may call the API with a key; without one, `auth` lets in the relay's own page only.
pub(crate) fn with_cors(response: Result<Response>) -> Result<Response> {
    let response = response?;
    // What came from the pool has headers that cannot be changed.
    let headers = Headers::new();
    for (name, value) in response.headers().entries() {
        headers.append(&name, &value)?;
    }
    headers.set("Access-Control-Allow-Origin", "*")?;
    headers.set("Access-Control-Expose-Headers", "Retry-After")?;
    headers.set("X-Content-Type-Options", "nosniff")?;
    Ok(response.with_headers(headers))
}

/// The browser asks first what it may send.
fn preflight(request: &Request) -> Result<Response> {
    let wanted = request.headers().get("Access-Control-Request-Headers")?;
    let headers = Headers::new();
    headers.set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")?;
    // A star does not cover Authorization, so what was asked for is named back.
    headers.set(
        "Access-Control-Allow-Headers",
        wanted.as_deref().unwrap_or("Authorization, Content-Type"),
    )?;
    headers.set("Access-Control-Max-Age", "86400")?;
    Ok(Response::empty()?.with_status(204).with_headers(headers))
}
