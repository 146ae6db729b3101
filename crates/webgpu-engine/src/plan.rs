//! What a step is made of: buffers, and the dispatches of one token (decode) or of a batch of them (prefill).
//!
//! ```text
//! decode of a layer: product (q,k,v) · rope_keep · attend · merge · product (o) · add_norm
//!                    · product (gate, up) · product (down) · add_norm                       = 9 dispatches
//! ```
//!
//! Everything is created when a session is; a step only writes its parameters and records. What it is not: it knows no
//! text and decides nothing about tokens.

mod buffers;
mod build;
mod choice;
mod dispatch;
mod draws;
mod phase;
mod reads;
mod weights;

pub use buffers::{Kept, Scratch};
pub use choice::{Choice, Shape, Tuned};
pub use dispatch::{Dispatch, Work};
pub use draws::Draws;
pub use phase::Phase;
pub use reads::Reads;
pub use weights::{Slice, Tensor, Upload, UploadError, Weights};

use crate::gpu::{Gpu, GpuError, Recorder};
use crate::kernels::Step;
use crate::model::{Config, Demand};

/// The dispatches of both kinds of steps, on the buffers of one session.
#[derive(Debug)]
pub struct Plan {
    decode: Phase,
    prefill: Phase,
}

impl Plan {
    /// Compiles and binds everything.
    pub async fn build(
        gpu: &Gpu,
        config: &Config,
        demand: &Demand,
        weights: &Weights,
        buffers: (&Scratch, &Kept),
        choice: &Choice,
    ) -> Result<Self, GpuError> {
        let parts = (config, demand, weights);
        let phase = async |batch: u32| Phase::build(gpu, parts, buffers, (choice, batch)).await;
        Ok(Self {
            decode: phase(1).await?,
            prefill: phase(demand.batch_tokens).await?,
        })
    }

    /// The dispatches for so many tokens.
    pub const fn phase(&self, tokens: u32) -> &Phase {
        if tokens == 1 {
            &self.decode
        } else {
            &self.prefill
        }
    }

    /// Records a step: up to the norm behind the last layer, and the logits of the tokens that it wants them of.
    pub fn record(&self, recorder: &mut Recorder<'_>, step: &Step) {
        self.phase(step.tokens).record(recorder, step);
    }
}
