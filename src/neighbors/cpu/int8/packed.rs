//! `base.pak`: all base rows quantised and packed once, in list order, mapped.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 64 | 48 · panels | of each panel the largest norm; length + residual, and residual, of heads and of tails, f64 |
//! | | | then the largest sum of squares of the numbers of one lane of a head, f64 |
//! | | | zeros up to a multiple of 64 |
//! | | 1024 · panels | f32, 4 · 64 a panel: scale · norm of heads, of tails, length · norm of tails, lead · norm |
//! | | 256 · steps · panels | values of heads + 128, u8, `[panel][step][64][4]` |
//! | | 4096 · lines · panels | values of tails + 128, u8, `[panel][64][lines][64]` |
//! | | 4 · dim² | the rotation's axes, f32; nothing where all is head |
//! | | 4 · dim | the lead, f32; nothing where there is none |
//!
//! Header fields: rows, dimensions, dimensions of the head, sampled rows, 1 where there is a lead. Panels hold the
//! rows in that order, then, in
//! panels of their own, the sampled rows once more. A step is four dimensions of the head, a line 64 of the tail; the
//! last panels are padded with zeros. The file is deleted when the search ends. Memory: the axes twice, and some panels
//! a thread while it is made.

use std::path::Path;

use rayon::prelude::*;

use super::layout::{Int8Panel, PanelFacts, Quad, TailLine};
use super::quantise::{Cut, PanelParts, pack_panel};
use crate::config::Metric;
use crate::error::{Error, Result};
use crate::neighbors::cpu::frame::{Frame, Lead};
use crate::neighbors::cpu::matrix::{Matrix, UnitRows};
use crate::neighbors::cpu::rotation::Rotation;
use crate::neighbors::cpu::scan::PANEL;
use crate::neighbors::cpu::simd::Simd;
use crate::run::ScatteredPart;
use crate::run::sealed::{FileFormat, HEADER_BYTES, Sealed};
use crate::vectors::RowId;
use crate::watch::Watch;

/// Format of the packed base.
pub(crate) const PACKED: FileFormat = FileFormat { magic: *b"BMPACKED", version: 5, name: "packed base" };
/// Panels that one thread packs and writes at a time.
const PANELS_AT_ONCE: usize = 16;

/// Factors of a panel: scale · norm of heads, of tails, length · norm of tails, coordinate along the lead · norm.
type Factors = [[f32; PANEL]; 4];

/// Where the sections lie.
#[derive(Debug, Clone, Copy)]
struct PackedLayout {
    rows: u64,
    sampled: u64,
    cut: Cut,
    is_led: bool,
}

impl PackedLayout {
    fn panels(self) -> usize {
        self.rows.div_ceil(PANEL as u64) as usize + self.sampled.div_ceil(PANEL as u64) as usize
    }

    fn factors(self) -> usize {
        HEADER_BYTES + (self.panels() * size_of::<PanelFacts>()).next_multiple_of(64)
    }

    fn quads(self) -> usize {
        self.factors() + self.panels() * size_of::<Factors>()
    }

    fn tails(self) -> usize {
        self.quads() + self.panels() * self.cut.steps() * size_of::<Quad>()
    }

    fn axes(self) -> usize {
        self.tails() + self.panels() * self.tail_lines() * size_of::<TailLine>()
    }

    fn lead(self) -> usize {
        self.axes() + if self.cut.head < self.cut.dim { 4 * self.cut.dim * self.cut.dim } else { 0 }
    }

    fn end(self) -> usize {
        self.lead() + if self.is_led { 4 * self.cut.dim } else { 0 }
    }

    /// Tail lines of a panel.
    fn tail_lines(self) -> usize {
        PANEL * self.cut.lines()
    }

    fn fields(self) -> [u64; 6] {
        [self.rows, self.cut.dim as u64, self.cut.head as u64, self.sampled, u64::from(self.is_led), 0]
    }
}

