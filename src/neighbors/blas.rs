//! Which BLAS stands behind FAISS in this process, and how many threads the two take.
//!
//! FAISS multiplies matrices with whatever `libblas.so.3` the dynamic linker finds when the program
//! starts: OpenBLAS on one machine, the plain reference on the next, many times slower. So the
//! running process is asked, through OpenBLAS's own functions, and anything else is refused.
//!
//! Both would start threads of their own: OpenBLAS a pool of one for each core, FAISS's OpenMP another.
//! They are told to stay on the thread that calls them; the callers are as many as `--threads` says.

use std::ffi::{CStr, c_char, c_int};
use std::sync::LazyLock;

use libloading::os::unix::Library;

use crate::error::{Error, Result};

// SAFETY: the declaration is that of OpenMP 2.5 and later; it takes any number. FAISS links its library.
unsafe extern "C" {
    safe fn omp_set_num_threads(threads: c_int);
}

type SetThreads = extern "C" fn(c_int);
type GetConfig = extern "C" fn() -> *const c_char;

/// Asked once.
static BLAS: LazyLock<Blas> = LazyLock::new(Blas::of_this_process);

#[derive(Debug)]
struct Blas {
    /// What OpenBLAS says of itself; `None`: it is not there.
    openblas: Option<String>,
    /// The library whose matrix product FAISS calls, where the system says so.
    library: Option<String>,
}

impl Blas {
    /// Asks the process's own symbols, and takes OpenBLAS's threads away from it.
    fn of_this_process() -> Blas {
        let process = Library::this();
        // SAFETY: the types are those of OpenBLAS's cblas.h; the product is not called, only its place is asked.
        let (threads, config, product) = unsafe {
            (
                process.get::<SetThreads>(b"openblas_set_num_threads\0"),
                process.get::<GetConfig>(b"openblas_get_config\0"),
                process.get::<extern "C" fn()>(b"sgemm_\0"),
            )
        };
        let openblas = threads.ok().zip(config.ok()).map(|(set_threads, config)| {
            set_threads(1);
            // SAFETY: OpenBLAS gives a C string that lives as long as the library, which is never unloaded.
            let text = unsafe { CStr::from_ptr(config()) };
            text.to_string_lossy().trim().to_owned()
        });
        Blas { openblas, library: product.ok().and_then(|product| library_at(*product as usize)) }
    }

    /// FAISS's matrix product is OpenBLAS's. OpenBLAS can be there for other libraries alone.
    fn is_openblas(&self) -> bool {
        self.openblas.is_some() && self.library.as_ref().is_none_or(|path| path.contains("openblas"))
    }

    fn describe(&self) -> String {
        let name = self.openblas.as_deref().filter(|_| self.is_openblas()).unwrap_or("another BLAS than OpenBLAS");
        format!("{name}, {}", self.library.as_deref().unwrap_or("in a file unknown"))
    }

    fn check(&self) -> Result<()> {
        if self.is_openblas() {
            return Ok(());
        }
        Err(Error::input("FAISS would run on a BLAS that is many times slower than it should be")
            .expected("libblas.so.3 of OpenBLAS")
            .found(self.describe())
            .remedy(
                "apt-get install libopenblas0-pthread (where another one is chosen: update-alternatives --config \
                 libblas.so.3-$(uname -m)-linux-gnu), or mine with --backend cpu, which needs none",
            ))
    }
}

/// The BLAS of this process: what it says of itself, and its file.
pub(crate) fn describe() -> String {
    BLAS.describe()
}

/// Makes FAISS and its BLAS work on the calling thread, from now on whenever it calls them.
///
/// # Errors
/// The BLAS is not OpenBLAS.
pub(crate) fn stay_on_this_thread() -> Result<()> {
    omp_set_num_threads(1); // counts for the calling thread alone
    BLAS.check()
}

/// The mapped file that holds an address.
fn library_at(address: usize) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        let inside = (number(start)?..number(end)?).contains(&address);
        rest.find('/').filter(|_| inside).map(|at| rest[at..].to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faiss_runs_on_openblas() {
        assert!(stay_on_this_thread().is_ok(), "{}", describe());
        assert!(describe().starts_with("OpenBLAS ") && describe().contains(", /"), "{}", describe());
    }

    #[test]
    fn faiss_refuses_the_reference_blas() {
        for openblas in [None, Some("OpenBLAS 0.3".to_owned())] {
            let reference = Blas { openblas, library: Some("/usr/lib/blas/libblas.so.3".into()) };
            let error = reference.check().unwrap_err().to_string();
            assert!(error.contains("/usr/lib/blas/libblas.so.3") && error.contains("libopenblas0-pthread"), "{error}");
        }
    }
}
