//! What is seen: small components over the hub.

pub(crate) mod composer;
pub(crate) mod empty;
pub(crate) mod header;
pub(crate) mod icons;
pub(crate) mod key_form;
pub(crate) mod message;
pub(crate) mod notice;
pub(crate) mod rendered;
pub(crate) mod scroll;