/// What is packed, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packing<'a> {
    /// Rows in order.
    pub order: &'a [RowId],
    /// Rows that come once more, behind.
    pub sampled: &'a [RowId],
    /// What rows are turned into first.
    pub frame: &'a Frame,
    /// How vectors are compared.
    pub metric: Metric,
    /// For which kernel: what the numbers may be depends on it, and any kernel can take all of them.
    pub simd: Simd,
}

impl Packing<'_> {
    fn layout(&self, dim: usize) -> PackedLayout {
        let (cut, is_led) = (Cut::new(dim, self.frame), self.frame.lead.is_some());
        PackedLayout { rows: self.order.len() as u64, sampled: self.sampled.len() as u64, cut, is_led }
    }

    /// Bytes of header and payload.
    pub(crate) fn file_bytes(&self, dim: usize) -> u64 {
        self.layout(dim).end() as u64
    }

    /// Packs some rows as whole panels.
    fn pack(&self, source: &impl UnitRows, rows: &[RowId]) -> Panels {
        let cut = Cut::new(source.dim(), self.frame);
        let (panels, lines) = (rows.len().div_ceil(PANEL), PANEL * cut.lines());
        let mut packed = Panels {
            facts: vec![PanelFacts::default(); panels],
            factors: vec![[[0f32; PANEL]; 4]; panels],
            quads: vec![bytemuck::Zeroable::zeroed(); panels * cut.steps()],
            tails: vec![bytemuck::Zeroable::zeroed(); panels * lines],
        };
        for (panel, rows) in rows.chunks(PANEL).enumerate() {
            let parts = PanelParts {
                quads: &mut packed.quads[panel * cut.steps()..][..cut.steps()],
                tails: &mut packed.tails[panel * lines..][..lines],
                factors: packed.factors[panel].each_mut(),
            };
            packed.facts[panel] = pack_panel(source, rows, self.frame, self.metric, self.simd, parts);
        }
        packed
    }

    /// Packs rows into a part, in parallel. `watch` is told the rows done.
    ///
    /// # Errors
    /// The write fails, or the watch stops the job.
    pub(crate) fn write(&self, part: &ScatteredPart, source: &impl UnitRows, watch: Watch<'_>) -> Result<()> {
        let layout = self.layout(source.dim());
        part.write_at(&PACKED.header(layout.fields()), 0)?;
        part.extend()?;
        if let Some(rotation) = &self.frame.rotation {
            part.write_at(bytemuck::cast_slice(&rotation.axes().values), layout.axes() as u64)?;
        }
        if let Some(lead) = &self.frame.lead {
            part.write_at(bytemuck::cast_slice(lead.direction()), layout.lead() as u64)?;
        }
        let base_panels = self.order.len().div_ceil(PANEL);
        for (rows, first) in [(self.order, 0), (self.sampled, base_panels)] {
            rows.par_chunks(PANEL * PANELS_AT_ONCE).enumerate().try_for_each(|(chunk, rows)| {
                let first = first + chunk * PANELS_AT_ONCE;
                let panels = self.pack(source, rows);
                let at = |start: usize, width: usize| (start + first * width) as u64;
                part.write_at(bytemuck::cast_slice(&panels.facts), at(HEADER_BYTES, size_of::<PanelFacts>()))?;
                part.write_at(bytemuck::cast_slice(&panels.factors), at(layout.factors(), size_of::<Factors>()))?;
                let quads = layout.cut.steps() * size_of::<Quad>();
                part.write_at(bytemuck::cast_slice(&panels.quads), at(layout.quads(), quads))?;
                let tails = layout.tail_lines() * size_of::<TailLine>();
                part.write_at(bytemuck::cast_slice(&panels.tails), at(layout.tails(), tails))?;
                watch.add(rows.len() as u64)
            })?;
        }
        Ok(())
    }
}

/// Panels in memory.
#[derive(Debug, Clone)]
struct Panels {
    facts: Vec<PanelFacts>,
    factors: Vec<Factors>,
    quads: Vec<Quad>,
    tails: Vec<TailLine>,
}

