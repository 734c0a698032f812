//! What others hold: arrays of Python's objects, read where they lie, and Arrow streams.

use std::panic::AssertUnwindSafe;
use std::ptr::NonNull;
use std::sync::Arc;

use arrow::buffer::Buffer;
use arrow::ffi_stream::{FFI_ArrowArrayStream, RecordBatchStreamReader};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

/// A two-dimensional array of numbers, row after row.
pub(crate) struct HeldArray {
    pub(crate) bytes: Buffer,
    pub(crate) rows: usize,
    pub(crate) dim: usize,
    /// The number type as numpy writes it, such as `<f4`.
    pub(crate) number: String,
}

impl HeldArray {
    /// The array behind an object's `__array_interface__`, without a copy. The object lives as long as its bytes.
    ///
    /// # Errors
    /// It has no such interface, or is not C-contiguous, or has not two dimensions.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<HeldArray> {
        let wrong = |what: &str| PyValueError::new_err(format!("an array of embeddings {what}"));
        let interface = object.getattr("__array_interface__")?;
        let part = |name: &str| interface.get_item(name);
        let (address, _): (usize, bool) = part("data")?.extract()?;
        let number: String = part("typestr")?.extract()?;
        let shape: Vec<usize> = part("shape")?.extract()?;
        let &[rows, dim] = &shape[..] else { return Err(wrong("has not two dimensions")) };
        let width =
            number.get(2..).and_then(|width| width.parse::<usize>().ok()).ok_or_else(|| wrong("of no numbers"))?;
        let strides: Option<Vec<isize>> = interface.call_method1("get", ("strides",))?.extract()?;
        let row_bytes = dim.checked_mul(width).ok_or_else(|| wrong("is larger than memory"))?;
        let bytes = rows.checked_mul(row_bytes).ok_or_else(|| wrong("is larger than memory"))?;
        let contiguous = [isize::try_from(row_bytes)?, isize::try_from(width)?];
        if strides.is_some_and(|strides| strides != contiguous) {
            return Err(wrong("is not contiguous"));
        }
        let pointer = NonNull::new(address as *mut u8).ok_or_else(|| wrong("has no address"))?;
        // The last buffer to be dropped gives its reference to the object back, on whatever thread.
        let owner = Arc::new(AssertUnwindSafe(object.clone().unbind()));
        // SAFETY: by numpy's array interface protocol there is an array of this shape and item size at the address. It
        // is C-contiguous, as was just checked, so it has so many bytes. They are initialised and stay while the object
        // lives, to which the buffer holds a reference. Nothing here writes to them. That no other thread does so
        // meanwhile is what the documentation of `mine` asks for.
        let bytes = unsafe { Buffer::from_custom_allocation(pointer, bytes, owner) };
        Ok(HeldArray { bytes, rows, dim, number })
    }
}

/// Takes the stream out of what an object's `__arrow_c_stream__` gives.
///
/// # Errors
/// It gives something else, or a stream that was taken already, or one whose schema cannot be read.
pub(crate) fn stream_of(object: &Bound<'_, PyAny>) -> PyResult<RecordBatchStreamReader> {
    let capsule = object.call_method0("__arrow_c_stream__")?;
    let capsule = capsule.cast::<PyCapsule>()?;
    let pointer = capsule.pointer_checked(Some(c"arrow_array_stream"))?.cast::<FFI_ArrowArrayStream>();
    // SAFETY: by the Arrow PyCapsule interface a capsule of this name holds a pointer to such a struct, which lives as
    // long as the capsule; it is alive here. What is left behind is an empty stream, which its owner need not release.
    let stream = unsafe { FFI_ArrowArrayStream::from_raw(pointer.as_ptr()) };
    RecordBatchStreamReader::try_new(stream).map_err(|error| PyValueError::new_err(error.to_string()))
}
