//! The keys of one architecture in the metadata, each read with the limits of what it can mean.

use super::Refusal;
use gguf::{Metadata, Value};

/// Metadata, and the name that its keys begin with.
pub(super) struct Keys<'m> {
    pub(super) metadata: &'m Metadata,
    pub(super) architecture: &'static str,
}

impl Keys<'_> {
    /// The whole key.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    pub(super) fn impossible(&self, name: &str) -> Refusal {
        Refusal::Impossible(self.key(name))
    }

    /// A number that counts something. A list with one number for each layer will do where they are all the same; where
    /// they differ, the model is of a kind that this engine does not have.
    pub(super) fn count(&self, name: &str) -> Result<Option<u32>, Refusal> {
        let key = self.key(name);
        let number = if let Some(Value::Numbers(numbers)) = self.metadata.value(&key) {
            let mut numbers = numbers.iter();
            let first = numbers.next().ok_or_else(|| self.impossible(name))?;
            if numbers.any(|number| number != first) {
                return Err(Refusal::Unsupported("layers of different shapes"));
            }
            Some(first.unsigned().ok_or_else(|| self.impossible(name))?)
        } else {
            self.metadata.unsigned(&key)?
        };
        let to_count = |number| u32::try_from(number).map_err(|_| self.impossible(name));
        number.map(to_count).transpose()
    }

    /// One that is not zero, and must be there.
    pub(super) fn needed(&self, name: &str) -> Result<u32, Refusal> {
        match self.count(name)? {
            Some(0) => Err(self.impossible(name)),
            Some(count) => Ok(count),
            None => Err(Refusal::Missing(self.key(name))),
        }
    }

    /// One that is not zero, and may be something else where the file does not say.
    pub(super) fn count_or(&self, name: &str, default: u32) -> Result<u32, Refusal> {
        match self.count(name)? {
            Some(0) => Err(self.impossible(name)),
            Some(count) => Ok(count),
            None => Ok(default),
        }
    }

    /// A positive number with a fraction.
    pub(super) fn positive(&self, name: &str) -> Result<Option<f32>, Refusal> {
        let number = self.metadata.float(&self.key(name))?;
        if number.is_some_and(|number| !(number.is_finite() && number > 0.0)) {
            return Err(self.impossible(name));
        }
        Ok(number)
    }

    /// The same, where zero says that there is none.
    pub(super) fn optional(&self, name: &str) -> Result<Option<f32>, Refusal> {
        let key = self.key(name);
        if self.metadata.float(&key)? == Some(0.0) {
            return Ok(None);
        }
        self.positive(name)
    }
}
