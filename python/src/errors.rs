//! Errors as Python's exceptions: the classes of `batchmine.errors`.

use batchmine::error::{Error, Kind};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The name of the class for a kind of failure.
fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Input => "InputError",
        Kind::Runtime => "RunError",
        Kind::Fault => "FaultError",
        Kind::OverBudget => "BudgetError",
        Kind::Interrupted => "Interrupted",
    }
}

/// An error as the exception of its kind, with its parts as attributes.
pub(crate) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    exception(py, error).unwrap_or_else(|other| other)
}

fn exception(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let details = error.details();
    let parts = PyDict::new(py);
    parts.set_item("path", details.path.as_ref())?;
    parts.set_item("column", &details.column)?;
    parts.set_item("task", &details.task)?;
    parts.set_item("row_group", details.row_group)?;
    parts.set_item("row", details.row)?;
    parts.set_item("expected", &details.expected)?;
    parts.set_item("found", &details.found)?;
    parts.set_item("remedy", &details.remedy)?;
    let class = py.import("batchmine.errors")?.getattr(class(details.kind))?;
    Ok(PyErr::from_value(class.call((error.to_string(),), Some(&parts))?))
}
