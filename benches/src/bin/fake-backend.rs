//! A backend that speaks `OpenAI`'s streaming API and computes nothing: what other relays stand before, and what the
//! direct floor is measured on. One token an event, each flushed as a chunk of its own.

use std::convert::Infallible;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::Result;
use benches::directive::Directive;
use benches::stamp::stamp;
use bytes::Bytes;
use clap::Parser;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::time::{Duration, Instant, Sleep, sleep_until};

#[derive(Debug, Parser)]
struct Arguments {
    /// On 127.0.0.1.
    #[arg(long)]
    port: u16,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let port = Arguments::parse().port;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service_fn(answer));
            // A client that goes away in the middle is no news here.
            drop(connection.await);
        });
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn answer(request: Request<Incoming>) -> Result<Answer> {
    if !request.uri().path().ends_with("/chat/completions") {
        // What other relays ask before they forward anything.
        let text = match request.uri().path() {
            "/v1/models" => {
                r#"{"object":"list","data":[{"id":"mock","object":"model","created":0,"owned_by":"vllm"}]}"#
            }
            "/version" => r#"{"version":"0.11.0"}"#,
            _ => r#"{"status":"ok"}"#,
        };
        let response = Response::builder().header("content-type", "application/json");
        return Ok(response.body(Full::new(Bytes::from_static(text.as_bytes())).boxed())?);
    }
    let body = request.into_body().collect().await?.to_bytes();
    let directive = Directive::find(&String::from_utf8_lossy(&body)).unwrap_or(Directive {
        tokens: 1,
        interval_us: 0,
    });
    let start = Instant::now();
    let tokens = Tokens {
        directive,
        index: 0,
        start,
        sleep: Box::pin(sleep_until(start)),
        has_yielded: false,
    };
    let response = Response::builder()
        .header("content-type", "text/event-stream")
        .header("cache-control", "no-cache");
    Ok(response.body(tokens.boxed())?)
}

/// An answer's body.
struct Tokens {
    directive: Directive,
    index: u32,
    start: Instant,
    sleep: Pin<Box<Sleep>>,
    has_yielded: bool,
}

const HEAD: &str = r#"data: {"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1700000000,"model":"mock","choices":[{"index":0,"#;

impl Body for Tokens {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let (index, tokens) = (this.index, this.directive.tokens);
        if index > tokens {
            return Poll::Ready(None);
        }
        if this.directive.interval_us == 0 {
            // A turn of the loop in between, so that each token is a write of its own.
            this.has_yielded = !this.has_yielded;
            if this.has_yielded {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        } else {
            if index > 0 && this.sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            let after = this.directive.interval_us * (u64::from(index) + 1);
            this.sleep
                .as_mut()
                .reset(this.start + Duration::from_micros(after));
        }
        this.index += 1;
        let text = if index < tokens {
            let role = if index == 0 {
                r#""role":"assistant","#
            } else {
                ""
            };
            let stamp = stamp(index);
            format!(
                "{HEAD}\"delta\":{{{role}\"content\":\"{stamp}\"}},\"finish_reason\":null}}]}}\n\n"
            )
        } else {
            format!("{HEAD}\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\ndata: [DONE]\n\n")
        };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(text)))))
    }
}
