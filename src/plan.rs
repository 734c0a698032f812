//! The plan: a memory budget and a shape become counts, before any work. Pure.
//!
//! Each stage's own `budget.rs` says what the stage needs and divides what is left. The plan sums, compares, and
//! refuses a budget that cannot hold the least of it. Counts that shape files (query blocks, merge ranges) do not
//! depend on the budget: the same job gives the same bytes under any.

use crate::batches::budget::{self as batches, BatchesCounts};
use crate::budget::{MIB, StageNeed, process_bytes};
use crate::clusters::budget as clusters;
use crate::config::Config;
use crate::edges::budget::{self as edges, EdgesCounts};
use crate::error::{Error, Kind, Result};
use crate::neighbors::budget::{self as neighbors, NeighborsCounts};
use crate::run::Stage;
use crate::vectors::Shape;
use crate::vectors::budget::{self as vectors, InputMeasures, VectorsCounts};

/// Counts that bound every buffer, and what each stage needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub vectors: VectorsCounts,
    pub neighbors: NeighborsCounts,
    pub edges: EdgesCounts,
    pub batches: BatchesCounts,
    /// In pipeline order.
    pub needs: [StageNeed; 5],
    base_bytes: u64,
}

impl Plan {
    /// Divides the budget for rows of a shape, and what else the input has.
    ///
    /// # Errors
    /// The rank window is wider than the input, or the budget is too small; the message names what would do.
    pub fn new(config: &Config, shape: Shape, input: InputMeasures) -> Result<Plan> {
        refuse_wide_windows(config, shape.rows, input.documents)?;
        let plan = Plan::divide(config, shape, input);
        let (stage, least) = plan.least();
        let least = least.div_ceil(MIB);
        if config.memory_bytes >= least * MIB {
            return Ok(plan);
        }
        Err(Error::new(Kind::OverBudget, "the memory budget is too small for this job")
            .expected(format!("--memory {least}MiB or more (the {} stage needs it)", stage.name()))
            .found(match config.memory_bytes {
                bytes if bytes < MIB => format!("--memory {bytes}: a size without a unit is in bytes"),
                bytes => format!("--memory {}MiB", bytes / MIB),
            })
            .remedy(match stage {
                Stage::Batches if config.mix.is_some() => {
                    format!("raise --memory to {least}MiB, or lower the tasks' weights")
                }
                _ => format!("raise --memory to {least}MiB, or lower --window"),
            }))
    }

    fn divide(config: &Config, shape: Shape, input: InputMeasures) -> Plan {
        let base_bytes = process_bytes(config.threads);
        let room = config.memory_bytes.saturating_sub(base_bytes);
        let (vectors, of_vectors) = vectors::divide(config, shape, input);
        let (neighbors, of_neighbors) = neighbors::divide(config, shape, input.documents, room);
        let (edges, of_edges) = edges::divide(config, shape, neighbors.block_rows, input.judged_bytes, room);
        let of_clusters = clusters::divide(config, shape);
        let (batches, of_batches) = batches::divide(config, shape, input, room);
        let needs = [of_vectors, of_neighbors, of_edges, of_clusters, of_batches];
        Plan { vectors, neighbors, edges, batches, needs, base_bytes }
    }

    /// The plan on as many of the job's threads as the budget has room for, and that number: each thread has buffers of
    /// its own, and a job is done on fewer of them too. The error names what one thread needs.
    ///
    /// # Errors
    /// See [`Plan::new`].
    pub fn on_fewer_threads(config: &Config, shape: Shape, input: InputMeasures) -> Result<(Plan, usize)> {
        let on = |threads| Plan::new(&Config { threads, ..config.clone() }, shape, input);
        if let Ok(plan) = on(config.threads) {
            return Ok((plan, config.threads));
        }
        let mut plan = on(1)?;
        // The need rises with the threads: the most that fit are found by halves.
        let (mut fits, mut too_many) = (1, config.threads);
        while too_many - fits > 1 {
            let middle = fits.midpoint(too_many);
            match on(middle) {
                Ok(found) => (plan, fits) = (found, middle),
                Err(_) => too_many = middle,
            }
        }
        Ok((plan, fits))
    }

    /// Peak of anonymous memory of a stage in bytes, all of the process.
    pub fn memory_bytes(&self, need: &StageNeed) -> u64 {
        self.base_bytes + need.given()
    }

    /// The stage that needs the largest budget, and the least budget in bytes that it can work in.
    pub fn least(&self) -> (Stage, u64) {
        let least = |need: &StageNeed| self.base_bytes + need.least();
        self.needs.iter().fold((Stage::Vectors, 0), |most, need| match least(need) {
            bytes if bytes >= most.1 => (need.stage, bytes),
            _ => most,
        })
    }
}

fn refuse_wide_windows(config: &Config, rows: u64, documents: u64) -> Result<()> {
    let candidates = rows + documents;
    let windows = config.windows();
    let widest = windows.each().max_by_key(|window| window.ranks());
    let Some(window) = widest.filter(|window| u64::from(window.ranks()) >= candidates) else { return Ok(()) };
    let most = candidates.saturating_sub(1);
    let and = if documents > 0 { format!(", and {documents} documents") } else { String::new() };
    Err(Error::input("the rank window is wider than the input")
        .expected(format!("--skip + --window of at most {most}: the other rows of {rows} rows{and}"))
        .found(format!("--skip {} --window {}", window.skip, window.width))
        .remedy(narrower(window.skip, most)))
}

/// What to do about a window that is wider than the `most` other rows: p is what the data ask for, so it is kept as
/// long as half of the ranks are left for m. Pure.
fn narrower(skip: u32, most: u64) -> String {
    let skip = u64::from(skip);
    match most {
        0 | 1 => "mine more rows: a batch needs rows to choose from".into(),
        most if 2 * skip <= most => format!("try --window {}, which keeps p at {skip}; or mine more rows", most - skip),
        most => format!(
            "mine more rows: p = {skip} suspects leave no room for preferred negatives; or try --skip {} --window {}",
            most / 11,
            most - most / 11
        ),
    }
}

#[cfg(test)]
mod tests;
