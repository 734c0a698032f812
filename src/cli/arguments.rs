//! What clap does not say well, or not at all: numbers that cannot be negative, and variables that nothing reads.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory, Parser};

use super::Cli;
use super::log::unwritten;
use crate::error::{Error, Result};
use crate::neighbors::cpu::simd::Simd;
use crate::stdio::{is_read, tell_line};
use crate::vectors::dot::FORCED;

/// Beginning of the names of batchmine's variables.
const PREFIX: &str = "BATCHMINE_";
/// Variables that the project's own tests read (docs/testing.md).
const OF_TESTS: [&str; 15] = [
    "BATCHMINE_BUDGETS",
    "BATCHMINE_CUDA",
    "BATCHMINE_FAULTS",
    "BATCHMINE_FLIPS",
    "BATCHMINE_FUZZ",
    "BATCHMINE_FUZZ_DECODER",
    "BATCHMINE_KILLS",
    "BATCHMINE_POWER_LOSSES",
    "BATCHMINE_PYTHON",
    "BATCHMINE_REAL",
    "BATCHMINE_REWRITE_CORRUPT",
    "BATCHMINE_REWRITE_DOCS",
    "BATCHMINE_REWRITE_SETTINGS",
    "BATCHMINE_SIMD",
    "BATCHMINE_WORLDS",
];

/// Likeness of names, in millionths, from which on one may be a slip for the other.
const NEAR: u64 = 800_000;

/// Parses the command line, whose first argument is the program's name. Clap itself ends the process where it has the
/// better words: for help, and most faults.
///
/// # Errors
/// A number is negative that cannot be, or a variable of the environment is no setting.
pub fn parse(given: Vec<OsString>) -> Result<Cli> {
    let cli = Cli::command();
    let parsed = Cli::try_parse_from(&given).or_else(|error| {
        if let Some(error) = no_text(&error, &given) {
            return Err(error);
        }
        let texts: Vec<String> = given.iter().map(|text| text.to_string_lossy().into_owned()).collect();
        match negative_number(&error, &texts) {
            Some((flag, number)) => Err(negative(&cli, &flag, &number)),
            None if !cfg!(feature = "export") && is_export(&error) => Err(Error::input("this build writes no exports")
                .expected("a build with the feature export")
                .found("`batchmine export` in a build without it")
                .remedy("build it with exports: `cargo build --release --features export`")),
            None => end(&error),
        }
    })?;
    refuse_environment()?;
    Ok(parsed)
}

/// Fails on variables of the environment that look like settings and are none.
///
/// # Errors
/// There is one; the message names the nearest setting.
pub fn refuse_environment() -> Result<()> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    refuse_unknown(&Cli::command(), names)?;
    refuse_instructions(std::env::var_os(FORCED))
}

/// Prints what clap has to say, and ends the process: 0 for help and the version, 2 for a fault.
fn end(error: &clap::Error) -> ! {
    let printed = error.print().and_then(|()| std::io::stdout().flush());
    let code = match is_read(printed) {
        // Help and version are data. A fault's message goes to stderr, whose failure changes nothing.
        Err(e) if !error.use_stderr() => {
            let unwritten = unwritten(e.to_string());
            tell_line(&format!("error: {unwritten}"));
            unwritten.exit_code().into()
        }
        _ => error.exit_code(),
    };
    std::process::exit(code)
}

/// The flag and the number, where clap refused a negative number.
fn negative_number(error: &clap::Error, given: &[String]) -> Option<(String, String)> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let (about, value) = (context(ContextKind::InvalidArg)?, context(ContextKind::InvalidValue));
    let number = |text: &str| text.starts_with('-') && text.parse::<f64>().is_ok();
    match error.kind() {
        // `--skip=-1`, or the variable: clap names the flag with its value's name.
        ErrorKind::ValueValidation => {
            let value = value.filter(|value| number(value))?;
            Some((about.split_whitespace().next()?.to_owned(), value))
        }
        // `--skip -1`: clap takes -1 for a flag, and names its first letter.
        ErrorKind::UnknownArgument | ErrorKind::InvalidValue => {
            let pair = given.windows(2).find(|pair| pair[0].starts_with('-') && number(&pair[1]))?;
            (!number(&pair[0])).then(|| (pair[0].clone(), pair[1].clone()))
        }
        _ => None,
    }
}

