//! Statistics of a Parquet file from its footer, as Delta's log has them (Delta protocol, "Per-file Statistics"):
//! readers skip the files that a filter rules out.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::vectors::read_metadata;

/// The statistics of one file; keys in alphabetical order.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct FileStats {
    max_values: BTreeMap<String, StatValue>,
    min_values: BTreeMap<String, StatValue>,
    null_count: BTreeMap<String, u64>,
    num_records: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
enum StatValue {
    Int(i64),
    /// An f32, written with the digits of the f64 that equals it.
    Float(f64),
    Text(String),
}

impl StatValue {
    /// False between values of different types.
    fn is_less(&self, other: &StatValue) -> bool {
        match (self, other) {
            (StatValue::Int(a), StatValue::Int(b)) => a < b,
            (StatValue::Float(a), StatValue::Float(b)) => a < b,
            (StatValue::Text(a), StatValue::Text(b)) => a < b,
            _ => false,
        }
    }
}

/// The statistics of a file, as JSON.
///
/// # Errors
/// Its footer cannot be read, or has impossible counts.
pub(crate) fn of_file(path: &Path) -> Result<String> {
    let unreadable = |found: String| {
        Error::runtime("the footer of a batch table cannot be read")
            .path(path)
            .found(found)
            .remedy("the file is damaged: delete it and run the same `mine` command again")
    };
    let file = File::open(path).map_err(|e| Error::io("a file cannot be opened", path, e))?;
    let metadata = read_metadata(path, &file).map_err(unreadable)?;
    let stats = of(metadata.metadata()).ok_or_else(|| unreadable("row counts that are negative or overflow".into()))?;
    Ok(serde_json::to_string(&stats).expect("statistics are plain data"))
}

/// `None`: the footer's counts are impossible. Pure; O(row groups × columns). Lists have no statistics.
fn of(metadata: &ParquetMetaData) -> Option<FileStats> {
    let mut stats = FileStats::default();
    for group in metadata.row_groups() {
        stats.num_records = stats.num_records.checked_add(u64::try_from(group.num_rows()).ok()?)?;
    }
    let columns = metadata.file_metadata().schema_descr();
    for (index, column) in columns.columns().iter().enumerate() {
        if column.max_rep_level() > 0 {
            continue;
        }
        let groups: Option<Vec<&Statistics>> =
            metadata.row_groups().iter().map(|group| group.column(index).statistics()).collect();
        let Some(groups) = groups.filter(|groups| !groups.is_empty()) else { continue };
        if let Some([least, most]) = bounds_of_all(&groups) {
            stats.min_values.insert(column.name().into(), least);
            stats.max_values.insert(column.name().into(), most);
        }
        if let Some(counts) = groups.iter().map(|group| group.null_count_opt()).collect::<Option<Vec<u64>>>() {
            let nulls = counts.into_iter().try_fold(0u64, u64::checked_add)?;
            stats.null_count.insert(column.name().into(), nulls);
        }
    }
    Some(stats)
}

/// Smallest and largest value of all row groups. `None`: no group has values, or the bounds of one are not known. A
/// group that holds only nulls has no bounds and changes nothing.
fn bounds_of_all(groups: &[&Statistics]) -> Option<[StatValue; 2]> {
    let mut all: Option<[StatValue; 2]> = None;
    for group in groups.iter().filter(|group| group.min_bytes_opt().is_some()) {
        let [low, high] = bounds(group)?;
        all = Some(match all {
            None => [low, high],
            Some([least, most]) => {
                [if low.is_less(&least) { low } else { least }, if high.is_less(&most) { most } else { high }]
            }
        });
    }
    all
}

/// Smallest and largest value of a row group. Text may be truncated and is still a bound.
fn bounds(group: &Statistics) -> Option<[StatValue; 2]> {
    Some(match group {
        Statistics::Int32(values) => {
            [values.min_opt()?, values.max_opt()?].map(|value| StatValue::Int((*value).into()))
        }
        Statistics::Int64(values) => [values.min_opt()?, values.max_opt()?].map(|value| StatValue::Int(*value)),
        Statistics::Float(values) => {
            let [low, high] = [*values.min_opt()?, *values.max_opt()?];
            // JSON has no infinity.
            (low.is_finite() && high.is_finite()).then(|| [low, high].map(|value| StatValue::Float(value.into())))?
        }
        Statistics::ByteArray(values) => [values.min_opt()?.as_utf8().ok()?, values.max_opt()?.as_utf8().ok()?]
            .map(|text| StatValue::Text(text.into())),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float32Array, Int64Array, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    fn stats(columns: Vec<(&str, ArrayRef)>, group_rows: usize) -> String {
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
        let mut writer = ArrowWriter::try_new(file.reopen().unwrap(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        of_file(file.path()).unwrap()
    }

    #[test]
    fn bounds_are_those_of_all_row_groups() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(3), Some(-7), None, None, Some(1 << 60), Some(2)]));
        let scores: ArrayRef = Arc::new(Float32Array::from(vec![0.25, -0.5, 0.125, 0.1, 0.5, 1.0]));
        let words: ArrayRef = Arc::new(StringArray::from(vec!["b", "é", "a", "z", "m", "n"]));
        assert_eq!(
            stats(vec![("w", words), ("n", numbers), ("s", scores)], 2),
            concat!(
                r#"{"maxValues":{"n":1152921504606846976,"s":1.0,"w":"é"},"minValues":{"n":-7,"s":-0.5,"w":"a"},"#,
                r#""nullCount":{"n":2,"s":0,"w":0},"numRecords":6}"#
            )
        );
        let tenth: ArrayRef = Arc::new(Float32Array::from(vec![0.1]));
        let found = stats(vec![("s", tenth)], 2);
        assert!(found.contains(r#""s":0.10000000149011612"#), "{found}");
    }

    #[test]
    fn bounds_beyond_numbers_are_not_known() {
        let scores: ArrayRef = Arc::new(Float32Array::from(vec![0.5, f32::INFINITY, 0.25, 0.75]));
        // The second group's bounds do not hold for the first.
        assert_eq!(
            stats(vec![("s", scores)], 2),
            r#"{"maxValues":{},"minValues":{},"nullCount":{"s":0},"numRecords":4}"#
        );
    }

    #[test]
    fn long_text_is_bounded_from_both_sides() {
        let (low, high) = ("a".repeat(5000), "y".repeat(5000));
        let words: ArrayRef = Arc::new(StringArray::from(vec![low.clone(), high.clone()]));
        let found = stats(vec![("w", words)], 10);
        let bound = |key: &str| {
            let rest = found.split_once(&format!(r#""{key}":{{"w":""#)).unwrap().1;
            rest.split_once('"').unwrap().0.to_owned()
        };
        assert!(bound("minValues") <= low && bound("maxValues") >= high);
    }
}
