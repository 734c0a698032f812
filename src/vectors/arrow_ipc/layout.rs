//! Which nodes and buffers of a record batch belong to which column. Pure.
//!
//! Arrow's format, "Recursive flattening": a record batch lists the nodes and buffers of its columns depth first.

use std::ops::Range;

use arrow::datatypes::{DataType, Schema, UnionMode};

/// Where a column's data stands in the lists of a record batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ColumnLayout {
    /// Its first node is its own, and that of a list's items the next.
    pub(super) nodes: Range<usize>,
    pub(super) buffers: Range<usize>,
}

/// The layout of all columns of a record batch; `variadic`: buffers of each column of views, beyond two.
pub(super) fn layouts(schema: &Schema, variadic: &[i64]) -> Vec<ColumnLayout> {
    let mut variadic = variadic.iter().copied();
    let (mut nodes, mut buffers) = (0usize, 0usize);
    let mut all = Vec::new();
    for field in schema.fields() {
        let (first_node, first_buffer) = (nodes, buffers);
        add(field.data_type(), &mut nodes, &mut buffers, &mut variadic);
        all.push(ColumnLayout { nodes: first_node..nodes, buffers: first_buffer..buffers });
    }
    all
}

fn add(data_type: &DataType, nodes: &mut usize, buffers: &mut usize, variadic: &mut impl Iterator<Item = i64>) {
    *nodes += 1;
    *buffers = buffers.saturating_add(match data_type {
        DataType::Null | DataType::RunEndEncoded(..) => 0,
        DataType::Struct(_) | DataType::FixedSizeList(..) | DataType::Union(_, UnionMode::Sparse) => 1,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => 3,
        DataType::ListView(_) | DataType::LargeListView(_) => 3,
        DataType::Utf8View | DataType::BinaryView => {
            2usize.saturating_add(variadic.next().and_then(|count| usize::try_from(count).ok()).unwrap_or(0))
        }
        _ => 2,
    });
    match data_type {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => {
            add(item.data_type(), nodes, buffers, variadic);
        }
        DataType::ListView(item) | DataType::LargeListView(item) => add(item.data_type(), nodes, buffers, variadic),
        DataType::Struct(fields) => {
            fields.iter().for_each(|field| add(field.data_type(), nodes, buffers, variadic));
        }
        DataType::Union(fields, _) => {
            fields.iter().for_each(|(_, field)| add(field.data_type(), nodes, buffers, variadic));
        }
        DataType::RunEndEncoded(ends, values) => {
            [ends, values].into_iter().for_each(|field| add(field.data_type(), nodes, buffers, variadic));
        }
        _ => {}
    }
}

/// Whether a column of this type has values that stand in a dictionary.
pub(super) fn has_dictionary(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(..) => true,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => has_dictionary(item.data_type()),
        DataType::ListView(item) | DataType::LargeListView(item) => has_dictionary(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_dictionary(field.data_type())),
        DataType::Union(fields, _) => fields.iter().any(|(_, field)| has_dictionary(field.data_type())),
        DataType::RunEndEncoded(_, values) => has_dictionary(values.data_type()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn columns_take_their_nodes_and_buffers_one_after_the_other() {
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
        let pair = DataType::Struct(vec![Field::new("a", DataType::Null, true), Field::new("b", list, true)].into());
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("pair", pair, true),
            Field::new("view", DataType::Utf8View, true),
            Field::new("vector", DataType::new_fixed_size_list(DataType::Float32, 4, true), true),
        ]);
        let expected = [(0..1, 0..2), (1..5, 2..8), (5..6, 8..13), (6..8, 13..16)];
        let expected = expected.map(|(nodes, buffers)| ColumnLayout { nodes, buffers });
        assert_eq!(layouts(&schema, &[3]), expected);
    }
}
