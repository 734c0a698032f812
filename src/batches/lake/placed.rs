//! What was uploaded, as each form of table commits it.

/// A file of the table, uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlacedFile {
    /// Path in the table.
    pub path: String,
    pub bytes: u64,
    /// The task of its rows, where files are divided by task.
    pub task: Option<String>,
    /// Statistics in Delta's JSON: number of rows; smallest and largest values and nulls of each column.
    pub stats: String,
}
