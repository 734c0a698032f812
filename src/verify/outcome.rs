//! What `verify` found, and what to do about it.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::error::Result;

/// Faults beyond this many are not listed one by one.
const FAULTS_MAX: usize = 100;

/// What was checked, and what was wrong.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    /// A line for each kind of check that passed.
    pub checked: Vec<String>,
    /// A line for each kind of check that was not made, because the run was cleaned.
    pub unchecked: Vec<String>,
    /// A line for each fault.
    pub faults: Vec<String>,
    /// What to do about the faults.
    #[serde(skip)]
    pub remedies: BTreeSet<Remedy>,
}

/// What to do about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remedy {
    /// The job is not done.
    Finish,
    /// A file of the run is damaged.
    MakeAgain,
    /// A file is not the run's.
    MoveAway,
    /// A report is damaged, or of other batches.
    Report,
}

impl Remedy {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Remedy::Finish => "run the same `mine` command again to finish the job",
            Remedy::MakeAgain => "delete the damaged files named there and run the same `mine` command again",
            Remedy::Report => "run `batchmine report` again: it writes report.json and report.html anew",
            Remedy::MoveAway => {
                "move the files that are not the run's elsewhere (those in folders of stages the same `mine` command \
                 deletes)"
            }
        }
    }
}

impl Outcome {
    pub(super) fn fault(&mut self, text: String) {
        self.fault_with(Remedy::MakeAgain, text);
    }

    pub(super) fn fault_with(&mut self, remedy: Remedy, text: String) {
        self.remedies.insert(remedy);
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(text);
        } else if self.faults.len() == FAULTS_MAX {
            self.faults.push("and more".into());
        }
    }

    /// Records a check that says nothing where it passes.
    pub(super) fn record_silent(&mut self, result: Result<()>) {
        if let Err(error) = result {
            self.fault(error.to_string().replace('\n', "\n       "));
        }
    }

    /// Records a check's result: its summary, or its faults.
    pub(super) fn record(&mut self, result: Result<String>, before: usize) {
        match result {
            Ok(line) if self.faults.len() == before => self.checked.push(line),
            Ok(_) => {}
            Err(error) => self.fault(error.to_string().replace('\n', "\n       ")),
        }
    }
}
