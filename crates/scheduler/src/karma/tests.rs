//! Behaviour of `karma` by itself, by sentence.

use super::*;

const BAD: Outcome = Outcome::Bad(Fault::Broken);

fn noted(outcomes: &[Outcome]) -> (Karma, KarmaKey) {
    let mut karma = Karma::new(1);
    let key = karma.key("account", "rig");
    for outcome in outcomes {
        karma.note(key, *outcome, 0, &Config::default());
    }
    (karma, key)
}

fn trust(outcomes: &[Outcome], now: Millis) -> Trust {
    let (karma, key) = noted(outcomes);
    karma.trust(key, now, &Config::default())
}

#[test]
fn a_node_is_new_until_it_has_answered_a_few_times() {
    assert_eq!(trust(&[], 0).standing, Standing::Newcomer);
    assert_eq!(trust(&[Outcome::Good; 4], 0).standing, Standing::Newcomer);
    let proven = trust(&[Outcome::Good; 5], 0);
    assert_eq!(proven.standing, Standing::Proven);
    assert!(!proven.is_single && proven.factor > trust(&[], 0).factor);
}

#[test]
fn neutral_ends_change_nothing() {
    assert_eq!(trust(&[Outcome::Neutral; 1_000], 0), trust(&[], 0));
    let (karma, _) = noted(&[Outcome::Neutral]);
    assert_eq!(karma.len(), 0);
}

#[test]
fn a_new_node_falls_after_three_bad_ends_and_an_old_one_after_twelve() {
    assert_eq!(trust(&[BAD; 2], 0).standing, Standing::Newcomer);
    assert_eq!(trust(&[BAD; 3], 0).standing, Standing::Suspect);
    let mut outcomes = vec![Outcome::Good; 1_000];
    outcomes.extend([BAD; 11]);
    assert_eq!(trust(&outcomes, 0).standing, Standing::Proven);
    outcomes.push(BAD);
    assert_eq!(trust(&outcomes, 0).standing, Standing::Suspect);
}

#[test]
fn one_failure_in_three_lowers_the_weight_and_no_more() {
    let mut outcomes = Vec::new();
    for _ in 0..100 {
        outcomes.extend([Outcome::Good, Outcome::Good, BAD]);
    }
    let trust = trust(&outcomes, 0);
    assert_eq!(trust.standing, Standing::Proven);
    assert!((0.5..0.8).contains(&trust.factor), "{}", trust.factor);
}

#[test]
fn quarantine_ends_with_one_job_at_a_time_and_then_probation() {
    let config = Config::default();
    let (mut karma, key) = noted(&[BAD; 3]);
    let held = karma.trust(key, 59_999, &config);
    assert_eq!(
        (held.standing, held.until),
        (Standing::Suspect, Some(60_000))
    );
    let probing = karma.trust(key, 60_000, &config);
    assert_eq!(probing.standing, Standing::Newcomer);
    assert!(probing.is_single && probing.until.is_none());
    karma.note(key, Outcome::Good, 60_000, &config);
    assert!(karma.trust(key, 60_000, &config).is_single);
    karma.note(key, Outcome::Good, 60_000, &config);
    let free = karma.trust(key, 60_000, &config);
    assert_eq!((free.standing, free.is_single), (Standing::Newcomer, false));
    for _ in 0..5 {
        karma.note(key, Outcome::Good, 60_000, &config);
    }
    assert_eq!(karma.trust(key, 60_000, &config).standing, Standing::Proven);
}

#[test]
fn a_failed_probe_doubles_the_quarantine_up_to_a_bound() {
    let config = Config::default();
    let (mut karma, key) = noted(&[BAD; 3]);
    let mut now = 60_000;
    let mut last_ms = 60_000;
    for strike in 1..20 {
        karma.note(key, BAD, now, &config);
        let until = karma.trust(key, now, &config).until.unwrap();
        let expected = 60_000 << strike.min(STRIKES_MAX);
        last_ms = until - now;
        assert_eq!(last_ms, expected);
        now = until;
    }
    assert!(last_ms < 2 * 60 * 60 * 1_000);
}

#[test]
fn what_was_long_ago_fades() {
    let hour = 60 * 60 * 1_000;
    let now = trust(&[BAD; 2], 0).factor;
    let later = trust(&[BAD; 2], 10 * hour).factor;
    assert!(later > 0.79 && now < 0.5, "{now} {later}");
}

#[test]
fn connecting_again_washes_nothing_off_and_other_names_are_others() {
    let (karma, key) = noted(&[BAD; 3]);
    assert_eq!(karma.key("account", "rig"), key);
    assert_ne!(karma.key("account", "rig 2"), key);
    assert_ne!(karma.key("other", "rig"), key);
    // Where the one ends and the other begins matters.
    assert_ne!(karma.key("accountr", "ig"), key);
}

#[test]
fn the_least_recent_are_forgotten_beyond_the_bound() {
    let config = Config {
        karma_nodes_max: 3,
        ..Config::default()
    };
    let mut karma = Karma::new(1);
    for (now, key) in [(0, 1), (1, 2), (2, 3), (3, 1), (4, 4)] {
        karma.note(key, BAD, now, &config);
    }
    assert_eq!((karma.len(), karma.by_age.len()), (3, 3));
    assert!(karma.records.contains_key(&1) && !karma.records.contains_key(&2));
}
