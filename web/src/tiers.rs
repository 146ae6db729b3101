//! What `/v1/models` lists, by tier: what a person picks.

use serde::Deserialize;

/// What a person picks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tier {
    /// What a job names.
    pub id: String,
    /// What a person reads.
    pub name: String,
    /// What it is good for.
    pub description: String,
    /// Nodes that can answer, now or once a slot is free; `None` where nobody has counted lately.
    pub nodes: Option<u32>,
}

/// The tiers of a network, in the catalog's order, and what its models are called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    /// What a person picks.
    pub tiers: Vec<Tier>,
    models: Vec<ModelBody>,
}

#[derive(Deserialize)]
struct ListBody {
    data: Vec<ModelBody>,
    #[serde(default)]
    tiers: Vec<TierBody>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct ModelBody {
    id: String,
    #[serde(default)]
    name: Option<String>,
    /// Nodes that serve it now, busy or not.
    #[serde(default)]
    available: u32,
}

#[derive(Deserialize)]
struct TierBody {
    id: String,
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    models: Vec<String>,
}

impl Catalog {
    /// Reads the body of `/v1/models`; `None` where it is something else.
    pub fn read(json: &str) -> Option<Self> {
        let list: ListBody = serde_json::from_str(json).ok()?;
        let tiers = list.tiers.into_iter().map(|tier| Tier {
            // A node may offer several of the tier's models: the largest count is the one that is surely true.
            nodes: list
                .data
                .iter()
                .filter(|model| tier.models.contains(&model.id))
                .map(|model| model.available)
                .max()
                .or(Some(0)),
            id: tier.id,
            name: tier.name,
            description: tier.description,
        });
        Some(Self {
            tiers: tiers.collect(),
            models: list.data,
        })
    }

    /// The same without its numbers: what a page may show of a list that it kept from last time.
    #[must_use]
    pub fn without_nodes(mut self) -> Self {
        for tier in &mut self.tiers {
            tier.nodes = None;
        }
        self
    }

    /// The tier to begin with: the one picked last, else the first that somebody serves, else the first.
    pub fn default_tier(&self, picked: Option<&str>) -> Option<&Tier> {
        picked
            .and_then(|id| self.tier(id))
            .or_else(|| self.served())
            .or_else(|| self.tiers.first())
    }

    /// The first tier that somebody serves now.
    pub fn served(&self) -> Option<&Tier> {
        self.tiers
            .iter()
            .find(|tier| tier.nodes.is_some_and(|nodes| nodes > 0))
    }

    /// One tier.
    pub fn tier(&self, id: &str) -> Option<&Tier> {
        self.tiers.iter().find(|tier| tier.id == id)
    }

    /// What a model is called.
    pub fn name<'a>(&'a self, model: &'a str) -> &'a str {
        self.models
            .iter()
            .find(|body| body.id == model)
            .and_then(|body| body.name.as_deref())
            .unwrap_or(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"object":"list","data":[
        {"id":"a","object":"model","tier":"demo","class":"rig","available":0},
        {"id":"b","name":"Atlas 30B","available":2,"slots":4,"price":{"prompt_per_mtok":1}},
        {"id":"c","available":1}],
        "tiers":[{"id":"demo","name":"Demo","models":["a"],"web":"off","available":0},
        {"id":"light","name":"Light","description":"Quick.","models":["b"]},
        {"id":"heavy","name":"Heavy","models":["b","c","gone"]}]}"#;

    #[test]
    fn tiers_come_in_order_with_their_nodes() {
        let catalog = Catalog::read(LIST).unwrap();
        let tiers: Vec<_> = catalog
            .tiers
            .iter()
            .map(|t| (t.name.as_str(), t.nodes))
            .collect();
        assert_eq!(
            tiers,
            [("Demo", Some(0)), ("Light", Some(2)), ("Heavy", Some(2))]
        );
        assert_eq!(catalog.name("b"), "Atlas 30B");
        assert_eq!(catalog.name("c"), "c");
    }

    #[test]
    fn the_first_served_tier_is_the_default_unless_one_was_picked() {
        let catalog = Catalog::read(LIST).unwrap();
        assert_eq!(catalog.default_tier(None).unwrap().id, "light");
        assert_eq!(catalog.default_tier(Some("demo")).unwrap().id, "demo");
        assert_eq!(catalog.default_tier(Some("gone")).unwrap().id, "light");
        assert_eq!(Catalog::default().default_tier(None), None);
    }

    #[test]
    fn what_the_relay_writes_is_read() {
        let catalog = catalog::Catalog::parse(include_str!("../../catalog.toml")).unwrap();
        let json = openai_api::models_json(&catalog, 0, |_| openai_api::LiveModel {
            nodes: 3,
            ..openai_api::LiveModel::default()
        });
        let read = Catalog::read(&json).unwrap();
        assert_eq!(read.tiers.len(), catalog.tiers().len());
        assert_eq!(read.tiers[0].nodes, Some(3));
        assert_eq!(read.name("smollm2-135m"), "SmolLM2 135M");
    }

    #[test]
    fn a_kept_list_names_models_and_counts_no_nodes() {
        let kept = Catalog::read(LIST).unwrap().without_nodes();
        assert_eq!(kept.name("b"), "Atlas 30B");
        assert_eq!(kept.served(), None);
    }

    #[test]
    fn another_body_is_no_catalog() {
        assert_eq!(Catalog::read("<html>"), None);
        assert_eq!(Catalog::read(r#"{"error":{}}"#), None);
    }
}
