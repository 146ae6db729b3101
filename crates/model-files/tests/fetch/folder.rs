//! A folder that goes with its test, on a disk of its own where one is wanted.
#![expect(
    clippy::print_stdout,
    reason = "whoever runs the tests hears what was left out"
)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MsFlags, mount, umount};

pub(crate) struct Folder {
    path: PathBuf,
    is_mounted: bool,
}

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = format!("heliograph-model-files-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a folder");
        Self {
            path,
            is_mounted: false,
        }
    }

    /// With a disk of so many bytes. None, with a printed reason, where this user may not mount one.
    pub(crate) fn with_disk(bytes: u64) -> Option<Self> {
        let mut folder = Self::new();
        let options = format!("size={bytes}");
        let none: Option<&str> = None;
        match mount(
            none,
            &folder.path,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(&options[..]),
        ) {
            Ok(()) => {
                folder.is_mounted = true;
                Some(folder)
            }
            Err(error) => {
                println!(
                    "skipped: a small disk cannot be mounted here ({error}); the test with a limit on file sizes runs"
                );
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The names in it, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(&self.path)
            .expect("readable")
            .map(|entry| {
                let name = entry.expect("an entry").file_name();
                name.into_string().expect("a name")
            })
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_mounted && umount(&self.path).is_err() {
            println!("{} stays mounted", self.path.display());
        }
        drop(std::fs::remove_dir_all(&self.path));
    }
}
