//! What clusters are worth: preferred negatives and suspects inside them, counted exactly.

use rayon::prelude::*;

use super::labels::NO_CLUSTER;
use crate::neighbors::Windows;
use crate::run::record::ClusterMetrics;
use crate::vectors::{Place, PlaceRange};

impl ClusterMetrics {
    fn plus(self, other: ClusterMetrics) -> ClusterMetrics {
        ClusterMetrics {
            rows: self.rows + other.rows,
            window: self.window + other.window,
            window_inside: self.window_inside + other.window_inside,
            suspects: self.suspects + other.suspects,
            suspects_inside: self.suspects_inside + other.suspects_inside,
            queries_without: self.queries_without + other.queries_without,
        }
    }

    /// What the numbers of [`ClusterMetrics::line`] are.
    pub(crate) const HEADING: &'static str =
        "inside clusters after  preferred negatives  a query  suspects  queries without any";

    /// A line of the table of phases.
    pub(crate) fn line(&self, phase: &str) -> String {
        let share = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        format!(
            "{phase:>21}  {:>17.2} %  {:>7.2}  {:>6.2} %  {:>17.2} %",
            share(self.window_inside, self.window),
            self.window_inside as f64 / self.rows.max(1) as f64,
            share(self.suspects_inside, self.suspects),
            share(self.queries_without, self.rows),
        )
    }
}

/// Counts over all lists, given each row's label, by place. O(rows · ranks), and times log copies where ranks are those
/// of distinct positives, with 4 bytes a row then.
pub(crate) fn measure(windows: &Windows<'_>, labels: &[u32]) -> ClusterMetrics {
    let candidates = windows.neighbors().candidates();
    // Of a positive that many rows have, any of them may be in the cluster.
    let by_positive = candidates.map(|candidates| (candidates, candidates.by_positive(labels)));
    let is_in = |other: Place, label: u32| match &by_positive {
        None => labels[other.index()] == label,
        Some((candidates, by_positive)) => candidates.has(by_positive, other, label),
    };
    let of_block = |places: &PlaceRange| {
        let mut metrics = ClusterMetrics::default();
        for place in *places {
            let label = labels[place.index()];
            let list = windows.of(place);
            // All of them, and those in the row's own cluster.
            let count = |places: &mut dyn Iterator<Item = Place>| {
                places.fold([0, 0], |[all, inside], other| {
                    [all + 1, inside + u64::from(label != NO_CLUSTER && is_in(other, label))]
                })
            };
            let ([window, hits], [suspects, suspects_inside]) =
                (count(&mut list.preferred_rows()), count(&mut list.suspect_rows()));
            metrics = metrics.plus(ClusterMetrics {
                rows: 1,
                window,
                window_inside: hits,
                suspects,
                suspects_inside,
                queries_without: u64::from(hits == 0),
            });
        }
        metrics
    };
    windows.block_places().par_iter().map(of_block).reduce(ClusterMetrics::default, ClusterMetrics::plus)
}
