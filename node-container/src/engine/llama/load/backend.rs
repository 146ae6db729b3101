//! What llama.cpp computes with: its libraries, its process-wide state, its devices.

use std::sync::OnceLock;

use llama_cpp_2::llama_backend::{LlamaBackend, load_backends, load_backends_from_path};
use llama_cpp_2::{LlamaBackendDevice, LlamaBackendDeviceType};

use super::outcome::LoadError;

/// llama.cpp's process-wide state, made at first use and kept.
pub(crate) fn backend() -> Result<&'static LlamaBackend, LoadError> {
    static BACKEND: OnceLock<Result<LlamaBackend, String>> = OnceLock::new();
    let backend = BACKEND.get_or_init(|| {
        llama_cpp_2::send_logs_to_tracing(llama_cpp_2::LogOptions::default());
        load_compute_libraries();
        add_packed_weights();
        LlamaBackend::init().map_err(|error| error.to_string())
    });
    match backend {
        Err(error) => Err(LoadError::Backend(error.clone())),
        Ok(_) if llama_cpp_2::list_llama_ggml_backend_devices().is_empty() => {
            Err(LoadError::NoBackend)
        }
        Ok(backend) => Ok(backend),
    }
}

/// What llama.cpp can compute on here, with the memory of each.
pub fn devices() -> Result<Vec<LlamaBackendDevice>, LoadError> {
    backend()?;
    Ok(llama_cpp_2::list_llama_ggml_backend_devices())
}

/// See [`packed`](crate::engine::packed). `HELIOGRAPH_PACKED=0` leaves llama.cpp as it is, to compare.
fn add_packed_weights() {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if std::env::var_os("HELIOGRAPH_PACKED").is_none_or(|value| value != "0") {
        let is_added = crate::engine::packed::add();
        tracing::debug!(is_added, "packed weights");
    }
}

/// One library per kind of processor; llama.cpp picks the best that runs here. An image has them beside the program,
/// a build tree where they were built.
fn load_compute_libraries() {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.join("backends")))
        .filter(|folder| folder.is_dir() && folder.to_str().is_some());
    match beside {
        Some(folder) => load_backends_from_path(&folder),
        None => load_backends(),
    }
}

/// What llama.cpp computes on.
pub(super) fn device_names() -> Vec<String> {
    llama_cpp_2::list_llama_ggml_backend_devices()
        .into_iter()
        .map(|device| device.description)
        .collect()
}

/// Whether something else than the processor computes.
pub(super) fn has_accelerator() -> bool {
    llama_cpp_2::list_llama_ggml_backend_devices()
        .iter()
        .any(|device| match device.device_type {
            LlamaBackendDeviceType::Gpu | LlamaBackendDeviceType::IntegratedGpu => true,
            LlamaBackendDeviceType::Cpu
            | LlamaBackendDeviceType::Accelerator
            | LlamaBackendDeviceType::Unknown => false,
        })
}
