//! The flag with which a user stops the waiting for a store.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Kind, Result};

thread_local! {
    static CURRENT: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// Files in stores that `work` opens on this thread are waited for until the flag is raised, by whoever reads them.
pub fn stopped_by<T>(flag: &Arc<AtomicBool>, work: impl FnOnce() -> T) -> T {
    let before = CURRENT.replace(Some(flag.clone()));
    let done = work();
    CURRENT.replace(before);
    done
}

/// A flag, or none.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Option<Arc<AtomicBool>>);

#[cfg_attr(not(any(test, feature = "lake")), expect(dead_code, reason = "nothing is waited for"))]
impl Stop {
    /// That of the work under way on this thread.
    pub(super) fn current() -> Stop {
        Stop(CURRENT.with_borrow(Clone::clone))
    }

    /// Fails with [`Kind::Interrupted`] once the user has asked to stop; `url`: what is waited for.
    pub(super) fn check(&self, url: &str) -> Result<()> {
        if !self.0.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Ok(());
        }
        Err(Error::new(Kind::Interrupted, "interrupted while a file in a store was read: finished parts are kept")
            .path(url)
            .remedy("run the same command again to go on"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_holds_for_what_is_opened_under_it() {
        let flag = Arc::new(AtomicBool::new(true));
        let inside = stopped_by(&flag, Stop::current);
        assert!(inside.check("s3://b/a").unwrap_err().to_string().contains("s3://b/a"));
        assert!(Stop::current().check("s3://b/a").is_ok());
        flag.store(false, Ordering::Relaxed);
        assert!(inside.check("s3://b/a").is_ok());
    }
}
