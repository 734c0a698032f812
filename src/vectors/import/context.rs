//! What every pass over the input works with.

use crate::config::Config;
use crate::run::{Run, StageRun};
use crate::vectors::budget::VectorsCounts;
use crate::vectors::decode::Unit;
use crate::vectors::shards::Shards;

/// The stage at work: where it reads, where it writes, under what settings.
pub(super) struct Import<'a> {
    pub(super) run: &'a Run,
    pub(super) stage: &'a StageRun<'a>,
    pub(super) shards: &'a Shards,
    pub(super) config: &'a Config,
    pub(super) counts: &'a VectorsCounts,
    /// The whole input, in order.
    pub(super) units: Vec<Unit<'a>>,
}

impl Import<'_> {
    pub(super) fn rows(&self) -> usize {
        self.shards.shape.rows as usize
    }
}
