//! Figures from a sample: mean, standard error, quantiles, histogram. Pure.
//!
//! The sample is stratified by task, so that small tasks have figures too: each query stands for as many queries of
//! its task as the task has for each one drawn. The mean is the ratio estimator of sampling theory (Cochran, *Sampling
//! Techniques*, 3rd ed. 1977, sections 5A.8 and 6.2), its variance that of the residuals in each stratum, with the
//! finite-population correction: where every query is in the sample, the error is zero.

use serde::Serialize;

/// What was drawn of one task.
#[derive(Debug, Clone, PartialEq)]
pub struct Stratum<'a> {
    /// Queries of the task.
    pub population: u64,
    /// Queries drawn, with a value or without.
    pub drawn: u64,
    /// Values of those that have one.
    pub values: &'a [f64],
}

impl Stratum<'_> {
    /// Queries that one drawn stands for.
    fn weight(&self) -> f64 {
        self.population as f64 / self.drawn.max(1) as f64
    }

    /// Variance that this stratum adds to the total of what `value − mean` comes to.
    fn variance(&self, mean: f64) -> f64 {
        if self.drawn < 2 || self.drawn >= self.population {
            return 0.0;
        }
        let drawn = self.drawn as f64;
        let residuals = || self.values.iter().map(|value| value - mean);
        let (sum, squares) = (residuals().sum::<f64>(), residuals().map(|z| z * z).sum::<f64>());
        let spread = ((squares - sum * sum / drawn) / (drawn - 1.0)).max(0.0);
        let population = self.population as f64;
        population * population * (1.0 - drawn / population) * spread / drawn
    }
}

/// A mean, how sure it is, and how the values lie around it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Over all queries that have a value.
    pub mean: f64,
    /// Standard error of the mean that comes from sampling; 0 where the sample holds all queries.
    pub standard_error: f64,
    /// Sampled queries that have a value.
    pub queries: u64,
    /// A twentieth of the queries is at or below this.
    pub p05: f64,
    /// A quarter.
    pub p25: f64,
    /// Half.
    pub p50: f64,
    /// Three quarters.
    pub p75: f64,
    /// Nineteen twentieths.
    pub p95: f64,
}

impl Estimate {
    /// From all strata; `None` where no query has a value. O(n log n).
    pub fn new(strata: &[Stratum<'_>]) -> Option<Estimate> {
        let mut weighted = weighted(strata);
        let weight: f64 = weighted.iter().map(|(_, weight)| weight).sum();
        let total: f64 = weighted.iter().map(|(value, weight)| value * weight).sum();
        let queries = weighted.len() as u64;
        if queries == 0 {
            return None;
        }
        let mean = total / weight;
        let variance: f64 = strata.iter().map(|stratum| stratum.variance(mean)).sum();
        weighted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let at = |share| quantile(&weighted, share * weight);
        Some(Estimate {
            mean,
            standard_error: variance.sqrt() / weight,
            queries,
            p05: at(0.05),
            p25: at(0.25),
            p50: at(0.5),
            p75: at(0.75),
            p95: at(0.95),
        })
    }
}

fn weighted(strata: &[Stratum<'_>]) -> Vec<(f64, f64)> {
    strata.iter().flat_map(|stratum| stratum.values.iter().map(|value| (*value, stratum.weight()))).collect()
}

/// The smallest value at which the weights so far reach `weight`.
fn quantile(sorted: &[(f64, f64)], weight: f64) -> f64 {
    let mut sum = 0.0;
    // Slightly less, so that rounding of the sum cannot skip a value.
    let found = sorted.iter().find(|(_, own)| {
        sum += own;
        sum >= weight * (1.0 - 1e-12)
    });
    found.or(sorted.last()).map_or(f64::NAN, |(value, _)| *value)
}

/// Most bins of a histogram.
const BINS: f64 = 40.0;

/// Evenly spaced round bounds of at most 40 bins that hold all values; empty without values.
pub(crate) fn bounds(values: impl Iterator<Item = f64> + Clone) -> Vec<f64> {
    let (least, most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), value| (a.min(value), b.max(value)));
    if least > most {
        return Vec::new();
    }
    let range = (most - least).max(1e-6);
    let power = 10f64.powf((range / BINS).log10().floor());
    // Two bins to spare: the first and the last may stick out.
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| range / step <= BINS - 2.0);
    let step = step.unwrap_or(20.0 * power);
    let (first, last) = ((least / step).floor() as i64, (most / step).floor() as i64 + 1);
    (first..=last).map(|n| n as f64 * step).collect()
}

