//! `/healthz` and `/metrics` over HTTP, on a thread of their own: they answer while the model loads, too.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;

use super::board::{Board, State};

/// Connections at once: a scraper, a health check and a curious person. More wait.
const CONNECTIONS_MAX: usize = 16;

/// A request that takes longer to arrive is dropped, so that connections are not held for ever.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);

/// Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// For programs that ask for it.
const JSON_TYPE: &str = "application/json";

/// Serves the board until the process ends. Says where.
pub fn start(address: SocketAddr, board: Board) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(move || runtime.block_on(serve(listener, board)))?;
    Ok(address)
}

async fn serve(listener: TcpListener, board: Board) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, "no metrics");
            return;
        }
    };
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file handles, mostly: some come back with time.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let board = board.clone();
        tokio::spawn(async move {
            let answer =
                |request| std::future::ready(Ok::<_, Infallible>(respond(&request, &board)));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_TIME_MAX)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service_fn(answer));
            // A peer that goes away in the middle is no matter of ours.
            drop(connection.await);
            drop(place);
        });
    }
}

fn respond(request: &Request<Incoming>, board: &Board) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/healthz") => health(request, board),
        (&Method::GET | &Method::HEAD, "/metrics") => {
            reply(StatusCode::OK, METRICS_TYPE, board.metrics())
        }
        (_, "/healthz" | "/metrics") => {
            let mut response = reply(
                StatusCode::METHOD_NOT_ALLOWED,
                "text/plain",
                "GET only\n".to_owned(),
            );
            response
                .headers_mut()
                .insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
            response
        }
        _ => reply(
            StatusCode::NOT_FOUND,
            "text/plain",
            "here are /healthz and /metrics\n".to_owned(),
        ),
    }
}

/// Healthy is who can be given work.
fn health(request: &Request<Incoming>, board: &Board) -> Response<Full<Bytes>> {
    let status = match board.state() {
        State::Ready => StatusCode::OK,
        State::Fetching
        | State::Loading
        | State::Connecting
        | State::Draining
        | State::Broken
        | State::Waiting => StatusCode::SERVICE_UNAVAILABLE,
    };
    let accept = request.headers().get(ACCEPT);
    let wants_json = accept
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains(JSON_TYPE));
    if wants_json {
        reply(status, JSON_TYPE, format!("{}\n", board.json()))
    } else {
        reply(status, "text/plain", format!("{}\n", board.says()))
    }
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::super::board::{Fetching, Step};
    use super::*;

    /// One request: the status and the body.
    fn ask(address: SocketAddr, path: &str) -> (u16, String) {
        ask_for(address, path, "*/*")
    }

    fn ask_for(address: SocketAddr, path: &str, accept: &str) -> (u16, String) {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: rig\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    #[test]
    fn health_says_how_far_the_rig_is_and_metrics_what_it_did() {
        let board = Board::default();
        let address = start(SocketAddr::from(([127, 0, 0, 1], 0)), board.clone()).unwrap();
        let (status, body) = ask(address, "/healthz");
        assert_eq!((status, body.as_str()), (503, "fetching\n"));
        board.set_fetching(Fetching {
            file: "model.gguf".to_owned(),
            step: Step::Other("checking 857 MB".to_owned()),
        });
        let line = "fetching: model.gguf, checking 857 MB\n";
        assert_eq!(ask(address, "/healthz"), (503, line.to_owned()));
        let (status, body) = ask_for(address, "/healthz", "application/json");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, body), (503, board.json()));
        board.set_state(State::Ready);
        assert_eq!(ask(address, "/healthz"), (200, "ready\n".to_owned()));
        let (status, body) = ask(address, "/metrics");
        assert_eq!(status, 200);
        assert!(body.contains("heliograph_rig_connections_total 1\n"));
        assert_eq!(ask(address, "/secrets").0, 404);
    }
}
