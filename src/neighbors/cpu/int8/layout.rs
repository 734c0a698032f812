//! Plain types of the byte kernels.

use crate::neighbors::cpu::scan::{GROUP, PANEL, PLACES, Thresholds};

/// Values of a step: bytes of a 32-bit lane.
pub(crate) const STEP: usize = 4;

/// Steps of a head whose products are summed in 16 bits, where there is no instruction for byte dot products. Two
/// values of each step come into one *lane*, the other two into a second one.
pub(crate) const LANE_STEPS: usize = 8;

/// The most that squares of a lane's numbers may be together on two sides, multiplied, so that by Cauchy and Schwarz
/// the sum of their products fits 16 bits: (2¹⁵ − 1)².
pub(crate) const LANE_SQUARES_MAX: f64 = (i16::MAX as f64) * (i16::MAX as f64);

/// Four values of each of a panel's rows: four cache lines.
#[derive(Debug, Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub struct Quad(pub [[u8; STEP]; PANEL]);

/// Sixty-four values of one base row's tail: a cache line.
#[derive(Debug, Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub struct TailLine(pub [u8; 64]);

/// The same of a query.
#[derive(Debug, Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub(crate) struct QueryLine(pub [i8; 64]);

/// What is known of a part of a vector.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Part {
    /// What whole numbers are multiplied with.
    pub scale: f32,
    /// Norm of the residual, rounded up.
    pub residual: f64,
    /// Norm of the part, rounded up.
    pub length: f64,
}

/// What is known of a panel's rows: the largest of each.
#[derive(Debug, Clone, Copy, Default, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C)]
pub struct PanelFacts {
    pub norm: f64,
    /// (Length + residual, residual) of heads.
    pub head: [f64; 2],
    /// The same of tails.
    pub tail: [f64; 2],
    /// Squares of the numbers of one lane of a head, together.
    pub lane_squares: f64,
}

/// What is known of a group of queries, side by side for what makes cutoffs; two places are not used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct GroupFacts {
    /// Norm (1 for cosine).
    pub norms: [f64; PLACES],
    /// 1 / norm, and 1 / (norm · scale) of the heads.
    pub inverses: [[f64; PLACES]; 2],
    /// Of heads and of tails.
    pub residuals: [[f64; PLACES]; 2],
    pub lengths: [[f64; PLACES]; 2],
}

/// The heads of a group of queries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads<'a> {
    /// Four values a step.
    pub values: &'a [[[i8; STEP]; GROUP]],
    /// What the sums begin at.
    pub starts: &'a [i32; GROUP],
    /// What the sums of each [`LANE_STEPS`] steps begin at, in two lanes of 16 bits side by side, modulo 2¹⁶; nothing
    /// for instructions that need none.
    pub lane_starts: &'a [[i32; GROUP]],
    /// The largest sum of squares of the numbers of one lane.
    pub lane_squares: f64,
    /// Length of the tail, in units of a head's score.
    pub reaches: &'a [f32; GROUP],
    /// Coordinates along the lead, in the same units; all zero without one.
    pub leads: &'a [f32; GROUP],
    /// Whether there is a lead.
    pub is_led: bool,
}

/// A panel's rows.
#[derive(Debug, Clone, Copy)]
pub struct Int8Panel<'a> {
    /// Heads, four values a step.
    pub quads: &'a [Quad],
    /// What sums of heads are multiplied with: scale · norm.
    pub factors: &'a [f32; PANEL],
    /// Tails, row by row.
    pub tails: &'a [TailLine],
    /// What sums of tails are multiplied with.
    pub tail_factors: &'a [f32; PANEL],
    /// Tails of the panel behind.
    pub next_tails: &'a [TailLine],
    /// Lengths of the tails · norm, rounded up.
    pub bounds: &'a [f32; PANEL],
    /// Coordinates along the lead · norm.
    pub leads: &'a [f32; PANEL],
    /// Norms and errors.
    pub facts: &'a PanelFacts,
}

/// The tails of a group of queries and those of a panel's rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tails<'a> {
    /// The queries', as many lines each.
    pub queries: &'a [QueryLine],
    /// What their sums begin at.
    pub starts: &'a [i32; GROUP],
    /// What their heads and tails are multiplied with.
    pub scales: &'a [[f32; 2]; GROUP],
    /// The rows', as many lines each.
    pub rows: &'a [TailLine],
    /// What the rows' sums are multiplied with.
    pub factors: &'a [f32; PANEL],
    /// What scores must reach.
    pub cutoffs: &'a Thresholds,
}
