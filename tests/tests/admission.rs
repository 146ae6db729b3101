//! Who is let in over HTTP, and what nobody can smuggle in.

use anyhow::{Context, Result};
use protocol::CloseCode;
use reqwest::Method;
use tests::{Api, Network, OTHER_MODEL, RawSocket, offer};

/// A header that makes a request's sender nobody in particular: not loopback, no key.
const STRANGER: (&str, &str) = ("Host", "relay.example");

#[tokio::test]
async fn http_lets_in_only_who_may_come_in() -> Result<()> {
    let network = Network::with_rig().await?;
    let own = network.ready.relay.clone();
    let nobody = Api::new(&own, None)?;
    let get = |header: (&'static str, &str)| {
        let request = nobody.request(Method::GET, "/v1/models");
        nobody.outcome(request.header(header.0, header.1))
    };
    // Open mode is for this machine's own pages and programs.
    assert_eq!(get(("Accept", "*/*")).await?.0, 200);
    assert_eq!(get(("Origin", &own)).await?.0, 200);
    for header in [
        ("Host", "relay.example"),
        ("Host", "127.0.0.1.evil.example"),
        ("Origin", "https://evil.example"),
        ("Origin", "http://127.0.0.1:1"),
        ("Origin", "null"),
        ("Authorization", "Bearer hg-wrong"),
        (
            "Authorization",
            &format!("Bearer {}", network.ready.node_key),
        ),
        ("Authorization", "Basic aGk6aGk="),
    ] {
        let (status, answer) = get(header).await?;
        assert_eq!(status, 401, "{header:?}: {answer}");
        assert_eq!(answer["error"]["code"], "invalid_api_key", "{answer}");
    }
    // With the right key a foreign page may call the API.
    let api = network.api()?;
    let request = api.request(Method::GET, "/v1/models");
    let (status, _) = api
        .outcome(request.header("Origin", "https://app.example"))
        .await?;
    assert_eq!(status, 200);
    // The pool's own routes are nobody else's.
    let (status, _) = api.outcome(api.request(Method::POST, "/client")).await?;
    assert_eq!(status, 405);
    let (status, _) = api.outcome(api.request(Method::GET, "/client")).await?;
    assert_eq!(status, 426);
    let (status, _) = api.outcome(api.request(Method::GET, "/v1/nothing")).await?;
    assert_eq!(status, 404);
    Ok(())
}

#[tokio::test]
async fn what_the_relay_tells_itself_in_headers_cannot_be_told_by_others() -> Result<()> {
    let network = Network::relay_only().await?;
    for path in ["/client", "/node"] {
        let smuggled = [
            STRANGER,
            ("x-heliograph-account", "root"),
            ("x-heliograph-bytes", "1"),
        ];
        let socket = RawSocket::open(&network, path, &smuggled).await?;
        let mut socket = socket.ok().context("a stranger may say hello")?;
        socket.text(r#"{"type": "draining"}"#).await?;
        let code = socket.closed().await?;
        assert_eq!(code, CloseCode::ProtocolError.number(), "{path}");
        let foreign =
            RawSocket::open(&network, path, &[("Origin", "https://evil.example")]).await?;
        match (path, foreign) {
            ("/client", refused) => assert_eq!(refused.err(), Some(401)),
            // A node's door knows keys only, whatever page it comes from.
            (_, Ok(mut socket)) => {
                let hello = serde_json::json!({
                    "type": "hello",
                    "name": "raw",
                    "class": "rig",
                    "software": "raw",
                    "slots": 1,
                    "models": [offer(OTHER_MODEL)],
                });
                socket.text(hello.to_string()).await?;
                assert_eq!(socket.closed().await?, CloseCode::Unauthorized.number());
            }
            (_, Err(status)) => assert_eq!(status, 401),
        }
    }
    let nobody = Api::new(&network.ready.relay, None)?;
    let smuggled = nobody
        .request(Method::GET, "/v1/models")
        .header(STRANGER.0, STRANGER.1)
        .header("x-heliograph-account", "root");
    assert_eq!(nobody.outcome(smuggled).await?.0, 401);
    Ok(())
}
