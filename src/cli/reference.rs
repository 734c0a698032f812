//! `batchmine reference`: every verb, flag, value, default, environment variable and exit code, as docs/reference.md.
//!
//! Everything but the exit codes and the variables of other programs comes from the clap definition. A test holds
//! docs/reference.md to what this module writes.

use std::fmt::Write;

use clap::{Arg, ArgAction, Command};

use super::log;
use crate::error::{Error, Kind, Result};

/// What each exit code says. 0 belongs to no error.
const EXIT_CODES: [(Option<Kind>, &str, &str); 6] = [
    (None, "done", ""),
    (Some(Kind::Runtime), "failed at run time", "the disk is full, a file is damaged, the run folder is in use"),
    (Some(Kind::Input), "bad usage or input", "a flag, the configuration file or a row of the input"),
    (Some(Kind::Fault), "verify found a fault", "the faults are listed on stdout"),
    (Some(Kind::OverBudget), "over the memory budget", "the message names the least budget that would do"),
    (Some(Kind::Interrupted), "interrupted and resumable", "the same command goes on"),
];

/// Variables that are no flag's.
const OTHER_VARIABLES: [(&str, &str); 4] = [
    ("NO_COLOR", "if set and not empty: no colours with `--color auto`"),
    ("CUDA_VISIBLE_DEVICES", "the devices that `--backend faiss-gpu` and `auto` may use"),
    ("POLARS_MAX_THREADS", "threads that read the batch table in `batchmine export`"),
    ("AWS_*, GOOGLE_*, AZURE_*", "how object stores are reached; see [publishing.md](publishing.md)"),
];

const HEAD: &str = "# Reference

