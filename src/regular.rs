//! Opens regular files only, and reads small ones whole: no read waits for a writer, and none is without an end.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Most bytes of a file that is read whole before it is parsed, where the reader has no reason for another limit.
pub(crate) const TEXT_MAX: u64 = 64 << 20;

/// Opens a file for reading. A pipe, a socket, a device or a folder is refused before it is opened.
///
/// # Errors
/// The path leads to no regular file, or it cannot be opened.
pub(crate) fn open(path: &Path) -> Result<File> {
    let failed = |e| Error::io("a file cannot be opened", path, e);
    // A look before the opening: to open a device can have effects, and to open a pipe waits for its writer.
    refuse_irregular(path, &path.metadata().map_err(failed)?)?;
    let file = OpenOptions::new().read(true).custom_flags(without_waiting()).open(path).map_err(failed)?;
    // Another file may have taken the place meanwhile.
    refuse_irregular(path, &file.metadata().map_err(failed)?)?;
    Ok(file)
}

/// The bytes of a file of at most `most` bytes.
///
/// # Errors
/// It is no regular file, is longer, or cannot be read.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    // Files of the kernel have a length of zero and contents all the same: what comes is counted.
    let failed = |e| Error::io("a file cannot be read", path, e);
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 <= most {
        return Ok(bytes);
    }
    Err(Error::input("a file is too long to be read")
        .path(path)
        .expected(format!("at most {most} bytes"))
        .found("more")
        .remedy("check that this is the file you mean"))
}

/// The same; none where there is no file.
///
/// # Errors
/// See [`read`].
pub(crate) fn read_if_there(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    match path.metadata() {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        _ => read(path, most).map(Some),
    }
}

/// The text of a file of at most `most` bytes.
///
/// # Errors
/// See [`read`]; or the bytes are not UTF-8.
pub(crate) fn read_text(path: &Path, most: u64) -> Result<String> {
    String::from_utf8(read(path, most)?).map_err(|e| {
        Error::input("a file is no text")
            .path(path)
            .expected("UTF-8")
            .found(format!("other bytes at byte {}", e.utf8_error().valid_up_to()))
            .remedy("check that this is the file you mean")
    })
}

/// The real path of a file or folder that is there, or will be, as text; `what` names it in the error.
///
/// # Errors
/// The path is not UTF-8: neither the manifest nor a trainer's file could name it.
pub(crate) fn utf8_path(path: &Path, what: &str) -> Result<PathBuf> {
    let whole = std::path::absolute(path).map_err(|e| Error::io("a path cannot be made absolute", path, e))?;
    let known = whole.ancestors().find_map(|above| Some((above.canonicalize().ok()?, above)));
    let real = known.map_or_else(
        || whole.clone(),
        |(real, above)| match whole.strip_prefix(above) {
            Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
            _ => real,
        },
    );
    if real.to_str().is_some() {
        return Ok(real);
    }
    Err(Error::input(format!("the path of {what} is not UTF-8"))
        .path(path)
        .expected("a path in UTF-8, which records can hold")
        .found(format!("{real:?}"))
        .remedy("rename the file or folder, or name it through a link with another name in another folder"))
}

/// A path as inputs are named.
///
/// # Errors
/// It is not UTF-8.
pub(crate) fn text_of(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Error::input("the path is not UTF-8")
            .path(path)
            .expected("a path in UTF-8")
            .found(format!("{path:?}"))
            .remedy("rename the file or folder")
    })
}

fn refuse_irregular(path: &Path, meta: &Metadata) -> Result<()> {
    let kind = meta.file_type();
    if kind.is_file() {
        return Ok(());
    }
    let found = if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(Error::input("not a regular file")
        .path(path)
        .expected("a file on a disk")
        .found(found)
        .remedy("write the data to a file, and name that"))
}

/// The flag with which opening and reading never wait.
fn without_waiting() -> i32 {
    #[cfg(target_os = "linux")]
    {
        rustix::fs::OFlags::NONBLOCK.bits() as i32
    }
    #[cfg(not(target_os = "linux"))]
    {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_refused_by_its_kind() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let _listener = UnixListener::bind(&socket).unwrap();
        let cases = [(folder.path(), "a folder"), (socket.as_path(), "a socket"), (Path::new("/dev/zero"), "a device")];
        for (path, word) in cases {
            let error = open(path).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn reads_end_at_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert_eq!(read_if_there(&path, 3).unwrap(), None);
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(read_text(&path, 3).unwrap(), "abc");
        assert!(read(&path, 2).unwrap_err().to_string().contains("at most 2 bytes"));
        std::fs::write(&path, b"ab\xff").unwrap();
        assert!(read_text(&path, 3).unwrap_err().to_string().contains("at byte 2"));
        // A file of the kernel, whose length is 0.
        assert!(!read(Path::new("/proc/self/status"), 1 << 20).unwrap().is_empty());
        assert!(read(Path::new("/proc/self/status"), 10).is_err());
    }

    #[test]
    fn paths_that_are_no_text_are_refused_with_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        assert!(utf8_path(&folder.path().join("new/folder"), "it").is_ok());
        let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"a\xff\nb"));
        let text = utf8_path(&odd.join("new"), "the run folder").unwrap_err().to_string();
        assert!(text.contains("the run folder") && text.contains("a\\xFF\\nb"), "{text}");
        std::fs::create_dir(&odd).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&odd, &link).unwrap();
        assert!(utf8_path(&link.join("new"), "it").is_err());
    }
}
