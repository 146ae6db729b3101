//! What can be seen on this machine alone.

use std::fs;
use std::path::Path;

use llama_cpp_2::LlamaBackendDevice;
use model_files::need::Need;
use nix::sys::statvfs::statvfs;

use super::Finding;
use crate::engine::llama;
use crate::models::{Memory, RoomFlags, need_of_files, read_memory};
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

/// The model that is to fit.
pub(super) struct Wanted<'w> {
    pub(super) file: Option<&'w Path>,
    pub(super) projector: Option<&'w Path>,
    pub(super) room: &'w RoomFlags,
    /// Whether a rig that runs here has its model in this memory already.
    pub(super) is_loaded: bool,
}

/// Memory, beside what the model needs: both reckoned as the rig itself does before it loads.
pub(super) fn memory(wanted: &Wanted<'_>) -> Finding {
    let memory = match read_memory() {
        Ok(memory) => memory,
        Err(error) => {
            let mend = "mend llama.cpp first: only it sees the memory of a card";
            return Finding::warning("memory", format!("unknown: {error}"), mend);
        }
    };
    if let Some(path) = wanted.file
        && let Err(error) = fs::metadata(path)
    {
        return Finding::bad(
            "model",
            format!("{} cannot be read: {error}", path.display()),
            "give the right path; in a container, mount the folder and let the rig's user read it",
        );
    }
    let room = wanted.room.room(&memory);
    let model = wanted.file.map_or(Model::None, |path| {
        need_of_files(path, wanted.projector, room)
            .map_or(Model::Unknown, |(need, _)| Model::Needs(need))
    });
    fit(&memory, &model, wanted.is_loaded)
}

/// What is known of the model's need.
enum Model {
    /// No file was named.
    None,
    /// Its file says nothing that one could reckon with.
    Unknown,
    /// This.
    Needs(Need),
}

fn fit(memory: &Memory, model: &Model, is_loaded: bool) -> Finding {
    let free = format!("{} MiB are free ({})", memory.free >> 20, memory.device);
    if is_loaded {
        // It would not fit a second time, and need not.
        let found = format!("{free}, beside the rig that runs here with its model");
        return Finding::ok("memory", found);
    }
    let need = match model {
        Model::None if memory.free < MEMORY_BYTES_MIN => {
            let mend = "end something else, or give the container more memory";
            return Finding::warning("memory", free, mend);
        }
        Model::None => return Finding::ok("memory", free),
        Model::Unknown => {
            let mend = "nothing, if the rig loads it; else give a whole GGUF file";
            let found = format!("{free}; what the model needs cannot be read off its file");
            return Finding::warning("memory", found, mend);
        }
        Model::Needs(need) => need,
    };
    let needed = memory.needed(need);
    let most = needed.saturating_add(memory.later_max(need));
    let found = format!("the model needs up to {} MiB, and {free}", most >> 20);
    let mend = "fewer --slots, a shorter --context, a smaller model or a stronger quantisation";
    if memory.fits(need) {
        Finding::ok("memory", found)
    } else if needed <= memory.free {
        let found = format!("{found}: a tenth more should be");
        Finding::warning("memory", found, mend)
    } else {
        Finding::bad("memory", found, mend)
    }
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
    use clap::Parser;
    use gguf_writer::seeded::language::Language;

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

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        room: RoomFlags,
    }

    fn flags() -> RoomFlags {
        Flags::parse_from(["rig", "--slots", "2", "--context", "1024"]).room
    }

    fn memory_of(free: u64) -> Memory {
        Memory {
            device: "CPU".to_owned(),
            free,
            total: 64 << 30,
            parts: 0,
            is_processor: true,
        }
    }

    #[test]
    fn a_model_fits_by_the_sum_that_the_rig_itself_makes_unless_the_rig_has_it_already() {
        let weights = Language::Llama.write(1).unwrap().to_bytes();
        let name = format!("heliograph-fits-{}.gguf", std::process::id());
        let file = std::env::temp_dir().join(name);
        fs::write(&file, weights).unwrap();
        let room = flags().room(&memory_of(0));
        let (need, _) = need_of_files(&file, None, room).unwrap();
        fs::remove_file(file).unwrap();
        let needed = memory_of(0).needed(&need);
        assert!(needed > 0);
        let grade = |free, is_loaded| fit(&memory_of(free), &Model::Needs(need), is_loaded).grade;
        assert_eq!(grade(64 << 30, false), Grade::Ok);
        assert_eq!(grade(needed, false), Grade::Warning);
        assert_eq!(grade(needed - 1, false), Grade::Bad);
        // A healthy rig has taken what is not free any more.
        assert_eq!(grade(0, true), Grade::Ok);
        assert_eq!(
            fit(&memory_of(0), &Model::None, false).grade,
            Grade::Warning
        );
        assert_eq!(fit(&memory_of(0), &Model::None, true).grade, Grade::Ok);
        let unknown = fit(&memory_of(64 << 30), &Model::Unknown, false);
        assert_eq!(unknown.grade, Grade::Warning);
    }

    #[test]
    fn too_many_threads_and_missing_models_are_told() {
        assert_eq!(processor(Some(100_000)).grade, Grade::Warning);
        assert_eq!(processor(Some(1)).grade, Grade::Ok);
        let gone = memory(&Wanted {
            file: Some(Path::new("/nonexistent/model.gguf")),
            projector: None,
            room: &flags(),
            is_loaded: false,
        });
        assert_eq!((gone.grade, gone.what), (Grade::Bad, "model"));
    }
}
