//! How many IVF lists approximate search looks into, by trial on the recall sample.

use super::recall::RecallSample;
use super::tiles::Tiles;
use crate::error::Result;
use crate::watch::Watch;

/// The fewest probes whose recall on the sample reaches the goal, within a sixteenth: doubled until they do, then
/// halved in. `ranks`: of each task.
///
/// # Errors
/// The watch stops the job.
pub(crate) fn choose_probes(
    tiles: &Tiles<'_>,
    sample: &RecallSample,
    ranks: &[usize],
    goal: f64,
    watch: Watch<'_>,
) -> Result<usize> {
    let most = (0..tiles.vectors.tasks.len()).map(|task| tiles.columns.ivf.lists(task).len()).max().unwrap_or(1);
    let measure = |probes: usize| -> Result<f64> {
        let recall = sample.of(|task, rows| {
            let ranks = ranks[task].min(tiles.columns.others(task)).max(1);
            tiles.approximate(task, rows, ranks, probes, watch)
        })?;
        tracing::info!("{probes} of {most} lists: recall {:.4}", recall.share());
        Ok(recall.share())
    };
    let (mut low, mut high) = (0, 1);
    while high < most && measure(high)? < goal {
        (low, high) = (high, (2 * high).min(most));
    }
    // Recall at `low` falls short, recall at `high` is enough.
    while high - low > 1 + high / 16 {
        let middle = low.midpoint(high);
        if measure(middle)? < goal { low = middle } else { high = middle }
    }
    Ok(high)
}
