//! Parses, calls, exits.

fn main() -> std::process::ExitCode {
    match batchmine::cli::arguments::parse() {
        Ok(cli) => batchmine::cli::run(cli),
        Err(error) => batchmine::cli::refuse(&error),
    }
}
