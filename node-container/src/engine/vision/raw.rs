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
        let bitmap = Bitmap(NonNull::new(bitmap)?);
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
    ) -> bool {
        if Some(embeddings.len()) != chunk.tokens().checked_mul(self.width) {
            return false;
        }
        let batch = i32::try_from(context.n_batch()).unwrap_or(i32::MAX);
        let Some(context) = context_pointer(context) else {
            return false;
        };
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
        result == 0
    }

    /// Puts some tokens' embeddings into a sequence of the cache, from `place` on. Only for pictures whose tokens look
    /// backwards and have places of one dimension.
    pub(super) fn decode_some(
        &self,
        context: &mut LlamaContext<'_>,
        embeddings: &[f32],
        place: i32,
        sequence: i32,
    ) -> bool {
        let tokens = embeddings.len().checked_div(self.width).unwrap_or(0);
        let Ok(count) = i32::try_from(tokens) else {
            return false;
        };
        if tokens * self.width != embeddings.len() || count == 0 {
            return false;
        }
        let Some(context) = context_pointer(context) else {
            return false;
        };
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
        unsafe { sys::llama_decode(context.as_ptr(), batch) == 0 }
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
    pointer(context).filter(|pointer| {
        // SAFETY: The address is that of a context, as `pointer` explains; what is asked only reads.
        unsafe { sys::llama_n_ctx(pointer.as_ptr()) == context.n_ctx() }
    })
}

/// The C object behind a model.
fn model_pointer(model: &LlamaModel) -> Option<NonNull<sys::llama_model>> {
    pointer(model)
}

/// `llama-cpp-2` keeps its pointers to itself, but tells their addresses where it is asked for a description
/// (`LlamaModel { model: 0x55… }`). The version is pinned, and a test sees to it that this stays so.
fn pointer<T>(wrapper: &dyn Debug) -> Option<NonNull<T>> {
    let description = format!("{wrapper:?}");
    let (_, hex) = description.split_once(": 0x")?;
    let end = hex
        .find(|letter: char| !letter.is_ascii_hexdigit())
        .unwrap_or(hex.len());
    let address = usize::from_str_radix(hex.get(..end)?, 16).ok()?;
    NonNull::new(std::ptr::with_exposed_provenance_mut(address))
}
