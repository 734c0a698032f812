//! `base.pak`: all base rows quantised and packed once, in the order of the partition, mapped.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 64 | 16 · panels | largest norm and largest residual norm of each panel, f64 |
//! | | | zeros up to a multiple of 64 |
//! | | 256 · panels | scale · norm of each row, f32, 64 a panel |
//! | | 256 · steps · panels | values + 128, u8, `[panel][step][64][4]` |
//!
//! Header fields: rows, dimensions. A step is four dimensions; the last panel is padded with zeros. The
//! file lives as long as the search. Memory: none but the map, and some panels a thread while it is made.

use std::path::Path;

use rayon::prelude::*;

use super::int8::{PanelFacts, Quad, STEP, pack_panel};
use super::{PANEL, UnitRows};
use crate::error::Result;
use crate::run::ScatteredPart;
use crate::run::sealed::{Format, HEADER_BYTES, Sealed};
use crate::vectors::RowId;

/// Format of the packed base.
pub const PACKED: Format = Format { magic: *b"BMPACKED", version: 1, name: "packed base" };
/// Panels that one thread packs and writes at a time.
const PANELS_AT_ONCE: usize = 16;

/// Where the sections lie.
#[derive(Debug, Clone, Copy)]
struct Layout {
    panels: usize,
    steps: usize,
}

impl Layout {
    fn new(rows: u64, dim: usize) -> Self {
        Layout { panels: rows.div_ceil(PANEL as u64) as usize, steps: dim.div_ceil(STEP) }
    }

    fn factors(self) -> usize {
        HEADER_BYTES + (self.panels * size_of::<PanelFacts>()).next_multiple_of(64)
    }

    fn quads(self) -> usize {
        self.factors() + self.panels * PANEL * size_of::<f32>()
    }

    fn end(self) -> usize {
        self.quads() + self.panels * self.steps * size_of::<Quad>()
    }
}

/// Bytes of header and payload.
pub fn file_bytes(rows: u64, dim: usize) -> u64 {
    Layout::new(rows, dim).end() as u64
}

/// Packs rows in the given order into a part, in parallel. `unit`: the metric ignores norms (cosine).
/// `watch` is told the rows done.
///
/// # Errors
/// The write fails, or the watch stops the job.
pub fn write(
    part: &ScatteredPart,
    source: &impl UnitRows,
    order: &[RowId],
    unit: bool,
    watch: &(dyn Fn(u64) -> Result<()> + Sync),
) -> Result<()> {
    let layout = Layout::new(order.len() as u64, source.dim());
    part.write_at(&PACKED.header([order.len() as u64, source.dim() as u64, 0, 0, 0, 0]), 0)?;
    part.extend()?;
    order.par_chunks(PANEL * PANELS_AT_ONCE).enumerate().try_for_each(|(chunk, rows)| {
        let first = chunk * PANELS_AT_ONCE;
        let panels = rows.len().div_ceil(PANEL);
        let mut quads: Vec<Quad> = vec![bytemuck::Zeroable::zeroed(); panels * layout.steps];
        let mut factors = vec![[0f32; PANEL]; panels];
        let facts: Vec<PanelFacts> = rows
            .chunks(PANEL)
            .zip(quads.chunks_exact_mut(layout.steps).zip(&mut factors))
            .map(|(rows, (quads, factors))| pack_panel(source, rows, unit, quads, factors))
            .collect();
        let at = |start: usize, width: usize| (start + first * width) as u64;
        part.write_at(bytemuck::cast_slice(&facts), at(HEADER_BYTES, size_of::<PanelFacts>()))?;
        part.write_at(bytemuck::cast_slice(&factors), at(layout.factors(), PANEL * size_of::<f32>()))?;
        part.write_at(bytemuck::cast_slice(&quads), at(layout.quads(), layout.steps * size_of::<Quad>()))?;
        watch(rows.len() as u64)
    })
}

/// The packed base.
#[derive(Debug, Clone)]
pub struct Packed {
    bytes: Bytes,
    layout: Layout,
}

/// Where its bytes are.
#[derive(Debug, Clone)]
enum Bytes {
    Mapped(Sealed),
    /// Facts, factors, quads: for measuring and for tests, without a file.
    Owned(Vec<PanelFacts>, Vec<[f32; PANEL]>, Vec<Quad>),
}

impl Packed {
    /// Maps the file.
    ///
    /// # Errors
    /// It is not complete, or has other rows.
    pub fn open(path: &Path, rows: u64, dim: usize) -> Result<Packed> {
        let sealed = Sealed::open(path, &PACKED)?;
        let layout = Layout::new(rows, dim);
        let sound = sealed.fields[..2] == [rows, dim as u64];
        sealed.expect_payload(sound.then(|| (layout.end() - HEADER_BYTES) as u64))?;
        Ok(Packed { bytes: Bytes::Mapped(sealed), layout })
    }

    /// Packs rows in memory. `unit`: the metric ignores norms (cosine). Memory: 1 byte a value.
    pub fn in_memory(source: &impl UnitRows, rows: &[RowId], unit: bool) -> Packed {
        let layout = Layout::new(rows.len() as u64, source.dim());
        let mut quads = vec![bytemuck::Zeroable::zeroed(); layout.panels * layout.steps];
        let mut factors = vec![[0f32; PANEL]; layout.panels];
        let facts = rows
            .chunks(PANEL)
            .zip(quads.chunks_exact_mut(layout.steps).zip(&mut factors))
            .map(|(rows, (quads, factors))| pack_panel(source, rows, unit, quads, factors))
            .collect();
        Packed { bytes: Bytes::Owned(facts, factors, quads), layout }
    }

    /// What is known of a panel.
    #[inline]
    pub fn facts(&self, panel: usize) -> &PanelFacts {
        let width = size_of::<PanelFacts>();
        match &self.bytes {
            Bytes::Mapped(sealed) => bytemuck::from_bytes(section(sealed, HEADER_BYTES + panel * width, width)),
            Bytes::Owned(facts, ..) => &facts[panel],
        }
    }

    /// Scale · norm of a panel's rows.
    #[inline]
    pub fn factors(&self, panel: usize) -> &[f32; PANEL] {
        let width = PANEL * size_of::<f32>();
        match &self.bytes {
            Bytes::Mapped(sealed) => {
                bytemuck::from_bytes(section(sealed, self.layout.factors() + panel * width, width))
            }
            Bytes::Owned(_, factors, _) => &factors[panel],
        }
    }

    /// A panel's values.
    #[inline]
    pub fn quads(&self, panel: usize) -> &[Quad] {
        let steps = self.layout.steps;
        let width = steps * size_of::<Quad>();
        match &self.bytes {
            Bytes::Mapped(sealed) => bytemuck::cast_slice(section(sealed, self.layout.quads() + panel * width, width)),
            Bytes::Owned(.., quads) => &quads[panel * steps..][..steps],
        }
    }
}

#[inline]
fn section(sealed: &Sealed, offset: usize, bytes: usize) -> &[u8] {
    &sealed.payload()[offset - HEADER_BYTES..][..bytes]
}
