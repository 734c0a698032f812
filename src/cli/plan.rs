//! `batchmine plan`: what a job will cost.

use std::time::Duration;

use clap::Args;
use indicatif::{HumanBytes, HumanCount, HumanDuration};
use serde_json::json;

use super::{Job, log, start_threads};
use crate::config::Config;
use crate::error::Result;
use crate::neighbors::calibrate::operations_per_second;
use crate::neighbors::search::refuse_empty_windows;
use crate::plan::{Cost, Plan as Counts};
use crate::vectors::{Shards, import, refuse_unknown_tasks};

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct Plan {
    #[command(flatten)]
    job: Job,
}

impl Plan {
    /// Prints the plan.
    ///
    /// # Errors
    /// Bad input or settings, or a budget that is too small.
    pub fn run(self, voice: &log::Spoken) -> Result<()> {
        let config = self.job.config()?;
        let shards = Shards::open(&config.inputs, &config.columns)?;
        let rows = shards.shape.rows as usize;
        refuse_empty_windows(config.windows().each().map(|window| (window, rows)))?;
        let plan = Counts::new(&config, shards.shape)?;
        refuse_unknown_tasks(&config, &shards)?;
        start_threads(config.threads)?;
        if voice.json {
            log::print(&as_json(&config, &shards, &plan)?.to_string());
        } else {
            log::print(&describe(&config, &shards, &plan)?);
        }
        Ok(())
    }
}

/// Seconds of an exact search here, from a second of the kernel.
fn search_seconds(config: &Config, shards: &Shards, cost: &Cost) -> f64 {
    cost.operations as f64 / operations_per_second(config.precision, shards.shape.dim, Duration::from_secs(1))
}

/// The cost, and the rows of each task.
fn cost(config: &Config, shards: &Shards) -> Result<(Cost, Vec<u64>)> {
    let tasks = import::task_sizes(shards)?;
    let sides = if shards.roles.shared { 1 } else { 2 };
    let row_bytes: usize =
        shards.precision.iter().take(sides).map(|precision| precision.bytes() * shards.shape.dim).sum();
    Ok((Cost::new(config, shards.shape, row_bytes as u64, &tasks), tasks.into_values().collect()))
}

/// What GPUs would do, where there is a plugin and they answer.
fn gpu(config: &Config, shards: &Shards, plan: &Counts, tasks: &[u64]) -> Result<Option<String>> {
    let largest = tasks.iter().max().map_or(0, |rows| *rows as usize);
    let gpus = crate::neighbors::gpu::find(config, plan, shards.shape, largest, &|| Ok(()))?;
    Ok(gpus.map(|gpus| gpus.describe()))
}

fn as_json(config: &Config, shards: &Shards, plan: &Counts) -> Result<serde_json::Value> {
    let (cost, tasks) = cost(config, shards)?;
    let memory: serde_json::Map<_, _> =
        plan.needs.iter().map(|need| (need.stage.name().to_owned(), need.memory_bytes.into())).collect();
    let disk: serde_json::Map<_, _> =
        cost.disk_bytes.iter().map(|(stage, bytes)| (stage.name().to_owned(), (*bytes).into())).collect();
    Ok(json!({
        "gpu": gpu(config, shards, plan, &tasks)?,
        "rows": shards.shape.rows, "dim": shards.shape.dim, "tasks": tasks.len(), "files": shards.list.len(),
        "input_bytes": shards.input_bytes(), "columns": shards.roles,
        "search_seconds": search_seconds(config, shards, &cost),
        "search_gflop": (cost.operations / 1_000_000_000) as u64,
        "memory_budget_bytes": config.memory_bytes, "memory_bytes": memory, "disk_bytes": disk,
        "spill_bytes": cost.spill_bytes,
        "counts": {
            "block_rows": plan.block_rows, "spill_arcs": plan.spill_arcs,
            "import_batch_rows": plan.import_batch_rows, "row_group_rows": plan.row_group_rows,
        },
    }))
}

/// The plan for a person.
///
/// # Errors
/// The task column cannot be read.
pub fn describe(config: &Config, shards: &Shards, plan: &Counts) -> Result<String> {
    let (cost, tasks) = cost(config, shards)?;
    let mut text = format!(
        "input    {} rows x {} dimensions, {} tasks, {} files, {}\n\
         search   {:.1} TFLOP if exact: about {} here, with {} threads; blocks of {} queries\n{}\
         edges    runs of {} arcs; temporary files of {} at most\n\n\
         {:>10} {:>16} {:>14}\n",
        HumanCount(shards.shape.rows),
        shards.shape.dim,
        tasks.len(),
        shards.list.len(),
        HumanBytes(shards.input_bytes()),
        cost.operations as f64 / 1e12,
        HumanDuration(Duration::from_secs_f64(search_seconds(config, shards, &cost))),
        config.threads,
        HumanCount(plan.block_rows as u64),
        gpu(config, shards, plan, &tasks)?.map_or_else(String::new, |gpu| format!("gpu      {gpu}\n")),
        HumanCount(plan.spill_arcs as u64),
        HumanBytes(cost.spill_bytes),
        "stage",
        "memory at most",
        "disk about",
    );
    for (need, (_, disk)) in plan.needs.iter().zip(cost.disk_bytes) {
        text += &format!(
            "{:>10} {:>16} {:>14}\n",
            need.stage.name(),
            HumanBytes(need.memory_bytes).to_string(),
            HumanBytes(disk).to_string()
        );
    }
    let most = plan.needs.iter().map(|need| need.memory_bytes).max().unwrap_or(0);
    let least = plan.needs.iter().map(|need| need.least_bytes).max().unwrap_or(0);
    text += &format!(
        "\nbudget   {} (--memory); the plan takes {}, {} would do",
        HumanBytes(config.memory_bytes),
        HumanBytes(most),
        HumanBytes(least),
    );
    Ok(text)
}
