//! How clusters are grown and batches are made.

use serde::Serialize;

use super::{BATCH_SIZE_MAX, Mask, NegativesOf, RankLayout, Remainder, Settings, Sizes};
use crate::error::{Error, Result};

/// Most hard negatives of an example.
pub const HARD_NEGATIVES_MAX: u32 = 256;
const EPOCHS_MAX: u32 = 10_000;

/// How clusters are grown.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClusterRules {
    /// K, of tasks that have none of their own.
    pub size: u32,
    /// Passes of swap refinement.
    pub passes: u32,
    /// λ: what a suspect pair inside a cluster costs, where an edge in the window gains 1.
    pub suspect_weight: f32,
}

impl ClusterRules {
    pub(super) fn new(settings: &Settings) -> Result<ClusterRules> {
        let suspect_weight = settings.suspect_weight.unwrap_or(0.5);
        if !(0.0..=100.0).contains(&suspect_weight) {
            return Err(Error::input("the suspect weight is out of range")
                .expected("--suspect-weight from 0 to 100")
                .found(suspect_weight.to_string())
                .remedy("0 ignores suspects, 0.5 is the default"));
        }
        let (size, passes) = (settings.cluster_size.unwrap_or(8), settings.cluster_passes.unwrap_or(5));
        Ok(ClusterRules { size, passes, suspect_weight })
    }
}

/// How batches are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BatchRules {
    /// |B|, of tasks that have none of their own, and of batches that `fill` unites.
    pub size: u32,
    /// What becomes of rows that fill no whole batch.
    pub remainder: Remainder,
    pub epochs: u32,
    /// h: hard negatives of each example.
    pub hard_negatives: u32,
    /// Where they come from.
    pub negatives_of: NegativesOf,
    /// What the table says of a batch's suspects.
    pub mask: Mask,
    /// R: most rows of a key in a batch.
    pub rows_per_key: u32,
    /// W: ranks that share a batch; |B|/W is a multiple of K.
    pub world_size: u32,
    /// Which positions are which rank's.
    pub rank_layout: RankLayout,
}

impl BatchRules {
    pub(super) fn new(settings: &Settings) -> Result<BatchRules> {
        let rules = BatchRules {
            size: settings.batch_size.unwrap_or(1024),
            remainder: settings.remainder.unwrap_or(Remainder::Short),
            epochs: settings.epochs.unwrap_or(1),
            hard_negatives: settings.hard_negatives.unwrap_or(0),
            negatives_of: settings
                .negatives_of
                .filter(|_| settings.hard_negatives.unwrap_or(0) > 0)
                .unwrap_or_default(),
            mask: settings.mask.unwrap_or_default(),
            rows_per_key: settings.rows_per_key.unwrap_or(1),
            world_size: settings.world_size.unwrap_or(1),
            rank_layout: settings.rank_layout.unwrap_or(RankLayout::Contiguous),
        };
        if rules.hard_negatives > HARD_NEGATIVES_MAX {
            return Err(Error::input("there are too many hard negatives")
                .expected(format!("--hard-negatives from 0 to {HARD_NEGATIVES_MAX}"))
                .found(rules.hard_negatives.to_string())
                .remedy("the paper draws 5; 0 draws none"));
        }
        if !(1..=BATCH_SIZE_MAX).contains(&rules.rows_per_key) {
            return Err(Error::input("the number of rows of a key is out of range")
                .expected(format!("--rows-per-key from 1 to {BATCH_SIZE_MAX}"))
                .found(rules.rows_per_key.to_string())
                .remedy("1 keeps rows of one key apart; losses with several positives of a class take more"));
        }
        if rules.epochs == 0 || rules.epochs > EPOCHS_MAX {
            return Err(Error::input("the number of epochs is out of range")
                .expected(format!("--epochs from 1 to {EPOCHS_MAX}"))
                .found(rules.epochs.to_string())
                .remedy("each epoch writes the whole batch table once more"));
        }
        Ok(rules)
    }

    /// Whether ranks can share a batch of these sizes in whole clusters.
    ///
    /// # Errors
    /// |B| is no multiple of W · K.
    pub(super) fn check_share(self, sizes: Sizes) -> Result<()> {
        let Sizes { cluster_size, batch_size } = sizes;
        let world_size = self.world_size;
        let share = u64::from(world_size) * u64::from(cluster_size);
        let size = u64::from(batch_size);
        if world_size > 0 && size.is_multiple_of(share) {
            return Ok(());
        }
        let larger = size.next_multiple_of(share.max(1));
        Err(Error::input("the ranks cannot share a batch in whole clusters")
            .expected(
                "--world-size of at least 1, \
                 and a --batch-size that is a multiple of --world-size times --cluster-size",
            )
            .found(format!("--world-size {world_size} --cluster-size {cluster_size} --batch-size {batch_size}"))
            .remedy(match world_size {
                0 => "one process is --world-size 1".into(),
                _ if larger > u64::from(BATCH_SIZE_MAX) => "lower --cluster-size, or train with fewer ranks".into(),
                _ => format!("try --batch-size {larger}, or a smaller --cluster-size"),
            }))
    }
}
