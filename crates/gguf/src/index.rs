//! The tensors of a header, checked: each inside of the file, at its alignment, sharing no byte with another. Those of
//! unknown types, if they are let in, are checked as if they had no bytes: only where they begin.

use std::collections::BTreeMap;

use super::{Dimensions, GgufError, TensorInfo, TensorType};

/// All tensors of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Index {
    /// In the order of their offsets, once sealed.
    tensors: Vec<TensorInfo>,
    /// Where each is in `tensors`.
    places: BTreeMap<String, usize>,
}

impl Index {
    /// Nothing.
    pub(super) const EMPTY: Self = Self {
        tensors: Vec::new(),
        places: BTreeMap::new(),
    };

    pub(super) fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(*self.places.get(name)?)
    }

    /// Refuses a name that is there already.
    pub(super) fn name(&mut self, name: &str) -> Result<(), GgufError> {
        let place = self.places.len();
        match self.places.insert(name.to_owned(), place) {
            None => Ok(()),
            Some(_) => Err(GgufError::TensorTwice(name.to_owned())),
        }
    }

    /// Adds a tensor whose name has been added.
    pub(super) fn add(
        &mut self,
        name: String,
        lengths: &[u64],
        kind: TensorType,
        offset: u64,
    ) -> Result<(), GgufError> {
        let Some(dimensions) = Dimensions::new(lengths) else {
            return Err(GgufError::Shape(name));
        };
        if !dimensions.row().is_multiple_of(kind.block_weights) {
            return Err(GgufError::PartialBlock {
                name,
                row: dimensions.row(),
                block: kind.block_weights,
            });
        }
        let blocks = dimensions.weights() / kind.block_weights;
        let Some(bytes) = blocks.checked_mul(kind.block_bytes) else {
            return Err(GgufError::Shape(name));
        };
        self.tensors.push(TensorInfo {
            name,
            dimensions,
            kind,
            offset,
            bytes,
        });
        Ok(())
    }

    /// Checks where all of them lie and puts them in this order.
    pub(super) fn seal(
        &mut self,
        data_offset: u64,
        alignment: u64,
        file_bytes: Option<u64>,
    ) -> Result<(), GgufError> {
        self.tensors.sort_by_key(|tensor| tensor.offset);
        for (place, tensor) in self.tensors.iter().enumerate() {
            if let Some(found) = self.places.get_mut(&tensor.name) {
                *found = place;
            }
            if !tensor.offset.is_multiple_of(alignment) {
                return Err(GgufError::Misaligned {
                    name: tensor.name.clone(),
                    offset: tensor.offset,
                    alignment,
                });
            }
            let end = data_offset
                .checked_add(tensor.offset)
                .and_then(|start| start.checked_add(tensor.bytes));
            if end.is_none_or(|end| file_bytes.is_some_and(|bytes| end > bytes)) {
                return Err(GgufError::OutsideFile(tensor.name.clone()));
            }
        }
        for (first, second) in self.tensors.iter().zip(self.tensors.iter().skip(1)) {
            // No sum overflows: the ends were checked.
            if first.offset + first.bytes > second.offset {
                return Err(GgufError::Overlap {
                    first: first.name.clone(),
                    second: second.name.clone(),
                });
            }
        }
        Ok(())
    }
}
