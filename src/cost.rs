//! What a job costs, apart from memory: operations, and bytes on disk. Estimates from above. Pure.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::run::Stage;
use crate::vectors::Shape;
use crate::vectors::budget::InputMeasures;
use crate::{batches, clusters, edges, neighbors, vectors};

/// What a job costs, apart from memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// Multiplications and additions of an exact search.
    pub operations: u128,
    /// Bytes left in the run folder by each stage.
    pub disk_bytes: [(Stage, u64); 5],
    /// Most bytes of temporary files at one time: the packed base, then spilled runs, at last divided tables.
    pub spill_bytes: u64,
}

impl Cost {
    /// From the shape, what else the input has, the bytes of a stored row (both sides), and each task's name and rows.
    pub fn new(
        config: &Config,
        shape: Shape,
        input: InputMeasures,
        row_bytes: u64,
        tasks: &BTreeMap<String, u64>,
    ) -> Cost {
        let windows = config.windows();
        let documents = input.documents;
        // Each task's share of the documents is taken for its share of the rows.
        let candidates = |rows: u64| rows + documents * rows / shape.rows.max(1);
        let pairs: u128 = tasks.values().map(|rows| u128::from(*rows) * u128::from(candidates(*rows))).sum();
        let ranks =
            |name: &str, rows: u64| u64::from(windows.of(name).ranks()).min((rows + documents).saturating_sub(1));
        let entries: u64 = tasks.iter().map(|(name, rows)| rows * ranks(name, *rows)).sum();
        let rows = shape.rows;
        let epoch_rows = rows.max(input.epoch_rows);
        let temporary = [
            neighbors::budget::temporary_bytes(config, shape, documents),
            edges::budget::temporary_bytes(entries),
            batches::budget::temporary_bytes(config, epoch_rows),
        ];
        Cost {
            operations: pairs * shape.dim as u128 * 2,
            disk_bytes: [
                (Stage::Vectors, vectors::budget::disk_bytes(config, rows + documents, input.lists, row_bytes)),
                (Stage::Neighbors, neighbors::budget::disk_bytes(config, shape, documents)),
                (Stage::Edges, edges::budget::disk_bytes(entries)),
                (Stage::Clusters, clusters::budget::disk_bytes(rows)),
                (Stage::Batches, batches::budget::disk_bytes(config, epoch_rows)),
            ],
            spill_bytes: temporary.into_iter().max().unwrap_or(0),
        }
    }
}
