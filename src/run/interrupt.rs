//! The flag with which a user stops a job.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Kind, Result};

/// Set once the user has asked a job to stop.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    flag: Arc<AtomicBool>,
    folder: PathBuf,
}

impl Interrupt {
    pub(super) fn new(flag: Arc<AtomicBool>, folder: PathBuf) -> Interrupt {
        Interrupt { flag, folder }
    }

    /// Fails with [`Kind::Interrupted`] once the user has asked to stop.
    pub(super) fn check(&self) -> Result<()> {
        if !self.flag.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(Error::new(Kind::Interrupted, "interrupted: finished parts are kept")
            .path(&self.folder)
            .remedy("run the same command again to go on"))
    }
}
