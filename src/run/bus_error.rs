//! A mapped file that becomes shorter while it is read: the kernel sends SIGBUS, and the process ends with a message
//! that names the file.
//!
//! The handler finds the file in `/proc/self/maps`, so it knows every map, also those that other packages made.
//! Nothing is lost by the end of the process: a job goes on from its finished parts.

#[cfg(target_os = "linux")]
pub(crate) use linux::install;

/// Elsewhere the signal keeps its own effect.
#[cfg(not(target_os = "linux"))]
pub(crate) fn install() {}

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::MapsLine;

    /// Exit code of what fails at run time.
    const RUNTIME: libc::c_int = 1;

    /// Installs the handler for the process.
    pub(crate) fn install() {
        // SAFETY: All-zero bytes are a valid `sigaction`: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_bus_error as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: `action` is whole, and the handler has the signature that SA_SIGINFO asks for. A failure leaves the
        // signal's own effect, which is no worse than before.
        unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) };
    }

    /// Writes the message and ends the process. Calls nothing but open, read, write and _exit, which signal handlers
    /// may call, and allocates nothing.
    extern "C" fn on_bus_error(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        static MESSAGE_BEGUN: AtomicBool = AtomicBool::new(false);
        while MESSAGE_BEGUN.swap(true, Ordering::Relaxed) {
            // Another thread writes the message, and ends the process.
            // SAFETY: pause takes nothing and only waits.
            unsafe { libc::pause() };
        }
        // SAFETY: The kernel gives a handler with SA_SIGINFO a valid record, of a signal that has an address.
        let address = unsafe { (*info).si_addr() } as usize;
        write(b"error: a mapped file cannot be read: it became shorter while it was read, or its disk failed\n");
        name_file(address);
        write(b"  expected: files that stay as they are while a job or a command reads them\n");
        write(b"  found:    SIGBUS\n");
        write(b"  remedy:   restore the file and run the same command again: finished parts are kept\n");
        // SAFETY: _exit takes any code and does not return.
        unsafe { libc::_exit(RUNTIME) };
    }

    fn name_file(address: usize) {
        // SAFETY: The path ends with a zero byte.
        let maps = unsafe { libc::open(c"/proc/self/maps".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
        let mut line = MapsLine::new();
        let mut buffer = [0u8; 1024];
        loop {
            // SAFETY: The buffer has as many bytes as are asked for; a bad descriptor gives -1.
            let count = unsafe { libc::read(maps, buffer.as_mut_ptr().cast(), buffer.len()) };
            let Some(bytes) = usize::try_from(count).ok().filter(|count| *count > 0) else { return };
            for byte in &buffer[..bytes] {
                if let Some(path) = line.take(*byte, address) {
                    write(b"  where:    ");
                    write(path);
                    write(b"\n");
                    return;
                }
            }
        }
    }

    fn write(bytes: &[u8]) {
        // SAFETY: The pointer and the length are those of a slice. What cannot be written is lost: there is no other
        // way to say it.
        unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
    }
}

/// Longest line of the table of maps: addresses and the longest path.
#[cfg(any(target_os = "linux", test))]
const LINE_BYTES: usize = 4096 + 128;

/// A line of the table of maps, which comes byte by byte.
#[cfg(any(target_os = "linux", test))]
struct MapsLine {
    bytes: [u8; LINE_BYTES],
    length: usize,
}

#[cfg(any(target_os = "linux", test))]
impl MapsLine {
    fn new() -> MapsLine {
        MapsLine { bytes: [0; LINE_BYTES], length: 0 }
    }

    /// Takes the next byte; at the end of the line of the map that has the address, its path.
    fn take(&mut self, byte: u8, address: usize) -> Option<&[u8]> {
        if byte != b'\n' {
            if let Some(slot) = self.bytes.get_mut(self.length) {
                *slot = byte;
                self.length += 1;
            }
            return None;
        }
        let line = &self.bytes[..std::mem::take(&mut self.length)];
        let mut fields = line.splitn(2, |byte| *byte == b' ');
        let mut range = fields.next()?.splitn(2, |byte| *byte == b'-').map(hexadecimal);
        let (start, end) = (range.next()??, range.next()??);
        let path = line.iter().position(|byte| *byte == b'/').map(|at| &line[at..]);
        path.filter(|_| (start..end).contains(&address))
    }
}

#[cfg(any(target_os = "linux", test))]
fn hexadecimal(digits: &[u8]) -> Option<usize> {
    digits
        .iter()
        .try_fold(0usize, |value, digit| value.checked_mul(16)?.checked_add(char::from(*digit).to_digit(16)? as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_that_of_the_map_with_the_address() {
        let maps = "55d0a000-55d0b000 r--p 00000000 fe:00 12    /bin/one\n7f00-7f80 rw-p 00000000 00:00 0 \n\
                    7f80-8000 r--s 00000000 fe:00 77                 /a folder/b\\012c (deleted)\nffff-x\n\n";
        let found = |address| {
            let mut line = MapsLine::new();
            maps.bytes()
                .find_map(|byte| line.take(byte, address).map(|path| String::from_utf8_lossy(path).into_owned()))
        };
        assert_eq!(found(0x7f80).as_deref(), Some("/a folder/b\\012c (deleted)"));
        assert_eq!(found(0x7fff).as_deref(), Some("/a folder/b\\012c (deleted)"));
        assert_eq!(found(0x55d0_a001).as_deref(), Some("/bin/one"));
        for address in [0x7f00, 0x8000, 0, 0x55d0_b000] {
            assert_eq!(found(address), None, "{address:x}");
        }
    }

    #[test]
    fn a_line_of_any_length_is_taken() {
        let mut line = MapsLine::new();
        let long = format!("10-20 r {}\n", "/".repeat(3 * LINE_BYTES));
        let paths = long.bytes().filter_map(|byte| line.take(byte, 0x11).map(<[u8]>::len)).collect::<Vec<_>>();
        assert_eq!(paths, [LINE_BYTES - "10-20 r ".len()]);
    }
}
