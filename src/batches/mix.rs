//! How many full batches of each task an epoch has, and in which order tasks come. Pure.
//!
//! A *round* packs all rows of a task once; a task of which an epoch has more batches than a round makes is packed
//! again. Shares follow a weight, or n^(1/T) (temperature-based sampling, as in multilingual training: Arivazhagan et
//! al. 2019, arXiv 1907.05019). Tasks are ordered by Tijdeman's rule (R. Tijdeman, The chairman assignment problem,
//! Discrete Mathematics 32, 1980): among the first k batches each task has its share of k, to less than one batch.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::config::{MixRule, MixRules};
use crate::run::record::MixFacts;

/// Sums of shares that should be whole may miss it by this much.
const TOLERANCE: f64 = 1e-9;

/// What the mix needs to know of a task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TaskBatches {
    pub rule: MixRule,
    /// Full batches that a round makes.
    pub of_round: u64,
}

/// How many batches of each task an epoch has on the average. With a temperature the tasks without a weight have as
/// many together as without one, as far as their caps allow. O(tasks²) at worst, where one task after the other reaches
/// its cap.
pub(crate) fn shares(rules: &MixRules, tasks: &[TaskBatches]) -> Vec<f64> {
    let cap = |task: &TaskBatches| task.rule.max_batches.map_or(f64::INFINITY, f64::from);
    let weighted = |task: &TaskBatches| (task.rule.weight.unwrap_or(1.0) * task.of_round as f64).min(cap(task));
    let Some(temperature) = rules.task_temperature else { return tasks.iter().map(weighted).collect() };
    let is_free = |task: &TaskBatches| task.rule.weight.is_none();
    let repeats = rules.max_task_repeats.map_or(f64::INFINITY, f64::from);
    let most: Vec<f64> = tasks.iter().map(|task| cap(task).min(repeats * task.of_round as f64)).collect();
    // Of a library's own arithmetic, so that every machine has the same.
    let parts: Vec<f64> = tasks.iter().map(|task| libm::pow(task.of_round as f64, temperature.recip())).collect();
    let mut shares: Vec<f64> = tasks.iter().map(weighted).collect();
    let mut open: Vec<usize> = (0..tasks.len()).filter(|task| is_free(&tasks[*task])).collect();
    let mut left: f64 = open.iter().map(|task| tasks[*task].of_round as f64).sum();
    loop {
        let all: f64 = open.iter().map(|task| parts[*task]).sum();
        let share = |task: usize| if all > 0.0 { left * parts[task] / all } else { 0.0 };
        let (full, rest): (Vec<usize>, Vec<usize>) = open.iter().partition(|task| share(**task) > most[**task]);
        if full.is_empty() {
            open.iter().for_each(|task| shares[*task] = share(*task));
            return shares;
        }
        for task in full {
            shares[task] = most[task];
            left -= most[task];
        }
        open = rest;
    }
}

/// What an epoch begins to count with: the golden ratio spreads the epochs evenly (H. Weyl, Über die Gleichverteilung
/// von Zahlen mod. Eins, 1916).
const GOLDEN_RATIO: f64 = 0.618_033_988_749_894_8;

/// Batches of each task in one epoch: shares, each rounded up or down, so that their sum is right to one batch (and as
/// it is where it is whole). Who is rounded up changes from epoch to epoch, in proportion. Systematic rounding: the
/// shares lie end to end on a line, and each counts the whole numbers in its stretch, shifted by the epoch.
pub(crate) fn batches_of_epoch(shares: &[f64], epoch: u32) -> Vec<u64> {
    let mut at = (0.5 + f64::from(epoch) * GOLDEN_RATIO).fract();
    let round = |share: &f64| {
        // What is whole needs no rounding, and must not suffer from that of a sum.
        let whole = share.floor();
        let next = at + (share - whole);
        let up = (next + TOLERANCE).floor() - (at + TOLERANCE).floor();
        at = next.fract();
        (whole + up) as u64
    };
    shares.iter().map(round).collect()
}

/// What the mix makes of the full batches of an epoch, if every task has as many in each round.
pub(crate) fn counted(rules: &MixRules, tasks: &[TaskBatches], epoch: u32) -> MixFacts {
    let mut counts = MixFacts::default();
    for (task, batches) in tasks.iter().zip(batches_of_epoch(&shares(rules, tasks), epoch)) {
        counts.add(task.of_round, batches);
    }
    counts
}

