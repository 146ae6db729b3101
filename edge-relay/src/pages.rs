//! Static pages, with a policy that lets them load nothing from anywhere else.

use worker::{Env, Headers, Request, RequestInit, Response, Result};

/// Model output is rendered on these pages: no inline script or style, no foreign image, frame or form.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(&str, &str); 6] = [
    ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    (
        "Permissions-Policy",
        "camera=(), geolocation=(), microphone=()",
    ),
];

/// Serves a file of the pages.
pub(crate) async fn serve(request: Request, env: &Env) -> Result<Response> {
    let mut url = request.url()?;
    let path = match url.path() {
        // workerd's disk service knows files only; Cloudflare's assets know both.
        "/" => "/index.html".to_owned(),
        path => path.to_owned(),
    };
    url.set_path(&path);
    url.set_query(None);
    let found = fetch(env, &request, url.as_str()).await?;
    let is_served = matches!(found.status_code(), 200 | 304);
    // A disk service has no notion of types beyond a few; the page's modules must be scripts and wasm.
    let kind = content_type(&path)
        .map(ToOwned::to_owned)
        .or(found.headers().get("Content-Type")?);
    let validators =
        ["ETag", "Last-Modified"].map(|name| (name, found.headers().get(name).ok().flatten()));
    let response = if is_served {
        found
    } else {
        Response::ok("Not found. The chat page is at /.\n")?.with_status(404)
    };
    let headers = Headers::new();
    for (name, value) in HEADERS {
        headers.set(name, value)?;
    }
    if is_served {
        headers.set(
            "Content-Type",
            kind.as_deref().unwrap_or("application/octet-stream"),
        )?;
    } else {
        headers.set("Content-Type", "text/plain; charset=utf-8")?;
    }
    // Files change with each deploy under the same name.
    headers.set("Cache-Control", "no-cache")?;
    for (name, value) in validators {
        if let Some(value) = value.filter(|_| is_served) {
            headers.set(name, &value)?;
        }
    }
    Ok(response.with_headers(headers))
}

/// Asks for the file, or whether the browser's copy is still right.
async fn fetch(env: &Env, request: &Request, url: &str) -> Result<Response> {
    let headers = Headers::new();
    for name in ["If-None-Match", "If-Modified-Since"] {
        if let Some(value) = request.headers().get(name)? {
            headers.set(name, &value)?;
        }
    }
    let mut init = RequestInit::new();
    init.with_headers(headers);
    env.assets("ASSETS")?.fetch(url, Some(init)).await
}

fn content_type(path: &str) -> Option<&'static str> {
    let (_, extension) = path.rsplit_once('.')?;
    Some(match extension {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "json" | "webmanifest" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        "woff2" => "font/woff2",
        _ => return None,
    })
}
