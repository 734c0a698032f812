//! The footers of the batch table name the fingerprints of the manifest.

use std::path::Path;

use super::outcome::Outcome;
use crate::batches::read::unreadable;
use crate::error::Result;
use crate::regular;
use crate::run::{RunReader, Stage};
use crate::vectors::read_metadata;

/// Compares the batch table's footers with the fingerprints of the manifest, which its reader compares with the
/// settings.
///
/// # Errors
/// A stage is not finished, or a file of the batch table cannot be read.
pub(super) fn check(run: &RunReader, outcome: &mut Outcome) -> Result<()> {
    let batches = run.stage(Stage::Batches)?;
    let wanted =
        [("batchmine.settings", &batches.fingerprint), ("batchmine.inputs", &run.stage(Stage::Vectors)?.fingerprint)];
    for name in batches.parts.keys() {
        let path = run.stage_folder(Stage::Batches).join(name);
        let found = footer(&path)?;
        for (key, fingerprint) in &wanted {
            let said = found.iter().find(|(found, _)| found == key).and_then(|(_, value)| value.as_ref());
            if said != Some(fingerprint) {
                let said = said.map_or("none", String::as_str);
                outcome.fault(format!("{}: {key} is {said}, and the manifest's is {fingerprint}", path.display()));
            }
        }
    }
    Ok(())
}

/// The key-values of a Parquet file's footer.
fn footer(path: &Path) -> Result<Vec<(String, Option<String>)>> {
    let file = regular::open(path)?;
    let metadata = read_metadata(path, &file).map_err(|found| unreadable(path, found))?;
    let pairs = metadata.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
    Ok(pairs.into_iter().map(|pair| (pair.key, pair.value)).collect())
}
