//! FAISS's flat index as the tile kernel, with its answers made exact.
//!
//! Algorithm: each base tile of the task becomes an `IndexFlatIP` (unit vectors for cosine, the input's
//! own for dot), which gives every query its best k = ranks + [`SPARE`] rows by a sum in f32. What they are
//! worth is for [`super::answers`] to say. Where a tile may hide a row, its rows are scored one by one by the
//! reference for that query. This is slow, and needed only where more than `SPARE` rows share a key or a score
//! with the last rank. O(candidates · queries · dim).
//!
//! Memory: one tile in f32, and a piece of it (`PIECE_VALUES`) while it is filled; the candidates of every
//! query of the segment, at most [`super::topk::capacity`] each; and on each thread the queries and answers of a call
//! ([`faiss_call_queries`]), their scores with 1024 base rows, and what OpenBLAS packs.

use std::ops::Range;

use ::faiss::index::flat::FlatIndex;
use ::faiss::{ConcurrentIndex, Idx, Index};
use rayon::prelude::*;

use super::answers::{CertifiedTopK, SPARE, TileAnswers, is_permitted, sum_error};
use super::blas;
use super::budget::{FAISS_CALL_QUERIES_MIN, faiss_call_queries};
use super::columns::BaseRows;
use super::topk::{Candidate, score_exactly};
use crate::config::Metric;
use crate::error::{Error, Result};
use crate::vectors::dot::dot;
use crate::vectors::{Keys, RowId, Scorer, VectorStore, Vectors};
use crate::watch::Watch;

/// Values that are decoded at a time to fill a tile.
const PIECE_VALUES: usize = 1 << 20;
/// Rows that are scored one by one at a time.
const STEP_ROWS: usize = 1024;

/// A search by FAISS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FaissSearch<'a> {
    pub vectors: &'a Vectors,
    /// How vectors are compared.
    pub metric: Metric,
    /// Base rows that FAISS holds at a time.
    pub base_tile_rows: usize,
}

impl FaissSearch<'_> {
    /// The exact best `ranks` (or all, where there are fewer) of a task's candidates for some of its queries.
    ///
    /// # Errors
    /// The BLAS is not OpenBLAS, FAISS fails, or the watch stops the job.
    pub(crate) fn segment(
        &self,
        base: &BaseRows<'_>,
        queries: &[RowId],
        ranks: usize,
        watch: Watch<'_>,
    ) -> Result<Vec<Vec<Candidate>>> {
        blas::stay_on_this_thread()?;
        let ranks = ranks.min(base.len().saturating_sub(1));
        if ranks == 0 || queries.is_empty() {
            watch.add(base.len() as u64 * queries.len() as u64)?;
            return Ok(vec![Vec::new(); queries.len()]);
        }
        let vectors = self.vectors;
        let mut tile = FaissTile::new(vectors, base, self.base_tile_rows, ranks, self.metric)?;
        let mut best: Vec<CertifiedTopK> = queries.iter().map(|_| CertifiedTopK::new(ranks)).collect();
        let call = call_queries(vectors.shape().dim, ranks, queries.len());
        let mut uncertain = 0;
        for rows in tiles(base, self.base_tile_rows, queries[0]) {
            let pairs = rows.len() as u64 * queries.len() as u64;
            tile.fill(rows)?;
            let calls = best
                .par_chunks_mut(call)
                .zip(queries.par_chunks(call))
                .map_init(|| Scorer::new(vectors), |scorer, (best, queries)| tile.search(queries, best, scorer));
            uncertain += calls.try_reduce(|| 0, |a, b| Ok(a + b))?;
            watch.add(pairs)?;
        }
        if uncertain > 0 {
            tracing::debug!("FAISS's answers were not certain {uncertain} times: the tile was scored row by row");
        }
        let lists = queries.par_iter().zip(best).map_init(
            || Scorer::new(vectors),
            |scorer, (query, best)| best.kept.finish(|list| score_exactly(scorer, *query, list)),
        );
        Ok(lists.collect())
    }
}

