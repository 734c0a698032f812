//! Which rows of a batch each process of a distributed trainer reads, so that no cluster is divided. Pure.
//!
//! W processes share a batch; trainers number them by "rank". A process reads the rows at its positions, in order. A
//! batch of |B| rows in whole clusters is divided exactly: each process reads |B|/W rows, a multiple of K. In other
//! batches units (clusters, and rows without one) go to the first process that has room for them, large ones first; a
//! unit that no process has room for is divided.

use crate::config::{BatchRules, RankLayout};
use crate::vectors::RowId;

/// How a batch is divided between the processes of a trainer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sharding {
    /// W, the number of processes.
    pub world: usize,
    /// Which positions a process reads.
    pub layout: RankLayout,
}

impl From<BatchRules> for Sharding {
    fn from(rules: BatchRules) -> Sharding {
        Sharding { world: rules.world_size as usize, layout: rules.rank_layout }
    }
}

impl Sharding {
    /// The positions that a process reads in a batch of `rows` rows, in its order.
    pub(crate) fn positions(self, process: usize, rows: usize) -> std::iter::StepBy<std::ops::Range<usize>> {
        match self.layout {
            RankLayout::Contiguous => (process * rows / self.world..(process + 1) * rows / self.world).step_by(1),
            RankLayout::Strided => (process.min(rows)..rows).step_by(self.world),
        }
    }
}

/// Brings a batch's rows into the order in which each process reads whole units. O(rows + W · sizes of units).
pub(crate) fn arrange(units: &[&[RowId]], sharding: Sharding) -> Vec<RowId> {
    let mut units = units.to_vec();
    units.sort_by_key(|unit| std::cmp::Reverse(unit.len()));
    let rows = units.iter().map(|unit| unit.len()).sum();
    let room: Vec<usize> = (0..sharding.world).map(|process| sharding.positions(process, rows).len()).collect();
    let mut shares: Vec<Vec<RowId>> = vec![Vec::new(); sharding.world];
    let mut divided: Vec<RowId> = Vec::new();
    for same in units.chunk_by(|a, b| a.len() == b.len()) {
        let mut process = 0;
        for unit in same {
            // A process that had no room for the last unit has none for another of its size.
            while process < sharding.world && shares[process].len() + unit.len() > room[process] {
                process += 1;
            }
            shares.get_mut(process).unwrap_or(&mut divided).extend_from_slice(unit);
        }
    }
    let mut divided = divided.into_iter();
    let mut arranged = vec![0; rows];
    for (process, mut share) in shares.into_iter().enumerate() {
        share.extend(divided.by_ref().take(room[process] - share.len()));
        sharding.positions(process, rows).zip(share).for_each(|(position, row)| arranged[position] = row);
    }
    arranged
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layouts() -> impl Strategy<Value = RankLayout> {
        prop_oneof![Just(RankLayout::Contiguous), Just(RankLayout::Strided)]
    }

    #[test]
    fn each_process_reads_whole_clusters() {
        let rows: Vec<RowId> = (0..8).collect();
        let units: Vec<&[RowId]> = rows.chunks(2).collect();
        let arranged = |layout| arrange(&units, Sharding { world: 2, layout });
        assert_eq!(arranged(RankLayout::Contiguous), rows);
        assert_eq!(arranged(RankLayout::Strided), [0, 4, 1, 5, 2, 6, 3, 7]);
    }

    proptest! {
        #[test]
        fn every_position_is_read_by_one_process(rows in 0usize..300, world in 1usize..40, layout in layouts()) {
            let sharding = Sharding { world, layout };
            let share = |process| sharding.positions(process, rows).collect();
            let shares: Vec<Vec<usize>> = (0..world).map(share).collect();
            let mut all = shares.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..rows).collect::<Vec<_>>());
            prop_assert!(shares.iter().all(|share| share.len().abs_diff(rows / world) <= 1));
        }

        #[test]
        fn clusters_of_one_size_are_never_divided_and_keep_their_order(
            size in 1usize..7, share in 1usize..6, world in 1usize..9, layout in layouts(),
        ) {
            let rows: Vec<RowId> = (0..(size * share * world) as RowId).collect();
            let units: Vec<&[RowId]> = rows.chunks(size).collect();
            let sharding = Sharding { world, layout };
            let arranged = arrange(&units, sharding);
            let read: Vec<RowId> = (0..world)
                .flat_map(|process| sharding.positions(process, rows.len()))
                .map(|position| arranged[position])
                .collect();
            prop_assert_eq!(read, rows);
        }

        #[test]
        fn no_row_is_lost_and_one_process_reads_every_unit_whole(
            sizes in proptest::collection::vec(1usize..9, 0..30), world in 1usize..9, layout in layouts(),
        ) {
            let rows: Vec<RowId> = (0..sizes.iter().sum::<usize>() as RowId).collect();
            let mut units: Vec<&[RowId]> = Vec::new();
            let mut left = &rows[..];
            for size in sizes {
                let (unit, rest) = left.split_at(size);
                units.push(unit);
                left = rest;
            }
            let sharding = Sharding { world, layout };
            let arranged = arrange(&units, sharding);
            let mut sorted = arranged.clone();
            sorted.sort_unstable();
            prop_assert_eq!(&sorted, &rows);
            // One process has room for everything.
            let unit_of = |row: RowId| units.iter().position(|unit| unit.contains(&row)).unwrap();
            if world == 1 {
                let stretches = arranged.chunk_by(|a, b| unit_of(*a) == unit_of(*b)).count();
                prop_assert_eq!(stretches, units.len());
            }
        }
    }
}
