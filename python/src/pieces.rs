//! Parts of a job that other processes make.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use batchmine::error::{Error, Kind};
use batchmine::run::{RunReader, Stage};
use batchmine::{PartsAsked, Watch, WorkAsked, WorkerLimits, on_threads, open_parts, work as worked};
use pyo3::prelude::*;

use crate::errors::raised;
use crate::job::ALL;
use crate::watched::watched;

/// What can be made now, as JSON: see `batchmine pieces --json`.
#[pyfunction]
pub(crate) fn pieces(py: Python<'_>, folder: PathBuf, threads: Option<usize>) -> PyResult<String> {
    let worker = WorkerLimits { threads, ..WorkerLimits::default() };
    let open = RunReader::open(&folder).and_then(|run| open_parts(&run, worker));
    serde_json::to_string(&open.map_err(|error| raised(py, &error))?).map_err(unwritten)
}

/// What a worker is called with.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct WorkCall {
    run: PathBuf,
    stage: Option<String>,
    parts: Vec<String>,
    memory: Option<u64>,
    threads: Option<usize>,
    /// A folder for copies.
    scratch: Option<PathBuf>,
}

/// Makes parts, and says what was done as JSON: see `batchmine work --json`.
#[pyfunction]
pub(crate) fn work(
    py: Python<'_>,
    call: WorkCall,
    on_event: &Bound<'_, PyAny>,
    on_line: &Bound<'_, PyAny>,
) -> PyResult<String> {
    watched(py, on_event, on_line, move |control| {
        let WorkCall { run, stage, parts, memory, threads, scratch } = call;
        let interrupted = control.interrupted;
        let listen = |_| match interrupted.load(Ordering::Relaxed) {
            true => Err(Error::new(Kind::Interrupted, "interrupted: parts that were finished are kept").path(&run)),
            false => Ok(()),
        };
        let named = |name: String| {
            let stage = Stage::ALL.into_iter().find(|stage| stage.name() == name);
            stage.ok_or_else(|| Error::input("there is no such stage").expected("neighbors or edges").found(name))
        };
        let worker = WorkerLimits { memory, threads, precision: None };
        let stage = stage.map(named).transpose()?;
        let asked = WorkAsked { parts: PartsAsked::Named(parts), stage, worker, scratch, patience: None };
        on_threads(threads.unwrap_or(ALL), || worked(&run, &asked, Watch::new(&listen)))?
    })
    .and_then(|done| serde_json::to_string(&done).map_err(unwritten))
}

fn unwritten(error: serde_json::Error) -> PyErr {
    pyo3::exceptions::PyValueError::new_err(error.to_string())
}
