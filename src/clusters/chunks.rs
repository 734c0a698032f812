//! Deterministic parallelism: a few rows from all over the graph propose against frozen state, and are applied in
//! order; then the next few.
//!
//! Rows that lie close want the same clusters. So a chunk is made of blocks that lie far apart, and of each block only
//! `STEP_ROWS` rows propose at a time: what they see is nearly what they would see one after the other.
//!
//! Memory: the decoded blocks of a chunk, `CHUNK_BLOCKS` at most.

use std::sync::Mutex;

use rayon::prelude::*;

use crate::edges::{Adjacency, Edge, EdgeRows};
use crate::error::Result;
use crate::vectors::RowId;

/// Told after each chunk how many rows it had; may stop the job.
pub(crate) type Watch<'a> = dyn Fn(u64) -> Result<()> + Sync + 'a;

/// Blocks of a chunk: a share of all, but no fewer and no more than this.
const CHUNK_SHARE: usize = 256;
const CHUNK_BLOCKS: [usize; 2] = [32, 64];
/// Rows of a block that propose against the same state.
const STEP_ROWS: usize = 2;

/// Blocks of each chunk: a function of the graph alone.
fn cut(blocks: usize) -> impl Iterator<Item = Vec<usize>> {
    let wanted = (blocks / CHUNK_SHARE).clamp(CHUNK_BLOCKS[0], CHUNK_BLOCKS[1]);
    let chunks = blocks.div_ceil(wanted);
    (0..chunks).map(move |first| (first..blocks).step_by(chunks).collect())
}

/// One pass over the graph. `propose` sees the state as it stood before the step, with a scratch `S` of the
/// thread's own; `apply` takes the step's proposals in the order of rows.
///
/// # Errors
/// The graph is damaged, or the watch stops the job.
pub(crate) fn pass<State: Send + Sync, S: Default + Send, P: Send>(
    edges: &impl EdgeRows,
    state: &mut State,
    watch: &Watch<'_>,
    propose: impl Fn(&State, &mut S, RowId, &[Edge]) -> Option<P> + Sync,
    apply: impl FnMut(&mut State, &mut dyn Iterator<Item = P>) + Send,
) -> Result<()> {
    // Steps are short: whoever begins them is one of the pool, or it would be put to sleep and woken for each.
    rayon::scope(|_| steps(edges, state, watch, &propose, apply))
}

fn steps<State: Sync, S: Default + Send, P: Send>(
    edges: &impl EdgeRows,
    state: &mut State,
    watch: &Watch<'_>,
    propose: impl Fn(&State, &mut S, RowId, &[Edge]) -> Option<P> + Sync,
    mut apply: impl FnMut(&mut State, &mut dyn Iterator<Item = P>),
) -> Result<()> {
    let scratches: Vec<Mutex<S>> = (0..rayon::current_num_threads()).map(|_| Mutex::default()).collect();
    let mut decoded: Vec<(Adjacency, [Option<P>; STEP_ROWS])> = Vec::new();
    for chunk in cut(edges.blocks()) {
        decoded.resize_with(chunk.len(), || (Adjacency::default(), [const { None }; STEP_ROWS]));
        decoded.par_iter_mut().zip(&chunk).try_for_each(|(place, block)| edges.read(*block, &mut place.0))?;
        let rows = |adjacency: &Adjacency| adjacency.ends.len();
        let most = decoded.iter().map(|place| rows(&place.0)).max().unwrap_or(0);
        for step in (0..most).step_by(STEP_ROWS) {
            let frozen = &*state;
            decoded.par_iter_mut().with_min_len(2).for_each(|(adjacency, proposals)| {
                let scratch = rayon::current_thread_index().unwrap_or(0);
                let mut scratch = scratches[scratch].lock().expect("no thread panics at its scratch");
                for (row, proposal) in (step..rows(adjacency)).zip(proposals) {
                    *proposal = propose(frozen, &mut scratch, adjacency.first_row + row as RowId, adjacency.of(row));
                }
            });
            apply(state, &mut decoded.iter_mut().flat_map(|place| &mut place.1).filter_map(Option::take));
        }
        watch(decoded.iter().map(|place| rows(&place.0) as u64).sum())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_every_block_once_and_far_apart() {
        for blocks in [0, 1, 31, 200, 4096, 70_001] {
            let mut all: Vec<usize> = cut(blocks).flatten().collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..blocks));
            assert!(cut(blocks).all(|chunk| chunk.len() <= CHUNK_BLOCKS[1]));
        }
        assert_eq!(cut(200).next().unwrap()[..3], [0, 7, 14]);
    }
}
