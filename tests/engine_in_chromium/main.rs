//! The engine for WebGPU in a worker of a real Chromium: the same kernels, the same answers as natively, little memory.

mod answers;
mod chats;
mod kernels;
mod memory;

use serde_json::Value;

/// The elements of a list; none where it is something else.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
