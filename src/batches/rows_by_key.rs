//! A task's rows by their most frequent key, while they are packed. Pure.

use std::collections::VecDeque;

use super::bound::NO_GROUP;

/// Rows, as positions, by group: those in whole clusters, then the loose, then those that are packed.
/// Memory: 12 bytes a row, 17 a group.
pub(super) struct RowsByKey {
    /// Group of each row, by position.
    group_of: Vec<u32>,
    by_group: Vec<u32>,
    /// Where each row stands in `by_group`, by position.
    stands: Vec<u32>,
    /// Where each group starts in `by_group`, and where the last ends.
    starts: Vec<u32>,
    /// Rows of each group in whole clusters.
    in_clusters: Vec<u32>,
    /// Rows of each group that are loose.
    loose: Vec<u32>,
    /// Loose rows in no group.
    single: Vec<u32>,
    /// Groups with loose rows, each once, and maybe some without.
    active: VecDeque<u32>,
    is_active: Vec<bool>,
}

impl RowsByKey {
    /// All rows in whole clusters. `group_of` by position; `sizes`: rows of each group.
    pub(super) fn new(group_of: Vec<u32>, sizes: &[u32]) -> RowsByKey {
        let mut starts = vec![0u32];
        starts.extend(sizes.iter().scan(0, |end, rows| {
            *end += rows;
            Some(*end)
        }));
        let mut by_group = vec![0u32; starts[sizes.len()] as usize];
        let mut stands = vec![0u32; group_of.len()];
        let mut in_clusters = vec![0u32; sizes.len()];
        for (position, group) in group_of.iter().enumerate().filter(|(_, group)| **group != NO_GROUP) {
            let group = *group as usize;
            stands[position] = starts[group] + in_clusters[group];
            by_group[stands[position] as usize] = position as u32;
            in_clusters[group] += 1;
        }
        RowsByKey {
            group_of,
            by_group,
            stands,
            starts,
            in_clusters,
            loose: vec![0; sizes.len()],
            single: Vec::new(),
            active: VecDeque::new(),
            is_active: vec![false; sizes.len()],
        }
    }

    pub(super) fn group_of(&self, position: u32) -> u32 {
        self.group_of[position as usize]
    }

    /// Rows of a group at the start.
    pub(super) fn size(&self, group: u32) -> u32 {
        self.starts[group as usize + 1] - self.starts[group as usize]
    }

    /// Rows of a group that are in whole clusters.
    pub(super) fn clustered(&self, group: u32) -> &[u32] {
        let from = self.starts[group as usize] as usize;
        &self.by_group[from..from + self.in_clusters[group as usize] as usize]
    }

    /// Loose rows of a group.
    pub(super) fn loose(&self, group: u32) -> &[u32] {
        let from = (self.starts[group as usize] + self.in_clusters[group as usize]) as usize;
        &self.by_group[from..from + self.loose[group as usize] as usize]
    }

    /// Groups that may have loose rows.
    pub(super) fn active(&self) -> usize {
        self.active.len()
    }

    /// The next group with loose rows, in turn.
    pub(super) fn next_active(&mut self) -> Option<u32> {
        while let Some(group) = self.active.pop_front() {
            if self.loose[group as usize] > 0 {
                self.active.push_back(group);
                return Some(group);
            }
            self.is_active[group as usize] = false;
        }
        None
    }

    /// Loose rows in no group.
    pub(super) fn single(&self) -> &[u32] {
        &self.single
    }

    /// Takes one of these.
    pub(super) fn take_single(&mut self, index: usize) {
        self.single.swap_remove(index);
    }

    /// Makes a row of a whole cluster a loose one, which is not offered yet.
    pub(super) fn loosen(&mut self, position: u32) {
        let group = self.group_of(position) as usize;
        if group != NO_GROUP as usize {
            self.in_clusters[group] -= 1;
            self.loose[group] += 1;
            self.swap(position, self.starts[group] + self.in_clusters[group]);
        }
    }

    /// Offers a loose row.
    pub(super) fn offer(&mut self, position: u32) {
        match self.group_of(position) {
            NO_GROUP => self.single.push(position),
            group => {
                if !std::mem::replace(&mut self.is_active[group as usize], true) {
                    self.active.push_back(group);
                }
            }
        }
    }

    /// Marks a loose row as packed. One in no group is not offered any more already.
    pub(super) fn pack(&mut self, position: u32) {
        let group = self.group_of(position) as usize;
        if group != NO_GROUP as usize {
            self.loose[group] -= 1;
            self.swap(position, self.starts[group] + self.in_clusters[group] + self.loose[group]);
        }
    }

    /// Moves a row to another place of its group.
    fn swap(&mut self, position: u32, to: u32) {
        let from = self.stands[position as usize];
        let other = self.by_group[to as usize];
        self.by_group.swap(from as usize, to as usize);
        self.stands[position as usize] = to;
        self.stands[other as usize] = from;
    }

    /// The loose rows that are left, ascending.
    pub(super) fn into_loose(self) -> Vec<u32> {
        let of_groups = (0..self.loose.len() as u32).flat_map(|group| self.loose(group));
        let mut rows: Vec<u32> = of_groups.chain(&self.single).copied().collect();
        rows.sort_unstable();
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_move_from_clusters_over_loose_ones_to_packed_ones() {
        let mut rows = RowsByKey::new(vec![0, 1, 0, NO_GROUP, 0, 1], &[3, 2]);
        assert_eq!((rows.clustered(0), rows.clustered(1), rows.size(0)), (&[0, 2, 4][..], &[1, 5][..], 3));
        for position in [0, 3, 5] {
            rows.loosen(position);
            rows.offer(position);
        }
        assert_eq!((rows.loose(0), rows.loose(1), rows.clustered(1)), (&[0][..], &[5][..], &[1][..]));
        assert_eq!([rows.next_active(), rows.next_active(), rows.next_active()], [Some(0), Some(1), Some(0)]);
        rows.pack(0);
        assert_eq!([rows.next_active(), rows.next_active()], [Some(1), Some(1)]);
        assert_eq!(rows.single(), [3]);
        rows.take_single(0);
        rows.loosen(4);
        assert_eq!((rows.loose(0), rows.clustered(0)), (&[4][..], &[2][..]));
        assert_eq!(rows.into_loose(), [4, 5]);
    }
}
