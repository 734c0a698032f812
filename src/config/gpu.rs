//! Where the GPU plugin is, and how long a device may take.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Settings;
use crate::error::{Error, Result};

/// Name of the plugin beside the executable.
const PLUGIN: &str = "libbatchmine_gpu.so";
/// Seconds that a device may take for a tile; a worker's start counts as one.
const PATIENCE_SECONDS: u32 = 120;

/// What a search on GPUs needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuRules {
    /// The plugin; `None`: there is none, and nobody looks for a device.
    pub plugin: Option<PathBuf>,
    /// Seconds that a device may take for a tile.
    pub patience_seconds: u32,
}

impl GpuRules {
    pub(super) fn new(settings: &Settings, asked: bool) -> Result<GpuRules> {
        let plugin = settings.gpu_plugin.clone().or_else(beside_the_executable);
        if asked && plugin.as_deref().is_none_or(|plugin| !plugin.is_file()) {
            return Err(Error::input("there is no GPU plugin")
                .expected(format!("--gpu-plugin FILE, BATCHMINE_GPU_PLUGIN, or {PLUGIN} beside the executable"))
                .found(plugin.map_or_else(|| "none of them".into(), |plugin| format!("no file {}", plugin.display())))
                .remedy("build the plugin: docs/gpu.md says how; or mine with --backend cpu"));
        }
        let patience_seconds = settings.gpu_timeout.unwrap_or(PATIENCE_SECONDS);
        if patience_seconds == 0 {
            return Err(Error::input("a GPU has no time at all")
                .expected("--gpu-timeout of at least 1 second")
                .found("--gpu-timeout 0")
                .remedy(format!(
                    "leave --gpu-timeout out: {PATIENCE_SECONDS} seconds do on all but very slow devices"
                )));
        }
        Ok(GpuRules { plugin, patience_seconds })
    }

    /// Time that a device may take for a tile.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.patience_seconds.into())
    }
}

fn beside_the_executable() -> Option<PathBuf> {
    let executable = std::env::current_exe().ok()?;
    let plugin = executable.parent().map(|folder: &Path| folder.join(PLUGIN))?;
    plugin.is_file().then_some(plugin)
}
