//! What the search needs: the order of all rows, one block of finished lists, a tile of queries on each thread.

use super::answers::SPARE;
use super::tiles::{LIST_TILE_QUERIES, PACKED_COLUMNS, TILE_QUERIES};
use super::{gpu, head, ivf, recall, topk};
use crate::budget::{MIB, Phase, StageNeed, Term, written};
use crate::config::{Backend, Config, KernelPrecision, Method};
use crate::run::Stage;
use crate::vectors::Shape;

/// Finished lists of one block.
const BLOCK_BYTES: u64 = 48 * MIB;
const BLOCK_ROWS_MIN: u64 = 96;
const BLOCK_ROWS_MAX: u64 = 8192;
/// What is written of a row where ranks may be those of distinct positives.
const CANDIDATE_FILE_BYTES: u64 = 28;
/// A candidate: score and row.
const CANDIDATE_BYTES: u64 = 8;
/// A list's own header.
const LIST_BYTES: u64 = 24;
/// Scorers of a tile: rows in f32 and f64.
const SCORER_BYTES: u64 = MIB / 2;
/// While IVF lists are made: the row at each place, each row's place, and its list.
const ORDER_BYTES: u64 = 12;
const FAISS_TILE_ROWS_MIN: u64 = 1024;
const FAISS_TILE_ROWS_MAX: u64 = 65_536;
/// Fewer queries than 20 in a call would not be multiplied as a matrix.
pub(super) const FAISS_CALL_QUERIES_MIN: usize = 32;
const FAISS_CALL_QUERIES_MAX: usize = 512;
/// Values of the queries of one call, where there are more than the least.
const FAISS_CALL_VALUES: usize = 1 << 20;
/// Answers of one call, where there are more than the least.
const FAISS_CALL_ANSWERS: usize = 1 << 18;
/// Base rows that FAISS multiplies at a time.
const FAISS_BLOCK_ROWS: u64 = 1024;
/// What OpenBLAS packs on each thread.
const FAISS_BLAS_BYTES: u64 = 4 * MIB;
/// One sampled row in sixteen, 4 bytes each.
const SAMPLED_SHARE: u64 = 4;

/// Counts of the neighbors stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighborsCounts {
    /// Queries of a block: a part of the stage. A function of the shape alone.
    pub block_rows: usize,
    /// Base rows that FAISS holds at a time.
    pub faiss_tile_rows: usize,
    /// Most queries of a tile where base rows are packed for each tile anew: more of them pack less often.
    pub fine_tile_queries: usize,
    /// Memory that the slots of all GPUs take; 0 where no GPU is sought or the budget has no room.
    pub gpu_shared_bytes: usize,
}

impl NeighborsCounts {
    /// What a search on GPUs needs of them.
    pub(crate) fn gpu_room(&self) -> gpu::GpuRoom {
        gpu::GpuRoom { block_rows: self.block_rows, shared_bytes: self.gpu_shared_bytes }
    }
}

/// The terms that several phases share.
struct Terms {
    rows: u64,
    /// Rows and documents: what may be in a list.
    candidates: u64,
    dim: u64,
    threads: u64,
    ranks: u64,
    block_rows: u64,
    /// The tile of a search; of the recall sample it is the larger one.
    tile_queries: u64,
    /// Bytes while a rotation is chosen, and those that it keeps.
    rotation: [u64; 2],
}

impl Terms {
    fn new(config: &Config, shape: Shape, documents: u64) -> Terms {
        let (rows, candidates) = (shape.rows, shape.rows + documents);
        // The widest task's: blocks and buffers are made for it.
        let ranks = u64::from(config.most_ranks()).min(candidates);
        let block_rows = (BLOCK_BYTES / block_row_bytes(ranks)).clamp(BLOCK_ROWS_MIN, BLOCK_ROWS_MAX);
        let packs = matches!(config.precision, KernelPrecision::Auto | KernelPrecision::Int8);
        let small = config.method == Method::Exact && packs;
        let rotation = if packs { head::bytes(candidates as usize, shape.dim) } else { [0; 2] };
        Terms {
            rows,
            candidates,
            dim: shape.dim as u64,
            threads: config.threads as u64,
            ranks,
            block_rows,
            tile_queries: if small { TILE_QUERIES } else { LIST_TILE_QUERIES } as u64,
            rotation,
        }
    }

