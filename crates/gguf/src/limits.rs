//! What a header may ask for. Beyond every model known, and small enough that a hostile file costs next to nothing.

/// All of the header, in bytes. Vocabularies fill it: the largest known (262,144 tokens) make 7 MB. What is kept of it
/// takes about the same memory, so this also bounds the heap, of which a browser's worker should need less than 64 MB.
pub const HEADER_BYTES_MAX: u64 = 32 << 20;

/// Entries of metadata. Real models have some dozens.
pub const ENTRIES_MAX: u64 = 4096;

/// Tensors. The largest models that are in use have some thousands.
pub const TENSORS_MAX: u64 = 1 << 16;

/// A key, in bytes. The format allows 65,535; the longest known has some sixty.
pub const KEY_BYTES_MAX: u64 = 256;

/// The name of a tensor, in bytes: ggml's own limit, its closing zero left out.
pub const NAME_BYTES_MAX: u64 = 63;

/// A text, in bytes. The longest are chat templates, of some ten thousand.
pub const TEXT_BYTES_MAX: u64 = 4 << 20;

/// Elements of an array. The longest are vocabularies and their merges, of some hundred thousand.
pub const ELEMENTS_MAX: u64 = 1 << 22;

/// Dimensions of a tensor: ggml's own limit.
pub const DIMENSIONS_MAX: u32 = 4;

/// Where weights may begin: at multiples of at least this, as the format says (llama.cpp, and so
/// [`crate::Parser::lenient`], takes less), …
pub const ALIGNMENT_MIN: u64 = 8;

/// … and of at most this, in bytes. Beyond the largest pages of memory in use there is nothing to align to.
pub const ALIGNMENT_MAX: u64 = 2 << 20;

/// … and where the file does not say, of this: the format's default.
pub const ALIGNMENT_DEFAULT: u64 = 32;
