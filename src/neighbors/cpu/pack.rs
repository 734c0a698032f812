//! Packing rows for the kernels: unit vectors in f32, interleaved by dimension.
//!
//! Memory: 4 bytes a value, rows rounded up to whole groups (6) or panels (64).

use crate::vectors::RowId;
use crate::vectors::dot::dot;
use crate::vectors::store::VectorStore;

/// Base rows of a panel.
pub const PANEL: usize = 64;
/// Queries of a group.
pub const GROUP: usize = 6;
/// Lanes of a [`Line`].
pub const LANES: usize = 16;

/// A cache line of floats: panels must not straddle lines.
#[derive(Debug, Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub struct Line(pub [f32; LANES]);

/// Some queries, packed in groups: `[group][dimension][GROUP]`.
#[derive(Debug, Clone)]
pub struct Queries {
    values: Vec<f32>,
    norms: Vec<f64>,
    dim: usize,
}

impl Queries {
    /// Packs rows of a store. `unit`: the metric ignores norms (cosine).
    pub fn pack(store: &VectorStore, rows: std::ops::Range<RowId>, unit: bool) -> Queries {
        let dim = store.shape().dim;
        let mut queries =
            Queries { values: vec![0.0; rows.len().div_ceil(GROUP) * GROUP * dim], norms: Vec::new(), dim };
        let mut row_values = vec![0f32; dim];
        for (index, row) in rows.enumerate() {
            let norm = load_unit(store, row, &mut row_values);
            queries.norms.push(if unit { 1.0 } else { norm });
            let group = &mut queries.values[index / GROUP * GROUP * dim..][..GROUP * dim];
            for (slots, value) in group.chunks_exact_mut(GROUP).zip(&row_values) {
                slots[index % GROUP] = *value;
            }
        }
        queries
    }

    /// A group's values, `[dimension][GROUP]`.
    pub fn group(&self, group: usize) -> &[f32] {
        &self.values[group * GROUP * self.dim..][..GROUP * self.dim]
    }

    /// Norm of a query; 1 for cosine.
    pub fn norm(&self, index: usize) -> f64 {
        self.norms[index]
    }
}

/// A tile of base rows, packed in panels: `[panel][dimension][PANEL]`.
#[derive(Debug, Clone)]
pub struct Base {
    lines: Vec<Line>,
    norms: Vec<f32>,
    largest: Vec<f64>,
    first_row: RowId,
    rows: usize,
    dim: usize,
}

impl Base {
    /// An empty tile that can take `rows` rows without growing.
    pub fn with_capacity(rows: usize, dim: usize) -> Base {
        let panels = rows.div_ceil(PANEL);
        Base {
            lines: Vec::with_capacity(panels * dim * (PANEL / LANES)),
            norms: Vec::with_capacity(panels * PANEL),
            largest: Vec::with_capacity(panels),
            first_row: 0,
            rows: 0,
            dim,
        }
    }

    /// Packs rows of a store in place of what was there, in parallel. `unit`: the metric ignores norms.
    pub fn repack(&mut self, store: &VectorStore, rows: std::ops::Range<RowId>, unit: bool) {
        use rayon::prelude::*;
        let panels = rows.len().div_ceil(PANEL);
        let panel_lines = self.dim * (PANEL / LANES);
        (self.first_row, self.rows) = (rows.start, rows.len());
        self.lines.resize(panels * panel_lines, bytemuck::Zeroable::zeroed());
        self.norms.resize(panels * PANEL, 0.0);
        self.largest.resize(panels, 0.0);
        self.lines
            .par_chunks_exact_mut(panel_lines)
            .zip(self.norms.par_chunks_exact_mut(PANEL))
            .zip(&mut self.largest)
            .enumerate()
            .for_each(|(panel, ((lines, norms), largest))| {
                let start = rows.start + (panel * PANEL) as RowId;
                let end = rows.end.min(start + PANEL as RowId);
                *largest = pack_panel(store, start..end, unit, lines, norms);
            });
    }

    /// Dimensions.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// First row of the tile.
    pub fn first_row(&self) -> RowId {
        self.first_row
    }

    /// Number of panels.
    pub fn panels(&self) -> usize {
        self.largest.len()
    }

    /// A panel's values, `[dimension][PANEL]`.
    pub fn panel(&self, panel: usize) -> &[Line] {
        let lines = self.dim * (PANEL / LANES);
        &self.lines[panel * lines..][..lines]
    }

    /// Norms of a panel's rows; 1 for cosine.
    pub fn norms(&self, panel: usize) -> &[f32; PANEL] {
        &self.norms.as_chunks().0[panel]
    }

    /// Largest norm of a panel.
    pub fn largest_norm(&self, panel: usize) -> f64 {
        self.largest[panel]
    }

    /// One bit for each column of a panel that holds a row.
    pub fn valid(&self, panel: usize) -> u64 {
        match self.rows - panel * PANEL {
            rows if rows >= PANEL => u64::MAX,
            rows => (1 << rows) - 1,
        }
    }
}

fn pack_panel(
    store: &VectorStore,
    rows: std::ops::Range<RowId>,
    unit: bool,
    lines: &mut [Line],
    norms: &mut [f32],
) -> f64 {
    let values: &mut [f32] = bytemuck::cast_slice_mut(lines);
    if rows.len() < PANEL {
        values.fill(0.0);
    }
    let mut row_values = vec![0f32; store.shape().dim];
    let mut largest = 0f64;
    for (column, row) in rows.enumerate() {
        let norm = load_unit(store, row, &mut row_values);
        let norm = if unit { 1.0 } else { norm };
        norms[column] = norm as f32;
        largest = largest.max(norm);
        for (slots, value) in values.chunks_exact_mut(PANEL).zip(&row_values) {
            slots[column] = *value;
        }
    }
    largest
}

/// Loads a row at unit length; returns its norm.
fn load_unit(store: &VectorStore, row: RowId, out: &mut [f32]) -> f64 {
    store.load(row, out);
    let norm = dot(out, out).sqrt();
    let scale = norm.recip();
    out.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
    norm
}
