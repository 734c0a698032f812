//! What came of an export.

/// What an export wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExportSummary {
    pub rows: u64,
    /// Batches written; clusters, where the trainer unites them into batches itself; 0 of lists.
    pub units: u64,
    /// Rows of the table that were left out, because the trainer needs batches or clusters of one size.
    pub left_out: u64,
    /// Rows with fewer hard negatives than others.
    pub rows_short: u64,
    /// Of these, rows without any.
    pub rows_without: u64,
    /// Of these, rows that got negatives of their batch, because the trainer cannot read rows without.
    pub rows_filled: u64,
    /// Chunks: for each the sources' row groups with its rows were read once, or twice with negatives.
    pub chunks: usize,
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Highest resident anonymous memory seen, in bytes.
    pub peak_bytes: u64,
}
