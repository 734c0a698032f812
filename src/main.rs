//! Parses, calls, exits.

use std::process::ExitCode;

use batchmine::cli;

#[global_allocator]
static ALLOCATOR: batchmine::guard::Allocator = batchmine::guard::Allocator;

fn main() -> ExitCode {
    ExitCode::from(match cli::arguments::parse(std::env::args_os().collect()) {
        Ok(parsed) => cli::run(parsed),
        Err(error) => cli::refuse(&error),
    })
}
