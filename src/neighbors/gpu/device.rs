//! A device's seat in a search: its worker, the slots that it shares with it, and what becomes of a worker that
//! breaks.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use memmap2::MmapMut;

use super::layout::SLOTS;
use super::process::{Fault, Worker};
use super::protocol::{Device, Reply, Request, SearchRequest};
use super::shared::Shared;
use crate::error::Result;

/// Workers that a device may use up beyond its first.
const REPLACEMENTS: u32 = 3;

/// A device, its worker and its slots.
#[derive(Debug)]
pub(crate) struct DeviceHandle {
    /// The device.
    pub device: Device,
    worker: Mutex<WorkerSlot>,
    /// Where queries and answers lie; each is used by one thread at a time.
    pub slots: [Mutex<TileSlot>; SLOTS],
    /// The rows, of the side that stays, which the device holds; the empty range at first.
    pub held: Mutex<Range<usize>>,
    memory: Shared,
    plugin: PathBuf,
    base: PathBuf,
    patience: Duration,
    gone: AtomicBool,
}

/// A mapped slot.
#[derive(Debug)]
pub(crate) struct TileSlot {
    /// Its bytes.
    pub bytes: MmapMut,
    /// Where it begins in the shared memory.
    pub offset: usize,
}

/// The worker's post: who holds it, and how many have.
#[derive(Debug, Default)]
struct WorkerSlot {
    worker: Option<Worker>,
    started: u32,
}

impl DeviceHandle {
    /// Reserves the slots; the worker starts when it is first needed.
    ///
    /// # Errors
    /// There is no memory to share.
    pub(crate) fn new(
        device: Device,
        plugin: &Path,
        base: &Path,
        slot_bytes: usize,
        patience: Duration,
    ) -> Result<DeviceHandle> {
        let memory = Shared::new(SLOTS * slot_bytes)?;
        let slot = |number: usize| -> Result<Mutex<TileSlot>> {
            let offset = number * slot_bytes;
            Ok(Mutex::new(TileSlot { bytes: memory.map(offset, slot_bytes)?, offset }))
        };
        let slots = [slot(0)?, slot(1)?];
        let (plugin, base) = (plugin.to_owned(), base.to_owned());
        let (held, gone) = (Mutex::new(0..0), AtomicBool::new(false));
        Ok(DeviceHandle { device, worker: Mutex::default(), slots, held, memory, plugin, base, patience, gone })
    }

    /// Whether the device is still of use.
    pub(crate) fn is_there(&self) -> bool {
        !self.gone.load(Ordering::Relaxed)
    }

    fn post(&self) -> MutexGuard<'_, WorkerSlot> {
        self.worker.lock().expect("no thread panics while it holds a worker")
    }

    /// Searches, with a new worker where there is none; tells which worker it was. The outer error is `look`'s.
    pub(crate) fn search(&self, search: SearchRequest, look: &dyn Fn() -> Result<()>) -> Result<Result<u32, Fault>> {
        let mut post = self.post();
        if !self.is_there() {
            return Ok(Err(Fault::Broken("the device was given up".into())));
        }
        if post.worker.is_none() {
            match self.start(&mut post, look)? {
                Ok(worker) => post.worker = Some(worker),
                Err(fault) => {
                    self.count(&post, &fault);
                    return Ok(Err(fault));
                }
            }
        }
        let number = post.started;
        let Some(worker) = &mut post.worker else { return Ok(Ok(number)) };
        let done = match worker.call(&Request::Search(search), self.patience, look) {
            Ok(done) => done.and_then(expect_done),
            Err(stop) => {
                // Its answer would be taken for the next search's.
                post.worker = None;
                return Err(stop);
            }
        };
        if let Err(fault @ Fault::Broken(_)) = &done {
            post.worker = None;
            self.count(&post, fault);
        }
        Ok(done.map(|()| number))
    }

    /// Ends a worker whose answers cannot be, unless it is gone already.
    pub(crate) fn dismiss(&self, worker: u32, fault: &Fault) {
        let mut post = self.post();
        if post.started == worker && post.worker.take().is_some() {
            self.count(&post, fault);
        }
    }

    fn start(&self, post: &mut WorkerSlot, look: &dyn Fn() -> Result<()>) -> Result<Result<Worker, Fault>> {
        post.started += 1;
        let mut worker = match Worker::start(&self.plugin) {
            Ok(worker) => worker,
            Err(fault) => return Ok(Err(fault)),
        };
        let open = Request::Open { device: self.device.number, base: self.base.clone(), memory: self.memory.path() };
        let opened = worker.call(&open, self.patience, look)?.and_then(expect_done);
        // Smaller tiles are no help with that.
        Ok(opened.map(|()| worker).map_err(|fault| Fault::Broken(format!("at its start: {fault}"))))
    }

    /// Gives the device up where it has used up its workers.
    fn count(&self, post: &WorkerSlot, fault: &Fault) {
        let (number, name) = (self.device.number, &self.device.name);
        if post.started > REPLACEMENTS {
            self.gone.store(true, Ordering::Relaxed);
            tracing::warn!("GPU {number} ({name}): {fault}; it is given up for this run");
        } else {
            tracing::warn!("GPU {number} ({name}): {fault}; a new worker takes over");
        }
    }
}

fn expect_done(reply: Reply) -> Result<(), Fault> {
    match reply {
        Reply::Done => Ok(()),
        other => Err(Fault::Broken(format!("the GPU worker answered {other:?} to a search"))),
    }
}
