//! What import needs: labels of all rows, elements of lists of keys, and on each thread a batch and the pages, or the
//! compressed record batch, that it is decoded from; of files in stores the blocks that were fetched.

use crate::budget::{MIB, Phase, StageNeed, Term, written};
use crate::config::{Config, EmbeddingColumns};
use crate::objects::BLOCK_BYTES;
use crate::run::Stage;
use crate::vectors::{ListElements, Shape};

/// Rows of both sides that a thread holds at a time: decoded, measured, encoded.
const BATCH_BYTES: u64 = 2 * MIB;
/// A Parquet page of each column, decompressed, where writers keep to a MiB.
const PAGE_BYTES: u64 = 6 * MIB;
/// Bytes of a value of a batch: both sides as f64 at most, as f32, and encoded.
const VALUE_BYTES: u64 = 24;
/// Hashes while ids and vectors are compared, 8 bytes for each vector; and each row's number in task-grouped order, or
/// the codes of equal positives.
const LABEL_BYTES: u64 = 20;
/// The same with the codes of a key column.
const KEYED_LABEL_BYTES: u64 = 28;
/// Marks of rows that cannot be used, a bit each: those that were left out, and those that are found.
const ROWS_A_MARK_BYTE: u64 = 4;
/// A label of a key column of lists: its hash and row, sorted, then its code; and of those that rows share the order.
const ELEMENT_BYTES: u64 = 24;

/// Blocks of a column that a thread reads from a store: one that is decoded, and the next.
const BLOCKS_A_THREAD: u64 = 2;

/// More than any machine holds: sums with it stay within a u64, whatever a file says.
const UNIT_BYTES_MAX: u64 = 1 << 60;

/// Counts of the vectors stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VectorsCounts {
    /// Rows of one side that a thread decodes at a time.
    pub batch_rows: usize,
    /// Blocks that are held of each column that is read from a store at a time.
    pub column_blocks: u64,
}

/// What a thread holds of the input files while it reads a unit of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct UnitBytes {
    /// Bytes of the largest record batch that is decompressed as a whole.
    pub(crate) record_batch: u64,
    /// Bytes of the pages that are held at a time, where they are largest.
    pub(crate) pages: u64,
    /// Columns that are read from files in stores at a time; 0: no file is in a store.
    pub(crate) stored_columns: u64,
    /// Units of all files: more threads than that have nothing to read.
    pub(crate) count: u64,
}

/// What beside the rows' shape decides what a job needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InputMeasures {
    /// What key columns of lists hold, of rows and documents.
    pub(crate) lists: ListElements,
    /// What reading the files takes.
    pub(crate) units: UnitBytes,
    /// Documents of the corpus.
    pub(crate) documents: u64,
    /// What reading judged pairs takes.
    pub(crate) judged_bytes: u64,
    /// Rows of an epoch's batches at most, where tasks have weights; else 0: none comes twice.
    pub(crate) epoch_rows: u64,
}

/// Divides the budget.
pub(crate) fn divide(config: &Config, shape: Shape, input: InputMeasures) -> (VectorsCounts, StageNeed) {
    let InputMeasures { lists, units, documents, .. } = input;
    // Documents have labels and marks as rows have.
    let (rows, dim) = (shape.rows + documents, shape.dim as u64);
    let threads = (config.threads as u64).min(units.count.max(1));
    let pages = units.pages.max(PAGE_BYTES);
    let batch_rows = (BATCH_BYTES / (dim * VALUE_BYTES)).clamp(16, 4096);
    let label_bytes = if config.columns.keys.is_empty() { LABEL_BYTES } else { KEYED_LABEL_BYTES };
    let mut terms = vec![
        Term::fixed(
            format!("{LABEL_BYTES}n, or {KEYED_LABEL_BYTES}n with key columns"),
            "hashes, sort order, codes and places while labels are coded",
            rows * label_bytes,
        ),
        Term::fixed(
            format!("n / {ROWS_A_MARK_BYTE}"),
            "marks of rows whose embeddings cannot be used",
            rows.div_ceil(ROWS_A_MARK_BYTE),
        ),
        Term::fixed(
            format!("t · rows of a batch · {VALUE_BYTES}d, about t · {}", written(BATCH_BYTES)),
            "decoded and encoded rows of both sides",
            threads * batch_rows * dim * VALUE_BYTES,
        ),
        Term::fixed(
            format!("t · pages of the columns read at a time, {} at least", written(PAGE_BYTES)),
            "decompressed Parquet pages, with their dictionary",
            threads.saturating_mul(pages).min(UNIT_BYTES_MAX),
        ),
    ];
    let column_blocks = threads * BLOCKS_A_THREAD;
    if units.stored_columns > 0 {
        terms.push(Term::fixed(
            format!("t · ({BLOCKS_A_THREAD} · columns read at a time · {} + a page)", written(BLOCK_BYTES)),
            "blocks of files in stores, with the next ones, and a page as it is stored",
            (column_blocks * units.stored_columns * BLOCK_BYTES)
                .saturating_add(threads.saturating_mul(pages))
                .min(UNIT_BYTES_MAX),
        ));
    }
    if units.record_batch > 0 {
        terms.push(Term::fixed(
            "t · columns of the largest compressed record batch",
            "decompressed columns of Arrow record batches",
            threads.saturating_mul(units.record_batch).min(UNIT_BYTES_MAX),
        ));
    }
    if lists.columns > 0 {
        terms.push(Term::fixed(
            format!("{ELEMENT_BYTES} · elements of the largest key column of lists"),
            "hashes, rows and codes while lists of keys are coded",
            lists.most * ELEMENT_BYTES,
        ));
    }
    let need = StageNeed { stage: Stage::Vectors, phases: vec![Phase { name: "import", terms }] };
    (VectorsCounts { batch_rows: batch_rows as usize, column_blocks }, need)
}

/// Bytes of the stage's files; `row_bytes`: a stored row, both sides. A document is a row without a query, whose bytes
/// are counted all the same.
pub(crate) fn disk_bytes(config: &Config, rows: u64, lists: ListElements, row_bytes: u64) -> u64 {
    let keys = 1 + config.columns.keys.len() as u64 - lists.columns;
    // A key list of both sides' vectors: an offset and two codes a row.
    let vectors = if matches!(config.columns.embeddings, EmbeddingColumns::Shared(_)) { 0 } else { 16 };
    rows * (row_bytes + 32 + 4 * keys + 8 * lists.columns + vectors) + 4 * lists.total
}
