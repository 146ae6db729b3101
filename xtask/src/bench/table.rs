//! Figures as a table for people, in Markdown, so that it can be pasted into `docs/benchmarks.md`.

use std::fmt::Write as _;

use serde_json::Value;

use super::scenario::Scenario;

/// One line of a table: what was measured, and its figures in each round.
#[derive(Debug)]
pub(super) struct Row {
    /// What was measured.
    pub(super) name: String,
    /// Each round's figures.
    pub(super) rounds: Vec<Value>,
}

impl Row {
    /// The round that was disturbed least by whatever else the machine did.
    pub(super) fn best(&self, scenario: Scenario) -> Option<&Value> {
        let cost = |figures: &&Value| {
            if scenario.is_flat_out() {
                -number(figures, "tokens_per_s").unwrap_or(0.0)
            } else {
                number(figures, "latency_ms_p99").unwrap_or(f64::INFINITY)
            }
        };
        let whole = self.rounds.iter().filter(|figures| is_whole(figures));
        whole.min_by(|a, b| cost(a).total_cmp(&cost(b)))
    }
}

/// Whether every token arrived, in order.
pub(super) fn is_whole(figures: &Value) -> bool {
    ["errors", "truncated", "disorder"]
        .iter()
        .all(|name| number(figures, name) == Some(0.0))
}

fn number(figures: &Value, name: &str) -> Option<f64> {
    figures.get(name).and_then(Value::as_f64)
}

/// Draws one scenario. Ratios are to the row called `echo` and to the one called `SMG`.
pub(super) fn draw(scenario: Scenario, rows: &[Row]) -> String {
    let mut text = format!("\n### {}\n\n", scenario.sentence());
    text.push_str(
        "| | first p50 / p99 ms | token p50 / p99 / max ms | tokens/s | CPU µs/token | × echo | × SMG | p99 × SMG | MiB |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    let of = |name: &str, figure: &str| {
        let row = rows.iter().find(|row| row.name == name)?;
        number(row.best(scenario)?, figure)
    };
    let (echo, smg) = (
        of("echo", "cpu_us_per_token"),
        of("SMG", "cpu_us_per_token"),
    );
    let smg_p99 = of("SMG", "latency_ms_p99");
    for row in rows {
        let Some(figures) = row.best(scenario) else {
            let why = row
                .rounds
                .last()
                .and_then(|figures| figures.get("first_error"));
            let why = why.map_or_else(|| "no round was whole".to_owned(), Value::to_string);
            _ = writeln!(text, "| {} | failed: {why} |", row.name);
            continue;
        };
        let cell = |name: &str, digits| show(number(figures, name), digits);
        let cpu = number(figures, "cpu_us_per_token");
        let p99 = number(figures, "latency_ms_p99");
        let ratio = |value: Option<f64>, to: Option<f64>| {
            show(value.zip(to).map(|(value, to)| value / to), 2)
        };
        _ = writeln!(
            text,
            "| {} | {} / {} | {} / {} / {} | {} | {} | {} | {} | {} | {} |",
            row.name,
            cell("first_ms_p50", 1),
            cell("first_ms_p99", 1),
            cell("latency_ms_p50", 2),
            cell("latency_ms_p99", 2),
            cell("latency_ms_max", 1),
            cell("tokens_per_s", 0),
            show(cpu, 1),
            ratio(cpu, echo),
            ratio(cpu, smg),
            ratio(p99, smg_p99),
            cell("peak_mib", 0),
        );
    }
    text
}

fn show(number: Option<f64>, digits: usize) -> String {
    number.map_or_else(|| "–".to_owned(), |number| format!("{number:.digits$}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn figures(p99: f64, truncated: u32) -> Value {
        json!({"errors": 0, "truncated": truncated, "disorder": 0, "latency_ms_p99": p99, "cpu_us_per_token": 20.0})
    }

    #[test]
    fn a_round_that_lost_tokens_is_never_the_best() {
        let row = Row {
            name: "x".into(),
            rounds: vec![figures(0.1, 1), figures(3.0, 0), figures(2.0, 0)],
        };
        let best = row.best(Scenario::S2).unwrap();
        assert_eq!(number(best, "latency_ms_p99"), Some(2.0));
    }

    #[test]
    fn ratios_are_to_the_echo() {
        let row = |name: &str| Row {
            name: name.into(),
            rounds: vec![figures(1.0, 0)],
        };
        let text = draw(Scenario::S2, &[row("echo"), row("relay")]);
        assert!(text.contains("| 20.0 | 1.00 | – |"), "{text}");
    }
}
