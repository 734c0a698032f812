//! Eight bits a value, with a proven bound: a pair that is ruled out cannot be among the best.
//!
//! A unit vector is rotated ([`crate::neighbors::rotation`]; or left as it is) and cut into a *head* and a *tail*. Each
//! part is quantised as s·q + r with whole numbers q in ±127; the scale s is its own, and the norm e of the residual r
//! and the part's length l are kept. Then |x·y − s_x s_y q_x·q_y| ≤ e_x (l_y + e_y) + l_x e_y in each part.
//!
//! The kernel scores heads. A pair whose head's score, with the most that the tails can add (l_x l_y, by Cauchy and
//! Schwarz), cannot reach the threshold is ruled out; for the few others the tails are scored as well. Sums of bytes
//! are exact; the byte instruction takes one side unsigned, so base rows are stored as q + 128 and the sums begin at
//! −128 Σ q_x. Where there is no such instruction, sums of eight steps are kept in 16 bits, modulo 2¹⁶, wherever
//! Σ q_x² and Σ q_y² of these steps say that the sums without the offset fit ([`layout::LANE_STEPS`]).
//!
//! Memory: 1 byte a value, rows rounded up to whole groups (6) or panels (64).

mod kernel;
mod layout;
mod packed;
mod quantise;
mod queries;
mod reference;
mod simd;

pub use kernel::Int8;
pub use packed::PackedBase;
pub(crate) use packed::{PACKED, Packing};
pub(crate) use queries::Int8Queries;
pub use queries::Quantised;
