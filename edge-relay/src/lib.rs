//! The relay: a Cloudflare Worker with the Durable Object `Pool`. Shell only: who may come in, which route, which pool;
//! every decision about jobs is `scheduler`'s.
//!
//! ```text
//! /                      pages          static files with a strict policy
//! /health                here
//! /client, /node         WebSocket  ──▶ Pool
//! /v1/models             api        ──▶ Pool (live numbers)
//! /v1/chat/completions   api        ──▶ Pool, as an ordinary client
//! ```

mod api;
mod auth;
mod config;
mod pages;
#[expect(
    missing_docs,
    reason = "`durable_object` writes public items without a word about them"
)]
mod pool;
mod random;
mod reply;
mod upgrade;

use worker::{Context, Env, Method, Request, Response, Result, event};

pub use pool::Pool;

use crate::config::Access;

/// Runs once per Worker instance.
#[event(start)]
fn start() {
    console_error_panic_hook::set_once();
}

/// Every HTTP request begins here.
#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> Result<Response> {
    let is_api = request.path().starts_with("/v1/");
    route(request, env, context).await.or_else(|error| {
        // The text of a platform error names bindings and states, never content.
        worker::console_error!("request failed: {error}");
        let response = reply::internal();
        if is_api {
            api::with_cors(response)
        } else {
            response
        }
    })
}

async fn route(request: Request, env: Env, context: Context) -> Result<Response> {
    let path = request.path();
    let access = match Access::from_env(&env) {
        Ok(access) => access,
        Err(reason) => return reply::misconfigured(&reason),
    };
    if let Some(path) = path.strip_prefix("/v1/") {
        return api::with_cors(api::route(request, &env, context, &access, path).await);
    }
    match (request.method(), path.as_str()) {
        (Method::Get | Method::Head, "/health") => health(&env),
        (Method::Get, "/client") => upgrade::client(&request, &env, &access).await,
        (Method::Get, "/node") => upgrade::node(&request, &env, &access).await,
        #[cfg(feature = "fault-injection")]
        (Method::Post, path) if path.starts_with("/fault/") => fault(path, &env).await,
        (Method::Get | Method::Head, _) => pages::serve(request, &env).await,
        (_, _) => reply::method_not_allowed("GET"),
    }
}

/// Whether this relay could serve: its bindings and its catalog make sense.
fn health(env: &Env) -> Result<Response> {
    match config::catalog(env) {
        Ok(_) => Response::from_json(
            &serde_json::json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }),
        ),
        Err(reason) => reply::misconfigured(&reason),
    }
}

/// What a test asks of the pool. The answer to an abort does not wait for the end: sockets tell of that.
#[cfg(feature = "fault-injection")]
async fn fault(path: &str, env: &Env) -> Result<Response> {
    let request = Request::new(&format!("https://pool{path}"), Method::Post)?;
    let answer = upgrade::pool(env)?.fetch_with_request(request).await;
    // A pool that is aborted may be gone before it has answered.
    answer.or_else(|_| Response::empty())
}
