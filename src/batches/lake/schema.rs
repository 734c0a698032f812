//! The batch table's schema in Delta's terms.

use arrow::datatypes::{DataType as Arrow, Schema};
use deltalake::kernel::{ArrayType, DataType, StructField, StructType};

/// The Delta schema of an Arrow schema. Pure; O(columns).
pub(crate) fn of(schema: &Schema) -> StructType {
    let field = |field: &arrow::datatypes::FieldRef| {
        let kind = kind(field.data_type()).expect("the table has columns of these types only");
        StructField::new(field.name(), kind, field.is_nullable())
    };
    StructType::try_new(schema.fields().iter().map(field)).expect("the names of the table's columns differ")
}

fn kind(kind: &Arrow) -> Option<DataType> {
    Some(match kind {
        Arrow::Int32 => DataType::INTEGER,
        Arrow::Int64 => DataType::LONG,
        Arrow::Float32 => DataType::FLOAT,
        Arrow::Utf8 => DataType::STRING,
        Arrow::List(element) => ArrayType::new(self::kind(element.data_type())?, element.is_nullable()).into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batches::table;

    #[test]
    fn every_column_of_the_table_has_a_type() {
        let form = table::TableForm { text_ids: false, negatives: true, own_ranks: true, masked: true };
        let schema = of(&table::schema(form));
        let text = serde_json::to_string(&schema).unwrap();
        assert!(text.contains(r#""name":"epoch","type":"integer","nullable":false"#), "{text}");
        assert!(text.contains(r#""elementType":"float","containsNull":false"#), "{text}");
        assert_eq!(schema.fields().count(), 13);
    }
}
