//! Opening an adapter, and what it can do.

use super::GpuError;

/// Which adapter is asked for, and what of it may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// Uses nothing beyond WebGPU's default limits and no feature, whatever the adapter has. For tests.
    pub is_plain: bool,
    /// Takes the kernels of a card even where the adapter computes on the CPU. For tests of them.
    pub is_card: bool,
    /// The caller knows that the adapter computes on the CPU; browsers tell pages more of its name than us.
    pub is_software: bool,
}

/// What a device can do.
#[expect(
    clippy::struct_excessive_bools,
    reason = "abilities come in any combination"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abilities {
    /// The adapter's name, as its driver tells it.
    pub adapter: String,
    /// Its driver and the interface that leads to it.
    pub driver: String,
    /// Whether it computes on the CPU. Kernels then have one thread a row and no barriers.
    pub is_software: bool,
    /// The most bytes of a buffer that a kernel is lent.
    pub binding_bytes_max: u64,
    /// Whether kernels may use operations of subgroups, and their threads lie in order.
    pub has_subgroups: bool,
    /// The fewest threads of a subgroup, where there are any.
    pub subgroup_threads: u32,
    /// Whether `dot4I8Packed` and its like compile.
    pub has_packed_dot: bool,
    /// Whether kernels may have 16-bit floats.
    pub has_half: bool,
    /// Bytes that a workgroup may share.
    pub workgroup_bytes: u32,
    /// Threads of a workgroup.
    pub workgroup_threads: u32,
}

/// The most threads of a workgroup that any of our kernels has.
const THREADS_MAX: u32 = 256;

pub(super) async fn open(wish: &Wish) -> Result<(wgpu::Device, wgpu::Queue, Abilities), GpuError> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends =
        wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::BROWSER_WEBGPU;
    // Layers that check what wgpu has checked already.
    descriptor.flags = wgpu::InstanceFlags::empty();
    let instance = wgpu::Instance::new(descriptor);
    let options = wgpu::RequestAdapterOptions {
        power_preference: wgpu::PowerPreference::HighPerformance,
        ..wgpu::RequestAdapterOptions::default()
    };
    let none = |error: &dyn std::fmt::Display| GpuError::NoAdapter(error.to_string());
    let adapter = instance.request_adapter(&options).await;
    let adapter = adapter.map_err(|error| none(&error))?;
    let (features, limits) = wanted(&adapter, *wish);
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("webgpu-engine"),
        required_features: features,
        required_limits: limits.clone(),
        ..wgpu::DeviceDescriptor::default()
    };
    let opened = adapter.request_device(&descriptor).await;
    let (device, queue) = opened.map_err(|error| none(&error))?;
    let info = adapter.get_info();
    let language = instance.wgsl_language_features();
    let abilities = Abilities {
        is_software: !wish.is_card
            && (wish.is_software
                || info.device_type == wgpu::DeviceType::Cpu
                || is_software(&info.name)),
        driver: format!("{} {} ({:?})", info.driver, info.driver_info, info.backend),
        adapter: info.name,
        binding_bytes_max: limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size),
        has_subgroups: features.contains(wgpu::Features::SUBGROUP),
        subgroup_threads: info.subgroup_min_size,
        has_packed_dot: !wish.is_plain
            && language.contains(wgpu::WgslLanguageFeatures::Packed4x8IntegerDotProduct),
        has_half: features.contains(wgpu::Features::SHADER_F16),
        workgroup_bytes: limits.max_compute_workgroup_storage_size,
        workgroup_threads: limits
            .max_compute_invocations_per_workgroup
            .min(THREADS_MAX),
    };
    Ok((device, queue, abilities))
}

/// The defaults, and of what is beyond them only what kernels have variants for. A larger binding saves cutting matrices.
fn wanted(adapter: &wgpu::Adapter, wish: Wish) -> (wgpu::Features, wgpu::Limits) {
    let defaults = wgpu::Limits::default();
    if wish.is_plain {
        return (wgpu::Features::empty(), defaults);
    }
    let offered = adapter.limits();
    let features = adapter.features() & (wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16);
    let limits = wgpu::Limits {
        max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
        max_buffer_size: offered.max_buffer_size,
        max_compute_workgroup_storage_size: offered.max_compute_workgroup_storage_size,
        ..defaults
    };
    (features, limits)
}

/// Browsers do not always say so.
fn is_software(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["swiftshader", "llvmpipe", "lavapipe", "software"]
        .iter()
        .any(|software| name.contains(software))
}
