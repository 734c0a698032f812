//! One device of a search: its worker, the slots that job and worker share, and how a broken worker is replaced.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use memmap2::MmapMut;

use super::layout::SLOTS;
use super::process::{Fault, Worker};
use super::protocol::{Device, Reply, Request, SearchRequest};
use super::shared::SharedMemory;
use crate::error::Result;
use crate::watch::Watch;

/// Workers that a device may use up beyond its first.
const REPLACEMENTS: u32 = 3;

/// A device, its worker and its slots.
#[derive(Debug)]
pub(crate) struct DeviceHandle {
    pub device: Device,
    worker: Mutex<WorkerSlot>,
    /// Where queries and answers lie; each slot is used by one thread at a time.
    pub slots: [Mutex<TileSlot>; SLOTS],
    /// The rows that the device holds of the side that stays; an empty range at first.
    pub held: Mutex<Range<usize>>,
    memory: SharedMemory,
    plugin: PathBuf,
    base: PathBuf,
    patience: Duration,
    gone: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct TileSlot {
    pub bytes: MmapMut,
    /// Where the slot begins in the shared memory.
    pub offset: usize,
}

/// A device's worker, if one runs, and how many were started so far.
#[derive(Debug, Default)]
struct WorkerSlot {
    worker: Option<Worker>,
    started: u32,
}

impl DeviceHandle {
    /// Reserves the slots; the worker starts when it is first needed.
    ///
    /// # Errors
    /// The memory cannot be reserved.
    pub(crate) fn new(
        device: Device,
        plugin: &Path,
        base: &Path,
        slot_bytes: usize,
        patience: Duration,
    ) -> Result<DeviceHandle> {
        let memory = SharedMemory::new(SLOTS * slot_bytes)?;
        let slot = |number: usize| -> Result<Mutex<TileSlot>> {
            let offset = number * slot_bytes;
            Ok(Mutex::new(TileSlot { bytes: memory.map(offset, slot_bytes)?, offset }))
        };
        let slots = [slot(0)?, slot(1)?];
        let (plugin, base) = (plugin.to_owned(), base.to_owned());
        let (held, gone) = (Mutex::new(0..0), AtomicBool::new(false));
        Ok(DeviceHandle { device, worker: Mutex::default(), slots, held, memory, plugin, base, patience, gone })
    }

    /// Whether the device is still used: not after it lost its last worker.
    pub(crate) fn is_there(&self) -> bool {
        !self.gone.load(Ordering::Relaxed)
    }

    fn worker(&self) -> MutexGuard<'_, WorkerSlot> {
        self.worker.lock().expect("no thread panics while it holds a worker")
    }

    /// Searches, with a new worker where there is none; returns which worker searched. The outer error is the watch's.
    pub(crate) fn search(&self, search: SearchRequest, watch: Watch<'_>) -> Result<Result<u32, Fault>> {
        let mut slot = self.worker();
        if !self.is_there() {
            return Ok(Err(Fault::Broken("the device was given up".into())));
        }
        if slot.worker.is_none() {
            match self.start(&mut slot, watch)? {
                Ok(worker) => slot.worker = Some(worker),
                Err(fault) => {
                    self.count_loss(&slot, &fault);
                    return Ok(Err(fault));
                }
            }
        }
        let number = slot.started;
        let Some(worker) = &mut slot.worker else { return Ok(Ok(number)) };
        let done = match worker.call(&Request::Search(search), self.patience, watch) {
            Ok(done) => done.and_then(expect_done),
            Err(stop) => {
                // The worker still searches: its reply would be taken for the next search's.
                slot.worker = None;
                return Err(stop);
            }
        };
        if let Err(fault @ Fault::Broken(_)) = &done {
            slot.worker = None;
            self.count_loss(&slot, fault);
        }
        Ok(done.map(|()| number))
    }

    /// Ends a worker that gave impossible answers, unless another one has replaced it.
    pub(crate) fn dismiss(&self, worker: u32, fault: &Fault) {
        let mut slot = self.worker();
        if slot.started == worker && slot.worker.take().is_some() {
            self.count_loss(&slot, fault);
        }
    }

    fn start(&self, slot: &mut WorkerSlot, watch: Watch<'_>) -> Result<Result<Worker, Fault>> {
        slot.started += 1;
        let mut worker = match Worker::start(&self.plugin) {
            Ok(worker) => worker,
            Err(fault) => return Ok(Err(fault)),
        };
        let open = Request::Open { device: self.device.number, base: self.base.clone(), memory: self.memory.path() };
        let opened = worker.call(&open, self.patience, watch)?.and_then(expect_done);
        // Any fault counts as broken here, out of memory too: smaller tiles do not avoid it.
        Ok(opened.map(|()| worker).map_err(|fault| Fault::Broken(format!("at its start: {fault}"))))
    }

    /// Logs the loss of a worker; gives the device up where that was the last one.
    fn count_loss(&self, slot: &WorkerSlot, fault: &Fault) {
        let (number, name) = (self.device.number, &self.device.name);
        if slot.started > REPLACEMENTS {
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
        other => Err(Fault::Broken(format!("the GPU worker replied {other:?} to a search"))),
    }
}
