//! llama.cpp's `mtmd`, as far as a rig needs it, behind functions that cannot be misused.
//!
//! `llama-cpp-2` wraps `mtmd` too, but gives out no embeddings, so that a picture could only be encoded within a decode
//! step; therefore the C functions are called here, and nowhere else.
#![expect(
    unsafe_code,
    reason = "llama-cpp-2 does not bind what it takes to encode a picture on one thread and decode it on another"
)]

use std::ffi::CString;
use std::fmt::Debug;
use std::path::Path;
use std::ptr::{NonNull, null, null_mut};
use std::sync::{Mutex, PoisonError};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_sys_2 as sys;

/// A projector: what turns pictures into embeddings of one language model.
///
/// It must not outlive that model; [`super::Projector`] sees to it.
#[derive(Debug)]
pub(super) struct Mtmd {
    context: NonNull<sys::mtmd_context>,
    /// Encoding writes into the context; everything else only reads.
    encoding: Mutex<()>,
    /// Numbers per token.
    width: usize,
}

// SAFETY: `mtmd_tokenize` and the questions are made for several threads; `mtmd_encode_chunk` is called under a lock.
unsafe impl Send for Mtmd {}
// SAFETY: As above.
unsafe impl Sync for Mtmd {}

/// What a picture becomes in a prompt: tokens that the model wants around it, and the picture itself, maybe in pieces.
#[derive(Debug)]
pub(super) enum Chunk {
    /// Tokens of the vocabulary.
    Tokens(Vec<LlamaToken>),
    /// Pixels, prepared for the projector.
    Image(ImageChunk),
}

/// A piece of a picture, prepared for the projector.
#[derive(Debug)]
pub(super) struct ImageChunk(NonNull<sys::mtmd_input_chunk>);

// SAFETY: It is data that nobody writes to.
unsafe impl Send for ImageChunk {}
// SAFETY: As above.
unsafe impl Sync for ImageChunk {}

/// Why a picture is not in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeFault {
    /// There was no room. The cache is as before.
    NoRoom,
    /// It was not tried. The cache is as before.
    Refused,
    /// The cache is in an unknown state.
    Broken,
}

impl DecodeFault {
    /// By the number that `llama_decode` gives back; `llama.h` says what each means.
    const fn of(result: i32) -> Result<(), Self> {
        match result {
            0 => Ok(()),
            1 => Err(Self::NoRoom),
            -1 => Err(Self::Refused),
            _ => Err(Self::Broken),
        }
    }
}

impl Mtmd {
    /// Loads a projector file; `None` where `mtmd` refuses it (its log says why).
    pub(super) fn load(path: &Path, model: &LlamaModel, threads: u32) -> Option<Self> {
        let path = CString::new(path.to_str()?).ok()?;
        let model = model_pointer(model)?;
        // SAFETY: Takes nothing, returns plain values.
        let mut params = unsafe { sys::mtmd_context_params_default() };
        params.print_timings = false;
        params.n_threads = i32::try_from(threads).unwrap_or(1);
        // SAFETY: The path ends with a zero, the model lives, the parameters are the library's own.
        let context = unsafe { sys::mtmd_init_from_file(path.as_ptr(), model.as_ptr(), params) };
        // SAFETY: The model lives.
        let width = unsafe { sys::llama_model_n_embd_inp(model.as_ptr()) };
        Some(Self {
            context: NonNull::new(context)?,
            encoding: Mutex::new(()),
            width: usize::try_from(width).ok()?,
        })
    }

    /// Whether it is for pictures at all (others are for sounds).
    pub(super) fn sees(&self) -> bool {
        // SAFETY: The context lives as long as `self`.
        unsafe { sys::mtmd_support_vision(self.context.as_ptr()) }
    }

    /// Whether the tokens of a picture look at each other in both directions: then they are decoded all at once.
    pub(super) fn is_non_causal(&self, chunk: &ImageChunk) -> bool {
        // SAFETY: Both live.
        unsafe { sys::mtmd_decode_use_non_causal(self.context.as_ptr(), chunk.0.as_ptr()) }
    }

    /// Whether tokens of a picture have places of two dimensions.
    pub(super) fn has_places_in_two_dimensions(&self) -> bool {
        // SAFETY: The context lives as long as `self`.
        unsafe { sys::mtmd_decode_use_mrope(self.context.as_ptr()) }
    }

