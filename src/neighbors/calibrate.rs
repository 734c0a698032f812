//! How fast this machine searches, measured in about a second, to estimate times.

use std::time::{Duration, Instant};

use rand::RngExt;
use rayon::prelude::*;

use super::cpu::bf16::{Bf16, Bf16Base, Bf16Queries};
use super::cpu::float::{Float, FloatBase, FloatQueries};
use super::cpu::frame::Frame;
use super::cpu::int8::{Int8, PackedBase, Quantised};
use super::cpu::matrix::Matrix;
use super::cpu::scan::{Nearest, scan};
use super::cpu::simd::Simd;
use super::tiles::TILE_QUERIES;
use super::topk::TopK;
use crate::config::{KernelPrecision, Metric};
use crate::random::{Purpose, stream};
use crate::vectors::RowId;

const BASE_ROWS: usize = 2048;
/// Share of the kernel's rate that a whole search reaches: candidates and true scores take the rest of the time.
const SEARCH_SHARE: f64 = 0.7;

/// Rows of random numbers, always the same for a shape.
pub fn random_rows(rows: usize, dim: usize) -> Matrix {
    let mut random = stream(Purpose::CalibrationRows { rows: rows as u64, dim: dim as u64 });
    Matrix { values: (0..rows * dim).map(|_| random.random::<f32>() - 0.5).collect(), dim }
}

/// Operations a second (a multiplication and an addition are two) of a whole search on all threads of the
/// pool, from `time` of the kernel alone.
pub(crate) fn operations_per_second(precision: KernelPrecision, dim: usize, time: Duration) -> f64 {
    let simd = Simd::detect();
    let source = random_rows(BASE_ROWS, dim);
    let rows: Vec<RowId> = (0..BASE_ROWS as RowId).collect();
    let slots: Vec<u32> = (0..TILE_QUERIES as u32).collect();
    let bytes = Quantised::new(simd, &source, &rows[..TILE_QUERIES], &Frame::default(), Metric::Cosine).gather(&slots);
    let packed = PackedBase::in_memory(simd, &source, &rows, &Frame::default(), Metric::Cosine);
    let halves = Bf16Queries::pack(&source, &rows[..TILE_QUERIES], Metric::Cosine);
    let half_base = Bf16Base::pack(&source, &rows, Metric::Cosine);
    let floats = FloatQueries::pack(&source, &rows[..TILE_QUERIES], Metric::Cosine);
    let base = FloatBase::pack(&source, &rows, Metric::Cosine);
    let start = Instant::now();
    let scans: u64 = (0..rayon::current_num_threads())
        .into_par_iter()
        .map(|_| {
            let mut best: Vec<TopK> = slots.iter().map(|_| TopK::new(1)).collect();
            let mut scans = 0;
            while start.elapsed() < time {
                let mut sink = Nearest(&mut best);
                match precision {
                    KernelPrecision::Auto | KernelPrecision::Int8 => {
                        scan(Int8(simd), &bytes, &packed, 0..BASE_ROWS, 0, &mut sink)
                    }
                    KernelPrecision::Bf16 => scan(Bf16(simd), &halves, &half_base, 0..BASE_ROWS, 0, &mut sink),
                    KernelPrecision::F32 => scan(Float(simd), &floats, &base, 0..BASE_ROWS, 0, &mut sink),
                };
                scans += 1;
            }
            scans
        })
        .sum();
    let operations = scans as f64 * (TILE_QUERIES * BASE_ROWS * dim * 2) as f64;
    operations / start.elapsed().as_secs_f64() * SEARCH_SHARE
}
