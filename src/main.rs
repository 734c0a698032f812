//! Parses, calls, exits.

#[global_allocator]
static ALLOCATOR: batchmine::guard::Allocator = batchmine::guard::Allocator;

fn main() -> std::process::ExitCode {
    match batchmine::cli::arguments::parse(std::env::args_os().collect()) {
        Ok(cli) => batchmine::cli::run(cli),
        Err(error) => batchmine::cli::refuse(&error),
    }
}
