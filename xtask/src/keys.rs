//! Keys of a local network: random, handed out once, and known to the relay only by their hash.

use std::fs::File;
use std::io::Read as _;

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};

/// A secret key and what the relay may know of it.
#[derive(Debug)]
pub(crate) struct Key {
    /// What its holder presents.
    pub(crate) secret: String,
    /// The lower-case hexadecimal SHA-256 of that.
    pub(crate) hash: String,
}

impl Key {
    /// A new key with 256 random bits. `hg-` opens the API, `hgn-` a node's connection.
    pub(crate) fn random(prefix: &str) -> Result<Self> {
        let mut bytes = [0; 32];
        File::open("/dev/urandom")
            .and_then(|mut source| source.read_exact(&mut bytes))
            .context("cannot read random bytes")?;
        let secret = format!("{prefix}{}", hex(&bytes));
        let hash = hex(&Sha256::digest(secret.as_bytes()));
        Ok(Self { secret, hash })
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_keys_differ_and_the_hash_is_that_of_the_whole_key() {
        let one = Key::random("hg-").unwrap();
        let two = Key::random("hg-").unwrap();
        assert_ne!(one.secret, two.secret);
        assert_eq!(one.hash, hex(&Sha256::digest(one.secret.as_bytes())));
        assert!(one.secret.starts_with("hg-"));
        assert_eq!(one.secret.len(), 3 + 64);
    }
}
