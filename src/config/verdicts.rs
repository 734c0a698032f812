//! Verdicts: which pairs were judged.

use super::{Settings, Threshold};
use crate::error::{Error, Result};

/// Which pairs were judged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VerdictRules {
    /// Parquet files, as given.
    pub files: Vec<String>,
    pub threshold: Threshold,
}

impl VerdictRules {
    pub(super) fn new(settings: &Settings) -> Result<VerdictRules> {
        let rules = VerdictRules {
            files: settings.verdicts.clone(),
            threshold: settings.verdict_threshold.unwrap_or_default(),
        };
        if !rules.files.is_empty() && settings.rows_per_key.unwrap_or(1) > 1 {
            return Err(Error::input("verdicts part rows, where several rows of a key may meet")
                .expected("--verdicts, or --rows-per-key above 1")
                .found(format!("both, --rows-per-key {}", settings.rows_per_key.unwrap_or(1)))
                .remedy("mine without --rows-per-key, or without --verdicts"));
        }
        Ok(rules)
    }
}