    /// Prepares a picture: `rgb` holds three bytes for each of `width` × `height` pixels. `None` where the numbers do not
    /// fit each other, or where `mtmd` refuses the picture.
    pub(super) fn prepare(&self, width: u32, height: u32, rgb: &[u8]) -> Option<Vec<Chunk>> {
        let bytes = u64::from(width) * u64::from(height) * 3;
        if bytes == 0 || u64::try_from(rgb.len()) != Ok(bytes) {
            return None;
        }
        // SAFETY: The length was checked; the pixels are copied.
        let bitmap = unsafe { sys::mtmd_bitmap_init(width, height, rgb.as_ptr()) };
        self.tokenise(&Bitmap(NonNull::new(bitmap)?))
    }

    /// What a picture of this size would become, without its pixels: chunks that can be counted and nothing else. `None`
    /// where `mtmd` refuses the size, or cannot tell by the size alone.
    pub(super) fn measure(&self, width: u32, height: u32) -> Option<Vec<Chunk>> {
        if width == 0 || height == 0 {
            return None;
        }
        // SAFETY: Without data it is a placeholder, of which nothing is read and which only `mtmd_encode_chunk` refuses.
        let bitmap = unsafe { sys::mtmd_bitmap_init(width, height, null()) };
        self.tokenise(&Bitmap(NonNull::new(bitmap)?))
    }

    fn tokenise(&self, bitmap: &Bitmap) -> Option<Vec<Chunk>> {
        // SAFETY: Takes nothing.
        let chunks = Chunks(NonNull::new(unsafe { sys::mtmd_input_chunks_init() })?);
        let part = sys::mtmd_input_part {
            text: null(),
            bitmap: bitmap.0.as_ptr(),
        };
        let parts = [&raw const part];
        // SAFETY: All of these live until the call returns.
        let result = unsafe {
            sys::mtmd_tokenize_from_parts(
                self.context.as_ptr(),
                chunks.0.as_ptr(),
                parts.as_ptr(),
                parts.len(),
                false,
            )
        };
        (result == 0).then(|| chunks.take()).flatten()
    }

    /// Looks at a prepared picture: [`Mtmd::width`] numbers for each of its tokens. Takes long; one at a time.
    pub(super) fn encode(&self, chunk: &ImageChunk) -> Option<Vec<f32>> {
        let _alone = self.encoding.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: Both live, and nobody else encodes.
        let result = unsafe { sys::mtmd_encode_chunk(self.context.as_ptr(), chunk.0.as_ptr()) };
        // SAFETY: As above; what is pointed to stays until the next encoding.
        let numbers = unsafe { sys::mtmd_get_output_embd(self.context.as_ptr()) };
        if result != 0 || numbers.is_null() {
            return None;
        }
        let count = chunk.tokens().checked_mul(self.width)?;
        // SAFETY: By its description the function gives so many numbers after an encoding of this chunk.
        Some(unsafe { std::slice::from_raw_parts(numbers, count) }.to_vec())
    }

    /// Numbers per token.
    pub(super) const fn width(&self) -> usize {
        self.width
    }

    /// Puts a whole encoded picture into a sequence of the cache, from `place` on.
    pub(super) fn decode_whole(
        &self,
        context: &mut LlamaContext<'_>,
        chunk: &ImageChunk,
        embeddings: &[f32],
        place: i32,
        sequence: i32,
    ) -> Result<(), DecodeFault> {
        if Some(embeddings.len()) != chunk.tokens().checked_mul(self.width) {
            return Err(DecodeFault::Refused);
        }
        let batch = i32::try_from(context.n_batch()).unwrap_or(i32::MAX);
        let context = context_pointer(context).ok_or(DecodeFault::Refused)?;
        let mut next = 0;
        // SAFETY: All live; the embeddings are as many as the chunk has tokens, and are only read although the
        // signature says otherwise.
        let result = unsafe {
            sys::mtmd_helper_decode_image_chunk(
                self.context.as_ptr(),
                context.as_ptr(),
                chunk.0.as_ptr(),
                embeddings.as_ptr().cast_mut(),
                place,
                sequence,
                batch,
                &raw mut next,
                None,
                null_mut(),
            )
        };
        DecodeFault::of(result)
    }

