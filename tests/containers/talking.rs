//! Chats: one question, and a conversation in a terminal.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tests::{MODEL, run, until, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::{SLOTS, Scene};

/// What Ctrl-C and Ctrl-D send.
const STOP: &str = "\u{3}";
const END: &str = "\u{4}";

/// The beginning of each command line here.
struct Chat {
    relay: String,
    key_file: String,
}

impl Chat {
    fn with<'w>(&'w self, more: &[&'w str]) -> Vec<&'w str> {
        let words = [
            "chat",
            "--relay",
            &self.relay,
            "--api-key-file",
            &self.key_file,
        ];
        [words.as_slice(), more].concat()
    }
}

impl Scene {
    /// Chats with the scene's relay, by its key.
    fn chat(&self) -> Chat {
        Chat {
            relay: format!("http://127.0.0.1:{}", self.relay_port),
            key_file: self.api_key_file.display().to_string(),
        }
    }

    pub(crate) async fn answers(&self) -> Result<()> {
        let chat = self.chat();
        let words = chat.with(&["--max-tokens", "16", "--once", "Name a colour."]);
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

    /// A conversation at a terminal: Ctrl-C ends the answer and not the conversation, and the rig does not go on with it.
    pub(crate) async fn stops_an_answer_and_gives_the_next(&self) -> Result<()> {
        // The small model does not always end by itself, and the second answer has to.
        let chat = self.chat();
        let words = chat.with(&["--max-tokens", "600"]);
        let mut child = self
            .engine
            .heliograph_on_terminal(&words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut terminal = Terminal::of(&mut child)?;
        terminal.shows("> ").await?;
        terminal.writes("Tell me a very long story.\n").await?;
        terminal.shows("story.").await?;
        terminal.shows_letters().await?;
        terminal.writes(STOP).await?;
        terminal.shows("[stopped]").await?;
        self.slots_are_free().await?;
        terminal.shows("> ").await?;
        terminal.writes("Say yes.\n").await?;
        terminal.shows("yes.").await?;
        terminal.shows_letters().await?;
        terminal.shows("> ").await?;
        terminal.writes(END).await?;
        let status = within("the end of the chat", async { Ok(child.wait().await?) }).await?;
        ensure!(status.success(), "chat ended with {status}");
        Ok(())
    }

    /// A single question that is stopped: what is there of the answer is no whole one, which a script can tell. No
    /// terminal, so nothing but the answer.
    pub(crate) async fn stops_a_single_question(&self) -> Result<()> {
        let story = "Tell me a very long story.";
        let chat = self.chat();
        let words = chat.with(&["--once", story]);
        let mut child = self
            .engine
            .heliograph(&words)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut stdout = child.stdout.take().context("no standard output")?;
        let mut text = vec![0];
        within("an answer", async {
            Ok(stdout.read_exact(&mut text).await?)
        })
        .await?;
        tests::signal(child.id().context("it has ended")?, Signal::SIGINT)?;
        within("the rest", async {
            Ok(stdout.read_to_end(&mut text).await?)
        })
        .await?;
        let status = within("its end", async { Ok(child.wait().await?) }).await?;
        assert_eq!(status.code(), Some(130));
        assert!(
            !text.contains(&b'\x1b'),
            "{}",
            String::from_utf8_lossy(&text)
        );
        self.slots_are_free().await
    }

    /// Waits until the rig has nothing to do, as the relay sees it.
    async fn slots_are_free(&self) -> Result<()> {
        until("all slots are free", || async {
            let model = self.api.model(MODEL).await?;
            Ok((model["slots_free"].as_u64() == Some(SLOTS)).then_some(()))
        })
        .await
    }
}

/// What somebody who sits at a terminal sees and types.
struct Terminal {
    screen: ChildStdout,
    keys: ChildStdin,
    /// What is on the screen and was not looked at yet.
    seen: String,
}

impl Terminal {
    fn of(child: &mut Child) -> Result<Self> {
        Ok(Self {
            screen: child.stdout.take().context("no screen")?,
            keys: child.stdin.take().context("no keys")?,
            seen: String::new(),
        })
    }

    async fn writes(&mut self, text: &str) -> Result<()> {
        self.keys.write_all(text.as_bytes()).await?;
        Ok(self.keys.flush().await?)
    }

    /// Waits until this is on the screen, and forgets everything before its end.
    async fn shows(&mut self, text: &str) -> Result<()> {
        self.looks(text, |seen| seen.find(text).map(|at| at + text.len()))
            .await
    }

    /// Waits for a word of an answer.
    async fn shows_letters(&mut self) -> Result<()> {
        self.looks("a word", |seen| {
            let mut letters = seen.char_indices();
            let (at, letter) = letters.find(|(_, letter)| letter.is_alphabetic())?;
            Some(at + letter.len_utf8())
        })
        .await
    }

    async fn looks(&mut self, what: &str, find: impl Fn(&str) -> Option<usize>) -> Result<()> {
        let mut bytes = [0; 4_096];
        loop {
            if let Some(end) = find(&self.seen) {
                self.seen.drain(..end);
                return Ok(());
            }
            let read = within(what, async { Ok(self.screen.read(&mut bytes).await?) }).await;
            let count = read.with_context(|| format!("the screen shows {:?}", self.seen))?;
            ensure!(count > 0, "the program ended; no {what} in {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(
                bytes.get(..count).unwrap_or_default(),
            ));
        }
    }
}