#[derive(Debug, Clone)]
pub struct PackedBase {
    bytes: Bytes,
    layout: PackedLayout,
    frame: Frame,
    /// Panels are checked as they are read.
    by_panel: bool,
}

/// Where its bytes are.
#[derive(Debug, Clone)]
enum Bytes {
    Mapped(Sealed),
    /// For measuring and for tests, without a file.
    Owned(Panels),
}

impl PackedBase {
    /// Maps the file. Its panels are not read: see [`PackedBase::check`] and [`PackedBase::checked_by_panel`].
    ///
    /// # Errors
    /// It is not complete, or has other rows.
    pub(crate) fn open(path: &Path, simd: Simd, rows: u64, dim: usize, sampled: u64) -> Result<PackedBase> {
        let sealed = Sealed::open(path, &PACKED)?;
        let head = usize::try_from(sealed.fields[2]).unwrap_or(0);
        let layout = PackedLayout { rows, sampled, cut: Cut { dim, head }, is_led: sealed.fields[4] == 1 };
        // Everything but the head is the caller's, so that no number of the file can make the layout too large.
        let is_sound = (1..=dim).contains(&head) && sealed.fields == layout.fields();
        sealed.expect_payload(is_sound.then(|| (layout.end() - HEADER_BYTES) as u64))?;
        let facts_and_frame = [HEADER_BYTES..layout.factors(), layout.axes()..layout.end()];
        facts_and_frame
            .map(|at| sealed.check_range(at.start - HEADER_BYTES..at.end - HEADER_BYTES))
            .into_iter()
            .collect::<Result<()>>()?;
        let floats = |offset: usize, count: usize| -> Vec<f32> {
            bytemuck::cast_slice(section(&sealed, offset, 4 * count)).to_vec()
        };
        let rotation = (head < dim).then(|| {
            let axes = floats(layout.axes(), dim * dim);
            Rotation::from_axes(simd, Matrix { values: axes, dim }, head)
        });
        let lead = layout.is_led.then(|| Lead::new(floats(layout.lead(), dim)));
        let has_length = lead.as_ref().is_none_or(Option::is_some);
        let frame = Frame { lead: lead.flatten(), rotation };
        let base = PackedBase { bytes: Bytes::Mapped(sealed), layout, frame, by_panel: false };
        if !has_length || !base.has_bounds() {
            return Err(Error::runtime("a packed base has impossible norms or axes")
                .path(path)
                .expected("finite numbers")
                .found("others")
                .remedy("the file is damaged: delete it and run `mine` again"));
        }
        Ok(base)
    }

    /// Whether every bound that follows from the file is a number: one that is not would rule out all pairs.
    fn has_bounds(&self) -> bool {
        let are_finite = |PanelFacts { norm, head, tail, lane_squares }: &PanelFacts| {
            [*norm, head[0], head[1], tail[0], tail[1], *lane_squares]
                .iter()
                .all(|value| value.is_finite() && *value >= 0.0)
        };
        let slack = self.frame.slack();
        slack.is_finite() && (0..self.layout.panels()).all(|panel| are_finite(self.facts(panel)))
    }

    /// Packs rows in memory. Memory: 1 byte a value.
    pub fn in_memory(simd: Simd, source: &impl UnitRows, rows: &[RowId], frame: &Frame, metric: Metric) -> PackedBase {
        let packing = Packing { order: rows, sampled: &[], frame, metric, simd };
        let bytes = Bytes::Owned(packing.pack(source, rows));
        PackedBase { bytes, layout: packing.layout(source.dim()), frame: frame.clone(), by_panel: false }
    }

