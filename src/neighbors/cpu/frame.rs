//! The coordinates that rows are quantised in: one along a *lead*, kept in f32, and the rest, rotated or as it is.
//!
//! Embeddings of many models lie in a narrow cone: each has a large coordinate along one direction, nearly the same for
//! all, and what tells rows apart is short. A byte's scale would be that of the large coordinate. So it is taken out:
//! x̂ = c û + x⊥, and x̂·ŷ = c_x c_y + x⊥·y⊥. The first term is computed in f32; what quantisation loses of the second
//! is a share of the short lengths ‖x⊥‖ and ‖y⊥‖. That covers rows about a common mean, rows on both sides of it, and
//! vectors that one dimension dominates.
//!
//! Memory: a vector, and the rotation's axes. Algorithm of the lead: the power method (Golub, Van Loan, *Matrix
//! Computations*, section 8.2) on a sample's second moments, from the sum of its rows.

use rayon::prelude::*;

use super::matrix::UnitRows;
use super::rotation::Rotation;
use crate::vectors::RowId;
use crate::vectors::dot::dot;

/// Rounds of the power method.
const ROUNDS: usize = 4;
/// Rows that a thread loads at a time.
const ROWS_AT_ONCE: usize = 96;
/// Least mean share of squared length along the lead. Below it, the lead costs more than it saves.
const SHARE_MIN: f64 = 0.25;

/// A direction, nearly of unit length.
#[derive(Debug, Clone)]
pub(crate) struct Lead {
    direction: Vec<f32>,
    /// 1 / length.
    inverse: f64,
}

impl Lead {
    /// From a direction that was found before; `None` where it has no length.
    pub(crate) fn new(direction: Vec<f32>) -> Option<Lead> {
        let inverse = dot(&direction, &direction).sqrt().recip();
        (inverse.is_finite() && inverse > 0.0).then_some(Lead { direction, inverse })
    }

    /// The direction of most length in some rows, where it holds much of it. Rows are read anew in each round: a sample
    /// of the longest ones would take a budget's worth of memory. O(rows · dim).
    pub(crate) fn find(source: &impl UnitRows, rows: &[RowId]) -> Option<Lead> {
        let mut values = vec![0f32; source.dim()];
        let mut sums = vec![0f64; source.dim()];
        let add = |sums: &mut [f64], factor: f64, row: &[f32]| {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += factor * f64::from(*value));
        };
        for row in rows {
            source.load_unit(*row, &mut values);
            add(&mut sums, 1.0, &values);
        }
        let (mut lead, mut share) = (of_unit_length(&sums)?, 0.0);
        for _ in 0..ROUNDS {
            sums.fill(0.0);
            share = 0.0;
            for row in rows {
                source.load_unit(*row, &mut values);
                let coordinate = lead.coordinate(&values);
                share += coordinate * coordinate / rows.len() as f64;
                add(&mut sums, coordinate, &values);
            }
            lead = of_unit_length(&sums)?;
        }
        (share >= SHARE_MIN).then_some(lead)
    }

    pub(crate) fn direction(&self) -> &[f32] {
        &self.direction
    }

    fn coordinate(&self, row: &[f32]) -> f64 {
        dot(row, &self.direction) * self.inverse
    }

    /// Takes a row's part along the lead out of it; returns the coordinate.
    fn part(&self, row: &mut [f32]) -> f64 {
        let coordinate = self.coordinate(row);
        let factor = coordinate * self.inverse;
        let parts = row.iter_mut().zip(&self.direction);
        parts.for_each(|(value, of_lead)| *value = (f64::from(*value) - factor * f64::from(*of_lead)) as f32);
        coordinate
    }
}

/// Sums, scaled to unit length.
fn of_unit_length(sums: &[f64]) -> Option<Lead> {
    let norm = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
    Lead::new(sums.iter().map(|sum| (sum / norm) as f32).collect())
}

/// Rows in a frame.
pub(crate) struct FramedRows {
    /// What is left without the lead, rotated: row after row.
    pub values: Vec<f32>,
    /// Norms of the rows themselves.
    pub norms: Vec<f64>,
    /// Coordinates along the lead; zeros without one.
    pub leads: Vec<f64>,
}

impl FramedRows {
    fn of(rows: usize, dim: usize) -> FramedRows {
        FramedRows { values: vec![0.0; rows * dim], norms: vec![0.0; rows], leads: vec![0.0; rows] }
    }
}

/// What rows are turned into before they are quantised.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    pub(crate) lead: Option<Lead>,
    pub(crate) rotation: Option<Rotation>,
}

impl Frame {
    /// Rows stay as they are, but for a rotation.
    pub fn rotated(rotation: Option<Rotation>) -> Frame {
        Frame { lead: None, rotation }
    }

