//! The best model that fits. Pure: the catalog and the memory are arguments.

use catalog::{Catalog, Class, Model, Runtime};
use model_files::need::{Need, Use, Weights, need};
use model_files::progress::in_units;

use super::memory::Memory;
use super::{Room, Traits};
use crate::engine::reordered::Orders;

/// A model and what it would need here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id in the catalog.
    pub id: String,
    /// What it needs.
    pub need: Need,
    /// How it would be run.
    pub how: Use,
    /// Whether its files are in the cache.
    pub is_cached: bool,
}

/// Whether a rig may serve it: a relay refuses one that offers what is for others.
pub(super) fn is_for_rigs(model: &Model) -> bool {
    model.class == Class::Rig && model.runtimes.contains(&Runtime::LlamaCpp)
}

/// The catalog's models that a rig can fetch and run, in the catalog's order. Before a file is there, nobody knows which
/// of its weights the processor keeps a second time: perhaps all.
pub(super) fn candidates(catalog: &Catalog, room: Room) -> Vec<Candidate> {
    let models = catalog.models().iter().filter(|model| is_for_rigs(model));
    models
        .filter_map(|model| {
            let weights = model.weights()?;
            let shape = model.shape?;
            let projector = model.projector().map_or(0, |file| file.bytes);
            let how = room.how(Traits {
                context_max: model.context_tokens,
                vocabulary: shape.vocabulary,
                has_projector: projector > 0,
                has_template: true,
                has_pooling: false,
                is_encoder: false,
                has_states: false,
            });
            let weights = Weights {
                file: weights.bytes,
                reordered: 0,
                reordered_max: match room.orders {
                    Orders::All | Orders::WithoutOurs => weights.bytes,
                    Orders::None => 0,
                },
                projector,
                encoder: None,
            };
            Some(Candidate {
                id: model.id.clone(),
                need: need(&shape, weights, &how),
                how,
                is_cached: false,
            })
        })
        .collect()
}

/// Weights that a processor can serve from. It reads all of them for each token, and a machine's memory brings some 20
/// to 50 GB in a second: with more than this an answer comes slower than people read.
const PROCESSOR_WEIGHTS_MAX: u64 = 2_000_000_000;

/// The largest by its weights that fits, and that the processor can serve where it computes; of equal ones the first in the
/// catalog. Size is what tells how good a model is, as far as a number can.
pub(super) fn best<'c>(candidates: &'c [Candidate], memory: &Memory) -> Option<&'c Candidate> {
    candidates
        .iter()
        .rev()
        .filter(|candidate| memory.fits(&candidate.need))
        .filter(|candidate| !memory.is_processor || candidate.need.weights <= PROCESSOR_WEIGHTS_MAX)
        .max_by_key(|candidate| candidate.need.weights)
}

/// What operators see: one line for the memory, one for the columns, one for each model, and one for each that may come
/// to need more.
pub(super) fn table(candidates: &[Candidate], memory: &Memory) -> Vec<String> {
    let first = format!(
        "memory: {} free of {} ({})",
        in_units(memory.free),
        in_units(memory.total),
        memory.device
    );
    let columns = row([
        "model",
        "slots x context",
        "weights",
        "reordered",
        "cache",
        "scratch",
        "vectors",
        "sum",
        "fits",
    ]);
    let rows = candidates.iter().map(|candidate| {
        let Candidate { id, need, how, .. } = candidate;
        let context = format!("{} x {}", how.slots, how.context_tokens);
        let fits = if memory.fits(need) { "yes" } else { "no" };
        row([
            id,
            &context,
            &in_units(need.weights),
            &in_units(need.reordered),
            &in_units(need.cache),
            &in_units(memory.scratch(need)),
            &in_units(need.vectors),
            &in_units(memory.needed(need)),
            fits,
        ])
    });
    let later = candidates.iter().flat_map(later);
    let first = [first, columns];
    first.into_iter().chain(rows).chain(later).collect()
}

/// What is not in the sum, since it is there later or perhaps never.
fn later(candidate: &Candidate) -> Vec<String> {
    let Candidate { id, need, .. } = candidate;
    let mut lines = Vec::new();
    if need.kept_max > 0 {
        lines.push(format!(
            "{id}: beside the sum up to {} of main memory, for checkpoints of conversations and pictures that were seen",
            in_units(need.kept_max)
        ));
    }
    if need.reordered_max > 0 {
        lines.push(format!(
            "{id}: is not here yet; beside the sum up to {}, for weights that this processor keeps in a second order",
            in_units(need.reordered_max)
        ));
    }
    lines
}

fn row(
    [
        model,
        context,
        weights,
        reordered,
        cache,
        scratch,
        vectors,
        sum,
        fits,
    ]: [&str; 9],
) -> String {
    format!(
        "{model:<20} {context:>16} {weights:>9} {reordered:>9} {cache:>9} {scratch:>9} {vectors:>9} {sum:>9}  {fits}"
    )
}

#[cfg(test)]
mod tests {
    use model_files::need::Kept;

    use super::*;

    #[test]
    fn where_the_processor_computes_auto_takes_what_it_can_serve() {
        let candidate = |id: &str, weights: u64| Candidate {
            id: id.to_owned(),
            need: Need {
                weights,
                reordered: 0,
                cache: 0,
                scratch: 0,
                vectors: 0,
                kept_max: 0,
                reordered_max: 0,
            },
            how: Use {
                context_tokens: 1,
                slots: 1,
                sequences: 1,
                batch_tokens: 1,
                block_bytes: 64,
                is_window_full: false,
                vectors: None,
                kept: Kept::default(),
            },
            is_cached: false,
        };
        let candidates = [
            candidate("small", 1_000_000_000),
            candidate("edge", PROCESSOR_WEIGHTS_MAX),
            candidate("large", PROCESSOR_WEIGHTS_MAX + 1),
        ];
        let best = |parts: u64, is_processor: bool| {
            let memory = Memory {
                device: "this".to_owned(),
                free: 64_000_000_000,
                total: 64_000_000_000,
                parts,
                is_processor,
            };
            best(&candidates, &memory).map(|best| best.id.clone())
        };
        assert_eq!(best(0, true).as_deref(), Some("edge"));
        assert_eq!(best(1, false).as_deref(), Some("large"));
        // An integrated card shares the system's memory.
        assert_eq!(best(0, false).as_deref(), Some("large"));
    }
}
