//! Who is inside a guarded call.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    /// The file whose bytes this thread decodes, inside a guarded call.
    pub(super) static READING: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Guarded calls whose work is done on threads of others.
pub(super) static ENGINES: AtomicUsize = AtomicUsize::new(0);

/// Whether this thread may work for a guarded call.
pub(super) fn is_guarded() -> bool {
    let reading = READING.try_with(|path| path.try_borrow().map_or(true, |path| path.is_some()));
    reading.unwrap_or(false) || ENGINES.load(Ordering::Relaxed) > 0
}