    /// Checks that all panels are what was written. O(bytes), the first time.
    ///
    /// # Errors
    /// The file is damaged.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.bytes {
            Bytes::Mapped(sealed) => sealed.check(),
            Bytes::Owned(_) => Ok(()),
        }
    }

    /// The base for those who read some panels, and know only later which: each is checked when it is first read, and
    /// [`PackedBase::check_read`] says whether all were sound.
    pub(crate) fn checked_by_panel(self) -> PackedBase {
        PackedBase { by_panel: true, ..self }
    }

    /// Fails where a panel that was read is not what was written.
    ///
    /// # Errors
    /// The file is damaged: what was made of its panels must not be kept.
    pub(crate) fn check_read(&self) -> Result<()> {
        match &self.bytes {
            Bytes::Mapped(sealed) => sealed.check_noted(),
            Bytes::Owned(_) => Ok(()),
        }
    }

    /// Notes a panel's factors, heads and tails.
    fn note(&self, panel: usize) {
        let (Bytes::Mapped(sealed), layout) = (&self.bytes, self.layout) else { return };
        let sections = [
            (layout.factors(), size_of::<Factors>()),
            (layout.quads(), layout.cut.steps() * size_of::<Quad>()),
            (layout.tails(), layout.tail_lines() * size_of::<TailLine>()),
        ];
        for (section, width) in sections {
            let start = section - HEADER_BYTES + panel * width;
            sealed.note_range(start..start + width);
        }
    }

    /// What rows were turned into before they were packed.
    pub(crate) fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Where the sampled rows begin.
    pub(crate) fn sample_column(&self) -> usize {
        (self.layout.rows as usize).next_multiple_of(PANEL)
    }

    pub(crate) fn panel(&self, panel: usize) -> Int8Panel<'_> {
        if self.by_panel {
            self.note(panel);
        }
        let [factors, tail_factors, bounds, leads] = self.factors(panel);
        let next_tails = if panel + 1 < self.layout.panels() { self.tails(panel + 1) } else { &[] };
        Int8Panel {
            quads: self.quads(panel),
            factors,
            tails: self.tails(panel),
            tail_factors,
            next_tails,
            bounds,
            leads,
            facts: self.facts(panel),
        }
    }

    fn facts(&self, panel: usize) -> &PanelFacts {
        let width = size_of::<PanelFacts>();
        match &self.bytes {
            Bytes::Mapped(sealed) => bytemuck::from_bytes(section(sealed, HEADER_BYTES + panel * width, width)),
            Bytes::Owned(panels) => &panels.facts[panel],
        }
    }

    fn factors(&self, panel: usize) -> &Factors {
        let width = size_of::<Factors>();
        match &self.bytes {
            Bytes::Mapped(sealed) => {
                bytemuck::from_bytes(section(sealed, self.layout.factors() + panel * width, width))
            }
            Bytes::Owned(panels) => &panels.factors[panel],
        }
    }

    fn quads(&self, panel: usize) -> &[Quad] {
        let steps = self.layout.cut.steps();
        let width = steps * size_of::<Quad>();
        match &self.bytes {
            Bytes::Mapped(sealed) => bytemuck::cast_slice(section(sealed, self.layout.quads() + panel * width, width)),
            Bytes::Owned(panels) => &panels.quads[panel * steps..][..steps],
        }
    }

    fn tails(&self, panel: usize) -> &[TailLine] {
        let lines = self.layout.tail_lines();
        let width = lines * size_of::<TailLine>();
        match &self.bytes {
            Bytes::Mapped(sealed) => bytemuck::cast_slice(section(sealed, self.layout.tails() + panel * width, width)),
            Bytes::Owned(panels) => &panels.tails[panel * lines..][..lines],
        }
    }
}

