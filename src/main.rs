//! Parses, calls, exits.

fn main() -> std::process::ExitCode {
    match batchmine::cli::arguments::parse() {
        Ok(cli) => batchmine::cli::run(cli),
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::from(error.exit_code())
        }
    }
}
