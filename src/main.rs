//! Parses, calls, exits.

use clap::Parser;

fn main() -> std::process::ExitCode {
    batchmine::cli::run(batchmine::cli::Cli::parse())
}
