//! Rates of the graph: `cargo bench --bench edges`.
//!
//! First a table: bits an edge by codec, on the graph of planted rows. Then edges a second: `encode` and `decode` of
//! all blocks by codec, one thread; `build`, the whole stage, all threads. With each the peak bytes of the heap.

#![allow(unreachable_pub, reason = "a binary of its own: nothing is reached from outside")]

mod planted;

use batchmine::config::{Method, Settings};
use batchmine::measured::{Adjacency, EdgeRows, build as build_edges, codec};
use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use planted::Planted;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const ROWS: usize = 60_000;

/// What follows stream-vbyte: nothing, or zstd of a level.
const CODECS: [Option<i32>; 4] = [None, Some(-5), Some(1), Some(3)];

/// One block, and its bytes of stream-vbyte.
struct Block {
    rows: usize,
    adjacency: Adjacency,
    raw: Vec<u8>,
}

fn main() {
    let blocks = blocks();
    let edges = edges(&blocks);
    println!("{ROWS} planted rows, {edges} edges in {} blocks; bits an edge:", blocks.len());
    for level in CODECS {
        let bytes: usize = blocks.iter().map(|block| frame(&block.raw, level).len()).sum();
        println!("  {:<22} {:.2}", name(level), bytes as f64 * 8.0 / edges as f64);
    }
    divan::main();
}

fn name(level: Option<i32>) -> String {
    level.map_or("stream-vbyte".into(), |level| format!("stream-vbyte, zstd {level}"))
}

fn planted() -> Planted {
    let search = Some(Method::Lists { probes: Some(4), recall: 1.0 });
    Planted::new(ROWS, 64, Settings { search, ..Settings::default() })
}

fn blocks() -> Vec<Block> {
    let planted = planted();
    let graph = planted.edges(&planted.run(0), &planted.job(Settings::default()));
    let block = |block: usize| {
        let mut adjacency = Adjacency::default();
        graph.read(block, &mut adjacency).expect("a sound file");
        let mut raw = Vec::new();
        codec::encode(&adjacency.ends, &adjacency.edges, &mut raw);
        Block { rows: adjacency.ends.len(), adjacency, raw }
    };
    (0..graph.blocks()).map(block).collect()
}

fn edges(blocks: &[Block]) -> usize {
    blocks.iter().map(|block| block.adjacency.edges.len()).sum()
}

fn frame(raw: &[u8], level: Option<i32>) -> Vec<u8> {
    level.map_or_else(|| raw.to_vec(), |level| zstd::bulk::compress(raw, level).expect("room"))
}

#[divan::bench(args = CODECS, sample_count = 10, sample_size = 1)]
fn encode(bencher: Bencher<'_, '_>, level: Option<i32>) {
    let blocks = blocks();
    let mut raw = Vec::new();
    bencher.counter(ItemsCount::new(edges(&blocks))).bench_local(|| {
        for block in &blocks {
            codec::encode(&block.adjacency.ends, &block.adjacency.edges, &mut raw);
            divan::black_box(frame(&raw, level));
        }
    });
}

#[divan::bench(args = CODECS, sample_count = 10, sample_size = 1)]
fn decode(bencher: Bencher<'_, '_>, level: Option<i32>) {
    let blocks = blocks();
    let frames: Vec<Vec<u8>> = blocks.iter().map(|block| frame(&block.raw, level)).collect();
    let mut decompressor = zstd::bulk::Decompressor::new().expect("room");
    let (mut raw, mut into) = (Vec::new(), Adjacency::default());
    bencher.counter(ItemsCount::new(edges(&blocks))).bench_local(|| {
        for (block, frame) in blocks.iter().zip(&frames) {
            let bytes = if level.is_some() {
                raw.resize(block.raw.len(), 0);
                decompressor.decompress_to_buffer(frame, &mut raw[..]).expect("a frame");
                &raw
            } else {
                frame
            };
            codec::decode(bytes, block.rows, ROWS as u32, &mut into).expect("a block");
        }
    });
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn build(bencher: Bencher<'_, '_>) {
    let planted = planted();
    let (run, job) = (planted.run(0), planted.job(Settings::default()));
    let edges = planted.edges(&run, &job).edges();
    bencher.counter(ItemsCount::new(edges)).with_inputs(|| planted.without_edges(&run, &job)).bench_values(
        |(vectors, neighbors)| {
            build_edges(&run, &vectors, &neighbors, (&job.config, None), &job.plan.edges).expect("a graph")
        },
    );
}
