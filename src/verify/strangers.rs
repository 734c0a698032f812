//! Files in a run folder that are not the run's: everywhere but in the published table and in exports.

use std::path::Path;

use super::outcome::{Outcome, Remedy};
use crate::error::Result;
use crate::run::{RunReader, Stage};

/// What batchmine writes into a run folder beside the stages' folders: entries that are no faults.
const OWN: [&str; 13] = [
    "manifest.json",
    "lock",
    "owner.json",
    "_SUCCESS",
    "tmp",
    "table",
    "report.json",
    "report.html",
    "bad_rows.parquet",
    "bad_documents.parquet",
    // Of a worker that came late.
    "pieces",
    // A `report` that was killed leaves them.
    ".report.json.tmp",
    ".report.html.tmp",
];
/// One of these is in the folder of an export, the second one alone where it was killed at once.
const OF_EXPORTS: [&str; 2] = ["_export.json", "._export.json.tmp"];

/// Names each file that is not the run's: in the folders of stages, in `tmp`, and beside them.
///
/// # Errors
/// A folder cannot be listed.
pub(super) fn check(run: &RunReader, outcome: &mut Outcome) -> Result<()> {
    let mut name = |path: &Path, whose: &str| {
        outcome.fault_with(Remedy::MoveAway, format!("{}: a file that {whose}", path.display()));
    };
    for stage in Stage::ALL {
        let known = &run.stage(stage)?.parts;
        for path in run.entries(&run.stage_folder(stage))? {
            // A `clean` that was killed leaves files that the next opening sweeps.
            if !run.is_cleaned(stage) && !known.contains_key(&*file_name(&path)) {
                name(&path, "the manifest does not know");
            }
        }
    }
    for folder in run.top_folders() {
        for path in run.entries(&folder.join("tmp"))? {
            name(&path, "an interrupted job left");
        }
        let stages = Stage::ALL.map(Stage::name);
        for path in run.entries(&folder)? {
            let own = file_name(&path);
            let export = OF_EXPORTS.iter().any(|name| path.join(name).exists());
            if !OWN.contains(&&*own) && !stages.contains(&&*own) && !export {
                name(&path, "is not the run's");
            }
        }
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
