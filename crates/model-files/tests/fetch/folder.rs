//! A folder that goes with its test, on a disk of its own where one is wanted.
#![expect(
    clippy::print_stdout,
    reason = "whoever runs the tests hears what was left out"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Once;
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

    /// With a disk of so many bytes. None, with the reason on standard error, where this user may not mount one; where
    /// `CI` is set, that is a failure.
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
                leave_out(&format!("a small disk cannot be mounted here: {error}"));
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

/// Says once that tests have nothing to look at on this machine, where people see it: not with `eprintln!`, of which the
/// test harness shows nothing when the test passes. Where `CI` is set, nobody looks, and a test that did not run must
/// not pass.
fn leave_out(reason: &str) {
    static SAID: Once = Once::new();
    let ci = std::env::var_os("CI");
    let is_ci = ci.is_some_and(|value| !value.is_empty() && value != "false");
    assert!(!is_ci, "{reason}; CI is set, so this is a failure");
    SAID.call_once(|| {
        let line = format!("\nleft out, the tests with a full disk: {reason}");
        writeln!(std::io::stderr(), "{line}").expect("standard error is open");
    });
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_mounted && umount(&self.path).is_err() {
            println!("{} stays mounted", self.path.display());
        }
        drop(std::fs::remove_dir_all(&self.path));
    }
}
