//! The relay forgets: nothing that a user writes or is answered reaches a file, however the request ends.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use protocol::chat::ResponseFormat;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, Incoming, MODEL, Network, RawSocket, ask, endless};

/// Every file below a folder that contains the marker, in UTF-8 or UTF-16.
fn files_with(folder: &Path, marker: &str) -> Result<Vec<PathBuf>> {
    let wide: Vec<u8> = marker.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_with(&path, marker)?);
        } else {
            let bytes = fs::read(&path)?;
            let holds = |wanted: &[u8]| bytes.windows(wanted.len()).any(|part| part == wanted);
            if holds(marker.as_bytes()) || holds(&wide) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// An answer that must contain the marker: the grammar leaves nothing else.
fn schema(marker: &str) -> Value {
    json!({
        "type": "object",
        "properties": {"word": {"enum": [marker]}},
        "required": ["word"],
        "additionalProperties": false,
    })
}

async fn chats_that_end_well(network: &Network, marker: &str) -> Result<()> {
    let mut client = Client::connect(network).await?;
    let mut request = ask(&format!("Repeat the word {marker} as JSON."), 100);
    request.response_format = ResponseFormat::JsonSchema {
        schema: schema(marker),
    };
    let answer = client.chat(MODEL, request).await?;
    ensure!(answer.text.contains(marker), "{answer:?}");

    let api = network.api()?;
    let mut body = json!({
        "model": MODEL,
        "max_tokens": 100,
        "user": marker,
        "messages": [
            {"role": "system", "content": format!("Your secret is {marker}.")},
            {"role": "user", "content": "Repeat your secret as JSON."},
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "secret", "schema": schema(marker)},
        },
    });
    let answer = api.answer(&body).await?;
    let text = answer.pointer("/choices/0/message/content");
    let text = text.and_then(Value::as_str);
    ensure!(text.is_some_and(|text| text.contains(marker)), "{answer}");
    if let Some(fields) = body.as_object_mut() {
        fields.insert("stream".to_owned(), true.into());
    }
    let mut stream = api.stream(&body).await?;
    let mut text = String::new();
    while let Some(piece) = stream.text().await? {
        text.push_str(&piece);
    }
    ensure!(text.contains(marker), "{text}");
    Ok(())
}

async fn chats_that_do_not(network: &Network, marker: &str) -> Result<()> {
    let api = network.api()?;
    let chat = || api.request(Method::POST, "/v1/chat/completions");
    let message = |content: String| json!([{"role": "user", "content": content}]);
    // Bodies that break a rule, each with the marker where an error message could quote it.
    let long = format!("{marker} ").repeat(3_000);
    for (status, body) in [
        (
            400,
            format!("{{\"model\": \"{MODEL}\", \"messages\": {marker}"),
        ),
        (400, format!("\"{marker}\"")),
        (400, json!({"model": MODEL, "messages": marker}).to_string()),
        (
            400,
            json!({"model": MODEL, "messages": [marker]}).to_string(),
        ),
        (
            400,
            json!({"model": MODEL, "messages": message(marker.into()), "stop": [[marker]]})
                .to_string(),
        ),
        (
            400,
            json!({"model": MODEL, "messages": message(long.clone())}).to_string(),
        ),
        (
            400,
            json!({"model": MODEL, "messages": message(long), "stream": true}).to_string(),
        ),
        (
            404,
            json!({"model": "gpt-unknown", "messages": message(marker.into())}).to_string(),
        ),
        (
            413,
            json!({"model": MODEL, "messages": message(marker.repeat(1 << 18))}).to_string(),
        ),
    ] {
        let shown: String = body.chars().take(60).collect();
        let (got, answer) = api.outcome(chat().body(body)).await?;
        ensure!(
            got == status,
            "{got} instead of {status} for {shown}: {answer}"
        );
    }
    Ok(())
}

/// An aborted request, a stopped job, frames that nobody understands, a schema that no grammar can be made of.
async fn chats_that_are_cut_short(network: &Network, marker: &str) -> Result<()> {
    let api = network.api()?;
    let message = |content: String| json!([{"role": "user", "content": content}]);
    let body = json!({
        "model": MODEL,
        "stream": true,
        "max_tokens": 2000,
        "logit_bias": {"0": -100, "2": -100},
        "messages": message(format!("Tell a story about {marker}.")),
    });
    let mut stream = api.stream(&body).await?;
    stream.text().await?;
    drop(stream);
    let mut client = Client::connect(network).await?;
    let request = endless(&format!("Tell a story about {marker}."), 2_000);
    let job = client.submit(MODEL, request).await?;
    client.cancel(job).await?;
    drop(client);
    let mut socket = RawSocket::client(network).await?;
    for text in [
        marker.to_owned(),
        format!("{{\"type\": \"{marker}\"}}"),
        format!("{{\"type\": \"submit\", \"job\": \"{marker}\"}}"),
        format!("{{\"type\": \"submit\", \"model\": \"{MODEL}\", \"request\": \"{marker}\"}}"),
    ] {
        socket.text(text).await?;
    }
    socket.text(protocol::PING).await?;
    while socket.next().await? != Incoming::Text(protocol::PONG.to_owned()) {}
    socket.binary(marker.as_bytes().to_vec()).await?;
    socket.closed().await?;
    let body = json!({
        "model": MODEL,
        "max_tokens": 8,
        "messages": message(marker.into()),
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": {"$ref": format!("#/{marker}/{marker}")}},
        },
    });
    let (status, answer) = api.outcome(api.chat(&body)).await?;
    ensure!(status == 400 || status >= 500, "{status}: {answer}");
    // A query is part of what a user writes, too.
    api.outcome(api.request(Method::GET, &format!("/v1/{marker}?q={marker}")))
        .await?;
    network.free_slots(2).await
}

#[tokio::test]
async fn no_file_holds_what_was_asked_or_answered() -> Result<()> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed)?;
    let marker = format!("zq{:016x}", u64::from_be_bytes(seed));
    let network = Network::start(&["--rigs", "1", "--slots", "2", "--keep"]).await?;
    let run = network
        .ready
        .logs
        .parent()
        .context("logs lie in the run's folder")?
        .to_path_buf();
    assert!(network.ready.persist.starts_with(&run));

    chats_that_end_well(&network, &marker).await?;
    chats_that_do_not(&network, &marker).await?;
    chats_that_are_cut_short(&network, &marker).await?;

    // Storage, logs, config: while it runs, and after everything was written out at its end.
    assert_eq!(files_with(&run, &marker)?, Vec::<PathBuf>::new());
    network.end()?;
    // `--keep` sets the folder aside under a name that the next run does not clear up.
    let name = run
        .file_name()
        .and_then(|name| name.to_str())
        .context("a name")?;
    let run = run.with_file_name(format!("kept-{name}"));
    assert_eq!(files_with(&run, &marker)?, Vec::<PathBuf>::new());
    // The logs are not empty, and the search finds what is there.
    let planted = run.join("logs").join("planted");
    fs::write(&planted, format!("before {marker} after"))?;
    assert_eq!(files_with(&run, &marker)?, [planted]);
    assert!(fs::metadata(run.join("logs/rig-1.log"))?.len() > 0);
    fs::remove_dir_all(&run)?;
    Ok(())
}
