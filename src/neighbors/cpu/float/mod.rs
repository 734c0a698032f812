//! Single precision: unit vectors in f32, interleaved by dimension.
//!
//! Memory: 4 bytes a value, rows rounded up to whole groups (6) or panels (64).

mod kernel;
mod layout;
mod packed;
mod reference;
mod simd;

pub use kernel::Float;
pub use packed::{FloatBase, FloatQueries};
