//! `GET /v1/models`: the catalog and what is live, in `OpenAI`'s list with this network's fields beside its own.

use catalog::{Catalog, Model, Tier};
use serde::Serialize;

use crate::response::json;

/// Who owns every model of this list, in `OpenAI`'s words.
const OWNER: &str = "heliograph";

/// What the relay knows about a model right now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveModel {
    /// Nodes that offer it.
    pub nodes: u32,
    /// Their slots.
    pub slots: u32,
    /// Of these, free ones.
    pub slots_free: u32,
    /// Jobs that wait for it.
    pub queued: u32,
    /// The largest context that a node offers.
    pub context_tokens: Option<u32>,
}

/// The list of all models; `tiers`, which `OpenAI` does not have, stands beside `data`.
pub fn models_json(
    catalog: &Catalog,
    created_seconds: u64,
    live: impl Fn(&str) -> LiveModel,
) -> String {
    let data: Vec<ModelBody<'_>> = catalog
        .models()
        .iter()
        .map(|model| ModelBody::new(catalog, model, created_seconds, live(&model.id)))
        .collect();
    let tiers = catalog
        .tiers()
        .iter()
        .map(|tier| TierBody::new(tier, &data))
        .collect();
    json(&ListBody {
        object: "list",
        tiers,
        data: &data,
    })
}

/// One model of the list; `None` if the catalog has no such model.
pub fn model_json(
    catalog: &Catalog,
    id: &str,
    created_seconds: u64,
    live: impl Fn(&str) -> LiveModel,
) -> Option<String> {
    let model = catalog.model(id)?;
    let body = ModelBody::new(catalog, model, created_seconds, live(id));
    Some(json(&body))
}

#[derive(Serialize)]
struct ListBody<'a> {
    object: &'static str,
    data: &'a [ModelBody<'a>],
    tiers: Vec<TierBody<'a>>,
}

#[derive(Serialize)]
struct TierBody<'a> {
    id: &'a str,
    name: &'a str,
    description: &'a str,
    models: &'a [String],
    web: &'static str,
    /// Nodes that serve any of its models now; a node with two of them counts twice.
    available: u32,
}

impl<'a> TierBody<'a> {
    fn new(tier: &'a Tier, models: &[ModelBody<'_>]) -> Self {
        let members = models
            .iter()
            .filter(|model| tier.models.iter().any(|id| id == model.id));
        let available = members.fold(0, |sum: u32, model| sum.saturating_add(model.available));
        Self {
            id: &tier.id,
            name: &tier.name,
            description: &tier.description,
            models: &tier.models,
            web: tier.web.as_str(),
            available,
        }
    }
}

#[derive(Serialize)]
struct ModelBody<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    name: &'a str,
    description: &'a str,
    category: &'static str,
    /// The first tier that holds it; `tiers` beside `data` has them all.
    tier: Option<&'a str>,
    class: &'static str,
    /// Nodes that serve it now, busy or not.
    available: u32,
    slots: u32,
    slots_free: u32,
    queued: u32,
    /// Tokens of prompt and answer together: what live nodes have room for, else what the catalog promises.
    context: u32,
    capabilities: Vec<&'static str>,
    price: PriceBody,
    licence: LicenceBody<'a>,
}

#[derive(Serialize)]
struct PriceBody {
    prompt_per_mtok: u64,
    completion_per_mtok: u64,
}

#[derive(Serialize)]
struct LicenceBody<'a> {
    name: &'a str,
    url: Option<&'a str>,
    attribution: Option<&'a str>,
}

impl<'a> ModelBody<'a> {
    fn new(catalog: &'a Catalog, model: &'a Model, created: u64, live: LiveModel) -> Self {
        Self {
            id: &model.id,
            object: "model",
            created,
            owned_by: OWNER,
            name: &model.name,
            description: &model.description,
            category: model.category.as_str(),
            tier: catalog
                .tiers_of(&model.id)
                .next()
                .map(|tier| tier.id.as_str()),
            class: model.class.as_str(),
            available: live.nodes,
            slots: live.slots,
            slots_free: live.slots_free,
            queued: live.queued,
            context: live.context_tokens.unwrap_or(model.context_tokens),
            capabilities: model
                .capabilities
                .iter()
                .map(|capability| capability.as_str())
                .collect(),
            price: PriceBody {
                prompt_per_mtok: model.prices.prompt_per_mtok,
                completion_per_mtok: model.prices.completion_per_mtok,
            },
            licence: LicenceBody {
                name: model.licence.name.as_str(),
                url: model.licence.url.as_deref(),
                attribution: model.licence.attribution.as_deref(),
            },
        }
    }
}
