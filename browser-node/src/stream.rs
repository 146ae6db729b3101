//! A stream of bytes from JavaScript, taken in pieces so small that the module's memory stays small.

use js_sys::{Reflect, Uint8Array};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{ReadableStream, ReadableStreamDefaultReader};

/// The most bytes that are in the module's memory at a time. Browsers give chunks of up to some megabytes; they stay
/// outside until a piece is asked for.
const PIECE_BYTES: u32 = 1 << 18;

/// A stream that is being read. Dropping it lets go of the stream, which ends the download behind it.
pub(crate) struct Pieces {
    reader: ReadableStreamDefaultReader,
    /// The chunk at hand and how much of it has been taken.
    chunk: Uint8Array,
    taken: u32,
    /// Where pieces lie, always the same memory.
    piece: Vec<u8>,
}

impl Pieces {
    /// Begins. The stream must not be in use elsewhere.
    pub(crate) fn of(stream: &ReadableStream) -> Result<Self, JsValue> {
        let reader = stream.get_reader().dyn_into()?;
        Ok(Self {
            reader,
            chunk: Uint8Array::new_with_length(0),
            taken: 0,
            piece: Vec::new(),
        })
    }

    /// The next bytes; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<&[u8]>, JsValue> {
        while self.taken >= self.chunk.length() {
            let read = JsFuture::from(self.reader.read()).await?;
            if Reflect::get(&read, &"done".into())?.is_truthy() {
                return Ok(None);
            }
            self.chunk = Reflect::get(&read, &"value".into())?.dyn_into()?;
            self.taken = 0;
        }
        let end = self.taken.saturating_add(PIECE_BYTES);
        let end = end.min(self.chunk.length());
        let piece = self.chunk.subarray(self.taken, end);
        self.piece.resize(piece.length() as usize, 0);
        piece.copy_to(&mut self.piece);
        self.taken = end;
        Ok(Some(&self.piece))
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        // A stream that has ended or failed has nothing to cancel. Nobody waits for the answer, but a browser complains of
        // a refusal that nobody hears.
        let cancelled = JsFuture::from(self.reader.cancel());
        spawn_local(async { drop(cancelled.await) });
    }
}
