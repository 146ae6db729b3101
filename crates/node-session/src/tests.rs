//! Behaviour of the whole session, on virtual time.