    /// Bytes of a query of a tile.
    fn query_bytes(&self) -> u64 {
        topk::capacity(self.ranks as usize) as u64 * CANDIDATE_BYTES + self.dim * 16 + 64
    }

    /// Queries that a thread searches at a time, at least and at most, and base rows that it packs where bytes rule out
    /// too little.
    fn tile(&self, least: u64, most: u64) -> Term {
        let packed = PACKED_COLUMNS as u64 * (self.dim * 4 + 8) + SCORER_BYTES;
        let bytes = |queries: u64| self.threads * (queries.min(self.rows) * self.query_bytes() + packed);
        Term::elastic(
            format!("t · (q · (8(6k + 64) + 16d + 64) + {PACKED_COLUMNS} · (4d + 8) + {})", written(SCORER_BYTES)),
            "a tile of q queries on each thread: candidates, packed values, true scores; packed base rows",
            bytes(least),
            bytes(most),
        )
    }

    fn sample(&self) -> Term {
        Term::fixed(
            format!("{} · (8k + {LIST_BYTES})", recall::SAMPLE),
            "true lists of the recall sample",
            recall::SAMPLE as u64 * (self.ranks * CANDIDATE_BYTES + LIST_BYTES),
        )
    }

    fn kept_rotation(&self) -> Term {
        Term::fixed("8d² in int8", "the rotation's axes, twice", self.rotation[1])
    }

    fn threshold_sample(&self) -> Term {
        Term::fixed(format!("n / {SAMPLED_SHARE}"), "rows of the threshold sample", self.candidates / SAMPLED_SHARE)
    }

    fn block(&self) -> Term {
        Term::fixed(
            format!("rows of a block · (2(8k + {LIST_BYTES}) + 16), about {}", written(BLOCK_BYTES)),
            "finished lists of a block, as they come and in the order of places",
            self.block_rows.min(self.rows) * block_row_bytes(self.ranks),
        )
    }

    /// Bytes of the candidates of all queries of a block, which a backend that answers tile by tile holds.
    fn candidate_bytes(&self) -> u64 {
        self.block_rows.min(self.rows) * topk::capacity(self.ranks as usize) as u64 * CANDIDATE_BYTES
    }

    fn candidates(&self, optional: bool) -> Term {
        let bytes = self.candidate_bytes();
        let least = if optional { 0 } else { bytes };
        Term::elastic("rows of a block · 8(6k + 64)", "candidates of all queries of a block", least, bytes)
    }

    fn ivf(&self) -> Phase {
        let centres = ivf::centre_values(self.candidates as usize, self.dim as usize) as u64;
        let terms = vec![
            Term::fixed(
                format!("{ORDER_BYTES}n"),
                "rows and documents in order, their places, their lists",
                ORDER_BYTES * self.candidates,
            ),
            Term::fixed(
                "12 · values of the largest task's centres",
                "centres as found, as packed, and all that are kept; at most 4 Mi values",
                3 * centres * 4,
            ),
        ];
        Phase { name: "IVF lists", terms }
    }

    fn rotation(&self) -> Phase {
        let chosen = Term::fixed(
            "56d² + 4 · sampled rows · (d + 48) + 384d in int8",
            "axes while they are found, and the trial of heads",
            self.rotation[0],
        );
        Phase {
            name: "rotation",
            terms: vec![chosen, self.tile(self.tile_queries, self.tile_queries), self.threshold_sample()],
        }
    }

    fn sampling(&self) -> Phase {
        let tile = self.tile(LIST_TILE_QUERIES as u64, LIST_TILE_QUERIES as u64);
        Phase { name: "recall sample", terms: vec![tile, self.sample(), self.kept_rotation(), self.threshold_sample()] }
    }

