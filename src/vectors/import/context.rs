//! What every pass over the input works with.

use crate::config::Config;
use crate::run::{Run, StageRun};
use crate::vectors::budget::VectorsCounts;
use crate::vectors::decode::Unit;
use crate::vectors::shards::Shards;

/// The stage at work: what it reads, and where it writes.
pub(super) struct Import<'a> {
    pub(super) input: Input<'a>,
    pub(super) run: &'a Run,
    pub(super) stage: &'a StageRun<'a>,
    pub(super) counts: &'a VectorsCounts,
}

/// What is read, under what settings.
pub(super) struct Input<'a> {
    pub(super) shards: &'a Shards,
    pub(super) config: &'a Config,
    /// The whole input, in order.
    pub(super) units: Vec<Unit<'a>>,
}

impl<'a> Input<'a> {
    pub(super) fn new(shards: &'a Shards, config: &'a Config) -> Input<'a> {
        Input { shards, config, units: Unit::all(&shards.list) }
    }

    pub(super) fn rows(&self) -> usize {
        self.shards.shape.rows as usize
    }
}
