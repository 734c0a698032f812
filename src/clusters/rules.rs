//! What every pass goes by: keys, sizes and weights.

use crate::config::Sizes;
use crate::edges::{Edge, Relation};
use crate::vectors::{KeysByPlace, Place, PlaceRange};

/// Weights are sums of multiples of 1/[`UNIT`]: integers, so that sums are exact in any order.
pub(crate) const UNIT: i32 = 64;

/// The weight of an edge of each relation, in units.
#[derive(Debug, Clone, Copy)]
pub struct Weights([i32; Relation::COUNT]);

impl Weights {
    #[inline]
    pub(crate) fn of(&self, edge: &Edge) -> i32 {
        self.0[usize::from(edge.relation.code())]
    }

    /// The smallest.
    pub(crate) fn least(&self) -> i32 {
        self.0.iter().copied().min().unwrap_or(0)
    }
}

/// Weights for a suspect weight λ: + 1 for a direction in the rank window, − λ for one as a suspect.
pub fn weights(suspect_weight: f32) -> Weights {
    let penalty = (f64::from(suspect_weight) * f64::from(UNIT)).round() as i32;
    Weights(std::array::from_fn(|code| {
        Relation::from_code(code as u8)
            .map_or(0, |relation| UNIT * i32::from(relation.window()) - penalty * i32::from(relation.suspects()))
    }))
}

/// What every pass goes by.
#[derive(Debug, Clone)]
pub struct PassRules<'a> {
    /// How many rows that share a key may share a cluster depends on the task.
    pub keys: KeysByPlace<'a>,
    /// Each task's places and K, in order; together they are all places.
    pub tasks: Vec<TaskPlaces>,
    /// What edges weigh.
    pub weights: Weights,
}

impl PassRules<'_> {
    /// The task of the row at a place. O(log tasks).
    #[inline]
    pub(crate) fn task_of(&self, place: Place) -> &TaskPlaces {
        match &self.tasks[..] {
            [task] => task,
            tasks => &tasks[tasks.partition_point(|task| task.places.end <= place)],
        }
    }
}

/// A task, as clusters see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPlaces {
    pub places: PlaceRange,
    /// K.
    pub size: u32,
    /// Most rows of a key in a cluster.
    pub per_key: u32,
}

impl TaskPlaces {
    /// A task whose clusters have `sizes`, where a batch may have `rows_per_key` rows of a key. A cluster may have as
    /// many that any clusters make a batch, and one at least.
    pub(crate) fn new(places: PlaceRange, sizes: Sizes, rows_per_key: u32) -> TaskPlaces {
        let share = u64::from(rows_per_key) * u64::from(sizes.cluster_size) / u64::from(sizes.batch_size.max(1));
        TaskPlaces { places, size: sizes.cluster_size, per_key: share.clamp(1, u64::from(u32::MAX)) as u32 }
    }
}
