//! Which image fits the machine: a look at the device files that drivers make. The rig's own `doctor` looks closer.

use std::path::Path;

use clap::ValueEnum;

/// What computes, and so which image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Gpu {
    /// The processor alone
    Cpu,
    /// An NVIDIA card with its driver and its container toolkit
    Cuda,
    /// An AMD card with the kernel's compute driver
    Rocm,
    /// Any card with a Vulkan driver
    Vulkan,
}

impl Gpu {
    /// How images and labels call it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Rocm => "rocm",
            Self::Vulkan => "vulkan",
        }
    }

    /// The one that images and labels call so.
    pub(crate) fn of(text: &str) -> Option<Self> {
        [Self::Cpu, Self::Cuda, Self::Rocm, Self::Vulkan]
            .into_iter()
            .find(|gpu| gpu.as_str() == text)
    }
}

/// A choice and what speaks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// What to use.
    pub(crate) gpu: Gpu,
    /// The device file that says so, or that there is none.
    pub(crate) because: String,
}

/// What shows each kind of card, the best first: a machine with an NVIDIA card often has `/dev/dri` too.
/// `/dev/dxg` is a Windows machine's card seen from its Linux; only NVIDIA's driver brings a library for compute there.
const SIGNS: [(Gpu, &str); 6] = [
    (Gpu::Cuda, "dev/nvidiactl"),
    (Gpu::Cuda, "dev/nvidia0"),
    (Gpu::Cuda, "proc/driver/nvidia/version"),
    (Gpu::Cuda, "usr/lib/wsl/lib/libcuda.so.1"),
    (Gpu::Rocm, "dev/kfd"),
    (Gpu::Vulkan, "dev/dri/renderD128"),
];

/// The one that was asked for, else what this machine has.
pub(crate) fn chosen(asked_for: Option<Gpu>) -> Found {
    asked_for.map_or_else(
        || find(Path::new("/")),
        |gpu| Found {
            gpu,
            because: "asked for".to_owned(),
        },
    )
}

/// Whether a rig must not run without its card: where the card chose the image, or somebody asked for the card. Of an
/// image that was given by hand nobody knows whether it can use the card that this machine happens to have.
pub(crate) fn is_needed(gpu: Gpu, asked_for: Option<Gpu>, image: Option<&str>) -> bool {
    gpu != Gpu::Cpu && (asked_for.is_some() || image.is_none())
}

/// Looks at the machine whose files are below `root`.
fn find(root: &Path) -> Found {
    let sign = SIGNS.iter().find(|(_, path)| root.join(path).exists());
    match sign {
        Some((gpu, path)) => Found {
            gpu: *gpu,
            because: format!("/{path} is there"),
        },
        None => Found {
            gpu: Gpu::Cpu,
            because: "no driver of a graphics card is there".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    /// A folder that looks like a machine with these files.
    struct Machine(PathBuf);

    impl Machine {
        fn with(name: &str, files: &[&str]) -> Self {
            let root =
                std::env::temp_dir().join(format!("heliograph-gpu-{}-{name}", std::process::id()));
            for file in files {
                let path = root.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, b"").unwrap();
            }
            fs::create_dir_all(&root).unwrap();
            Self(root)
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_image_follows_the_card() {
        for (name, files, gpu) in [
            ("none", &[][..], Gpu::Cpu),
            ("screen", &["dev/dri/card0"], Gpu::Cpu),
            ("intel", &["dev/dri/renderD128"], Gpu::Vulkan),
            ("amd", &["dev/dri/renderD128", "dev/kfd"], Gpu::Rocm),
            (
                "nvidia",
                &["dev/nvidiactl", "dev/dri/renderD128"],
                Gpu::Cuda,
            ),
            ("both", &["dev/kfd", "dev/nvidia0"], Gpu::Cuda),
        ] {
            let machine = Machine::with(name, files);
            assert_eq!(find(&machine.0).gpu, gpu, "{name}");
        }
    }

    #[test]
    fn the_choice_names_what_speaks_for_it() {
        let machine = Machine::with("because", &["dev/kfd"]);
        assert_eq!(find(&machine.0).because, "/dev/kfd is there");
    }

    #[test]
    fn every_kind_is_found_by_its_name() {
        for gpu in [Gpu::Cpu, Gpu::Cuda, Gpu::Rocm, Gpu::Vulkan] {
            assert_eq!(Gpu::of(gpu.as_str()), Some(gpu));
        }
        assert_eq!(Gpu::of("abacus"), None);
    }

    #[test]
    fn a_card_is_needed_where_it_chose_the_image_or_was_asked_for() {
        let image = Some("registry.example/rig-cpu:1");
        for (gpu, asked_for, image, wanted) in [
            (Gpu::Cuda, None, None, true),
            (Gpu::Cuda, Some(Gpu::Cuda), None, true),
            (Gpu::Vulkan, Some(Gpu::Vulkan), image, true),
            // The card is there, but the image may be the processor's.
            (Gpu::Cuda, None, image, false),
            (Gpu::Cpu, None, None, false),
            (Gpu::Cpu, Some(Gpu::Cpu), None, false),
            (Gpu::Cpu, Some(Gpu::Cpu), image, false),
        ] {
            let needed = is_needed(gpu, asked_for, image);
            assert_eq!(needed, wanted, "{gpu:?} {asked_for:?} {image:?}");
        }
    }
}
