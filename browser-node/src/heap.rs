//! The memory of this wasm module.

use js_sys::WebAssembly::Memory;
use wasm_bindgen::JsCast as _;

/// The most bytes that the module has ever had: a wasm memory grows and never shrinks, so its length now is its peak.
pub(crate) fn peak_bytes() -> u64 {
    let memory: Memory = wasm_bindgen::memory().unchecked_into();
    let buffer: js_sys::ArrayBuffer = memory.buffer().unchecked_into();
    u64::from(buffer.byte_length())
}
