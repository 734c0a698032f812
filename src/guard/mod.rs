//! Calls into parsers that others wrote, on bytes that nobody has checked.
//!
//! Such a parser may panic, or ask for more memory than there is, where a file is damaged. `guarded` and
//! `guarded_engine` catch the panic and return its text; the hook of [`install`] prints nothing meanwhile. A request
//! for memory that cannot be granted ends the process with the name of the file ([`Allocator`]): no code can go on
//! behind it. Panics elsewhere are faults of this program: [`caught`] makes an error of the usual form of them.
//!
//! Memory: the path of the file that a thread reads.

mod allocator;
mod reading;

use std::any::Any;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, Once, PoisonError};

use crate::error::{Error, Result};
use reading::{READING, is_guarded};

pub use allocator::Allocator;

/// The first panic outside of guarded calls.
static FAULT: Mutex<Option<String>> = Mutex::new(None);

/// What `work` gives, or the panic in it as one line. `path`: the file whose bytes it decodes on this thread.
///
/// # Errors
/// `work` panics.
pub(crate) fn guarded<T>(path: &Path, work: impl FnOnce() -> T) -> Result<T, String> {
    let before = READING.replace(Some(path.to_owned()));
    let done = catch_unwind(AssertUnwindSafe(work));
    READING.replace(before);
    done.map_err(|panic| damaged(&*panic))
}

/// The same of an engine that decodes files on threads of its own.
///
/// # Errors
/// `work` panics, or one of the engine's threads does and the engine passes it on.
#[cfg(any(test, feature = "export", feature = "lake"))]
pub(crate) fn guarded_engine<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    use std::sync::atomic::Ordering;

    reading::ENGINES.fetch_add(1, Ordering::Relaxed);
    let done = catch_unwind(AssertUnwindSafe(work));
    reading::ENGINES.fetch_sub(1, Ordering::Relaxed);
    done.map_err(|panic| damaged(&*panic))
}

fn damaged(panic: &(dyn Any + Send)) -> String {
    format!("damaged data: {}", text_of(panic))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    one_line(text.unwrap_or("a panic without a text"))
}

/// A library's words without their line breaks.
pub(crate) fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// Makes panics inside guarded calls silent, and keeps the text of others for [`caught`]. With RUST_BACKTRACE the
/// latter are printed at once, as Rust does. `memory_bytes`: more than this no file may ask for in one piece.
pub fn install(memory_bytes: u64) {
    static ONCE: Once = Once::new();
    allocator::limit(memory_bytes);
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if is_guarded() {
                return;
            }
            if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
                before(panic);
            }
            let mut fault = FAULT.lock().unwrap_or_else(PoisonError::into_inner);
            fault.get_or_insert_with(|| described(panic));
        }));
    });
}

fn described(panic: &PanicHookInfo<'_>) -> String {
    let place = panic.location().map_or_else(String::new, |at| format!(" ({}:{})", at.file(), at.line()));
    format!("{}{place}", one_line(panic.payload_as_str().unwrap_or("a panic without a text")))
}

/// What `work` gives; a panic in it, or on a thread that it started, as an error of the usual form.
///
/// # Errors
/// `work` fails or panics.
pub fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = catch_unwind(AssertUnwindSafe(work));
    let known = FAULT.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (done, known) {
        (Err(panic), known) => Err(fault(known.unwrap_or_else(|| text_of(&*panic)))),
        (Ok(Ok(_)), Some(known)) => Err(fault(known)),
        (Ok(done), _) => done,
    }
}

fn fault(found: String) -> Error {
    Error::runtime("batchmine itself failed: this is a fault of the program")
        .expected("an end with a result, or with an error that names its cause")
        .found(found)
        .remedy("report this message with the command; with RUST_BACKTRACE=1 it says more")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_text_and_the_guard_ends_with_the_call() {
        let path = Path::new("a.parquet");
        assert_eq!(guarded(path, || 5), Ok(5));
        let nested = guarded(path, || {
            let inner = guarded(Path::new("b.parquet"), || -> u8 { panic!("first\n  second {}", 2) });
            assert_eq!(inner.unwrap_err(), "damaged data: first; second 2");
            assert!(is_guarded());
        });
        assert_eq!(nested, Ok(()));
        assert!(READING.with_borrow(Option::is_none));
        let engine = guarded_engine(|| -> u8 { std::panic::panic_any(7) });
        assert_eq!(engine.unwrap_err(), "damaged data: a panic without a text");
    }

    #[test]
    fn a_panic_of_our_own_is_a_fault_of_the_program() {
        let error = caught(|| -> Result<()> { panic!("index out of bounds") }).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        let text = error.to_string();
        assert!(text.contains("fault of the program") && text.contains("index out of bounds"), "{text}");
        assert_eq!(caught(|| Ok(3)).unwrap(), 3);
    }
}
