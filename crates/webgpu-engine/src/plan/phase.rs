//! The dispatches of one kind of step: recorded, timed by shape, counted.

use super::{Dispatch, Reads, Shape, Work};
use crate::gpu::Recorder;
use crate::kernels::Step;

/// The dispatches of one kind of step, in their order.
#[derive(Debug)]
pub struct Phase {
    pub(super) dispatches: Vec<Dispatch>,
    /// How many of them are the layers'.
    pub(super) of_layers: usize,
}

impl Phase {
    /// The shapes of its products, each once.
    pub fn shapes(&self) -> Vec<Shape> {
        let shapes = self.dispatches.iter().filter_map(|it| it.work.shape());
        let mut shapes: Vec<Shape> = shapes.collect();
        shapes.sort_unstable();
        shapes.dedup();
        shapes
    }

    /// Records the products of one shape alone.
    pub fn record_shape(&self, recorder: &mut Recorder<'_>, step: &Step, shape: &Shape) {
        for dispatch in &self.dispatches {
            if dispatch.work.shape().as_ref() == Some(shape) {
                dispatch.record(recorder, step);
            }
        }
    }

    /// Records the products in tiles alone.
    pub fn record_tiles(&self, recorder: &mut Recorder<'_>, step: &Step) {
        for dispatch in &self.dispatches {
            if matches!(dispatch.work, Work::Tiled(_)) {
                dispatch.record(recorder, step);
            }
        }
    }

    /// Records all of it.
    pub fn record(&self, recorder: &mut Recorder<'_>, step: &Step) {
        for dispatch in &self.dispatches {
            dispatch.record(recorder, step);
        }
    }

    /// How many there are.
    pub const fn dispatches(&self) -> usize {
        self.dispatches.len()
    }

    /// How many of them are the layers'.
    pub const fn dispatches_of_layers(&self) -> usize {
        self.of_layers
    }

    /// What a step of this kind reads.
    pub fn reads(&self, step: &Step) -> Reads {
        let works = self.dispatches.iter().map(|it| it.work.reads(step));
        works.fold(Reads::default(), Reads::and)
    }
}
