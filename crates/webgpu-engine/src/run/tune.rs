//! What a short tuning run has found: which variants of the kernels run fastest on this adapter, for the shapes of this
//! model. It can be kept as text and given to the next load of the model on the same adapter.
//!
//! ```text
//! for KEY                             version, adapter and model ([`Engine::tuning_key`])
//! tile halves                         where they are faster than floats
//! numbers packed-dot                  where they are much faster than floats
//! 12,12,14 576 960 16 2 subgroups     types, columns, rows of all matrices: threads a row, rows a thread, reduction
//! ```

mod measure;

use std::fmt::Write as _;

use super::Engine;
use crate::kernels::{Numbers, Reduce, Tile};
use crate::plan::{Choice, Shape, Tuned};

/// The most shapes that a kept text may have; a model has five or six.
const SHAPES_MAX: usize = 64;

/// What a tuning run has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tuning {
    /// The variant of each shape that is better than the default.
    pub shapes: Vec<(Shape, Tuned)>,
    /// What tiles are made of.
    pub tile: Tile,
    /// What products are of, where it is not what was taken without tuning.
    pub numbers: Option<Numbers>,
}

impl Tuning {
    /// For a file, with what it holds for.
    pub fn to_text(&self, key: &str) -> String {
        let mut text = first_line(key) + "\n";
        match self.tile {
            Tile::Floats => {}
            Tile::Halves => text.push_str("tile halves\n"),
        }
        match self.numbers {
            None | Some(Numbers::Float) => {}
            Some(Numbers::PackedDot) => text.push_str("numbers packed-dot\n"),
        }
        for (shape, tuned) in &self.shapes {
            let kinds: Vec<String> = shape.kinds.iter().map(u32::to_string).collect();
            // Writing into a text cannot fail.
            writeln!(
                text,
                "{} {} {} {} {} {}",
                kinds.join(","),
                shape.inputs,
                shape.rows,
                tuned.lanes,
                tuned.rows,
                match tuned.reduce {
                    Reduce::Memory => "memory",
                    Reduce::Subgroups => "subgroups",
                }
            )
            .ok();
        }
        text
    }

    /// What [`Tuning::to_text`] gave for this key; nothing where it was another, since what is fast there may be slow
    /// here. Lines that mean nothing are left out.
    pub fn from_text(text: &str, key: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(first_line(key).as_str()) {
            return None;
        }
        let mut tuning = Self::default();
        for line in lines.take(SHAPES_MAX) {
            match line {
                "tile halves" => tuning.tile = Tile::Halves,
                "numbers packed-dot" => tuning.numbers = Some(Numbers::PackedDot),
                line => tuning.shapes.extend(shape(line)),
            }
        }
        Some(tuning)
    }
}

/// One line, whatever the driver calls itself.
fn first_line(key: &str) -> String {
    format!("for {}", key.replace(['\r', '\n'], " "))
}

fn shape(line: &str) -> Option<(Shape, Tuned)> {
    let mut words = line.split(' ');
    let kinds = words.next()?.split(',').map(|kind| kind.parse().ok());
    let kinds = kinds.collect::<Option<Vec<u32>>>()?;
    let mut number = || words.next()?.parse::<u32>().ok();
    let shape = Shape {
        kinds,
        inputs: number()?,
        rows: number()?,
    };
    let (lanes, rows) = (number()?, number()?);
    let reduce = match words.next()? {
        "memory" => Reduce::Memory,
        "subgroups" => Reduce::Subgroups,
        _ => return None,
    };
    let tuned = Tuned {
        lanes,
        rows,
        reduce,
    };
    Choice::is_known(tuned).then_some((shape, tuned))
}

impl Engine {
    /// What findings hold for: a version of this engine, an adapter and what it can do, a model's shape and size. Browsers
    /// do not name the adapter; who knows more of it adds that.
    pub fn tuning_key(&self) -> String {
        let (abilities, config) = (self.gpu().abilities(), self.config());
        format!(
            "{}; {}, {}, subgroups {} of {}, packed dot {}, halves {}, {} bytes shared; {} {} x {}, {} of weights",
            env!("CARGO_PKG_VERSION"),
            abilities.adapter,
            abilities.driver,
            abilities.has_subgroups,
            abilities.subgroup_threads,
            abilities.has_packed_dot,
            abilities.has_half,
            abilities.workgroup_bytes,
            config.architecture.name(),
            config.layers,
            config.embedding,
            self.need().weights,
        )
    }

    /// Takes what an earlier run has found on this adapter, for the sessions that are begun from now on.
    pub fn use_tuning(&mut self, tuning: &Tuning) {
        let shapes = tuning.shapes.iter().cloned().collect();
        self.choice.tune(shapes, tuning.tile, tuning.numbers);
    }
}
