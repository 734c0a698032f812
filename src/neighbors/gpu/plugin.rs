//! The plugin's C interface (`plugin/batchmine_gpu.h`), loaded at run time. Only a worker process loads a plugin: the
//! libraries behind it may end the process.

use std::error::Error as _;
use std::ffi::{CStr, c_char, c_void};
use std::path::Path;
use std::ptr::null_mut;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};

use super::protocol::{Device, Failure};

/// Version of the interface that this build uses.
const VERSION: u32 = 1;
/// Largest k of a search.
pub(crate) const RANKS_MAX: usize = 2048;

const TEXT_BYTES: usize = 1024;
/// More devices than this are a wrong count.
const DEVICES_MAX: u32 = 4096;
const OUT_OF_MEMORY: i32 = 1;

/// `batchmine_gpu_tile`.
#[repr(C)]
struct RawTile {
    values: *const c_void,
    rows: u64,
    tag: u64,
}

// The interface's functions. SAFETY, for all of them: a caller must pass pointers to live memory of the sizes that go
// with them, and an open session; each call says why that holds.
type VersionFn = unsafe extern "C" fn() -> u32;
type AboutFn = unsafe extern "C" fn() -> *const c_char;
type CountFn = unsafe extern "C" fn(*mut u32, *mut c_char, usize) -> i32;
type DescribeFn = unsafe extern "C" fn(u32, *mut c_char, usize, *mut u64, *mut u64, *mut c_char, usize) -> i32;
type OpenFn = unsafe extern "C" fn(u32, u32, u32, *mut *mut c_void, *mut c_char, usize) -> i32;
// SAFETY: as above.
type SearchFn = unsafe extern "C" fn(
    *mut c_void,
    *const RawTile,
    *const RawTile,
    u32,
    *mut f32,
    *mut u32,
    *mut c_char,
    usize,
) -> i32;
// SAFETY: as above.
type CloseFn = unsafe extern "C" fn(*mut c_void);

#[derive(Debug)]
pub(crate) struct Plugin {
    about: Symbol<AboutFn>,
    count: Symbol<CountFn>,
    describe: Symbol<DescribeFn>,
    open: Symbol<OpenFn>,
    search: Symbol<SearchFn>,
    close: Symbol<CloseFn>,
    _library: Library,
}

impl Plugin {
    /// Loads a plugin and checks its version.
    ///
    /// # Errors
    /// It cannot be loaded, lacks a function, or has another version of the interface.
    pub(crate) fn load(path: &Path) -> Result<Plugin, Failure> {
        let failed = |e: libloading::Error| {
            // The source says more, such as which library is missing.
            let why = e.source().map(|source| format!(": {source}")).unwrap_or_default();
            Failure::other(format!("the plugin cannot be loaded: {e}{why}"))
        };
        // SAFETY: loading runs the initialisers of the plugin and of CUDA's libraries. The user named the file. If they
        // end this process, nothing is lost: it holds only tiles, which its parent can search again.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(failed)?;
        // SAFETY: the type is that of `batchmine_gpu_version`, which no version of the interface changes.
        let version = unsafe { library.get::<VersionFn>(b"batchmine_gpu_version\0") }.map_err(failed)?;
        // SAFETY: as above; the function has no parameters.
        let found = unsafe { version() };
        if found != VERSION {
            return Err(Failure::other(format!(
                "the plugin has version {found} of the interface, this batchmine needs {VERSION}: build the plugin anew"
            )));
        }
        // SAFETY: the types are those of `batchmine_gpu.h` in the version that was just checked.
        unsafe {
            Ok(Plugin {
                about: library.get(b"batchmine_gpu_about\0").map_err(failed)?,
                count: library.get(b"batchmine_gpu_count\0").map_err(failed)?,
                describe: library.get(b"batchmine_gpu_describe\0").map_err(failed)?,
                open: library.get(b"batchmine_gpu_open\0").map_err(failed)?,
                search: library.get(b"batchmine_gpu_search\0").map_err(failed)?,
                close: library.get(b"batchmine_gpu_close\0").map_err(failed)?,
                _library: library,
            })
        }
    }

