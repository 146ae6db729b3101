//! What crosses to JavaScript, as JSON.

use serde::Serialize;
use webgpu_engine::gpu::{Abilities, Access, Counts, Source};

/// The adapter and what it can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Adapter {
    /// Its name.
    pub adapter: String,
    /// Its driver.
    pub driver: String,
    /// Whether it computes on the CPU.
    pub is_software: bool,
    /// The most bytes that a kernel is lent at once.
    pub binding_bytes_max: u64,
    /// What kernels may use beyond the language's core: `f16`, `subgroups`, `packed dot`.
    pub features: Vec<&'static str>,
}

impl From<&Abilities> for Adapter {
    fn from(abilities: &Abilities) -> Self {
        let features = [
            (abilities.has_f16, "f16"),
            (abilities.has_subgroups, "subgroups"),
            (abilities.has_packed_dot, "packed dot"),
        ];
        Self {
            adapter: abilities.adapter.clone(),
            driver: abilities.driver.clone(),
            is_software: abilities.is_software,
            binding_bytes_max: abilities.binding_bytes_max,
            features: features
                .into_iter()
                .filter_map(|(has, name)| has.then_some(name))
                .collect(),
        }
    }
}

/// What was asked of the device, and what the module needed, so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Dispatches of kernels.
    pub dispatches: u64,
    /// Compute passes.
    pub passes: u64,
    /// Submits.
    pub submits: u64,
    /// Read-backs.
    pub read_backs: u64,
    /// Things created on the device.
    pub created: u64,
    /// Bytes of the buffers among them.
    pub bytes_created: u64,
    /// Bytes written to the device.
    pub bytes_written: u64,
    /// The most bytes that the wasm module has had.
    pub heap_bytes_peak: u64,
}

impl Figures {
    /// Puts both together.
    pub fn new(counts: &Counts, heap_bytes_peak: u64) -> Self {
        Self {
            dispatches: counts.dispatches,
            passes: counts.passes,
            submits: counts.submits,
            read_backs: counts.read_backs,
            created: counts.created,
            bytes_created: counts.bytes_created,
            bytes_written: counts.bytes_written,
            heap_bytes_peak,
        }
    }
}

/// A kernel's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// Which kernel.
    pub label: String,
    /// The text.
    pub wgsl: String,
    /// For each storage buffer, whether it is written to.
    pub writes: Vec<bool>,
}

impl From<Source> for Kernel {
    fn from(source: Source) -> Self {
        let writes = |access: &Access| match access {
            Access::Read => false,
            Access::Write => true,
        };
        Self {
            writes: source.storage.iter().map(writes).collect(),
            label: source.label,
            wgsl: source.wgsl,
        }
    }
}
