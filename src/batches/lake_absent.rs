//! The published table in builds without the feature `lake`: there is none. `Config` refuses whoever asks for one.

use super::budget::BatchesCounts;
use crate::config::{Config, TableRules};
use crate::error::Result;
use crate::run::Run;
use crate::vectors::Vectors;

/// No place where a table will be published.
#[derive(Debug)]
pub struct Lake;

impl Lake {
    /// Opens nothing.
    pub fn open(_: Option<&TableRules>, _: &Run) -> Result<Lake> {
        Ok(Lake)
    }

    /// Checks nothing.
    pub fn check_target(&self, _: &Run, _: &Vectors, _: &Config) -> Result<()> {
        Ok(())
    }

    /// Publishes nothing.
    pub fn publish(&self, _: &Run, _: &Vectors, _: &Config, _: &BatchesCounts, _: bool) -> Result<()> {
        Ok(())
    }
}
