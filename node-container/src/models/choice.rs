//! The best model that fits. Pure: the catalog and the memory are arguments.

use catalog::{Catalog, Class, Runtime};
use model_files::need::{Need, Use, need};
use model_files::progress::in_units;

use super::Room;
use super::memory::Memory;

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

/// The catalog's models that a rig can fetch and run, in the catalog's order.
pub(super) fn candidates(catalog: &Catalog, room: Room) -> Vec<Candidate> {
    let models = catalog
        .models()
        .iter()
        .filter(|model| model.class == Class::Rig && model.runtimes.contains(&Runtime::LlamaCpp));
    models
        .filter_map(|model| {
            let weights = model.weights()?;
            let shape = model.shape?;
            let how = room.how(model.context_tokens, model.projector().is_some());
            let projector = model.projector().map_or(0, |file| file.bytes);
            Some(Candidate {
                id: model.id.clone(),
                need: need(&shape, weights.bytes, projector, &how),
                how,
                is_cached: false,
            })
        })
        .collect()
}

/// The largest by its weights that fits; of equal ones the first in the catalog. Size is what tells how good a model
/// is, as far as a number can.
pub(super) fn best<'c>(candidates: &'c [Candidate], memory: &Memory) -> Option<&'c Candidate> {
    candidates
        .iter()
        .rev()
        .filter(|candidate| memory.fits(&candidate.need))
        .max_by_key(|candidate| candidate.need.weights)
}

/// What operators see: one line for the memory, one for the columns, one for each model.
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
        "cache",
        "scratch",
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
            &in_units(need.cache),
            &in_units(memory.scratch(need)),
            &in_units(memory.needed(need)),
            fits,
        ])
    });
    [first, columns].into_iter().chain(rows).collect()
}

fn row([model, context, weights, cache, scratch, sum, fits]: [&str; 7]) -> String {
    format!("{model:<20} {context:>16} {weights:>9} {cache:>9} {scratch:>9} {sum:>9}  {fits}")
}
