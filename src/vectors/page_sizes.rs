//! How large the pages of a Parquet column are, by the headers of its pages. Pure.
//!
//! A page is decompressed as a whole, and the footer does not say how large it becomes: a small file may have a page
//! of any size. The headers are read here, and no page. Only four facts of each are kept; the rest is skipped, so
//! that headers of later versions are read too.

use super::parquet_pages::header;

/// The pages of a column chunk, in bytes once decompressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PageSizes {
    /// The dictionary, which is held while the other pages are read.
    pub(crate) dictionary: u64,
    /// The largest of the other pages.
    pub(crate) largest: u64,
    /// Bytes of a value in the page where values take most, rounded up. Where a value may repeat what the one before it
    /// begins with, which the page then has once, each value may be as long as the page.
    pub(crate) value: u64,
}

impl PageSizes {
    /// What is held while one page is read.
    pub(crate) fn held(&self) -> u64 {
        self.dictionary.saturating_add(self.largest)
    }

    /// The bound where headers say nothing: the chunk is one page.
    pub(crate) fn of_one_page(bytes: u64, values: u64) -> PageSizes {
        PageSizes { dictionary: 0, largest: bytes, value: bytes.div_ceil(values.max(1)) }
    }

    /// The larger of each.
    pub(crate) fn max(self, other: PageSizes) -> PageSizes {
        PageSizes {
            dictionary: self.dictionary.max(other.dictionary),
            largest: self.largest.max(other.largest),
            value: self.value.max(other.value),
        }
    }
}

/// The sizes of all pages of a column chunk, whose bytes these are; none where a header cannot be read. O(pages).
pub(crate) fn page_sizes(chunk: &[u8]) -> Option<PageSizes> {
    sizes_of(chunk, false)
}

/// The same of the pages whose headers are whole in a chunk's first bytes; none where the first is not.
pub(crate) fn first_page_sizes(beginning: &[u8]) -> Option<PageSizes> {
    sizes_of(beginning, true)
}

fn sizes_of(chunk: &[u8], may_end: bool) -> Option<PageSizes> {
    let (mut sizes, mut at) = (PageSizes::default(), 0usize);
    while at < chunk.len() {
        let Some(page) = header(&chunk[at..]) else { return (may_end && at > 0).then_some(sizes) };
        let bytes = u64::try_from(page.decompressed).ok()?;
        if page.is_dictionary {
            sizes.dictionary = sizes.dictionary.saturating_add(bytes);
        } else {
            sizes.largest = sizes.largest.max(bytes);
            let values = u64::try_from(page.values).unwrap_or(1).max(1);
            sizes.value = sizes.value.max(if page.shares_prefixes { bytes } else { bytes.div_ceil(values) });
        }
        at = at.checked_add(page.header_bytes)?.checked_add(usize::try_from(page.compressed).ok()?)?;
    }
    Some(sizes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::basic::Compression;
    use parquet::file::properties::{WriterProperties, WriterVersion};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use proptest::prelude::*;

    use super::*;

    /// The only column chunk of a file of these texts.
    fn chunk(texts: &[String], dictionary: bool, version: WriterVersion) -> Vec<u8> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_dictionary_enabled(dictionary)
            .set_dictionary_page_size_limit(1 << 30)
            .set_data_page_row_count_limit(100)
            .set_write_batch_size(100)
            .set_writer_version(version)
            .build();
        let array: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
        let batch = RecordBatch::try_from_iter([("text", array)]).unwrap();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes.clone())).unwrap();
        let (start, length) = reader.metadata().row_group(0).column(0).byte_range();
        bytes[start as usize..(start + length) as usize].to_vec()
    }

    #[test]
    fn pages_are_as_large_as_their_values() {
        // Two pages of 100 rows and one of 50; the last is of long texts.
        let texts: Vec<String> =
            (0..250).map(|row| format!("{row:03}").repeat(if row < 200 { 10 } else { 1000 })).collect();
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            let plain = page_sizes(&chunk(&texts, false, version)).unwrap();
            // The second version stores what neighbours share once: a value may be as long as its page.
            let (stored, value) = match version {
                WriterVersion::PARQUET_1_0 => (150_000..152_000, 3000..3050),
                WriterVersion::PARQUET_2_0 => (149_950..150_000, 149_950..150_000),
            };
            assert!(stored.contains(&plain.largest) && value.contains(&plain.value), "{plain:?}");
            assert_eq!(plain.dictionary, 0);
            let coded = page_sizes(&chunk(&texts, true, version)).unwrap();
            assert!((156_000..158_000).contains(&coded.dictionary) && coded.largest < 200, "{coded:?}");
            assert_eq!(coded.held(), coded.dictionary + coded.largest);
        }
    }

    #[test]
    fn a_chunk_that_ends_within_a_header_has_no_sizes() {
        let whole = chunk(&["a".repeat(50), "b".repeat(50)], false, WriterVersion::PARQUET_1_0);
        assert!(page_sizes(&whole).is_some());
        assert_eq!(page_sizes(&whole[..3]), None);
        assert_eq!(page_sizes(&[0x15, 0x80]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            page_sizes(&bytes);
        }
    }
}
