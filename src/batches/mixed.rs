//! The full batches of an epoch of tasks by weight: as many of each task as its share says, tasks mixed evenly. Pure.
//!
//! Memory: 8 bytes a row of the epoch, and what packing one task takes.

use rand_chacha::ChaCha8Rng;

use super::mix::{TaskBatches, batches_of_epoch, interleave, shares};
use super::order::BatchOrder;
use super::pack::Packed;
use crate::config::{MixRule, MixRules};
use crate::error::{Error, Result};
use crate::random::{Purpose, stream};
use crate::run::record::MixFacts;

/// An epoch by a mix.
#[derive(Debug, Default)]
pub(crate) struct MixedEpoch {
    /// Full batches in their order.
    pub full: BatchOrder,
    /// Smaller ones of each task's first round, in task order.
    pub short: BatchOrder,
    /// The most full batches of one round that keys allow.
    pub possible: u64,
    pub counts: MixFacts,
    /// Full batches of each task.
    pub batches: Vec<u64>,
    /// Of each task the full batches that every round made, of which the last may be there in part.
    pub rounds: Vec<Vec<u64>>,
}

/// Mixes tasks. `tasks`: each task's rule and |B|; `pack` packs a task, in one of its rounds.
///
/// # Errors
/// The epoch has 2³² rows or more.
pub(crate) fn mix(
    rules: &MixRules,
    tasks: &[(MixRule, u32)],
    (seed, epoch): (u64, u32),
    pack: impl Fn(usize, u32) -> Packed,
) -> Result<MixedEpoch> {
    let mut mixed = MixedEpoch::default();
    let mut firsts: Vec<BatchOrder> = Vec::with_capacity(tasks.len());
    for (task, (rule, _)) in tasks.iter().enumerate() {
        let packed = pack(task, 0);
        mixed.possible += packed.possible;
        if rule.weight != Some(0.0) {
            mixed.short.append(packed.short);
        }
        firsts.push(packed.full);
    }
    let sizes: Vec<TaskBatches> = tasks
        .iter()
        .zip(&firsts)
        .map(|((rule, _), first)| TaskBatches { rule: *rule, of_round: first.count() as u64 })
        .collect();
    let counts = batches_of_epoch(&shares(rules, &sizes), epoch);
    refuse_too_many(counts.iter().zip(tasks).map(|(count, (_, size))| count * u64::from(*size)).sum())?;
    let mut queues = Vec::with_capacity(tasks.len());
    for (task, first) in firsts.into_iter().enumerate() {
        let order = |round: u32| stream(Purpose::RoundOrder { seed, epoch, task, round });
        let (queue, rounds) = rounds_of_task(first, counts[task], order, |round| pack(task, round).full);
        let [first, count] = [rounds[0], queue.count() as u64];
        mixed.counts.add(first, count);
        mixed.batches.push(count);
        mixed.rounds.push(rounds);
        queues.push(queue);
    }
    mixed.full = in_order(&queues, &mut stream(Purpose::TaskOrder { seed, epoch }));
    Ok(mixed)
}

/// The batches of a task, round after round, each in its order by chance, until there are `wanted`; and how many each
/// round made. A round that makes none is the last: then there are fewer.
fn rounds_of_task(
    first: BatchOrder,
    wanted: u64,
    order: impl Fn(u32) -> ChaCha8Rng,
    pack: impl Fn(u32) -> BatchOrder,
) -> (BatchOrder, Vec<u64>) {
    let mut rounds = vec![first.count() as u64];
    let left = |queue: &BatchOrder| (wanted - queue.count() as u64) as usize;
    let mut queue = first.shuffled(&mut order(0)).first(wanted as usize);
    while left(&queue) > 0 && rounds.last() != Some(&0) {
        let round = rounds.len() as u32;
        let again = pack(round);
        rounds.push(again.count() as u64);
        let again = again.shuffled(&mut order(round)).first(left(&queue));
        queue.append(again);
    }
    (queue, rounds)
}

/// The batches of all tasks, evenly mixed.
fn in_order(queues: &[BatchOrder], random: &mut ChaCha8Rng) -> BatchOrder {
    let counts: Vec<u64> = queues.iter().map(|queue| queue.count() as u64).collect();
    let mut next = vec![0; queues.len()];
    let mut order = BatchOrder::default();
    order.rows.reserve_exact(queues.iter().map(|queue| queue.rows.len()).sum());
    for task in interleave(&counts, random) {
        let task = task as usize;
        order.rows.extend(queues[task].batch(next[task]));
        order.end_batch();
        next[task] += 1;
    }
    order
}

fn refuse_too_many(rows: u64) -> Result<()> {
    if rows < u64::from(u32::MAX) {
        return Ok(());
    }
    Err(Error::input("an epoch has too many rows")
        .expected("weights that make fewer than 2³² rows")
        .found(format!("{rows} rows"))
        .remedy("lower the tasks' weights, and write more --epochs"))
}
