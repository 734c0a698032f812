//! What a job and its worker processes say to each other: one JSON object a line, over the worker's standard
//! input and output. Tiles and answers do not go this way: they lie in shared memory ([`super::shared`]).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A command.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    /// Name the devices.
    Devices,
    /// Begin to work on a device.
    Open {
        /// Its number.
        device: u32,
        /// The packed base.
        base: PathBuf,
        /// The shared memory, as a file.
        memory: PathBuf,
    },
    /// Search.
    Search(SearchRequest),
}

/// One tile of queries against one tile of base rows.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct SearchRequest {
    /// First base row of the tile.
    pub base_start: usize,
    /// Base rows.
    pub base_rows: usize,
    /// Where the queries lie in the shared memory; the answers lie behind.
    pub offset: usize,
    /// Queries.
    pub queries: usize,
    /// Queries of the same tag are the same.
    pub tag: u64,
    /// Answers a query.
    pub k: usize,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    /// To [`Request::Devices`].
    Devices {
        /// What searches.
        about: String,
        /// Those that answer.
        devices: Vec<Device>,
        /// What the others say.
        silent: Vec<String>,
    },
    /// Done.
    Done,
    /// It cannot be done; the worker is still there.
    Failed(Failure),
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Memory that is free, in bytes.
    pub free_bytes: u64,
    /// All its memory, in bytes.
    pub total_bytes: u64,
}

/// Why something cannot be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// The device has too little memory for it.
    pub out_of_memory: bool,
    /// In the plugin's words.
    pub text: String,
}

impl Failure {
    /// A failure that smaller tiles do not avoid.
    pub(crate) fn other(text: String) -> Failure {
        Failure { out_of_memory: false, text }
    }
}

/// Where the answers lie in shared memory, in bytes behind the queries' beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotLayout {
    /// Scores, f32.
    pub scores: usize,
    /// Places, u32.
    pub places: usize,
    /// All.
    pub end: usize,
}

impl SlotLayout {
    /// For so many queries of `row_bytes` bytes, with k answers each.
    pub(crate) fn new(queries: usize, row_bytes: usize, k: usize) -> SlotLayout {
        let scores = (queries * row_bytes).next_multiple_of(64);
        let places = scores + (queries * k * 4).next_multiple_of(64);
        SlotLayout { scores, places, end: places + queries * k * 4 }
    }
}
