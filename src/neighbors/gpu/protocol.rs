//! The messages between a job and its worker processes: one JSON object a line, over the worker's standard input and
//! output. Queries and answers themselves lie in shared memory ([`super::shared`]).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the job asks of a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    /// List the devices.
    Devices,
    /// Begin to work on a device.
    Open {
        device: u32,
        /// The file of the base.
        base: PathBuf,
        /// The shared memory, as a file.
        memory: PathBuf,
    },
    Search(SearchRequest),
}

/// One tile of queries against one tile of base rows.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct SearchRequest {
    /// First base row of the tile.
    pub base_start: usize,
    /// Number of base rows.
    pub base_rows: usize,
    /// Where the queries begin in the shared memory, in bytes; the answers follow them as [`SlotLayout`] says.
    pub offset: usize,
    pub queries: usize,
    /// Names the queries: the same tag means the same values.
    pub tag: u64,
    /// Number of answers for each query.
    pub k: usize,
}

/// What a worker answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    /// To [`Request::Devices`].
    Devices {
        /// Name and version of the library that searches.
        about: String,
        /// The devices that answer.
        devices: Vec<Device>,
        /// Why each other device does not answer.
        silent: Vec<String>,
    },
    /// The request is done.
    Done,
    /// The request failed; the worker still runs.
    Failed(Failure),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    pub number: u32,
    pub name: String,
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// Why a request failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// The device has too little memory for the tile: a smaller tile may succeed.
    pub out_of_memory: bool,
    pub text: String,
}

impl Failure {
    /// A failure that smaller tiles do not avoid.
    pub(crate) fn other(text: String) -> Failure {
        Failure { out_of_memory: false, text }
    }
}

/// Where the answers lie in shared memory, in bytes from the beginning of the queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotLayout {
    /// Where the scores begin, f32.
    pub scores: usize,
    /// Where the places begin, u32.
    pub places: usize,
    /// Where the answers end.
    pub end: usize,
}

impl SlotLayout {
    /// Queries of `row_bytes` bytes each, with k answers each. `None`: the sizes overflow.
    pub(crate) fn new(queries: usize, row_bytes: usize, k: usize) -> Option<SlotLayout> {
        let list_bytes = queries.checked_mul(k)?.checked_mul(4)?;
        let scores = queries.checked_mul(row_bytes)?.checked_next_multiple_of(64)?;
        let places = scores.checked_add(list_bytes.checked_next_multiple_of(64)?)?;
        Some(SlotLayout { scores, places, end: places.checked_add(list_bytes)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_overflow_have_no_layout() {
        assert_eq!(SlotLayout::new(3, 10, 2), Some(SlotLayout { scores: 64, places: 128, end: 152 }));
        for (queries, row_bytes, k) in
            [(usize::MAX, 2, 1), (2, usize::MAX, 1), (1 << 40, 4, 1 << 40), (1, usize::MAX, 1)]
        {
            assert_eq!(SlotLayout::new(queries, row_bytes, k), None);
        }
    }
}
