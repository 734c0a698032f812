//! A share of the checks: several processes, on several machines, verify a run together. Pure.

use crate::error::{Error, Result};

/// Which of the checks are made: files and sampled rows of a number, counted from 0, that leaves the rest `index`.
/// Checks that look at the run as a whole are those of the first share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckShare {
    index: usize,
    of: usize,
}

impl CheckShare {
    /// All checks.
    pub const WHOLE: CheckShare = CheckShare { index: 0, of: 1 };

    /// One of `of` shares.
    ///
    /// # Errors
    /// There is no share of this number.
    pub fn new(index: usize, of: usize) -> Result<CheckShare> {
        if index < of {
            return Ok(CheckShare { index, of });
        }
        Err(Error::input("there is no share of this number")
            .expected("--index from 0, below --of")
            .found(format!("--index {index} --of {of}"))
            .remedy("shares are counted from 0"))
    }

    /// Whether the checks of the run as a whole are among these.
    pub(super) fn has_whole(self) -> bool {
        self.index == 0
    }

    /// What of some things is checked.
    pub(super) fn of<T>(self, all: Vec<T>) -> Vec<T> {
        all.into_iter().skip(self.index).step_by(self.of).collect()
    }

    /// What others check, in words; none where this is all.
    pub(super) fn others(self) -> Option<String> {
        let whole = if self.has_whole() { "" } else { ", and the run as a whole" };
        (self.of > 1).then(|| format!("the files and rows of {} other shares{whole}", self.of - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_make_up_the_whole() {
        let all: Vec<usize> = (0..11).collect();
        let mut found: Vec<usize> =
            (0..4).flat_map(|index| CheckShare::new(index, 4).unwrap().of(all.clone())).collect();
        found.sort_unstable();
        assert_eq!(found, all);
        assert_eq!(CheckShare::WHOLE.of(all.clone()), all);
        assert!(CheckShare::new(4, 4).is_err() && CheckShare::new(0, 0).is_err());
        assert_eq!(CheckShare::WHOLE.others(), None);
    }
}
