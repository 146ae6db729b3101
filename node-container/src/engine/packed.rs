//! A faster way to multiply `Q4_1` weights than llama.cpp has on processors without matrix instructions.
//!
//! llama.cpp brings weights of most kinds into an order in which many rows are multiplied at once, and calls that
//! repacking; for `Q4_1` it has none and multiplies row by row, which also makes eight answers at once hardly cheaper
//! than eight one after another. This adds the missing order ([`q4_1`]) to the list of those that its processor backend
//! asks, at its end: where the processor has matrix instructions (AMX), llama.cpp's own comes first.
//!
//! The list is not part of llama.cpp's interface: it is found by its symbol in the loaded backend, and the structures
//! are those of the version that this crate is pinned to ([`raw`]). Where the symbol is missing (another version,
//! another system), or the processor lacks the instructions, everything stays as it was.
//!
//! Sums differ from llama.cpp's in their last digits, as they do between its own kernels.

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
#![expect(
    unsafe_code,
    reason = "llama.cpp calls these functions with its own structures"
)]

mod q4_1;
mod raw;

use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void};
use std::sync::OnceLock;

use llama_cpp_sys_2 as sys;

use q4_1::{BLOCK, GROUP_ROWS, Rounded};
use raw::{BufferType, ComputeParams, ExtraBufferType, TensorTraits};

/// Where llama.cpp's backends find this order of weights. Never freed: models refer to it.
static ADDED: OnceLock<Option<Added>> = OnceLock::new();

/// The buffer type that llama.cpp knows.
struct Added(*mut BufferType);

// SAFETY: it is written once, before any other thread can see it, and only read from then on.
unsafe impl Send for Added {}
// SAFETY: as above.
unsafe impl Sync for Added {}

/// Adds the order to the processor's backend, once; to be called after the backends are loaded and before any model is.
pub(crate) fn add() -> bool {
    let added = ADDED.get_or_init(|| {
        if !q4_1::is_possible() {
            return None;
        }
        let device = raw::processor()?;
        let buffer_type = raw::leak(BufferType::new(
            name,
            allocate,
            alignment,
            device,
            raw::leak(ExtraBufferType::new(supports, traits)).cast(),
        ));
        raw::add_to_list(buffer_type).then_some(Added(buffer_type))
    });
    added.is_some()
}

fn is_ours(tensor: *const sys::ggml_tensor) -> bool {
    let Some(Some(added)) = ADDED.get() else {
        return false;
    };
    raw::buffer_type(tensor) == Some(added.0)
}

unsafe extern "C" fn name(_: *mut BufferType) -> *const c_char {
    super::reordered::OURS.as_ptr()
}

unsafe extern "C" fn alignment(_: *mut BufferType) -> usize {
    raw::processor_alignment()
}

unsafe extern "C" fn allocate(buffer_type: *mut BufferType, bytes: usize) -> *mut raw::Buffer {
    raw::allocate(buffer_type, bytes, init_tensor, set_tensor)
}

unsafe extern "C" fn init_tensor(_: *mut raw::Buffer, tensor: *mut sys::ggml_tensor) -> c_int {
    static TRAITS: OnceLock<TensorTraits> = OnceLock::new();
    let traits: *const TensorTraits = TRAITS.get_or_init(|| TensorTraits::new(work_size, compute));
    // SAFETY: llama.cpp gives a tensor that it is about to fill, and `extra` is the buffer type's.
    unsafe { (*tensor).extra = traits.cast_mut().cast() };
    0
}

/// Fills a tensor from a file's bytes.
unsafe extern "C" fn set_tensor(
    _: *mut raw::Buffer,
    tensor: *mut sys::ggml_tensor,
    data: *const c_void,
    offset: usize,
    bytes: usize,
) {
    // SAFETY: a tensor of this buffer has room for its bytes, and `data` holds as many.
    let (blocks, data, packed) = unsafe {
        assert!(
            offset == 0 && bytes == sys::ggml_nbytes(tensor),
            "whole tensors only"
        );
        (
            usize::try_from((*tensor).ne[0]).unwrap_or(0) / BLOCK,
            std::slice::from_raw_parts(data.cast::<u8>(), bytes),
            std::slice::from_raw_parts_mut((*tensor).data.cast::<u8>(), bytes),
        )
    };
    q4_1::pack(data, packed, blocks);
}