    /// Puts some tokens' embeddings into a sequence of the cache, from `place` on. Only for pictures whose tokens look
    /// backwards and have places of one dimension.
    pub(super) fn decode_some(
        &self,
        context: &mut LlamaContext<'_>,
        embeddings: &[f32],
        place: i32,
        sequence: i32,
    ) -> Result<(), DecodeFault> {
        let tokens = embeddings.len().checked_div(self.width).unwrap_or(0);
        let count = i32::try_from(tokens).map_err(|_| DecodeFault::Refused)?;
        if tokens * self.width != embeddings.len() || count == 0 {
            return Err(DecodeFault::Refused);
        }
        let context = context_pointer(context).ok_or(DecodeFault::Refused)?;
        let mut places: Vec<i32> = (place..).take(tokens).collect();
        let mut sequence = [sequence];
        let mut sequence_counts = vec![1; tokens];
        let mut sequences = vec![sequence.as_mut_ptr(); tokens];
        let mut logits = vec![0; tokens];
        let batch = sys::llama_batch {
            n_tokens: count,
            token: null_mut(),
            // Only read.
            embd: embeddings.as_ptr().cast_mut(),
            pos: places.as_mut_ptr(),
            n_seq_id: sequence_counts.as_mut_ptr(),
            seq_id: sequences.as_mut_ptr(),
            logits: logits.as_mut_ptr(),
        };
        // SAFETY: The context lives; every array of the batch has an entry for each of its tokens.
        DecodeFault::of(unsafe { sys::llama_decode(context.as_ptr(), batch) })
    }
}

impl Drop for Mtmd {
    fn drop(&mut self) {
        // SAFETY: Nobody has it any more.
        unsafe { sys::mtmd_free(self.context.as_ptr()) }
    }
}

impl ImageChunk {
    /// Tokens that it takes in the context.
    pub(super) fn tokens(&self) -> usize {
        // SAFETY: The chunk lives as long as `self`.
        unsafe { sys::mtmd_input_chunk_get_n_tokens(self.0.as_ptr()) }
    }

    /// Places that it takes up: as many as tokens, but fewer where places have two dimensions.
    pub(super) fn places(&self) -> usize {
        // SAFETY: The chunk lives as long as `self`.
        let places = unsafe { sys::mtmd_input_chunk_get_n_pos(self.0.as_ptr()) };
        usize::try_from(places).unwrap_or(0)
    }
}

impl Drop for ImageChunk {
    fn drop(&mut self) {
        // SAFETY: It is a copy of our own.
        unsafe { sys::mtmd_input_chunk_free(self.0.as_ptr()) }
    }
}

struct Bitmap(NonNull<sys::mtmd_bitmap>);

impl Drop for Bitmap {
    fn drop(&mut self) {
        // SAFETY: Made by `mtmd_bitmap_init`, and nobody else has it.
        unsafe { sys::mtmd_bitmap_free(self.0.as_ptr()) }
    }
}

struct Chunks(NonNull<sys::mtmd_input_chunks>);

impl Chunks {
    /// Copies of what is in the list; `None` where it holds sounds.
    fn take(&self) -> Option<Vec<Chunk>> {
        // SAFETY: The list lives as long as `self`.
        let count = unsafe { sys::mtmd_input_chunks_size(self.0.as_ptr()) };
        (0..count)
            .map(|index| {
                // SAFETY: The index is within the list.
                let chunk = unsafe { sys::mtmd_input_chunks_get(self.0.as_ptr(), index) };
                // SAFETY: The chunk belongs to the list, which lives.
                match unsafe { sys::mtmd_input_chunk_get_type(chunk) } {
                    sys::MTMD_INPUT_CHUNK_TYPE_TEXT => {
                        let mut length = 0;
                        // SAFETY: It is a chunk of text.
                        let tokens = unsafe {
                            sys::mtmd_input_chunk_get_tokens_text(chunk, &raw mut length)
                        };
                        if tokens.is_null() {
                            return Some(Chunk::Tokens(Vec::new()));
                        }
                        // SAFETY: The function says how many there are.
                        let tokens = unsafe { std::slice::from_raw_parts(tokens, length) };
                        let tokens = tokens.iter().copied().map(LlamaToken::new);
                        Some(Chunk::Tokens(tokens.collect()))
                    }
                    sys::MTMD_INPUT_CHUNK_TYPE_IMAGE => {
                        // SAFETY: It is copied, pixels included.
                        let copy = unsafe { sys::mtmd_input_chunk_copy(chunk) };
                        NonNull::new(copy).map(|copy| Chunk::Image(ImageChunk(copy)))
                    }
                    _ => None,
                }
            })
            .collect()
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        // SAFETY: Made by `mtmd_input_chunks_init`, and nobody else has it.
        unsafe { sys::mtmd_input_chunks_free(self.0.as_ptr()) }
    }
}

