//! Queries and base rows as the float kernels take them: unit vectors, interleaved by dimension.

use super::layout::Line;
use crate::config::Metric;
use crate::neighbors::cpu::matrix::{UnitRows, norm_in};
use crate::neighbors::cpu::scan::{GROUP, LANES, PANEL};
use crate::vectors::RowId;

/// Some queries, packed in groups: `[group][dimension][GROUP]`.
#[derive(Debug, Clone)]
pub struct FloatQueries {
    pub(super) values: Vec<f32>,
    pub(super) norms: Vec<f64>,
    pub(super) dim: usize,
}

/// A tile of base rows, packed in panels: `[panel][dimension][PANEL]`.
#[derive(Debug, Clone)]
pub struct FloatBase {
    pub(super) lines: Vec<Line>,
    pub(super) norms: Vec<[f32; PANEL]>,
    /// Largest norm of each panel.
    pub(super) largest: Vec<f64>,
    pub(super) dim: usize,
}

impl FloatQueries {
    pub fn pack(source: &impl UnitRows, rows: &[RowId], metric: Metric) -> FloatQueries {
        let dim = source.dim();
        let mut queries =
            FloatQueries { values: vec![0.0; rows.len().div_ceil(GROUP) * GROUP * dim], norms: Vec::new(), dim };
        let mut row_values = vec![0f32; dim];
        for (index, row) in rows.iter().enumerate() {
            let norm = source.load_unit(*row, &mut row_values);
            queries.norms.push(norm_in(metric, norm));
            let group = &mut queries.values[index / GROUP * GROUP * dim..][..GROUP * dim];
            for (slots, value) in group.chunks_exact_mut(GROUP).zip(&row_values) {
                slots[index % GROUP] = *value;
            }
        }
        queries
    }
}

impl FloatBase {
    /// Packs rows. Memory: 4 bytes a value.
    pub fn pack(source: &impl UnitRows, rows: &[RowId], metric: Metric) -> FloatBase {
        let dim = source.dim();
        let panels = rows.len().div_ceil(PANEL);
        let panel_lines = dim * (PANEL / LANES);
        let mut base = FloatBase {
            lines: vec![bytemuck::Zeroable::zeroed(); panels * panel_lines],
            norms: vec![[0.0; PANEL]; panels],
            largest: vec![0.0; panels],
            dim,
        };
        // On this thread alone: one that waits for others would begin another tile meanwhile, and hold both.
        let panels = base.lines.chunks_exact_mut(panel_lines).zip(base.norms.iter_mut().zip(&mut base.largest));
        for ((lines, (norms, largest)), rows) in panels.zip(rows.chunks(PANEL)) {
            *largest = pack_panel(source, rows, metric, lines, norms);
        }
        base
    }
}

fn pack_panel(
    source: &impl UnitRows,
    rows: &[RowId],
    metric: Metric,
    lines: &mut [Line],
    norms: &mut [f32; PANEL],
) -> f64 {
    let values: &mut [f32] = bytemuck::cast_slice_mut(lines);
    let mut row_values = vec![0f32; source.dim()];
    let mut largest = 0f64;
    for (column, row) in rows.iter().enumerate() {
        let norm = source.load_unit(*row, &mut row_values);
        let norm = norm_in(metric, norm);
        norms[column] = norm as f32;
        largest = largest.max(norm);
        for (slots, value) in values.chunks_exact_mut(PANEL).zip(&row_values) {
            slots[column] = *value;
        }
    }
    largest
}