/// Share of the queries in each bin, the lower bound included.
pub(crate) fn histogram(strata: &[Stratum<'_>], bounds: &[f64]) -> Vec<f64> {
    let mut shares = vec![0.0; bounds.len().saturating_sub(1)];
    let weighted = weighted(strata);
    let all: f64 = weighted.iter().map(|(_, weight)| weight).sum();
    for (value, weight) in weighted {
        let bin = bounds.partition_point(|bound| *bound <= value).clamp(1, shares.len().max(1)) - 1;
        if let Some(share) = shares.get_mut(bin) {
            *share += weight / all;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::RngExt;

    use super::*;

    #[test]
    fn all_queries_have_no_error_and_one_from_each_of_two_tasks_weigh_as_their_tasks() {
        let all = Stratum { population: 4, drawn: 4, values: &[1.0, 2.0, 3.0, 10.0] };
        let estimate = Estimate::new(&[all]).unwrap();
        assert_eq!((estimate.mean, estimate.standard_error, estimate.queries), (4.0, 0.0, 4));
        assert_eq!((estimate.p05, estimate.p25, estimate.p50, estimate.p95), (1.0, 1.0, 2.0, 10.0));
        let few = Stratum { population: 2, drawn: 2, values: &[0.0, 0.0] };
        let many = Stratum { population: 98, drawn: 2, values: &[1.0, 1.0] };
        assert!((Estimate::new(&[few, many]).unwrap().mean - 0.98).abs() < 1e-12);
        assert_eq!(Estimate::new(&[Stratum { population: 9, drawn: 3, values: &[] }]), None);
    }

    #[test]
    fn the_standard_error_is_how_far_means_of_samples_stray() {
        let mut random = crate::random::stream(crate::random::Purpose::RecallSample);
        let tasks: [Vec<f64>; 2] = [300, 1000]
            .map(|rows| (0..rows).map(|row| (f64::from(row) * 0.37).sin() + f64::from(rows) / 900.0).collect());
        let truth = tasks.iter().flatten().sum::<f64>() / 1300.0;
        let (mut strays, mut errors) = (0.0, 0.0);
        let tries = 2000;
        for _ in 0..tries {
            let drawn: Vec<Vec<f64>> = tasks
                .iter()
                .map(|task| {
                    let mut left = 60;
                    let mut values = Vec::new();
                    for (at, value) in task.iter().enumerate() {
                        if random.random_range(0..task.len() - at) < left {
                            left -= 1;
                            values.push(*value);
                        }
                    }
                    values
                })
                .collect();
            let stratum =
                |task: usize| Stratum { population: tasks[task].len() as u64, drawn: 60, values: &drawn[task] };
            let estimate = Estimate::new(&[stratum(0), stratum(1)]).unwrap();
            strays += (estimate.mean - truth).powi(2);
            errors += estimate.standard_error.powi(2);
        }
        let ratio = (errors / strays).sqrt();
        assert!((0.93..1.07).contains(&ratio), "the error is {ratio} times what means stray");
    }

    proptest! {
        #[test]
        fn bins_hold_every_value(values in proptest::collection::vec(-3f64..3.0, 1..50)) {
            let bounds = bounds(values.iter().copied());
            prop_assert!(bounds.len() <= 41 && bounds.is_sorted());
            prop_assert!(values.iter().all(|value| bounds[0] - 1e-9 <= *value && *value <= bounds[bounds.len() - 1]));
            let all = Stratum { population: values.len() as u64, drawn: values.len() as u64, values: &values };
            let shares = histogram(&[all], &bounds);
            prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }
}
