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
async fn fetch(request: Request, env: Env, _context: Context) -> Result<Response> {
    route(request, env).await.or_else(|error| {
        // The text of a platform error names bindings and states, never content.
        worker::console_error!("request failed: {error}");
        reply::internal()
    })
}

async fn route(request: Request, env: Env) -> Result<Response> {
    let path = request.path();
    if path == "/health" {
        return Response::from_json(
            &serde_json::json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }),
        );
    }
    let access = match Access::from_env(&env) {
        Ok(access) => access,
        Err(reason) => return reply::misconfigured(&reason),
    };
    match (request.method(), path.as_str()) {
        (Method::Get, "/client") => upgrade::client(&request, &env, &access).await,
        (Method::Get, "/node") => upgrade::node(&request, &env, &access).await,
        (Method::Options, path) if path.starts_with("/v1/") => api::preflight(&request),
        (Method::Get, "/v1/models") => {
            api::with_cors(api::models(&request, &env, &access, None).await)
        }
        (Method::Get, path) if path.starts_with("/v1/models/") => {
            let id = path.trim_start_matches("/v1/models/").to_owned();
            api::with_cors(api::models(&request, &env, &access, Some(&id)).await)
        }
        (Method::Post, "/v1/chat/completions") => {
            api::with_cors(api::chat::completions(request, &env, &access).await)
        }
        (method, path) if path.starts_with("/v1/") => {
            api::with_cors(reply::no_such_route(&method, path))
        }
        (Method::Get | Method::Head, _) => pages::serve(request, &env).await,
        (method, path) => reply::no_such_route(&method, path),
    }
}
