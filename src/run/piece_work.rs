//! What a job that waits for pieces and whoever makes them have in common, whatever the stage.
//!
//! Memory: the names of all parts.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::folder::Run;
use super::pieces::PieceFolder;
use super::reader::RunReader;
use super::sealed::PartWriter;
use super::stage::Stage;
use super::stage_run::StageRun;
use crate::config::KernelPrecision;
use crate::error::{Error, Kind, Result};

/// Time between two looks for pieces.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Time between two looks whether the description of the parts stands there.
const DESCRIBE_EVERY: Duration = Duration::from_secs(2);
/// Time between two words on what is missing.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What of a machine a worker may use.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorkerLimits {
    /// Bytes.
    pub memory: Option<u64>,
    pub threads: Option<usize>,
    pub precision: Option<KernelPrecision>,
}

/// Which parts are asked for.
#[derive(Debug, Clone)]
pub enum PartsAsked {
    /// Those of a number, counted from 0, that leaves this rest.
    Rest {
        index: usize,
        of: usize,
    },
    /// Those of a number that leaves this rest; then what others have not made yet, in an order of its own.
    RestAndOthers {
        index: usize,
        of: usize,
    },
    Named(Vec<String>),
}

/// What a worker did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Worked {
    /// Parts that were asked for.
    pub asked: usize,
    /// Those that were made.
    pub made: usize,
}

impl PartsAsked {
    /// The numbers of the parts that are asked for, in the order in which they are made. Pure.
    ///
    /// # Errors
    /// There is no part of a name.
    pub(crate) fn numbers(&self, names: &[String]) -> Result<Vec<usize>> {
        let all = names.len();
        match self {
            PartsAsked::Rest { index, of } => Ok((*index..all).step_by(*of).collect()),
            PartsAsked::RestAndOthers { index, of } => {
                // In an order of its own: those who are done first would all take the same parts else.
                let key = |number: &usize| xxh3_64(&[*index as u64, *number as u64].map(u64::to_le_bytes).concat());
                let mut others: Vec<usize> = (0..all).filter(|number| number % of != *index).collect();
                others.sort_by_cached_key(key);
                Ok((*index..all).step_by(*of).chain(others).collect())
            }
            PartsAsked::Named(parts) => {
                let number =
                    |part: &String| names.iter().position(|name| name == part).ok_or_else(|| unknown(part, names));
                parts.iter().map(number).collect()
            }
        }
    }
}

/// The parts of a step that others make.
#[derive(Debug)]
pub(crate) struct PieceStep {
    pub stage: Stage,
    pub folder: PieceFolder,
    /// All parts.
    pub names: Vec<String>,
}

impl PieceStep {
    /// The numbers of the parts that are neither recorded nor made.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub(crate) fn open_parts(&self, run: &RunReader) -> Result<Vec<usize>> {
        let there = self.folder.names()?;
        let recorded = run.manifest().stages.get(&self.stage).map(|record| &record.parts);
        let is_open = |name: &String| !there.contains(name) && recorded.is_none_or(|parts| !parts.contains_key(name));
        Ok((0..self.names.len()).filter(|number| is_open(&self.names[*number])).collect())
    }

    /// Makes the parts of some numbers that are not there; `make` gives what is written of one. How many were made.
    ///
    /// # Errors
    /// `make` fails, or the disk does while the job still wants the part.
    pub(crate) fn make<W>(
        &self,
        run: &RunReader,
        missing: &[usize],
        mut make: impl FnMut(usize) -> Result<W>,
    ) -> Result<usize>
    where
        W: FnOnce(&mut PartWriter) -> std::io::Result<()>,
    {
        let (mut made, taken) = (0, run.stage_folder(self.stage));
        for number in missing {
            let name = &self.names[*number];
            // Another has made it meanwhile, and the job has taken it, perhaps.
            if self.folder.has(name) || taken.join(name).exists() {
                continue;
            }
            let written = make(*number).and_then(|write| self.folder.put(name, write));
            // The job may have got the part from another, and need none any more.
            if let Err(error) = written {
                let is_stopped = matches!(error.kind(), Kind::Interrupted);
                return if !is_stopped && self.is_over(run, name)? { Ok(made) } else { Err(error) };
            }
            made += 1;
        }
        Ok(made)
    }

    /// Whether the job has a part by now, or needs it no more.
    fn is_over(&self, run: &RunReader, name: &str) -> Result<bool> {
        let now = RunReader::open(run.folder())?;
        let record = now.manifest().stages.get(&self.stage);
        Ok(record.is_some_and(|record| record.complete || record.parts.contains_key(name)) || !self.folder.is_there())
    }
}

/// A job that waits for pieces of a stage.
pub(crate) struct Waiting<'a> {
    pub run: &'a Run,
    pub stage: &'a StageRun<'a>,
    pub folder: PieceFolder,
    /// What the parts are of, in words.
    pub what: &'a str,
}

