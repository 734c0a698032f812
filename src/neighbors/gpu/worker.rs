//! The worker process: loads the plugin, answers requests, ends when its parent does.
//!
//! Memory: what CUDA takes, and the plugin's buffers; base and tiles are mapped.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};
use memmap2::MmapMut;

use super::base::DeviceBase;
use super::plugin::{DeviceTile, Plugin, Session};
use super::protocol::{Failure, Reply, Request, SearchRequest, SlotLayout};
use super::shared;
use crate::error::{Error, Result};

/// Time that a running call has after the parent has ended.
const LAST_CALL: Duration = Duration::from_secs(3);

/// Answers requests until standard input ends.
///
/// # Errors
/// Standard output cannot be written: the parent is gone.
pub(crate) fn run(plugin: &Path) -> Result<()> {
    let requests = requests();
    let plugin = match Plugin::load(plugin) {
        Ok(plugin) => plugin,
        Err(failure) => {
            // Every request has this answer.
            return requests.iter().try_for_each(|_| answer(&Reply::Failed(failure.clone())));
        }
    };
    let mut state = None;
    for request in requests {
        let done = match request {
            Request::Devices => {
                plugin.devices().map(|(devices, silent)| Reply::Devices { about: plugin.about(), devices, silent })
            }
            Request::Open { device, base, memory } => WorkerState::new(&plugin, device, &base, &memory).map(|new| {
                state = Some(new);
                Reply::Done
            }),
            Request::Search(search) => match &mut state {
                Some(state) => state.search(&search).map(|()| Reply::Done),
                None => Err(Failure::other("a search was requested before a device was opened".into())),
            },
        };
        answer(&done.unwrap_or_else(Reply::Failed))?;
    }
    Ok(())
}

/// Reads requests on a thread of its own: when the parent is gone, the process ends even while a device hangs. It has
/// [`LAST_CALL`] to return from `main`; after that it is killed, because CUDA's exit handlers must not run while a call
/// is under way.
fn requests() -> Receiver<Request> {
    let (send, requests) = bounded(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let request = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            if request.is_none_or(|request| send.send(request).is_err()) {
                break;
            }
        }
        drop(send);
        std::thread::sleep(LAST_CALL);
        end();
    });
    requests
}

/// Ends the process at once.
fn end() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // Elsewhere there is no device to hang.
    #[cfg(not(target_os = "linux"))]
    std::process::exit(0);
}

fn answer(reply: &Reply) -> Result<()> {
    let line = serde_json::to_string(reply);
    let mut line = line.map_err(|e| Error::runtime("a reply cannot be written as JSON").found(e.to_string()))?;
    line.push('\n');
    let mut out = std::io::stdout().lock();
    let written = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    written.map_err(|e| Error::runtime("the job of this worker is gone").found(e.to_string()))
}

/// An open device, the base, and the shared memory.
struct WorkerState<'p> {
    session: Session<'p>,
    base: DeviceBase,
    memory: MmapMut,
}

impl<'p> WorkerState<'p> {
    fn new(plugin: &'p Plugin, device: u32, base: &Path, memory: &Path) -> Result<WorkerState<'p>, Failure> {
        let failed = |e: Error| Failure::other(e.to_string());
        let (base, memory) = (DeviceBase::open(base).map_err(failed)?, shared::open(memory).map_err(failed)?);
        Ok(WorkerState { session: plugin.open(device, base.width(), base.dim())?, base, memory })
    }

    fn search(&mut self, search: &SearchRequest) -> Result<(), Failure> {
        let outside = || Failure::other("a requested tile lies outside the shared memory or the base".into());
        let row_bytes = self.base.width() * self.base.dim();
        let slot = SlotLayout::new(search.queries, row_bytes, search.k).ok_or_else(outside)?;
        let rows = search.base_start..search.base_start.saturating_add(search.base_rows);
        let memory = self.memory.get_mut(search.offset..).and_then(|memory| memory.get_mut(..slot.end));
        let aligned = search.offset.is_multiple_of(size_of::<f32>());
        let (Some(memory), Some(values), true) = (memory, self.base.rows(rows), aligned) else {
            return Err(outside());
        };
        // The same rows have the same tag, and no tag is zero.
        let base = DeviceTile { values, tag: ((search.base_start as u64) << 32 | search.base_rows as u64) + 1 };
        let (queries, answers) = memory.split_at_mut(slot.scores);
        let (scores, places) = answers.split_at_mut(slot.places - slot.scores);
        let queries = DeviceTile { values: &queries[..search.queries * row_bytes], tag: search.tag };
        let scores = bytemuck::cast_slice_mut(&mut scores[..search.queries * search.k * 4]);
        self.session.search(base, queries, search.k, scores, bytemuck::cast_slice_mut(places))
    }
}
