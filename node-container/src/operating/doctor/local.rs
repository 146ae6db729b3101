//! What can be seen on this machine alone.

use std::fs;
use std::path::Path;

use llama_cpp_2::LlamaBackendDevice;
use nix::sys::statvfs::statvfs;

use super::Finding;
use crate::engine::llama;
use crate::operating::machine;

/// Weights and cache of the smallest model that is of use.
const MEMORY_BYTES_MIN: u64 = 2 << 30;

/// A model of 8 billion parameters in 4 bits, and some air.
const DISK_BYTES_MIN: u64 = 8 << 30;

/// GPUs, and whether what is in the machine is what llama.cpp sees.
pub(super) fn devices() -> Vec<Finding> {
    let devices = match llama::devices() {
        Ok(devices) => devices,
        Err(error) => {
            let mend = "use an image of Heliograph, or keep `backends` and the libraries beside the program";
            return vec![Finding::bad("llama.cpp", error.to_string(), mend)];
        }
    };
    let mut findings: Vec<Finding> = devices
        .iter()
        .filter(|device| machine::is_gpu(device))
        .map(|device| Finding::ok("GPU", describe(device)))
        .collect();
    if findings.is_empty() {
        findings.push(no_gpu(Path::new("/dev"), machine::driver().as_deref()));
    } else if let Some(driver) = machine::driver() {
        findings.push(Finding::ok("driver", driver));
    }
    findings
}

fn describe(device: &LlamaBackendDevice) -> String {
    format!(
        "{} ({}), {} GiB, {} GiB free",
        device.description,
        device.backend,
        device.memory_total >> 30,
        device.memory_free >> 30
    )
}

/// Why llama.cpp sees no GPU, as far as the device files tell.
fn no_gpu(dev: &Path, driver: Option<&str>) -> Finding {
    let has = |name: &str| dev.join(name).exists();
    if has("nvidia0") || driver.is_some_and(|_| has("nvidiactl")) {
        return Finding::bad(
            "GPU",
            "there is an NVIDIA GPU, but llama.cpp cannot use it",
            "use the image rig-cuda; in Docker, install nvidia-container-toolkit and start with --gpus all; `nvidia-smi` must work on the host",
        );
    }
    if has("kfd") {
        return Finding::bad(
            "GPU",
            "there is an AMD GPU, but llama.cpp cannot use it",
            "use the image rig-rocm, with --device /dev/kfd --device /dev/dri and the groups video and render",
        );
    }
    if has("dri") {
        return Finding::warning(
            "GPU",
            "there is a GPU (/dev/dri), but llama.cpp does not use it",
            "use the image rig-vulkan, with --device /dev/dri and the group render",
        );
    }
    Finding::warning(
        "GPU",
        "there is none: the rig runs on the processor",
        "small models only; with a GPU in the machine, its driver is missing on the host",
    )
}

/// Memory of the machine, beside a model file.
pub(super) fn memory(model_file: Option<&Path>) -> Finding {
    let Some(free) = available_memory() else {
        return Finding::warning("memory", "unknown", "/proc/meminfo cannot be read");
    };
    let free_gib = free >> 30;
    let Some(path) = model_file else {
        return if free < MEMORY_BYTES_MIN {
            let mend = "end something else, or give the container more memory";
            Finding::warning("memory", format!("{free_gib} GiB are free"), mend)
        } else {
            Finding::ok("memory", format!("{free_gib} GiB are free"))
        };
    };
    match fs::metadata(path) {
        Err(error) => Finding::bad(
            "model",
            format!("{} cannot be read: {error}", path.display()),
            "give the right path; in a container, mount the folder and let the rig's user read it",
        ),
        Ok(file)
            if file.len() > free
                && llama::devices().is_ok_and(|all| !all.iter().any(machine::is_gpu)) =>
        {
            Finding::bad(
                "memory",
                format!(
                    "the model has {} GiB, and {free_gib} GiB are free",
                    file.len() >> 30
                ),
                "choose a smaller model, or a stronger quantisation",
            )
        }
        Ok(file) => Finding::ok(
            "memory",
            format!(
                "{free_gib} GiB are free, the model has {} MiB",
                file.len() >> 20
            ),
        ),
    }
}

/// Bytes that programs may still take: the machine's, or the container's where that is less.
fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let machine = meminfo_available(&text)?;
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let container = number("/sys/fs/cgroup/memory.max")
        .zip(number("/sys/fs/cgroup/memory.current"))
        .map(|(most, now)| most.saturating_sub(now));
    Some(container.map_or(machine, |container| container.min(machine)))
}

fn meminfo_available(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

/// Cores and threads.
pub(super) fn processor(threads: Option<usize>) -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match threads {
        Some(threads) if threads > cores => Finding::warning(
            "processor",
            format!("{threads} threads are to compute, and there are {cores} cores"),
            "leave --threads out, or use fewer: waiting for each other, they are much slower",
        ),
        Some(_) | None => Finding::ok("processor", format!("{cores} cores")),
    }
}

/// Room for models.
pub(super) fn disk(folder: &Path) -> Finding {
    // It is made at the first download.
    let Some(existing) = folder.ancestors().find(|folder| folder.exists()) else {
        return Finding::bad(
            "disk",
            "there is no folder for models",
            "give one as --cache",
        );
    };
    let path = folder.display();
    match statvfs(existing) {
        Err(error) => Finding::bad(
            "disk",
            format!("{path} cannot be looked at: {error}"),
            "give another folder as --cache",
        ),
        Ok(disk) => {
            let free = disk.blocks_available() * disk.fragment_size();
            let found = format!("{} GiB are free for models in {path}", free >> 30);
            if nix::unistd::access(existing, nix::unistd::AccessFlags::W_OK).is_err() {
                let mend = "mount a volume that the rig's user may write to, or put the file there and use it read-only";
                Finding::warning("disk", format!("{path} cannot be written to"), mend)
            } else if free < DISK_BYTES_MIN {
                let mend =
                    "delete models that are not used any more, or give another folder as --cache";
                Finding::warning("disk", found, mend)
            } else {
                Finding::ok("disk", found)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    #[test]
    fn device_files_tell_which_image_is_missing() {
        let base = std::env::temp_dir().join(format!("heliograph-doctor-{}", std::process::id()));
        let grade_with = |name: &str| {
            let folder = base.join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(name), "").unwrap();
            let finding = no_gpu(&folder, None);
            (finding.grade, finding.mend.unwrap())
        };
        for (name, image) in [
            ("nvidia0", "rig-cuda"),
            ("kfd", "rig-rocm"),
            ("dri", "rig-vulkan"),
        ] {
            assert!(grade_with(name).1.contains(image), "{name}");
        }
        assert_eq!(grade_with("nothing").0, Grade::Warning);
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn free_memory_is_read_in_bytes() {
        let text = "MemTotal:  100 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(meminfo_available(text), Some(2 << 20));
        assert_eq!(meminfo_available("MemFree: 1 kB"), None);
    }

    #[test]
    fn too_many_threads_and_missing_models_are_told() {
        assert_eq!(processor(Some(100_000)).grade, Grade::Warning);
        assert_eq!(processor(Some(1)).grade, Grade::Ok);
        let gone = memory(Some(Path::new("/nonexistent/model.gguf")));
        assert_eq!((gone.grade, gone.what), (Grade::Bad, "model"));
    }
}
