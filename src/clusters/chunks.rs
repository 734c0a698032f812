//! Deterministic parallelism: a few rows from all over the graph propose against frozen state, and their proposals are
//! applied in order; then the next few rows.
//!
//! Rows at close places want the same clusters. So a chunk is made of blocks that lie far apart, and of each block only
//! `STEP_ROWS` rows propose at a time: the state that they see is nearly the one that they would see one after the
//! other.
//!
//! Memory: the decoded blocks of a chunk, `CHUNK_BLOCKS` at most.

use std::sync::Mutex;

use rayon::prelude::*;

use crate::edges::{Adjacency, Edge, EdgeRows};
use crate::error::Result;
use crate::vectors::Place;
use crate::watch::Watch;

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

/// One pass over the graph. `propose` sees the state as it was before the step, a scratch `S` of its thread, a place
/// and the edges of its row; `apply` takes the step's proposals, in order. `watch` is told the rows of each chunk.
///
/// # Errors
/// The graph is damaged, or the watch stops the job.
pub(crate) fn pass<State: Send + Sync, S: Default + Send, P: Send>(
    graph: &impl EdgeRows,
    state: &mut State,
    watch: Watch<'_>,
    propose: impl Fn(&State, &mut S, Place, &[Edge]) -> Option<P> + Sync,
    apply: impl FnMut(&mut State, &mut dyn Iterator<Item = P>) + Send,
) -> Result<()> {
    // Steps are short. The thread that starts them is one of the pool: any other would sleep and wake at each step.
    rayon::scope(|_| steps(graph, state, watch, &propose, apply))
}

fn steps<State: Sync, S: Default + Send, P: Send>(
    graph: &impl EdgeRows,
    state: &mut State,
    watch: Watch<'_>,
    propose: impl Fn(&State, &mut S, Place, &[Edge]) -> Option<P> + Sync,
    mut apply: impl FnMut(&mut State, &mut dyn Iterator<Item = P>),
) -> Result<()> {
    let scratches: Vec<Mutex<S>> = (0..rayon::current_num_threads()).map(|_| Mutex::default()).collect();
    let mut decoded: Vec<(Adjacency, [Option<P>; STEP_ROWS])> = Vec::new();
    for chunk in cut(graph.blocks()) {
        decoded.resize_with(chunk.len(), || (Adjacency::default(), [const { None }; STEP_ROWS]));
        decoded.par_iter_mut().zip(&chunk).try_for_each(|((adjacency, _), block)| graph.read(*block, adjacency))?;
        let rows = |adjacency: &Adjacency| adjacency.ends.len();
        let most = decoded.iter().map(|(adjacency, _)| rows(adjacency)).max().unwrap_or(0);
        for step in (0..most).step_by(STEP_ROWS) {
            let frozen = &*state;
            decoded.par_iter_mut().with_min_len(2).for_each(|(adjacency, proposals)| {
                let scratch = rayon::current_thread_index().unwrap_or(0);
                let mut scratch = scratches[scratch].lock().expect("no thread panics while it holds its scratch");
                for (row, proposal) in (step..rows(adjacency)).zip(proposals) {
                    let place = Place::new(adjacency.first_place.number() + row as u32);
                    *proposal = propose(frozen, &mut scratch, place, adjacency.of(row));
                }
            });
            apply(state, &mut decoded.iter_mut().flat_map(|(_, proposals)| proposals).filter_map(Option::take));
        }
        watch.add(decoded.iter().map(|(adjacency, _)| rows(adjacency) as u64).sum())?;
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
