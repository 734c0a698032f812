//! How fast this machine searches, measured in a second: for estimates of time.

use std::time::{Duration, Instant};

use rand::RngExt;
use rayon::prelude::*;

use super::cpu::bf16::{self, Bf16};
use super::cpu::float::{self, Float};
use super::cpu::int8::{Int8, Quantised};
use super::cpu::packed::PackedBase;
use super::cpu::{Matrix, Nearest, Simd, scan};
use super::tiles::TILE_QUERIES;
use super::topk::TopK;
use crate::config::KernelPrecision;
use crate::random::{Purpose, stream};
use crate::vectors::RowId;

const BASE_ROWS: usize = 2048;
/// Share of the kernel's rate that a whole search keeps: candidates and true scores take the rest.
const SEARCH_SHARE: f64 = 0.7;

/// Random rows.
pub fn planted(rows: usize, dim: usize) -> Matrix {
    let mut random = stream(Purpose::CalibrationRows { rows: rows as u64, dim: dim as u64 });
    Matrix { values: (0..rows * dim).map(|_| random.random::<f32>() - 0.5).collect(), dim }
}

/// Operations a second (a multiplication and an addition are two) of a whole search on all threads of the
/// pool, from `time` of the kernel alone.
pub fn operations_per_second(precision: KernelPrecision, dim: usize, time: Duration) -> f64 {
    let simd = Simd::detect();
    let source = planted(BASE_ROWS, dim);
    let rows: Vec<RowId> = (0..BASE_ROWS as RowId).collect();
    let slots: Vec<u32> = (0..TILE_QUERIES as u32).collect();
    let bytes = Quantised::new(&source, &rows[..TILE_QUERIES], None, true).gather(&slots);
    let packed = PackedBase::in_memory(&source, &rows, None, true);
    let halves = bf16::Bf16Queries::pack(&source, &rows[..TILE_QUERIES], true);
    let half_base = bf16::Bf16Base::pack(&source, &rows, true);
    let floats = float::FloatQueries::pack(&source, &rows[..TILE_QUERIES], true);
    let base = float::FloatBase::pack(&source, &rows, true);
    let start = Instant::now();
    let scans: u64 = (0..rayon::current_num_threads())
        .into_par_iter()
        .map(|_| {
            let mut best: Vec<TopK> = slots.iter().map(|_| TopK::new(1)).collect();
            let mut scans = 0;
            while start.elapsed() < time {
                let mut sink = Nearest(&mut best);
                match precision {
                    KernelPrecision::Int8 => scan(Int8(simd), &bytes, slots.len(), &packed, 0..BASE_ROWS, 0, &mut sink),
                    KernelPrecision::Bf16 => {
                        scan(Bf16(simd), &halves, slots.len(), &half_base, 0..BASE_ROWS, 0, &mut sink)
                    }
                    KernelPrecision::F32 => scan(Float(simd), &floats, slots.len(), &base, 0..BASE_ROWS, 0, &mut sink),
                };
                scans += 1;
            }
            scans
        })
        .sum();
    let operations = scans as f64 * (TILE_QUERIES * BASE_ROWS * dim * 2) as f64;
    operations / start.elapsed().as_secs_f64() * SEARCH_SHARE
}
