//! Jobs, and what is said of finished ones.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::ffi_stream::RecordBatchStreamReader;
use batchmine::cli::arguments::refuse_environment;
use batchmine::cli::plan::measured;
use batchmine::config::{Config, Settings, TaskSettings};
use batchmine::error::{Error, Result};
use batchmine::report::{Options, measure, page};
use batchmine::run::{Disk, Run, RunReader};
use batchmine::verify::{CheckShare, verify as verified};
use batchmine::{Job, MemoryRows, PairsAsked, Watch, on_threads, stopped_by, write_pairs};
use pyo3::prelude::*;
use serde_json::{Map, Value};

use crate::errors::raised;
use crate::foreign::stream_of;
use crate::rows::Rows;
use crate::watched::watched;

/// A pool of a thread for each core, which ends with the work: none is left for a process that is forked.
pub(crate) const ALL: usize = 0;

/// What `mine` is called with, apart from settings.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Call {
    pairs: Vec<String>,
    out: PathBuf,
    work: Option<PathBuf>,
    replace: bool,
    config: Option<PathBuf>,
    /// The settings as JSON, by the names of their flags.
    settings: String,
}

/// What is mined, apart from files, which the call names.
enum Pairs {
    Files,
    Memory(MemoryRows),
    Stream(RecordBatchStreamReader),
}

impl Pairs {
    /// `Rows`, an object with `__arrow_c_stream__`, or None.
    fn of(rows: &Bound<'_, PyAny>) -> PyResult<Pairs> {
        if rows.is_none() {
            return Ok(Pairs::Files);
        }
        match rows.cast::<Rows>() {
            Ok(rows) => Ok(Pairs::Memory(MemoryRows::new(rows.borrow_mut().take()?))),
            Err(_) => Ok(Pairs::Stream(stream_of(rows)?)),
        }
    }

    /// The job of files, or of rows in memory; else the stream, which a run folder must keep first.
    fn job(self, files: Vec<String>, given: Settings) -> Result<std::result::Result<Job, Streamed>> {
        Ok(match self {
            Pairs::Files => Ok(Job::open(Config::new(files, given)?)?),
            Pairs::Memory(rows) => Ok(Job::in_memory(Config::without_files(given)?, rows)?),
            Pairs::Stream(stream) => Err((Config::without_files(given)?, stream)),
        })
    }
}

/// A stream, and what a job of it is to do.
type Streamed = (Config, RecordBatchStreamReader);

/// Mines the files that the call names, or `rows`.
#[pyfunction]
pub(crate) fn mine(
    py: Python<'_>,
    call: Call,
    rows: &Bound<'_, PyAny>,
    on_event: &Bound<'_, PyAny>,
    on_line: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let given = settings(&call).map_err(|error| raised(py, &error))?;
    let pairs = Pairs::of(rows)?;
    watched(py, on_event, on_line, move |control| {
        let (progress, interrupted) = (control.progress, control.interrupted);
        let flag = interrupted.clone();
        let open = || Run::open(&call.out, call.work.as_deref(), Arc::new(Disk), progress, interrupted);
        match stopped_by(&flag, || pairs.job(call.pairs, given))? {
            Ok(job) => job.run(&open()?, call.replace).map(drop),
            Err((config, stream)) => Job::run_stream(config, stream, &open()?, call.replace).map(drop),
        }
    })
}

/// Keywords, then the environment, then the file.
fn settings(call: &Call) -> Result<Settings> {
    refuse_environment()?;
    let given: Map<String, Value> = serde_json::from_str(&call.settings).map_err(|e| Error::input(e.to_string()))?;
    // Each by itself first: a message names the one that cannot be.
    for (name, value) in &given {
        one(name, value)?;
    }
    let keywords: Settings = serde_json::from_value(Value::Object(given)).map_err(|e| Error::input(e.to_string()))?;
    let file = call.config.as_deref().map(Settings::from_file).transpose()?.unwrap_or_default();
    Ok(keywords.or(Settings::from_environment()?).or(file))
}

/// Fails where a setting, or one of a task, cannot have its value.
fn one(name: &str, value: &Value) -> Result<()> {
    let refused = |task: Option<&str>, name: &str, value: &Value, why: &serde_json::Error| {
        let keyword = name.replace('-', "_");
        let error = Error::input(format!("{keyword} cannot be {value}"))
            .expected("a value that docs/reference.md names for its flag")
            .found(why.to_string())
            .remedy("help(batchmine.mine) and `batchmine mine --help` say what settings may be");
        match task {
            Some(task) => error.task(task),
            None => error,
        }
    };
    let alone = |name: &str, value: &Value| Value::Object(Map::from_iter([(name.to_owned(), value.clone())]));
    let (Value::Object(tasks), "task") = (value, name) else {
        let parsed = serde_json::from_value::<Settings>(alone(name, value));
        return parsed.map(drop).map_err(|why| refused(None, name, value, &why));
    };
    for (task, own) in tasks {
        for (name, value) in own.as_object().into_iter().flatten() {
            let parsed = serde_json::from_value::<TaskSettings>(alone(name, value));
            parsed.map_err(|why| refused(Some(task), name, value, &why))?;
        }
    }
    Ok(())
}

