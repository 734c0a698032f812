//! Rates of clustering: `cargo exclude --exclude clusters`.
//!
//! Arcs a second, all threads, with peak bytes of the heap: one pass of each kind over the graph of planted rows on disk,
//! and over the same graph in memory. The rows are not many, so that the state is in the caches.

#![allow(unreachable_pub, reason = "a binary of its own: nothing is reached from outside")]

mod planted;

use batchmine::config::{Method, Settings};
use batchmine::measured::Keys;
use batchmine::measured::fix_sizes;
use batchmine::measured::{Adjacency, EdgeFile, EdgeRows, MemoryEdges};
use batchmine::measured::{Communities, propagate};
use batchmine::measured::{PassRules, TaskPlaces, weights};
use batchmine::measured::{Swaps, swap};
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
    let edges = planted.edges(&planted.run(0), &planted.job(Settings::default()));
    (planted, edges)
}

fn in_memory(edges: &EdgeFile) -> MemoryEdges {
    let (mut lists, mut block) = (Vec::new(), Adjacency::default());
    for number in 0..edges.blocks() {
        edges.read(number, &mut block).expect("a sound file");
        lists.extend(block.iter().map(|(_, arcs)| arcs.to_vec()));
    }
    MemoryEdges::new(lists, 32)
}

/// Nobody shares a key, half a suspect counts against an edge.
fn rules(size: u32) -> PassRules<'static> {
    let tasks = vec![TaskPlaces { rows: 0..ROWS as u32, size }];
    PassRules { keys: Keys::new(Vec::new()), tasks, weights: weights(0.5) }
}

fn grow(edges: &impl EdgeRows, communities: &mut Communities, rules: &PassRules<'_>) {
    propagate(edges, communities, rules, &|_| Ok(())).expect("a sound graph");
}

fn refine(edges: &impl EdgeRows, swaps: &mut Swaps, rules: &PassRules<'_>) {
    swap(edges, swaps, rules, &|_| Ok(())).expect("a sound graph");
}

/// Swaps after three passes of growth and one of swaps.
fn begun(edges: &impl EdgeRows, rules: &PassRules<'_>) -> Swaps {
    let excluded = vec![false; ROWS];
    let mut communities = Communities::singletons(&excluded);
    (0..3).for_each(|_| grow(edges, &mut communities, rules));
    let slots = fix_sizes(edges, communities, &excluded, rules, &|_| Ok(()));
    let mut swaps = Swaps::new(slots.expect("a sound graph"));
    refine(edges, &mut swaps, rules);
    swaps
}

#[divan::bench(args = SIZES, sample_count = 5, sample_size = 1)]
fn propagation_pass(bencher: Bencher<'_, '_>, size: u32) {
    let ((_planted, edges), rules) = (graph(), rules(size));
    bencher.counter(ItemsCount::new(edges.arcs())).bench_local(|| {
        let mut communities = Communities::singletons(&vec![false; ROWS]);
        grow(&edges, &mut communities, &rules);
    });
}

#[divan::bench(args = SIZES, sample_count = 5, sample_size = 1)]
fn swap_pass(bencher: Bencher<'_, '_>, size: u32) {
    let ((_planted, edges), rules) = (graph(), rules(size));
    let mut swaps = begun(&edges, &rules);
    bencher.counter(ItemsCount::new(edges.arcs())).bench_local(|| refine(&edges, &mut swaps, &rules));
}

#[divan::bench(args = SIZES, sample_count = 5, sample_size = 1)]
fn swap_pass_in_memory(bencher: Bencher<'_, '_>, size: u32) {
    let ((_planted, edges), rules) = (graph(), rules(size));
    let memory = in_memory(&edges);
    let mut swaps = begun(&memory, &rules);
    bencher.counter(ItemsCount::new(edges.arcs())).bench_local(|| refine(&memory, &mut swaps, &rules));
}
