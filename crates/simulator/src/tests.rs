//! A short slice of what `cargo xtask simulate` does at length.

use crate::{Mode, Plant, simulate};

#[test]
fn a_slice_of_seeds_holds_every_invariant() {
    for seed in 0..24 {
        for mode in Mode::ALL {
            let report = simulate(seed, mode, None, 0);
            assert!(
                report.violation.is_none(),
                "cargo xtask simulate --seed {seed}: {:?}",
                report.violation
            );
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..8 {
        for mode in Mode::ALL {
            let (once, again) = (simulate(seed, mode, None, 0), simulate(seed, mode, None, 9));
            assert_eq!(once.hash, again.hash, "seed {seed}");
            assert_eq!(once.events, again.events, "seed {seed}");
        }
    }
}

#[test]
fn other_seeds_are_other_runs() {
    let hash = |seed| simulate(seed, Mode::Quick, None, 0).hash;
    assert_ne!(hash(1), hash(2));
}

/// Those that need a rare world are left to `cargo xtask simulate --planted`, which is optimized.
const RARE: [Plant; 3] = [
    Plant::AcknowledgementReleasesTooMuch,
    Plant::WindowIgnored,
    Plant::Scheduler(scheduler::PlantedBug::DeficitNotCharged),
];

#[test]
fn planted_bugs_are_caught() {
    for plant in Plant::ALL.into_iter().filter(|plant| !RARE.contains(plant)) {
        let catches = |seed: &u64| {
            Mode::ALL.iter().any(|mode| {
                let holds = |plant| simulate(*seed, *mode, plant, 0).violation.is_none();
                !holds(Some(plant)) && holds(None)
            })
        };
        let is_caught = (0..60).any(|seed| catches(&seed));
        assert!(is_caught, "{plant:?} goes unnoticed");
    }
}
