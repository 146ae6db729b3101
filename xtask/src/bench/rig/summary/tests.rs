//! Which way ratios point, and what becomes of what was not measured.

use super::*;

fn figures(rate: f64, first_token_ms: f64) -> Figures {
    Figures {
        prompt_tokens: 128,
        prompt_tokens_per_s: rate,
        generate_tokens_per_s: rate,
        total_tokens_per_s: rate,
        first_token_ms_median: first_token_ms,
    }
}

fn with_speed(case: Case, ours: &[Figures], theirs: &[Figures]) -> Results {
    let mut results = Results::default();
    let engines = results.speed.entry(case).or_default();
    engines.insert(OURS, ours.to_vec());
    engines.insert("node-llama-cpp", theirs.to_vec());
    results
}

#[test]
fn a_faster_rig_has_ratios_above_one_for_rates_and_for_times() {
    let case = Case::Answers {
        streams: 8,
        same: false,
    };
    let json = with_speed(case, &[figures(300.0, 50.0)], &[figures(200.0, 100.0)]).json();
    let peer = &json["ratio"]["node-llama-cpp"];
    assert_eq!(peer["generate_8"], 1.5);
    assert_eq!(peer["first_token_8"], 2.0);
    assert_eq!(peer["generate_1"], Value::Null);
    assert_eq!(json["ratio"]["llama-server"], Value::Null);
}

#[test]
fn a_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_medians() {
    let ours = [figures(100.0, 1.0), figures(20.0, 1.0), figures(90.0, 1.0)];
    let theirs = [figures(50.0, 1.0), figures(10.0, 1.0), figures(90.0, 1.0)];
    let json = with_speed(Case::Prompt1, &ours, &theirs).json();
    assert_eq!(json["ratio"]["node-llama-cpp"]["prompt_1"], 2.0);
}

#[test]
fn a_pause_within_its_bound_and_a_quick_second_turn_have_ratios_above_one() {
    let mut results = Results::default();
    let pauses = |max, bound_ms| Pauses {
        step_ms_median: 10.0,
        pause_ms_p50: 20.0,
        pause_ms_p90: 25.0,
        pause_ms_p99: 28.0,
        pause_ms_max: max,
        arriving_first_token_ms: 5000.0,
        bound_ms,
    };
    results.pauses.insert(OURS, vec![pauses(40.0, Some(50.0))]);
    results
        .pauses
        .insert("llama-server", vec![pauses(400.0, None)]);
    let turns = Turns {
        first_prompt_tokens: 3000,
        first_turn_ms: 4000.0,
        second_turn_ms: 400.0,
    };
    results.turns.insert("smollm2", vec![turns]);
    let json = results.json();
    assert_eq!(json["pause"]["bound"], 1.25);
    assert_eq!(json["pause"]["llama-server"], 10.0);
    assert_eq!(
        json["pause"]["distribution"]["llama-server"]["bound_ms"],
        Value::Null
    );
    assert_eq!(json["second_turn"]["smollm2"], 10.0);
    assert_eq!(json["second_turn"]["gemma3"], Value::Null);
    assert!(
        results
            .tables()
            .contains("| smollm2 | 3000 | 4000 | 400 | 10.0 |")
    );
}