    /// What |x·y| changes by when rows of unit length are rotated.
    pub(crate) fn slack(&self) -> f64 {
        self.rotation.as_ref().map_or(0.0, Rotation::slack)
    }

    /// Dimensions of the head: all without a rotation.
    pub(crate) fn head(&self, dim: usize) -> usize {
        self.rotation.as_ref().map_or(dim, Rotation::head)
    }

    /// Loads rows, on this thread. A rotation holds them three times. O(rows · dim), with a rotation O(rows · dim²).
    pub(crate) fn load(&self, source: &impl UnitRows, rows: &[RowId]) -> FramedRows {
        let mut framed = FramedRows::of(rows.len(), source.dim());
        self.load_into(source, rows, (&mut framed.values, &mut framed.norms, &mut framed.leads));
        framed
    }

    /// The same on all threads, some rows at a time on each.
    pub(crate) fn load_in_parallel(&self, source: &impl UnitRows, rows: &[RowId]) -> FramedRows {
        let mut framed = FramedRows::of(rows.len(), source.dim());
        let FramedRows { values, norms, leads } = &mut framed;
        let facts = norms.par_chunks_mut(ROWS_AT_ONCE).zip(leads.par_chunks_mut(ROWS_AT_ONCE));
        let parts = values.par_chunks_mut(ROWS_AT_ONCE * source.dim()).zip(facts);
        rows.par_chunks(ROWS_AT_ONCE)
            .zip(parts)
            .for_each(|(rows, (values, (norms, leads)))| self.load_into(source, rows, (values, norms, leads)));
        framed
    }

    fn load_into(
        &self,
        source: &impl UnitRows,
        rows: &[RowId],
        (values, norms, leads): (&mut [f32], &mut [f64], &mut [f64]),
    ) {
        let out = values.chunks_exact_mut(source.dim()).zip(norms.iter_mut().zip(leads));
        for (row, (out, (norm, lead))) in rows.iter().zip(out) {
            *norm = source.load_unit(*row, out);
            *lead = self.lead.as_ref().map_or(0.0, |lead| lead.part(out));
        }
        if let Some(rotation) = &self.rotation {
            rotation.apply(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::super::matrix::Matrix;
    use super::*;

    const DIM: usize = 40;

    /// Rows about a direction, on one side of it or on both, at about this angle.
    fn cone(angle: f32, on_both_sides: bool) -> Matrix {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        let middle: Vec<f32> = (0..DIM).map(|_| random.random::<f32>() - 0.5).collect();
        let values = (0..200).flat_map(|row| {
            let side = if on_both_sides && row % 2 == 0 { -1.0 } else { 1.0 };
            let noise: Vec<f32> = middle.iter().map(|_| (random.random::<f32>() - 0.5) * angle).collect();
            middle.iter().zip(noise).map(move |(value, noise)| side * value + noise).collect::<Vec<f32>>()
        });
        Matrix { values: values.collect(), dim: DIM }
    }

    #[test]
    fn a_lead_and_the_rest_make_the_product() {
        for both in [false, true] {
            let source = cone(0.05, both);
            let rows: Vec<RowId> = (0..200).collect();
            let lead = Lead::find(&source, &rows).unwrap();
            let frame = Frame { lead: Some(lead), rotation: None };
            let framed = frame.load(&source, &rows);
            let length = framed.values.chunks_exact(DIM).map(|row| dot(row, row)).sum::<f64>() / 200.0;
            assert!(length < 0.01, "what is left is short: {length}");
            let at_once = frame.load_in_parallel(&source, &rows);
            assert!(at_once.values == framed.values && at_once.leads == framed.leads && at_once.norms == framed.norms);
            let whole = Frame::default().load(&source, &rows);
            assert!(whole.leads.iter().all(|lead| *lead == 0.0));
            for (x, y) in [(0, 1), (3, 3), (10, 199)] {
                let row = |rows: &FramedRows, row: usize| rows.values[row * DIM..][..DIM].to_vec();
                let parts = framed.leads[x] * framed.leads[y] + dot(&row(&framed, x), &row(&framed, y));
                let product = dot(&row(&whole, x), &row(&whole, y));
                assert!((parts - product).abs() < 2e-7, "{parts} {product}");
            }
        }
    }

    #[test]
    fn rows_that_fill_all_directions_have_no_lead() {
        let source = cone(100.0, false);
        assert!(Lead::find(&source, &(0..200).collect::<Vec<RowId>>()).is_none());
        let nothing = Matrix { values: vec![0.0; DIM], dim: DIM };
        assert!(Lead::new(nothing.values).is_none());
    }
}
