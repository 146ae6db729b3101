//! llama.cpp's own structures for kinds of buffers and how the processor's backend computes with them, as they are in
//! the version that this crate is pinned to (`ggml-backend-impl.h`, `ggml-cpu-impl.h` and `traits.h` of ggml).

use std::ffi::{CStr, c_char, c_int, c_void};

use llama_cpp_sys_2 as sys;
use nix::libc;

/// `ggml_backend_cpu_get_extra_buffer_types()`, the list of orders that are asked.
const LIST: &CStr = c"_Z39ggml_backend_cpu_get_extra_buffer_typesv";

/// The version of ggml whose structures these are.
const VERSION: &CStr = c"0.26.0";

/// How the files of the processor's backends begin.
const LIBRARY: &str = "libggml-cpu";

/// More orders than this are no list.
const LIST_MAX: usize = 16;

type Unused = Option<unsafe extern "C" fn()>;
type Name = unsafe extern "C" fn(*mut BufferType) -> *const c_char;
type Allocate = unsafe extern "C" fn(*mut BufferType, usize) -> *mut Buffer;
type Alignment = unsafe extern "C" fn(*mut BufferType) -> usize;
type InitTensor = unsafe extern "C" fn(*mut Buffer, *mut sys::ggml_tensor) -> c_int;
type SetTensor =
    unsafe extern "C" fn(*mut Buffer, *mut sys::ggml_tensor, *const c_void, usize, usize);
type Supports = unsafe extern "C" fn(
    *mut ExtraBufferType,
    sys::ggml_backend_dev_t,
    *const sys::ggml_tensor,
) -> bool;
type Traits =
    unsafe extern "C" fn(*mut ExtraBufferType, *const sys::ggml_tensor) -> *mut TensorTraits;
type WorkSize =
    unsafe extern "C" fn(*mut TensorTraits, c_int, *const sys::ggml_tensor, *mut usize) -> bool;
type Compute =
    unsafe extern "C" fn(*mut TensorTraits, *mut ComputeParams, *mut sys::ggml_tensor) -> bool;

/// `ggml_backend_buffer_type`.
#[repr(C)]
pub(super) struct BufferType {
    name: Name,
    alloc_buffer: Allocate,
    alloc_buffer_n: Unused,
    alignment: Alignment,
    max_size: Unused,
    alloc_size: Unused,
    alloc_size_n: Unused,
    is_host: Unused,
    device: sys::ggml_backend_dev_t,
    context: *mut c_void,
}

impl BufferType {
    pub(super) const fn new(
        name: Name,
        alloc_buffer: Allocate,
        alignment: Alignment,
        device: sys::ggml_backend_dev_t,
        context: *mut c_void,
    ) -> Self {
        Self {
            name,
            alloc_buffer,
            alloc_buffer_n: None,
            alignment,
            max_size: None,
            alloc_size: None,
            alloc_size_n: None,
            is_host: None,
            device,
            context,
        }
    }
}

/// `ggml_backend_buffer`.
#[repr(C)]
pub(super) struct Buffer {
    free: Unused,
    get_base: Unused,
    init_tensor: Option<InitTensor>,
    memset_tensor: Unused,
    set_tensor: Option<SetTensor>,
    get_tensor: Unused,
    set_tensor_2d: Unused,
    get_tensor_2d: Unused,
    cpy_tensor: Unused,
    clear: Unused,
    reset: Unused,
    kind: *mut BufferType,
    context: *mut c_void,
    size: usize,
    usage: c_int,
}

/// `ggml_compute_params`.
#[repr(C)]
pub(super) struct ComputeParams {
    /// The thread's number.
    pub(super) ith: c_int,
    /// The number of threads.
    pub(super) nth: c_int,
    work_bytes: usize,
    work: *mut c_void,
    threads: *mut c_void,
    is_reference: bool,
}

/// A C++ object's two destructors; these are never destroyed.
unsafe extern "C" fn never() {}

/// `ggml::cpu::extra_buffer_type`: a C++ object with virtual functions.
#[repr(C)]
pub(super) struct ExtraBufferType {
    functions: *const ExtraFunctions,
}

#[repr(C)]
struct ExtraFunctions {
    destructors: [unsafe extern "C" fn(); 2],
    supports_op: Supports,
    tensor_traits: Traits,
}

impl ExtraBufferType {
    pub(super) fn new(supports_op: Supports, tensor_traits: Traits) -> Self {
        Self {
            functions: leak(ExtraFunctions {
                destructors: [never; 2],
                supports_op,
                tensor_traits,
            }),
        }
    }
}

/// `ggml::cpu::tensor_traits`: a C++ object with virtual functions.
#[repr(C)]
pub(super) struct TensorTraits {
    functions: *const TraitFunctions,
}

#[repr(C)]
struct TraitFunctions {
    destructors: [unsafe extern "C" fn(); 2],
    work_size: WorkSize,
    compute_forward: Compute,
}

// SAFETY: never written once it is made.
unsafe impl Send for TensorTraits {}
// SAFETY: as above.
unsafe impl Sync for TensorTraits {}

