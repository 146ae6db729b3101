//! Behaviour of the whole scheduler, on virtual time.
