//! The frame of a search: whether a lead and a rotation save time, and how long the rotation's head should be, by trial
//! on a sample of the largest task.
//!
//! Each pair costs the products of its heads; a pair that these do not rule out costs the products of its tails too. A
//! longer head costs more and rules out more. The head of the least expected cost is chosen, and a rotation only where
//! it saves more than it costs itself. Memory: the sample's coordinates, the axes. O(sample · dim).

use std::ops::Range;

use rayon::prelude::*;

use super::cpu::frame::{Frame, FramedRows, Lead};
use super::cpu::matrix::UnitRows;
use super::cpu::rotation::{Rotation, principal_axes};
use super::cpu::simd::Simd;
use super::k_means::spread;
use crate::config::Metric;
use crate::vectors::dot::dot;
use crate::vectors::{RowId, Vectors};

/// Cost of rotating one value by one axis, and of finding axes, by the cube of their number, in nanoseconds.
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
/// About what whole numbers lose of a unit vector, and where products are summed in 16 bits.
const BASE_ERROR: [f32; 2] = [0.007, 0.0075];
const QUERY_ERROR: [f32; 2] = [0.007, 0.0105];
/// Rows that the lead is found in.
const LEAD_SAMPLE: usize = 2048;
/// Rows of greater norm have no lead: coordinates are divided by scales, and must stay within f32's range.
const NORM_MAX: f64 = 1e30;

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

/// The frame of a search of so many ranks. O(dim³ + sample · dim²).
pub(crate) fn choose(simd: Simd, vectors: &Vectors, ranks: usize, metric: Metric) -> Frame {
    let Some(task) = vectors.tasks.ranges().max_by_key(|task| task.len()) else { return Frame::default() };
    let lead = find_lead(vectors, &task, metric);
    let rotation = choose_rotation(simd, vectors, &task, ranks, lead.clone());
    Frame { lead, rotation }
}

fn find_lead(vectors: &Vectors, task: &Range<RowId>, metric: Metric) -> Option<Lead> {
    let lead = Lead::find(&vectors.positives, &spread(task.clone(), task.len().min(LEAD_SAMPLE)))?;
    let row = || vec![0f32; vectors.shape().dim];
    let is_short = |values: &mut Vec<f32>, row: RowId| vectors.positives.load_unit(row, values) <= NORM_MAX;
    let all = (0..vectors.row_count()).into_par_iter();
    let is_sound = metric.ignores_norms() || all.map_init(row, is_short).all(|is_short| is_short);
    tracing::debug!("the vectors have a lead{}", if is_sound { "" } else { ", but norms that leave no room for one" });
    is_sound.then_some(lead)
}

fn choose_rotation(
    simd: Simd,
    vectors: &Vectors,
    task: &Range<RowId>,
    ranks: usize,
    lead: Option<Lead>,
) -> Option<Rotation> {
    let dim = vectors.shape().dim;
    let pairs: f64 = vectors.tasks.ranges().map(|task| (task.len() as f64).powi(2)).sum();
    let square = (dim * dim) as f64;
    let extra = ROTATED_VALUE * square * 2.0 * f64::from(vectors.row_count()) + AXES_CUBE * square * dim as f64;
    let costs = Costs::of(simd);
    // At best half of the products are saved.
    if !(DIM_MIN..=DIM_MAX).contains(&dim) || extra > pairs * costs.head_value * dim as f64 / 2.0 {
        return None;
    }
    let without = Frame { lead: lead.clone(), rotation: None };
    let sample = spread(task.clone(), task.len().min(2 * dim));
    let axes = principal_axes(&InFrame { source: &vectors.positives, frame: &without }, &sample);
    let plain = Frame { lead, rotation: Some(axes.unmixed(simd)) };
    let base = plain.load_in_parallel(&vectors.positives, &spread(task.clone(), base_sample(task.len(), dim)));
    let queries = plain.load_in_parallel(&vectors.queries, &spread(task.clone(), task.len().min(QUERY_SAMPLE)));
    // One more than the share of the best: thresholds come to that in the end, and begin lower.
    let rank = (ranks * base.norms.len() / task.len() + 1).min(base.norms.len());
    let left = shares_left(&queries, &base, dim, rank, side_errors(simd));
    let cost = |trial: usize| {
        let head = head_of(trial, dim);
        let tails = left[trial] * (costs.tail_pair + costs.tail_value * (dim - head) as f64);
        pairs * (costs.head_value * head as f64 + if head < dim { tails } else { 0.0 })
    };
    let best = (0..TRIALS).min_by(|a, b| cost(*a).total_cmp(&cost(*b)))?;
    let whole = pairs * costs.head_value * dim as f64;
    tracing::debug!(
        "a head of {} of {dim} dimensions leaves {:.2} % of pairs; expected cost {:.2} of a search without",
        head_of(best, dim),
        100.0 * left[best],
        (cost(best) + extra) / whole
    );
    (cost(best) + extra < 0.95 * whole).then(|| axes.cut(simd, head_of(best, dim)))
}

