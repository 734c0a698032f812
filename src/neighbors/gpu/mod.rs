//! The search on GPUs: worker processes, one for each device, search tiles; their answers are made exact here.
//!
//! A worker is this executable started once more; it loads a plugin that uses the device ([`plugin`]). The base lies
//! in a file that the workers map ([`base`]), tiles of queries and their answers lie in shared memory ([`shared`]),
//! requests and replies go over pipes ([`protocol`]). A crash, a device that is lost or hangs, or too little device
//! memory therefore costs one tile: it is searched in quarters, then by the CPU ([`segment`]), and the job goes on.
//!
//! Memory: the slots of the devices ([`layout`]), and the candidates of every query of a segment. What CUDA takes
//! in the workers is not counted.

mod base;
mod device;
mod judge;
pub(crate) mod layout;
mod plugin;
pub(crate) mod process;
mod protocol;
mod rounding;
mod segment;
mod shared;
pub(crate) mod worker;

pub(crate) use base::{DeviceBase, GPU_BASE};
pub(crate) use segment::GpuSearch;

use std::path::Path;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};

use super::answers::SPARE;
use crate::config::{Backend, Config, KernelPrecision, Method, Metric};
use crate::error::{Error, Result};
use crate::run::{Run, Stage, StageRun};
use crate::vectors::{Shape, StoreType, Vectors};
use crate::watch::Watch;
use base::DeviceBaseWriter;
use device::DeviceHandle;
use layout::{LayoutInput, Resident, TileLayout};
use process::Worker;
use protocol::{Device, Reply, Request};

/// File name of the base in the run folder.
pub(crate) const BASE: &str = "base.gpu";

/// What the budget gives a search on GPUs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GpuRoom {
    /// Queries of a block.
    pub block_rows: usize,
    /// Memory for the slots of all devices together.
    pub shared_bytes: usize,
}

/// Devices that answered, and how they will search.
#[derive(Debug)]
pub(crate) struct Gpus {
    devices: Vec<Device>,
    layout: TileLayout,
    precision: StoreType,
    k: usize,
}

/// Looks for devices, where the settings ask for them or allow them; the log says what was found. `task_rows`: rows of
/// the largest task. `None`: the CPU searches.
///
/// # Errors
/// `--backend faiss-gpu` was asked for, and no device answers; or the watch stops the job.
pub(crate) fn find(
    config: &Config,
    room: GpuRoom,
    shape: Shape,
    task_rows: usize,
    watch: Watch<'_>,
) -> Result<Option<Gpus>> {
    let asked = config.backend == Backend::FaissGpu;
    let Some(plugin) = config.gpu.plugin.as_deref().filter(|_| asked || config.backend == Backend::Auto) else {
        if config.backend == Backend::Auto {
            tracing::debug!("the CPU searches: there is no GPU plugin");
        }
        return Ok(None);
    };
    let k = config.most_ranks() as usize + SPARE;
    let on_cpu = |why: String| {
        tracing::info!("the CPU searches, though there is a GPU plugin: {why}");
        Ok(None)
    };
    if config.method != Method::Exact {
        return on_cpu("approximate search is the CPU's".into());
    }
    if k > plugin::RANKS_MAX {
        let most = plugin::RANKS_MAX - SPARE;
        return on_cpu(format!("--skip + --window is {}, and GPUs search up to {most}", k - SPARE));
    }
    let devices = match devices(plugin, config.gpu.patience(), watch)? {
        Ok((about, devices)) if !devices.is_empty() => {
            tracing::info!("{} with {about}", described(&devices));
            devices
        }
        other => {
            let why = other.err().unwrap_or_else(|| "there is no device".into());
            return if asked { Err(no_device(plugin, &why)) } else { on_cpu(why) };
        }
    };
    let precision = if config.precision == KernelPrecision::F32 { StoreType::F32 } else { StoreType::F16 };
    let free: Vec<u64> = devices.iter().map(|device| device.free_bytes).collect();
    let input = LayoutInput {
        task_rows,
        rows: shape.rows as usize,
        row_bytes: shape.dim * precision.bytes(),
        k: k.min(task_rows),
        block_rows: room.block_rows,
        free_bytes: &free,
        shared_bytes: room.shared_bytes,
    };
    match TileLayout::new(input) {
        Some(layout) => Ok(Some(Gpus { devices, layout, precision, k })),
        None => {
            let tiles = HumanBytes(room.shared_bytes as u64);
            let found = format!("{}; {tiles} of --memory for tiles of queries", described(&devices));
            if asked { Err(too_small(&found)) } else { on_cpu(format!("its tiles are too small: {found}")) }
        }
    }
}

fn too_small(found: &str) -> Error {
    Error::runtime("there is too little memory for a search on GPUs")
        .expected(format!("room for {} base rows on each device, and for a few queries here", layout::BASE_ROWS_MIN))
        .found(found)
        .remedy("free the device, leave it out by CUDA_VISIBLE_DEVICES, raise --memory, or mine with --backend cpu")
}

/// The plugin's library and its devices; or why there are none.
type Found = Result<(String, Vec<Device>), String>;