Every verb, flag, value, default, environment variable and exit code. This page is generated from the program's own
definition by `batchmine reference`, in a build with `--features export`. Do not edit it by hand:
[testing.md](testing.md#the-reference) says how to make it anew.

A flag is stronger than its environment variable, which is stronger than the file of `--config`, which is stronger than
the default. Only a task's table in that file is stronger than a flag: [settings.md](settings.md) explains the settings.
";

/// Prints the reference.
///
/// # Errors
/// Stdout cannot be written.
pub fn print(cli: &Command) -> Result<()> {
    log::print(markdown(cli).trim_end())?;
    Ok(())
}

/// The exit codes as one sentence of the help.
pub fn exit_codes() -> String {
    let codes: Vec<_> = EXIT_CODES.iter().map(|(kind, what, _)| format!("{} {what}", code(*kind))).collect();
    format!("Exit codes: {}.", codes.join(", "))
}

fn code(kind: Option<Kind>) -> u8 {
    kind.map_or(0, |kind| Error::new(kind, "").exit_code())
}

fn markdown(root: &Command) -> String {
    let mut text = String::from(HEAD);
    let verbs: Vec<&Command> = root.get_subcommands().filter(|verb| !verb.is_hide_set()).collect();
    text += "\n## Verbs\n\n| verb | |\n|---|---|\n";
    for verb in &verbs {
        let name = verb.get_name();
        line(&mut text, &[&format!("[`{name}`](#batchmine-{name})"), &about(verb)]);
    }
    for verb in &verbs {
        let name = format!("batchmine {}", verb.get_name());
        let usage = (*verb).clone().bin_name(&name).render_usage().to_string();
        let _ =
            write!(text, "\n## {name}\n\n{}.\n\n```text\n{}\n```\n", about(verb), usage.trim_start_matches("Usage: "));
        flags(&mut text, verb);
    }
    text += "\n## Flags of every verb\n";
    flags(&mut text, root);
    text += "\n| flag | |\n|---|---|\n| `-h`, `--help` | Print help |\n| `-V`, `--version` | Print the version |\n";
    text += "\n## Environment variables\n\n| variable | |\n|---|---|\n";
    let mut variables: Vec<(String, String)> = Vec::new();
    for verb in &verbs {
        for flag in verb.get_arguments().filter(|flag| !flag.is_hide_set()) {
            let Some(variable) = flag.get_env() else { continue };
            let pair = (variable.to_string_lossy().into_owned(), format!("`{}`", name(flag)));
            if !variables.contains(&pair) {
                variables.push(pair);
            }
        }
    }
    variables.sort();
    for (variable, flag) in &variables {
        line(&mut text, &[&format!("`{variable}`"), flag]);
    }
    for (variable, meaning) in OTHER_VARIABLES {
        line(&mut text, &[&format!("`{variable}`"), meaning]);
    }
    text += "\n## Exit codes\n\n| code | | |\n|---|---|---|\n";
    for (kind, what, more) in EXIT_CODES {
        line(&mut text, &[&code(kind).to_string(), what, more]);
    }
    text
}

/// The flags of a command in tables, one for each heading in the order of their first flags.
fn flags(text: &mut String, command: &Command) {
    let shown: Vec<&Arg> = command.get_arguments().filter(|flag| !flag.is_hide_set()).collect();
    let mut headings: Vec<Option<&str>> = Vec::new();
    for flag in &shown {
        if !headings.contains(&flag.get_help_heading()) {
            headings.push(flag.get_help_heading());
        }
    }
    for heading in headings {
        if let Some(heading) = heading {
            let _ = write!(text, "\n{heading}:\n");
        }
        *text += "\n| flag | | default | environment |\n|---|---|---|---|\n";
        for flag in shown.iter().filter(|flag| flag.get_help_heading() == heading) {
            let (help, default) = help_and_default(flag);
            let variable = flag.get_env().map_or_else(String::new, |name| format!("`{}`", name.to_string_lossy()));
            line(text, &[&format!("`{}`", name(flag)), &(help + &values(flag)), &default, &variable]);
        }
    }
}

fn line(text: &mut String, cells: &[&str]) {
    for cell in cells {
        let space = if cell.is_empty() { "" } else { " " };
        let _ = write!(text, "| {}{space}", cell.replace('|', "\\|"));
    }
    *text += "|\n";
}

fn about(verb: &Command) -> String {
    verb.get_about().map_or_else(String::new, ToString::to_string)
}

/// The flag as it is written: both forms, and what it takes.
fn name(flag: &Arg) -> String {
    let mut forms: Vec<String> = Vec::new();
    forms.extend(flag.get_short().map(|short| format!("-{short}")));
    forms.extend(flag.get_long().map(|long| format!("--{long}")));
    let takes = flag.get_action().takes_values();
    let mut values: Vec<String> = Vec::new();
    if takes {
        let names = flag.get_value_names().unwrap_or_default();
        values.extend(names.iter().map(ToString::to_string));
    }
    let mut text = forms.join(", ");
    if !values.is_empty() {
        text += if forms.is_empty() { "" } else { " " };
        text += &values.join(" ");
    }
    let many =
        matches!(flag.get_action(), ArgAction::Append) || flag.get_num_args().is_some_and(|n| n.max_values() > 1);
    if takes && many {
        text += "...";
    }
    text
}

/// The help without the default that it names, and the default.
fn help_and_default(flag: &Arg) -> (String, String) {
    let help = flag.get_long_help().or_else(|| flag.get_help()).map_or_else(String::new, ToString::to_string);
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((before, rest)) = help.split_once("[default: ")
        && let Some((default, after)) = rest.split_once(']')
    {
        return (format!("{}{after}", before.trim_end()), default.to_owned());
    }
    if flag.is_required_set() {
        return (help, "required".into());
    }
    let defaults: Vec<_> = flag.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default = if flag.get_action().takes_values() { defaults.join(" ") } else { String::new() };
    (help, default)
}

/// The values that a flag may have, each with its meaning.
fn values(flag: &Arg) -> String {
    if !flag.get_action().takes_values() {
        return String::new();
    }
    let mut text = String::new();
    for value in flag.get_possible_values().iter().filter(|value| !value.is_hide_set()) {
        let _ = write!(text, "<br>`{}`", value.get_name());
        if let Some(help) = value.get_help() {
            let _ = write!(text, ": {help}");
        }
    }
    text
}
