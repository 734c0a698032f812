//! Folders of tables, whose files are not the table: a log says which of them are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::run::storage::folder_of;

/// The formats of tables that are known by their folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TableFolder {
    Delta,
    Iceberg,
    Hudi,
    Lance,
}

/// The table that a folder is, if it is one.
///
/// # Errors
/// The folder cannot be listed.
pub(super) fn table_of(folder: &Path) -> Result<Option<TableFolder>> {
    let has = |name: &str| folder.join(name).is_dir();
    let is_lance = folder.extension().is_some_and(|ending| ending == "lance") || has("data");
    Ok(if has("_delta_log") {
        Some(TableFolder::Delta)
    } else if has(".hoodie") {
        Some(TableFolder::Hudi)
    } else if has("_versions") && is_lance {
        Some(TableFolder::Lance)
    } else if has("metadata") && has_iceberg_metadata(&folder.join("metadata"))? {
        Some(TableFolder::Iceberg)
    } else {
        None
    })
}

fn has_iceberg_metadata(folder: &Path) -> Result<bool> {
    let failed = |e| Error::io("the folder cannot be listed", folder, e);
    for entry in fs::read_dir(folder).map_err(failed)? {
        if entry.map_err(failed)?.file_name().to_string_lossy().ends_with(".metadata.json") {
            return Ok(true);
        }
    }
    Ok(false)
}

impl TableFolder {
    fn name(self) -> &'static str {
        match self {
            TableFolder::Delta => "a Delta table",
            TableFolder::Iceberg => "an Iceberg table",
            TableFolder::Hudi => "a Hudi table",
            TableFolder::Lance => "a Lance data set",
        }
    }

    /// The line that writes the table as Parquet.
    pub(super) fn conversion(self, folder: &Path) -> String {
        let folder = folder.display();
        let line = match self {
            TableFolder::Delta => format!("deltalake.DeltaTable('{folder}').to_pyarrow_table()"),
            TableFolder::Iceberg => {
                let last = format!("{folder}/metadata/LAST.metadata.json");
                format!("pyiceberg.table.StaticTable.from_metadata('{last}').scan().to_arrow()")
            }
            TableFolder::Hudi => {
                return format!(
                    "write it as Parquet: spark.read.format('hudi').load('{folder}').write.parquet('PAIRS')"
                );
            }
            TableFolder::Lance => format!("lance.dataset('{folder}').to_table()"),
        };
        format!("write it as Parquet: pq.write_table({line}, 'pairs.parquet')")
    }

    /// The error for a table that cannot be read.
    pub(super) fn refusal(self, folder: &Path) -> Error {
        Error::input(format!("the folder is {}, which this program does not read", self.name()))
            .path(folder)
            .expected("a folder of Parquet, Arrow or .npy files, or of a Delta table")
            .found(self.name())
            .remedy(self.conversion(folder))
    }
}

/// Fails where a file lies in a table's folder: the table's log may not list it any more.
///
/// # Errors
/// A file lies in a table's folder; or a folder cannot be examined.
pub(super) fn refuse_inside_tables(paths: &[PathBuf]) -> Result<()> {
    let mut folders = BTreeMap::new();
    for path in paths {
        let folder = folder_of(path);
        folders.entry(folder).or_insert(path);
    }
    folders.into_iter().try_for_each(|(folder, path)| refuse_below_table(folder, path))
}

/// Fails where a folder is a table's, or lies in one; `path`: what the user named.
///
/// # Errors
/// It is, or it cannot be examined.
pub(super) fn refuse_below_table(folder: &Path, path: &Path) -> Result<()> {
    let real = folder.canonicalize().map_err(|e| Error::io("a folder cannot be examined", folder, e))?;
    // A folder above that cannot be listed is nothing to the files.
    let table = |folder: &'_ Path| table_of(folder).ok().flatten();
    let Some((table, folder)) = real.ancestors().find_map(|folder| Some((table(folder)?, folder))) else {
        return Ok(());
    };
    let remedy = match table {
        TableFolder::Delta => format!("name the table's folder: {}", folder.display()),
        other => other.conversion(folder),
    };
    Err(Error::input(format!("files lie in the folder of {}, and only its log says which of them count", table.name()))
        .path(path)
        .expected("files outside of tables, or the folder of a Delta table")
        .found(format!("{} in {}", table.name(), folder.display()))
        .remedy(remedy))
}