    /// With at most so many queries in a tile.
    fn search(&self, tile_queries: u64, more: Vec<Term>) -> Phase {
        let mut terms = vec![
            self.block(),
            self.tile(self.tile_queries, tile_queries),
            self.sample(),
            self.kept_rotation(),
            self.threshold_sample(),
        ];
        terms.extend(more);
        Phase { name: "search", terms }
    }
}

/// Bytes of a row of a block: its finished list twice.
fn block_row_bytes(ranks: u64) -> u64 {
    2 * (ranks * CANDIDATE_BYTES + LIST_BYTES) + 16
}

/// Divides `room`, the budget without what every process needs.
pub(crate) fn divide(config: &Config, shape: Shape, documents: u64, room: u64) -> (NeighborsCounts, StageNeed) {
    let terms = Terms::new(config, shape, documents);
    let (faiss_tile_rows, faiss) = faiss_terms(config, &terms, room);
    let (gpu_shared_bytes, gpu) = gpu_terms(config, &terms, room);
    let fine = if gpu.is_empty() { fine_tile_queries(config, &terms, room) } else { terms.tile_queries };
    let phases = if !gpu.is_empty() {
        vec![terms.ivf(), terms.rotation(), terms.sampling(), terms.search(fine, gpu)]
    } else if config.backend == Backend::Faiss {
        vec![terms.ivf(), terms.sampling(), terms.search(fine, faiss)]
    } else {
        vec![terms.ivf(), terms.rotation(), terms.sampling(), terms.search(fine, Vec::new())]
    };
    let counts = NeighborsCounts {
        block_rows: terms.block_rows as usize,
        faiss_tile_rows: faiss_tile_rows as usize,
        fine_tile_queries: fine as usize,
        gpu_shared_bytes: gpu_shared_bytes as usize,
    };
    let mut phases = phases;
    if documents > 0 {
        let words = "which rows share a positive, and the order of candidates";
        let found = Term::fixed("29n + 13 · documents", words, 29 * shape.rows + 13 * documents);
        phases.insert(1, Phase { name: "candidates", terms: vec![found] });
    } else if !config.ranks_rows() {
        let found = Term::fixed("20n", "which rows share a positive, but with --rank-by row", 20 * shape.rows);
        phases.insert(1, Phase { name: "candidates", terms: vec![found] });
    }
    (counts, StageNeed { stage: Stage::Neighbors, phases })
}

fn bytes_of(phase: &Phase) -> u64 {
    phase.terms.iter().map(|term| term.given).sum()
}

/// Queries of a tile where base rows are packed for each tile anew: what is left takes more of them.
fn fine_tile_queries(config: &Config, terms: &Terms, room: u64) -> u64 {
    let least = terms.tile_queries;
    if config.precision != KernelPrecision::Auto || config.backend == Backend::Faiss {
        return least;
    }
    let left = room.saturating_sub(bytes_of(&terms.search(least, Vec::new())));
    (least + left / (terms.threads * terms.query_bytes())).min(LIST_TILE_QUERIES as u64)
}

/// Rows of FAISS's base tile, and what its search takes beside our own.
fn faiss_terms(config: &Config, terms: &Terms, room: u64) -> (u64, Vec<Term>) {
    let thread = faiss_thread_bytes(terms);
    let threads = Term::fixed(
        format!(
            "t · (4 · queries of a call · (d + {FAISS_BLOCK_ROWS} + 9(k + {SPARE})) + {}), at most \
             {FAISS_CALL_QUERIES_MAX} queries",
            written(FAISS_BLAS_BYTES)
        ),
        "FAISS: queries, scores and answers of a call, and what OpenBLAS packs",
        terms.threads * thread,
    );
    let fixed = bytes_of(&terms.search(terms.tile_queries, vec![terms.candidates(false), threads.clone()]));
    let most = FAISS_TILE_ROWS_MAX.min(terms.candidates.max(FAISS_TILE_ROWS_MIN));
    let tile_bytes = |rows: u64| rows * terms.dim * 4;
    let rows = (room.saturating_sub(fixed) / (terms.dim * 4)).clamp(FAISS_TILE_ROWS_MIN, most);
    let tile = Term::elastic(
        format!("rows of a base tile · 4d, {FAISS_TILE_ROWS_MIN} to {FAISS_TILE_ROWS_MAX} rows"),
        "FAISS: a base tile; takes what is left",
        tile_bytes(FAISS_TILE_ROWS_MIN),
        tile_bytes(rows),
    );
    let asked = config.backend == Backend::Faiss;
    (rows, if asked { vec![terms.candidates(false), threads, tile] } else { Vec::new() })
}

