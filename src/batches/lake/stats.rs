//! What a Parquet file's footer says of its rows, as Delta's log wants it (Delta protocol, "Per-file Statistics"):
//! readers pass by the files that a filter rules out.

use std::fs::File;
use std::path::Path;

use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::statistics::Statistics;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// The statistics of a file.
///
/// # Errors
/// Its footer cannot be read.
pub(crate) fn of_file(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(|e| Error::io("a file cannot be opened", path, e))?;
    let reader = SerializedFileReader::new(file).map_err(|e| {
        Error::runtime("the footer of a batch table cannot be read")
            .path(path)
            .found(e.to_string())
            .remedy("the file is damaged: delete it and run the same `mine` command again")
    })?;
    Ok(of(reader.metadata()).to_string())
}

/// Pure; O(row groups × columns). Lists have no statistics.
fn of(metadata: &ParquetMetaData) -> Value {
    let (mut least, mut most, mut nulls) = (Map::new(), Map::new(), Map::new());
    let columns = metadata.file_metadata().schema_descr();
    for (index, column) in columns.columns().iter().enumerate() {
        if column.max_rep_level() > 0 {
            continue;
        }
        let all: Option<Vec<&Statistics>> =
            metadata.row_groups().iter().map(|group| group.column(index).statistics()).collect();
        let Some(all) = all.filter(|all| !all.is_empty()) else { continue };
        let bounds: Vec<[Value; 2]> = all.iter().filter_map(|group| bounds(group)).collect();
        let (low, high) = bounds
            .iter()
            .fold((None, None), |(low, high), [least, most]| (smaller(low, least, true), smaller(high, most, false)));
        // A group of nulls alone has no bounds, and takes none away; one whose bounds are not known does.
        let known = all.iter().all(|group| bounds_known(group));
        if let (true, Some(low), Some(high)) = (known, low, high) {
            least.insert(column.name().into(), low);
            most.insert(column.name().into(), high);
        }
        if let Some(count) = all.iter().map(|group| group.null_count_opt()).sum::<Option<u64>>() {
            nulls.insert(column.name().into(), json!(count));
        }
    }
    let rows: i64 = metadata.row_groups().iter().map(|group| group.num_rows()).sum();
    json!({"numRecords": rows, "minValues": least, "maxValues": most, "nullCount": nulls})
}

/// Smallest and largest value of a row group. Text may be cut: then it is a bound still.
fn bounds(group: &Statistics) -> Option<[Value; 2]> {
    Some(match group {
        Statistics::Int32(values) => [json!(values.min_opt()?), json!(values.max_opt()?)],
        Statistics::Int64(values) => [json!(values.min_opt()?), json!(values.max_opt()?)],
        // JSON has no infinity.
        Statistics::Float(values) => {
            let finite = |value: &f32| value.is_finite().then(|| json!(value));
            [finite(values.min_opt()?)?, finite(values.max_opt()?)?]
        }
        Statistics::ByteArray(values) => {
            [json!(values.min_opt()?.as_utf8().ok()?), json!(values.max_opt()?.as_utf8().ok()?)]
        }
        _ => return None,
    })
}

fn bounds_known(group: &Statistics) -> bool {
    group.min_bytes_opt().is_none() || bounds(group).is_some()
}

/// The smaller (or larger) of two values of one type.
fn smaller(best: Option<Value>, value: &Value, smaller: bool) -> Option<Value> {
    let Some(best) = best else { return Some(value.clone()) };
    let less = match (value, &best) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a < b,
            _ => a.as_f64() < b.as_f64(),
        },
        _ => value.as_str() < best.as_str(),
    };
    Some(if less == smaller { value.clone() } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float32Array, Int64Array, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    fn stats(columns: Vec<(&str, ArrayRef)>, group_rows: usize) -> Value {
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
        let mut writer = ArrowWriter::try_new(file.reopen().unwrap(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        serde_json::from_str(&of_file(file.path()).unwrap()).unwrap()
    }

    #[test]
    fn bounds_are_those_of_all_row_groups() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(3), Some(-7), None, None, Some(1 << 60), Some(2)]));
        let scores: ArrayRef = Arc::new(Float32Array::from(vec![0.25, -0.5, 0.125, 0.75, 0.5, 0.0]));
        let words: ArrayRef = Arc::new(StringArray::from(vec!["b", "é", "a", "z", "m", "n"]));
        let found = stats(vec![("n", numbers), ("s", scores), ("w", words)], 2);
        assert_eq!(
            found,
            json!({
                "numRecords": 6,
                "minValues": {"n": -7, "s": -0.5, "w": "a"},
                "maxValues": {"n": 1i64 << 60, "s": 0.75, "w": "é"},
                "nullCount": {"n": 2, "s": 0, "w": 0},
            })
        );
    }

    #[test]
    fn bounds_beyond_numbers_are_not_known() {
        let scores: ArrayRef = Arc::new(Float32Array::from(vec![0.5, f32::INFINITY, 0.25, 0.75]));
        let found = stats(vec![("s", scores)], 2);
        assert_eq!(found["maxValues"], json!({}), "the second group's are no bound of the first");
        assert_eq!(found["nullCount"], json!({"s": 0}));
    }

    #[test]
    fn long_text_is_bounded_from_both_sides() {
        let (low, high) = ("a".repeat(5000), "y".repeat(5000));
        let words: ArrayRef = Arc::new(StringArray::from(vec![low.clone(), high.clone()]));
        let found = stats(vec![("w", words)], 10);
        assert!(found["minValues"]["w"].as_str().unwrap() <= low.as_str());
        assert!(found["maxValues"]["w"].as_str().unwrap() >= high.as_str());
    }
}
