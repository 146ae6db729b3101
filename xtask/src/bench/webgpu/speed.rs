//! Speeds of our engine natively and in Chromium, beside engines of other people in the same browser, and what a token of
//! ours costs in counts.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::{Kernels, Model, Outcome, Place, Stage, chromium, go_on};
use crate::bench::webgpu_peers::{self, PeerModel, peers};
use crate::console::{print, say};

/// Lengths in tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lengths {
    /// Of prompts. The shorter is what peers' answers follow too.
    pub(super) prompts: [u32; 2],
    /// Of what answers follow: few tokens, and many.
    pub(super) contexts: [u32; 2],
    /// Of an answer.
    pub(super) answer_tokens: u32,
}

impl Lengths {
    const WHOLE: Self = Self {
        prompts: [128, 512],
        contexts: [128, 1536],
        answer_tokens: 64,
    };
    const QUICK: Self = Self {
        prompts: [16, 32],
        contexts: [16, 48],
        answer_tokens: 8,
    };

    const fn of(stage: &Stage<'_>) -> Self {
        if stage.options.quick {
            Self::QUICK
        } else {
            Self::WHOLE
        }
    }

    fn longest(&self) -> u32 {
        let all = self.contexts.iter().chain(&self.prompts);
        all.copied().max().unwrap_or(1)
    }
}

/// How long one figure of a peer may take, and one peer with one model.
const PEER_SECONDS: u32 = 120;
const PEER_MINUTES: u32 = 15;

/// Measures all that is asked for. What cannot be measured is left out, and told.
pub(super) fn run(stage: &Stage<'_>, models: &[Model]) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut all = Map::new();
    for model in models {
        let text = stage.places.root.join("benches/webgpu/text.txt");
        let file = stage.folder.join("tokens.json");
        let given = (model.gguf.as_path(), text.as_path());
        let lengths = Lengths::of(stage);
        let tokens = stage.native.tokens(given, lengths.longest(), &file)?;
        let mut rows = Vec::new();
        for place in &stage.options.places {
            go_on()?;
            let measured = match place {
                Place::Native => native(stage, model, &file),
                Place::Chromium => in_chromium(stage, model, &tokens),
            };
            match measured {
                Ok(measured) => {
                    let missed = measured.iter().filter_map(|row| missed(model.name, row));
                    outcome.failures.extend(missed);
                    rows.extend(measured);
                }
                Err(error) => {
                    let failed = format!("{} {}: {error:#}", model.name, place.word());
                    say(&failed);
                    outcome.failures.push(failed);
                }
            }
        }
        go_on()?;
        let of_peers = measure_peers(stage, model);
        // At once: all of it takes an hour on adapters in software.
        print(&lengths.table(model.name, &rows, &of_peers))?;
        all.insert(
            model.name.to_owned(),
            json!({"ours": rows, "peers": of_peers}),
        );
    }
    outcome.json = json!({"models": all});
    Ok(outcome)
}

/// What a token may cost on any adapter: name, and the most.
const COUNTS_MAX: [(&str, f64); 5] = [
    ("dispatches_per_layer", 10.0),
    ("submits", 1.0),
    ("read_backs", 1.0),
    ("created", 0.0),
    ("bytes_ratio", 1.05),
];

/// The counts of a row that are beyond what a token may cost, in words.
fn missed(model: &str, row: &Value) -> Option<String> {
    let counters = row.get("counters")?;
    let beyond = COUNTS_MAX.iter().filter_map(|(name, most)| {
        let count = counters.get(*name)?.as_f64()?;
        (count > *most).then(|| format!("{name} {count:.3} instead of at most {most}"))
    });
    let beyond: Vec<String> = beyond.collect();
    if beyond.is_empty() {
        return None;
    }
    let [place, kernels] = ["place", "kernels"].map(|name| word(row, name));
    Some(format!("{model} {kernels} {place}: {}", beyond.join(", ")))
}

