//! Medians of all rounds, as tables for people and as one line of JSON for programs. Ratios are taken within a round,
//! whose measurements met the same machine, and then their median; each so that more is better for us.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::case::Case;
use super::engines::Peer;
use super::network::Pair;
use super::pauses::Pauses;
use super::streams::{Figures, median};
use super::turns::Turns;

/// Everything that was measured, round by round.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// By case, then by engine.
    pub(super) speed: BTreeMap<Case, BTreeMap<&'static str, Vec<Figures>>>,
    pub(super) network: Vec<Pair>,
    /// By engine.
    pub(super) pauses: BTreeMap<&'static str, Vec<Pauses>>,
    /// By model.
    pub(super) turns: BTreeMap<&'static str, Vec<Turns>>,
}

/// One of a pair.
type Side = fn(&Pair) -> &Figures;

/// The name of our engine in these tables.
pub(super) const OURS: &str = "rig";

impl Results {
    fn rounds(&self, case: Case, engine: &str) -> &[Figures] {
        let case = self.speed.get(&case).and_then(|case| case.get(engine));
        case.map(Vec::as_slice).unwrap_or_default()
    }

    fn ratio(&self, case: Case, peer: &str, of: impl Fn(&Figures, &Figures) -> f64) -> Option<f64> {
        let ours = self.rounds(case, OURS);
        let rounds = ours.iter().zip(self.rounds(case, peer));
        median(rounds.map(|(ours, theirs)| of(ours, theirs)).collect())
    }

    fn rate_ratio(&self, case: Case, peer: &str) -> Option<f64> {
        self.ratio(case, peer, |ours, theirs| {
            case.rate(ours) / case.rate(theirs)
        })
    }

    fn first_token_ratio(&self, case: Case, peer: &str) -> Option<f64> {
        self.ratio(case, peer, |ours, theirs| {
            theirs.first_token_ms_median / ours.first_token_ms_median
        })
    }

    fn network_ratio(&self) -> Option<f64> {
        let ratio = |pair: &Pair| pair.network.total_tokens_per_s / pair.alone.total_tokens_per_s;
        median(self.network.iter().map(ratio).collect())
    }

    fn pause(&self, engine: &str, of: impl Fn(&Pauses) -> f64) -> Option<f64> {
        let rounds = self.pauses.get(engine)?;
        median(rounds.iter().map(of).collect())
    }

    /// How often the longest pause fits into the bound, and how much shorter it is than that of the other server.
    fn pause_ratios(&self) -> (Option<f64>, Option<f64>) {
        let bound = self.pause(OURS, |ours| {
            ours.bound_ms
                .map_or(f64::NAN, |bound| bound / ours.pause_ms_max)
        });
        let peer = Peer::LlamaServer.name();
        let both = self.pauses.get(OURS).zip(self.pauses.get(peer));
        let theirs = both.and_then(|(ours, theirs)| {
            let rounds = ours.iter().zip(theirs);
            median(
                rounds
                    .map(|(o, t)| t.pause_ms_max / o.pause_ms_max)
                    .collect(),
            )
        });
        (bound, theirs)
    }

    fn turn_ratio(&self, model: &str) -> Option<f64> {
        let rounds = self.turns.get(model)?;
        let ratio = |turns: &Turns| turns.first_turn_ms / turns.second_turn_ms;
        median(rounds.iter().map(ratio).collect())
    }

    /// The line for programs. What was not measured is `null`.
    pub(super) fn json(&self) -> Value {
        let mut ratio = Map::new();
        for peer in Peer::ALL.map(Peer::name) {
            let is_there = |case: &BTreeMap<_, _>| case.contains_key(peer);
            let peer_ratios = if self.speed.values().any(is_there) {
                self.peer_json(peer)
            } else {
                Value::Null
            };
            ratio.insert(peer.to_owned(), peer_ratios);
        }
        let (bound, theirs) = self.pause_ratios();
        let distribution = |engine: &str| {
            let at = |of: fn(&Pauses) -> f64| rounded(self.pause(engine, of));
            json!({
                "step_ms": at(|pauses| pauses.step_ms_median),
                "p50_ms": at(|pauses| pauses.pause_ms_p50),
                "p90_ms": at(|pauses| pauses.pause_ms_p90),
                "p99_ms": at(|pauses| pauses.pause_ms_p99),
                "max_ms": at(|pauses| pauses.pause_ms_max),
                "bound_ms": at(|pauses| pauses.bound_ms.unwrap_or(f64::NAN)),
            })
        };
        json!({
            "ratio": ratio,
            "network_8": rounded(self.network_ratio()),
            "pause": {
                "bound": rounded(bound),
                "llama-server": rounded(theirs),
                "distribution": {
                    "rig": distribution(OURS),
                    "llama-server": distribution(Peer::LlamaServer.name()),
                },
            },
            "second_turn": {
                "smollm2": rounded(self.turn_ratio("smollm2")),
                "gemma3": rounded(self.turn_ratio("gemma3")),
            },
        })
    }