/// Whether weights can be kept in this order for an operation.
unsafe extern "C" fn supports(
    _: *mut ExtraBufferType,
    _: sys::ggml_backend_dev_t,
    op: *const sys::ggml_tensor,
) -> bool {
    // SAFETY: llama.cpp asks about a whole operation.
    unsafe {
        if (*op).op != sys::GGML_OP_MUL_MAT {
            return false;
        }
        let (weights, x) = ((*op).src[0], (*op).src[1]);
        is_ours(weights)
            && (*weights).type_ == sys::GGML_TYPE_Q4_1
            && is_multiple((*weights).ne[0], BLOCK)
            && is_multiple((*weights).ne[1], GROUP_ROWS)
            && (*weights).ne[2] == 1
            && (*weights).ne[3] == 1
            && (*x).type_ == sys::GGML_TYPE_F32
            && (*x).nb[0] == size_of::<f32>()
            && raw::is_on_host(x)
    }
}

fn is_multiple(count: i64, of: usize) -> bool {
    usize::try_from(count).is_ok_and(|count| count > 0 && count.is_multiple_of(of))
}

unsafe extern "C" fn traits(
    _: *mut ExtraBufferType,
    op: *const sys::ggml_tensor,
) -> *mut TensorTraits {
    // SAFETY: llama.cpp asks about a whole operation; only ours have our traits in `extra`.
    unsafe {
        let weights = (*op).src[0];
        if (*op).op == sys::GGML_OP_MUL_MAT && is_ours(weights) {
            (*weights).extra.cast()
        } else {
            std::ptr::null_mut()
        }
    }
}

unsafe extern "C" fn work_size(
    _: *mut TensorTraits,
    _: c_int,
    _: *const sys::ggml_tensor,
    bytes: *mut usize,
) -> bool {
    // SAFETY: llama.cpp's own variable. Each thread has a buffer of its own.
    unsafe { *bytes = 0 };
    true
}

thread_local! {
    /// Every thread rounds the numbers for itself: that is far less work than waiting for each other.
    static ROUNDED: RefCell<Rounded> = RefCell::default();
}

/// This thread's share of a product.
unsafe extern "C" fn compute(
    _: *mut TensorTraits,
    params: *mut ComputeParams,
    op: *mut sys::ggml_tensor,
) -> bool {
    // SAFETY: llama.cpp gives a whole operation that `supports` agreed to, and each thread its own number.
    unsafe {
        let (weights, x) = (&*(*op).src[0], &*(*op).src[1]);
        let size = |count: i64| usize::try_from(count).unwrap_or(0);
        let (columns, rows) = (size(weights.ne[0]), size(weights.ne[1]));
        let thread = usize::try_from((*params).ith).unwrap_or(0);
        let threads = usize::try_from((*params).nth).unwrap_or(1).max(1);
        let groups = rows / GROUP_ROWS;
        let share = groups * thread / threads..groups * (thread + 1) / threads;
        ROUNDED.with_borrow_mut(|rounded| {
            rounded.clear(columns / BLOCK);
            for i3 in 0..size(x.ne[3]) {
                for i2 in 0..size(x.ne[2]) {
                    for i1 in 0..size(x.ne[1]) {
                        let at = i1 * x.nb[1] + i2 * x.nb[2] + i3 * x.nb[3];
                        let row: *const f32 = x.data.byte_add(at).cast();
                        rounded.push(std::slice::from_raw_parts(row, columns));
                    }
                }
            }
            // The result of a product lies without gaps, one row after another.
            q4_1::multiply(weights.data.cast(), share, rounded, (*op).data.cast(), rows);
        });
    }
    true
}
