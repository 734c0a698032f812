//! The score of a pair, exactly: what every search path ends in.

use super::dot::{dot, dot_half, dot_wide, dot_wide_two, half_to_f64, prefetch, widen_to_f64};
use super::open::Vectors;
use super::row::RowId;
use super::shape::StoreType;

/// Rows that are fetched before they are needed.
const PREFETCH_ROWS: usize = 4;

/// Scores one query against many positives: the reference of the whole search.
///
/// s_ij = f32(Σ_d x_id·y_jd in f64 × scale_i × scale_j), see [`mod@super::dot`].
#[derive(Debug)]
pub(crate) struct Scorer<'a> {
    vectors: &'a Vectors,
    positive_scales: &'a [f64],
    query_row: Option<RowId>,
    query: Vec<f32>,
    query_scale: f64,
}

impl<'a> Scorer<'a> {
    /// A scorer that has no query yet; holds one row as f32.
    pub(crate) fn new(vectors: &'a Vectors) -> Self {
        let dim = vectors.shape().dim;
        Scorer {
            vectors,
            positive_scales: vectors.rows.positive_scales(),
            query_row: None,
            query: vec![0.0; dim],
            query_scale: 0.0,
        }
    }

    /// Takes a query row.
    pub(crate) fn set_query(&mut self, row: RowId) {
        self.vectors.queries.load(row, &mut self.query);
        self.query_scale = self.vectors.rows.query_scales()[row as usize];
        self.query_row = Some(row);
    }

    /// The score of a query row with a positive row; fast while the query stays the same. O(dim).
    pub(crate) fn pair(&mut self, query: RowId, row: RowId) -> f32 {
        if self.query_row != Some(query) {
            self.set_query(query);
        }
        self.score(row)
    }

    /// Scores a query with many rows, fetching each from memory while the one before is scored.
    /// O(count · dim).
    pub(crate) fn pairs<T>(
        &mut self,
        query: RowId,
        items: &mut [T],
        row: impl Fn(&T) -> RowId,
        mut put: impl FnMut(&mut T, f32),
    ) {
        if self.query_row != Some(query) {
            self.set_query(query);
        }
        let ahead = PREFETCH_ROWS.min(items.len());
        let fetch = |row: RowId| {
            prefetch(self.vectors.positives.row_bytes(row));
            prefetch(bytemuck::bytes_of(&self.positive_scales[row as usize]));
        };
        items[..ahead].iter().for_each(|item| fetch(row(item)));
        for index in 0..items.len() {
            if let Some(next) = items.get(index + PREFETCH_ROWS) {
                fetch(row(next));
            }
            let score = self.score(row(&items[index]));
            put(&mut items[index], score);
        }
    }

    /// The score of the query with a row's positive. O(dim).
    pub(crate) fn score(&mut self, row: RowId) -> f32 {
        let scale = self.query_scale * self.positive_scales[row as usize];
        let sum = match self.vectors.positives.precision() {
            StoreType::F32 => dot(&self.query, bytemuck::cast_slice(self.vectors.positives.row_bytes(row))),
            StoreType::F16 => dot_half(&self.query, bytemuck::cast_slice(self.vectors.positives.row_bytes(row))),
        };
        // Minus zero equals zero, and must tie with it.
        (sum * scale) as f32 + 0.0
    }
}

/// Scores many pairs of a few queries, row after row: rows that several queries want are loaded once.
///
/// Memory: the queries in f32, and one row in f64.
#[derive(Debug)]
pub(crate) struct TileScorer<'a> {
    vectors: &'a Vectors,
    queries: Vec<f32>,
    scales: Vec<f64>,
    row: Vec<f64>,
}

impl<'a> TileScorer<'a> {
    /// Loads the queries.
    pub(crate) fn new(vectors: &'a Vectors, queries: &[RowId]) -> Self {
        let dim = vectors.shape().dim;
        let mut values = vec![0f32; queries.len() * dim];
        for (query, out) in queries.iter().zip(values.chunks_exact_mut(dim)) {
            vectors.queries.load(*query, out);
        }
        let scales = vectors.rows.query_scales();
        let scales = queries.iter().map(|query| scales[*query as usize]).collect();
        TileScorer { vectors, queries: values, scales, row: vec![0.0; dim] }
    }

    /// Scores one row with some of the queries; the same bits as [`Scorer::score`]. `chosen` are indices of queries;
    /// `put` is told an index of `chosen` and the score of that query. O(chosen · dim).
    pub(crate) fn score(&mut self, row: RowId, chosen: &[u32], mut put: impl FnMut(usize, f32)) {
        let bytes = self.vectors.positives.row_bytes(row);
        match self.vectors.positives.precision() {
            StoreType::F32 => widen_to_f64(bytemuck::cast_slice(bytes), &mut self.row),
            StoreType::F16 => half_to_f64(bytemuck::cast_slice(bytes), &mut self.row),
        }
        let dim = self.row.len();
        let scale = self.vectors.rows.positive_scales()[row as usize];
        let query = |index: u32| &self.queries[index as usize * dim..][..dim];
        // Minus zero equals zero, and must tie with it.
        let whole = |index: u32, sum: f64| (sum * (self.scales[index as usize] * scale)) as f32 + 0.0;
        let (pairs, last) = chosen.as_chunks::<2>();
        for (number, pair) in pairs.iter().enumerate() {
            // Two at a time, since sums wait for themselves.
            let sums = dot_wide_two(pair.map(query), &self.row);
            put(2 * number, whole(pair[0], sums[0]));
            put(2 * number + 1, whole(pair[1], sums[1]));
        }
        if let [index] = last {
            put(chosen.len() - 1, whole(*index, dot_wide(query(*index), &self.row)));
        }
    }

    /// Asks for a row ahead of time.
    pub(crate) fn fetch(&self, row: RowId) {
        prefetch(self.vectors.positives.row_bytes(row));
    }
}