    fn peer_json(&self, peer: &str) -> Value {
        let mut ratios = Map::new();
        for case in Case::ALL {
            ratios.insert(case.name(), rounded(self.rate_ratio(case, peer)));
            if let Some(name) = case.first_token_name() {
                ratios.insert(name, rounded(self.first_token_ratio(case, peer)));
            }
        }
        Value::Object(ratios)
    }

    /// The tables for people, in Markdown.
    pub(super) fn tables(&self) -> String {
        let mut text = String::new();
        self.speed_table(&mut text);
        self.network_table(&mut text);
        self.pause_table(&mut text);
        self.turn_table(&mut text);
        text
    }

    fn speed_table(&self, text: &mut String) {
        if self.speed.is_empty() {
            return;
        }
        text.push_str(
            "\n| | engine | tokens/s | first token ms | our tokens/s × | our first token × |\n\
             |---|---|---|---|---|---|\n",
        );
        for (case, engines) in &self.speed {
            for engine in [OURS].into_iter().chain(Peer::ALL.map(Peer::name)) {
                let Some(rounds) = engines.get(engine) else {
                    continue;
                };
                let middle = |of: fn(&Figures) -> f64| median(rounds.iter().map(of).collect());
                let rate = median(rounds.iter().map(|round| case.rate(round)).collect());
                let (by_rate, by_first) = if engine == OURS {
                    (None, None)
                } else {
                    (
                        self.rate_ratio(*case, engine),
                        self.first_token_ratio(*case, engine),
                    )
                };
                _ = writeln!(
                    text,
                    "| {} | {engine} | {} | {} | {} | {} |",
                    case.title(),
                    show(rate, 1),
                    show(middle(|round| round.first_token_ms_median), 0),
                    show(by_rate, 2),
                    show(by_first, 2),
                );
            }
        }
    }

    fn network_table(&self, text: &mut String) {
        if self.network.is_empty() {
            return;
        }
        text.push_str("\n| 8 chats | tokens/s | first token ms |\n|---|---|---|\n");
        let rows: [(_, Side); 2] = [
            ("through the network", |pair| &pair.network),
            ("rig alone", |pair| &pair.alone),
        ];
        for (name, of) in rows {
            let middle = |figure: fn(&Figures) -> f64| {
                let rounds = self.network.iter().map(|pair| figure(of(pair)));
                median(rounds.collect())
            };
            _ = writeln!(
                text,
                "| {name} | {} | {} |",
                show(middle(|figures| figures.total_tokens_per_s), 1),
                show(middle(|figures| figures.first_token_ms_median), 0),
            );
        }
        _ = writeln!(text, "| ratio | {} | |", show(self.network_ratio(), 3));
    }

    fn pause_table(&self, text: &mut String) {
        if self.pauses.is_empty() {
            return;
        }
        _ = writeln!(
            text,
            "\n| seven chats, {} tokens arrive | step ms | pause p50 / p90 / p99 / longest ms | bound ms | prompt's first token ms |\n\
             |---|---|---|---|---|",
            super::pauses::ARRIVING_TOKENS
        );
        for engine in self.pauses.keys() {
            let at = |of: fn(&Pauses) -> f64| show(self.pause(engine, of), 1);
            _ = writeln!(
                text,
                "| {engine} | {} | {} / {} / {} / {} | {} | {} |",
                at(|pauses| pauses.step_ms_median),
                at(|pauses| pauses.pause_ms_p50),
                at(|pauses| pauses.pause_ms_p90),
                at(|pauses| pauses.pause_ms_p99),
                at(|pauses| pauses.pause_ms_max),
                at(|pauses| pauses.bound_ms.unwrap_or(f64::NAN)),
                at(|pauses| pauses.arriving_first_token_ms),
            );
        }
    }

    fn turn_table(&self, text: &mut String) {
        if self.turns.is_empty() {
            return;
        }
        text.push_str(
            "\n| second turn | tokens | first turn's first token ms | second's ms | second's share % |\n\
             |---|---|---|---|---|\n",
        );
        for (model, rounds) in &self.turns {
            let middle = |of: fn(&Turns) -> f64| median(rounds.iter().map(of).collect());
            let share = self.turn_ratio(model).map(|ratio| 100.0 / ratio);
            _ = writeln!(
                text,
                "| {model} | {} | {} | {} | {} |",
                show(middle(|turns| f64::from(turns.first_prompt_tokens)), 0),
                show(middle(|turns| turns.first_turn_ms), 0),
                show(middle(|turns| turns.second_turn_ms), 0),
                show(share, 1),
            );
        }
    }
}

fn rounded(number: Option<f64>) -> Value {
    number.map_or(Value::Null, |number| json!((number * 1e3).round() / 1e3))
}

fn show(number: Option<f64>, digits: usize) -> String {
    number.map_or_else(|| "–".to_owned(), |number| format!("{number:.digits$}"))
}

#[cfg(test)]
mod tests;
