//! What a rig says about itself (`rig doctor --json`), from inside its container.

use anyhow::Result;
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use futures_util::StreamExt as _;
use serde_json::Value;

use super::{Check, Verdict, check};
use crate::engine::explain;
use crate::{health, rigs};

/// How much of it is kept: some twenty lines are what a rig has to say.
const BYTES_MAX: usize = 64 << 10;

/// What one answers that is asked how it is.
#[derive(Debug, Default)]
struct Answer {
    code: i64,
    stdout: String,
    /// What it says beside its report, or where it has none.
    stderr: String,
}

/// Asks it.
pub(super) async fn of(docker: &Docker, rig: &rigs::Rig) -> Check {
    let what = format!("rig {}", rig.name);
    if rig.state() != "running" {
        let says = format!("{}: {}", rig.state(), health::reason(rig));
        let mend =
            "`heliograph logs` shows why; `heliograph up rig` or `heliograph down` clears it away";
        return check(&what, Verdict::Warning, says, Some(mend));
    }
    let state = format!("{}, {}", rig.state(), rig.health());
    match ask(docker, rig).await {
        Ok(answer) => judged(&what, &state, rig.health() == "healthy", &answer),
        Err(error) => check(
            &what,
            Verdict::Warning,
            format!("{state}; it could not be asked: {error:#}"),
            None,
        ),
    }
}

fn judged(what: &str, state: &str, is_healthy: bool, answer: &Answer) -> Check {
    let verdict = if answer.code == 0 && is_healthy {
        Verdict::Fine
    } else {
        Verdict::Wrong
    };
    let report: Option<Value> = serde_json::from_str(answer.stdout.trim()).ok();
    let report = report.filter(|report| report["findings"].is_array());
    let says = if report.is_some() {
        state.to_owned()
    } else {
        // An image of ours that is older, or somebody else's.
        let both = format!("{}{}", answer.stdout, answer.stderr);
        format!("{state}\n{}", both.trim_end())
    };
    Check {
        report,
        ..check(what, verdict, says, None)
    }
}

/// A report for people: a line under the rig's own for each finding, and what to do about it.
pub(super) fn text(report: &Value) -> String {
    let field = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let findings = report["findings"].as_array();
    let lines = findings.into_iter().flatten().map(|finding| {
        let (grade, what) = (field(finding, "grade"), field(finding, "what"));
        let line = format!("\n  {grade:<7}  {what:<9}  {}", field(finding, "found"));
        match finding["mend"].as_str() {
            Some(mend) => format!("{line}\n{:<22}→ {mend}", ""),
            None => line,
        }
    });
    lines.collect()
}

async fn ask(docker: &Docker, rig: &rigs::Rig) -> Result<Answer> {
    let words = ["/opt/heliograph/rig", "doctor", "--json"];
    let config = ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(words.map(str::to_owned).to_vec()),
        ..ExecConfig::default()
    };
    let exec = docker.create_exec(&rig.id, config).await.map_err(explain)?;
    let mut answer = Answer::default();
    if let StartExecResults::Attached { mut output, .. } =
        docker.start_exec(&exec.id, None).await.map_err(explain)?
    {
        while let Some(piece) = output.next().await {
            let piece = piece.map_err(explain)?;
            let says = match piece {
                LogOutput::StdErr { .. } => &mut answer.stderr,
                LogOutput::StdOut { .. } | LogOutput::StdIn { .. } | LogOutput::Console { .. } => {
                    &mut answer.stdout
                }
            };
            if says.len() < BYTES_MAX {
                says.push_str(&String::from_utf8_lossy(piece.as_ref()));
            }
        }
    }
    let ended = docker.inspect_exec(&exec.id).await.map_err(explain)?;
    answer.code = ended.exit_code.unwrap_or(-1);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: i64, stdout: &str) -> Answer {
        Answer {
            code,
            stdout: stdout.to_owned(),
            stderr: "a note\n".to_owned(),
        }
    }

    #[test]
    fn a_rigs_report_stays_a_report_and_is_lines_for_people() {
        let json = r#"{"ok":false,"findings":[{"what":"disk","grade":"bad","found":"full","mend":"tidy up"}]}"#;
        let check = judged("rig rig", "running, healthy", true, &answer(1, json));
        assert_eq!(check.verdict, Verdict::Wrong);
        assert_eq!(check.says, "running, healthy");
        let report = check.report.unwrap();
        assert_eq!(report["findings"][0]["grade"], "bad");
        assert_eq!(
            text(&report),
            "\n  bad      disk       full\n                      → tidy up"
        );
    }

    #[test]
    fn what_is_no_report_is_told_as_it_is() {
        let check = judged(
            "rig rig",
            "running, healthy",
            true,
            &answer(0, "ok  disk\n"),
        );
        assert_eq!(check.verdict, Verdict::Fine);
        assert!(check.report.is_none());
        assert_eq!(check.says, "running, healthy\nok  disk\na note");
    }
}
