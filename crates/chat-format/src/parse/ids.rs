//! Ids of calls.

use protocol::ChatRequest;
use sha2::{Digest, Sha256};

/// Letters and digits: what every template takes.
const LENGTH: usize = 9;

/// Makes the ids of an answer's calls out of its request, so that whoever goes on with the answer makes the same ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallIds([u8; 32]);

impl CallIds {
    /// The ids for answers to this request.
    pub fn of(request: &ChatRequest) -> Self {
        // Strings and finite numbers only: serialising cannot fail.
        let json = serde_json::to_vec(request).unwrap_or_default();
        Self(Sha256::digest(json).into())
    }

    /// The id of the call of this index: nine letters and digits.
    pub fn id(&self, index: u32) -> String {
        const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let digest = Sha256::new()
            .chain_update(self.0)
            .chain_update(index.to_le_bytes())
            .finalize();
        digest
            .iter()
            .take(LENGTH)
            .filter_map(|byte| DIGITS.get(usize::from(*byte) % DIGITS.len()))
            .map(|digit| char::from(*digit))
            .collect()
    }
}
