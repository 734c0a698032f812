//! Plain types of the bf16 kernels.

use half::bf16;

use crate::neighbors::cpu::scan::{GROUP, PANEL};

/// Values of a step: what fits a 32-bit lane.
pub(super) const STEP: usize = 2;

/// Two values of each of a panel's rows: four cache lines.
#[derive(Debug, Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub(super) struct Pairs(pub [[bf16; STEP]; PANEL]);

/// Two dimensions of a group of queries.
pub(super) type Bf16Step = [[bf16; STEP]; GROUP];
