//! Numbers of rows.

/// A row in task-grouped order: rows of one task are consecutive and keep the input's order.
pub(crate) type RowId = u32;
/// Most rows that a job can have.
pub(crate) const ROWS_MAX: u64 = i32::MAX as u64;
/// Key code of a row that shares its key with no other row.
pub(crate) const UNIQUE: u32 = u32::MAX;
