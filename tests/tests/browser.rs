//! The chat page in a real Chromium. What a person does is in `js/chat_page.mjs`; here is the network behind it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use protocol::{Alias, FinishReason, NodeToRelay, Usage};
use tests::{MODEL, Network, Output, RawNode, Rig, Tools, run, until};

/// An answer that tries everything, between Markdown that is as it should be.
const HOSTILE: &str = "# A title\n\n\
    <script>globalThis.owned = 2</script>\n\n\
    <img src=x onerror=\"globalThis.owned = 3\">\n\n\
    ![pixel](http://127.0.0.1:9/pixel.png) ![remote](https://evil.example/x.png)\n\n\
    [click](javascript:globalThis.owned=4) [data](data:text/html,<script>globalThis.owned=5</script>)\n\n\
    [JaVa](JaVaScRiPt:globalThis.owned=6) [good](https://example.com/good)\n\n\
    <iframe src=\"https://evil.example\"></iframe><style>body { display: none }</style>\n\n\
    <form action=\"https://evil.example\"><input name=q></form>\n\n\
    <a href=\"https://evil.example\" onclick=\"globalThis.owned = 7\">x</a>\n\n\
    - **bold** and `code`\n- <svg onload=\"globalThis.owned = 8\"></svg>\n\n\
    ```html\n<b onclick=\"globalThis.owned = 9\">x</b>\n</code></pre><script>globalThis.owned = 10</script>\n```\n\n\
    <script>unclosed";

/// Plays a scene; its pictures go where `HELIOGRAPH_SCREENSHOTS` says.
async fn play(network: &Network, scene: &str) -> Result<Output> {
    let screenshots = std::env::var_os("HELIOGRAPH_SCREENSHOTS").map_or_else(
        || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("screenshots"),
        PathBuf::from,
    );
    std::fs::create_dir_all(&screenshots)?;
    let mut command = Tools::find()?.node("js/chat_page.mjs");
    command
        .env("HELIOGRAPH_SCENE", scene)
        .env("HELIOGRAPH_BASE_URL", &network.ready.relay)
        .env("HELIOGRAPH_SCREENSHOTS", &screenshots);
    run(&mut command).await
}

#[tokio::test]
async fn a_person_asks_watches_stops_asks_again_and_reloads() -> Result<()> {
    let network = Network::with_rig().await?;
    play(&network, "conversation")
        .await?
        .expect_success("the page")
}

#[tokio::test]
async fn a_person_waits_with_a_place_until_a_rig_joins() -> Result<()> {
    let network = Network::relay_only().await?;
    let scene = play(&network, "waiting");
    let rig = async {
        let api = network.api()?;
        until("the page's job waits", || async {
            Ok((api.model(MODEL).await?["queued"] == 1).then_some(()))
        })
        .await?;
        Rig::start(&network, "late", 1)
    };
    let (output, _rig) = futures_util::future::try_join(scene, rig).await?;
    output.expect_success("the page")
}

#[tokio::test]
async fn what_a_hostile_node_answers_is_inert_and_a_broken_answer_is_said() -> Result<()> {
    let network = Network::relay_only().await?;
    let node = RawNode::join_with(&network, MODEL).await?;
    let scene = play(&network, "hostile");
    let (output, node) = futures_util::future::join(scene, answer_badly(node)).await;
    // What the page says is the better explanation.
    output?.expect_success("the page")?;
    node
}

/// Answers the first question with [`HOSTILE`] in small pieces, and half of the second.
async fn answer_badly(mut node: RawNode) -> Result<()> {
    let (_, alias) = node.assigned().await?;
    node.accept(alias).await?;
    let (end, pieces) = stream(&mut node, alias, HOSTILE).await?;
    node.socket
        .say(&NodeToRelay::Completed {
            alias,
            offset: end,
            finish_reason: FinishReason::Stop,
            usage: Usage {
                prompt_tokens: 10,
                completion_tokens: pieces,
            },
        })
        .await?;
    let (_, alias) = node.assigned().await?;
    node.accept(alias).await?;
    stream(&mut node, alias, "This is half an ans").await?;
    // Vanishing is how a node most likely breaks off.
    drop(node);
    Ok(())
}

async fn stream(node: &mut RawNode, alias: Alias, text: &str) -> Result<(u32, u32)> {
    let mut pieces = 0;
    for (start, _) in text.char_indices().step_by(7) {
        let end = text
            .char_indices()
            .map(|(at, _)| at)
            .find(|at| *at >= start + 7)
            .unwrap_or(text.len());
        let piece = text.get(start..end).context("the text is ASCII")?;
        node.tokens(alias, u32::try_from(start)?, piece).await?;
        pieces += 1;
    }
    Ok((u32::try_from(text.len())?, pieces))
}
