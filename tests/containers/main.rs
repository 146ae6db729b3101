//! A rig in a container, from nothing to nothing, in a real engine with a fresh data root: `heliograph up`, what the
//! container may do, every command that looks, a chat in a terminal, `update` under load and in every way that goes
//! wrong, `drain`, `down`. One engine for all of it, since starting one and filling its registry is what takes time.

#![expect(
    clippy::indexing_slicing,
    reason = "JSON that lacks a field is null, which no test expects"
)]

mod images;
mod letting_go;
mod load;
mod looking;
mod program;
mod talking;
mod updates;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{Api, Engine, MODEL, Output, free_port, run, xtask};

/// What the Dockerfile and `heliograph` call this version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Chats at once.
const SLOTS: u64 = 2;

#[tokio::test]
async fn one_command_runs_a_rig_renews_it_under_load_and_leaves_nothing() -> Result<()> {
    let Some(engine) = Engine::start().await? else {
        return Ok(());
    };
    let scene = Scene::set(engine).await?;
    scene.comes_up().await?;
    scene.images_say_what_they_are().await?;
    scene.may_do_as_little_as_it_needs().await?;
    scene.answers().await?;
    scene.stops_an_answer_and_gives_the_next().await?;
    scene.stops_a_single_question().await?;
    scene.is_looked_at().await?;
    scene.is_renewed_under_load().await?;
    scene.outlives_a_broken_image().await?;
    scene.outlives_an_image_that_gets_nowhere().await?;
    scene.outlives_updates_that_are_cut_short().await?;
    scene.is_drained_and_comes_back().await?;
    scene.leaves_nothing().await
}

/// An engine with a relay in it, images in a registry, and keys in files.
struct Scene {
    engine: Engine,
    api: Api,
    node_key: String,
    api_key: String,
    node_key_file: PathBuf,
    api_key_file: PathBuf,
    relay_port: u16,
}

impl Scene {
    async fn set(engine: Engine) -> Result<Self> {
        let mut prebuilt = xtask(&["prebuilt", "rig", "relay"])?;
        // Everything was built before the tests began.
        run(prebuilt.env("HELIOGRAPH_BUILT", "1"))
            .await?
            .expect_success("xtask prebuilt")?;
        let (node_key, node_key_file, node_hash) = key(engine.folder(), "hgn-").await?;
        let (api_key, api_key_file, api_hash) = key(engine.folder(), "hg-").await?;
        let relay_port = free_port()?;
        let relay = engine.build("relay", VERSION, "one").await?;
        let rig = engine.build("rig-cpu", VERSION, "one").await?;
        // It has to come from the registry.
        engine.docker_says(&["rmi", &rig]).await?;
        let hashes = engine.folder().join("api.hashes");
        std::fs::write(&hashes, &api_hash)?;
        let mount = format!("{}:/run/secrets/api:ro", hashes.display());
        let node_hashes = format!("NODE_KEY_HASHES={node_hash}");
        let listen = format!("LISTEN=0.0.0.0:{relay_port}");
        let words = [
            "run",
            "--detach",
            "--name=relay",
            "--network=host",
            "--read-only",
            "--tmpfs=/tmp",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            "--health-interval=1s",
            "--volume=store:/var/lib/heliograph",
            "--volume",
            &mount,
            "--env=API_KEY_HASHES_FILE=/run/secrets/api",
            "--env",
            &node_hashes,
            "--env",
            &listen,
            &relay,
        ];
        engine.docker_says(&words).await?;
        engine.healthy("relay").await?;
        let api = Api::new(&format!("http://127.0.0.1:{relay_port}"), Some(&api_key))?;
        Ok(Self {
            engine,
            api,
            node_key,
            api_key,
            node_key_file,
            api_key_file,
            relay_port,
        })
    }

