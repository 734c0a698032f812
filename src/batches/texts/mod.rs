//! The texts of mined rows: which files hold them, in which columns, and those of a few rows.
//!
//! `files` finds the mined files or those given in their place (only footers are read), `columns` the columns of texts
//! (pure), and `rows` reads some rows. `export` reads all rows with an engine of its own, by the same rules.
//!
//! Memory: footers; of `rows` the texts that are asked for, each cut to a length, and one page of each text column.

pub(crate) mod columns;
pub(crate) mod files;
pub(crate) mod rows;
mod source;

pub(crate) use rows::{RowText, RowTexts};
pub use source::TextSource;
