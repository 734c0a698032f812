//! The batch table's schema in Delta's terms.

use std::fs::File;

use arrow::datatypes::{DataType as Arrow, Field, Schema};
use deltalake::kernel::{ArrayType, DataType, StructField, StructType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::error::{Error, Result};
use crate::run::{Run, Stage};

/// The schema of a run's batch table, as its first file has it.
///
/// # Errors
/// The table has no files, or they cannot be read.
pub fn of_parts(run: &Run) -> Result<StructType> {
    let Some(name) = run.parts(Stage::Batches, "").into_iter().next() else {
        return Err(Error::input("there is nothing to publish")
            .path(run.folder().join("batches"))
            .expected("at least one batch")
            .found("none: --remainder drop left every row out")
            .remedy("mine with a smaller --batch-size or another --remainder"));
    };
    let path = run.part_path(Stage::Batches, &name);
    let file = File::open(&path).map_err(|e| Error::io("a batch table cannot be opened", &path, e))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(|e| Error::runtime("a batch table cannot be read").path(&path).found(e.to_string()))?;
    of(reader.schema()).map_err(|field| {
        Error::runtime("a column has no type in Delta")
            .path(&path)
            .column(field.name())
            .found(field.data_type().to_string())
    })
}

/// O(columns). The error is the first field that Delta has no type for.
fn of(schema: &Schema) -> std::result::Result<StructType, Field> {
    let fields = schema.fields().iter().map(|field| {
        let kind = kind(field.data_type()).ok_or_else(|| field.as_ref().clone());
        kind.map(|kind| StructField::new(field.name(), kind, field.is_nullable()))
    });
    let fields = fields.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(StructType::try_new(fields).expect("the names of a Parquet file's columns differ"))
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
    use crate::vectors::rows::Ids;

    #[test]
    fn every_column_of_the_table_has_a_type() {
        let schema = of(&table::schema(&Ids::RowNumber, true)).unwrap();
        let text = serde_json::to_string(&schema).unwrap();
        assert!(text.contains(r#""name":"epoch","type":"integer","nullable":false"#), "{text}");
        assert!(text.contains(r#""elementType":"float","containsNull":false"#), "{text}");
        assert_eq!(schema.fields().count(), 11);
    }
}
