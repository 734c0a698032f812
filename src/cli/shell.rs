//! `batchmine completions` and `batchmine man`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use crate::error::{Error, Result};

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

impl CompletionsArgs {
    /// Prints the completions.
    ///
    /// # Errors
    /// None.
    pub fn run(self) -> Result<()> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "batchmine", &mut text);
        super::log::print(&String::from_utf8_lossy(&text));
        Ok(())
    }
}

/// Prints the manual page.
///
/// # Errors
/// The page cannot be made.
pub fn man() -> Result<()> {
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut text)
        .map_err(|e| Error::runtime("the manual page cannot be made").found(e.to_string()))?;
    super::log::print(&String::from_utf8_lossy(&text));
    Ok(())
}
