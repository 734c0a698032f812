//! The mask of a batch (`--mask suspects`): for each row the positions of the rows whose positives its query must not
//! have as negatives.
//!
//! These are its suspects, by rank or by a score limit, and, where a batch may hold several rows of a key, the rows
//! that share one with it. A suspect that stands for a positive of several rows masks each of them. Limits hold for
//! rows that are in no list, too: their true scores decide. Rows of other tasks are no candidates, and are not masked.
//!
//! O(suspects · log |B|) a row. Where a score limit may hold beyond a row's list, O(|B| · dim) more: where the list
//! ends with a suspect by score, the search is approximate, ranks are those of positives, or a limit is one for sides.
//! Memory: 8 bytes for each row of a batch, and what is masked in one chunk of the table, which has [`CHUNK_ENTRIES`]
//! at most, or one row.

use rayon::prelude::*;

use crate::config::{Config, Mask, Method};
use crate::neighbors::{Neighbors, Windows};
use crate::vectors::{Place, RowId, Scorer, SideScorer, Vectors};

/// Masked positions of a chunk of the table, at most, where a row does not have more.
const CHUNK_ENTRIES: usize = 1 << 20;
/// Rows that a thread takes at least.
const ROWS_MIN: usize = 32;

/// Rows of which none has more than `most` masked positions, that a chunk may have.
pub(super) fn rows_of_chunk(most: usize) -> usize {
    (CHUNK_ENTRIES / most.max(1)).max(1)
}

/// Masked positions of a chunk, where a row has no more than `most`.
pub(super) fn entries_of_chunk(most: usize) -> u64 {
    CHUNK_ENTRIES.max(most) as u64
}

/// Most masked positions of a row: its suspects, if these are known by rank alone, else all of its batch.
pub(crate) fn most_masked(config: &Config) -> usize {
    if config.batches.mask == Mask::None {
        return 0;
    }
    let others = config.sizes().each().map(|sizes| sizes.batch_size as usize - 1).max().unwrap_or(1);
    let by_rank = config.windows().each().map(|window| window.skip as usize).max().unwrap_or(0);
    let more = config.windows().each().any(|window| window.limits.any()) || config.batches.rows_per_key > 1;
    if more { others } else { others.min(by_rank) }
}

/// Finds who is masked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Masker<'a> {
    pub vectors: &'a Vectors,
    pub neighbors: &'a Neighbors,
    /// Which of a list are suspects.
    pub windows: &'a Windows<'a>,
    /// R: rows of one key may meet where it is more than 1.
    pub rows_per_key: u32,
    /// Most masked positions of a row.
    pub most: usize,
    /// Lists hold the best of all candidates.
    pub complete: bool,
}

impl<'a> Masker<'a> {
    pub(super) fn new(
        vectors: &'a Vectors,
        neighbors: &'a Neighbors,
        windows: &'a Windows<'a>,
        config: &Config,
    ) -> Option<Masker<'a>> {
        let (rows_per_key, most) = (config.batches.rows_per_key, most_masked(config));
        // Whoever stands for a positive may share a key with a query that other rows with that positive do not: then
        // these meet the query, and the positive is in no list of it.
        let complete = config.method == Method::Exact && neighbors.candidates().is_none();
        let masker = Masker { vectors, neighbors, windows, rows_per_key, most, complete };
        (config.batches.mask == Mask::Suspects).then_some(masker)
    }

    /// The masked positions of some rows of a batch, ascending.
    pub(super) fn of_rows(&self, batch: &[RowId], rows: &[RowId]) -> Vec<Vec<i32>> {
        let members = MaskableRows::new(self.neighbors, batch);
        rows.par_iter()
            .with_min_len(ROWS_MIN)
            .map_init(|| PairScorers::new(self.vectors), |pairs, row| self.of_row(&members, *row, pairs))
            .collect()
    }

    fn of_row(&self, members: &MaskableRows<'_>, row: RowId, pairs: &mut PairScorers<'_>) -> Vec<i32> {
        let place = self.neighbors.place_of(row);
        let suspects = self.windows.of(place).suspects();
        let mut masked: Vec<i32> = suspects.flat_map(|suspect| members.standing_behind(suspect)).collect();
        if self.rows_per_key > 1 {
            let keys = self.vectors.rows.keys();
            masked.extend(members.positions_of(|other| other != row && keys.conflict(row, other)));
        }
        if self.windows.may_hold_outside(place, self.complete) {
            let task = self.vectors.tasks.of(row);
            masked.extend(members.positions_of(|other| {
                other != row
                    && self.vectors.tasks.of(other) == task
                    && self.windows.is_too_close(
                        place,
                        self.neighbors.stands_for(self.neighbors.place_of(other)),
                        || pairs.scorer.pair(row, other),
                        || pairs.sides.pair(row, other),
                    )
            }));
        }
        masked.sort_unstable();
        masked.dedup();
        masked
    }
}

/// What scores a thread's rows.
struct PairScorers<'a> {
    scorer: Scorer<'a>,
    sides: SideScorer<'a>,
}

impl<'a> PairScorers<'a> {
    fn new(vectors: &'a Vectors) -> PairScorers<'a> {
        PairScorers { scorer: Scorer::new(vectors), sides: SideScorer::new(vectors) }
    }
}

/// The rows of a batch, and who stands for their positives.
struct MaskableRows<'a> {
    rows: &'a [RowId],
    /// Candidates, each with the position of a row whose positive it is; sorted.
    standing: Vec<(Place, i32)>,
}

impl<'a> MaskableRows<'a> {
    /// O(|B| log |B|).
    fn new(neighbors: &Neighbors, rows: &'a [RowId]) -> MaskableRows<'a> {
        let place = |row: &RowId| neighbors.stands_for(neighbors.place_of(*row));
        let mut standing: Vec<(Place, i32)> = rows.iter().map(place).zip(0..).collect();
        standing.sort_unstable();
        MaskableRows { rows, standing }
    }

    /// Positions of the rows that have a candidate's positive. O(log |B|).
    fn standing_behind(&self, candidate: Place) -> impl Iterator<Item = i32> + '_ {
        let start = self.standing.partition_point(|(place, _)| *place < candidate);
        let same = self.standing[start..].iter().take_while(move |(place, _)| *place == candidate);
        same.map(|(_, position)| *position)
    }

    fn positions_of(&self, mut is: impl FnMut(RowId) -> bool) -> impl Iterator<Item = i32> {
        self.rows.iter().zip(0..).filter(move |(row, _)| is(**row)).map(|(_, position)| position)
    }
}
