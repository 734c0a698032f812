//! Arrays and labels that Python holds, as the columns of a job.

use std::sync::Arc;

use arrow::array::{
    ArrayData, ArrayRef, FixedSizeBinaryArray, FixedSizeListArray, Float64Array, Int64Array, Int64Builder,
    LargeStringBuilder, ListBuilder, RecordBatch, make_array,
};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;

use crate::foreign::HeldArray;

/// The columns of a job, one after the other. Embeddings are not copied; labels are, once.
#[pyclass(module = "batchmine._batchmine")]
pub(crate) struct Rows {
    columns: Vec<(String, ArrayRef)>,
}

#[pymethods]
impl Rows {
    #[new]
    fn new() -> Rows {
        Rows { columns: Vec::new() }
    }

    /// Adds embeddings: a C-contiguous array of [rows, dim] with `__array_interface__`; `bfloat16`: of this number
    /// type, which numpy does not know.
    fn add_embeddings(&mut self, name: String, array: &Bound<'_, PyAny>, bfloat16: bool) -> PyResult<()> {
        let array = HeldArray::of(array)?;
        let array = vectors(array, bfloat16).map_err(|error| PyValueError::new_err(error.to_string()))?;
        self.columns.push((name, array));
        Ok(())
    }

    /// Adds labels: `kind` says what the values are, or None: "integer", "number", "text", "integers" or "texts".
    fn add_labels(&mut self, name: String, values: &Bound<'_, PyAny>, kind: &str) -> PyResult<()> {
        let array: ArrayRef = match kind {
            "integer" => {
                Arc::new(each(values)?.map(|value| value?.extract::<Option<i64>>()).collect::<PyResult<Int64Array>>()?)
            }
            "number" => Arc::new(
                each(values)?.map(|value| value?.extract::<Option<f64>>()).collect::<PyResult<Float64Array>>()?,
            ),
            "text" => {
                let mut texts = LargeStringBuilder::new();
                for value in each(values)? {
                    texts.append_option(value?.extract::<Option<PyBackedStr>>()?);
                }
                Arc::new(texts.finish())
            }
            "integers" => {
                let mut lists = ListBuilder::new(Int64Builder::new());
                for value in each(values)? {
                    let list: Option<Vec<Option<i64>>> = value?.extract()?;
                    lists.append_option(list);
                }
                Arc::new(lists.finish())
            }
            "texts" => {
                let mut lists = ListBuilder::new(LargeStringBuilder::new());
                for value in each(values)? {
                    let list: Option<Vec<Option<PyBackedStr>>> = value?.extract()?;
                    lists.append_option(list);
                }
                Arc::new(lists.finish())
            }
            other => return Err(PyValueError::new_err(format!("no kind of labels: {other}"))),
        };
        self.columns.push((name, array));
        Ok(())
    }
}

impl Rows {
    /// The columns, which then are no longer here.
    pub(crate) fn take(&mut self) -> PyResult<RecordBatch> {
        let columns = std::mem::take(&mut self.columns);
        RecordBatch::try_from_iter(columns).map_err(|error| PyValueError::new_err(error.to_string()))
    }
}

fn each<'py>(values: &Bound<'py, PyAny>) -> PyResult<impl Iterator<Item = PyResult<Bound<'py, PyAny>>>> {
    values.try_iter()
}

/// Vectors as an embedding column has them.
fn vectors(array: HeldArray, bfloat16: bool) -> Result<ArrayRef, ArrowError> {
    let wrong = |what: String| ArrowError::InvalidArgumentError(what);
    let HeldArray { bytes, rows, dim, number } = array;
    if bfloat16 {
        let width = i32::try_from(2 * dim).map_err(|e| wrong(e.to_string()))?;
        return Ok(Arc::new(FixedSizeBinaryArray::try_new(width, bytes, None)?));
    }
    let data_type = match number.as_str() {
        "|i1" => DataType::Int8,
        "|u1" => DataType::UInt8,
        "<f2" => DataType::Float16,
        "<f4" => DataType::Float32,
        "<f8" => DataType::Float64,
        other => return Err(wrong(format!("embeddings of the number type {other}"))),
    };
    let values = ArrayData::builder(data_type.clone()).len(rows * dim).add_buffer(bytes).build()?;
    let length = i32::try_from(dim).map_err(|e| wrong(e.to_string()))?;
    let item = Arc::new(Field::new_list_field(data_type, false));
    Ok(Arc::new(FixedSizeListArray::try_new(item, length, make_array(values), None)?))
}
