//! One error type: what went wrong, where, what was expected, what was found, and what to do.
//!
//! Messages address users, who have not read this code. [`Kind`] decides the exit code.

use std::fmt;
use std::path::{Path, PathBuf};

/// Result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it was; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Usage, configuration or bad input (exit code 2).
    Input,
    /// Failed at run time: disk full, file damaged, … (exit code 1).
    Runtime,
    /// `verify` found a fault (exit code 3).
    Fault,
    /// The memory budget cannot hold the job (exit code 4).
    OverBudget,
    /// Interrupted by the user; the run can be resumed (exit code 130).
    Interrupted,
}

/// An error with its place and its remedy. One pointer wide: results stay small.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(Box<Details>);

/// The parts of an error, for those who show it in their own way.
#[derive(Debug)]
pub struct Details {
    pub kind: Kind,
    /// What went wrong: a sentence without a full stop.
    pub what: String,
    pub path: Option<PathBuf>,
    pub column: Option<String>,
    pub task: Option<String>,
    /// From 0.
    pub row_group: Option<usize>,
    /// From 0 within the file.
    pub row: Option<u64>,
    pub expected: Option<String>,
    pub found: Option<String>,
    pub remedy: Option<String>,
}

impl Error {
    /// An error of the given kind; `what` is one sentence without a full stop.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Error(Box::new(Details {
            kind,
            what: what.into(),
            path: None,
            column: None,
            task: None,
            row_group: None,
            row: None,
            expected: None,
            found: None,
            remedy: None,
        }))
    }

    /// Usage, configuration or bad input.
    pub fn input(what: impl Into<String>) -> Self {
        Self::new(Kind::Input, what)
    }

    /// Failed at run time.
    pub fn runtime(what: impl Into<String>) -> Self {
        Self::new(Kind::Runtime, what)
    }

    /// An I/O failure on `path` while doing `what`.
    pub fn io(what: impl Into<String>, path: &Path, source: std::io::Error) -> Self {
        let remedy = match source.kind() {
            std::io::ErrorKind::StorageFull => {
                "free some disk space, or point --work at a larger disk; then run the same command again"
            }
            std::io::ErrorKind::QuotaExceeded => {
                "free some of the quota, or point --work at another disk; then run the same command again"
            }
            std::io::ErrorKind::ReadOnlyFilesystem => "make the file system writable, or choose another one",
            std::io::ErrorKind::PermissionDenied => "check the permissions of the path",
            std::io::ErrorKind::NotFound => "check the path",
            _ => "fix the cause and run the same command again: finished parts are kept",
        };
        Self::runtime(what).path(path).found(source.to_string()).remedy(remedy)
    }

    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        self.0.path = Some(path.as_ref().to_owned());
        self
    }

    pub fn column(mut self, column: impl Into<String>) -> Self {
        self.0.column = Some(column.into());
        self
    }

    pub fn task(mut self, task: impl Into<String>) -> Self {
        self.0.task = Some(task.into());
        self
    }

    /// The Parquet row group concerned (from 0).
    pub fn row_group(mut self, row_group: usize) -> Self {
        self.0.row_group = Some(row_group);
        self
    }

    /// The row concerned, counted from 0 within the file.
    pub fn row(mut self, row: u64) -> Self {
        self.0.row = Some(row);
        self
    }

    /// What should have been there.
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.0.expected = Some(expected.into());
        self
    }

    /// What was there.
    pub fn found(mut self, found: impl Into<String>) -> Self {
        self.0.found = Some(found.into());
        self
    }

    /// What the user can do about it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// Its parts.
    pub fn details(&self) -> &Details {
        &self.0
    }

    /// The sort of failure.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The process exit code for this failure.
    pub fn exit_code(&self) -> u8 {
        match self.0.kind {
            Kind::Runtime => 1,
            Kind::Input => 2,
            Kind::Fault => 3,
            Kind::OverBudget => 4,
            Kind::Interrupted => 130,
        }
    }
}

/// A path as text; where that would break a line, or has no text, with escapes.
fn shown(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => format!("{path:?}"),
    }
}

impl fmt::Display for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        let mut place = Vec::new();
        if let Some(path) = &self.path {
            place.push(shown(path));
        }
        if let Some(column) = &self.column {
            place.push(format!("column {column}"));
        }
        if let Some(task) = &self.task {
            place.push(format!("task {task}"));
        }
        if let Some(row_group) = self.row_group {
            place.push(format!("row group {row_group}"));
        }
        if let Some(row) = self.row {
            place.push(format!("row {row}"));
        }
        if !place.is_empty() {
            write!(f, "\n  where:    {}", place.join(", "))?;
        }
        for (label, text) in [("expected:", &self.expected), ("found:   ", &self.found), ("remedy:  ", &self.remedy)] {
            if let Some(text) = text {
                write!(f, "\n  {label} {text}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_names_place_expectation_and_remedy() {
        let error = Error::input("NaN in an embedding")
            .path("a.parquet")
            .column("query_embedding")
            .row_group(2)
            .row(17)
            .expected("finite numbers")
            .found("NaN at dimension 3")
            .remedy("drop the row");
        assert_eq!(
            error.to_string(),
            "NaN in an embedding\n  where:    a.parquet, column query_embedding, row group 2, row 17\n  \
             expected: finite numbers\n  found:    NaN at dimension 3\n  remedy:   drop the row"
        );
        assert_eq!(error.exit_code(), 2);
    }
}
