//! What every pass goes by: keys, sizes and weights.

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
    /// Rows that share a key never share a cluster.
    pub keys: KeysByPlace<'a>,
    /// Each task's places and K, in order; together they are all places.
    pub tasks: Vec<TaskPlaces>,
    /// What edges weigh.
    pub weights: Weights,
}

impl PassRules<'_> {
    /// K of the task of the row at a place. O(log tasks).
    #[inline]
    pub fn size_of(&self, place: Place) -> u32 {
        match &self.tasks[..] {
            [task] => task.size,
            tasks => tasks[tasks.partition_point(|task| task.places.end <= place)].size,
        }
    }
}

/// A task, as clusters see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPlaces {
    pub places: PlaceRange,
    /// K.
    pub size: u32,
}
