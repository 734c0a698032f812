//! Queries and base rows as the bf16 kernels take them: unit vectors, rounded, interleaved by pairs of dimensions.

use half::bf16;

use super::layout::{Bf16Step, Pairs, STEP};
use super::reference::flush;
use crate::config::Metric;
use crate::neighbors::cpu::matrix::{UnitRows, norm_in};
use crate::neighbors::cpu::scan::{GROUP, PANEL};
use crate::vectors::RowId;
use crate::vectors::dot::dot;

/// What is known of a query, or at most of a panel's rows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bf16Facts {
    /// Norm (1 for cosine).
    pub(super) norm: f64,
    /// Norm of the residual.
    pub(super) residual: f64,
}

/// Some queries, packed in groups: `[group][step][GROUP]` of two values each.
#[derive(Debug, Clone)]
pub struct Bf16Queries {
    pub(super) values: Vec<Bf16Step>,
    pub(super) facts: Vec<Bf16Facts>,
    pub(super) steps: usize,
}

/// A tile of base rows, packed in panels: `[panel][step][PANEL]` of two values each.
#[derive(Debug, Clone)]
pub struct Bf16Base {
    pub(super) pairs: Vec<Pairs>,
    pub(super) norms: Vec<[f32; PANEL]>,
    pub(super) facts: Vec<Bf16Facts>,
    pub(super) dim: usize,
}

impl Bf16Queries {
    /// Packs rows. Memory: 2 bytes a value.
    pub fn pack(source: &impl UnitRows, rows: &[RowId], metric: Metric) -> Bf16Queries {
        let steps = source.dim().div_ceil(STEP);
        let mut queries = Bf16Queries {
            values: vec![[[bf16::ZERO; STEP]; GROUP]; rows.len().div_ceil(GROUP) * steps],
            facts: Vec::with_capacity(rows.len()),
            steps,
        };
        let mut rounder = Rounder::new(source.dim());
        for (index, row) in rows.iter().enumerate() {
            queries.facts.push(rounder.load(source, *row, metric));
            let group = &mut queries.values[index / GROUP * steps..][..steps];
            for (slots, step) in group.iter_mut().zip(rounder.steps()) {
                slots[index % GROUP] = *step;
            }
        }
        queries
    }
}

impl Bf16Base {
    /// Packs rows. Memory: 2 bytes a value.
    pub fn pack(source: &impl UnitRows, rows: &[RowId], metric: Metric) -> Bf16Base {
        let dim = source.dim();
        let (panels, steps) = (rows.len().div_ceil(PANEL), dim.div_ceil(STEP));
        let mut base = Bf16Base {
            pairs: vec![bytemuck::Zeroable::zeroed(); panels * steps],
            norms: vec![[0.0; PANEL]; panels],
            facts: vec![Bf16Facts::default(); panels],
            dim,
        };
        let mut rounder = Rounder::new(dim);
        // On this thread alone: one that waits for others would begin another tile meanwhile, and hold both.
        let panels = base.pairs.chunks_exact_mut(steps).zip(base.norms.iter_mut().zip(&mut base.facts));
        for ((pairs, (norms, largest)), rows) in panels.zip(rows.chunks(PANEL)) {
            for (column, row) in rows.iter().enumerate() {
                let facts = rounder.load(source, *row, metric);
                norms[column] = facts.norm as f32;
                largest.norm = largest.norm.max(facts.norm);
                largest.residual = largest.residual.max(facts.residual);
                for (pair, step) in pairs.iter_mut().zip(rounder.steps()) {
                    pair.0[column] = *step;
                }
            }
        }
        base
    }
}

/// Loads rows and rounds them.
struct Rounder {
    row: Vec<f32>,
    rounded: Vec<bf16>,
}

impl Rounder {
    fn new(dim: usize) -> Rounder {
        Rounder { row: vec![0.0; dim], rounded: vec![bf16::ZERO; dim.next_multiple_of(STEP)] }
    }

    fn load(&mut self, source: &impl UnitRows, row: RowId, metric: Metric) -> Bf16Facts {
        let norm = source.load_unit(row, &mut self.row);
        let residual = round(&mut self.row, &mut self.rounded[..source.dim()]);
        Bf16Facts { norm: norm_in(metric, norm), residual }
    }

    fn steps(&self) -> &[[bf16; STEP]] {
        self.rounded.as_chunks().0
    }
}

/// Rounds a vector of finite numbers to the nearest ones of bf16, ties to even: the norm of the residual, rounded
/// up. Subnormal numbers become zero, as which the instruction would take them. `values` become the residual.
/// Pure. O(dim).
pub(super) fn round(values: &mut [f32], out: &mut [bf16]) -> f64 {
    for (rounded, value) in out.iter_mut().zip(&mut *values) {
        // What carries out of the digits belongs to the exponent. (`half` asks for NaN first: seven times as slow.)
        let bits = value.to_bits();
        let kept = flush(f32::from_bits(bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000));
        *rounded = bf16::from_bits((kept.to_bits() >> 16) as u16);
        // Exact: what was cut off has the lower digits of the value.
        *value -= kept;
    }
    dot(values, values).sqrt() * (1.0 + 1e-6)
}