/// The BLAS that FAISS multiplies with: what it says of itself, and its file.
pub(crate) fn blas() -> String {
    blas::describe()
}

/// Queries of one call: enough for a matrix product, and two calls for each thread where they suffice.
fn call_queries(dim: usize, ranks: usize, queries: usize) -> usize {
    let even = queries.div_ceil(2 * rayon::current_num_threads());
    even.clamp(FAISS_CALL_QUERIES_MIN, faiss_call_queries(dim, ranks))
}

/// The base tiles, beginning with the queries' own: near rows raise the thresholds early.
fn tiles(base: &BaseRows<'_>, tile_rows: usize, first_query: RowId) -> Vec<Range<usize>> {
    let starts = (0..base.len()).step_by(tile_rows);
    let mut tiles: Vec<Range<usize>> = starts.map(|start| start..base.len().min(start + tile_rows)).collect();
    let own = (base.number_of(first_query) / tile_rows).min(tiles.len() - 1);
    tiles.rotate_left(own);
    tiles
}

/// Some base rows in FAISS, filled again and again.
struct FaissTile<'a> {
    vectors: &'a Vectors,
    keys: Keys<'a>,
    base: &'a BaseRows<'a>,
    index: FlatIndex,
    /// Numbers of the rows among the candidates.
    rows: Range<usize>,
    /// Largest norm of the rows; 1 for unit vectors.
    norm: f64,
    ranks: usize,
    metric: Metric,
    piece: Vec<f32>,
}

impl<'a> FaissTile<'a> {
    /// Empty, with room for `rows` rows, or all candidates.
    fn new(
        vectors: &'a Vectors,
        base: &'a BaseRows<'a>,
        rows: usize,
        ranks: usize,
        metric: Metric,
    ) -> Result<FaissTile<'a>> {
        let rows = rows.min(base.len());
        let dim = vectors.shape().dim;
        let mut index = FlatIndex::new_ip(dim as u32).map_err(failed)?;
        // FAISS's buffer doubles as it grows, and keeps its size when emptied: this makes it fit exactly.
        index.add(&vec![0.0; rows * dim]).map_err(failed)?;
        let piece = vec![0.0; (PIECE_VALUES / dim).clamp(1, rows) * dim];
        Ok(FaissTile { vectors, keys: vectors.rows.keys(), base, index, rows: 0..0, norm: 0.0, ranks, metric, piece })
    }

    /// Puts these rows in place of what was there.
    fn fill(&mut self, rows: Range<usize>) -> Result<()> {
        let dim = self.vectors.shape().dim;
        self.index.reset().map_err(failed)?;
        self.norm = 0.0;
        for start in rows.clone().step_by(self.piece.len() / dim) {
            let count = (rows.end - start).min(self.piece.len() / dim);
            let piece = &mut self.piece[..count * dim];
            let (store, scales, metric) = (&self.vectors.positives, self.vectors.rows.positive_scales(), self.metric);
            let norms = piece
                .par_chunks_exact_mut(dim)
                .zip(start..start + count)
                .map(|(values, number)| load(store, self.base.at(number), scales, metric, values));
            self.norm = norms.reduce(|| 0.0, f64::max).max(self.norm);
            self.index.add(piece).map_err(failed)?;
        }
        self.rows = rows;
        Ok(())
    }

    /// Finds the best rows of the tile for some queries. Returns for how many FAISS's answer was uncertain.
    fn search(&self, queries: &[RowId], best: &mut [CertifiedTopK], scorer: &mut Scorer<'_>) -> Result<u64> {
        blas::stay_on_this_thread()?;
        let dim = self.vectors.shape().dim;
        let (store, scales) = (&self.vectors.queries, self.vectors.rows.query_scales());
        let mut values = vec![0.0; best.len() * dim];
        let rows = values.chunks_exact_mut(dim).zip(queries);
        let norms: Vec<f64> = rows.map(|(values, row)| load(store, *row, scales, self.metric, values)).collect();
        let asked = self.rows.len().min(self.ranks + SPARE);
        let found = ConcurrentIndex::search(&self.index, &values, asked).map_err(failed)?;
        let mut uncertain = 0;
        let answers = found.distances.chunks_exact(asked).zip(found.labels.chunks_exact(asked));
        for (((query, best), norm), (scores, labels)) in queries.iter().copied().zip(best).zip(norms).zip(answers) {
            let error = sum_error(dim, f64::from(f32::EPSILON) / 2.0, norm, self.norm);
            let list = self.answers(scores, labels);
            let answers = TileAnswers { list: &list, is_whole: asked == self.rows.len(), error };
            let permitted = |row| is_permitted(&self.keys, query, row);
            let exact = |list: &mut [Candidate]| score_exactly(scorer, query, list);
            if !best.take(answers, permitted, exact) {
                self.search_exactly(query, best, scorer);
                uncertain += 1;
            }
        }
        Ok(uncertain)
    }

    /// FAISS's answers, best first.
    fn answers(&self, scores: &[f32], labels: &[Idx]) -> Vec<Candidate> {
        let answers = scores.iter().zip(labels).filter_map(|(score, label)| Some((*score, label.get()?)));
        answers.map(|(score, place)| Candidate { score, row: self.base.at(self.rows.start + place as usize) }).collect()
    }

    /// Takes the tile's rows by true scores.
    fn search_exactly(&self, query: RowId, best: &mut CertifiedTopK, scorer: &mut Scorer<'_>) {
        for start in self.rows.clone().step_by(STEP_ROWS) {
            let rows = start..self.rows.end.min(start + STEP_ROWS);
            let permitted = rows.map(|number| self.base.at(number)).filter(|row| is_permitted(&self.keys, query, *row));
            let mut list: Vec<Candidate> = permitted.map(|row| Candidate { score: 0.0, row }).collect();
            score_exactly(scorer, query, &mut list);
            for candidate in list {
                if candidate.score >= best.threshold.max(best.kept.threshold()) {
                    best.kept.push(candidate.row, candidate.score, 0.0, |list| score_exactly(scorer, query, list));
                }
            }
        }
    }
}