impl Waiting<'_> {
    /// Waits until others have made all parts of `missing`, and makes each a part of the run. `task` is what the job
    /// says of them, as it stands on disk; `check` fails where a file is not the part of its name, and `done` is told
    /// of each. One that is damaged is removed, and waited for anew.
    ///
    /// # Errors
    /// The user interrupts, or the disk fails.
    pub(crate) fn wait(
        &self,
        task: &str,
        mut missing: BTreeSet<String>,
        check: impl Fn(&str, &Path) -> Result<()> + Sync,
        done: impl Fn(&str) -> Result<()>,
    ) -> Result<()> {
        let (all, mut described) = (missing.len(), None::<Instant>);
        let tell = |left: usize| {
            tracing::info!(
                "waiting for {left} of {all} parts of the {}: batchmine work {} --index I --of N",
                self.what,
                self.run.folder().display()
            );
        };
        if all > 0 {
            tell(all);
        }
        let mut told = Instant::now();
        while !missing.is_empty() {
            // What was deleted or damaged meanwhile is written again.
            if described.is_none_or(|at| at.elapsed() > DESCRIBE_EVERY) {
                self.run.describe_pieces(&self.folder, task)?;
                described = Some(Instant::now());
            }
            // One look at the folder, and one record, however many parts are missing or there.
            let names = self.folder.names()?;
            let there: Vec<String> = missing.iter().filter(|name| names.contains(*name)).cloned().collect();
            for name in self.adopt(&there, &check)? {
                missing.remove(&name);
                done(&name)?;
            }
            if told.elapsed() > TELL_EVERY && !missing.is_empty() {
                tell(missing.len());
                told = Instant::now();
            }
            if !missing.is_empty() {
                self.run.check_interrupt()?;
                std::thread::sleep(LOOK_EVERY);
            }
        }
        Ok(())
    }

    /// Makes pieces parts of the run, those that are sound; the others are removed. Those that were taken.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn adopt(
        &self,
        names: &[String],
        check: impl Fn(&str, &Path) -> Result<()> + Sync,
    ) -> Result<Vec<String>> {
        let checked = |name: &String| check(name, &self.folder.path(name)).and_then(|()| self.folder.check(name));
        let found: Vec<Result<()>> = names.par_iter().map(checked).collect();
        let mut sound = Vec::new();
        for (name, found) in names.iter().zip(found) {
            match found {
                Ok(()) => sound.push(name.clone()),
                Err(error) => {
                    tracing::warn!("a piece is not what was written, and is made again: {error}");
                    self.run.remove_piece(&self.folder, name)?;
                }
            }
        }
        if !sound.is_empty() {
            self.stage.adopt(&sound, &self.folder)?;
        }
        Ok(sound)
    }
}

/// A worker has less memory than the parts need.
///
/// # Errors
/// Always where `has` is less than `least`, both in bytes.
pub(crate) fn refuse_little_memory(has: u64, least: u64) -> Result<()> {
    if has >= least {
        return Ok(());
    }
    let mib = least.div_ceil(1 << 20);
    Err(Error::new(Kind::OverBudget, "the memory budget is too small for these parts")
        .expected(format!("--memory {mib}MiB or more"))
        .found(format!("--memory {}MiB", has >> 20))
        .remedy(format!("raise --memory to {mib}MiB, or lower --threads")))
}

/// The error of a worker that comes where no parts are wanted.
pub(crate) fn nothing_to_do(run: &Path) -> Error {
    Error::runtime("the run waits for no parts")
        .path(run)
        .expected("a job that waits: `batchmine mine ... --pieces external`")
        .found("none that has come so far, or one that has them all")
        .remedy("try again later, or look with `batchmine pieces`")
}

/// The error of a description of pieces that is not of the run.
pub(crate) fn unsound_task(run: &Path, expected: String, found: String) -> Error {
    Error::runtime("the description of a run's pieces is not of this run")
        .path(run)
        .expected(expected)
        .found(found)
        .remedy("use the batchmine that runs `mine`; or run its command again, which writes it anew")
}

fn unknown(part: &str, names: &[String]) -> Error {
    let known = match names {
        [] => "none".to_owned(),
        [only] => only.clone(),
        [first, .., last] => format!("{first} to {last}"),
    };
    Error::input("the job waits for no such part")
        .expected(known)
        .found(part.to_owned())
        .remedy("`batchmine pieces` lists the parts")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_take_their_own_parts_first_and_then_those_of_others() {
        let names: Vec<String> = (0..7).map(|number| format!("part-{number}")).collect();
        let own = |index, of| PartsAsked::Rest { index, of }.numbers(&names).unwrap();
        assert_eq!((own(0, 3), own(2, 3), own(6, 9), own(8, 9)), (vec![0, 3, 6], vec![2, 5], vec![6], vec![]));
        let all = |index, of| PartsAsked::RestAndOthers { index, of }.numbers(&names).unwrap();
        assert_eq!(all(1, 3)[..2], [1, 4]);
        assert_eq!(all(0, 1), [0, 1, 2, 3, 4, 5, 6]);
        let mut orders: Vec<Vec<usize>> = (7..12).map(|index| all(index, 12)).collect();
        orders.sort();
        orders.dedup();
        assert!(orders.len() > 3, "each has an order of its own: {orders:?}");
        for mut order in orders.into_iter().chain([all(1, 3)]) {
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2, 3, 4, 5, 6]);
        }
        let named = |part: &str| PartsAsked::Named(vec![part.to_owned()]).numbers(&names);
        assert_eq!(named("part-4").unwrap(), [4]);
        assert!(named("part-7").unwrap_err().to_string().contains("part-0 to part-6"));
    }
}