/// The error for an argument that is no text, where clap refused one without its name.
fn no_text(error: &clap::Error, given: &[OsString]) -> Option<Error> {
    let argument = given.iter().find(|argument| argument.to_str().is_none())?;
    (error.kind() == ErrorKind::InvalidUtf8).then(|| {
        Error::input("an argument is not UTF-8")
            .expected("names of files and folders in UTF-8")
            .found(format!("{argument:?}"))
            .remedy("rename the file or folder, or name it through a link: ln -s NAME LINK")
    })
}

/// Whether clap knows no verb `export`.
fn is_export(error: &clap::Error) -> bool {
    let verb = error.get(ContextKind::InvalidSubcommand);
    matches!(verb, Some(ContextValue::String(verb)) if verb == "export")
}

/// All arguments of all verbs.
fn arguments(cli: &Command) -> impl Iterator<Item = &Arg> {
    cli.get_subcommands().flat_map(Command::get_arguments)
}

fn negative(cli: &Command, flag: &str, number: &str) -> Error {
    let known = arguments(cli).find(|argument| argument.get_long().is_some_and(|long| format!("--{long}") == flag));
    let letter = known.and_then(|argument| {
        let help = argument.get_help()?.to_string();
        help.split_once(": ").map(|(letter, _)| letter.to_owned()).filter(|letter| letter.chars().count() <= 3)
    });
    let what = letter.map_or_else(|| flag.to_owned(), |letter| format!("{flag} ({letter})"));
    Error::input(format!("{what} cannot be negative"))
        .expected(format!("{flag} with a number that is not negative"))
        .found(format!("{flag} {number}"))
        .remedy(format!("leave {flag} out for its default; `batchmine help` and the verb's --help say what it means"))
}

/// Fails on a value of [`FORCED`] that names no instructions: a comparison would be of other ones. Pure.
fn refuse_instructions(forced: Option<OsString>) -> Result<()> {
    let forced = forced.unwrap_or_default().to_string_lossy().into_owned();
    if forced.is_empty() || Simd::is_name(&forced) {
        return Ok(());
    }
    Err(Error::input("no instructions have this name")
        .expected(format!("{FORCED} with avx512bf16, avx512vnni, avx512, avxvnni, avx2 or scalar"))
        .found(format!("{FORCED}={forced}"))
        .remedy(format!("unset {FORCED}: the best instructions of the machine are taken by themselves")))
}

