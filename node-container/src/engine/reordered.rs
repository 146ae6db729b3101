//! Which weights the processor keeps a second time, in an order that suits it, and how much memory that takes.
//!
//! llama.cpp brings weights into another order where one of its processor backend's orders takes them (its own for
//! `Q4_0`, `Q4_K` and others, that of matrix instructions, ours for `Q4_1`), and keeps the file mapped all the same.
//! Which ones depends on the processor, so nothing is assumed here: the backend is asked about each matrix of a file as
//! llama.cpp asks when it loads one (`weight_buft_supported` in its `llama-model-loader.cpp`).

#![expect(
    unsafe_code,
    reason = "asks llama.cpp's backend with llama.cpp's own structures"
)]

use std::ffi::CStr;

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_sys_2 as sys;
use model_files::header::{Matrices, Matrix};

/// What gives the backend's orders (`ggml_backend_dev_get_extra_bufts_t`).
const ORDERS: &CStr = c"ggml_backend_dev_get_extra_bufts";

/// What our order is called.
pub(super) const OURS: &CStr = c"CPU_PACKED";

/// More orders than this are no list.
const ORDERS_MAX: usize = 16;

/// Tensors of one question: the weights, what they are multiplied with, the experts' numbers, the product.
const TENSORS: usize = 8;

/// Tokens of the question.
const TOKENS: i64 = 512;

/// No dimension of a model is longer.
const LENGTH_MAX: u64 = 1 << 31;

/// No matrix has more numbers.
const NUMBERS_MAX: u64 = 1 << 46;

/// Which orders there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orders {
    /// All that the processor's backend has.
    All,
    /// Those of llama.cpp, without ours.
    WithoutOurs,
    /// None: graphics cards hold the weights.
    None,
}

type Order = sys::ggml_backend_buffer_type_t;

/// Bytes of those matrices that are kept a second time. `_backend`: its libraries are loaded, and our order is in the
/// list, if it is to be.
pub(crate) fn reordered(_backend: &LlamaBackend, matrices: &Matrices, orders: Orders) -> u64 {
    if orders == Orders::None {
        return 0;
    }
    // SAFETY: a look-up in a list that the loaded backends are in.
    let device = unsafe { sys::ggml_backend_dev_by_type(sys::GGML_BACKEND_DEVICE_TYPE_CPU) };
    if device.is_null() {
        return 0;
    }
    let mut list = list(device);
    if orders == Orders::WithoutOurs {
        // SAFETY: an order of the list, whose name is a constant text.
        list.retain(|order| unsafe { CStr::from_ptr(sys::ggml_backend_buft_name(*order)) } != OURS);
    }
    matrices
        .iter()
        .map(|(matrix, count)| {
            let copy = list.iter().find_map(|order| copy(device, *order, matrix));
            copy.unwrap_or(0).saturating_mul(*count)
        })
        .fold(0, u64::saturating_add)
}

/// The orders of a device, in which llama.cpp tries them.
fn list(device: sys::ggml_backend_dev_t) -> Vec<Order> {
    // SAFETY: the device is a loaded backend's, and the name ends as C's do.
    let function = unsafe {
        let backend = sys::ggml_backend_dev_backend_reg(device);
        sys::ggml_backend_reg_get_proc_address(backend, ORDERS.as_ptr())
    };
    if function.is_null() {
        return Vec::new();
    }
    let mut orders = Vec::new();
    // SAFETY: what has this name is such a function; it returns a list that lives for ever and ends with null.
    unsafe {
        let give: unsafe extern "C" fn(sys::ggml_backend_dev_t) -> *const Order =
            std::mem::transmute(function);
        let mut at = give(device);
        while !at.is_null() && !(*at).is_null() && orders.len() < ORDERS_MAX {
            orders.push(*at);
            at = at.add(1);
        }
    }
    orders
}

/// Bytes of this matrix in this order, where the order takes it.
fn copy(device: sys::ggml_backend_dev_t, order: Order, matrix: &Matrix) -> Option<u64> {
    let [columns, rows, depth] = lengths(matrix)?;
    // SAFETY: an own context that knows sizes and holds no numbers, with room for all tensors; their types and lengths
    // were looked at above. The buffer has no bytes, and lives until the question is answered.
    unsafe {
        let context = sys::ggml_init(sys::ggml_init_params {
            mem_size: sys::ggml_tensor_overhead() * TENSORS,
            mem_buffer: std::ptr::null_mut(),
            no_alloc: true,
        });
        if context.is_null() {
            return None;
        }
        let weights = sys::ggml_new_tensor_3d(context, matrix.kind, columns, rows, depth);
        let numbers = |second: i64, third: i64| {
            sys::ggml_new_tensor_3d(context, sys::GGML_TYPE_F32, columns, second, third)
        };
        let product = if matrix.is_routed {
            let ids = sys::ggml_new_tensor_2d(context, sys::GGML_TYPE_I32, 1, TOKENS);
            sys::ggml_mul_mat_id(context, weights, numbers(1, TOKENS), ids)
        } else {
            sys::ggml_mul_mat(context, weights, numbers(TOKENS, depth))
        };
        let buffer = sys::ggml_backend_buft_alloc_buffer(order, 0);
        (*weights).buffer = buffer;
        let is_taken = sys::ggml_backend_dev_supports_op(device, product);
        let bytes = sys::ggml_backend_buft_get_alloc_size(order, weights);
        (*weights).buffer = std::ptr::null_mut();
        sys::ggml_backend_buffer_free(buffer);
        sys::ggml_free(context);
        is_taken.then_some(bytes as u64)
    }
}

/// A matrix's lengths, where ggml can have such a tensor: somebody else wrote the file, and ggml ends the process over
/// what it cannot have.
fn lengths(matrix: &Matrix) -> Option<[i64; 3]> {
    let lengths = [matrix.columns, matrix.rows, matrix.depth];
    let numbers = lengths.iter().try_fold(1u64, |numbers, length| {
        let is_possible = (1..=LENGTH_MAX).contains(length);
        numbers.checked_mul(*length).filter(|_| is_possible)
    })?;
    if numbers > NUMBERS_MAX || matrix.kind >= sys::GGML_TYPE_COUNT {
        return None;
    }
    let [columns, rows, depth] = lengths.map(|length| i64::try_from(length).ok());
    let columns = columns?;
    // SAFETY: the type is one of ggml's. Those that it has no more have blocks of nothing.
    let block = unsafe { sys::ggml_blck_size(matrix.kind) };
    (block > 0 && columns % block == 0).then_some([columns, rows?, depth?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ggml_cannot_have_is_not_asked_about() {
        let matrix = Matrix {
            kind: sys::GGML_TYPE_Q4_1,
            columns: 64,
            rows: 16,
            depth: 1,
            is_routed: false,
        };
        assert_eq!(lengths(&matrix), Some([64, 16, 1]));
        let is_refused = |matrix: Matrix| lengths(&matrix).is_none();
        // Number 4 was a type once.
        for kind in [4, sys::GGML_TYPE_COUNT, u32::MAX] {
            assert!(is_refused(Matrix { kind, ..matrix }), "{kind}");
        }
        for columns in [0, 33, u64::MAX] {
            assert!(is_refused(Matrix { columns, ..matrix }), "{columns}");
        }
        assert!(is_refused(Matrix { rows: 0, ..matrix }));
        let [rows, depth] = [1 << 31; 2];
        assert!(is_refused(Matrix {
            rows,
            depth,
            ..matrix
        }));
    }
}