/// The task of each batch, for tasks of so many batches. Of any k batches in a row a task has its share of k, to less
/// than two. O(batches log tasks).
pub(crate) fn interleave(counts: &[u64], random: &mut ChaCha8Rng) -> Vec<u32> {
    let all: u128 = counts.iter().map(|count| u128::from(*count)).sum();
    let present = counts.iter().filter(|count| **count > 0).count() as u128;
    // D of Tijdeman's bound 1 - 1 / D.
    let bound = (2 * present).saturating_sub(2).max(1);
    // The step in which a task's next batch may come first, and that in which it must have come.
    let times = |task: usize, placed: u64| {
        let [count, placed] = [counts[task], placed].map(u128::from);
        let earliest = (all * (1 + bound * placed)).div_ceil(bound * count);
        let latest = all * (bound * (placed + 1) - 1) / (bound * count);
        (earliest, latest)
    };
    // Tasks that must come at one time come in an order by chance.
    let ties: Vec<u32> = counts.iter().map(|_| random.random()).collect();
    let mut waiting: BinaryHeap<Reverse<(u128, usize)>> = BinaryHeap::new();
    let mut ready: BinaryHeap<Reverse<(u128, u32, usize)>> = BinaryHeap::new();
    let mut placed = vec![0u64; counts.len()];
    (0..counts.len()).filter(|task| counts[*task] > 0).for_each(|task| waiting.push(Reverse((times(task, 0).0, task))));
    let mut order = Vec::with_capacity(all as usize);
    for step in 1..=all {
        while let Some(Reverse((earliest, task))) = waiting.peek().copied()
            && (earliest <= step || ready.is_empty())
        {
            waiting.pop();
            ready.push(Reverse((times(task, placed[task]).1, ties[task], task)));
        }
        let Some(Reverse((_, _, task))) = ready.pop() else { break };
        order.push(task as u32);
        placed[task] += 1;
        if placed[task] < counts[task] {
            waiting.push(Reverse((times(task, placed[task]).0, task)));
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;
    use crate::config::ByTask;

    fn rules(task_temperature: Option<f64>, max_task_repeats: Option<u32>) -> MixRules {
        let tasks = ByTask { job: MixRule::default(), tasks: Default::default() };
        MixRules { task_temperature, max_task_repeats, tasks }
    }

    fn task(of_round: u64, weight: Option<f64>, max_batches: Option<u32>) -> TaskBatches {
        TaskBatches { rule: MixRule { weight, max_batches }, of_round }
    }

    #[test]
    fn a_weight_is_how_often_each_batch_comes() {
        let tasks = [task(10, Some(2.5), None), task(7, None, None), task(40, None, Some(8)), task(9, Some(0.0), None)];
        assert_eq!(shares(&rules(None, None), &tasks), [25.0, 7.0, 8.0, 0.0]);
    }

    #[test]
    fn a_temperature_makes_tasks_alike_and_leaves_their_number_of_batches() {
        let tasks = [task(100, None, None), task(25, None, None), task(0, None, None), task(5, Some(3.0), None)];
        assert_eq!(shares(&rules(Some(1.0), None), &tasks), [100.0, 25.0, 0.0, 15.0]);
        // Roots of 100 and 25 are as 2 to 1.
        let found = shares(&rules(Some(2.0), None), &tasks);
        let wanted = [250.0 / 3.0, 125.0 / 3.0, 0.0, 15.0];
        assert!(found.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-9), "{found:?}");
    }

    #[test]
    fn what_a_cap_takes_goes_to_the_others() {
        let tasks = [task(100, None, None), task(20, None, None), task(1, None, None)];
        let found = shares(&rules(Some(1000.0), Some(2)), &tasks);
        // The least may come twice, the next 40 times at most; the first takes what is left.
        assert_eq!(found, [79.0, 40.0, 2.0]);
        let found = shares(&rules(Some(1000.0), Some(1)), &tasks);
        assert_eq!(found, [100.0, 20.0, 1.0]);
        let capped = [task(100, None, Some(30)), task(20, None, Some(30)), task(1, None, None)];
        assert_eq!(shares(&rules(Some(1000.0), Some(2)), &capped), [30.0, 30.0, 2.0]);
    }

    #[test]
    fn an_epoch_has_the_sum_of_the_shares_and_epochs_together_each_share() {
        // Fifty tasks of half a batch: 25 in each epoch, each task in every second one or so.
        let shares = vec![0.5; 50];
        let epochs: Vec<Vec<u64>> = (0..8).map(|epoch| batches_of_epoch(&shares, epoch)).collect();
        assert!(epochs.iter().all(|counts| counts.iter().sum::<u64>() == 25), "{epochs:?}");
        assert!((0..50).all(|task| (3..=5).contains(&epochs.iter().map(|counts| counts[task]).sum::<u64>())));
        assert_eq!(batches_of_epoch(&[7.0, 0.0, 3.0], 5), [7, 0, 3]);
        assert_eq!(batches_of_epoch(&[0.3], 0), [0], "as one rounds");
        assert_eq!(batches_of_epoch(&[0.5], 0), [1]);
        // A third of a batch of each of three tasks: one of them has it.
        let thirds = [1.0 / 3.0; 3];
        assert!((0..30).all(|epoch| batches_of_epoch(&thirds, epoch).iter().sum::<u64>() == 1));
    }

    #[test]
    fn two_tasks_of_a_size_alternate() {
        let order = interleave(&[3, 3], &mut ChaCha8Rng::seed_from_u64(1));
        assert!(order.windows(2).all(|pair| pair[0] != pair[1]), "{order:?}");
        assert_eq!(interleave(&[0, 0], &mut ChaCha8Rng::seed_from_u64(1)), [0; 0]);
        assert_eq!(interleave(&[0, 2], &mut ChaCha8Rng::seed_from_u64(1)), [1, 1]);
    }

    proptest! {
        #[test]
        fn shares_are_rounded_up_or_down_and_their_sum_holds(
            shares in proptest::collection::vec(0.0f64..9.0, 1..40), epochs in 1u32..40,
        ) {
            let all: f64 = shares.iter().sum();
            let mut together = vec![0u64; shares.len()];
            for epoch in 0..epochs {
                let counts = batches_of_epoch(&shares, epoch);
                let fits = |(count, share): (&u64, &f64)| (*count as f64 - share).abs() < 1.0 + 1e-6;
                prop_assert!(counts.iter().zip(&shares).all(fits));
                prop_assert!((counts.iter().sum::<u64>() as f64 - all).abs() < 1.0 + 1e-6);
                together.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
            for (sum, share) in together.iter().zip(&shares) {
                // The extreme discrepancy of the first 40 multiples of the golden ratio is 2.492.
                prop_assert!((*sum as f64 - share * f64::from(epochs)).abs() < 2.5);
            }
        }

        #[test]
        fn every_beginning_has_each_tasks_share_to_less_than_one_batch(
            counts in proptest::collection::vec(0u64..60, 1..12), seed in any::<u64>(),
        ) {
            let order = interleave(&counts, &mut ChaCha8Rng::seed_from_u64(seed));
            let all: u64 = counts.iter().sum();
            prop_assert_eq!(order.len() as u64, all);
            let mut placed = vec![0u64; counts.len()];
            for (step, task) in (1..).zip(&order) {
                placed[*task as usize] += 1;
                for (count, placed) in counts.iter().zip(&placed) {
                    // |placed - step · count / all| < 1, in whole numbers.
                    prop_assert!((placed * all).abs_diff(step * count) < all);
                }
            }
            prop_assert_eq!(placed, counts);
        }

        #[test]
        fn caps_hold_and_nothing_is_lost_that_they_allow(
            sizes in proptest::collection::vec((0u64..200, proptest::option::of(1u32..90)), 1..9),
            temperature in 1.0f64..9.0, repeats in 1u32..4,
        ) {
            let tasks: Vec<TaskBatches> = sizes.iter().map(|(of_round, most)| task(*of_round, None, *most)).collect();
            let found = shares(&rules(Some(temperature), Some(repeats)), &tasks);
            let most = |task: &TaskBatches| {
                let cap = task.rule.max_batches.map_or(f64::INFINITY, f64::from);
                cap.min(f64::from(repeats) * task.of_round as f64)
            };
            let all: f64 = tasks.iter().map(|task| task.of_round as f64).sum();
            let room: f64 = tasks.iter().map(most).sum();
            prop_assert!(found.iter().zip(&tasks).all(|(share, task)| *share <= most(task)));
            prop_assert!((found.iter().sum::<f64>() - all.min(room)).abs() < 1e-6 * (all + 1.0));
            // Of two tasks below their caps, the larger has more, by the root of their sizes.
            for (a, first) in found.iter().zip(&tasks) {
                for (b, second) in found.iter().zip(&tasks) {
                    if *a < most(first) && *b < most(second) && *b > 0.0 {
                        let ratio = (first.of_round as f64 / second.of_round as f64).powf(temperature.recip());
                        prop_assert!((a / b - ratio).abs() < 1e-9 * ratio.max(1.0));
                    }
                }
            }
        }
    }
}
