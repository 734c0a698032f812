//! Labels on disk and in memory.
//!
//! `labels.lbl`: u32 by row, not by place: the cluster's number, `0xFFFFFFFF` where a row is in none. Header fields:
//! rows, clusters, K (the largest, where tasks differ). Clusters are numbered in task order.

use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};
use crate::run::sealed::{FileFormat, PartWriter, Sealed};
use crate::vectors::RowId;

/// Format of the labels.
pub(crate) const LABELS: FileFormat = FileFormat { magic: *b"BMLABELS", version: 2, name: "label" };
/// Label of a row that is in no cluster.
pub(crate) const NO_CLUSTER: u32 = u32::MAX;

/// Writes labels by row; `size` is the largest K.
///
/// # Errors
/// The write fails.
pub(crate) fn write_labels(out: &mut PartWriter, labels: &[u32], clusters: u32, size: u32) -> std::io::Result<()> {
    out.write_all(&LABELS.header([labels.len() as u64, u64::from(clusters), u64::from(size), 0, 0, 0]))?;
    out.write_all(bytemuck::cast_slice(labels))?;
    out.seal()
}

#[derive(Debug, Clone)]
pub(crate) struct Clusters {
    sealed: Sealed,
    clusters: u32,
}

impl Clusters {
    /// Maps the labels of `rows` rows.
    ///
    /// # Errors
    /// The file is damaged or has other rows.
    pub(crate) fn open(path: &Path, rows: RowId) -> Result<Clusters> {
        let sealed = Sealed::open(path, &LABELS)?;
        sealed.check()?;
        let [count, clusters, size, ..] = sealed.fields;
        let sound = count == u64::from(rows) && clusters <= count && size <= u64::from(crate::config::BATCH_SIZE_MAX);
        sealed.expect_payload(sound.then_some(4 * u64::from(rows)))?;
        let labels = Clusters { sealed, clusters: clusters as u32 };
        if labels.labels().iter().any(|label| *label != NO_CLUSTER && u64::from(*label) >= clusters) {
            return Err(Error::runtime("a label names a cluster that does not exist")
                .path(path)
                .expected(format!("labels below {clusters}"))
                .found("a larger one")
                .remedy("the file is damaged: delete it and run `mine` again"));
        }
        Ok(labels)
    }

    /// Labels by row.
    pub(crate) fn labels(&self) -> &[u32] {
        bytemuck::cast_slice(self.sealed.payload())
    }

    pub(crate) fn count(&self) -> u32 {
        self.clusters
    }

    pub(crate) fn sealed(&self) -> &Sealed {
        &self.sealed
    }
}

/// Rows by cluster: (where each cluster's rows start, rows in order). 4 bytes a row and a cluster.
/// Rows without a cluster come last. O(rows). Given labels by place, these are the numbers of places.
pub(crate) fn members(labels: &[u32], clusters: u32) -> (Vec<u32>, Vec<RowId>) {
    let entry = |label: u32| label.min(clusters) as usize;
    let mut starts = vec![0u32; clusters as usize + 2];
    for label in labels {
        starts[entry(*label) + 1] += 1;
    }
    for index in 1..starts.len() {
        starts[index] += starts[index - 1];
    }
    let mut rows = vec![0; labels.len()];
    for (row, label) in labels.iter().enumerate() {
        let next = &mut starts[entry(*label)];
        rows[*next as usize] = row as RowId;
        *next += 1;
    }
    // Each start has moved to its end, which is the next one's start.
    starts.rotate_right(1);
    starts[0] = 0;
    (starts, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::testing::{refused, write_sealed};

    #[test]
    fn damaged_headers_and_labels_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.lbl");
        let open = |fields, labels: [u32; 3]| {
            write_sealed(&path, &LABELS, fields, bytemuck::cast_slice(&labels));
            Clusters::open(&path, 3)
        };
        assert_eq!(open([3, 2, 2, 0, 0, 0], [1, NO_CLUSTER, 0]).unwrap().count(), 2);
        for fields in [[u64::MAX, 2, 2], [2, 2, 2], [3, 4, 2], [3, u64::MAX, 2], [3, 2, u64::MAX]] {
            refused(&path, open([fields[0], fields[1], fields[2], 0, 0, 0], [1, NO_CLUSTER, 0]));
        }
        refused(&path, open([3, 2, 2, 0, 0, 0], [1, 2, 0]));
    }

    #[test]
    fn members_are_listed_by_cluster() {
        let (starts, rows) = members(&[1, 0, NO_CLUSTER, 1, 0, 0], 2);
        assert_eq!(starts, [0, 3, 5, 6]);
        assert_eq!(rows, [1, 4, 5, 0, 3, 2]);
    }
}
