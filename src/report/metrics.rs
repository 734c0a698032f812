//! The measures of one query or one batch. Pure.

use crate::clusters::NO_CLUSTER;
use crate::neighbors::candidates::Candidates;
use crate::vectors::{Keys, Place, RowId};

/// Batch of a row that is in none.
pub(crate) const NO_BATCH: u32 = u32::MAX;

/// Exact counts over queries. A pair is an ordered (i, j), i ≠ j, in one batch; it belongs to query i.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PairCounts {
    /// Queries that are in a batch.
    pub queries: u64,
    /// Pairs.
    pub pairs: u64,
    /// Of these, j in i's rank window.
    pub window: u64,
    /// Of these, j a suspect of i.
    pub suspects: u64,
    /// Of these, i and j sharing a key.
    pub keys: u64,
    /// Pairs in one cluster as well.
    pub cluster_pairs: u64,
    /// Of these, j in i's rank window.
    pub cluster_window: u64,
    /// Of these, j a suspect of i.
    pub cluster_suspects: u64,
    /// Queries without one preferred negative in their batch.
    pub without: u64,
    /// Of these, queries that have no preferred negative anywhere.
    pub without_window: u64,
}

impl PairCounts {
    pub fn add(&mut self, other: &PairCounts) {
        self.queries += other.queries;
        self.pairs += other.pairs;
        self.window += other.window;
        self.suspects += other.suspects;
        self.keys += other.keys;
        self.cluster_pairs += other.cluster_pairs;
        self.cluster_window += other.cluster_window;
        self.cluster_suspects += other.cluster_suspects;
        self.without += other.without;
        self.without_window += other.without_window;
    }
}

/// Which batch and cluster each place is in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Membership<'a> {
    /// Batch by place.
    pub batch: &'a [u32],
    /// Cluster by place, where there are clusters.
    pub cluster: Option<&'a [u32]>,
    /// The same by positive, where ranks are those of distinct positives.
    pub by_positive: Option<&'a ByPositive>,
}

/// Batches and clusters of the rows of each positive.
#[derive(Debug, Clone)]
pub(crate) struct ByPositive {
    candidates: Candidates,
    batch: Vec<u32>,
    cluster: Option<Vec<u32>>,
}

impl ByPositive {
    /// Of rows that are in these. O(rows log copies). Memory: 8 bytes a row.
    pub(crate) fn new(candidates: &Candidates, batch: &[u32], cluster: Option<&[u32]>) -> ByPositive {
        let cluster = cluster.map(|cluster| candidates.by_positive(cluster));
        ByPositive { candidates: candidates.clone(), batch: candidates.by_positive(batch), cluster }
    }
}

impl Membership<'_> {
    /// How many of `others` are in the batch of the row at `place`, and how many in its cluster too; where these stand
    /// for positives, any row with the positive counts. O(others), and times log copies then.
    pub(crate) fn meet(&self, place: Place, others: impl Iterator<Item = Place>) -> (u64, u64) {
        let batch = self.batch[place.index()];
        if batch == NO_BATCH {
            return (0, 0);
        }
        let (mut in_batch, mut in_cluster) = (0, 0);
        if let Some(ByPositive { candidates, batch: batches, cluster: clusters }) = self.by_positive {
            let own = self.cluster.map(|cluster| cluster[place.index()]).filter(|own| *own != NO_CLUSTER);
            for other in others.filter(|other| candidates.has(batches, *other, batch)) {
                in_batch += 1;
                let clustered = own.zip(clusters.as_ref()).is_some_and(|(own, all)| candidates.has(all, other, own));
                in_cluster += u64::from(clustered);
            }
            return (in_batch, in_cluster);
        }
        for other in others.filter(|other| self.batch[other.index()] == batch) {
            in_batch += 1;
            in_cluster += u64::from(self.clustered(place, other));
        }
        (in_batch, in_cluster)
    }

    fn clustered(&self, a: Place, b: Place) -> bool {
        self.cluster.is_some_and(|cluster| cluster[a.index()] != NO_CLUSTER && cluster[a.index()] == cluster[b.index()])
    }
}

/// For each of a batch's members, how many others have the same code. `none` is no code. O(n log n).
pub(crate) fn sharers(codes: &[u32], none: u32) -> Vec<u32> {
    let mut shared = vec![0; codes.len()];
    for group in groups(codes, none) {
        group.iter().for_each(|member| shared[*member as usize] = group.len() as u32 - 1);
    }
    shared
}

/// For each row of a batch, how many others share at least one key with it. O(n log n), and for each row of several
/// keys the rows that share any of them.
pub(crate) fn key_sharers(rows: &[RowId], keys: &Keys<'_>) -> Vec<u32> {
    let of_member = |member: u32| keys.shared(rows[member as usize]).map(move |key| (key, member));
    let mut entries: Vec<((u32, u32), u32)> = (0..rows.len() as u32).flat_map(of_member).collect();
    entries.sort_unstable();
    let groups: Vec<&[((u32, u32), u32)]> = entries.chunk_by(|a, b| a.0 == b.0).collect();
    let mut groups_of: Vec<Vec<u32>> = vec![Vec::new(); rows.len()];
    for (index, group) in groups.iter().enumerate() {
        group.iter().for_each(|(_, member)| groups_of[*member as usize].push(index as u32));
    }
    let mut others: Vec<u32> = Vec::new();
    let count = |groups_of: &Vec<u32>| match &groups_of[..] {
        [] => 0,
        [group] => groups[*group as usize].len() as u32 - 1,
        several => {
            // Two rows may share several keys: they are one pair.
            others.clear();
            several.iter().for_each(|group| others.extend(groups[*group as usize].iter().map(|(_, member)| *member)));
            others.sort_unstable();
            others.dedup();
            others.len() as u32 - 1
        }
    };
    groups_of.iter().map(count).collect()
}