/// Fails on variables that look like settings and are none. Pure.
fn refuse_unknown(cli: &Command, names: impl Iterator<Item = String>) -> Result<()> {
    let known: BTreeSet<String> =
        arguments(cli).filter_map(Arg::get_env).map(|name| name.to_string_lossy().into_owned()).collect();
    let unknown =
        |name: &String| name.starts_with(PREFIX) && !known.contains(name) && !OF_TESTS.contains(&name.as_str());
    let Some(name) = names.filter(unknown).min() else { return Ok(()) };
    // All names begin alike, which must not count as likeness.
    let own = |name: &str| name.trim_start_matches(PREFIX).to_owned();
    let likeness = |other: &&String| (strsim::jaro_winkler(&own(other), &own(&name)) * 1e6) as u64;
    let nearest = known.iter().max_by_key(likeness).filter(|nearest| likeness(nearest) >= NEAR);
    let flag = own(&name).to_lowercase().replace('_', "-");
    let is_flag = arguments(cli).chain(cli.get_arguments()).any(|argument| argument.get_long() == Some(&flag));
    let remedy = match nearest {
        _ if is_flag => format!("give the flag --{flag}, which has no variable, and unset {name}"),
        Some(nearest) => format!("set {nearest} if you mean that, or unset {name}"),
        None => format!("unset {name}"),
    };
    Err(Error::input("a variable of the environment is no setting")
        .expected("the name of a flag's variable, such as BATCHMINE_BATCH_SIZE")
        .found(format!("{name}, which nothing reads"))
        .remedy(format!("{remedy}; docs/reference.md lists all variables")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let error = Cli::try_parse_from(&words).unwrap_err();
        let (flag, number) = negative_number(&error, &words).unwrap_or_else(|| panic!("{error}"));
        negative(&Cli::command(), &flag, &number).to_string()
    }

    #[test]
    fn negative_numbers_are_refused_by_the_flags_name() {
        for flag in ["--window", "--seed", "--batch-size", "--epochs", "--threads", "--gpu-timeout", "--hard-negatives"]
        {
            let spaced = refused(&["batchmine", "mine", "in", "--out", "run", flag, "-5"]);
            let joined = refused(&["batchmine", "mine", "in", "--out", "run", &format!("{flag}=-5")]);
            assert!(spaced.contains(flag) && spaced.contains("cannot be negative"), "{spaced}");
            assert_eq!(spaced, joined);
        }
        let text = refused(&["batchmine", "mine", "in", "--out", "run", "--skip", "-1"]);
        assert!(text.starts_with("--skip (p) cannot be negative"), "{text}");
        refused(&["batchmine", "report", "run", "--epoch", "-1"]);
        refused(&["batchmine", "gen", "--rows", "-1", "--dim", "8", "--out", "x"]);
    }

    #[test]
    fn other_faults_are_claps() {
        let words = ["batchmine", "mine", "in", "--out", "run", "-9x"].map(OsString::from);
        let error = Cli::try_parse_from(&words).unwrap_err();
        let given: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        assert_eq!(negative_number(&error, &given), None);
        let scores = ["batchmine", "mine", "in", "--out", "run", "--min-score", "-0.5"].map(OsString::from);
        assert!(Cli::try_parse_from(&scores).is_ok());
    }

    #[test]
    fn unknown_variables_are_refused_with_the_nearest_name() {
        let refuse = |names: &[&str]| refuse_unknown(&Cli::command(), names.iter().map(|name| (*name).to_owned()));
        assert!(refuse(&["BATCHMINE_BATCH_SIZE", "BATCHMINE_WORK", "BATCHMINE_PYTHON", "PATH"]).is_ok());
        for (name, nearest) in [
            ("BATCHMINE_BATCHSIZE", "BATCHMINE_BATCH_SIZE"),
            ("BATCHMINE_TASK", "BATCHMINE_TASK_COLUMN"),
            ("BATCHMINE_MEMROY", "BATCHMINE_MEMORY"),
        ] {
            let text = refuse(&["PATH", name]).unwrap_err().to_string();
            assert!(text.contains(name) && text.contains(&format!("set {nearest} ")), "{text}");
        }
        let text = refuse(&["BATCHMINE_PROGRESS"]).unwrap_err().to_string();
        assert!(text.contains("give the flag --progress, which has no variable"), "{text}");
        for forced in [None, Some(""), Some("avx2"), Some("AVX512VNNI"), Some("scalar")] {
            assert!(refuse_instructions(forced.map(OsString::from)).is_ok(), "{forced:?}");
        }
        let text = refuse_instructions(Some("avx3".into())).unwrap_err().to_string();
        assert!(text.contains("BATCHMINE_SIMD=avx3") && text.contains("unset BATCHMINE_SIMD"), "{text}");
        let text = refuse(&["BATCHMINE_XYZZY"]).unwrap_err().to_string();
        assert!(text.contains("remedy:   unset BATCHMINE_XYZZY;"), "{text}");
    }
}