/// What the byte kernel costs, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Costs {
    /// One value of one pair's heads.
    head_value: f64,
    /// A pair whose tail must be scored, and one value of it.
    tail_pair: f64,
    tail_value: f64,
}

impl Costs {
    /// Measured on server cores of 2021 to 2023: only their ratios matter.
    fn of(simd: Simd) -> Costs {
        let [head_value, tail_pair, tail_value] = match simd {
            Simd::Avx512Bf16 | Simd::Avx512Vnni => [0.005, 10.0, 0.01],
            Simd::AvxVnni => [0.008, 10.0, 0.015],
            Simd::Avx512 | Simd::Avx2 => [0.012, 10.0, 0.025],
            Simd::Scalar => [0.1, 10.0, 0.1],
        };
        Costs { head_value, tail_pair, tail_value }
    }
}

/// What both sides' whole numbers lose of a unit length.
fn side_errors(simd: Simd) -> f32 {
    let of_kernel = usize::from(simd.sums_in_16_bits());
    BASE_ERROR[of_kernel] + QUERY_ERROR[of_kernel]
}

/// Rows without their part along the lead.
struct InFrame<'a, S> {
    source: &'a S,
    frame: &'a Frame,
}

impl<S: UnitRows> UnitRows for InFrame<'_, S> {
    fn dim(&self) -> usize {
        self.source.dim()
    }

    fn load_unit(&self, row: RowId, out: &mut [f32]) -> f64 {
        let framed = self.frame.load(self.source, &[row]);
        out.copy_from_slice(&framed.values);
        framed.norms[0]
    }
}

fn head_of(trial: usize, dim: usize) -> usize {
    (dim * (trial + 1) / TRIALS).next_multiple_of(4).min(dim)
}

/// For each trial, the share of pairs that are left: whose heads, with the most that tails can add, reach the
/// similarity of the query's `rank`-th best, less `error` times the lengths without the lead. O(queries · base · dim).
fn shares_left(queries: &FramedRows, base: &FramedRows, dim: usize, rank: usize, error: f32) -> [f64; TRIALS] {
    let heads: [usize; TRIALS] = std::array::from_fn(|trial| head_of(trial, dim));
    let tails = |row: &[f32]| heads.map(|head| dot(&row[head..], &row[head..]).sqrt() as f32);
    let length = |row: &[f32]| dot(row, row).sqrt() as f32;
    let base_tails: Vec<[f32; TRIALS]> = base.values.chunks_exact(dim).map(tails).collect();
    let base_length = base.values.chunks_exact(dim).map(length).fold(0f32, f32::max);
    let counts: Vec<[u64; TRIALS]> = queries
        .values
        .par_chunks_exact(dim)
        .zip(&queries.leads)
        .map(|(query, lead)| {
            let (query_tails, error) = (tails(query), error * length(query) * base_length);
            let scored = base.values.chunks_exact(dim).zip(&base.leads);
            let sums = scored.map(|(row, base_lead)| running(query, row, &heads, (lead * base_lead) as f32));
            let sums: Vec<[f32; TRIALS]> = sums.collect();
            let mut all: Vec<f32> = sums.iter().map(|sums| sums[TRIALS - 1]).collect();
            let threshold = *all.select_nth_unstable_by(rank - 1, |a, b| b.total_cmp(a)).1 - error;
            std::array::from_fn(|trial| {
                let most = |(sums, tails): (&[f32; TRIALS], &[f32; TRIALS])| {
                    sums[trial] + query_tails[trial] * tails[trial] >= threshold
                };
                sums.iter().zip(&base_tails).filter(|pair| most(*pair)).count() as u64
            })
        })
        .collect();
    let pairs = (queries.norms.len() * base.norms.len()) as f64;
    std::array::from_fn(|trial| counts.iter().map(|counts| counts[trial]).sum::<u64>() as f64 / pairs)
}

/// Inner products of the first `heads[i]` dimensions, beginning with what the lead adds.
fn running(x: &[f32], y: &[f32], heads: &[usize; TRIALS], of_lead: f32) -> [f32; TRIALS] {
    let (mut sum, mut start) = (of_lead, 0);
    heads.map(|end| {
        let products = x[start..end].iter().zip(&y[start..end]).map(|(x, y)| x * y);
        start = end;
        sum += products.sum::<f32>();
        sum
    })
}
