//! How large clusters and batches are.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Most rows of a batch.
pub const BATCH_SIZE_MAX: u32 = 65_536;

/// K and |B|; K divides |B|.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sizes {
    /// K.
    pub cluster_size: u32,
    /// |B|.
    pub batch_size: u32,
}

impl Sizes {
    /// Itself, if its numbers fit.
    ///
    /// # Errors
    /// A number is out of range, or K does not divide |B|; the message names the flag.
    pub(super) fn checked(self) -> Result<Sizes> {
        let (cluster, batch) = (self.cluster_size, self.batch_size);
        if !(2..=BATCH_SIZE_MAX).contains(&batch) {
            return Err(Error::input("the batch size is out of range")
                .expected(format!("--batch-size from 2 to {BATCH_SIZE_MAX}"))
                .found(batch.to_string())
                .remedy("choose the batch size that your trainer uses"));
        }
        if cluster < 2 || !batch.is_multiple_of(cluster) {
            return Err(Error::input("the cluster size does not divide the batch size")
                .expected("--cluster-size of at least 2 that divides --batch-size")
                .found(format!("--cluster-size {cluster} --batch-size {batch}"))
                .remedy(format!("try --cluster-size {}", nearest_divisor(batch, cluster))));
        }
        Ok(self)
    }
}

fn nearest_divisor(batch: u32, wanted: u32) -> u32 {
    (2..=batch).filter(|k| batch.is_multiple_of(*k)).min_by_key(|k| k.abs_diff(wanted)).unwrap_or(batch)
}