fn section(sealed: &Sealed, offset: usize, bytes: usize) -> &[u8] {
    &sealed.payload()[offset - HEADER_BYTES..][..bytes]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neighbors::calibrate::random_rows;
    use crate::vectors::testing::write_sealed;

    const ROWS: u64 = 70;
    const SAMPLED: u64 = 5;
    const DIM: usize = 9;

    fn open(fields: [u64; 6], payload: &[u8]) -> Result<PackedBase> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base.pak");
        write_sealed(&path, &PACKED, fields, payload);
        PackedBase::open(&path, Simd::Scalar, ROWS, DIM, SAMPLED)
    }

    fn layout(head: usize) -> PackedLayout {
        PackedLayout { rows: ROWS, sampled: SAMPLED, cut: Cut { dim: DIM, head }, is_led: true }
    }

    /// A payload of nothing but zeros and axes.
    fn payload(layout: PackedLayout) -> Vec<u8> {
        let mut payload = vec![0u8; layout.end() - HEADER_BYTES];
        let axes = layout.axes() - HEADER_BYTES;
        for (index, bytes) in payload[axes..].chunks_exact_mut(4).enumerate() {
            let value = if index / DIM == index % DIM { 1f32 } else { 0.0 };
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        let end = payload.len();
        payload[end - 4 * DIM..end - 4 * DIM + 4].copy_from_slice(&1f32.to_le_bytes());
        payload
    }

    #[test]
    fn a_header_of_other_counts_is_refused() {
        for head in [8, DIM] {
            let (fields, payload) = (layout(head).fields(), payload(layout(head)));
            assert!(open(fields, &payload).is_ok());
            for field in 0..5 {
                for value in [0, 1, 2, DIM as u64 + 1, ROWS + 1, 1 << 31, 1 << 32, 1 << 62, u64::MAX] {
                    let mut fields = fields;
                    if fields[field] == value {
                        continue;
                    }
                    fields[field] = value;
                    assert!(open(fields, &payload).is_err(), "field {field} is {value}");
                }
            }
            assert!(open(fields, &payload[..payload.len() - 4]).is_err(), "a payload cut short");
        }
    }

    #[test]
    fn norms_and_axes_that_are_no_numbers_are_refused() {
        let layout = layout(8);
        for at in [0, 8, layout.axes() - HEADER_BYTES, layout.lead() - HEADER_BYTES] {
            let mut payload = payload(layout);
            payload[at..at + 8].fill(0xFF); // NaN
            assert!(open(layout.fields(), &payload).is_err(), "byte {at}");
        }
    }

    #[test]
    fn panels_on_disk_are_those_in_memory() {
        let source = random_rows(ROWS as usize, DIM);
        let rows: Vec<RowId> = (0..ROWS as RowId).collect();
        let frame = Frame { lead: Lead::new(vec![1.0; DIM]), rotation: None };
        let (order, sampled) = (&rows[..], &rows[..SAMPLED as usize]);
        let packing = Packing { order, sampled, frame: &frame, metric: Metric::Dot, simd: Simd::Scalar };
        let panels = [packing.pack(&source, packing.order), packing.pack(&source, packing.sampled)];
        let mut payload = Vec::new();
        panels.iter().for_each(|panels| payload.extend_from_slice(bytemuck::cast_slice(&panels.facts)));
        payload.resize(layout(DIM).factors() - HEADER_BYTES, 0);
        panels.iter().for_each(|panels| payload.extend_from_slice(bytemuck::cast_slice(&panels.factors)));
        panels.iter().for_each(|panels| payload.extend_from_slice(bytemuck::cast_slice(&panels.quads)));
        payload.extend_from_slice(bytemuck::cast_slice(frame.lead.as_ref().unwrap().direction()));
        let mapped = open(layout(DIM).fields(), &payload).unwrap();
        let owned = PackedBase::in_memory(Simd::Scalar, &source, &rows, &frame, Metric::Dot);
        for panel in 0..2 {
            let (found, wanted) = (mapped.panel(panel), owned.panel(panel));
            assert!(found.quads.iter().zip(wanted.quads).all(|(a, b)| a.0 == b.0));
            assert_eq!((found.factors, found.bounds, found.leads), (wanted.factors, wanted.bounds, wanted.leads));
        }
        assert_eq!(mapped.sample_column(), 2 * PANEL);
    }
}
