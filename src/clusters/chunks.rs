//! Deterministic parallelism: a chunk of blocks proposes against frozen state, then is applied in order.

use std::ops::Range;

use rayon::prelude::*;

use crate::edges::{Adjacency, Arc, EdgeRows};
use crate::error::Result;
use crate::vectors::RowId;

/// Told after each chunk how many rows it had; may stop the job.
pub type Watch<'a> = dyn Fn(u64) -> Result<()> + Sync + 'a;

/// A chunk has at most this share of all rows ...
const CHUNKS: RowId = 128;
/// ... but no fewer rows than this, so that many threads find work.
const CHUNK_ROWS_MIN: RowId = 512;

/// Blocks of each chunk: a function of the graph alone.
fn cut(edges: &impl EdgeRows) -> Vec<Range<usize>> {
    let wanted = (edges.rows() / CHUNKS).max(CHUNK_ROWS_MIN);
    let (mut chunks, mut start, mut rows) = (Vec::new(), 0, 0);
    for block in 0..edges.blocks() {
        rows += edges.block_rows(block).len() as RowId;
        if rows >= wanted {
            chunks.push(start..block + 1);
            (start, rows) = (block + 1, 0);
        }
    }
    if start < edges.blocks() {
        chunks.push(start..edges.blocks());
    }
    chunks
}

/// One pass over the graph. `propose` sees the state as it stood before the chunk, with a scratch `S`
/// of the thread's own; `apply` takes the chunk's proposals in row order.
///
/// # Errors
/// The graph is damaged, or the watch stops the job.
pub fn pass<State: Sync, S: Default + Send, P: Send>(
    edges: &impl EdgeRows,
    state: &mut State,
    watch: &Watch<'_>,
    propose: impl Fn(&State, &mut S, RowId, &[Arc], &mut Vec<P>) + Sync,
    mut apply: impl FnMut(&mut State, Vec<P>),
) -> Result<()> {
    for chunk in cut(edges) {
        let rows: usize = chunk.clone().map(|block| edges.block_rows(block).len()).sum();
        let frozen = &*state;
        let proposals: Vec<Vec<P>> = chunk
            .into_par_iter()
            .map_init(
                || (Adjacency::default(), S::default()),
                |(adjacency, scratch), block| {
                    edges.read(block, adjacency)?;
                    let mut out = Vec::new();
                    for (row, arcs) in adjacency.iter() {
                        propose(frozen, scratch, row, arcs, &mut out);
                    }
                    Ok(out)
                },
            )
            .collect::<Result<_>>()?;
        apply(state, proposals.into_iter().flatten().collect());
        watch(rows as u64)?;
    }
    Ok(())
}