/// What mining the files that the call names, or `rows`, will cost: as JSON.
#[pyfunction]
pub(crate) fn plan(
    py: Python<'_>,
    call: Call,
    rows: &Bound<'_, PyAny>,
    on_event: &Bound<'_, PyAny>,
    on_line: &Bound<'_, PyAny>,
) -> PyResult<String> {
    let given = settings(&call).map_err(|error| raised(py, &error))?;
    let pairs = Pairs::of(rows)?;
    watched(py, on_event, on_line, move |_| {
        let job = pairs.job(call.pairs, given)?.map_err(|_| {
            Error::input("a stream cannot be planned: what it has is known when it was read")
                .expected("files, or arrays")
                .found("an Arrow stream")
                .remedy("write a part of it to a Parquet file, and plan with that")
        })?;
        measured(&job)
    })
}

/// The manifest of a run, as JSON.
#[pyfunction]
pub(crate) fn manifest(py: Python<'_>, folder: PathBuf) -> PyResult<String> {
    let run = RunReader::open(&folder).map_err(|error| raised(py, &error))?;
    serde_json::to_string(run.manifest()).map_err(|e| pyo3::exceptions::PyValueError::new_err(e.to_string()))
}

/// Faults of a run, and what was not checked.
#[pyfunction]
pub(crate) fn verify(
    py: Python<'_>,
    folder: PathBuf,
    sample: usize,
    on_event: &Bound<'_, PyAny>,
    on_line: &Bound<'_, PyAny>,
) -> PyResult<(Vec<String>, Vec<String>)> {
    watched(py, on_event, on_line, move |control| {
        let run = RunReader::open(&folder)?;
        let meter = control.stopping(&folder).meter("verify", 0, "checks");
        let listen = |checks| meter.add(checks);
        let outcome = on_threads(ALL, || verified(&run, sample, CheckShare::WHOLE, Watch::new(&listen)))??;
        Ok((outcome.faults, outcome.unchecked))
    })
}

/// What a report is called with.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct ReportCall {
    run: PathBuf,
    epoch: u32,
    sample: u64,
    /// Another list of batches.
    against: Option<PathBuf>,
    query_text: Option<String>,
    positive_text: Option<String>,
    document_text: Option<String>,
    source: Vec<String>,
    corpus_source: Vec<String>,
}

/// The report of an epoch, as JSON and as a page.
#[pyfunction]
pub(crate) fn report(
    py: Python<'_>,
    call: ReportCall,
    on_event: &Bound<'_, PyAny>,
    on_line: &Bound<'_, PyAny>,
) -> PyResult<(String, String)> {
    watched(py, on_event, on_line, move |control| {
        let ReportCall { run, epoch, sample, against, .. } = call;
        let progress = control.stopping(&run);
        let mut options = Options { epoch, sample, against, ..Options::default() };
        let texts = &mut options.texts;
        (texts.query, texts.positive, texts.document) = (call.query_text, call.positive_text, call.document_text);
        (texts.source, texts.corpus) = (call.source, call.corpus_source);
        let run = RunReader::open(&run)?;
        let report = on_threads(ALL, || measure(&run, &options, &progress))??;
        let text = serde_json::to_string(&report).map_err(|e| Error::runtime(e.to_string()))?;
        Ok((text, page(&report)))
    })
}

/// What `candidates` is called with.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct PairsCall {
    run: PathBuf,
    out: PathBuf,
    budget: u64,
    sample: f64,
    seed: u64,
    replace: bool,
    query_text: Option<String>,
    positive_text: Option<String>,
    document_text: Option<String>,
    source: Vec<String>,
    corpus_source: Vec<String>,
}

/// Writes the pairs whose judgement matters most; how many.
#[pyfunction]
pub(crate) fn candidates(
    py: Python<'_>,
    call: PairsCall,
    on_event: &Bound<'_, PyAny>,
    on_line: &Bound<'_, PyAny>,
) -> PyResult<u64> {
    watched(py, on_event, on_line, move |_| {
        let PairsCall { budget, sample, seed, replace, .. } = call;
        let mut asked = PairsAsked { budget, sample, seed, replace, ..PairsAsked::default() };
        let texts = &mut asked.texts;
        (texts.query, texts.positive, texts.document) = (call.query_text, call.positive_text, call.document_text);
        (texts.source, texts.corpus) = (call.source, call.corpus_source);
        let run = RunReader::open(&call.run)?;
        Ok(on_threads(ALL, || write_pairs(&run, &asked, &call.out))??.pairs)
    })
}
