//! Randomness: seeds for the scheduler, ids for jobs.

/// Randomness from the platform.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // `crypto.getRandomValues` fails for no length that we ask for; a seed of zeros would still be a valid seed.
    if getrandom::fill(&mut bytes).is_err() {
        worker::console_error!("no randomness from the platform");
    }
    bytes
}
