//! What `report` wrote into the run folder: `report.json` and `report.html` are as they were written, and of this run.

use std::fs;
use std::io;
use std::path::Path;

use super::outcome::{Outcome, Remedy};
use crate::error::{Error, Result};
use crate::run::json::{CheckedRecord, hash};
use crate::run::{RunReader, Stage};

/// Checks those of the two files that are there. Both are read whole: `report.json` has some KiB for each task, the
/// page some KiB.
///
/// # Errors
/// A file cannot be read.
pub(super) fn check(run: &RunReader, outcome: &mut Outcome) -> Result<()> {
    let [figures, page] = ["report.json", "report.html"].map(|name| run.folder().join(name));
    let (text, html) = (read(&figures)?, read(&page)?);
    let mut fault = |path: &Path, what: String| {
        outcome.fault_with(Remedy::Report, format!("{}: {what}", path.display()));
    };
    let record = match text.as_deref().map(CheckedRecord::read) {
        Some(Ok(record)) => record,
        Some(Err(found)) => {
            fault(&figures, format!("the file is not as `batchmine report` wrote it: {found}"));
            return Ok(());
        }
        None if html.is_some() => {
            outcome.unchecked.push("report.html: its checksum is in report.json, which is not there".into());
            return Ok(());
        }
        None => return Ok(()),
    };
    let (found, wanted) = (record.text("settings_fingerprint"), &run.stage(Stage::Batches)?.fingerprint);
    if found != Some(wanted) {
        let found = found.unwrap_or("none");
        fault(&figures, format!("it reports batches of fingerprint {found}, and the run's have {wanted}"));
    }
    if let Some(found) = html.map(|html| hash(&html))
        && record.text("page") != Some(&found)
    {
        fault(&page, format!("xxh3 {found}, report.json says {}", record.text("page").unwrap_or("none")));
    }
    Ok(())
}

/// A file's content; `None` where there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("a file cannot be read", path, e)),
    }
}