/// Members of each code that two or more have.
fn groups(codes: &[u32], none: u32) -> Vec<Vec<u32>> {
    let code = |member: &u32| codes[*member as usize];
    let mut members: Vec<u32> = (0..codes.len() as u32).filter(|member| code(member) != none).collect();
    members.sort_unstable_by_key(|member| (code(member), *member));
    members.chunk_by(|a, b| code(a) == code(b)).filter(|group| group.len() > 1).map(<[u32]>::to_vec).collect()
}

/// The `k` highest scores, descending; all, where there are fewer. O(n + k log k).
pub(crate) fn highest(scores: &mut [f32], k: usize) -> &[f32] {
    let falling = |a: &f32, b: &f32| b.total_cmp(a);
    if (1..scores.len()).contains(&k) {
        scores.select_nth_unstable_by(k - 1, falling);
    }
    let k = k.min(scores.len());
    let top = &mut scores[..k];
    top.sort_unstable_by(falling);
    top
}

/// Mean. NaN of nothing.
pub(crate) fn mean(scores: &[f32]) -> f64 {
    scores.iter().map(|score| f64::from(*score)).sum::<f64>() / scores.len() as f64
}

/// log Σ exp(score / τ), safe from overflow: the largest is taken out.
fn log_sum_exp(scores: &[f32], temperature: f64) -> f64 {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let most = f64::from(most);
    let sum: f64 = scores.iter().map(|score| ((f64::from(*score) - most) / temperature).exp()).sum();
    most / temperature + sum.ln()
}

/// Theorem 1 of Thirukovalluru et al. (arXiv 2505.11293) for one query: log(N/K · H^K / H_B^K), where H is the sum of
/// exp(score / τ) of the K best in the whole task (`all`) and H_B that of the K best in the batch; N rows in the task.
/// The mean over queries bounds how far the batches' loss is below the loss over the whole task.
pub(crate) fn gap(all: &[f32], batch: &[f32], rows: u64, temperature: f64) -> f64 {
    let k = all.len() as f64;
    (rows as f64 / k).ln() + log_sum_exp(all, temperature) - log_sum_exp(batch, temperature)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vectors::UNIQUE;

    proptest! {
        #[test]
        fn sharers_of_keys_are_those_of_all_pairs(
            rows in proptest::collection::vec((0u32..4, 0u32..3, 0u32..3), 0..40),
        ) {
            // 0 stands for no key.
            let column = |of: fn(&(u32, u32, u32)) -> u32| -> Vec<u32> {
                rows.iter().map(of).map(|code| if code == 0 { UNIQUE } else { code }).collect()
            };
            let columns = [column(|row| row.0), column(|row| row.1), column(|row| row.2)];
            let columns: Vec<&[u32]> = columns.iter().map(Vec::as_slice).collect();
            // Every second row, backwards: a batch is no range.
            let batch: Vec<u32> = (0..rows.len() as u32).rev().step_by(2).collect();
            let same = |a: u32, b: u32| {
                columns.iter().any(|column| {
                    column[a as usize] != UNIQUE && column[a as usize] == column[b as usize]
                })
            };
            let wanted: Vec<u32> = batch
                .iter()
                .map(|a| batch.iter().filter(|b| a != *b && same(*a, **b)).count() as u32)
                .collect();
            prop_assert_eq!(key_sharers(&batch, &Keys::new(columns)), wanted);
        }

        #[test]
        fn the_highest_are_the_first_of_a_sorted_list(
            scores in proptest::collection::vec(-1f32..1.0, 0..30), k in 0usize..35,
        ) {
            let mut sorted = scores.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            sorted.truncate(k);
            let mut scores = scores;
            prop_assert_eq!(highest(&mut scores, k), &sorted[..]);
        }

        #[test]
        fn a_gap_is_what_its_formula_says(
            all in proptest::collection::vec(-1f32..1.0, 3), batch in proptest::collection::vec(-1f32..1.0, 1..4),
        ) {
            let sum = |scores: &[f32]| scores.iter().map(|score| (f64::from(*score) / 0.5).exp()).sum::<f64>();
            let wanted = (100.0 / 3.0 * sum(&all) / sum(&batch)).ln();
            prop_assert!((gap(&all, &batch, 100, 0.5) - wanted).abs() < 1e-12);
        }
    }

    #[test]
    fn a_tiny_temperature_overflows_nothing() {
        assert_eq!(gap(&[1.0], &[0.5], 1, 1e-4), 5000.0);
    }

    #[test]
    fn rows_meet_in_batches_and_in_clusters() {
        let (batch, cluster) = ([0, 0, 0, 1, NO_BATCH, NO_BATCH], [7, 7, NO_CLUSTER, 7, 7, 7]);
        let both = Membership { batch: &batch, cluster: Some(&cluster), by_positive: None };
        let meet = |of: &Membership<'_>, place, others: &[u32]| {
            of.meet(Place::new(place), others.iter().copied().map(Place::new))
        };
        assert_eq!(meet(&both, 0, &[1, 2, 3, 4]), (2, 1));
        assert_eq!(meet(&both, 2, &[0, 1]), (2, 0));
        assert_eq!(meet(&both, 4, &[5, 0]), (0, 0), "in no batch");
        assert_eq!(meet(&Membership { batch: &batch, cluster: None, by_positive: None }, 0, &[1]), (1, 0));
        assert_eq!(sharers(&cluster, NO_CLUSTER), [4, 4, 0, 4, 4, 4]);
    }
}
