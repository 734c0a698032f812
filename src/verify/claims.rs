//! What the manifest counts beside its parts is what the files hold.

use super::{Opened, Outcome};
use crate::clusters::NO_CLUSTER;
use crate::error::Result;
use crate::run::record::{ClustersFacts, EdgesFacts, VectorsFacts};

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