/// One row for each sort of kernels, all measured in one process and in turn.
fn native(stage: &Stage<'_>, model: &Model, tokens: &Path) -> Result<Vec<Value>> {
    let lengths = Lengths::of(stage);
    let join = |numbers: &[u32]| {
        let texts = numbers.iter().map(u32::to_string);
        texts.collect::<Vec<_>>().join(",")
    };
    let kernels = stage.options.kernels.iter().map(|kernels| kernels.word());
    let mut words: Vec<OsString> = vec![
        "speed".into(),
        "--model".into(),
        (&model.gguf).into(),
        "--tokens".into(),
        tokens.into(),
    ];
    words.extend(
        [
            ("--kernels", kernels.collect::<Vec<_>>().join(",")),
            ("--prompts", join(&lengths.prompts)),
            ("--contexts", join(&lengths.contexts)),
            ("--answer-tokens", lengths.answer_tokens.to_string()),
            ("--rounds", stage.options.rounds().to_string()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [OsString::from(name), value.into()]),
    );
    let title = format!("{}, natively", model.name);
    let mut said = stage.native.ask(&title, &words)?;
    let adapter = said.get("adapter").cloned();
    let bandwidth = said.get("bytes_per_second").cloned();
    let rows = said.get_mut("kernels").and_then(Value::as_array_mut);
    let mut rows = std::mem::take(rows.context("it told no kernels")?);
    for row in &mut rows {
        let row = row.as_object_mut().context("it told no figures")?;
        row.insert("place".to_owned(), json!(Place::Native.word()));
        row.insert("adapter".to_owned(), json!(adapter));
        row.insert("bytes_per_second".to_owned(), json!(bandwidth));
    }
    Ok(rows)
}

fn in_chromium(stage: &Stage<'_>, model: &Model, tokens: &[u32]) -> Result<Vec<Value>> {
    let lengths = Lengths::of(stage);
    let measure = |kernels: &Kernels| {
        go_on()?;
        let mut row = chromium::speed(stage, model, *kernels, tokens, &lengths)?;
        let figures = row.as_object_mut().context("no figures")?;
        figures.insert("place".to_owned(), json!(Place::Chromium.word()));
        Ok(row)
    };
    stage.options.kernels.iter().map(measure).collect()
}

/// Engines of other people with the same model.
fn measure_peers(stage: &Stage<'_>, model: &Model) -> Vec<Value> {
    if stage.options.peers.is_empty() {
        return Vec::new();
    }
    let lengths = Lengths::of(stage);
    let model = PeerModel {
        name: model.name.to_owned(),
        gguf: model.gguf.clone(),
    };
    let options = webgpu_peers::Options {
        engines: stage.options.peers.clone(),
        prompts: lengths.prompts.to_vec(),
        answer_tokens: lengths.answer_tokens,
        rounds: stage.options.rounds(),
        seconds: if stage.options.quick {
            PEER_SECONDS / 10
        } else {
            PEER_SECONDS
        },
        minutes: PEER_MINUTES,
    };
    peers(stage.places, &[model], &options)
}

/// The figure of this list that belongs to so many tokens.
fn rate(row: &Value, list: &str, tokens: u32, name: &str) -> Option<f64> {
    let list = row.get(list)?.as_array()?;
    let found = list
        .iter()
        .find(|rate| rate.get("tokens").and_then(Value::as_u64) == Some(tokens.into()));
    found?.get(name)?.as_f64()
}

impl Lengths {
    fn table(&self, model: &str, rows: &[Value], peers: &[Value]) -> String {
        let mut text = format!("\n### {model}\n\n| | ");
        for tokens in self.prompts {
            _ = write!(text, "reading {tokens}, tokens/s | ");
        }
        for tokens in self.contexts {
            _ = write!(
                text,
                "writing behind {tokens}, tokens/s | share of bandwidth | "
            );
        }
        text.push_str("adapter |\n|---|");
        text.push_str(&"---|".repeat(self.prompts.len() + 2 * self.contexts.len() + 1));
        text.push('\n');
        for row in rows {
            let figures = self
                .prompts
                .map(|tokens| rate(row, "prefill", tokens, "tokens_per_s"));
            let mut figures: Vec<String> = figures.map(shown).to_vec();
            for tokens in self.contexts {
                figures.push(shown(rate(row, "decode", tokens, "tokens_per_s")));
                let share = rate(row, "decode", tokens, "share_of_bandwidth");
                figures
                    .push(share.map_or("–".to_owned(), |share| format!("{:.0} %", 100.0 * share)));
            }
            let title = format!("{} {}", word(row, "kernels"), word(row, "place"));
            push(&mut text, &title, &figures, word(row, "adapter"));
        }
        for peer in peers {
            let figures = self
                .prompts
                .map(|tokens| rate(peer, "prefill", tokens, "tokens_per_s"));
            let mut figures: Vec<String> = figures.map(shown).to_vec();
            let decode = peer.get("decode_tokens_per_s").and_then(Value::as_f64);
            figures.extend([shown(decode), "–".to_owned()]);
            figures.extend(
                self.contexts
                    .iter()
                    .skip(1)
                    .flat_map(|_| ["–".to_owned(), "–".to_owned()]),
            );
            let title = format!("{} ({})", word(peer, "peer"), word(peer, "backend"));
            let adapter = peer.get("error").or_else(|| peer.get("adapter"));
            let adapter = adapter.and_then(Value::as_str).unwrap_or("–");
            push(
                &mut text,
                &title,
                &figures,
                adapter.lines().next().unwrap_or("–"),
            );
        }
        text.push_str(&self.ratios(rows, peers));
        text.push_str(&counters(rows));
        text
    }

    /// Ours in Chromium beside each peer there: all figures of the kernels that write fastest.
    fn ratios(&self, rows: &[Value], peers: &[Value]) -> String {
        let [short, long] = self.prompts;
        let writes = |row: &Value| rate(row, "decode", short, "tokens_per_s").unwrap_or(0.0);
        let of_browser = rows.iter().filter(|row| word(row, "place") == "chromium");
        let Some(row) = of_browser.max_by(|one, other| writes(one).total_cmp(&writes(other)))
        else {
            return String::new();
        };
        let best = |list: &str, tokens: u32| rate(row, list, tokens, "tokens_per_s");
        let mut text = String::new();
        for peer in peers {
            let decode = peer.get("decode_tokens_per_s").and_then(Value::as_f64);
            let of = |tokens| rate(peer, "prefill", tokens, "tokens_per_s");
            let ratio = |ours: Option<f64>, theirs: Option<f64>| {
                let ratio = ours.zip(theirs).map(|(ours, theirs)| ours / theirs);
                ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"))
            };
            _ = writeln!(
                text,
                "\nOurs in Chromium ({}) by {} ({}): reading {short} {}, reading {long} {}, writing {}",
                word(row, "kernels"),
                word(peer, "peer"),
                word(peer, "backend"),
                ratio(best("prefill", short), of(short)),
                ratio(best("prefill", long), of(long)),
                ratio(best("decode", short), decode),
            );
        }
        text
    }
}

/// What a token costs, natively counted: the steps are the same in a browser.
fn counters(rows: &[Value]) -> String {
    let mut text = String::new();
    for row in rows {
        let Some(counters) = row.get("counters") else {
            continue;
        };
        let of = |name: &str| {
            counters
                .get(name)
                .and_then(Value::as_f64)
                .unwrap_or(f64::NAN)
        };
        _ = writeln!(
            text,
            "\nA token with {}: {:.1} dispatches ({:.2} a layer), {:.2} submits, {:.2} read-backs, {:.2} things \
             created, {:.3} times weights and live keys and values read",
            word(row, "kernels"),
            of("dispatches"),
            of("dispatches_per_layer"),
            of("submits"),
            of("read_backs"),
            of("created"),
            of("bytes_ratio"),
        );
    }
    text
}

fn push(text: &mut String, title: &str, figures: &[String], adapter: &str) {
    _ = writeln!(text, "| {title} | {} | {adapter} |", figures.join(" | "));
}

fn shown(rate: Option<f64>) -> String {
    rate.map_or("–".to_owned(), |rate| format!("{rate:.1}"))
}

fn word<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or("–")
}

/// The middle one, or between the two in the middle.
pub(super) fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    let at = |place: usize| rates.get(place).copied().unwrap_or(f64::NAN);
    f64::midpoint(at(rates.len().saturating_sub(1) / 2), at(rates.len() / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_beyond_what_a_token_may_cost_are_told() {
        let row = |layers: f64| {
            json!({
                "place": "native",
                "kernels": "f32",
                "counters": {"dispatches_per_layer": layers, "submits": 1.0, "read_backs": 1.0, "created": 0.0, "bytes_ratio": 1.02},
            })
        };
        assert_eq!(missed("small", &row(10.0)), None);
        let told = "small f32 native: dispatches_per_layer 11.000 instead of at most 10";
        assert_eq!(missed("small", &row(11.0)).as_deref(), Some(told));
        assert_eq!(missed("small", &json!({})), None);
    }
}
