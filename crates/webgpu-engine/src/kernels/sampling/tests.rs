//! Draws on the adapter that is here against those of the CPU.

mod draws;
mod numbers;
mod rules;

use std::collections::BTreeMap;

use ::sampling::Rules;

use super::text::Shape;
use super::{
    RECORD_WORDS, RECORDS, Record, Sampling, SamplingBuffer, SamplingMethod, SamplingStage,
};
use crate::gpu::{Bound, Gpu};
use crate::kernels::{Flags, STEP_BYTES, Step};

const BUFFERS: [SamplingBuffer; 7] = [
    SamplingBuffer::Logits,
    SamplingBuffer::Counts,
    SamplingBuffer::Biases,
    SamplingBuffer::Mask,
    SamplingBuffer::Ids,
    SamplingBuffer::Results,
    SamplingBuffer::Scratch,
];

/// The stages over one vocabulary, with their buffers.
struct Bench<'g> {
    gpu: &'g Gpu,
    buffers: BTreeMap<SamplingBuffer, wgpu::Buffer>,
    step: wgpu::Buffer,
    greedy: Vec<(Bound, [u32; 3])>,
    draw: Vec<(Bound, [u32; 3])>,
}

/// What is asked of a step.
#[derive(Clone)]
struct Asked {
    rules: Rules,
    seed: u64,
    draw: u32,
    mask: Option<Vec<u32>>,
    alternatives: Option<u32>,
}

impl Asked {
    fn new(rules: Rules) -> Self {
        Self {
            rules,
            seed: 7,
            draw: 0,
            mask: None,
            alternatives: None,
        }
    }
}

impl<'g> Bench<'g> {
    fn new(gpu: &'g Gpu, vocabulary: u32, is_small: bool) -> Self {
        let sampling = Sampling { vocabulary };
        let shape = Shape::new(sampling, is_small);
        let make = |buffer: SamplingBuffer| {
            let bytes = 4 * sampling.buffer_words(buffer);
            (buffer, gpu.storage("sampling", bytes).expect("fits"))
        };
        let buffers: BTreeMap<_, _> = BUFFERS.into_iter().map(make).collect();
        let step = gpu.uniform("step", STEP_BYTES).expect("fits");
        let bind = |stage: SamplingStage| {
            let program = pollster::block_on(gpu.program(&stage.source));
            let program = program.unwrap_or_else(|error| panic!("{error}\n{}", stage.source.wgsl));
            let lent: Vec<_> = stage.buffers.iter().map(|one| &buffers[one]).collect();
            let bound = gpu.bind(&program, &lent, &step).expect("fits");
            (bound, stage.groups)
        };
        Self {
            greedy: shape
                .stages(SamplingMethod::Greedy)
                .into_iter()
                .map(bind)
                .collect(),
            draw: shape
                .stages(SamplingMethod::Draw)
                .into_iter()
                .map(bind)
                .collect(),
            gpu,
            step,
            buffers,
        }
    }

    fn write(&self, buffer: SamplingBuffer, words: impl IntoIterator<Item = u32>) {
        let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        self.gpu.write(&self.buffers[&buffer], 0, &bytes);
    }

    fn read(&self, buffer: SamplingBuffer) -> Vec<u32> {
        let buffer = &self.buffers[&buffer];
        let bytes = pollster::block_on(self.gpu.read(buffer, 0..buffer.size())).expect("is there");
        let words = bytes.chunks_exact(4);
        words
            .map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")))
            .collect()
    }

    fn set_logits(&self, row: &[f32]) {
        self.write(SamplingBuffer::Logits, row.iter().map(|it| it.to_bits()));
    }

