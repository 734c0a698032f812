//! Stands in for `lake` in builds without that feature: nothing is published. `Config` refuses settings that want it.

use super::budget::BatchesCounts;
use crate::config::{Config, TableRules};
use crate::error::Result;
use crate::run::Run;

/// As in builds with the feature; every call does nothing.
#[derive(Debug)]
pub(crate) struct Lake;

impl Lake {
    pub(crate) fn open(_: Option<&TableRules>, _: &Run) -> Result<Lake> {
        Ok(Lake)
    }

    pub(crate) fn check_target(&self, _: &Run, _: &Config) -> Result<()> {
        Ok(())
    }

    pub(crate) fn publish(&self, _: &Run, _: &Config, _: &BatchesCounts, _: bool) -> Result<()> {
        Ok(())
    }
}
