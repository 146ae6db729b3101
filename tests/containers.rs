//! A rig in a container, from nothing to nothing, in a real engine with a fresh data root: `heliograph up`, a chat
//! through the relay, `update` under load, `update` to something broken, `down`.

#![expect(
    clippy::indexing_slicing,
    reason = "JSON that lacks a field is null, which no test expects"
)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tests::{Api, Engine, MODEL, free_port, run, until, xtask};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// What the Dockerfile and `heliograph` call this version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How many people ask at once while the rig is renewed, one more than it has slots; and how long an answer is.
const ASKERS: usize = 3;
const TOKENS: u64 = 48;

#[tokio::test]
async fn one_command_runs_a_rig_renews_it_under_load_and_leaves_nothing() -> Result<()> {
    let Some(engine) = Engine::start().await? else {
        return Ok(());
    };
    let scene = Scene::set(engine).await?;
    scene.comes_up().await?;
    scene.may_do_as_little_as_it_needs().await?;
    scene.answers().await?;
    scene.is_renewed_under_load().await?;
    scene.outlives_a_broken_image().await?;
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
            "2",
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

    /// As the engine sees it, and as the process itself does.
    async fn may_do_as_little_as_it_needs(&self) -> Result<()> {
        let container = self.inspected().await?;
        let host = &container["HostConfig"];
        assert_eq!(host["ReadonlyRootfs"], json!(true));
        assert_eq!(host["CapDrop"], json!(["ALL"]));
        assert_eq!(host["CapAdd"], Value::Null);
        assert_eq!(host["SecurityOpt"], json!(["no-new-privileges:true"]));
        assert_eq!(host["Privileged"], json!(false));
        assert_eq!(container["Config"]["User"], "10001:10001");
        assert_eq!(host["RestartPolicy"]["Name"], "unless-stopped");
        assert_eq!(
            container["NetworkSettings"]["Ports"],
            json!({}),
            "nobody connects to a rig"
        );
        self.expect_no_key(&container["Config"]["Labels"].to_string())?;
        self.expect_no_key(&container["Args"].to_string())?;
        let status = self.inside(&["cat", "/proc/1/status"]).await?;
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(|rest| {
                rest.split_whitespace()
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            })
        };
        assert_eq!(line("Uid:").as_deref(), Some("10001"));
        assert_eq!(line("NoNewPrivs:").as_deref(), Some("1"));
        for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
            assert_eq!(line(set).as_deref(), Some("0000000000000000"), "{set}");
        }
        let writing = ["exec", "heliograph-rig", "touch", "/opt/heliograph/x"];
        assert!(
            !self.engine.docker(&writing).await?.status.success(),
            "the root can be written"
        );
        self.inside(&["touch", "/tmp/x", "/var/cache/heliograph/x"])
            .await?;
        let contents = self
            .inside(&["cat", "/opt/heliograph/contents.cdx.json"])
            .await?;
        assert!(
            contents.contains("pkg:cargo/llama-cpp-2@"),
            "the list of contents lacks llama.cpp"
        );
        Ok(())
    }

    async fn inside(&self, command: &[&str]) -> Result<String> {
        self.engine
            .docker_says(&[&["exec", "heliograph-rig"], command].concat())
            .await
    }

    async fn inspected(&self) -> Result<Value> {
        let text = self
            .engine
            .docker_says(&["inspect", "heliograph-rig"])
            .await?;
        let all: Value = serde_json::from_str(&text)?;
        Ok(all[0].clone())
    }

    async fn answers(&self) -> Result<()> {
        let relay = format!("http://127.0.0.1:{}", self.relay_port);
        let key_file = self.api_key_file.display().to_string();
        let words = [
            "chat",
            "--relay",
            &relay,
            "--api-key-file",
            &key_file,
            "--max-tokens",
            "16",
            "--once",
            "Name a colour.",
        ];
        let answer = self.heliograph(&words).await?;
        assert_eq!(answer["model"], MODEL, "{answer}");
        assert!(
            answer["answer"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{answer}"
        );
        assert!(
            answer["finish_reason"].is_string() && answer["usage"].is_object(),
            "{answer}"
        );
        let stats = self.heliograph(&["stats", "--once"]).await?;
        assert!(
            stats["rigs"][0]["memory_bytes"].as_u64() > Some(0),
            "{stats}"
        );
        let logs = run(&mut self.engine.heliograph(&["logs", "--json"])).await?;
        logs.expect_success("heliograph logs")?;
        assert!(
            logs.stdout.lines().any(|line| line.contains("finished")),
            "{}",
            logs.stdout
        );
        self.expect_no_key(&logs.stdout)?;
        assert!(
            !logs.stdout.contains("Name a colour"),
            "what somebody asked is in a log"
        );
        Ok(())
    }

    /// The same tag, a newer image, and people who ask all the while.
    async fn is_renewed_under_load(&self) -> Result<()> {
        let before = self.inspected().await?;
        self.engine.build("rig-cpu", VERSION, "two").await?;
        let load = Load::begin(&self.api);
        until("everybody waits for an answer", || async {
            Ok((load.asking.load(Ordering::SeqCst) == ASKERS).then_some(()))
        })
        .await?;
        let mut update = self
            .engine
            .heliograph(&["update", "rig", "--json"])
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = update.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let mut asking_at_the_drain = 0;
        let mut events = Vec::new();
        while let Some(line) = lines.next_line().await? {
            let event: Value = serde_json::from_str(&line)?;
            if event["event"] == "draining" {
                asking_at_the_drain = load.asking.load(Ordering::SeqCst);
            }
            events.push(event["event"].as_str().unwrap_or("error").to_owned());
        }
        ensure!(update.wait().await?.success(), "update failed: {events:?}");
        assert_eq!(
            events.last().map(String::as_str),
            Some("updated"),
            "{events:?}"
        );
        assert!(
            asking_at_the_drain > 0,
            "nobody was asking as the old one drained"
        );
        let answers = load.end().await?;
        assert!(answers >= ASKERS, "{answers} answers");
        let after = self.inspected().await?;
        assert_ne!(before["Image"], after["Image"]);
        assert_ne!(before["Id"], after["Id"]);
        assert_eq!(
            before["HostConfig"]["Mounts"],
            after["HostConfig"]["Mounts"]
        );
        // The new one is locked in as the old one was.
        Box::pin(self.may_do_as_little_as_it_needs()).await?;
        let again = self.heliograph(&["update", "rig"]).await?;
        assert_eq!(again["event"], "unchanged", "{again}");
        Ok(())
    }

    /// An image that ends at once takes nobody's place.
    async fn outlives_a_broken_image(&self) -> Result<()> {
        let before = self.inspected().await?;
        let rig = format!("{}/rig-cpu:{VERSION}", self.engine.registry());
        let broken = format!("{}/rig-broken:1", self.engine.registry());
        let folder = self.engine.folder().join("broken");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(
            folder.join("Dockerfile"),
            format!("FROM {rig}\nENTRYPOINT [\"/bin/false\"]\n"),
        )?;
        let folder = folder.display().to_string();
        self.engine
            .docker_says(&["build", "--tag", &broken, &folder])
            .await?;
        for order in ["--side-by-side", "--in-place"] {
            let words = ["update", "rig", "--image", &broken, order];
            let output = run(&mut self.engine.heliograph(&words)).await?;
            assert!(!output.status.success(), "{output:?}");
            assert!(output.stderr.contains("the old one"), "{output:?}");
            let after = self.inspected().await?;
            assert_eq!(before["Id"], after["Id"], "{order}");
            assert_eq!(after["State"]["Health"]["Status"], "healthy", "{order}");
        }
        let left = self
            .engine
            .docker_says(&["ps", "--all", "--format={{.Names}}"])
            .await?;
        assert_eq!(names(&left), ["heliograph-rig", "relay"]);
        Ok(())
    }

    async fn leaves_nothing(&self) -> Result<()> {
        let networks = self
            .engine
            .docker_says(&["network", "ls", "--format={{.Name}}"])
            .await?;
        assert!(names(&networks).contains(&"heliograph"), "{networks}");
        self.heliograph(&["down", "--volumes"]).await?;
        let left = self
            .engine
            .docker_says(&["ps", "--all", "--format={{.Names}}"])
            .await?;
        assert_eq!(names(&left), ["relay"]);
        let networks = self
            .engine
            .docker_says(&["network", "ls", "--format={{.Name}}"])
            .await?;
        assert_eq!(names(&networks), ["bridge", "host", "none"]);
        let volumes = self
            .engine
            .docker_says(&["volume", "ls", "--format={{.Name}}"])
            .await?;
        assert_eq!(names(&volumes), ["store"], "the relay's only");
        let listed = self.heliograph(&["ps"]).await?;
        assert_eq!(listed["rigs"], json!([]));
        let relay = self.engine.docker_says(&["logs", "relay"]).await?;
        self.expect_no_key(&relay)
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

/// People who ask one question after the other.
struct Load {
    asking: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Result<usize>>>,
}

impl Load {
    fn begin(api: &Api) -> Self {
        let (asking, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let tasks = (0..ASKERS)
            .map(|number| {
                let (api, asking, stop) = (api.clone(), Arc::clone(&asking), Arc::clone(&stop));
                tokio::spawn(async move {
                    let mut answers = 0;
                    while !stop.load(Ordering::SeqCst) {
                        asking.fetch_add(1, Ordering::SeqCst);
                        let answer = whole_answer(&api, number + answers).await;
                        asking.fetch_sub(1, Ordering::SeqCst);
                        answer?;
                        answers += 1;
                    }
                    Ok(answers)
                })
            })
            .collect();
        Self {
            asking,
            stop,
            tasks,
        }
    }

    /// Lets everybody have the answer that is under way; the number of answers, all of them whole.
    async fn end(self) -> Result<usize> {
        self.stop.store(true, Ordering::SeqCst);
        let mut answers = 0;
        for task in self.tasks {
            answers += task.await??;
        }
        Ok(answers)
    }
}

/// Asks for an answer that may not end by itself, and counts it to its end.
async fn whole_answer(api: &Api, number: usize) -> Result<()> {
    let mut stream = api
        .stream(&json!({
            "model": MODEL, "stream": true, "stream_options": {"include_usage": true}, "max_tokens": TOKENS,
            // The tokens that end an answer.
            "logit_bias": {"0": -100, "2": -100},
            "messages": [{"role": "user", "content": format!("Tell story number {number}.")}],
        }))
        .await?;
    let (mut bytes, mut finish_reason, mut tokens) = (0, None, None);
    while let Some(event) = stream.next().await? {
        if let Some(error) = event.get("error") {
            bail!("an answer broke: {error}");
        }
        let text = event
            .pointer("/choices/0/delta/content")
            .and_then(Value::as_str);
        bytes += text.map_or(0, str::len);
        if let Some(reason) = event
            .pointer("/choices/0/finish_reason")
            .and_then(Value::as_str)
        {
            finish_reason = Some(reason.to_owned());
        }
        tokens = event
            .pointer("/usage/completion_tokens")
            .and_then(Value::as_u64)
            .or(tokens);
    }
    ensure!(
        bytes > 0 && finish_reason.as_deref() == Some("length") && tokens == Some(TOKENS),
        "an answer is not whole: {bytes} bytes, {finish_reason:?}, {tokens:?} tokens"
    );
    Ok(())
}
