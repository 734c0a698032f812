//! Where the batch table goes besides the run folder, and as what.

use super::{PartitionBy, Settings, TableFormat};
use crate::error::{Error, Result};

/// A batch table to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRules {
    pub format: TableFormat,
    /// Folder or URL; `None`: `table/` in the run folder.
    pub out: Option<String>,
    /// Whether each task's rows lie in a folder of their own.
    pub by_task: bool,
}

impl TableRules {
    /// Validates settings; `None`: no table is asked for beside the run folder's own.
    ///
    /// # Errors
    /// This build cannot publish tables, or there are no tasks to divide it by.
    pub(super) fn new(settings: &Settings) -> Result<Option<TableRules>> {
        let asked = settings.table.is_some() || settings.table_out.is_some() || settings.partition_by.is_some();
        if !asked {
            return Ok(None);
        }
        if !cfg!(feature = "lake") {
            return Err(Error::input("this build publishes no tables")
                .expected("neither --table nor --table-out nor --partition-by")
                .found("one of them")
                .remedy("build it with them: `cargo build --release --features lake`"));
        }
        let by_task = settings.partition_by == Some(PartitionBy::Task);
        if by_task && settings.task_column.is_none() {
            return Err(Error::input("there are no tasks to partition the table by")
                .expected("--task-column with --partition-by task")
                .found("no task column")
                .remedy("name the column of tasks, or leave --partition-by out"));
        }
        let format = settings.table.unwrap_or(TableFormat::Parquet);
        Ok(Some(TableRules { format, out: settings.table_out.clone(), by_task }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_published_unasked() {
        assert_eq!(TableRules::new(&Settings::default()).unwrap(), None);
    }

    #[cfg(feature = "lake")]
    #[test]
    fn a_place_alone_asks_for_parquet() {
        let settings = Settings { table_out: Some("s3://lake/batches".into()), ..Settings::default() };
        let rules = TableRules::new(&settings).unwrap().unwrap();
        assert_eq!((rules.format, rules.by_task), (TableFormat::Parquet, false));
        let settings = Settings { partition_by: Some(PartitionBy::Task), ..settings };
        assert!(TableRules::new(&settings).unwrap_err().to_string().contains("--task-column"));
    }

    #[cfg(not(feature = "lake"))]
    #[test]
    fn a_build_without_lakes_says_so() {
        let settings = Settings { table: Some(TableFormat::Delta), ..Settings::default() };
        assert!(TableRules::new(&settings).unwrap_err().to_string().contains("--features lake"));
    }
}
