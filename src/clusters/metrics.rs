//! What clusters are worth: preferred negatives and suspects inside, counted exactly. Rows are places.

use std::ops::Range;

use rayon::prelude::*;

use super::labels::NO_CLUSTER;
use crate::neighbors::Windows;
use crate::run::record::ClusterMetrics;
use crate::vectors::RowId;

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
}

impl ClusterMetrics {
    /// What the numbers of [`ClusterMetrics::line`] are.
    pub const HEADING: &'static str =
        "inside clusters after  preferred negatives  a query  suspects  queries without any";

    /// A line of the table of phases.
    pub fn line(&self, phase: &str) -> String {
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

/// Counts over all lists. O(rows · ranks).
pub(crate) fn measure(windows: &Windows<'_>, labels: &[u32]) -> ClusterMetrics {
    let of_block = |places: &Range<RowId>| {
        let mut metrics = ClusterMetrics::default();
        for place in places.clone() {
            let label = labels[place as usize];
            let list = windows.of(place);
            let (suspects, window) = (list.suspects(), list.preferred());
            let inside = |rows: &[u32]| {
                let same = |other: &&u32| label != NO_CLUSTER && labels[**other as usize] == label;
                rows.iter().filter(same).count() as u64
            };
            let hits = inside(window);
            metrics = metrics.plus(ClusterMetrics {
                rows: 1,
                window: window.len() as u64,
                window_inside: hits,
                suspects: suspects.len() as u64,
                suspects_inside: inside(suspects),
                queries_without: u64::from(hits == 0),
            });
        }
        metrics
    };
    windows.stretches().par_iter().map(of_block).reduce(ClusterMetrics::default, ClusterMetrics::plus)
}
