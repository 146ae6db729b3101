//! What a node says of itself, and how patient it is.

use protocol::{Machine, ModelOffer, NodeClass, NodeToRelay};

use crate::Millis;

/// A node, as its operator set it up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its public name.
    pub name: String,
    /// What kind of node it is.
    pub class: NodeClass,
    /// Program and version.
    pub software: String,
    /// Jobs at once, over all its models.
    pub slots: u32,
    /// What it can run.
    pub models: Vec<ModelOffer>,
    /// What it runs on, for operators and pages.
    pub machine: Option<Machine>,
    /// A node key, `hgn-…`, where the upgrade request does not carry it.
    pub key: Option<String>,
    /// The shortest pause before dialling again after a dial that failed.
    pub backoff_ms_min: Millis,
    /// The longest pause before dialling again.
    pub backoff_ms_max: Millis,
}

impl Config {
    /// The shortest pause that is kind to a relay that is about to be back, and to those who wait for it.
    pub const BACKOFF_MS_MIN: Millis = 250;
    /// The longest pause that an operator who has just mended something will wait for.
    pub const BACKOFF_MS_MAX: Millis = 30_000;

    pub(crate) fn hello(&self, announces: u32) -> NodeToRelay {
        NodeToRelay::Hello {
            key: self.key.clone(),
            name: self.name.clone(),
            class: self.class,
            software: self.software.clone(),
            slots: self.slots,
            models: self.models.clone(),
            announces,
            machine: self.machine.clone(),
        }
    }
}
