//! Arrow IPC: files with a footer (Feather, `.arrow`) and streams, as `datasets` writes them.
//!
//! `messages` finds the messages of a mapped file, `layout` says which parts of a record batch a column takes, `check`
//! refuses numbers that do not fit the file, and `file` decodes columns of a record batch. Uncompressed columns are
//! views into the map.
//!
//! Memory: for each record batch its numbers of rows and bytes; of a compressed record batch the columns asked for; and
//! the dictionaries of the file where a column with one is read.

mod check;
mod file;
mod layout;
mod messages;

pub(crate) use file::ArrowFile;
