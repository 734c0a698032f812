//! Everything that is tested through the executable or through a whole run, in one binary.
//!
//! `dataset`, `command`, `table` and `exported` write inputs, call batchmine and read what it wrote; `oracle`,
//! `promises` and `worth` say what it should have written; `pages` reads the documentation; the rest are the tests.

#![allow(unreachable_pub, reason = "one binary: nothing is reached from outside")]

mod command;
mod dataset;
#[cfg(feature = "export")]
mod exported;
mod failing;
mod oracle;
mod pages;
mod promises;
mod table;

mod bad_rows;
mod clean;
mod corrupt;
mod docs;
mod embedding_columns;
mod epochs;
#[cfg(feature = "export")]
mod export;
#[cfg(feature = "export")]
mod export_rows;
mod fake_cuda;
mod fake_gpu;
mod files;
mod first_hour;
mod formats;
mod fuzz;
mod garbage;
mod gpu;
mod ids;
mod imports;
mod inputs;
mod inspect;
mod label_faults;
mod labels;
#[cfg(feature = "lake")]
mod lake;
#[cfg(feature = "lake")]
mod lake_server;
mod limits;
mod mine;
mod names;
mod negatives;
mod npy_pairs;
mod packing;
mod properties;
mod ranks;
mod readers;
mod real;
mod replace;
mod report;
mod resume;
mod same_query;
mod tasks;
mod tidy;
mod verify;
mod worth;
