//! What is printed: data on stdout, whose loss is an error, and messages on stderr, whose loss is none.
//!
//! Nothing else in the crate prints; a test holds it to that. A closed stdout or stderr is `/dev/null` here: the
//! standard library opens it in their place before the program begins.

use std::io::{self, Write};

/// Prints a line on stdout. `false`: the reader went away, as `| head` does, which is no fault; nobody reads what is
/// printed after it.
///
/// # Errors
/// Stdout cannot be written: its disk is full, or fails.
pub(crate) fn print_line(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    is_read(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// Whether what was written is read; a pipe without a reader is no error.
///
/// # Errors
/// The write failed otherwise.
pub(crate) fn is_read(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true),
    }
}

/// Writes to stderr. A stderr that cannot be written has no other place for its error: it is passed over.
pub(crate) fn tell(bytes: &[u8]) {
    let _ = io::stderr().lock().write_all(bytes);
}

/// Writes a line to stderr, if it can be written.
pub(crate) fn tell_line(text: &str) {
    tell(format!("{text}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_no_error_and_a_full_disk_is_one() {
        assert!(is_read(Ok(())).unwrap());
        assert!(!is_read(Err(io::ErrorKind::BrokenPipe.into())).unwrap());
        let full = is_read(Err(io::ErrorKind::StorageFull.into())).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    }
}
