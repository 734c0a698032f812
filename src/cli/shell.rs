//! `batchmine completions` and `batchmine man`.

use std::path::PathBuf;

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
    /// Stdout cannot be written.
    pub fn run(self, mut cli: Command) -> Result<()> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut cli, "batchmine", &mut text);
        log::print(&String::from_utf8_lossy(&text))?;
        Ok(())
    }
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The verb [default: batchmine as a whole]
    #[arg(conflicts_with = "out")]
    verb: Option<String>,
    /// Write all pages into this folder: batchmine.1, batchmine-mine.1, ...
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl ManArgs {
    /// Prints a page, or writes all.
    ///
    /// # Errors
    /// There is no such verb, or a file or stdout cannot be written.
    pub fn run(self, mut cli: Command) -> Result<()> {
        // Gives verbs the flags of all verbs, and their full names.
        cli.build();
        let verbs: Vec<&Command> = cli.get_subcommands().filter(|verb| is_shown(verb)).collect();
        if let Some(name) = &self.verb {
            let verb = verbs.iter().find(|verb| verb.get_name() == name).ok_or_else(|| {
                let names: Vec<&str> = verbs.iter().map(|verb| verb.get_name()).collect();
                Error::input("no such verb")
                    .expected(format!("one of: {}", names.join(", ")))
                    .found(name.clone())
                    .remedy("`batchmine man` prints the page of batchmine as a whole")
            })?;
            log::print(&page(verb)?)?;
            return Ok(());
        }
        let Some(folder) = self.out else {
            log::print(&page(&cli)?)?;
            return Ok(());
        };
        std::fs::create_dir_all(&folder).map_err(|e| Error::io("the folder cannot be made", &folder, e))?;
        for command in std::iter::once(&cli).chain(verbs) {
            let path = folder.join(format!("{}.1", page_name(command)));
            std::fs::write(&path, page(command)?).map_err(|e| Error::io("a page cannot be written", &path, e))?;
        }
        Ok(())
    }
}

fn is_shown(verb: &Command) -> bool {
    !verb.is_hide_set() && verb.get_name() != "help"
}

/// Name of a page: `batchmine`, or `batchmine-mine`.
fn page_name(command: &Command) -> String {
    match command.get_name() {
        "batchmine" => "batchmine".into(),
        verb => format!("batchmine-{verb}"),
    }
}

/// The manual page of a command.
fn page(command: &Command) -> Result<String> {
    let mut text = Vec::new();
    let title = page_name(command);
    clap_mangen::Man::new(command.clone())
        .title(title)
        .render(&mut text)
        .map_err(|e| Error::runtime("the manual page cannot be made").found(e.to_string()))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
