//! Random numbers: one cipher stream for each purpose, keyed by what the numbers are for.
//!
//! A stream is ChaCha8 under a key of four words. Two purposes never share a key for the same words: the last
//! word tells hard negatives, rounds of tasks, their order and planted data from the rest, and the first words of the
//! rest differ by constants that no seed of a job is used with. The words are part of what a run's bytes follow from:
//! they never change.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Last word of a key: most purposes.
const COMMON: u64 = 0x6261_7463_6865_7321;
/// Last word of a key: hard negatives.
const NEGATIVES: u64 = 0x6e65_6761_7469_7665;
/// Last word of a key: planted data.
const PLANTED: u64 = 0x6765_6e65_7261_7465;
/// Last word of a key: rounds of tasks by weight, and the order of what they make.
const ROUND: u64 = 0x726f_756e_645f_7061;
const MIX: u64 = 0x6d69_785f_7461_736b;
/// Second word of a report's shuffle is this and the epoch.
const REPORT_SHUFFLE: u64 = 1 << 40;
/// Second word of a report's sample is this and the epoch.
const REPORT_SAMPLE: u64 = 2 << 40;

/// What random numbers are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Rows of which a kernel's rate is measured.
    CalibrationRows { rows: u64, dim: u64 },
    /// Axes that orthogonal iteration begins with.
    RotationStart { dim: u64 },
    /// Signs of the cosine transform that mixes the axes.
    RotationSigns { dim: u64 },
    /// One row out of each stretch of a range.
    SpreadRows { length: u64, count: u64 },
    /// Queries whose recall is measured. Without the job's seed: probes are chosen by them.
    RecallSample,
    /// Clusters of a task into the batches of an epoch.
    Packing { seed: u64, epoch: u32, task: usize },
    /// Clusters of a task into batches once more in the same epoch.
    Round { seed: u64, epoch: u32, task: usize, round: u32 },
    /// The order of a round's batches.
    RoundOrder { seed: u64, epoch: u32, task: usize, round: u32 },
    /// Which of several tasks comes first, in an epoch of tasks by weight.
    TaskOrder { seed: u64, epoch: u32 },
    /// The order of an epoch's full batches.
    BatchOrder { seed: u64, epoch: u32 },
    /// The hard negatives of a batch; each row has a stream of the cipher's own.
    HardNegatives { seed: u64, epoch: u32, batch: usize },
    /// The random batches that a report compares with.
    ReportShuffle { seed: u64, epoch: u32, task: usize },
    /// The queries that a report samples.
    ReportSample { seed: u64, epoch: u32, task: usize },
    /// The rows that `verify` looks at.
    VerifySample { rows: u64 },
    /// Bytes that `bench` writes to the disk.
    BenchBytes,
    /// The order of planted axes of a falling spectrum, and the signs that mix them.
    PlantedAxes { dim: u64 },
    /// A number of planted data: of a row or a cluster, for one of its parts.
    Planted { seed: u64, number: u64, part: u64 },
}

impl Purpose {
    fn key(self) -> [u64; 4] {
        match self {
            Purpose::CalibrationRows { rows, dim } => [1, rows, dim, COMMON],
            Purpose::RotationStart { dim } => [2, dim, 0, COMMON],
            Purpose::RotationSigns { dim } => [3, dim, 0, COMMON],
            Purpose::SpreadRows { length, count } => [4, length, count, COMMON],
            Purpose::RecallSample => [0, u64::MAX, u64::MAX, COMMON],
            Purpose::Packing { seed, epoch, task } => [seed, u64::from(epoch), task as u64, COMMON],
            Purpose::Round { seed, epoch, task, round } => {
                [seed, u64::from(epoch) << 32 | u64::from(round), task as u64, ROUND]
            }
            Purpose::RoundOrder { seed, epoch, task, round } => {
                [seed, u64::from(epoch) << 32 | u64::from(round), task as u64, MIX]
            }
            Purpose::TaskOrder { seed, epoch } => [seed, u64::from(epoch), u64::MAX, MIX],
            Purpose::BatchOrder { seed, epoch } => [seed, u64::from(epoch), u64::MAX, COMMON],
            Purpose::HardNegatives { seed, epoch, batch } => [seed, u64::from(epoch), batch as u64, NEGATIVES],
            Purpose::ReportShuffle { seed, epoch, task } => {
                [seed, REPORT_SHUFFLE | u64::from(epoch), task as u64, COMMON]
            }
            Purpose::ReportSample { seed, epoch, task } => {
                [seed, REPORT_SAMPLE | u64::from(epoch), task as u64, COMMON]
            }
            Purpose::VerifySample { rows } => [0x5EED, rows, 0, COMMON],
            // No row and no cluster has these numbers.
            Purpose::BenchBytes => [0, u64::MAX, 0, PLANTED],
            Purpose::PlantedAxes { dim } => [dim, u64::MAX, 1, PLANTED],
            Purpose::Planted { seed, number, part } => [seed, number, part, PLANTED],
        }
    }
}

/// The stream of a purpose, from its beginning.
pub(crate) fn stream(purpose: Purpose) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip(purpose.key()) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn purposes_of_one_seed_have_streams_of_their_own() {
        let (seed, epoch, task) = (7, 1, 2);
        let purposes = [
            Purpose::RecallSample,
            Purpose::Packing { seed, epoch, task },
            Purpose::BatchOrder { seed, epoch },
            Purpose::Round { seed, epoch, task, round: 1 },
            Purpose::RoundOrder { seed, epoch, task, round: 1 },
            Purpose::TaskOrder { seed, epoch },
            Purpose::HardNegatives { seed, epoch, batch: 2 },
            Purpose::ReportShuffle { seed, epoch, task },
            Purpose::ReportSample { seed, epoch, task },
            Purpose::BenchBytes,
            Purpose::PlantedAxes { dim: seed },
            Purpose::Planted { seed, number: 1, part: 2 },
        ];
        let mut first: Vec<u64> = purposes.into_iter().map(|purpose| stream(purpose).next_u64()).collect();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), purposes.len());
    }

    #[test]
    fn the_words_of_a_purpose_never_change() {
        // A run's bytes follow from these numbers.
        assert_eq!(Purpose::Packing { seed: 5, epoch: 1, task: 2 }.key(), [5, 1, 2, 0x6261_7463_6865_7321]);
        assert_eq!(Purpose::HardNegatives { seed: 5, epoch: 1, batch: 2 }.key(), [5, 1, 2, 0x6e65_6761_7469_7665]);
        assert_eq!(Purpose::SpreadRows { length: 9, count: 3 }.key(), [4, 9, 3, 0x6261_7463_6865_7321]);
    }
}
