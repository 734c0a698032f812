//! Everything that is tested through the executable or through a whole run, in one binary.
//!
//! `dataset`, `command`, `table`, `exported` and `undisturbed` write inputs, call batchmine and read what it wrote;
//! `damage` changes that; `oracle`, `promises` and `worth` say what it should have written; `pages` reads the
//! documentation; the rest are the tests.

#![allow(unreachable_pub, reason = "one binary: nothing is reached from outside")]

mod command;
mod corpus;
mod damage;
mod dataset;
#[cfg(feature = "export")]
mod exported;
mod failing;
mod oracle;
mod pages;
mod pairs;
mod promises;
mod table;
mod undisturbed;

mod arrays;
mod bad_rows;
mod bench;
mod budgets;
mod clean;
mod corrupt;
mod corruption;
mod docs;
mod embedding_columns;
mod epochs;
#[cfg(feature = "export")]
mod export;
#[cfg(feature = "export")]
mod export_neighbors;
#[cfg(feature = "export")]
mod export_rows;
mod fake_cuda;
mod fake_gpu;
mod fault_disk;
#[cfg(feature = "lake")]
mod file_server;
mod files;
mod first_hour;
mod formats;
mod fuzz;
mod garbage;
mod gpu;
mod hostile;
mod ids;
mod imports;
mod inputs;
mod inspect;
mod instructions;
mod kills;
mod label_faults;
mod labels;
#[cfg(feature = "lake")]
mod lake;
#[cfg(feature = "lake")]
mod lake_server;
mod limits;
mod long_values;
mod mask;
mod mine;
mod mix;
mod model;
mod names;
mod negatives;
mod negatives_of;
mod npy_pairs;
mod own_ranks;
mod ownership;
mod packing;
mod pieces;
mod power;
mod power_disk;
mod printed;
mod properties;
mod rank_by;
mod ranks;
mod readers;
mod real;
mod replace;
mod report;
mod resume;
mod same_query;
mod side_limits;
mod signals;
#[cfg(feature = "lake")]
mod store_input;
mod tasks;
mod tidy;
mod truncated;
mod verdicts;
mod verify;
mod worth;
