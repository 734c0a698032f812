//! Rates of clustering: `cargo bench --bench clusters`.
//!
//! Edges a second, all threads, with peak bytes of the heap: one pass of each kind over the graph of planted rows on
//! disk, and over the same graph in memory. The rows are few, so that the state fits the caches.

#![allow(unreachable_pub, reason = "a binary of its own: nothing is reached from outside")]

mod planted;

use batchmine::config::{Method, Settings};
use batchmine::measured::{
    Adjacency, Communities, EdgeFile, EdgeRows, Keys, MemoryEdges, PassRules, PlaceRange, Swaps, TaskPlaces, Watch,
    fix_sizes, propagate, swap, weights,
};
use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use planted::Planted;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const ROWS: usize = 60_000;
const SIZES: [u32; 3] = [8, 32, 256];

fn main() {
    divan::main();
}

/// The graph, with the folder that it lies in.
fn graph() -> (Planted, EdgeFile) {
    let search = Some(Method::Lists { probes: Some(4), recall: 1.0 });
    let planted = Planted::new(ROWS, 64, Settings { search, ..Settings::default() });
    let graph = planted.edges(&planted.run(0), &planted.job(Settings::default()));
    (planted, graph)
}

fn in_memory(graph: &EdgeFile) -> MemoryEdges {
    let (mut lists, mut block) = (Vec::new(), Adjacency::default());
    for number in 0..graph.blocks() {
        graph.read(number, &mut block).expect("a sound file");
        lists.extend(block.iter().map(|(_, edges)| edges.to_vec()));
    }
    MemoryEdges::new(lists, 32)
}

/// No row shares a key; a suspect weighs − ½.
fn rules(size: u32) -> PassRules<'static> {
    let tasks = vec![TaskPlaces { places: PlaceRange::new(0, ROWS as u32), size, per_key: 1 }];
    PassRules { keys: Keys::new(Vec::new()).by_place(&[]), tasks, weights: weights(0.5) }
}

fn grow(graph: &impl EdgeRows, communities: &mut Communities, rules: &PassRules<'_>) {
    propagate(graph, communities, rules, Watch::silent()).expect("a sound graph");
}

fn refine(graph: &impl EdgeRows, swaps: &mut Swaps, rules: &PassRules<'_>) {
    swap(graph, swaps, rules, Watch::silent()).expect("a sound graph");
}

/// Swaps after three passes of growth and one of swaps.
fn begun(graph: &impl EdgeRows, rules: &PassRules<'_>) -> Swaps {
    let excluded = vec![false; ROWS];
    let mut communities = Communities::singletons(&excluded);
    (0..3).for_each(|_| grow(graph, &mut communities, rules));
    let slots = fix_sizes(graph, communities, &excluded, rules, Watch::silent());
    let mut swaps = Swaps::new(slots.expect("a sound graph"));
    refine(graph, &mut swaps, rules);
    swaps
}

#[divan::bench(args = SIZES, sample_count = 5, sample_size = 1)]
fn propagation_pass(bencher: Bencher<'_, '_>, size: u32) {
    let ((_planted, graph), rules) = (graph(), rules(size));
    bencher.counter(ItemsCount::new(graph.edges())).bench_local(|| {
        let mut communities = Communities::singletons(&vec![false; ROWS]);
        grow(&graph, &mut communities, &rules);
    });
}

#[divan::bench(args = SIZES, sample_count = 5, sample_size = 1)]
fn swap_pass(bencher: Bencher<'_, '_>, size: u32) {
    let ((_planted, graph), rules) = (graph(), rules(size));
    let mut swaps = begun(&graph, &rules);
    bencher.counter(ItemsCount::new(graph.edges())).bench_local(|| refine(&graph, &mut swaps, &rules));
}

#[divan::bench(args = SIZES, sample_count = 5, sample_size = 1)]
fn swap_pass_in_memory(bencher: Bencher<'_, '_>, size: u32) {
    let ((_planted, graph), rules) = (graph(), rules(size));
    let memory = in_memory(&graph);
    let mut swaps = begun(&memory, &rules);
    bencher.counter(ItemsCount::new(graph.edges())).bench_local(|| refine(&memory, &mut swaps, &rules));
}
