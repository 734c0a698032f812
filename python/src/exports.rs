//! Exports: a run's batches as a trainer's own files.

use std::path::PathBuf;
use std::sync::Arc;

use batchmine::config::{Settings, half_of_memory};
use batchmine::error::Error;
use batchmine::export::{Epochs, ExportSettings, Format, export as exported};
use batchmine::run::{Disk, RunReader};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::watched::watched;

/// What an export is called with.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct ExportCall {
    run: PathBuf,
    out: PathBuf,
    format: String,
    epoch: String,
    query_text: Option<String>,
    positive_text: Option<String>,
    document_text: Option<String>,
    corpus_source: Vec<String>,
    source: Vec<String>,
    negatives: Option<u32>,
    /// As `--memory` takes it.
    memory: Option<String>,
    replace: bool,
}

impl ExportCall {
    fn settings(&self) -> Result<ExportSettings, Error> {
        let wrong = |name: &str, value: &str, why: &str| {
            let error = Error::input(format!("{name} cannot be {value}"));
            error.expected("what `batchmine export --help` says").found(why).remedy("give another value")
        };
        let memory = match &self.memory {
            Some(text) => {
                let given = serde_json::json!({ "memory": text });
                let parsed =
                    serde_json::from_value::<Settings>(given).map_err(|e| wrong("memory", text, &e.to_string()))?;
                parsed.memory.map(|size| size.as_u64())
            }
            None => None,
        };
        Ok(ExportSettings {
            format: Format::named(&self.format).ok_or_else(|| {
                let error = Error::input(format!("format cannot be {}", self.format));
                error.expected(Format::names().join(", ")).found("no such format").remedy("name one of these")
            })?,
            epochs: self.epoch.parse::<Epochs>().map_err(|why| wrong("epoch", &self.epoch, &why))?,
            query_text: self.query_text.clone(),
            positive_text: self.positive_text.clone(),
            document_text: self.document_text.clone(),
            corpus_source: self.corpus_source.clone(),
            source: self.source.clone(),
            negatives: self.negatives,
            memory_bytes: memory.unwrap_or_else(half_of_memory),
            replace: self.replace,
        })
    }
}

/// Writes an export. What came of it as a dict; None where it is there already.
#[pyfunction]
pub(crate) fn export<'py>(
    py: Python<'py>,
    call: ExportCall,
    on_event: &Bound<'py, PyAny>,
    on_line: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let made = watched(py, on_event, on_line, move |control| {
        let run = RunReader::open(&call.run)?;
        exported(&run, &call.settings()?, &call.out, Arc::new(Disk), &control.stopping(&call.run))
    })?;
    let Some(made) = made else { return Ok(None) };
    let facts = PyDict::new(py);
    facts.set_item("rows", made.rows)?;
    facts.set_item("units", made.units)?;
    facts.set_item("left_out", made.left_out)?;
    facts.set_item("rows_short_of_negatives", made.rows_short)?;
    facts.set_item("rows_without_negatives", made.rows_without)?;
    facts.set_item("rows_filled", made.rows_filled)?;
    facts.set_item("files", made.files)?;
    facts.set_item("bytes", made.bytes)?;
    facts.set_item("peak_bytes", made.peak_bytes)?;
    Ok(Some(facts))
}
