//! Opening Parquet files: only footers are read here; the values are decoded by [`super::decode`].

use std::path::{Path, PathBuf};

use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, Length};

use super::input_bytes::{FileBytes, map_file};
use super::parquet_batches::{read_metadata, refuse_negative_chunks};
use super::parquet_footer::TRAILER_BYTES;
use super::row::ROWS_MAX;
use super::shard::{Shard, ShardFile, Source, rows_out_of_range};
use super::stored_bytes::StoredBytes;
use crate::error::{Error, Result};
use crate::objects::StoredFile;
use crate::run::sealed::u32_at;

/// Maps files and reads their footers.
///
/// # Errors
/// A file cannot be opened, is not a whole Parquet file, or has more rows than any job.
pub(crate) fn open_parquet(paths: &[PathBuf]) -> Result<Vec<Shard>> {
    paths.iter().map(|path| open_one(path)).collect()
}

/// Reads the footer of a file in a store.
///
/// # Errors
/// The store fails; or as of [`open_parquet`].
pub(super) fn open_stored_parquet(file: StoredFile) -> Result<Shard> {
    let path = PathBuf::from(file.url());
    open_bytes(&path, FileBytes::Stored(StoredBytes::new(file)))
}

fn open_one(path: &Path) -> Result<Shard> {
    open_bytes(path, FileBytes::Mapped(map_file(path)?))
}

fn open_bytes(path: &Path, bytes: FileBytes) -> Result<Shard> {
    let wrong = |found: String| {
        let damaged = || {
            Error::input("not a readable Parquet file")
                .path(path)
                .expected("a complete Parquet file")
                .found(found)
                .remedy("write or download the file again")
        };
        bytes.fault().unwrap_or_else(damaged)
    };
    let metadata = read_metadata(path, &bytes).map_err(wrong)?;
    let rows = rows_of(metadata.metadata()).map_err(wrong)?;
    if rows > ROWS_MAX {
        return Err(rows_out_of_range(path, rows, 1));
    }
    refuse_negative_chunks(metadata.metadata()).map_err(wrong)?;
    let read = |start: u64, length: u64| bytes.get_bytes(start, length as usize).map_err(|e| wrong(e.to_string()));
    let trailer = bytes.len() - TRAILER_BYTES;
    let footer_start = trailer.saturating_sub(u64::from(u32_at(&read(trailer, TRAILER_BYTES)?, 0)));
    let footer = read(footer_start, bytes.len() - footer_start)?;
    let files = vec![match &bytes {
        FileBytes::Mapped(_) => ShardFile::new(path, &footer)?,
        FileBytes::Stored(stored) => ShardFile::stored(stored.file(), &footer),
    }];
    Ok(Shard::new(path, rows, files, Source::Parquet { bytes, metadata }))
}

/// Rows of the file; else what its footer says instead.
fn rows_of(metadata: &ParquetMetaData) -> Result<u64, String> {
    let mut sum = 0u64;
    for (row_group, meta) in metadata.row_groups().iter().enumerate() {
        let rows = meta.num_rows();
        let total = u64::try_from(rows).ok().and_then(|rows| sum.checked_add(rows));
        sum = total.ok_or_else(|| format!("{rows} rows in row group {row_group}"))?;
    }
    let rows = metadata.file_metadata().num_rows();
    if u64::try_from(rows) != Ok(sum) {
        return Err(format!("a footer of {rows} rows whose row groups have {sum}"));
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use parquet::file::metadata::{FileMetaData, ParquetMetaDataReader};

    use bytes::Bytes;

    use super::*;
    use crate::vectors::testing::parquet_file;

    #[test]
    fn footers_whose_numbers_do_not_fit_are_refused_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let open = |group_rows: [i64; 2], start: i64, bytes: i64| {
            std::fs::write(&path, parquet_file(group_rows, Some((start, bytes)))).unwrap();
            open_parquet(std::slice::from_ref(&path))
        };
        assert_eq!(open([3, 2], 4, 9).unwrap()[0].rows, 5);
        let cases = [
            ([7, -2], 4, 9, "-2 rows in row group 1"),
            ([i64::MAX, 0], 4, 9, "9223372036854775807 rows in 1 files"),
            ([3, 2], -4, 9, "at offset -4"),
            ([3, 2], 4, -9, "-9 bytes"),
        ];
        for (group_rows, start, bytes, word) in cases {
            let text = open(group_rows, start, bytes).unwrap_err().to_string();
            assert!(text.contains("a.parquet") && text.contains(word), "{text}");
        }
        // In the footer the schema's last name stands before the file's rows: 5, twice that as an i64 field.
        let mut bytes = parquet_file([3, 2], None);
        let rows = b"id\0\x16\x0a";
        let at = bytes.windows(rows.len()).position(|window| window == rows).unwrap() + rows.len() - 1;
        for (written, word) in [(12, "a footer of 6 rows whose row groups have 5"), (1, "a footer of -1 rows")] {
            bytes[at] = written;
            std::fs::write(&path, &bytes).unwrap();
            let text = open_parquet(std::slice::from_ref(&path)).unwrap_err().to_string();
            assert!(text.contains("a.parquet") && text.contains(word), "{text}");
        }
    }

    #[test]
    fn row_groups_of_more_rows_than_can_be_counted_are_refused() {
        let sound = ParquetMetaDataReader::new().parse_and_finish(&Bytes::from(parquet_file([3, 2], None))).unwrap();
        let file = sound.file_metadata();
        let group = sound.row_group(0).clone().into_builder().set_num_rows(i64::MAX).build().unwrap();
        let file = FileMetaData::new(file.version(), -3, None, None, file.schema_descr_ptr(), None);
        let found = rows_of(&ParquetMetaData::new(file, vec![group; 3])).unwrap_err();
        assert!(found.contains("row group 2"), "{found}");
    }
}
