//! How planted vectors fill their axes: all alike, or as real embeddings do.
//!
//! A falling spectrum has the shape of the principal axes of real sentence embeddings. Axis i of d, at
//! t = (i + 1/2) / d, has a variance in proportion to e^(-2.5 t) / √(t + 0.01), and the first axis holds a mean that
//! all vectors share. The axes are then mixed by a fixed orthogonal transform: signs by chance, and Hadamard
//! transforms. So every coordinate has about the same variance, as in real embeddings, and whoever wants the principal
//! axes has to find them. A row takes d·log d additions.
//!
//! Only sums, products, quotients and square roots are used, which IEEE 754 rounds alike everywhere: the bytes do not
//! depend on a library of functions.
//!
//! Memory: some numbers for each dimension.

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::random::{Purpose, stream};

/// The fall of the exponential end, over all axes.
const FALL: f64 = 2.5;
/// Where the power law begins, as a share of the axes: it bounds the first variances.
const BEGIN: f64 = 0.01;
/// Share of the mean in the squared length.
const MEAN_SHARE: f64 = 0.13;

/// How variance falls from axis to axis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Spectrum {
    /// All axes are alike: the hardest case for whoever looks at some axes first.
    #[default]
    Flat,
    /// As in real sentence embeddings: half of the squared length is in a tenth of the axes.
    Falling,
}

impl Spectrum {
    /// Whether it is the default. Takes a reference for serde.
    pub(super) fn is_flat(&self) -> bool {
        *self == Spectrum::Flat
    }
}

/// The axes of a falling spectrum, and the transform that mixes them.
#[derive(Debug)]
pub(super) struct Axes {
    /// What the number of each axis is multiplied by; their squares have the mean 1.
    scales: Vec<f32>,
    /// What is added to the first axis.
    mean: f32,
    /// The axis at each place before mixing.
    order: Vec<usize>,
    /// Signs before the first and before the second Hadamard transform.
    signs: [Vec<f32>; 2],
    /// The largest power of two within the dimensions.
    width: usize,
}

impl Axes {
    /// Those of `dim` dimensions, for centres of length 1 and noise of length `noise`.
    pub(super) fn new(dim: usize, noise: f32) -> Axes {
        let variances: Vec<f64> = (0..dim).map(|axis| variance((axis as f64 + 0.5) / dim as f64)).collect();
        let average = variances.iter().sum::<f64>() / dim as f64;
        let scales = variances.iter().map(|variance| (variance / average).sqrt() as f32).collect();
        let varying = 1.0 + f64::from(noise) * f64::from(noise);
        let mut random = stream(Purpose::PlantedAxes { dim: dim as u64 });
        let mut order: Vec<usize> = (0..dim).collect();
        for last in (1..dim).rev() {
            order.swap(last, (random.next_u64() % (last as u64 + 1)) as usize);
        }
        let mut sign = |_| if random.next_u64() & 1 == 0 { 1.0 } else { -1.0 };
        Axes {
            scales,
            mean: (varying * MEAN_SHARE / (1.0 - MEAN_SHARE)).sqrt() as f32,
            order,
            signs: [(0..dim).map(&mut sign).collect(), (0..dim).map(&mut sign).collect()],
            width: 1 << dim.ilog2(),
        }
    }

    /// Makes a vector of numbers by axis, all of one variance: scales them, adds the mean, and mixes the axes.
    pub(super) fn shape(&self, values: &mut [f32]) {
        values.iter_mut().zip(&self.scales).for_each(|(value, scale)| *value *= scale);
        values[0] += self.mean;
        let mut mixed: Vec<f32> = self.order.iter().map(|axis| values[*axis]).collect();
        // Two transforms overlap, since the width is more than half of the dimensions: each place reaches most others.
        multiply(&mut mixed, &self.signs[0]);
        hadamard(&mut mixed[..self.width]);
        multiply(&mut mixed, &self.signs[1]);
        hadamard(&mut mixed[values.len() - self.width..]);
        values.copy_from_slice(&mixed);
    }

    /// The numbers by axis of a mixed vector: the inverse of the mixing.
    #[cfg(test)]
    pub(super) fn by_axis(&self, vector: &[f32]) -> Vec<f32> {
        let mut mixed = vector.to_vec();
        hadamard(&mut mixed[vector.len() - self.width..]);
        multiply(&mut mixed, &self.signs[1]);
        hadamard(&mut mixed[..self.width]);
        multiply(&mut mixed, &self.signs[0]);
        let mut values = vec![0.0; vector.len()];
        self.order.iter().zip(mixed).for_each(|(axis, value)| values[*axis] = value);
        values
    }
}

/// The variance at a share of the axes, from 0 to 1, but for a factor.
fn variance(share: f64) -> f64 {
    // e^-x is (1 - x / n)^n for large n, here 2^10: ten squarings.
    let end = (0..10).fold(1.0 - FALL * share / 1024.0, |power: f64, _| power * power);
    end / (share + BEGIN).sqrt()
}

fn multiply(values: &mut [f32], signs: &[f32]) {
    values.iter_mut().zip(signs).for_each(|(value, sign)| *value *= sign);
}

/// The orthonormal Hadamard transform, its own inverse; the length is a power of two.
fn hadamard(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = (values.len() as f32).sqrt().recip();
    values.iter_mut().for_each(|value| *value *= scale);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixing_is_orthogonal_in_any_number_of_dimensions() {
        for dim in [1, 2, 3, 64, 100, 384, 1030] {
            let axes = Axes::new(dim, 1.0);
            let values: Vec<f32> = (0..dim).map(|at| (at as f32 * 0.37).sin()).collect();
            let mut shaped = values.clone();
            axes.shape(&mut shaped);
            for (axis, (back, value)) in axes.by_axis(&shaped).iter().zip(&values).enumerate() {
                let mean = if axis == 0 { axes.mean } else { 0.0 };
                assert!((back - value * axes.scales[axis] - mean).abs() < 1e-5, "{dim} dimensions, axis {axis}");
            }
        }
    }

    #[test]
    fn coordinates_share_the_variance_that_axes_do_not() {
        for dim in [256, 384, 768, 1024] {
            let axes = Axes::new(dim, 1.0);
            // The variance of a coordinate is the sum over axes of its weight's square, times the axis's variance.
            let mut variances = vec![0f64; dim];
            for axis in 0..dim {
                let mut column = vec![0.0; dim];
                column[axis] = 1.0;
                axes.shape(&mut column);
                let mut mean = vec![0.0; dim];
                axes.shape(&mut mean);
                for (sum, (value, mean)) in variances.iter_mut().zip(column.iter().zip(&mean)) {
                    *sum += f64::from(value - mean).powi(2);
                }
            }
            let (least, most) = variances.iter().fold((f64::MAX, 0f64), |(a, b), v| (a.min(*v), b.max(*v)));
            let axis = axes.scales[0] / axes.scales[dim - 1];
            assert!(least > 0.5 && most < 2.0, "{dim} dimensions: variances from {least:.2} to {most:.2}");
            assert!(axis > 10.0, "{dim} dimensions: the first axis is {axis} times as long as the last");
        }
    }

    #[test]
    fn the_exponential_is_near_the_true_one() {
        for share in [0.001, 0.1, 0.5, 1.0] {
            let exact = (-FALL * share).exp() / (share + BEGIN).sqrt();
            assert!((variance(share) / exact - 1.0).abs() < 0.005, "{share}");
        }
    }
}