/// Most queries of one call of FAISS; at least [`FAISS_CALL_QUERIES_MIN`].
pub(super) fn faiss_call_queries(dim: usize, ranks: usize) -> usize {
    let most = (FAISS_CALL_VALUES / dim).min(FAISS_CALL_ANSWERS / (ranks + SPARE));
    most.clamp(FAISS_CALL_QUERIES_MIN, FAISS_CALL_QUERIES_MAX)
}

/// What each thread needs of FAISS: the queries of one call, their scores with a block of base rows, answers as FAISS
/// sorts them and as it returns them (36 bytes in all), and what OpenBLAS packs.
fn faiss_thread_bytes(terms: &Terms) -> u64 {
    let queries = faiss_call_queries(terms.dim as usize, terms.ranks as usize) as u64;
    queries * 4 * (terms.dim + FAISS_BLOCK_ROWS + 9 * (terms.ranks + SPARE as u64)) + FAISS_BLAS_BYTES
}

/// Bytes of all devices' slots, and what a search on GPUs takes beside our own; nothing where none is sought or, with
/// `auto`, where the budget has no room: that is no reason to refuse it.
fn gpu_terms(config: &Config, terms: &Terms, room: u64) -> (u64, Vec<Term>) {
    if !config.seeks_gpus() {
        return (0, Vec::new());
    }
    let [least, most] = gpu::layout::shared_bytes(terms.dim, terms.ranks + SPARE as u64);
    let others = [bytes_of(&terms.ivf()), bytes_of(&terms.sampling())];
    let own = bytes_of(&terms.search(terms.tile_queries, vec![terms.candidates(false)])).max(others[0]).max(others[1]);
    let shared_room = room.saturating_sub(own).min(most);
    let shared = if shared_room < least { 0 } else { shared_room };
    let asked = config.backend == Backend::FaissGpu;
    if !asked && shared == 0 {
        return (0, Vec::new());
    }
    let slots = Term::elastic(
        "2 slots a device · queries of a tile · (2d or 4d, + 8(k + 64))",
        "GPUs: queries and answers, shared with the workers; takes what is left, up to what four devices need",
        if asked { least } else { 0 },
        shared,
    );
    (shared, vec![terms.candidates(!asked), slots])
}

/// Bytes of the stage's files: lists, and with the IVF lists two numbers a row and a centre for some hundred rows.
pub(crate) fn disk_bytes(config: &Config, shape: Shape, documents: u64) -> u64 {
    let (ranks, all) = (u64::from(config.most_ranks()), shape.rows + documents);
    let candidates = if config.ranks_rows() && documents == 0 { 0 } else { CANDIDATE_FILE_BYTES * all };
    candidates + shape.rows * (12 + 8 * ranks) + 8 * documents + all * shape.dim as u64 / 100 + 4096
}

/// Bytes of the packed bases, which are deleted when the stage ends: a byte a value, lines of tails filled up, what is
/// known of rows, one row in 16 once more; and what GPUs take.
pub(crate) fn temporary_bytes(config: &Config, shape: Shape, documents: u64) -> u64 {
    let (rows, dim) = (shape.rows + documents, shape.dim as u64);
    let gpu_width = if config.precision == KernelPrecision::F32 { 4 } else { 2 };
    let gpu_base = if config.seeks_gpus() { rows * dim * gpu_width } else { 0 };
    (rows * (dim + 84)) * 17 / 16 + 4 * (dim + 1) * dim + gpu_base
}
