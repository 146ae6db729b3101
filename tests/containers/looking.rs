//! The commands that look: `ps`, `doctor`, `logs`.

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::MODEL;

use crate::Scene;
use crate::program::Program;

impl Scene {
    pub(crate) async fn is_looked_at(&self) -> Result<()> {
        self.doctor_asks_it().await?;
        self.logs_follow_it().await
    }

    /// The machine's own checks, and those of the rig from inside its container, as data.
    async fn doctor_asks_it(&self) -> Result<()> {
        let relay = format!("ws://127.0.0.1:{}", self.relay_port);
        let key_file = self.node_key_file.display().to_string();
        let words = [
            "doctor",
            "--gpu=cpu",
            "--relay",
            &relay,
            "--key-file",
            &key_file,
        ];
        let report = self.heliograph(&words).await?;
        assert_eq!(report["ok"], json!(true), "{report}");
        let checks = report["checks"].as_array().context("no checks")?;
        let check = |what: &str| {
            let mut all = checks.iter();
            let check = all.find(|check| check["what"] == what).cloned();
            check.with_context(|| format!("no check of {what}: {report}"))
        };
        for what in ["Docker", "relay", "key", "rig rig"] {
            assert_eq!(check(what)?["verdict"], "ok", "{report}");
        }
        let rig = check("rig rig")?;
        let findings = rig["report"]["findings"].as_array();
        let findings = findings.with_context(|| format!("no findings of the rig: {rig}"))?;
        assert!(
            findings
                .iter()
                .any(|finding| finding["what"] == "relay" && finding["grade"] == "ok"),
            "{rig}"
        );
        Ok(())
    }

    /// What is written while somebody follows arrives, and Ctrl-C ends it.
    async fn logs_follow_it(&self) -> Result<()> {
        let mut logs = Program::start(&self.engine, &["logs", "-f", "--tail", "0", "rig"])?;
        let question = json!({
            "model": MODEL, "max_tokens": 4, "messages": [{"role": "user", "content": "Name a colour."}],
        });
        // It may not follow yet as the first question is answered.
        let line = loop {
            tokio::select! {
                line = logs.next() => break line?,
                answer = self.api.answer(&question) => { answer?; }
            }
        };
        let line: Value = line.context("the log ended")?;
        assert_eq!(line["name"], "rig", "{line}");
        logs.signal(Signal::SIGINT)?;
        logs.end().await.map(drop)
    }
}
