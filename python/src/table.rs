//! The batch table: as an Arrow stream, and as rows of the input.

use std::path::{Path, PathBuf};

use arrow::array::{AsArray, RecordBatch, RecordBatchReader};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::ffi_stream::FFI_ArrowArrayStream;
use batchmine::cli::rows::known_rows;
use batchmine::error::Result;
use batchmine::run::RunReader;
use batchmine::{BatchReader, BatchRows, labels_by_input_row, on_threads};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule};

use crate::errors::raised;
use crate::job::ALL;

/// Reads of a run, on threads that end with it.
fn read<T: Send>(py: Python<'_>, folder: &Path, work: impl FnOnce(&RunReader) -> Result<T> + Send) -> PyResult<T> {
    let done = py.detach(|| {
        let run = RunReader::open(folder)?;
        on_threads(ALL, || work(&run))?
    });
    done.map_err(|error| raised(py, &error))
}

/// A table as the Arrow C stream interface wants it.
struct Stream(BatchReader);

impl Iterator for Stream {
    type Item = std::result::Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|batch| batch.map_err(|error| ArrowError::ExternalError(Box::new(error))))
    }
}

impl RecordBatchReader for Stream {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }
}

/// The batch table of a run, of one epoch or of all; each call of `__arrow_c_stream__` begins anew.
#[pyclass(frozen, module = "batchmine._batchmine")]
pub(crate) struct BatchStream {
    folder: PathBuf,
    epoch: Option<u32>,
}

#[pymethods]
impl BatchStream {
    #[new]
    #[pyo3(signature = (folder, epoch=None))]
    fn new(folder: PathBuf, epoch: Option<u32>) -> BatchStream {
        BatchStream { folder, epoch }
    }

    /// The stream. A schema that is asked for is passed over, as the interface allows.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        drop(requested_schema);
        let table = read(py, &self.folder, |run| BatchReader::open(run, self.epoch))?;
        PyCapsule::new(py, FFI_ArrowArrayStream::new(Box::new(Stream(table))), Some(c"arrow_array_stream".into()))
    }
}

/// Rows of the input and their ids, as texts: of so many rows at most, those of the first batches, which are random.
#[pyfunction]
pub(crate) fn some_ids(py: Python<'_>, folder: PathBuf, most: usize) -> PyResult<Vec<(i64, String)>> {
    let first = read(py, &folder, |run| BatchReader::open(run, Some(0))?.next().transpose())?;
    let Some(batch) = first else { return Ok(Vec::new()) };
    let column = |name: &str| batch.column_by_name(name);
    let Some(rows) = column("row").and_then(|column| column.as_primitive_opt::<Int64Type>()) else {
        return Ok(Vec::new());
    };
    let ids: Vec<String> = match column("id") {
        Some(ids) if *ids.data_type() == DataType::Int64 => {
            ids.as_primitive::<Int64Type>().values().iter().map(ToString::to_string).collect()
        }
        Some(ids) if *ids.data_type() == DataType::Utf8 => {
            ids.as_string::<i32>().iter().map(|id| id.unwrap_or_default().to_owned()).collect()
        }
        _ => return Ok(Vec::new()),
    };
    Ok(rows.values().iter().copied().zip(ids).take(most).collect())
}

/// What a run knows of some rows of the input, as a JSON object each.
#[pyfunction]
pub(crate) fn known(py: Python<'_>, folder: PathBuf, start: u64, end: u64) -> PyResult<Vec<String>> {
    read(py, &folder, |run| known_rows(run, start..end))
}

/// The cluster of each row of the input, in its order: little-endian numbers of 4 bytes, -1 where it has none.
#[pyfunction]
pub(crate) fn clusters(py: Python<'_>, folder: PathBuf) -> PyResult<Bound<'_, PyBytes>> {
    let labels = read(py, &folder, labels_by_input_row)?;
    Ok(PyBytes::new(py, &labels.iter().flat_map(|label| label.to_le_bytes()).collect::<Vec<u8>>()))
}

/// Of an epoch's batches the first rows, and the rows of the input: little-endian numbers of 8 bytes.
#[pyfunction]
pub(crate) fn batch_rows<'py>(
    py: Python<'py>,
    folder: PathBuf,
    epoch: u32,
) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let found = read(py, &folder, |run| BatchRows::read(run, epoch))?;
    let bytes = |numbers: &[u64]| {
        let mut all = Vec::with_capacity(8 * numbers.len());
        numbers.iter().for_each(|number| all.extend(number.to_le_bytes()));
        PyBytes::new(py, &all)
    };
    Ok((bytes(&found.starts), bytes(&found.rows)))
}
