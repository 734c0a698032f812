//! The marks of candidates that are too close on the other side: made before the graph, a part for each block of lists.

use std::path::PathBuf;

use super::verdicts;
use crate::config::Config;
use crate::error::Result;
use crate::neighbors::file::Block;
use crate::neighbors::marks::{self, Marks, words_of};
use crate::neighbors::{Neighbors, Windows};
use crate::run::record::EdgesSettings;
use crate::run::{Run, RunReader, Stage, StageRun};
use crate::vectors::Vectors;

pub(super) const PREFIX: &str = "marks-";

/// The name of a block's marks.
pub(super) fn name(block: usize) -> String {
    format!("{PREFIX}{block:06}.bit")
}

/// Words of a list's marks.
pub(super) fn words(windows: &Windows<'_>) -> usize {
    words_of(windows.most_ranks() as usize)
}

/// Makes what marks are missing. O(rows · ranks · dim), and nothing where no limit asks for any.
///
/// # Errors
/// The user interrupts, or the disk fails.
pub(super) fn make(run: &Run, stage: &StageRun<'_>, vectors: &Vectors, windows: &Windows<'_>) -> Result<()> {
    if !windows.limited_by_sides() {
        return Ok(());
    }
    vectors.check()?;
    for (index, block) in windows.neighbors().blocks().iter().enumerate() {
        if run.has(Stage::Edges, &name(index)) {
            continue;
        }
        run.check_interrupt()?;
        let marks = of_block(vectors, windows, block);
        stage.commit(&name(index), |out| marks::write(out, block.range(), words(windows), &marks))?;
    }
    Ok(())
}

/// The marks of a block's lists.
pub(super) fn of_block(vectors: &Vectors, windows: &Windows<'_>, block: &Block) -> Vec<u64> {
    marks::of_block(vectors, windows.neighbors(), block, words(windows), |place| windows.limits(place))
}

fn open(windows: &Windows<'_>, neighbors: &Neighbors, part: impl Fn(&str) -> Result<PathBuf>) -> Result<Option<Marks>> {
    if !windows.limited_by_sides() {
        return Ok(None);
    }
    let paths = (0..neighbors.blocks().len()).map(|index| part(&name(index))).collect::<Result<Vec<_>>>()?;
    Marks::open(&paths, neighbors, words(windows)).map(Some)
}

/// The lists of a job, cut by its settings, with the marks and verdicts that this stage has made.
///
/// # Errors
/// A file of marks is damaged.
pub(crate) fn windows<'a>(
    run: &Run,
    vectors: &'a Vectors,
    neighbors: &'a Neighbors,
    config: &Config,
) -> Result<Windows<'a>> {
    let windows = Windows::new(vectors, neighbors, config);
    let marks = open(&windows, neighbors, |name| run.part(Stage::Edges, name))?;
    Ok(windows.with_marks(marks).with_verdicts(verdicts::open_of(run, vectors, config)?))
}

/// The lists of a stage under way, with the marks and verdicts that it has.
///
/// # Errors
/// A file is damaged.
pub(super) fn windows_so_far<'a>(
    run: &RunReader,
    vectors: &'a Vectors,
    neighbors: &'a Neighbors,
    settings: &EdgesSettings,
) -> Result<Windows<'a>> {
    let windows = Windows::by_task(vectors, neighbors, &settings.windows);
    let marks = open(&windows, neighbors, |name| run.part_so_far(Stage::Edges, name))?;
    Ok(windows.with_marks(marks).with_verdicts(verdicts::open_so_far(run, vectors, settings)?))
}

/// The lists as a finished run has cut them.
///
/// # Errors
/// The stage is not finished, its record is not one, or its marks were cleaned or are damaged.
pub(crate) fn open_windows<'a>(run: &RunReader, vectors: &'a Vectors, neighbors: &'a Neighbors) -> Result<Windows<'a>> {
    let windows = Windows::open(run, vectors, neighbors)?;
    let marks = open(&windows, neighbors, |name| run.part(Stage::Edges, name))?;
    Ok(windows.with_marks(marks).with_verdicts(verdicts::open(run, vectors)?))
}
