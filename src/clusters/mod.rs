//! clusters: a label for every row, so that much edge weight lies inside clusters of exactly K.
//!
//! Algorithm, streaming: size-constrained label propagation from singletons ([`propagate`]), exact sizes
//! ([`exact`]), then swaps that keep them ([`refine`]). Each pass reads the graph once. Chunks of rows
//! propose in parallel against frozen state and are applied in order ([`chunks`]): the same labels at any number
//! of threads. After Meyerhenke, Sanders, Schulz, *Partitioning Complex Networks via Size-constrained
//! Clustering* (2014) for the first phase; the swaps with best other clusters are our own.
//!
//! All passes know a row by its place, so that rows with common neighbors lie close in every table; the labels on disk
//! are by row ([`labels`]). The state after each pass is a part ([`passes`]).
//!
//! Memory ([`budget`]): 20 bytes a row, the decoded blocks of a chunk, and tables of 9 bytes a cluster for each thread
//! and once more.

pub(crate) mod budget;
mod chunks;
mod cluster;
pub(crate) mod exact;
pub(crate) mod exclude;
pub(crate) mod labels;
mod metrics;
pub(crate) mod passes;
pub(crate) mod propagate;
pub(crate) mod refine;
mod rules;
mod sums;

pub use cluster::labels_by_input_row;
pub(crate) use cluster::{cluster, open};
pub(crate) use labels::{Clusters, NO_CLUSTER};
pub use rules::{PassRules, TaskPlaces, weights};

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::exact::{Slots, fix_sizes};
    use super::propagate::{Communities, PASSES, propagate};
    use super::refine::{Swaps, swap};
    use super::*;
    use crate::edges::{Edge, MemoryEdges, Relation};
    use crate::vectors::{Keys, Place, PlaceRange, RowId, UNIQUE};
    use crate::watch::Watch;

    const ROWS: u32 = 5000;
    const TASKS: [TaskPlaces; 2] = [
        TaskPlaces { places: PlaceRange::new(0, 3001), size: 8, per_key: 1 },
        TaskPlaces { places: PlaceRange::new(3001, ROWS), size: 12, per_key: 1 },
    ];

    /// Two tasks of rows that mostly have edges to rows near them, in more blocks than a chunk has.
    fn graph() -> MemoryEdges {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut lists: Vec<BTreeMap<u32, Relation>> = vec![BTreeMap::new(); ROWS as usize];
        for row in 0..ROWS {
            let task = if row < 3001 { 0..3001 } else { 3001..ROWS };
            for number in 0..12 {
                let near = row.saturating_sub(40).max(task.start)..(row + 40).min(task.end);
                let other = random.random_range(if number < 10 { near } else { task.clone() });
                if other != row {
                    let relation = if number % 4 == 0 { Relation::SUSPECT } else { Relation::WINDOW };
                    lists[row as usize].insert(other, relation);
                    lists[other as usize].insert(row, relation);
                }
            }
        }
        let edge = |(other, relation)| Edge { other: Place::new(other), relation };
        MemoryEdges::new(lists.into_iter().map(|list| list.into_iter().map(edge).collect()).collect(), 32)
    }

    /// All passes; with `stops`, everything but what a part holds is thrown away after each.
    fn cluster_all(graph: &MemoryEdges, codes: &[u32], stops: bool) -> Vec<u32> {
        let order: Vec<RowId> = (0..ROWS).collect();
        let keys = Keys::new(vec![codes]).by_place(&order);
        let rules = PassRules { keys, tasks: TASKS.to_vec(), weights: weights(0.5) };
        let watch = Watch::silent();
        let excluded = vec![false; ROWS as usize];
        let mut communities = Communities::singletons(&excluded);
        for _ in 0..PASSES {
            propagate(graph, &mut communities, &rules, watch).unwrap();
            if stops {
                let labels = communities.labels().to_vec();
                communities = Communities::from_labels(&TASKS, &excluded, labels).unwrap();
            }
        }
        let slots = fix_sizes(graph, communities, &excluded, &rules, watch).unwrap();
        let again = |slots: &Slots| Slots::from_slots(&TASKS, &excluded, slots.as_slots().to_vec()).unwrap();
        let mut swaps = Swaps::new(if stops { again(&slots) } else { slots });
        let mut inside = Vec::new();
        for _ in 0..4 {
            swap(graph, &mut swaps, &rules, watch).unwrap();
            inside.push(swaps.inside());
            if stops {
                let words =
                    |bytes: &[u8]| -> Vec<u32> { bytes.as_chunks().0.iter().map(|w| u32::from_ne_bytes(*w)).collect() };
                let signed = |words: Vec<u32>| words.into_iter().map(u32::cast_signed).collect();
                let [slot_of, own, best_other, best_other_sum] = swaps.arrays().map(words);
                let slots = Slots::from_slots(&TASKS, &excluded, slot_of).unwrap();
                swaps = Swaps::from_arrays(slots, signed(own), best_other, signed(best_other_sum));
            }
        }
        assert!(inside.is_sorted() && inside[3] > inside[0], "{inside:?}");
        swaps.into_slots().labels()
    }

    #[test]
    fn stops_and_threads_change_no_label_and_no_key_meets_itself() {
        let graph = graph();
        let codes: Vec<u32> = (0..ROWS).map(|row| if row % 3 == 0 { row / 30 } else { UNIQUE }).collect();
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let wanted = pool(1).install(|| cluster_all(&graph, &codes, false));
        for (threads, stops) in [(2, false), (7, true), (1, true)] {
            assert!(pool(threads).install(|| cluster_all(&graph, &codes, stops)) == wanted, "{threads} {stops}");
        }
        let [first, second] = TASKS.map(|task| (task.places.len() as u32).div_ceil(task.size));
        let (starts, rows) = labels::members(&wanted, first + second);
        let sizes: Vec<u32> = starts.windows(2).map(|bounds| bounds[1] - bounds[0]).collect();
        // The last ones are the rows without a cluster.
        let wanted_sizes = |TaskPlaces { places, size, .. }| {
            let rows = places.len() as u32;
            (0..rows.div_ceil(size)).map(move |cluster| size.min(rows - cluster * size))
        };
        assert!(sizes.into_iter().eq(TASKS.into_iter().flat_map(wanted_sizes).chain([0])));
        for bounds in starts.windows(2) {
            let mut keys: Vec<u32> = rows[bounds[0] as usize..bounds[1] as usize]
                .iter()
                .map(|row| codes[*row as usize])
                .filter(|code| *code != UNIQUE)
                .collect();
            keys.sort_unstable();
            assert!(keys.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }
}
