//! The chat page in a real Chromium. What a person does is in `js/chat_page.mjs`; here is the network behind it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use protocol::{Alias, ErrorCode, Failure, FinishReason, NodeToRelay, Usage};
use tests::{Client, MODEL, Network, Output, RawNode, Rig, Tools, endless, run, until};

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
        .env("HELIOGRAPH_CUES", cues(network))
        .env("HELIOGRAPH_SCREENSHOTS", &screenshots);
    run(&mut command).await
}

/// Where a scene says that the network may go on; it goes with the network.
fn cues(network: &Network) -> &Path {
    &network.ready.persist
}

/// Waits until the scene says so.
async fn cue(network: &Network, name: &str) -> Result<()> {
    let file = cues(network).join(name);
    until(&format!("the cue {name}"), || async {
        Ok(file.exists().then_some(()))
    })
    .await
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
    let (output, node) = futures_util::future::join(scene, answer_badly(&network, node)).await;
    // What the page says is the better explanation.
    output?.expect_success("the page")?;
    node
}

#[tokio::test]
async fn a_person_in_line_behind_others_is_told_the_place() -> Result<()> {
    let network = Network::start(&["--rigs", "1", "--slots", "1"]).await?;
    network.free_slots(1).await?;
    let mut client = Client::connect(&network).await?;
    let mut jobs = Vec::new();
    for prompt in ["Tell a story.", "Tell another."] {
        jobs.push(client.submit(MODEL, endless(prompt, 3_000)).await?);
    }
    let scene = play(&network, "line");
    let others = async {
        // Somebody reads them, or they would pause for want of room.
        let read = client.answer(*jobs.last().context("two jobs")?);
        tokio::select! {
            cue = cue(&network, "line") => cue?,
            answer = read => drop(answer?),
        }
        for job in jobs {
            client.cancel(job).await?;
        }
        Ok(())
    };
    let (output, others) = futures_util::future::join(scene, others).await;
    output?.expect_success("the page")?;
    others
}

#[tokio::test]
async fn an_answer_goes_through_a_restart_of_the_relay() -> Result<()> {
    let network = Network::relay_only().await?;
    let rig = Rig::start(&network, "rig", 2)?;
    network.free_slots(2).await?;
    let scene = play(&network, "restart");
    let relay = async {
        cue(&network, "mid-answer").await?;
        network.kill_relay()?;
        cue(&network, "reconnecting").await?;
        network.start_relay("relay-again").await
    };
    let (output, relay) = futures_util::future::join(scene, relay).await;
    output?.expect_success("the page")?;
    let _relay = relay?;
    let answer = std::fs::read_to_string(cues(&network).join("answer"))?;
    let words: Vec<&str> = answer.split_whitespace().collect();
    rig.says(&words).await?;
    Ok(())
}

/// Answers the first question with [`HOSTILE`] in small pieces, and half of the second, with which another node goes on
/// until it fails.
async fn answer_badly(network: &Network, mut node: RawNode) -> Result<()> {
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
                cached_tokens: 0,
            },
        })
        .await?;
    let (_, alias) = node.assigned().await?;
    node.accept(alias).await?;
    let (end, _) = stream(&mut node, alias, "This is half an ans").await?;
    // Vanishing is how a node most likely breaks off.
    drop(node);
    cue(network, "node-lost").await?;
    let mut node = RawNode::join_with(network, MODEL).await?;
    let (_, alias) = node.assigned().await?;
    node.accept(alias).await?;
    node.tokens(alias, end, "wer").await?;
    node.socket
        .say(&NodeToRelay::Failed {
            alias,
            failure: Failure::new(
                ErrorCode::InvalidRequest,
                "the answer could not go on as asked",
            ),
        })
        .await
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