    /// Name and version of the library that searches.
    pub(crate) fn about(&self) -> String {
        // SAFETY: the function has no parameters.
        let text = unsafe { (self.about)() };
        if text.is_null() {
            return "a library without a name".into();
        }
        // SAFETY: the interface promises a C string that lives as long as the plugin, and it is not null.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }

    /// All devices that answer, and why others do not.
    ///
    /// # Errors
    /// There is no driver, or the count is impossible.
    pub(crate) fn devices(&self) -> Result<(Vec<Device>, Vec<String>), Failure> {
        let (mut count, mut text) = (0, Text::new());
        // SAFETY: both pointers are to live variables, and the text has TEXT_BYTES bytes.
        let code = unsafe { (self.count)(&raw mut count, text.pointer(), TEXT_BYTES) };
        text.check(code)?;
        if count > DEVICES_MAX {
            return Err(Failure::other(format!("the plugin counts {count} devices, more than {DEVICES_MAX}")));
        }
        let (mut devices, mut silent) = (Vec::new(), Vec::new());
        for number in 0..count {
            match self.describe(number) {
                Ok(device) => devices.push(device),
                Err(failure) => silent.push(format!("GPU {number}: {}", failure.text)),
            }
        }
        Ok((devices, silent))
    }

    fn describe(&self, number: u32) -> Result<Device, Failure> {
        let (mut name, mut text) = (Text::new(), Text::new());
        let (mut free_bytes, mut total_bytes) = (0, 0);
        // SAFETY: all pointers are to live variables, and both texts have TEXT_BYTES bytes.
        let code = unsafe {
            (self.describe)(
                number,
                name.pointer(),
                TEXT_BYTES,
                &raw mut free_bytes,
                &raw mut total_bytes,
                text.pointer(),
                TEXT_BYTES,
            )
        };
        text.check(code)?;
        Ok(Device { number, name: name.read(), free_bytes, total_bytes })
    }

    /// Begins to work on a device with rows of `dim` values of `width` bytes.
    ///
    /// # Errors
    /// The device does not answer, or the plugin opens nothing.
    pub(crate) fn open(&self, device: u32, width: usize, dim: usize) -> Result<Session<'_>, Failure> {
        let (mut pointer, mut text) = (null_mut(), Text::new());
        // SAFETY: both pointers are to live variables, and the text has TEXT_BYTES bytes.
        let code =
            unsafe { (self.open)(device, width as u32, dim as u32, &raw mut pointer, text.pointer(), TEXT_BYTES) };
        text.check(code)?;
        if pointer.is_null() {
            return Err(Failure::other("the plugin opened a device without a session".into()));
        }
        Ok(Session { plugin: self, pointer, row_bytes: width * dim })
    }
}

/// Rows, and a tag that names them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeviceTile<'a> {
    /// Whole rows of the session's width.
    pub values: &'a [u8],
    /// Tiles with the same tag have the same values.
    pub tag: u64,
}

#[derive(Debug)]
pub(crate) struct Session<'a> {
    plugin: &'a Plugin,
    pointer: *mut c_void,
    row_bytes: usize,
}

impl Session<'_> {
    /// For each query its k best base rows: `scores`, and `places`, the rows' numbers within the base tile.
    ///
    /// # Errors
    /// The device has too little memory, or fails.
    pub(crate) fn search(
        &mut self,
        base: DeviceTile<'_>,
        queries: DeviceTile<'_>,
        k: usize,
        scores: &mut [f32],
        places: &mut [u32],
    ) -> Result<(), Failure> {
        let rows = |tile: &DeviceTile<'_>| tile.values.len() / self.row_bytes;
        let answers = rows(&queries).checked_mul(k);
        let fits = answers == Some(scores.len()) && answers == Some(places.len());
        if k == 0 || k > RANKS_MAX.min(rows(&base)) || !fits {
            return Err(Failure::other(format!(
                "a search for the best {k} rows (1 to {RANKS_MAX}) of a tile of {} rows is impossible",
                rows(&base)
            )));
        }
        let raw = |tile: &DeviceTile<'_>| RawTile {
            values: tile.values.as_ptr().cast(),
            rows: rows(tile) as u64,
            tag: tile.tag,
        };
        let (base, queries, mut text) = (raw(&base), raw(&queries), Text::new());
        // SAFETY: the session is open. Each tile has its `rows` whole rows, which the plugin only reads.
        // Scores and places have rows · k elements, as was just checked, and the text has TEXT_BYTES bytes.
        let code = unsafe {
            (self.plugin.search)(
                self.pointer,
                &raw const base,
                &raw const queries,
                k as u32,
                scores.as_mut_ptr(),
                places.as_mut_ptr(),
                text.pointer(),
                TEXT_BYTES,
            )
        };
        text.check(code)
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // SAFETY: this plugin opened the session, and nothing uses it afterwards.
        unsafe { (self.plugin.close)(self.pointer) }
    }
}

/// A buffer that the plugin writes a C string to.
struct Text([u8; TEXT_BYTES]);

impl Text {
    fn new() -> Text {
        Text([0; TEXT_BYTES])
    }

    fn pointer(&mut self) -> *mut c_char {
        self.0.as_mut_ptr().cast()
    }

    fn read(&self) -> String {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(TEXT_BYTES);
        String::from_utf8_lossy(&self.0[..end]).trim().to_owned()
    }

    fn check(&self, code: i32) -> Result<(), Failure> {
        match code {
            0 => Ok(()),
            code => Err(Failure { out_of_memory: code == OUT_OF_MEMORY, text: self.read() }),
        }
    }
}
