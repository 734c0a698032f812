//! The CPU's tile search: packed panels, kernels chosen once at run time, candidates by query.
//!
//! Three precisions: [`int8`] filters at about four times the speed of [`float`], [`bf16`] at twice; each reports every
//! pair whose true score can still reach its query's threshold, by a proven bound (docs/algorithms.md), so that their
//! results are the same. Where a bound is too wide to filter (one dominant dimension, many equal scores), the search
//! goes over to the next finer precision by itself.
//!
//! Two words are kept apart: a *threshold* is the similarity that a candidate must reach to be of interest; a *cutoff*
//! is what a kernel compares its scores with, in its own units, so that no such candidate is lost.
//!
//! Each precision is a folder of the same files: `layout` has the plain types, `reference` the kernel in portable
//! code, `simd` the same in instructions, and `kernel` packs, bounds and calls them.

pub(crate) mod bf16;
pub(crate) mod bounds;
pub(crate) mod float;
pub(crate) mod frame;
pub(crate) mod int8;
pub(crate) mod matrix;
pub(crate) mod rotation;
pub(crate) mod scan;
pub(crate) mod simd;
