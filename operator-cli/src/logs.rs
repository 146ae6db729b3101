//! `logs`: what nodes write, with their names in front where there are several.

use std::io::{self, Write as _};

use anyhow::{Result, bail};
use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use serde_json::json as value;

use crate::clean::{clean, json};
use crate::cli::LogsOptions;
use crate::engine::{self, explain};
use crate::rigs;
use crate::voice::Voice;

/// Copies logs to standard output until they end, or Ctrl-C.
pub(crate) async fn run(voice: Voice, options: &LogsOptions) -> Result<()> {
    let docker = engine::connect().await?;
    let chosen = rigs::named(&docker, &options.names).await?;
    if chosen.is_empty() {
        bail!(rigs::NONE);
    }
    let several = chosen.len() > 1;
    let tail = options
        .tail
        .map_or_else(|| "all".to_owned(), |lines| lines.to_string());
    let each = chosen.iter().map(|rig| -> BoxStream<'_, (String, _)> {
        let query = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .follow(options.follow)
            .tail(&tail)
            .build();
        let name = rig.name.clone();
        docker
            .logs(&rig.id, Some(query))
            .map(move |piece| (name.clone(), piece))
            .boxed()
    });
    let mut all = stream::select_all(each);
    while let Some((name, piece)) = all.next().await {
        let piece = piece.map_err(explain)?;
        if write(voice, several.then_some(name.as_str()), &name, &piece).is_err() {
            // Whoever read has gone, as `head` does.
            break;
        }
    }
    Ok(())
}

fn write(voice: Voice, prefix: Option<&str>, name: &str, piece: &LogOutput) -> io::Result<()> {
    let text = String::from_utf8_lossy(piece.as_ref());
    let mut out = io::stdout().lock();
    for line in text.lines() {
        if voice.is_json() {
            let stream = match piece {
                LogOutput::StdErr { .. } => "stderr",
                LogOutput::StdOut { .. } | LogOutput::StdIn { .. } | LogOutput::Console { .. } => {
                    "stdout"
                }
            };
            let line = value!({ "name": name, "stream": stream, "line": line });
            writeln!(out, "{}", json(&line.to_string()))?;
            continue;
        }
        // A file gets what was written, as from `docker logs`; a terminal gets nothing that commands it.
        let line = if voice.is_drawn() {
            clean(line)
        } else {
            line.to_owned()
        };
        match prefix {
            Some(prefix) => writeln!(out, "{} | {line}", clean(prefix))?,
            None => writeln!(out, "{line}")?,
        }
    }
    Ok(())
}
