//! The ranks of rows' own positives: made before the graph, where a job leaves rows out by them.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::neighbors::Windows;
use crate::neighbors::own_ranks::{self, OwnRanks};
use crate::run::record::EdgesSettings;
use crate::run::{Run, RunReader, Stage, StageRun};
use crate::vectors::Vectors;

pub(super) const NAME: &str = "own_ranks.col";

/// Finds the ranks that are not there yet, where the job asks for them; how many rows they leave out.
///
/// # Errors
/// All rows would be left out, or the disk fails.
pub(super) fn make(
    run: &Run,
    stage: &StageRun<'_>,
    vectors: &Vectors,
    windows: &Windows<'_>,
    config: &Config,
) -> Result<Option<u64>> {
    let Some(most) = config.max_own_rank else { return Ok(None) };
    if !run.has(Stage::Edges, NAME) {
        vectors.check()?;
        let ranks = own_ranks::find(vectors, windows);
        stage.commit(NAME, |out| own_ranks::write(out, &ranks))?;
    }
    let (rows, left_out) = (vectors.row_count(), open_of(run, vectors, config)?.map_or(0, |ranks| ranks.left_out()));
    if left_out == u64::from(rows) {
        return Err(Error::input("no row's own positive is found")
            .expected(format!("--max-own-rank {most} to leave some rows"))
            .found(format!("{rows} rows whose own positive is at a higher rank, or beyond the list"))
            .remedy("raise --max-own-rank; are queries and positives in the right columns?"));
    }
    let first = most.saturating_add(1).min(config.most_ranks());
    tracing::info!("{left_out} rows left out: their own positive is not among the first {first} candidates");
    Ok(Some(left_out))
}

/// The ranks of a job, where it asks for them.
///
/// # Errors
/// The file is not what was written.
pub(crate) fn open_of(run: &Run, vectors: &Vectors, config: &Config) -> Result<Option<OwnRanks>> {
    let open = |most| OwnRanks::open(&run.part(Stage::Edges, NAME)?, vectors.row_count(), most);
    config.max_own_rank.map(open).transpose()
}

/// The ranks of a finished run, where it has them.
///
/// # Errors
/// The stage is not finished, or its files were cleaned or are damaged.
pub(crate) fn open(run: &RunReader, vectors: &Vectors) -> Result<Option<OwnRanks>> {
    let open = |most| OwnRanks::open(&run.part(Stage::Edges, NAME)?, vectors.row_count(), most);
    run.settings::<EdgesSettings>()?.max_own_rank.map(open).transpose()
}
