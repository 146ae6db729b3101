//! The dispatches that draw a token, by whether the rules are greedy.

use super::dispatch::Drawing;
use super::{Kept, Scratch};
use crate::gpu::{Gpu, GpuError, Recorder};
use crate::kernels::{Sampling, SamplingBuffer, SamplingMethod};
use crate::model::Config;

/// Both lists, on the buffers of one session.
#[derive(Debug)]
pub struct Draws {
    greedy: Vec<Drawing>,
    drawn: Vec<Drawing>,
}

impl Draws {
    /// Compiles and binds both.
    pub async fn build(
        gpu: &Gpu,
        config: &Config,
        (scratch, kept): (&Scratch, &Kept),
    ) -> Result<Self, GpuError> {
        let sampling = Sampling {
            vocabulary: config.vocabulary,
        };
        let list = async |method: SamplingMethod| {
            let mut list = Vec::new();
            for stage in sampling.stages(method, gpu.abilities()) {
                let buffers = stage.buffers.iter().map(|buffer| match buffer {
                    SamplingBuffer::Logits => &scratch.logits,
                    SamplingBuffer::Scratch => &scratch.sampling,
                    SamplingBuffer::Counts => &kept.counts,
                    SamplingBuffer::Biases => &kept.biases,
                    SamplingBuffer::Mask => &kept.mask,
                    SamplingBuffer::Ids => &kept.ids,
                    SamplingBuffer::Results => &kept.results,
                });
                let buffers: Vec<_> = buffers.collect();
                let program = gpu.program(&stage.source).await?;
                let bound = gpu.bind(&program, &buffers, &scratch.step)?;
                list.push(Drawing {
                    bound,
                    groups: stage.groups,
                });
            }
            Ok::<_, GpuError>(list)
        };
        Ok(Self {
            greedy: list(SamplingMethod::Greedy).await?,
            drawn: list(SamplingMethod::Draw).await?,
        })
    }

    /// Records the list that the temperature asks for.
    pub fn record(&self, recorder: &mut Recorder<'_>, temperature: f32) {
        let list = match SamplingMethod::of(temperature) {
            SamplingMethod::Greedy => &self.greedy,
            SamplingMethod::Draw => &self.drawn,
        };
        for drawing in list {
            recorder.dispatch(&drawing.bound, drawing.groups);
        }
    }
}
