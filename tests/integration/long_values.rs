//! Long ids, tasks, keys and texts: they stay in the budget, or are refused with their place and length.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::budgets::measured;
use super::command::{Place, mine_command};
use super::dataset::{Dataset, write_columns};

const MIB: u64 = 1 << 20;
const FLAGS: &str = "--skip 3 --window 20 --cluster-size 4 --batch-size 16";

/// A column whose values are stored as what they do not share with the one before.
const FRONT: &str = "front";

/// Writes the embeddings of a planted set and more columns, in row groups of so many rows, compressed.
fn write(path: &Path, rows: usize, group_rows: usize, columns: Vec<(&str, ArrayRef)>) {
    let plain = Place::with(&Dataset::planted(rows, 16, 7));
    let part = plain.input().join("part-0.parquet");
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(File::open(part).unwrap());
    let batches: Vec<RecordBatch> =
        reader.unwrap().with_batch_size(rows).build().unwrap().map(Result::unwrap).collect();
    assert_eq!(batches.len(), 1);
    let schema = batches[0].schema();
    let own = schema.fields().iter().map(|field| field.name().as_str()).zip(batches[0].columns().iter().cloned());
    let own: Vec<_> = own.filter(|(name, _)| !columns.iter().any(|(new, _)| new == name)).collect();
    write_columns(path, own.into_iter().chain(columns).collect());
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap());
    let batches: Vec<RecordBatch> =
        reader.unwrap().with_batch_size(group_rows).build().unwrap().map(Result::unwrap).collect();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap()))
        .set_max_row_group_row_count(Some(group_rows))
        .set_dictionary_page_size_limit(1 << 30)
        .set_column_dictionary_enabled(FRONT.into(), false)
        .set_column_encoding(FRONT.into(), Encoding::DELTA_BYTE_ARRAY)
        .build();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batches[0].schema(), Some(properties)).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
}

/// A text of so many bytes that begins with its number.
fn long(row: usize, bytes: usize) -> String {
    let mut text = format!("{row} ");
    text.push_str(&"lorem ipsum dolor ".repeat(bytes / 18 + 1));
    text.truncate(bytes);
    text
}

/// A column whose rows share a few values.
fn shared(rows: usize, values: usize, bytes: usize) -> ArrayRef {
    let values_of = StringArray::from_iter_values((0..values).map(|row| long(row, bytes)));
    let keys = Int32Array::from_iter_values((0..rows).map(|row| (row % values) as i32));
    Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(values_of)))
}

/// Texts that differ in their last bytes only.
fn with_one_front(rows: usize, values: usize, bytes: usize) -> ArrayRef {
    let front = "f".repeat(bytes);
    let values_of = StringArray::from_iter_values((0..values).map(|value| format!("{front}{value:06}")));
    let keys = Int32Array::from_iter_values((0..rows).map(|row| (row % values) as i32));
    Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(values_of)))
}

#[test]
fn long_names_are_refused_and_long_keys_stay_in_the_budget() {
    let place = Place::empty();
    let (tasks, ids, keys) = (place.path("tasks.parquet"), place.path("ids.parquet"), place.path("keys.parquet"));
    write(&tasks, 600, 600, vec![("task", shared(600, 3, 5_000_000))]);
    write(&ids, 60, 60, vec![("id", Arc::new(StringArray::from_iter_values((0..60).map(|row| long(row, 1_000_000)))))]);
    write(&keys, 4000, 4000, vec![("doc", shared(4000, 400, 100_000))]);
    let fronts = place.path("fronts.parquet");
    write(&fronts, 4000, 4000, vec![(FRONT, with_one_front(4000, 400, 100_000))]);
    assert!(fs::metadata(&fronts).unwrap().len() < MIB, "the front is in the file once");
    for (input, flags, mib, code, words) in [
        (&tasks, "--task-column task", 128, 2, ["tasks.parquet, column task, row group 0, row 0", "5000000 bytes"]),
        (&ids, "", 256, 2, ["ids.parquet, column id, row group 0, row 0", "1000000 bytes"]),
        (&ids, "", 48, 4, ["the memory budget is too small", "(the vectors stage needs it)"]),
        (&keys, "--key-column doc", 192, 0, ["keys", "batches"]),
        (&fronts, "--key-column front", 192, 0, ["keys", "batches"]),
    ] {
        let run = place.path("run");
        let found = measured(mine_command(input, &run, &format!("{FLAGS} {flags} --memory {mib}MiB")), &run);
        eprintln!("long values: peak {:.1} of {mib} MiB, exit {code}: {words:?}", found.peak as f64 / MIB as f64);
        assert!(found.peak <= mib * MIB, "{} of {mib} MiB, {flags}", found.peak);
        match code {
            0 => drop(found.outcome.ok()),
            code => drop(found.outcome.fails(code, &words)),
        }
        let _ = fs::remove_dir_all(&run);
    }
}

#[cfg(feature = "export")]
#[test]
fn texts_of_a_megabyte_are_exported_within_the_least_budget() {
    use super::budgets::least_mib;
    use super::command::{export_command, mine};

    let rows = 48;
    let place = Place::empty();
    let input = place.path("texts.parquet");
    let texts = |side: &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("{side} {}", long(row, 1_000_000)))))
    };
    write(&input, rows, 8, vec![("query", texts("q")), ("positive", texts("p"))]);
    let run = place.path("run");
    mine(&input, &run, &format!("{FLAGS} --hard-negatives 2")).ok();
    for format in ["sentence-transformers", "b3", "flagembedding", "tevatron", "swift", "arctic"] {
        // The least budget of the footers, then that of the texts, which is known once they were measured.
        let first = least_mib(export_command(&run, format, &place.path("none"), ""));
        let out = place.path(format);
        let tried = export_command(&run, format, &out, &format!("--memory {first}MiB --replace"));
        let tried = measured(tried, &out);
        let least = match tried.outcome.code {
            Some(4) => {
                let named = tried.outcome.stderr.split("raise --memory to ").nth(1).unwrap();
                named.split("MiB").next().unwrap().parse().unwrap()
            }
            _ => first,
        };
        let done = measured(export_command(&run, format, &out, &format!("--memory {least}MiB --replace")), &out);
        done.outcome.ok();
        eprintln!("export: {format}: peak {:.1} of {least} MiB", done.peak as f64 / MIB as f64);
        assert!(done.peak.max(tried.peak) <= least * MIB, "{format}: {} of {least} MiB", done.peak);
        fs::remove_dir_all(&out).unwrap();
    }
}