    /// Submits a step whose logits and counts are there already.
    fn submit(&self, asked: &Asked, method: SamplingMethod) {
        let rules = &asked.rules;
        let mut flags = Flags::default();
        if !rules.biases.is_empty() {
            flags = flags.with(Flags::BIASES);
            let words = self.buffers[&SamplingBuffer::Biases].size() / 4;
            let mut dense = vec![0.0_f32; usize::try_from(words).expect("fits")];
            for (id, bias) in &rules.biases {
                dense[*id as usize] += bias;
            }
            self.write(SamplingBuffer::Biases, dense.into_iter().map(f32::to_bits));
        }
        if let Some(mask) = &asked.mask {
            flags = flags.with(Flags::MASK);
            self.write(SamplingBuffer::Mask, mask.iter().copied());
        }
        if rules.has_penalties() {
            flags = flags.with(Flags::PENALTIES);
        }
        if asked.alternatives.is_some() {
            flags = flags.with(Flags::LOG_PROBABILITIES);
        }
        let step = Step {
            seed: asked.seed,
            draw: asked.draw,
            flags,
            temperature: rules.temperature,
            top_p: rules.top_p,
            min_p: rules.min_p,
            top_k: rules.top_k,
            frequency_penalty: rules.frequency_penalty,
            presence_penalty: rules.presence_penalty,
            alternatives: asked.alternatives.unwrap_or_default(),
            ..Step::default()
        };
        self.gpu.write(&self.step, 0, &step.to_bytes());
        let mut recorder = self.gpu.record();
        let stages = match method {
            SamplingMethod::Greedy => &self.greedy,
            SamplingMethod::Draw => &self.draw,
        };
        for (bound, groups) in stages {
            recorder.dispatch(bound, *groups);
        }
        recorder.submit();
    }

    fn told(&self, draw: u32) -> Record {
        let words = self.read(SamplingBuffer::Results);
        let start = (draw % RECORDS * RECORD_WORDS) as usize;
        let words = &words[start..start + RECORD_WORDS as usize];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Record::parse(&bytes).expect("a record")
    }

    fn token(&self, draw: u32) -> Option<u32> {
        self.told(draw).token
    }

    /// The record of the newest step, whose token must be what the next step gathers.
    fn record(&self, draw: u32) -> Record {
        let record = self.told(draw);
        let next = self.read(SamplingBuffer::Ids)[0];
        assert_eq!(next, record.token.unwrap_or(0));
        record
    }

    /// A whole step, with the stages that the temperature asks for.
    fn sample(&self, row: &[f32], asked: &Asked) -> Record {
        self.set_logits(row);
        self.submit(asked, SamplingMethod::of(asked.rules.temperature));
        self.record(asked.draw)
    }
}

/// Numbers for tests: a 64-bit linear congruential generator, of which the upper half is used.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u32 {
        const FACTOR: u64 = 6_364_136_223_846_793_005;
        self.0 = self.0.wrapping_mul(FACTOR).wrapping_add(1);
        (self.0 >> 32) as u32
    }

    fn below(&mut self, end: u32) -> u32 {
        self.next() % end
    }

    /// From 0 to 1.
    fn share(&mut self) -> f32 {
        let number = u16::try_from(self.below(1 << 16)).expect("16 bits");
        f32::from(number) / 65536.0
    }

    /// Nearly normal: twelve of them have a variance of 1.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.share()).sum::<f32>() - 6.0
    }
}

/// Rows as models have them, and as they never should be.
fn row(numbers: &mut Numbers, vocabulary: u32) -> Vec<f32> {
    let kind = numbers.below(6);
    let width = 1.0 + 3.0 * numbers.share();
    let one = |numbers: &mut Numbers| {
        let logit = numbers.normal() * width;
        match kind {
            // Level but for the last bits.
            0 => 5.0 + logit * 1e-3,
            // Many ties.
            1 => (logit * 2.0).round() / 2.0 + 0.0,
            // With holes.
            2 if numbers.below(4) == 0 => f32::NEG_INFINITY,
            2 if numbers.below(4) == 0 => f32::NAN,
            // All below zero.
            3 => logit - 60.0,
            _ => logit,
        }
    };
    let mut row: Vec<f32> = (0..vocabulary).map(|_| one(numbers)).collect();
    if kind == 4 {
        // One that is nearly sure.
        let id = numbers.below(vocabulary);
        row[id as usize] += 15.0;
    }
    row
}
