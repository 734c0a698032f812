//! A setting that single tasks may have otherwise.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A setting of every task: the job's, and those of tasks that have another. As it is recorded, too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ByTask<T> {
    /// Of tasks that have no other.
    #[serde(flatten)]
    pub job: T,
    /// By name, of those that do.
    #[serde(default = "BTreeMap::new", skip_serializing_if = "BTreeMap::is_empty")]
    pub tasks: BTreeMap<String, T>,
}

impl<T: Copy + PartialEq> ByTask<T> {
    /// The job's setting, and those of tasks that differ from it.
    pub fn new<'a>(job: T, tasks: impl Iterator<Item = (&'a String, T)>) -> ByTask<T> {
        let tasks = tasks.filter(|(_, own)| *own != job).map(|(name, own)| (name.clone(), own)).collect();
        ByTask { job, tasks }
    }

    /// The setting of one task.
    pub fn of(&self, task: &str) -> T {
        self.tasks.get(task).copied().unwrap_or(self.job)
    }

    /// The setting of each of `names`, in their order.
    pub fn all<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<T> {
        names.map(|name| self.of(name)).collect()
    }

    /// The job's, then every other.
    pub fn each(&self) -> impl Iterator<Item = T> {
        std::iter::once(self.job).chain(self.tasks.values().copied())
    }
}
