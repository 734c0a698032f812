//! What the manifest says beside its parts: the batch table names its fingerprints, and counts are those of the files.

use std::fs::File;
use std::path::Path;

use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;

use super::{Opened, Outcome};
use crate::clusters::NO_CLUSTER;
use crate::error::{Error, Result};
use crate::run::record::{ClustersFacts, EdgesFacts, VectorsFacts};
use crate::run::{RunReader, Stage};

/// Compares the batch table's footers with the fingerprints of the manifest, which its reader compares with the
/// settings.
///
/// # Errors
/// A stage is not finished, or a file of the batch table cannot be read.
pub(super) fn check_footers(run: &RunReader, outcome: &mut Outcome) -> Result<()> {
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
    let file = File::open(path).map_err(|e| Error::io("a file cannot be opened", path, e))?;
    let reader = SerializedFileReader::new(file).map_err(|e| {
        Error::runtime("a batch table cannot be read")
            .path(path)
            .found(e.to_string())
            .remedy("delete it and run the same `mine` command again")
    })?;
    let pairs = reader.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
    Ok(pairs.into_iter().map(|pair| (pair.key, pair.value)).collect())
}

impl Opened<'_> {
    /// The manifest's counts of rows, tasks, clusters and arcs, against the files.
    pub(super) fn check_counts(&self, outcome: &mut Outcome) -> Result<()> {
        let vectors: VectorsFacts = self.run.facts()?;
        let clusters: ClustersFacts = self.run.facts()?;
        let edges: EdgesFacts = self.run.facts()?;
        let shape = self.vectors.shape();
        let rows = u64::from(self.vectors.row_count());
        let unplaced = self.clusters.labels().iter().filter(|label| **label == NO_CLUSTER).count() as u64;
        let mut compare = |what: &str, found: u64, counted: u64| {
            if found != counted {
                outcome.fault(format!("{found} {what}, where the manifest counts {counted}"));
            }
        };
        compare("rows of vectors", rows, vectors.rows);
        compare("dimensions", shape.dim as u64, vectors.dim as u64);
        compare("tasks", self.vectors.tasks.len() as u64, vectors.tasks as u64);
        compare("clusters", u64::from(self.clusters.count()), u64::from(clusters.clusters));
        compare("rows in no cluster", unplaced, clusters.unplaced as u64);
        compare("rows of the graph", rows, u64::from(edges.rows));
        if let Some(graph) = &self.edges {
            compare("arcs", graph.edges(), edges.arcs);
        }
        Ok(())
    }
}
