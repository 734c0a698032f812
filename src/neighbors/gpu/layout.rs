//! How a search is cut into tiles, and what is copied for it. Pure.

use std::ops::Range;

use super::protocol::SlotLayout;
use super::shared::PAGE_BYTES;

const GIB: u64 = 1 << 30;
/// What FAISS takes beside our tiles: two matrices of scores of 1 GiB, in a linked FAISS beside its 1.5 GiB of
/// temporary memory; cuBLAS and the CUDA context. Of a small device it is at most half.
const RESERVE_BYTES: u64 = 9 * GIB / 2;
/// Queries of a tile, at least and at most.
const QUERIES: [usize; 2] = [32, 2048];
/// Slots of a device: while the tile of one is searched, the answers of the other are read and its next tile is filled.
pub(crate) const SLOTS: usize = 2;
/// Fewest base rows of a tile.
pub(crate) const BASE_ROWS_MIN: usize = 4096;

/// The least and the most shared memory that the slots of all devices take together.
pub(crate) fn shared_bytes(dim: u64, answers: u64) -> [u64; 2] {
    let of = |queries: usize| SLOTS as u64 * queries as u64 * (4 * dim + 8 * answers) + 4 * PAGE_BYTES as u64;
    [of(QUERIES[0]), 4 * of(QUERIES[1])]
}

/// What determines a layout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayoutInput<'a> {
    /// Rows of the largest task.
    pub task_rows: usize,
    /// Rows of all tasks.
    pub rows: usize,
    pub row_bytes: usize,
    /// Answers for each query.
    pub k: usize,
    /// Queries of a block.
    pub block_rows: usize,
    /// Free memory of each device.
    pub free_bytes: &'a [u64],
    /// Memory for the slots of all devices together.
    pub shared_bytes: usize,
}

/// Which side stays on a device while tiles of the other side are copied to it in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resident {
    /// A tile of base rows stays; queries stream.
    Base,
    /// A tile of queries stays; base rows stream.
    Queries,
}

/// The tiles of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TileLayout {
    /// Most base rows of a tile.
    pub base_rows: usize,
    /// Most queries of a tile.
    pub query_rows: usize,
    /// Base tiles of the largest task.
    pub base_tiles: usize,
    pub resident: Resident,
    /// Bytes copied to devices over the whole search.
    pub moved_bytes: u128,
    /// Bytes that would be copied if the other side stayed.
    pub other_bytes: u128,
}

impl TileLayout {
    /// Cuts a search into tiles. `None`: a device, or the shared memory, is too small for the smallest tiles.
    pub(crate) fn new(job: LayoutInput<'_>) -> Option<TileLayout> {
        let devices = job.free_bytes.len();
        let per_query = job.row_bytes + 8 * job.k;
        let slots = devices * SLOTS;
        let slot_bytes = (job.shared_bytes / slots.max(1)).checked_sub(PAGE_BYTES + 128)?;
        let query_rows = (slot_bytes / per_query).min(QUERIES[1]).min(job.block_rows);
        let least_free = *job.free_bytes.iter().min()?;
        // Queries and answers lie on the device too: each answer is a place of 64 bits and a score.
        let beside = RESERVE_BYTES.min(least_free / 2) + (query_rows * (job.row_bytes + 16 * job.k)) as u64;
        let most = (least_free.checked_sub(beside)? / 16 * 15 / job.row_bytes as u64) as usize;
        if query_rows < QUERIES[0].min(job.block_rows) || most < BASE_ROWS_MIN.min(job.task_rows) {
            return None;
        }
        let base_tiles = job.task_rows.div_ceil(most);
        let base_rows = job.task_rows.div_ceil(base_tiles);
        let mut layout =
            TileLayout { base_rows, query_rows, base_tiles, resident: Resident::Base, moved_bytes: 0, other_bytes: 0 };
        let [base, queries] = [Resident::Base, Resident::Queries].map(|resident| layout.moved(job, devices, resident));
        layout.resident = if base <= queries { Resident::Base } else { Resident::Queries };
        (layout.moved_bytes, layout.other_bytes) = (base.min(queries), base.max(queries));
        Some(layout)
    }

    /// Bytes copied, as if all rows were of one task like the largest.
    fn moved(&self, job: LayoutInput<'_>, devices: usize, resident: Resident) -> u128 {
        let of = |rows: usize, times: usize| rows as u128 * times as u128 * job.row_bytes as u128;
        let (blocks, tiles) = (job.rows.div_ceil(job.block_rows), self.base_tiles);
        let query_tiles = job.block_rows.div_ceil(self.query_rows);
        match resident {
            // A single tile stays on every device all the time; where there are no more tiles than devices, each tile
            // stays on one device.
            _ if tiles == 1 => of(job.rows, devices) + of(job.rows, 1),
            Resident::Base if tiles <= devices => of(job.rows, 1) + of(job.rows, tiles),
            Resident::Base => of(job.rows, blocks) + of(job.rows, tiles),
            Resident::Queries => of(job.rows, blocks * query_tiles) + of(job.rows, 1),
        }
    }

    /// Bytes of a slot for rows of `row_bytes` and k answers for each query: whole pages. `None`: they overflow.
    pub(crate) fn slot_bytes(&self, row_bytes: usize, k: usize) -> Option<usize> {
        SlotLayout::new(self.query_rows, row_bytes, k)?.end.checked_next_multiple_of(PAGE_BYTES)
    }

