//! Sums by label over one row's edges. [`LabelSums`] hashes labels, which are as many as rows; [`ClusterSums`] has an
//! entry for each cluster, K times fewer. Both are emptied in O(labels seen).

/// Sums by label, in an open-addressing table of 8 bytes an entry; 2 to 4 entries for each edge of the longest row
/// seen.
#[derive(Debug, Default)]
pub(crate) struct LabelSums {
    entries: Vec<(u32, i32)>,
    /// Entries that hold a label.
    seen: Vec<u32>,
    /// Entries in use − 1: a row of few labels uses few cache lines, whatever rows came before.
    mask: usize,
}

const EMPTY: u32 = u32::MAX;

impl LabelSums {
    /// Empties the table and makes room for `labels` labels.
    pub(crate) fn reset(&mut self, labels: usize) {
        for entry in self.seen.drain(..) {
            self.entries[entry as usize].0 = EMPTY;
        }
        let wanted = (2 * labels).next_power_of_two().max(64);
        if self.entries.len() < wanted {
            self.entries.resize(wanted, (EMPTY, 0));
        }
        self.mask = wanted - 1;
    }

    /// Adds to labels' sums. At most as many labels as [`LabelSums::reset`] was told.
    pub(crate) fn add_all(&mut self, weights: impl Iterator<Item = (u32, i32)>) {
        for (label, weight) in weights {
            let entry = find(&self.entries, self.mask, label);
            let (known, sum) = &mut self.entries[entry];
            if *known == EMPTY {
                *known = label;
                *sum = 0;
                self.seen.push(entry as u32);
            }
            *sum = sum.saturating_add(weight);
        }
    }

    #[inline]
    pub(crate) fn get(&self, label: u32) -> i32 {
        match self.entries[find(&self.entries, self.mask, label)] {
            (EMPTY, _) => 0,
            (_, sum) => sum,
        }
    }

    /// (label, sum), in the order in which labels were first seen.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, i32)> + '_ {
        self.seen.iter().map(|entry| self.entries[*entry as usize])
    }
}

/// A label's entry, or the empty one that it is to have.
#[inline]
fn find(entries: &[(u32, i32)], mask: usize, label: u32) -> usize {
    // Fibonacci hashing: neighbouring labels spread over the table.
    let mut entry = (u64::from(label).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & mask;
    while entries[entry].0 != label && entries[entry].0 != EMPTY {
        entry = (entry + 1) & mask;
    }
    entry
}

/// Sums by cluster, in a table of all clusters. Holds 9 bytes a cluster, and 4 for each edge of the longest row seen.
#[derive(Debug, Default)]
pub(crate) struct ClusterSums {
    /// The round in which a cluster was last seen, and its sum in that round.
    sums: Vec<(u32, i32)>,
    round: u32,
    /// The `count` clusters of this round, and behind them whatever earlier rounds have left.
    seen: Vec<u32>,
    count: usize,
    marks: Vec<u8>,
}

impl ClusterSums {
    /// Empties the table; makes room for labels below `clusters`, for at most `edges` additions.
    pub(crate) fn reset(&mut self, clusters: u32, edges: usize) {
        if self.sums.len() < clusters as usize || self.round == u32::MAX {
            self.sums = vec![(0, 0); clusters as usize];
            self.marks = vec![0; clusters as usize];
            self.round = 0;
        }
        self.round += 1;
        self.count = 0;
        if self.seen.len() <= edges {
            self.seen.resize(edges + 1, 0);
        }
    }

    /// Adds to clusters' sums, as many times as [`ClusterSums::reset`] was told at most.
    pub(crate) fn add_all(&mut self, weights: impl Iterator<Item = (u32, i32)>) {
        let (round, mut count) = (self.round, self.count);
        let (sums, seen) = (&mut self.sums[..], &mut self.seen[..]);
        for (cluster, weight) in weights {
            let (last, sum) = &mut sums[cluster as usize];
            let first = *last != round;
            *sum = if first { weight } else { sum.saturating_add(weight) };
            *last = round;
            // Always written, and counted if it was the first: a branch here would be mispredicted.
            seen[count] = cluster;
            count += usize::from(first);
        }
        self.count = count;
    }

    #[inline]
    pub(crate) fn get(&self, cluster: u32) -> i32 {
        let (round, sum) = self.sums[cluster as usize];
        if round == self.round { sum } else { 0 }
    }

    /// (cluster, sum), in the order in which clusters were first seen.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, i32)> + '_ {
        self.seen[..self.count].iter().map(|cluster| (*cluster, self.sums[*cluster as usize].1))
    }

    /// Marks a cluster with a number, until it is marked with zero.
    pub(crate) fn mark(&mut self, cluster: u32, number: u8) {
        self.marks[cluster as usize] = number;
    }

    /// The numbers that clusters are marked with, zero where they are not.
    pub(crate) fn marks(&self) -> &[u8] {
        &self.marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_are_those_of_a_map(
            rounds in proptest::collection::vec(proptest::collection::vec((0u32..50, -9i32..9), 1..80), 1..5),
        ) {
            let (mut by_label, mut sums) = (LabelSums::default(), ClusterSums::default());
            for round in rounds {
                by_label.reset(round.len());
                sums.reset(50, round.len());
                let mut wanted = std::collections::BTreeMap::<u32, i32>::new();
                by_label.add_all(round.iter().copied());
                sums.add_all(round.iter().copied());
                round.iter().for_each(|(label, weight)| *wanted.entry(*label).or_default() += weight);
                let in_order: Vec<_> = by_label.iter().collect();
                prop_assert_eq!(&sums.iter().collect::<Vec<_>>(), &in_order);
                let mut found = in_order;
                found.sort_unstable();
                prop_assert_eq!(found, wanted.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>());
                let sum = |label: u32| wanted.get(&label).copied().unwrap_or(0);
                prop_assert!((0..50).all(|label| by_label.get(label) == sum(label) && sums.get(label) == sum(label)));
            }
        }
    }

    #[test]
    fn marks_stay_until_they_are_taken_back() {
        let mut sums = ClusterSums::default();
        sums.reset(4, 1);
        sums.mark(2, 7);
        assert_eq!(sums.marks(), [0, 0, 7, 0]);
        sums.mark(2, 0);
        assert_eq!(sums.marks(), [0; 4]);
    }
}