fn devices(plugin: &Path, patience: Duration, watch: Watch<'_>) -> Result<Found> {
    let mut worker = match Worker::start(plugin) {
        Ok(worker) => worker,
        Err(fault) => return Ok(Err(fault.to_string())),
    };
    Ok(match worker.call(&Request::Devices, patience, watch)? {
        Ok(Reply::Devices { devices, silent, .. }) if devices.is_empty() && !silent.is_empty() => {
            Err(silent.join("; "))
        }
        Ok(Reply::Devices { about, devices, silent }) => {
            for text in silent {
                tracing::warn!("a device is left out, for it does not answer (see nvidia-smi): {text}");
            }
            let (kept, small) = split_by_free_memory(devices);
            for device in small {
                tracing::warn!(
                    "a device is left out, for another has more than four times its free memory (free some, or choose \
                     by CUDA_VISIBLE_DEVICES): {}",
                    described(&[device])
                );
            }
            Ok((about, kept))
        }
        Ok(_) => Err("the GPU worker's reply does not list devices".into()),
        Err(fault) => Err(fault.to_string()),
    })
}

/// Devices that are used, and those with so little free memory that they would make all tiles small.
fn split_by_free_memory(devices: Vec<Device>) -> (Vec<Device>, Vec<Device>) {
    let most = devices.iter().map(|device| device.free_bytes).max().unwrap_or(0);
    devices.into_iter().partition(|device| device.free_bytes >= most / 4)
}

fn no_device(plugin: &Path, why: &str) -> Error {
    Error::runtime("no GPU answers")
        .path(plugin)
        .expected("a plugin that loads here, and a device (nvidia-smi lists them)")
        .found(why)
        .remedy("see docs/gpu.md, or mine with --backend cpu")
}

/// Names and memory of devices, for a person.
fn described(devices: &[Device]) -> String {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let one = |device: &Device| {
        format!("{} ({:.1} of {:.1} GiB free)", device.name, gib(device.free_bytes), gib(device.total_bytes))
    };
    devices.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl Gpus {
    /// How the search is cut into tiles and what is copied, for a person.
    pub(crate) fn describe(&self) -> String {
        let TileLayout { base_rows, query_rows, base_tiles, resident, moved_bytes, other_bytes } = self.layout;
        let width = if self.precision == StoreType::F16 { "f16" } else { "f32" };
        let stays = match resident {
            Resident::Base if base_tiles <= self.devices.len() => "base tiles stay on the device, queries stream",
            Resident::Base => "a base tile stays on the device while the queries of a block stream",
            Resident::Queries => "the queries of a block stay on the device while base tiles stream",
        };
        let bytes = |bytes: u128| HumanBytes(u64::try_from(bytes).unwrap_or(u64::MAX)).to_string();
        let other = if other_bytes > moved_bytes {
            format!(" (the other way round {})", bytes(other_bytes))
        } else {
            String::new()
        };
        format!(
            "{}: base of {base_tiles} x {} rows in {width}, {} queries at a time; {stays}: {} copied to devices{other}",
            described(&self.devices),
            HumanCount(base_rows as u64),
            HumanCount(query_rows as u64),
            bytes(moved_bytes),
        )
    }

    /// Writes the base, or opens the one that an earlier session wrote, and prepares the devices.
    ///
    /// # Errors
    /// The disk fails, memory is missing, the threads cannot be started, or the user interrupts.
    pub(crate) fn begin(
        self,
        run: &Run,
        stage: &StageRun<'_>,
        vectors: &Vectors,
        config: &Config,
    ) -> Result<GpuSearch> {
        let base = self.base(run, stage, vectors, config.metric)?;
        tracing::info!("GPU search: {}", self.describe());
        let slot_bytes = self
            .layout
            .slot_bytes(base.width() * base.dim(), self.k)
            .ok_or_else(|| too_small(&format!("tiles of {} queries, whose bytes overflow", self.layout.query_rows)))?;
        let plugin = config.gpu.plugin.clone().unwrap_or_default();
        let path = run.part(Stage::Neighbors, BASE)?;
        let handle =
            |device: &Device| DeviceHandle::new(device.clone(), &plugin, &path, slot_bytes, config.gpu.patience());
        let handles = self.devices.iter().map(handle).collect::<Result<Vec<DeviceHandle>>>()?;
        // The threads that wait for devices are not those of the job's pool; what they compute needs a pool as large.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(config.threads).build().map_err(|e| {
            Error::runtime("the threads of the GPU search cannot be started")
                .expected(format!("{} threads", config.threads))
                .found(e.to_string())
                .remedy("lower --threads, or raise the limit of processes and threads")
        })?;
        Ok(GpuSearch::new(base, self.layout, handles, config.metric, pool))
    }

    fn base(&self, run: &Run, stage: &StageRun<'_>, vectors: &Vectors, metric: Metric) -> Result<DeviceBase> {
        let open = || DeviceBase::open(&run.part(Stage::Neighbors, BASE)?);
        // The base of an earlier session may hold other numbers.
        let fits = |base: &DeviceBase| base.width() == self.precision.bytes();
        let old = run.has(Stage::Neighbors, BASE).then(open).transpose()?.filter(fits);
        if let Some(base) = old {
            return Ok(base);
        }
        let (store, scales) = (&vectors.positives, vectors.rows.positive_scales());
        let writer = DeviceBaseWriter { store, scales, metric, precision: self.precision };
        let part = stage.scattered(BASE, writer.file_bytes())?;
        writer.write(&part, Watch::new(&|_| run.check_interrupt()))?;
        stage.publish(vec![part])?;
        open()
    }
}
