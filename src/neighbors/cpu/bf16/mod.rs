//! Sixteen bits a value: unit vectors in bf16, multiplied in pairs, with a proven bound as in int8.
//!
//! A unit vector x̂ is rounded to x̃, and e = ‖x̂ − x̃‖ is kept: |x̂·ŷ − x̃·ỹ| ≤ e_x (‖ŷ‖ + e_y) + ‖x̂‖ e_y. Sums
//! of products run in f32, and their roundings are added to that bound.
//!
//! The reference gives the bits that the instruction is documented to give, and did give wherever it was tried:
//! of each pair the second product is added first, each by one fused step that rounds to nearest even, takes
//! subnormal numbers for zero, and leaves zero for them. The bound holds for any order of steps, and the search
//! rests on the bound alone.
//!
//! Memory: 2 bytes a value, rows rounded up to whole groups (6) or panels (64), dimensions to pairs.

mod kernel;
mod layout;
mod packed;
mod reference;
mod simd;

pub use kernel::Bf16;
pub use packed::{Bf16Base, Bf16Queries};
