//! Whether a rotation saves time, and how long its head should be: by trial on a sample of the largest task.
//!
//! Each pair costs the products of its heads; a pair that these do not rule out costs the products of its tails too. A
//! longer head costs more and rules out more. The head of the least expected cost is chosen, and a rotation only where
//! it saves more than it costs itself. Memory: the sample's coordinates, the axes. O(sample · dim).

use rayon::prelude::*;

use super::cpu::matrix::UnitRows;
use super::cpu::rotation::{Rotation, principal_axes};
use super::cpu::simd::Simd;
use super::ivf::spread;
use crate::vectors::dot::dot;
use crate::vectors::{RowId, Vectors};

/// Cost of one value of one pair's heads, in the same unit as the others (nanoseconds on a 2023 server core).
const HEAD_VALUE: f64 = 0.005;
/// Cost of a pair whose tail must be scored, and of one value of it.
const TAIL_PAIR: f64 = 10.0;
const TAIL_VALUE: f64 = 0.01;
/// Cost of rotating one value by one axis, and of finding axes, by the cube of their number.
const ROTATED_VALUE: f64 = 0.02;
const AXES_CUBE: f64 = 2.5;
/// More dimensions are not rotated: the axes would take too much memory.
pub(crate) const DIM_MAX: usize = 1536;
const DIM_MIN: usize = 64;
/// Base rows that are tried: one in 64, but at least the first number and at most the second, or [`BASE_VALUES_MAX`]
/// values. The best candidates of a large input are too rare for a small sample to hold any.
const BASE_SAMPLE: [usize; 2] = [3072, 16_384];
const BASE_VALUES_MAX: usize = 6 << 20;
const QUERY_SAMPLE: usize = 96;
/// Heads that are tried: one, two, three ... of this many equal parts of the dimensions.
const TRIALS: usize = 24;
/// About the error of the byte kernel.
const ERROR: f32 = 0.014;

fn base_sample(rows: usize, dim: usize) -> usize {
    let [least, most] = BASE_SAMPLE;
    (rows / 64).min(most).min(BASE_VALUES_MAX / dim).max(least).min(rows)
}

/// Bytes that the choice needs, and those that the rotation keeps.
pub(crate) fn bytes(rows: usize, dim: usize) -> [u64; 2] {
    if !(DIM_MIN..=DIM_MAX).contains(&dim) {
        return [0; 2];
    }
    let (square, sample) = ((dim * dim) as u64, base_sample(rows, dim));
    [56 * square + (sample * (dim + 2 * TRIALS) * 4 + QUERY_SAMPLE * dim * 4) as u64, 8 * square]
}

/// A rotation, where one saves time. O(dim³ + sample · dim²).
pub(crate) fn choose(simd: Simd, vectors: &Vectors, ranks: usize) -> Option<Rotation> {
    let dim = vectors.shape().dim;
    let pairs: f64 = vectors.tasks.ranges().map(|task| (task.len() as f64).powi(2)).sum();
    let task = vectors.tasks.ranges().max_by_key(|task| task.len())?;
    let square = (dim * dim) as f64;
    let extra = ROTATED_VALUE * square * 2.0 * f64::from(vectors.row_count()) + AXES_CUBE * square * dim as f64;
    // At best half of the products are saved.
    if !(DIM_MIN..=DIM_MAX).contains(&dim) || extra > pairs * HEAD_VALUE * dim as f64 / 2.0 {
        return None;
    }
    let sample = spread(task.clone(), task.len().min(2 * dim));
    let axes = principal_axes(&vectors.positives, &sample);
    let plain = axes.unmixed(simd);
    let base = coordinates(&plain, &vectors.positives, &spread(task.clone(), base_sample(task.len(), dim)));
    let queries = coordinates(&plain, &vectors.queries, &spread(task.clone(), task.len().min(QUERY_SAMPLE)));
    // One more than the share of the best: thresholds come to that in the end, and begin lower.
    let rank = (ranks * (base.len() / dim) / task.len() + 1).min(base.len() / dim);
    let left = shares_left(&queries, &base, dim, rank);
    let cost = |trial: usize| {
        let head = head_of(trial, dim);
        let tails = left[trial] * (TAIL_PAIR + TAIL_VALUE * (dim - head) as f64);
        pairs * (HEAD_VALUE * head as f64 + if head < dim { tails } else { 0.0 })
    };
    let best = (0..TRIALS).min_by(|a, b| cost(*a).total_cmp(&cost(*b)))?;
    let whole = pairs * HEAD_VALUE * dim as f64;
    tracing::debug!(
        "a head of {} of {dim} dimensions leaves {:.2} % of pairs; expected cost {:.2} of a search without",
        head_of(best, dim),
        100.0 * left[best],
        (cost(best) + extra) / whole
    );
    (cost(best) + extra < 0.95 * whole).then(|| axes.cut(simd, head_of(best, dim)))
}

fn head_of(trial: usize, dim: usize) -> usize {
    (dim * (trial + 1) / TRIALS).next_multiple_of(4).min(dim)
}

fn coordinates(plain: &Rotation, source: &impl UnitRows, rows: &[RowId]) -> Vec<f32> {
    let mut values = vec![0f32; rows.len() * source.dim()];
    for (row, out) in rows.iter().zip(values.chunks_exact_mut(source.dim())) {
        source.load_unit(*row, out);
    }
    values.par_chunks_mut(96 * source.dim()).for_each(|values| plain.apply(values));
    values
}

/// For each trial, the share of pairs that are left: whose heads, with the most that tails can add, reach the
/// similarity of the query's `rank`-th best. Pure. O(queries · base · dim).
fn shares_left(queries: &[f32], base: &[f32], dim: usize, rank: usize) -> [f64; TRIALS] {
    let heads: [usize; TRIALS] = std::array::from_fn(|trial| head_of(trial, dim));
    let tails = |row: &[f32]| heads.map(|head| dot(&row[head..], &row[head..]).sqrt() as f32);
    let base_tails: Vec<[f32; TRIALS]> = base.chunks_exact(dim).map(tails).collect();
    let counts: Vec<[u64; TRIALS]> = queries
        .par_chunks_exact(dim)
        .map(|query| {
            let query_tails = tails(query);
            let sums: Vec<[f32; TRIALS]> = base.chunks_exact(dim).map(|row| running(query, row, &heads)).collect();
            let mut all: Vec<f32> = sums.iter().map(|sums| sums[TRIALS - 1]).collect();
            let threshold = *all.select_nth_unstable_by(rank - 1, |a, b| b.total_cmp(a)).1 - ERROR;
            std::array::from_fn(|trial| {
                let most = |(sums, tails): (&[f32; TRIALS], &[f32; TRIALS])| {
                    sums[trial] + query_tails[trial] * tails[trial] >= threshold
                };
                sums.iter().zip(&base_tails).filter(|pair| most(*pair)).count() as u64
            })
        })
        .collect();
    let pairs = (queries.len() / dim * (base.len() / dim)) as f64;
    std::array::from_fn(|trial| counts.iter().map(|counts| counts[trial]).sum::<u64>() as f64 / pairs)
}

/// Inner products of the first `heads[i]` dimensions.
fn running(x: &[f32], y: &[f32], heads: &[usize; TRIALS]) -> [f32; TRIALS] {
    let (mut sum, mut start) = (0f32, 0);
    heads.map(|end| {
        let products = x[start..end].iter().zip(&y[start..end]).map(|(x, y)| x * y);
        start = end;
        sum += products.sum::<f32>();
        sum
    })
}