    /// The pairs of tiles of a segment, in the order that copies the fewest bytes.
    pub(crate) fn pairs(&self, task: Range<usize>, queries: usize, base_rows: usize) -> Vec<TilePair> {
        let base: Vec<_> = cut(task, base_rows);
        let queries = cut(0..queries, self.query_rows);
        let pair =
            |base: &Range<usize>, tile: usize| TilePair { base: base.clone(), queries: queries[tile].clone(), tile };
        let tiles = 0..queries.len();
        match self.resident {
            Resident::Base => base.iter().flat_map(|base| tiles.clone().map(move |tile| pair(base, tile))).collect(),
            Resident::Queries => tiles.flat_map(|tile| base.iter().map(move |base| pair(base, tile))).collect(),
        }
    }
}

fn cut(range: Range<usize>, step: usize) -> Vec<Range<usize>> {
    range.clone().step_by(step).map(|start| start..range.end.min(start + step)).collect()
}

/// A tile of queries and a tile of base rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TilePair {
    pub base: Range<usize>,
    /// Queries, counted within the segment.
    pub queries: Range<usize>,
    /// Number of the tile of queries that they belong to.
    pub tile: usize,
}

impl TilePair {
    /// Cuts both sides in half: four pairs; two, where one side is too short; or none. Base tiles keep at least k rows.
    pub(crate) fn quarters(&self, k: usize) -> Vec<TilePair> {
        let halve = |range: &Range<usize>, least: usize| {
            let middle = range.start.midpoint(range.end);
            let divides = range.len() >= 2 * least;
            if divides { vec![range.start..middle, middle..range.end] } else { vec![range.clone()] }
        };
        let (base, queries) = (halve(&self.base, k.max(BASE_ROWS_MIN)), halve(&self.queries, 1));
        if base.len() * queries.len() == 1 {
            return Vec::new();
        }
        let with = |queries: Range<usize>| {
            base.iter().map(move |base| TilePair { base: base.clone(), queries: queries.clone(), tile: self.tile })
        };
        queries.into_iter().flat_map(with).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H100: u64 = 78 * GIB;

    fn job(free_bytes: &[u64]) -> LayoutInput<'_> {
        let shared_bytes = 256 << 20;
        LayoutInput {
            task_rows: 1_000_000,
            rows: 1_000_000,
            row_bytes: 1536,
            k: 194,
            block_rows: 8192,
            free_bytes,
            shared_bytes,
        }
    }

    #[test]
    fn what_fits_on_the_device_is_copied_once() {
        let layout = TileLayout::new(job(&[H100])).unwrap();
        assert_eq!((layout.base_rows, layout.base_tiles, layout.query_rows), (1_000_000, 1, 2048));
        assert_eq!(layout.moved_bytes, 2 * 1_000_000 * 1536);
        let two = TileLayout::new(job(&[H100, H100])).unwrap();
        assert_eq!(two.moved_bytes, 3 * 1_000_000 * 1536, "the base goes to both");
    }

    #[test]
    fn a_base_that_does_not_fit_streams_tile_by_tile() {
        let rows = 40_000_000;
        let job = LayoutInput { task_rows: rows, rows, ..job(&[24 * GIB]) };
        let layout = TileLayout::new(job).unwrap();
        assert!(layout.base_tiles > 1 && layout.base_rows * layout.base_tiles >= rows);
        let used = layout.base_rows as u64 * 1536 + RESERVE_BYTES;
        assert!(used < 24 * GIB, "{used}");
        assert_eq!(layout.resident, Resident::Base);
        assert!(layout.moved_bytes < layout.other_bytes);
        let enough = vec![24 * GIB; layout.base_tiles];
        let spread = TileLayout::new(LayoutInput { free_bytes: &enough, shared_bytes: 1 << 30, ..job }).unwrap();
        assert!(spread.moved_bytes * 100 < layout.moved_bytes, "each device keeps a tile of its own");
    }

    #[test]
    fn a_block_of_one_tile_may_stay_instead_of_the_base() {
        // All queries of a block are one tile, so they are copied once.
        let small = LayoutInput { block_rows: 1024, task_rows: 40_000_000, rows: 40_000_000, ..job(&[24 * GIB]) };
        let layout = TileLayout::new(small).unwrap();
        assert_eq!(layout.resident, Resident::Queries);
        let pairs = layout.pairs(0..40_000_000, 1024, layout.base_rows);
        assert_eq!(pairs.len(), layout.base_tiles);
    }

    #[test]
    fn what_is_too_small_is_refused() {
        assert_eq!(TileLayout::new(job(&[])), None);
        assert_eq!(TileLayout::new(job(&[8 << 20])), None, "a device of 8 MiB");
        assert_eq!(TileLayout::new(LayoutInput { shared_bytes: 100_000, ..job(&[H100]) }), None, "no room to share");
    }

    #[test]
    fn pairs_cover_every_query_and_row_once_and_so_do_their_quarters() {
        for resident in [Resident::Base, Resident::Queries] {
            let layout = TileLayout { resident, query_rows: 100, ..TileLayout::new(job(&[H100])).unwrap() };
            let mut pairs = layout.pairs(5..30_005, 250, 10_000);
            assert_eq!(pairs.len(), 9);
            for _ in 0..9 {
                let area =
                    |pairs: &[TilePair]| pairs.iter().map(|pair| pair.base.len() * pair.queries.len()).sum::<usize>();
                assert_eq!(area(&pairs), 30_000 * 250);
                let pair = pairs.remove(0);
                let quarters = pair.quarters(194);
                assert!(
                    quarters.iter().all(|quarter| quarter.base.len() >= BASE_ROWS_MIN && quarter.tile == pair.tile)
                );
                pairs.extend(if quarters.is_empty() { vec![pair] } else { quarters });
            }
        }
        let single = TilePair { base: 0..5000, queries: 3..4, tile: 0 };
        assert!(single.quarters(194).is_empty());
    }
}