/// The C object behind a context.
fn context_pointer(context: &mut LlamaContext<'_>) -> Option<NonNull<sys::llama_context>> {
    pointer(context, "LlamaContext", "context").filter(|pointer| {
        // SAFETY: The address is that of a context, as `pointer` explains; what is asked only reads.
        unsafe { sys::llama_n_ctx(pointer.as_ptr()) == context.n_ctx() }
    })
}

/// The C object behind a model.
fn model_pointer(model: &LlamaModel) -> Option<NonNull<sys::llama_model>> {
    pointer(model, "LlamaModel", "model").filter(|pointer: &NonNull<sys::llama_model>| {
        // SAFETY: As above.
        unsafe { sys::llama_model_n_params(pointer.as_ptr()) == model.n_params() }
    })
}

/// `llama-cpp-2` keeps its pointers to itself: its fields are private to the crate, nothing public gives them out, and of
/// a context not even the layout is promised. But it tells their addresses where it is asked for a description
/// (`LlamaModel { model: 0x55… }`). The version is pinned; a description of any other form is no pointer, and the tests
/// see to it that these forms stay.
fn pointer<T>(wrapper: &dyn Debug, name: &str, field: &str) -> Option<NonNull<T>> {
    let address = address(&format!("{wrapper:?}"), name, field)?;
    let pointer = NonNull::new(std::ptr::with_exposed_provenance_mut::<T>(address))?;
    // C++ allocates objects at multiples of this.
    pointer.cast::<usize>().is_aligned().then_some(pointer)
}

/// The address in a description that is just `NAME { FIELD: 0xADDRESS }`, written as pointers are.
fn address(description: &str, name: &str, field: &str) -> Option<usize> {
    let inner = description.strip_prefix(name)?.strip_prefix(" { ")?;
    let value = inner.strip_prefix(field)?.strip_prefix(": ")?;
    let hex = value.strip_suffix(" }")?.strip_prefix("0x")?;
    let address = usize::from_str_radix(hex, 16).ok()?;
    // No sign, no zeros in front, no capitals: as it is written and in no other way.
    (format!("{address:x}") == hex).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_of_another_form_is_no_address() {
        let model = |description| address(description, "LlamaModel", "model");
        assert_eq!(model("LlamaModel { model: 0x55aa10 }"), Some(0x0055_aa10));
        for other in [
            "LlamaModel { model: Ptr(0x55aa10) }",
            "LlamaModel { model: 0x55aa10, loras: 0x55bb20 }",
            "LlamaModel { loras: 0x55bb20, model: 0x55aa10 }",
            "LlamaModel { loras: 0x55bb20 }",
            "LlamaModel(0x55aa10)",
            "LlamaModel { model: 55aa10 }",
            "LlamaModel { model: 0x }",
            "LlamaModel { model: 0x+55aa10 }",
            "LlamaModel { model: 0x55AA10 }",
            "LlamaModel { model: 0x0000000000aa10 }",
            "LlamaModel { model: 0x155aa1055aa1055aa10 }",
            "LlamaModel {\n    model: 0x55aa10,\n}",
            "OtherModel { model: 0x55aa10 }",
            "",
        ] {
            assert_eq!(model(other), None, "{other}");
        }
    }

    #[test]
    fn a_null_or_crooked_pointer_is_none() {
        struct At(usize);
        impl Debug for At {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(formatter, "At {{ at: {:#x} }}", self.0)
            }
        }
        let found = |at| pointer::<u8>(&At(at), "At", "at").map(|pointer| pointer.addr().get());
        assert_eq!(found(0x5510), Some(0x5510));
        assert_eq!(found(0x5511), None);
        assert_eq!(found(0), None);
    }

    #[test]
    fn only_what_leaves_the_cache_unknown_is_broken() {
        assert_eq!(DecodeFault::of(0), Ok(()));
        assert_eq!(DecodeFault::of(1), Err(DecodeFault::NoRoom));
        assert_eq!(DecodeFault::of(-1), Err(DecodeFault::Refused));
        for result in [2, -2, -3] {
            assert_eq!(DecodeFault::of(result), Err(DecodeFault::Broken));
        }
    }
}
