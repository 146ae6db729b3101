//! The device: what it can do, buffers, programs (compute pipelines), the recording of a step, and reading back.
//!
//! ```text
//! Source (WGSL) ─▶ Program ─▶ bind once ─▶ Recorder: one pass, one submit ─▶ ReadBack
//! ```
//!
//! Nothing here knows of models. All that is created, submitted and read back is counted, since these numbers decide how
//! fast small models are, and hold on any adapter. What it is not: a scheduler; one thread uses it.

mod abilities;
mod bandwidth;
mod counters;
mod error;
mod program;
mod read_back;
mod recorder;
mod subgroups;

pub use abilities::{Abilities, Wish};
pub use bandwidth::{Bandwidth, bandwidth};
pub use counters::{Counters, Counts};
pub use error::{GpuError, Lost};
pub use program::{Access, Program, Source};
pub use read_back::{Copied, Mark, ReadBack, Ticket};
pub use recorder::{Bound, Recorder};

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use error::Faults;

/// The kernels that ask a device something, to be compiled by tests.
pub(crate) fn every() -> Vec<Source> {
    vec![subgroups::source()]
}

/// A device with its queue.
#[derive(Debug)]
pub struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    abilities: Abilities,
    counters: Counters,
    faults: Arc<Faults>,
    programs: Mutex<BTreeMap<String, Program>>,
}

impl Gpu {
    /// Opens the adapter that the wish leads to.
    pub async fn open(wish: &Wish) -> Result<Self, GpuError> {
        let (device, queue, abilities) = abilities::open(wish).await?;
        let faults = Arc::new(Faults::default());
        faults.listen(&device);
        let mut gpu = Self {
            device,
            queue,
            abilities,
            counters: Counters::default(),
            faults,
            programs: Mutex::new(BTreeMap::new()),
        };
        if gpu.abilities.has_subgroups {
            gpu.abilities.has_subgroups = subgroups::are_in_order(&gpu).await?;
        }
        Ok(gpu)
    }

    /// What the device can do.
    pub const fn abilities(&self) -> &Abilities {
        &self.abilities
    }

    /// What has been done so far.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A buffer of zeros for kernels, which can be written to and copied from.
    ///
    /// Its length is rounded up to whole words. Refused beyond the device's limits.
    pub fn storage(&self, label: &str, bytes: u64) -> Result<wgpu::Buffer, GpuError> {
        let most = self.abilities.binding_bytes_max;
        if bytes > most {
            let label = label.to_owned();
            return Err(GpuError::BufferTooLarge { label, bytes, most });
        }
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_DST
            | wgpu::BufferUsages::COPY_SRC;
        self.buffer(label, bytes, usage)
    }

    /// A buffer of parameters, which is the last binding of every program.
    pub fn uniform(&self, label: &str, bytes: u64) -> Result<wgpu::Buffer, GpuError> {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        self.buffer(label, bytes, usage)
    }

    fn buffer(
        &self,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, GpuError> {
        self.faults.check()?;
        self.counters.created(bytes);
        Ok(self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes.max(4).next_multiple_of(4),
            usage,
            mapped_at_creation: false,
        }))
    }

    /// Writes before the next submit, behind all earlier ones. Offset and length must be whole words.
    pub fn write(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
        self.counters.wrote(bytes.len());
        self.queue.write_buffer(buffer, offset, bytes);
    }

    /// The compute pipeline of a source. Equal texts are compiled once.
    pub async fn program(&self, source: &Source) -> Result<Program, GpuError> {
        self.faults.check()?;
        let known = self.known(&source.wgsl);
        if let Some(program) = known {
            return Ok(program);
        }
        let program = Program::compile(&self.device, source).await?;
        self.counters.created(0);
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        programs.insert(source.wgsl.clone(), program.clone());
        Ok(program)
    }

    fn known(&self, wgsl: &str) -> Option<Program> {
        let programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        programs.get(wgsl).cloned()
    }

    /// Lends buffers to a program, in the order of its bindings: its storage buffers, then the parameters.
    pub fn bind(
        &self,
        program: &Program,
        storage: &[&wgpu::Buffer],
        step: &wgpu::Buffer,
    ) -> Result<Bound, GpuError> {
        self.faults.check()?;
        self.counters.created(0);
        Bound::new(&self.device, program, storage, step)
    }

    /// Begins a step.
    pub fn record(&self) -> Recorder<'_> {
        Recorder::new(&self.device, &self.queue, &self.counters)
    }

    /// A ring of buffers to read back through.
    pub fn read_back(&self, bytes: u64, slots: usize) -> Result<ReadBack, GpuError> {
        self.faults.check()?;
        self.counters
            .created(bytes.saturating_mul(u64::try_from(slots).unwrap_or(u64::MAX)));
        Ok(ReadBack::new(&self.device, bytes, slots))
    }

    /// What a ticket stands for, once. Natively it blocks until the device has done it. Who gives up waiting can wait again.
    pub async fn take(&self, ticket: &mut Ticket) -> Result<Vec<u8>, GpuError> {
        ticket.take(&self.device, &self.faults).await
    }

    /// Waits until everything submitted is done. Natively it blocks.
    pub async fn finish(&self) -> Result<(), GpuError> {
        self.reach(self.mark()).await
    }

    /// A mark behind everything submitted and written so far.
    pub fn mark(&self) -> Mark {
        Mark::new(&self.queue)
    }

    /// Waits until everything before a mark is done. Natively it blocks.
    pub async fn reach(&self, mark: Mark) -> Result<(), GpuError> {
        mark.reach(&self.device, &self.faults).await
    }

    /// The bytes of a buffer, by a submit and a read-back of its own: for tests and whole rows of logits.
    pub async fn read(
        &self,
        buffer: &wgpu::Buffer,
        bytes: std::ops::Range<u64>,
    ) -> Result<Vec<u8>, GpuError> {
        let mut ring = self.read_back(bytes.end.saturating_sub(bytes.start), 1)?;
        let mut recorder = self.record();
        let copied = ring.copy(&mut recorder, buffer, bytes)?;
        let submitted = recorder.submit();
        let mut ticket = ring.ticket(copied, submitted, &self.counters);
        self.take(&mut ticket).await
    }

    /// Why the device cannot be used any more, once it is so.
    pub fn lost(&self) -> Option<Lost> {
        self.faults.lost()
    }

    /// Whether anything went wrong since the last time that this was asked.
    pub fn check(&self) -> Result<(), GpuError> {
        self.faults.check()
    }

    /// Gives the device up. What is under way ends as if it were lost.
    pub fn destroy(&self) {
        self.device.destroy();
        self.faults.destroyed();
    }
}

#[cfg(test)]
pub(crate) mod tests;
