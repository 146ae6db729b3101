//! Tickets: what a peer shows to take up a job again after its connection, or the relay's memory, is gone.
//!
//! A ticket is `payload.mac`, both base64url: JSON that says what it is good for, and its HMAC-SHA256 (RFC 2104) under a
//! secret of the relay's. Peers need not read it; only the relay can write it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use protocol::JobId;
use protocol::limits::TICKET_BYTES_MAX;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::Sha256;

use crate::Millis;

/// A key for signing tickets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a client shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename = "client")]
pub(crate) struct ClientTicket {
    pub(crate) job: JobId,
    /// Whose job it is.
    pub(crate) account: String,
    /// Which of the relay's lives signed it: a job of this life that the relay does not know any more is over.
    #[serde(default)]
    pub(crate) life: u64,
    /// Good until then.
    pub(crate) until: Millis,
}

/// What a node shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename = "node")]
pub(crate) struct NodeTicket {
    pub(crate) job: JobId,
    pub(crate) attempt: u32,
    /// Whose node it is.
    pub(crate) node: String,
    /// Whose job it is.
    pub(crate) account: String,
    /// What answers.
    pub(crate) model: String,
    /// Good until then.
    pub(crate) until: Millis,
}

/// Tells a client's ticket from a node's, which says all that a client's does: serde writes the tag and does not read it.
pub(crate) trait Ticket: DeserializeOwned {
    /// The tag.
    const FOR: &str;
}

impl Ticket for ClientTicket {
    const FOR: &str = "client";
}

impl Ticket for NodeTicket {
    const FOR: &str = "node";
}

/// Signs with the first secret, trusts all: the others are those of earlier days.
#[derive(Debug)]
pub(crate) struct Signer {
    secrets: Vec<Secret>,
}

impl Signer {
    pub(crate) fn new(secrets: Vec<Secret>) -> Self {
        Self { secrets }
    }

    /// Writes a ticket. Without a secret there is none that anybody would trust.
    pub(crate) fn sign(&self, ticket: &impl Serialize) -> String {
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(ticket).unwrap_or_default());
        let Some(mac) = self.secrets.first().map(|secret| mac(secret, &payload)) else {
            return String::new();
        };
        let tag = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        format!("{payload}.{tag}")
    }

    /// Reads a ticket of this kind that one of our secrets signed.
    pub(crate) fn open<T: Ticket>(&self, text: &str) -> Option<T> {
        if text.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (payload, tag) = text.split_once('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        let is_ours = |secret: &Secret| mac(secret, payload).verify_slice(&tag).is_ok();
        if !self.secrets.iter().any(is_ours) {
            return None;
        }
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let ticket: serde_json::Value = serde_json::from_slice(&payload).ok()?;
        (ticket.get("for")? == T::FOR).then(|| serde_json::from_value(ticket).ok())?
    }
}

fn mac(secret: &Secret, payload: &str) -> Hmac<Sha256> {
    #[expect(
        clippy::expect_used,
        reason = "invariant: HMAC takes a key of any length"
    )]
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).expect("any length");
    mac.update(payload.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> ClientTicket {
        ClientTicket {
            job: JobId::from_random([3; 16]),
            account: "ada".into(),
            life: 1,
            until: 9,
        }
    }

    #[test]
    fn a_ticket_opens_under_the_secret_that_signed_it_and_under_no_other() {
        let (old, new) = (Secret([1; 32]), Secret([2; 32]));
        let text = Signer::new(vec![old]).sign(&ticket());
        assert!(text.len() < TICKET_BYTES_MAX);
        assert_eq!(
            Signer::new(vec![new, old]).open::<ClientTicket>(&text),
            Some(ticket())
        );
        assert_eq!(Signer::new(vec![new]).open::<ClientTicket>(&text), None);
        assert_eq!(Signer::new(vec![]).open::<ClientTicket>(&text), None);
    }

    #[test]
    fn a_ticket_of_one_kind_is_none_of_the_other() {
        let signer = Signer::new(vec![Secret([1; 32])]);
        let text = signer.sign(&ticket());
        assert_eq!(signer.open::<NodeTicket>(&text), None);
        let text = signer.sign(&NodeTicket {
            job: ticket().job,
            attempt: 1,
            node: "rig".into(),
            account: ticket().account,
            model: "m".into(),
            until: ticket().until,
        });
        assert_eq!(signer.open::<ClientTicket>(&text), None);
        assert!(signer.open::<NodeTicket>(&text).is_some());
    }

    #[test]
    fn no_changed_byte_goes_unnoticed() {
        let signer = Signer::new(vec![Secret([1; 32])]);
        let text = signer.sign(&ticket());
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            if let Ok(forged) = String::from_utf8(bytes) {
                assert_ne!(signer.open::<ClientTicket>(&forged), Some(ticket()), "{at}");
            }
        }
        assert_eq!(signer.open::<ClientTicket>(""), None);
        assert_eq!(signer.open::<ClientTicket>("."), None);
    }
}
