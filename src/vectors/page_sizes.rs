//! How large the pages of a Parquet column are, by the headers of its pages. Pure.
//!
//! A page is decompressed as a whole, and the footer does not say how large it becomes: a small file may have a page
//! of any size. The headers are read here, and no page. Only three numbers of each are kept; the rest is skipped, so
//! that headers of later versions are read too.

/// Nested structures in a header that are followed: real ones have three.
const DEPTH_MAX: u32 = 16;

/// The pages of a column chunk, in bytes once decompressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PageSizes {
    /// The dictionary, which is held while the other pages are read.
    pub(crate) dictionary: u64,
    /// The largest of the other pages.
    pub(crate) largest: u64,
    /// Bytes of a value in the page where values take most, rounded up.
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
    let (mut sizes, mut at) = (PageSizes::default(), 0usize);
    while at < chunk.len() {
        let mut reader = Compact { bytes: chunk, at };
        let header = reader.header()?;
        at = reader.at.checked_add(usize::try_from(header.compressed?).ok()?)?;
        let bytes = u64::try_from(header.uncompressed?).ok()?;
        if header.kind? == DICTIONARY_PAGE {
            sizes.dictionary = sizes.dictionary.saturating_add(bytes);
        } else {
            sizes.largest = sizes.largest.max(bytes);
            let values = u64::try_from(header.values.unwrap_or(1)).unwrap_or(1).max(1);
            sizes.value = sizes.value.max(bytes.div_ceil(values));
        }
    }
    Some(sizes)
}

const DICTIONARY_PAGE: i64 = 2;

/// What is kept of a page's header.
#[derive(Debug, Default)]
struct SizedPage {
    kind: Option<i64>,
    uncompressed: Option<i64>,
    compressed: Option<i64>,
    values: Option<i64>,
}

/// A reader of Thrift's compact protocol.
struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Compact<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn integer(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn pass(&mut self, bytes: u64) -> Option<()> {
        let end = self.at.checked_add(usize::try_from(bytes).ok()?)?;
        (end <= self.bytes.len()).then(|| self.at = end)
    }

    /// The next field's number and type; none at the end of a structure.
    fn field(&mut self, last: i64) -> Option<Option<(i64, u8)>> {
        let byte = self.byte()?;
        if byte == 0 {
            return Some(None);
        }
        let number = if byte >> 4 == 0 { self.integer()? } else { last.checked_add(i64::from(byte >> 4))? };
        Some(Some((number, byte & 0x0f)))
    }

    fn header(&mut self) -> Option<SizedPage> {
        let (mut header, mut last) = (SizedPage::default(), 0);
        while let Some((number, kind)) = self.field(last)? {
            last = number;
            match (number, kind) {
                (1, 5) => header.kind = Some(self.integer()?),
                (2, 5) => header.uncompressed = Some(self.integer()?),
                (3, 5) => header.compressed = Some(self.integer()?),
                // The headers of data pages of both versions begin with the number of values.
                (5 | 8, 12) => header.values = self.first_integer()?,
                _ => self.skip(kind, 0)?,
            }
        }
        Some(header)
    }

    /// The first field of a structure, where it is an integer; the whole structure is passed.
    fn first_integer(&mut self) -> Option<Option<i64>> {
        let (mut first, mut last) = (None, 0);
        while let Some((number, kind)) = self.field(last)? {
            last = number;
            match (number, kind) {
                (1, 5) => first = Some(self.integer()?),
                _ => self.skip(kind, 0)?,
            }
        }
        Some(first)
    }

    fn skip(&mut self, kind: u8, depth: u32) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        match kind {
            1 | 2 => Some(()),
            3 => self.pass(1),
            4..=6 => self.varint().map(drop),
            7 => self.pass(8),
            8 => {
                let length = self.varint()?;
                self.pass(length)
            }
            9 | 10 => {
                let byte = self.byte()?;
                let count = if byte >> 4 == 15 { self.varint()? } else { u64::from(byte >> 4) };
                // A boolean in a list takes a byte.
                (0..count).try_for_each(|_| match byte & 0x0f {
                    1 | 2 => self.pass(1),
                    kind => self.skip(kind, depth + 1),
                })
            }
            12 => {
                let mut last = 0;
                while let Some((number, kind)) = self.field(last)? {
                    last = number;
                    self.skip(kind, depth + 1)?;
                }
                Some(())
            }
            _ => None,
        }
    }
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
            assert_eq!((plain.dictionary, plain.value / 100), (0, 30), "{plain:?}");
            // The second version stores what neighbours share once.
            assert!((149_000..152_000).contains(&plain.largest), "{plain:?}");
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
