//! One step: dispatches in one pass, copies behind them, one submit.

use super::counters::Counters;
use super::{GpuError, Program};

/// Buffers that are lent to a program.
#[derive(Debug, Clone)]
pub struct Bound {
    pub(super) program: Program,
    group: wgpu::BindGroup,
}

/// A step that is being recorded.
#[derive(Debug)]
pub struct Recorder<'g> {
    queue: &'g wgpu::Queue,
    counters: &'g Counters,
    encoder: wgpu::CommandEncoder,
    pass: Option<wgpu::ComputePass<'static>>,
}

impl Bound {
    pub(super) fn new(
        device: &wgpu::Device,
        program: &Program,
        storage: &[&wgpu::Buffer],
        step: &wgpu::Buffer,
    ) -> Result<Self, GpuError> {
        if storage.len() != program.storage_count() {
            return Err(GpuError::Kernel {
                label: program.label().to_owned(),
                message: format!(
                    "it has {} storage bindings, and {} buffers are lent",
                    program.storage_count(),
                    storage.len()
                ),
            });
        }
        let buffers = storage.iter().copied().chain([step]);
        let entries: Vec<_> = (0u32..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding,
                resource: buffer.as_entire_binding(),
            })
            .collect();
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(program.label()),
            layout: program.layout(),
            entries: &entries,
        });
        Ok(Self {
            program: program.clone(),
            group,
        })
    }

    /// The program's label.
    pub fn label(&self) -> &str {
        self.program.label()
    }
}

impl<'g> Recorder<'g> {
    pub(super) fn new(
        device: &wgpu::Device,
        queue: &'g wgpu::Queue,
        counters: &'g Counters,
    ) -> Self {
        let label = wgpu::CommandEncoderDescriptor {
            label: Some("step"),
        };
        Self {
            queue,
            counters,
            encoder: device.create_command_encoder(&label),
            pass: None,
        }
    }

    /// Runs a program so many workgroups wide, high and deep. Dispatches happen one after another, each sees what those
    /// before it wrote.
    pub fn dispatch(&mut self, bound: &Bound, groups: [u32; 3]) {
        let [wide, high, deep] = groups;
        let pass = self.pass.get_or_insert_with(|| {
            self.counters.passed();
            let label = wgpu::ComputePassDescriptor {
                label: Some("step"),
                timestamp_writes: None,
            };
            self.encoder.begin_compute_pass(&label).forget_lifetime()
        });
        pass.set_pipeline(bound.program.pipeline());
        pass.set_bind_group(0, &bound.group, &[]);
        pass.dispatch_workgroups(wide, high, deep);
        self.counters.dispatched();
    }

    /// Copies behind all dispatches so far. Ends their pass.
    pub fn copy(
        &mut self,
        from: &wgpu::Buffer,
        from_offset: u64,
        to: &wgpu::Buffer,
        to_offset: u64,
        bytes: u64,
    ) {
        self.pass = None;
        self.encoder
            .copy_buffer_to_buffer(from, from_offset, to, to_offset, bytes);
    }

    /// Hands the step to the device.
    pub fn submit(mut self) -> wgpu::SubmissionIndex {
        self.pass = None;
        self.counters.submitted();
        self.queue.submit([self.encoder.finish()])
    }
}
