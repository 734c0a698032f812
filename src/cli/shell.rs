//! `batchmine completions` and `batchmine man`.

use clap::{Args, Command};
use clap_complete::Shell;

use super::log;
use crate::error::{Error, Result};

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

impl CompletionsArgs {
    /// Prints the completions of a command line.
    ///
    /// # Errors
    /// None: every verb returns a result.
    pub fn run(self, mut cli: Command) -> Result<()> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut cli, "batchmine", &mut text);
        log::print(&String::from_utf8_lossy(&text));
        Ok(())
    }
}

/// Prints the manual page of a command line.
///
/// # Errors
/// The page cannot be made.
pub fn man(cli: Command) -> Result<()> {
    let mut text = Vec::new();
    clap_mangen::Man::new(cli)
        .render(&mut text)
        .map_err(|e| Error::runtime("the manual page cannot be made").found(e.to_string()))?;
    log::print(&String::from_utf8_lossy(&text));
    Ok(())
}