/// Loads a row, at unit length where the metric ignores norms; returns its norm.
fn load(store: &VectorStore, row: RowId, scales: &[f64], metric: Metric, out: &mut [f32]) -> f64 {
    store.load(row, out);
    if !metric.ignores_norms() {
        return dot(out, out).sqrt();
    }
    let scale = scales[row as usize];
    out.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
    1.0
}

fn failed(error: ::faiss::error::Error) -> Error {
    Error::runtime("FAISS failed")
        .found(error.to_string())
        .remedy("free some memory and run the same command again, or mine with --backend cpu")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::neighbors::given_vectors::GivenVectors;
    use crate::neighbors::topk::by_rank;
    use crate::vectors::UNIQUE;

    /// What the values of the vectors are drawn from.
    #[derive(Debug, Clone, Copy)]
    enum Drawn {
        Plain,
        /// Small whole numbers: many scores tie, and many rows are copies.
        Whole,
        /// Few different rows, and their neighbours within rounding errors.
        Copies,
        /// Norms over many orders of magnitude, down to subnormal numbers.
        Wild,
    }

    fn draw(kind: Drawn, rows: usize, dim: usize, random: &mut ChaCha8Rng) -> Vec<f32> {
        let mut values: Vec<f32> = (0..rows * dim)
            .map(|_| match kind {
                Drawn::Whole => random.random_range(-2i32..=2) as f32,
                _ => random.random_range(-1.0f32..1.0),
            })
            .collect();
        for row in 0..rows {
            match kind {
                Drawn::Plain | Drawn::Whole => {}
                Drawn::Copies => {
                    let from = random.random_range(0..rows.min(3)) * dim;
                    values.copy_within(from..from + dim, row * dim);
                    if random.random() {
                        values[row * dim] = values[row * dim].next_up();
                    }
                }
                Drawn::Wild => {
                    let scale = random.random_range(-140.0f32..60.0).exp2();
                    values[row * dim..][..dim].iter_mut().for_each(|value| *value *= scale);
                }
            }
        }
        for row in values.chunks_exact_mut(dim).filter(|row| row.iter().all(|value| *value == 0.0)) {
            row[0] = 1.0; // no row has norm zero
        }
        values
    }

    fn brute_force(vectors: &Vectors, task: Range<RowId>, query: RowId, ranks: usize) -> Vec<Candidate> {
        let (keys, mut scorer) = (vectors.rows.keys(), Scorer::new(vectors));
        let permitted = task.filter(|row| *row != query && !keys.conflict(query, *row));
        let mut all: Vec<Candidate> = permitted.map(|row| Candidate { row, score: scorer.pair(query, row) }).collect();
        all.sort_by(by_rank);
        all.truncate(ranks);
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn faiss_finds_what_brute_force_finds(
            kind in prop_oneof![Just(Drawn::Plain), Just(Drawn::Whole), Just(Drawn::Copies), Just(Drawn::Wild)],
            (rows, dim) in (1usize..700, prop_oneof![1usize..6, 1usize..90]),
            (ranks, tile_rows) in (1usize..150, prop_oneof![1usize..40, 40usize..800]),
            (is_cosine, one_column, seed) in any::<(bool, bool, u64)>(),
            shared in prop_oneof![Just(0u32), 1u32..400],
        ) {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let queries = draw(kind, rows, dim, &mut random);
            let positives = if one_column { queries.clone() } else { draw(kind, rows, dim, &mut random) };
            // A key that many rows have: more than FAISS is asked for beyond the ranks.
            let mut code = |row: usize| {
                if random.random_range(0..700) < shared { random.random_range(0..2) } else { UNIQUE - 1 - row as u32 }
            };
            let keys = vec![vec![UNIQUE; rows], (0..rows).map(&mut code).collect()];
            let metric = if is_cosine { Metric::Cosine } else { Metric::Dot };
            let vectors = GivenVectors { dim, queries, positives, keys, metric }.write();
            let start = random.random_range(0..rows) as RowId / 3;
            let task = start..rows as RowId;
            let segment_queries: Vec<RowId> =
                (0..random.random_range(1..=task.len())).map(|_| random.random_range(task.clone())).collect();
            let pairs = AtomicU64::new(0);
            let count = |more: u64| { pairs.fetch_add(more, Ordering::Relaxed); Ok(()) };
            let search = FaissSearch { vectors: &vectors, metric, base_tile_rows: tile_rows };
            let base = BaseRows::All(task.clone());
            let found = search.segment(&base, &segment_queries, ranks, Watch::new(&count)).unwrap();
            let pairs = pairs.into_inner();
            prop_assert_eq!(pairs, task.len() as u64 * segment_queries.len() as u64);
            prop_assert_eq!(found.len(), segment_queries.len());
            for (query, found) in segment_queries.into_iter().zip(found) {
                prop_assert_eq!(found, brute_force(&vectors, task.clone(), query, ranks), "query {}", query);
            }
        }
    }

    #[test]
    fn faiss_stops_where_its_caller_does() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let values = draw(Drawn::Plain, 100, 8, &mut random);
        let keys = vec![vec![UNIQUE; 100]];
        let data = GivenVectors { dim: 8, queries: values.clone(), positives: values, keys, metric: Metric::Cosine };
        let tiles = AtomicU64::new(0);
        let stop = |_| match tiles.fetch_add(1, Ordering::Relaxed) {
            1 => Err(Error::runtime("enough")),
            _ => Ok(()),
        };
        let search = FaissSearch { vectors: &data.write(), metric: Metric::Cosine, base_tile_rows: 10 };
        let error = search.segment(&BaseRows::All(0..100), &Vec::from_iter(0..100), 5, Watch::new(&stop)).unwrap_err();
        assert_eq!((error.to_string().as_str(), tiles.into_inner()), ("enough", 2));
    }
}
