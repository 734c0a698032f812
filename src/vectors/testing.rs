//! For tests of files that are damaged, and yet sealed.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::{
    ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter, RowGroupMetaData,
};

use crate::error::{Error, Kind};
use crate::run::block_hash;
use crate::run::sealed::{FileFormat, seal_of};

/// Writes a file of any content with a header, a footer and the right checksum.
pub(crate) fn write_sealed(path: &Path, format: &FileFormat, fields: [u64; 6], payload: &[u8]) {
    let mut bytes = format.header(fields).to_vec();
    bytes.extend(payload);
    bytes.extend(seal_of(bytes.len() as u64, &block_hash::table(&bytes)));
    std::fs::write(path, bytes).unwrap();
}

/// Asserts that opening a damaged file failed with an error that names the file.
#[track_caller]
pub(crate) fn refused<T>(path: &Path, opened: Result<T, Error>) {
    let Err(error) = opened else { panic!("a damaged file was opened") };
    let text = error.to_string();
    assert_eq!(error.kind(), Kind::Runtime, "{text}");
    assert!(text.contains(&path.display().to_string()) && text.contains("remedy:"), "{text}");
}

/// A Parquet file with a column `id` of 3 and then 2 rows, in two row groups. Its footer gives other numbers of rows of
/// these and, with `chunk`, another offset and length of their data.
pub(super) fn parquet_file(group_rows: [i64; 2], chunk: Option<(i64, i64)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let batch = |ids: Vec<i64>| RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(ids)) as ArrayRef)]);
    let first = batch(vec![10, 11, 12]).unwrap();
    let mut writer = ArrowWriter::try_new(&mut bytes, first.schema(), None).unwrap();
    writer.write(&first).unwrap();
    writer.flush().unwrap();
    writer.write(&batch(vec![13, 14]).unwrap()).unwrap();
    writer.close().unwrap();
    let sound = ParquetMetaDataReader::new().parse_and_finish(&Bytes::from(bytes.clone())).unwrap();
    let moved = |column: &ColumnChunkMetaData| {
        let Some((start, bytes)) = chunk else { return column.clone() };
        let column = column.clone().into_builder().set_dictionary_page_offset(None);
        column.set_data_page_offset(start).set_total_compressed_size(bytes).build().unwrap()
    };
    let changed = |group: &RowGroupMetaData, rows: i64| {
        let columns = group.columns().iter().map(moved).collect();
        group.clone().into_builder().set_num_rows(rows).set_column_metadata(columns).build().unwrap()
    };
    let groups = sound.row_groups().iter().zip(group_rows).map(|(group, rows)| changed(group, rows)).collect();
    let length = crate::run::sealed::u32_at(&bytes, bytes.len() - 8) as usize;
    bytes.truncate(bytes.len() - 8 - length);
    ParquetMetaDataWriter::new(&mut bytes, &ParquetMetaData::new(sound.file_metadata().clone(), groups))
        .finish()
        .unwrap();
    bytes
}
