//! A figure that was measured some times: its values, and what they say together. Pure.

use serde::{Deserialize, Serialize};

/// What a figure that was measured once may be wrong by, as a share of it: nothing is known of its noise.
const UNKNOWN_NOISE: f64 = 0.15;
/// The least noise, as a share: two values that agree better do so by chance.
const LEAST_NOISE: f64 = 0.05;

/// A figure, measured one time or more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Repeated {
    /// In the order in which they were measured. All are above zero.
    pub values: Vec<f64>,
    pub median: f64,
    /// The largest less the smallest, as a share of the median; null where there is one value.
    pub spread: Option<f64>,
}

impl Repeated {
    /// Of at least one value; values that are no number or not above zero become the least above it.
    pub(super) fn new(values: Vec<f64>) -> Repeated {
        let values: Vec<f64> =
            values.into_iter().map(|value| if value > 0.0 && value.is_finite() { value } else { 1e-9 }).collect();
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
            _ => sorted[middle],
        };
        let spread = (sorted.len() > 1).then(|| (sorted[sorted.len() - 1] - sorted[0]) / median);
        Repeated { values, median, spread }
    }

    /// What is wrong with a figure that was read from a file.
    pub(super) fn fault(&self) -> Option<String> {
        if self.values.is_empty() {
            return Some("no values".into());
        }
        if let Some(value) = self.values.iter().find(|value| !value.is_finite() || **value <= 0.0) {
            return Some(format!("the value {value}, where all are above zero"));
        }
        let due = Repeated::new(self.values.clone());
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs();
        let spreads = match (self.spread, due.spread) {
            (Some(a), Some(b)) => near(a, b) || (a - b).abs() < 1e-12,
            (None, None) => true,
            _ => false,
        };
        let is_due = near(self.median, due.median) && spreads;
        (!is_due).then(|| {
            format!("the median {} and the spread {:?}, which its values do not have", self.median, self.spread)
        })
    }

    /// What it may be wrong by, as a share of it.
    pub(super) fn noise(&self) -> f64 {
        self.spread.map_or(UNKNOWN_NOISE, |spread| spread.max(LEAST_NOISE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_spread_are_those_of_the_values() {
        let odd = Repeated::new(vec![4.0, 1.0, 2.0]);
        assert_eq!((odd.median, odd.spread), (2.0, Some(1.5)));
        let even = Repeated::new(vec![1.0, 3.0]);
        assert_eq!((even.median, even.spread), (2.0, Some(1.0)));
        let one = Repeated::new(vec![7.0]);
        assert_eq!((one.median, one.spread, one.noise()), (7.0, None, UNKNOWN_NOISE));
        assert_eq!(Repeated::new(vec![2.0, 2.0]).noise(), LEAST_NOISE);
        assert_eq!(even.noise(), 1.0);
    }

    #[test]
    fn figures_that_cannot_have_been_measured_are_found() {
        assert_eq!(Repeated::new(vec![4.0, 1.0, 2.0]).fault(), None);
        assert_eq!(Repeated::new(vec![0.0, f64::NAN, f64::INFINITY]).fault(), None);
        let sound = Repeated::new(vec![1.0, 3.0]);
        let faulty = [
            Repeated { values: vec![], ..sound.clone() },
            Repeated { values: vec![1.0, -3.0], ..sound.clone() },
            Repeated { values: vec![1.0, f64::NAN], ..sound.clone() },
            Repeated { median: 1.0, ..sound.clone() },
            Repeated { spread: None, ..sound.clone() },
            Repeated { spread: Some(0.5), ..sound },
        ];
        for figure in faulty {
            assert!(figure.fault().is_some(), "{figure:?}");
        }
    }
}
