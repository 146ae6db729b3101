//! What `/v1/models` lists, by tier: what a person picks.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What a person picks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tier {
    /// What a job names.
    pub id: String,
    /// What a person reads.
    pub name: String,
    /// What it is good for, where the relay says so.
    pub description: String,
    /// Nodes ready to answer now.
    pub available: u32,
}

/// The tiers of a network, in the catalog's order, and what its models are called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    /// What a person picks.
    pub tiers: Vec<Tier>,
    names: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct List {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    tier: Option<OneOrMany>,
    #[serde(default)]
    tier_name: Option<String>,
    #[serde(default)]
    tier_description: Option<String>,
    #[serde(default)]
    available: u32,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Catalog {
    /// Reads the body of `/v1/models`; `None` where it is something else.
    pub fn read(json: &str) -> Option<Self> {
        let list: List = serde_json::from_str(json).ok()?;
        let mut catalog = Self::default();
        for entry in list.data {
            let tiers = match entry.tier {
                None => Vec::new(),
                Some(OneOrMany::One(tier)) => vec![tier],
                Some(OneOrMany::Many(tiers)) => tiers,
            };
            for id in tiers {
                catalog.count(
                    id,
                    entry.tier_name.as_deref(),
                    entry.tier_description.as_deref(),
                    entry.available,
                );
            }
            if let Some(name) = entry.name {
                catalog.names.insert(entry.id, name);
            }
        }
        Some(catalog)
    }

    fn count(&mut self, id: String, name: Option<&str>, description: Option<&str>, nodes: u32) {
        if let Some(tier) = self.tiers.iter_mut().find(|tier| tier.id == id) {
            tier.available = tier.available.saturating_add(nodes);
            return;
        }
        self.tiers.push(Tier {
            name: name.map_or_else(|| title(&id), str::to_owned),
            description: description.unwrap_or_default().to_owned(),
            available: nodes,
            id,
        });
    }

    /// The tier to begin with: the one picked last, else the first that somebody serves, else the first.
    pub fn default_tier(&self, picked: Option<&str>) -> Option<&Tier> {
        self.tiers
            .iter()
            .find(|tier| Some(tier.id.as_str()) == picked)
            .or_else(|| self.tiers.iter().find(|tier| tier.available > 0))
            .or_else(|| self.tiers.first())
    }

    /// One tier.
    pub fn tier(&self, id: &str) -> Option<&Tier> {
        self.tiers.iter().find(|tier| tier.id == id)
    }

    /// What a model is called.
    pub fn name<'a>(&'a self, model: &'a str) -> &'a str {
        self.names.get(model).map_or(model, String::as_str)
    }
}

/// `heavy` → `Heavy`.
fn title(id: &str) -> String {
    let mut letters = id.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"object":"list","data":[
        {"id":"a","object":"model","tier":"demo","class":"rig","available":0},
        {"id":"b","name":"Atlas 30B","tier":["light","heavy"],"available":2,"price":{"prompt":1}},
        {"id":"c","tier":"heavy","available":1},
        {"id":"d"}]}"#;

    #[test]
    fn models_are_grouped_by_tier_in_order() {
        let catalog = Catalog::read(LIST).unwrap();
        let tiers: Vec<_> = catalog
            .tiers
            .iter()
            .map(|t| (t.name.as_str(), t.available))
            .collect();
        assert_eq!(tiers, [("Demo", 0), ("Light", 2), ("Heavy", 3)]);
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
    fn another_body_is_no_catalog() {
        assert_eq!(Catalog::read("<html>"), None);
    }
}
