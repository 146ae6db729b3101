//! What the network offers, as data: tiers, models, prices, and what may serve them.
//!
//! `catalog.toml` goes in, a checked [`Catalog`] comes out, or an error that names the line.
//! The same code runs in the relay's build script, in the relay when it starts (it compiles to wasm32),
//! and in every tool that fetches models. It is no registry: what is live right now is the scheduler's to know.

mod check;
mod entries;
mod fault;
mod raw;

pub use entries::{
    Capability, Category, ChatTemplate, Class, File, FileRole, Licence, LicenceName, Model, Preset,
    Prices, Runtime, Shape, Source, Tier, WebLookup, Window,
};
pub use fault::{CatalogError, CatalogFault};

/// The tiers and models of one network. Only [`Catalog::parse`] makes one, so it is always consistent:
/// ids are unique over tiers and models together, and every tier names models that exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    tiers: Vec<Tier>,
    models: Vec<Model>,
    presets: Vec<Preset>,
}

impl Catalog {
    /// Reads and checks the text of a `catalog.toml`. The first fault found is returned with its line.
    pub fn parse(text: &str) -> Result<Self, CatalogError> {
        check::catalog(text)
    }

    /// The tiers on offer, in the order in which they are shown; the first is the default.
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// All models, in the order of the file.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// Ready-made sets of tiers that the file can switch to with `active_preset`.
    pub fn presets(&self) -> &[Preset] {
        &self.presets
    }

    /// The tier that a page offers first.
    pub fn default_tier(&self) -> Option<&Tier> {
        self.tiers.first()
    }

    /// The model with this id.
    pub fn model(&self, id: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.id == id)
    }

    /// The tier with this id.
    pub fn tier(&self, id: &str) -> Option<&Tier> {
        self.tiers.iter().find(|tier| tier.id == id)
    }

    /// The tiers that hold this model, in order.
    pub fn tiers_of<'a>(&'a self, model_id: &'a str) -> impl Iterator<Item = &'a Tier> {
        self.tiers
            .iter()
            .filter(move |tier| tier.models.iter().any(|id| id == model_id))
    }

    /// What a user's `model` may be served by: the model of that id, or the models of the tier of that id,
    /// the preferred one first. Empty when the catalog knows no such name.
    pub fn resolve(&self, name: &str) -> Vec<&Model> {
        if let Some(model) = self.model(name) {
            return vec![model];
        }
        let Some(tier) = self.tier(name) else {
            return Vec::new();
        };
        tier.models.iter().filter_map(|id| self.model(id)).collect()
    }
}

#[cfg(test)]
mod tests;
