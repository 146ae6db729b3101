//! What goes wrong with a device, and where it is kept until somebody asks.

use std::sync::{Arc, Mutex, PoisonError};

/// Why the device did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// There is no adapter, or none gives a device.
    #[error("no WebGPU adapter can be used: {0}")]
    NoAdapter(String),
    /// A buffer is larger than a kernel can be lent.
    #[error("buffer `{label}` needs {bytes} bytes, and this adapter lends a kernel at most {most}")]
    BufferTooLarge {
        /// Which.
        label: String,
        /// What it needs.
        bytes: u64,
        /// What can be had.
        most: u64,
    },
    /// A kernel does not compile, or its bindings do not fit. A mistake of ours, with the compiler's words.
    #[error("kernel `{label}` is refused: {message}")]
    Kernel {
        /// Which.
        label: String,
        /// What the compiler says.
        message: String,
    },
    /// There is no memory left on the device.
    #[error(
        "the device has no memory left: close what else uses it, or take a smaller model or a shorter context ({0})"
    )]
    OutOfMemory(String),
    /// The device refused something else.
    #[error("the device refuses: {0}")]
    Refused(String),
    /// The device is gone; a new one must be opened.
    #[error(transparent)]
    Lost(#[from] Lost),
}

impl GpuError {
    /// Whether a new device would mend it.
    pub const fn is_lost(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            Self::NoAdapter(_)
            | Self::BufferTooLarge { .. }
            | Self::Kernel { .. }
            | Self::OutOfMemory(_)
            | Self::Refused(_) => false,
        }
    }
}

impl From<wgpu::Error> for GpuError {
    fn from(error: wgpu::Error) -> Self {
        match error {
            wgpu::Error::OutOfMemory { .. } => Self::OutOfMemory(error.to_string()),
            wgpu::Error::Validation { .. } | wgpu::Error::Internal { .. } => {
                Self::Refused(error.to_string())
            }
        }
    }
}

/// The device is gone: its driver was reset, the page lost it, or it was given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the device was lost: {0}")]
pub struct Lost(pub String);

/// Faults that arrive by callbacks.
#[derive(Debug, Default)]
pub(super) struct Faults {
    lost: Mutex<Option<Lost>>,
    refused: Mutex<Option<GpuError>>,
}

impl Faults {
    /// Hears of all that the device reports. Without a listener wgpu panics.
    pub(super) fn listen(self: &Arc<Self>, device: &wgpu::Device) {
        let faults = Arc::clone(self);
        device.set_device_lost_callback(move |reason, message| {
            faults.set_lost(format!("{reason:?}: {message}"));
        });
        let faults = Arc::clone(self);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let mut refused = faults
                .refused
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            // The first one is the cause of the others.
            refused.get_or_insert_with(|| GpuError::from(error));
        }));
    }

    fn set_lost(&self, why: String) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.get_or_insert(Lost(why));
    }

    pub(super) fn destroyed(&self) {
        self.set_lost("it was given up".to_owned());
    }

    pub(super) fn lost(&self) -> Option<Lost> {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.clone()
    }

    pub(super) fn check(&self) -> Result<(), GpuError> {
        if let Some(lost) = self.lost() {
            return Err(lost.into());
        }
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.take().map_or(Ok(()), Err)
    }
}
