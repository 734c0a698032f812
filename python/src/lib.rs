//! The extension module `batchmine._batchmine`: jobs, runs and the command line, for the Python beside it.
//!
//! Work runs on a thread of its own, without Python's lock. The calling thread waits for it, hands on events and log
//! lines, and asks ten times a second whether Python was interrupted.

mod errors;
mod exports;
mod foreign;
mod job;
mod pieces;
mod rows;
mod table;
mod watched;

use std::ffi::OsString;

use batchmine::cli;
use batchmine::config::{FlagValue, Settings};
use pyo3::prelude::*;

#[global_allocator]
static ALLOCATOR: batchmine::guard::Allocator = batchmine::guard::Allocator;

/// Runs the command line, whose first argument is the program's name; the exit code.
#[pyfunction]
fn main(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| match cli::arguments::parse(arguments) {
        Ok(parsed) => cli::run(parsed),
        Err(error) => cli::refuse(&error),
    })
}

/// Name, help, whether it is a list, and what values may be, of each setting: words, or a Python type's name.
#[pyfunction]
fn flags() -> Vec<(String, String, bool, Vec<String>)> {
    let values = |value| match value {
        FlagValue::Word(words) => words,
        FlagValue::Whole => vec!["int".to_owned()],
        FlagValue::Number => vec!["float".to_owned()],
        FlagValue::Text => vec!["str".to_owned()],
    };
    Settings::flags().into_iter().map(|flag| (flag.name, flag.help, flag.is_list, values(flag.value))).collect()
}

/// Says by which command GPU workers are started.
#[pyfunction]
fn started_by(command: Vec<OsString>) {
    cli::gpu_worker::started_by(command);
}

#[pymodule]
fn _batchmine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(main, module)?)?;
    module.add_function(wrap_pyfunction!(flags, module)?)?;
    module.add_function(wrap_pyfunction!(started_by, module)?)?;
    module.add_function(wrap_pyfunction!(job::mine, module)?)?;
    module.add_function(wrap_pyfunction!(job::plan, module)?)?;
    module.add_function(wrap_pyfunction!(job::manifest, module)?)?;
    module.add_function(wrap_pyfunction!(job::verify, module)?)?;
    module.add_function(wrap_pyfunction!(job::report, module)?)?;
    module.add_function(wrap_pyfunction!(job::candidates, module)?)?;
    module.add_function(wrap_pyfunction!(pieces::pieces, module)?)?;
    module.add_function(wrap_pyfunction!(pieces::work, module)?)?;
    module.add_function(wrap_pyfunction!(table::batch_rows, module)?)?;
    module.add_function(wrap_pyfunction!(table::known, module)?)?;
    module.add_function(wrap_pyfunction!(table::clusters, module)?)?;
    module.add_function(wrap_pyfunction!(exports::export, module)?)?;
    module.add_function(wrap_pyfunction!(table::some_ids, module)?)?;
    module.add_class::<rows::Rows>()?;
    module.add_class::<table::BatchStream>()
}
