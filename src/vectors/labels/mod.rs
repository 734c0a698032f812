//! Labels: ids, tasks and keys. Each column has one form in all shards, so that labels are compared by value.
//!
//! `form` decides it from the types of all shards (pure); `values` writes an array's labels in it, `numbers` and
//! `instants` those whose types differ (pure), after `lengths` has cut it (pure); `column` asks the shards' schemas.

mod column;
mod form;
mod instants;
mod lengths;
mod numbers;
mod values;

pub(crate) use column::ListElements;
pub(crate) use column::{LabelColumn, Labels};
pub(crate) use form::{LabelShape, label_shape, value_type};
pub(crate) use lengths::{as_views, lengths, of_list, pieces, slice, spanned};
pub(crate) use values::{LabelValues, Missing, Unlabelled, elements};
