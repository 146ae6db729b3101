//! What this rig runs on, as it is told to the relay.

use std::fs;

use llama_cpp_2::{LlamaBackendDevice, LlamaBackendDeviceType, list_llama_ggml_backend_devices};
use protocol::Machine;
use protocol::limits::NAME_BYTES_MAX;

/// The version of llama.cpp's bindings, which pin llama.cpp itself.
const LLAMA: &str = "llama.cpp (llama-cpp-2 0.1.160)";

/// The device that computes: the first GPU, or the processor. Only after llama.cpp was started.
pub fn machine() -> Option<Machine> {
    let devices = list_llama_ggml_backend_devices();
    let device = devices
        .iter()
        .find(|device| is_gpu(device))
        .or_else(|| devices.first())?;
    let runtime = match driver() {
        Some(driver) if is_gpu(device) => format!("{LLAMA}, {}, driver {driver}", device.backend),
        Some(_) | None => format!("{LLAMA}, {}", device.backend),
    };
    Some(Machine {
        device: shortened(&device.description, "unknown device"),
        memory_bytes: u64::try_from(device.memory_total).unwrap_or(0),
        runtime: shortened(&runtime, LLAMA),
    })
}

/// Whether it is more than the processor.
pub(crate) const fn is_gpu(device: &LlamaBackendDevice) -> bool {
    match device.device_type {
        LlamaBackendDeviceType::Gpu | LlamaBackendDeviceType::IntegratedGpu => true,
        LlamaBackendDeviceType::Cpu
        | LlamaBackendDeviceType::Accelerator
        | LlamaBackendDeviceType::Unknown => false,
    }
}

/// The version of NVIDIA's driver, or of AMD's kernel module; others are part of the kernel.
pub(super) fn driver() -> Option<String> {
    let nvidia = fs::read_to_string("/proc/driver/nvidia/version").ok();
    let nvidia = nvidia.as_deref().and_then(nvidia_version);
    let amd = || {
        let version = fs::read_to_string("/sys/module/amdgpu/version").ok()?;
        Some(version.trim().to_owned()).filter(|version| !version.is_empty())
    };
    nvidia.or_else(amd)
}

/// `NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu …`
fn nvidia_version(text: &str) -> Option<String> {
    let words = text.lines().next()?.split_whitespace();
    let mut words = words.filter(|word| word.contains('.'));
    let is_version = |word: &&str| {
        word.chars()
            .all(|char| char.is_ascii_digit() || char == '.')
    };
    words.find(is_version).map(str::to_owned)
}

/// The wire allows only so much.
fn shortened(text: &str, otherwise: &str) -> String {
    let text = text.trim();
    let end = text
        .char_indices()
        .map(|(start, char)| start + char.len_utf8())
        .take_while(|end| *end <= NAME_BYTES_MAX)
        .last();
    end.and_then(|end| text.get(..end))
        .unwrap_or(otherwise)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drivers_version_is_found_in_its_sentence() {
        let text = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 23 2025\nGCC version: 12.2.0";
        assert_eq!(nvidia_version(text).as_deref(), Some("570.86.15"));
        assert_eq!(nvidia_version("nothing here"), None);
    }

    #[test]
    fn names_fit_the_wire_and_are_never_empty() {
        assert_eq!(shortened(" ", "x"), "x");
        let long = shortened(&"ä".repeat(90), "x");
        assert!(long.len() <= NAME_BYTES_MAX && long.len() > NAME_BYTES_MAX - 2);
    }
}
