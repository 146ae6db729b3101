//! From what an operator names (a catalog entry, an address, a path) to a whole, checked model file on this machine.
//!
//! ```text
//! --model ─▶ named.rs ─▶ Wanted ─▶ fetch.rs ─▶ cache.rs   <cache>/<sha256>/<name>
//!            (pure)               (the one module that waits for the network)
//! ```
//!
//! Pure parts: what is named ([`named`]), which bytes are missing ([`ranges`], [`sidecar`]), what a GGUF file says of
//! its own shape ([`header`]), and how much memory that needs ([`need`]). It is no downloader for anything else, and it
//! never judges a model: a file is right when its SHA-256 is.
//!
//! In the cache a file has its name only once it is whole and checked. What is under way lies beside it under names
//! that end in `.part`, with a lock that makes a second process wait.

mod cache;
pub mod error;
mod fetch;
pub mod header;
mod http;
pub mod named;
pub mod need;
mod pip;
pub mod progress;
pub mod ranges;
mod refused;
mod report;
pub mod sidecar;

pub use cache::{default_cache, free_bytes};
pub use error::FetchError;
pub use fetch::{Settings, fetch};
pub use named::{FileUrl, Named, NamedError, Origin, Wanted};
pub use progress::Progress;
pub use report::Reporter;
