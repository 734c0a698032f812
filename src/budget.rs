//! Types for memory budgets: what a stage needs is a list of phases, each a sum of terms.
//!
//! A stage's own `budget.rs` makes the terms, beside the buffers that they describe; `plan.rs` sums them. A term
//! has its formula as text, so that docs/memory.md is made from the same place as the numbers.

use crate::run::Stage;

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;
/// What the process needs before it holds any data: code, thread stacks, allocator slack.
pub(crate) const BASE_BYTES: u64 = 24 * MIB;
/// The same for each thread.
pub(crate) const THREAD_BYTES: u64 = 2 * MIB;

/// What the process needs before it holds any data.
pub(crate) fn process_bytes(threads: usize) -> u64 {
    BASE_BYTES + threads as u64 * THREAD_BYTES
}

/// One buffer, or some of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Term {
    /// Bytes as a formula: n rows, d dimensions, k ranks, m window, K, |B|, h, t threads.
    pub formula: String,
    pub what: &'static str,
    /// Bytes that it cannot do without.
    pub least: u64,
    /// Bytes that the plan gives it.
    pub given: u64,
}

impl Term {
    /// A term of a fixed size.
    pub(crate) fn fixed(formula: impl Into<String>, what: &'static str, bytes: u64) -> Term {
        Term { formula: formula.into(), what, least: bytes, given: bytes }
    }

    /// A term that takes what is left of the budget, within bounds.
    pub(crate) fn elastic(formula: impl Into<String>, what: &'static str, least: u64, given: u64) -> Term {
        Term { formula: formula.into(), what, least, given: given.max(least) }
    }
}

/// Terms whose buffers exist at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Phase {
    pub name: &'static str,
    pub terms: Vec<Term>,
}

/// What a stage needs: the largest of its phases, beside what every process needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageNeed {
    pub stage: Stage,
    pub(crate) phases: Vec<Phase>,
}

impl StageNeed {
    /// Most anonymous memory in bytes that the plan lets the stage take, without what every process needs.
    pub(crate) fn given(&self) -> u64 {
        self.largest(|term| term.given)
    }

    /// Least bytes that the stage can work in, without what every process needs.
    pub(crate) fn least(&self) -> u64 {
        self.largest(|term| term.least)
    }

    fn largest(&self, bytes: impl Fn(&Term) -> u64) -> u64 {
        self.phases.iter().map(|phase| phase.terms.iter().map(&bytes).sum()).max().unwrap_or(0)
    }
}

/// A count of bytes in a formula: in MiB or KiB where it is a whole number of them.
pub(crate) fn written(bytes: u64) -> String {
    match bytes {
        _ if bytes >= MIB && bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        _ if bytes >= KIB && bytes.is_multiple_of(KIB) => format!("{} KiB", bytes / KIB),
        _ => bytes.to_string(),
    }
}