    /// Runs `heliograph` and reads what it says: the last line is the result.
    async fn heliograph(&self, arguments: &[&str]) -> Result<Value> {
        let output = run(self.engine.heliograph(arguments).arg("--json")).await?;
        output.expect_success(&format!("heliograph {arguments:?}"))?;
        self.expect_no_key(&output.stdout)?;
        let line = output.stdout.lines().last().context("it said nothing")?;
        Ok(serde_json::from_str(line)?)
    }

    fn expect_no_key(&self, text: &str) -> Result<()> {
        ensure!(
            !text.contains(&self.node_key) && !text.contains(&self.api_key),
            "a key was shown: {text}"
        );
        Ok(())
    }

    async fn comes_up(&self) -> Result<()> {
        let registry = self.engine.registry();
        let relay = format!("ws://host.docker.internal:{}", self.relay_port);
        let model =
            std::env::var("HELIOGRAPH_MODEL_FILE").context("HELIOGRAPH_MODEL_FILE is not set")?;
        let key_file = self.node_key_file.display().to_string();
        let words = [
            "up",
            "rig",
            "--gpu",
            "cpu",
            "--registry",
            &registry,
            "--relay",
            &relay,
            "--key-file",
            &key_file,
            "--model",
            MODEL,
            "--model-file",
            &model,
            "--cpus",
            "1",
            "--slots",
            &SLOTS.to_string(),
            "--memory",
            "2g",
        ];
        let up = self.heliograph(&words).await?;
        assert_eq!(up["event"], "up", "{up}");
        let listed = self.heliograph(&["ps"]).await?;
        assert_eq!(listed["rigs"][0]["health"], "healthy", "{listed}");
        // Once more is an error that says what to do.
        let again = run(&mut self.engine.heliograph(&words)).await?;
        assert!(
            !again.status.success() && again.stderr.contains("heliograph update rig"),
            "{again:?}"
        );
        Ok(())
    }

    /// Runs `heliograph` to a failure; everything that it says.
    async fn heliograph_fails(&self, arguments: &[&str]) -> Result<Output> {
        let output = run(&mut self.engine.heliograph(arguments)).await?;
        ensure!(
            !output.status.success(),
            "heliograph {arguments:?} should have failed: {output:?}"
        );
        self.expect_no_key(&output.stdout)?;
        self.expect_no_key(&output.stderr)?;
        Ok(output)
    }

    /// What containers there are, running or not.
    async fn expect_containers(&self, expected: &[&str]) -> Result<()> {
        let words = ["ps", "--all", "--format={{.Names}}"];
        let left = self.engine.docker_says(&words).await?;
        assert_eq!(names(&left), expected);
        Ok(())
    }

    async fn inside(&self, command: &[&str]) -> Result<String> {
        self.engine
            .docker_says(&[&["exec", "heliograph-rig"], command].concat())
            .await
    }

    async fn inspected(&self) -> Result<Value> {
        self.inspected_of("container", "heliograph-rig").await
    }

    async fn inspected_of(&self, kind: &str, name: &str) -> Result<Value> {
        let text = self.engine.docker_says(&[kind, "inspect", name]).await?;
        let all: Value = serde_json::from_str(&text)?;
        Ok(all[0].clone())
    }
}

fn names(lines: &str) -> Vec<&str> {
    let mut names: Vec<&str> = lines.lines().collect();
    names.sort_unstable();
    names
}

/// A new key, the file that holds it, and its hash.
async fn key(folder: &Path, prefix: &str) -> Result<(String, PathBuf, String)> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    let key = format!("{prefix}{:032x}", u128::from_be_bytes(bytes));
    let file = folder.join(format!("{prefix}key"));
    std::fs::write(&file, &key)?;
    let output = run(tokio::process::Command::new("sha256sum").arg(&file)).await?;
    output.expect_success("sha256sum")?;
    let hash = output
        .stdout
        .split_whitespace()
        .next()
        .context("no hash")?
        .to_owned();
    Ok((key, file, hash))
}
