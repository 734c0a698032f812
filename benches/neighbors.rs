//! Rates of the search: `cargo bench --bench neighbors`.
//!
//! `kernel_*`: one tile of queries against packed base rows, operations a second (a multiplication and an
//! addition are two), one thread. `search`: the whole stage on planted rows, pairs a second, all threads.
//! Peak bytes of the heap stand beside each.

#![allow(unreachable_pub, reason = "a binary of its own: nothing is reached from outside")]

mod planted;

use std::sync::atomic::{AtomicUsize, Ordering};

use batchmine::config::{KernelPrecision, Metric, Settings, Width};
use batchmine::measured::Frame;
use batchmine::measured::{Bf16, Bf16Base, Bf16Queries};
use batchmine::measured::{Float, FloatBase, FloatQueries};
use batchmine::measured::{Int8, PackedBase, Quantised};
use batchmine::measured::{Nearest, Simd, TILE_QUERIES, TopK, random_rows, scan};
use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use planted::Planted;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const BASE_ROWS: usize = 4096;
const DIMS: [usize; 5] = [64, 384, 768, 1024, 4096];

fn main() {
    divan::main();
}

fn operations(dim: usize) -> ItemsCount {
    ItemsCount::new(TILE_QUERIES * BASE_ROWS * dim * 2)
}

#[divan::bench(args = DIMS)]
fn kernel_int8(bencher: Bencher<'_, '_>, dim: usize) {
    let source = random_rows(BASE_ROWS, dim);
    let rows: Vec<u32> = (0..BASE_ROWS as u32).collect();
    let slots: Vec<u32> = (0..TILE_QUERIES as u32).collect();
    let queries = Quantised::new(Simd::detect(), &source, &rows[..TILE_QUERIES], &Frame::default(), Metric::Cosine)
        .gather(&slots);
    let base = PackedBase::in_memory(Simd::detect(), &source, &rows, &Frame::default(), Metric::Cosine);
    let mut best: Vec<TopK> = slots.iter().map(|_| TopK::new(1)).collect();
    let kernel = Int8(Simd::detect());
    bencher
        .counter(operations(dim))
        .bench_local(|| scan(kernel, &queries, &base, 0..BASE_ROWS, 0, &mut Nearest(&mut best)));
}

#[divan::bench(args = DIMS)]
fn kernel_bf16(bencher: Bencher<'_, '_>, dim: usize) {
    let source = random_rows(BASE_ROWS, dim);
    let rows: Vec<u32> = (0..BASE_ROWS as u32).collect();
    let queries = Bf16Queries::pack(&source, &rows[..TILE_QUERIES], Metric::Cosine);
    let base = Bf16Base::pack(&source, &rows, Metric::Cosine);
    let mut best: Vec<TopK> = (0..TILE_QUERIES).map(|_| TopK::new(1)).collect();
    let kernel = Bf16(Simd::detect());
    bencher
        .counter(operations(dim))
        .bench_local(|| scan(kernel, &queries, &base, 0..BASE_ROWS, 0, &mut Nearest(&mut best)));
}

#[divan::bench(args = DIMS)]
fn kernel_f32(bencher: Bencher<'_, '_>, dim: usize) {
    let source = random_rows(BASE_ROWS, dim);
    let rows: Vec<u32> = (0..BASE_ROWS as u32).collect();
    let queries = FloatQueries::pack(&source, &rows[..TILE_QUERIES], Metric::Cosine);
    let base = FloatBase::pack(&source, &rows, Metric::Cosine);
    let mut best: Vec<TopK> = (0..TILE_QUERIES).map(|_| TopK::new(1)).collect();
    let kernel = Float(Simd::detect());
    bencher
        .counter(operations(dim))
        .bench_local(|| scan(kernel, &queries, &base, 0..BASE_ROWS, 0, &mut Nearest(&mut best)));
}

const SEARCH_ROWS: usize = 12_000;

#[divan::bench(
    args = [(64, 130), (384, 130), (384, 1030), (1024, 130)],
    consts = [true, false],
    sample_count = 3,
    sample_size = 1,
)]
fn search<const INT8: bool>(bencher: Bencher<'_, '_>, (dim, ranks): (usize, u32)) {
    let settings = Settings {
        precision: Some(if INT8 { KernelPrecision::Int8 } else { KernelPrecision::F32 }),
        window: Some(Width::Ranks(ranks - 30)),
        ..Settings::default()
    };
    let planted = Planted::new(SEARCH_ROWS, dim, settings);
    let job = planted.job(Settings::default());
    let number = AtomicUsize::new(0);
    bencher
        .counter(ItemsCount::new(SEARCH_ROWS * SEARCH_ROWS))
        .with_inputs(|| {
            let run = planted.run(number.fetch_add(1, Ordering::Relaxed));
            let vectors = planted.vectors(&run, &job);
            (run, vectors)
        })
        .bench_values(|(run, vectors)| {
            batchmine::measured::search(&run, &vectors, &job.config, &job.plan.neighbors).expect("a search");
        });
}
