//! Plain types of the float kernels.

use crate::neighbors::cpu::scan::{GROUP, LANES, PANEL};

/// A cache line of floats: panels must not straddle lines.
#[derive(Debug, Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub(super) struct Line(pub [f32; LANES]);

/// One dimension of a group of queries.
pub(super) type FloatStep = [f32; GROUP];
/// One dimension of a panel's rows.
pub(super) type FloatLines = [Line; PANEL / LANES];
