//! `batchmine plan`: what a job will cost.

use std::time::Duration;

use clap::Args;
use indicatif::{HumanBytes, HumanCount, HumanDuration};
use serde::Serialize;

use super::job_args::JobArgs;
use super::{assumed, log};
use crate::batches::Forecast;
use crate::config::Remainder;
use crate::error::Result;
use crate::job::{Job, on_threads};
use crate::neighbors::{self, calibrate::operations_per_second};
use crate::run::json;
use crate::run::record::{MixFacts, Roles};
use crate::vectors::CheckedInput;
use crate::watch::Watch;

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    job: JobArgs,
}

impl PlanArgs {
    /// Prints the plan.
    ///
    /// # Errors
    /// Bad input or settings, or a budget that is too small.
    pub fn run(self, output: &log::Output) -> Result<()> {
        let job = Job::open(self.job.config()?)?;
        assumed::tell(&job);
        let estimate = PlanEstimate::new(&job, None)?;
        log::print(&if output.json { as_json(&job, &estimate)? } else { describe(&job, &estimate) })?;
        Ok(())
    }
}

/// What `plan` measures, and the cost that follows from it.
pub struct PlanEstimate {
    cost: crate::cost::Cost,
    tasks: usize,
    /// Seconds of an exact search here, from a second of the kernel.
    search_seconds: f64,
    /// What labels allow, and a warning where keys take full batches.
    batches: (Forecast, Option<String>),
    /// What GPUs would do, where there is a plugin and they answer.
    gpu: Option<String>,
}

impl PlanEstimate {
    /// Measures the kernel's rate for a second, and asks for devices; `checked`: what is known of the rows.
    ///
    /// # Errors
    /// The task column cannot be read, or devices were asked for and none answers.
    pub(super) fn new(job: &Job, checked: Option<&CheckedInput>) -> Result<PlanEstimate> {
        let Job { config, shards, plan, .. } = job;
        let (cost, tasks, batches) = (job.cost()?, job.tasks()?, job.forecast(checked)?);
        let dim = shards.shape.dim;
        let rate = on_threads(config.threads, || operations_per_second(config.precision, dim, Duration::from_secs(1)))?;
        let largest = tasks.values().max().map_or(0, |rows| *rows as usize);
        let room = plan.neighbors.gpu_room();
        let gpus = neighbors::gpu::find(config, room, shards.shape, largest, Watch::silent())?;
        Ok(PlanEstimate {
            search_seconds: cost.operations as f64 / rate,
            tasks: tasks.len(),
            batches,
            gpu: gpus.map(|gpus| gpus.describe()),
            cost,
        })
    }
}

/// The plan as one JSON object.
#[derive(Serialize)]
struct PlanRecord<'a> {
    columns: &'a Roles,
    counts: CountsRecord,
    dim: usize,
    /// Of the corpus, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    documents: Option<u64>,
    disk_bytes: StageBytes,
    files: usize,
    full_batches: FullBatches,
    gpu: &'a Option<String>,
    input_bytes: u64,
    memory_budget_bytes: u64,
    memory_bytes: StageBytes,
    rows: u64,
    search_gflop: u64,
    search_seconds: f64,
    spill_bytes: u64,
    tasks: usize,
}

/// Full batches of an epoch.
#[derive(Serialize)]
struct FullBatches {
    /// The most that labels allow.
    possible: u64,
    /// As many as rows make.
    without_keys: u64,
    /// What tasks' weights make of them, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    mix: Option<MixFacts>,
}

#[derive(Serialize)]
struct CountsRecord {
    block_rows: usize,
    import_batch_rows: usize,
    row_group_rows: usize,
    spill_arcs: usize,
}

/// Bytes by stage.
type StageBytes = std::collections::BTreeMap<&'static str, u64>;

/// What a job will cost, as one JSON object: what `plan --json` prints.
///
/// # Errors
/// The task column cannot be read, or devices were asked for and none answers.
pub fn measured(job: &Job) -> Result<String> {
    as_json(job, &PlanEstimate::new(job, None)?)
}

