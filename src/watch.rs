//! Told how much work is done; may stop the work.

use crate::error::Result;

/// Told how much work is done: a meter's count, the user's signal to stop, or both.
///
/// It is handed down to whatever takes long. Pure code counts through it without knowing who listens.
#[derive(Clone, Copy)]
pub struct Watch<'a>(&'a (dyn Fn(u64) -> Result<()> + Sync));

impl<'a> Watch<'a> {
    /// Tells `listen` how many units are done since it was told last.
    pub fn new(listen: &'a (dyn Fn(u64) -> Result<()> + Sync)) -> Watch<'a> {
        Watch(listen)
    }

    /// Counts units just done; 0 only asks whether to go on.
    ///
    /// # Errors
    /// The work is to stop.
    pub fn add(&self, units: u64) -> Result<()> {
        (self.0)(units)
    }
}

impl Watch<'static> {
    /// Nobody listens.
    pub fn silent() -> Watch<'static> {
        Watch(&|_| Ok(()))
    }
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}
