//! Kernels: their text, and what a device makes of it.

use super::GpuError;

/// Whether a kernel writes to a buffer. What is only read is declared so, that dispatches may overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    Write,
}

/// The text of a kernel. Its entry is `main`; its bindings are those of group 0: first the storage buffers in the order
/// of `storage`, then the parameters of the step (`var<uniform>`), whether it uses them or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What it is called in messages.
    pub label: String,
    /// The whole text.
    pub wgsl: String,
    /// Its storage buffers.
    pub storage: Vec<Access>,
}

/// A compiled kernel.
#[derive(Debug, Clone)]
pub struct Program {
    label: String,
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    storage_count: usize,
}

impl Program {
    pub(super) async fn compile(device: &wgpu::Device, source: &Source) -> Result<Self, GpuError> {
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let label = Some(source.label.as_str());
        let layout = layout(device, source);
        let pipelines = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let module = module(device, source);
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipelines),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[],
                // Kernels write what they read; where they do not, they say so.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        if let Some(error) = scope.pop().await {
            return Err(GpuError::Kernel {
                label: source.label.clone(),
                message: error.to_string(),
            });
        }
        Ok(Self {
            label: source.label.clone(),
            pipeline,
            layout,
            storage_count: source.storage.len(),
        })
    }

    pub(super) const fn pipeline(&self) -> &wgpu::ComputePipeline {
        &self.pipeline
    }

    pub(super) const fn layout(&self) -> &wgpu::BindGroupLayout {
        &self.layout
    }

    pub(super) const fn storage_count(&self) -> usize {
        self.storage_count
    }

    /// What it is called.
    pub fn label(&self) -> &str {
        &self.label
    }
}

/// Without checks of bounds, which cost much in inner loops: every index is computed from lengths that were checked when
/// the buffers were made, and token ids are checked before they are written. In browsers the text goes to the page's own
/// WebGPU, which checks anyway.
#[expect(
    unsafe_code,
    reason = "only wgpu's trusted modules have no checks of bounds and no counters in loops"
)]
fn module(device: &wgpu::Device, source: &Source) -> wgpu::ShaderModule {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(&source.label),
        source: wgpu::ShaderSource::Wgsl(source.wgsl.as_str().into()),
    };
    // SAFETY: the texts are ours; see above for their indexes. Their loops end, since bounds are constants or checked
    // parameters.
    unsafe {
        device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
    }
}

fn layout(device: &wgpu::Device, source: &Source) -> wgpu::BindGroupLayout {
    let storage = source.storage.iter().map(|access| {
        let read_only = match access {
            Access::Read => true,
            Access::Write => false,
        };
        wgpu::BufferBindingType::Storage { read_only }
    });
    let kinds = storage.chain([wgpu::BufferBindingType::Uniform]);
    let entries: Vec<_> = (0u32..)
        .zip(kinds)
        .map(|(binding, ty)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty,
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some(&source.label),
        entries: &entries,
    })
}