fn as_json(job: &Job, estimate: &PlanEstimate) -> Result<String> {
    let Job { config, shards, plan, .. } = job;
    let record = PlanRecord {
        columns: &shards.roles,
        counts: CountsRecord {
            block_rows: plan.neighbors.block_rows,
            import_batch_rows: plan.vectors.batch_rows,
            row_group_rows: plan.batches.row_group_rows,
            spill_arcs: plan.edges.spill_edges,
        },
        dim: shards.shape.dim,
        documents: job.corpus.as_ref().map(|corpus| corpus.shape.rows),
        disk_bytes: estimate.cost.disk_bytes.iter().map(|(stage, bytes)| (stage.name(), *bytes)).collect(),
        files: shards.list.len(),
        full_batches: FullBatches {
            possible: estimate.batches.0.possible,
            without_keys: estimate.batches.0.without_keys,
            mix: estimate.batches.0.mix,
        },
        gpu: &estimate.gpu,
        input_bytes: shards.input_bytes(),
        memory_budget_bytes: config.memory_bytes,
        memory_bytes: plan.needs.iter().map(|need| (need.stage.name(), plan.memory_bytes(need))).collect(),
        rows: shards.shape.rows,
        search_gflop: (estimate.cost.operations / 1_000_000_000) as u64,
        search_seconds: estimate.search_seconds,
        spill_bytes: estimate.cost.spill_bytes,
        tasks: estimate.tasks,
    };
    json::line(&record)
}

/// The plan for a person.
pub fn describe(job: &Job, estimate: &PlanEstimate) -> String {
    let Job { config, shards, plan, .. } = job;
    let cost = &estimate.cost;
    let mut text = format!(
        "input    {} rows x {} dimensions, {} tasks, {} files, {}\n{}\
         search   {:.1} TFLOP if exact: about {} here, with {} threads; blocks of {} queries\n{}\
         edges    runs of {} edges; temporary files of {} at most\n\n\
         {:>10} {:>16} {:>14}\n",
        HumanCount(shards.shape.rows),
        shards.shape.dim,
        estimate.tasks,
        shards.list.len(),
        HumanBytes(shards.input_bytes()),
        job.corpus.as_ref().map_or_else(String::new, |corpus| {
            let (documents, bytes) = (HumanCount(corpus.shape.rows), HumanBytes(corpus.input_bytes()));
            format!("corpus   {documents} documents, {} files, {bytes}\n", corpus.list.len())
        }),
        cost.operations as f64 / 1e12,
        HumanDuration(Duration::from_secs_f64(estimate.search_seconds)),
        config.threads,
        HumanCount(plan.neighbors.block_rows as u64),
        estimate.gpu.as_ref().map_or_else(String::new, |gpu| format!("gpu      {gpu}\n")),
        HumanCount(plan.edges.spill_edges as u64),
        HumanBytes(cost.spill_bytes),
        "stage",
        "memory at most",
        "disk about",
    );
    for (need, (_, disk)) in plan.needs.iter().zip(cost.disk_bytes) {
        text += &format!(
            "{:>10} {:>16} {:>14}\n",
            need.stage.name(),
            HumanBytes(plan.memory_bytes(need)).to_string(),
            HumanBytes(disk).to_string()
        );
    }
    let most = plan.needs.iter().map(|need| plan.memory_bytes(need)).max().unwrap_or(0);
    text += &format!(
        "\nbudget   {} (--memory); the plan takes {}, {} would do",
        HumanBytes(config.memory_bytes),
        HumanBytes(most),
        HumanBytes(plan.least().1),
    );
    if config.windows().each().any(|window| window.width.known().is_none()) {
        text += "\nwindow   a share of the distinct positives is counted when these are known: here it is one rank";
    }
    let (forecast, warning) = &estimate.batches;
    let more = match config.batches.remainder {
        Remainder::Fill => " of the tasks alone, and more of what they leave over",
        Remainder::Short | Remainder::Drop => "",
    };
    text += &format!(
        "\nbatches  {} full ones at most{more}, an epoch; equal vectors may allow fewer",
        HumanCount(forecast.possible)
    );
    if let Some(MixFacts { first_round_batches, repeated_batches, skipped_batches }) = forecast.mix {
        text += &format!(
            "\nweights  {} full ones, of which {} repeat rows of a task; {} are left out",
            HumanCount(first_round_batches + repeated_batches - skipped_batches),
            HumanCount(repeated_batches),
            HumanCount(skipped_batches),
        );
    }
    if let Some(warning) = warning {
        text += &format!("\nwarning  {warning}");
    }
    text
}