impl TensorTraits {
    pub(super) fn new(work_size: WorkSize, compute_forward: Compute) -> Self {
        Self {
            functions: leak(TraitFunctions {
                destructors: [never; 2],
                work_size,
                compute_forward,
            }),
        }
    }
}

/// Something that llama.cpp refers to until the process ends.
pub(super) fn leak<T>(value: T) -> *mut T {
    Box::into_raw(Box::new(value))
}

/// The processor as llama.cpp's device.
pub(super) fn processor() -> Option<sys::ggml_backend_dev_t> {
    // SAFETY: a look-up in a list that the loaded backends are in.
    let device = unsafe { sys::ggml_backend_dev_by_type(sys::GGML_BACKEND_DEVICE_TYPE_CPU) };
    (!device.is_null()).then_some(device)
}

/// How the processor's usual buffers are aligned.
pub(super) fn processor_alignment() -> usize {
    // SAFETY: the usual kind of buffer is always there.
    unsafe { sys::ggml_backend_buft_get_alignment(sys::ggml_backend_cpu_buffer_type()) }
}

/// A usual buffer that is filled in another way.
pub(super) fn allocate(
    buffer_type: *mut BufferType,
    bytes: usize,
    init_tensor: InitTensor,
    set_tensor: SetTensor,
) -> *mut Buffer {
    // SAFETY: the usual kind of buffer is always there, and a new buffer is nobody else's yet.
    unsafe {
        let usual = sys::ggml_backend_cpu_buffer_type();
        let buffer: *mut Buffer = sys::ggml_backend_buft_alloc_buffer(usual, bytes).cast();
        if let Some(buffer) = buffer.as_mut() {
            buffer.kind = buffer_type;
            buffer.init_tensor = Some(init_tensor);
            buffer.set_tensor = Some(set_tensor);
            buffer.get_tensor = None;
            buffer.cpy_tensor = None;
        }
        buffer
    }
}

/// In what kind of buffer a tensor lies.
pub(super) fn buffer_type(tensor: *const sys::ggml_tensor) -> Option<*mut BufferType> {
    // SAFETY: llama.cpp gives whole tensors, or none.
    unsafe {
        let buffer: *const Buffer = tensor.as_ref()?.buffer.cast();
        Some(buffer.as_ref()?.kind)
    }
}

/// Whether a tensor's numbers lie in memory in the usual way, or will.
pub(super) fn is_on_host(tensor: *const sys::ggml_tensor) -> bool {
    buffer_type(tensor).is_none_or(|buffer_type| {
        // SAFETY: llama.cpp's own kind of buffer.
        unsafe { sys::ggml_backend_buft_is_host(buffer_type.cast()) }
    })
}

/// `std::vector` of pointers, as both C++ libraries have it.
#[repr(C)]
struct List {
    begin: *mut *mut BufferType,
    end: *mut *mut BufferType,
    room_end: *mut *mut BufferType,
}

/// Whether the libraries that were found are of the version whose structures stand above. Others may lie beside the
/// program by mistake.
fn is_known_version() -> bool {
    // SAFETY: it gives a constant text of the library, or nothing.
    let version = unsafe { sys::ggml_version() };
    // SAFETY: a text of C where it is not null.
    !version.is_null() && unsafe { CStr::from_ptr(version) } == VERSION
}

/// Puts a kind of buffer at the end of the list; `false` where there is none.
pub(super) fn add_to_list(buffer_type: *mut BufferType) -> bool {
    if !is_known_version() {
        return false;
    }
    let Some(symbol) = symbol() else {
        return false;
    };
    // SAFETY: the symbol is a function without arguments that returns a reference to the list. Nobody else uses it
    // now: no model is loaded yet. The old memory is leaked, the new one is malloc's, which C++ frees at the end.
    unsafe {
        let list: unsafe extern "C" fn() -> *mut List = std::mem::transmute(symbol);
        let Some(list) = list().as_mut() else {
            return false;
        };
        let Ok(count) = usize::try_from(list.end.offset_from(list.begin)) else {
            return false;
        };
        if count > LIST_MAX {
            return false;
        }
        let room = libc::malloc((count + 1) * size_of::<*mut BufferType>());
        let room: *mut *mut BufferType = room.cast();
        if room.is_null() {
            return false;
        }
        if count > 0 {
            std::ptr::copy_nonoverlapping(list.begin, room, count);
        }
        room.add(count).write(buffer_type);
        list.begin = room;
        list.end = room.add(count + 1);
        list.room_end = list.end;
    }
    true
}

/// The list's symbol in the processor's backend that llama.cpp has loaded.
fn symbol() -> Option<*mut c_void> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().find_map(|line| {
        let path = line.get(line.find('/')?..)?;
        let name = path.rsplit('/').next()?;
        name.starts_with(LIBRARY).then_some(path)
    })?;
    let path = std::ffi::CString::new(path).ok()?;
    // SAFETY: nothing is loaded that is not loaded already, and the library stays loaded for ever.
    let symbol = unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD);
        if library.is_null() {
            return None;
        }
        libc::dlsym(library, LIST.as_ptr())
    };
    (!symbol.is_null()).then_some(symbol)
}
