//! Refuses numbers of a record batch that its file cannot hold: the decoder would panic on them, or allocate what they
//! say.

use arrow::ipc::{BodyCompressionMethod, CompressionType, RecordBatch};

use super::layout::ColumnLayout;
use crate::vectors::row::ROWS_MAX;

/// Most values of a node: sums of them stay within a u64.
const VALUES_MAX: i64 = 1 << 48;
/// Length in front of a compressed buffer.
const PREFIX_BYTES: usize = 8;
/// A length that says that the buffer is not compressed.
const NOT_COMPRESSED: i64 = -1;
/// Bytes that one compressed byte stands for at most: a zstd block of 128 KiB takes 4 bytes, and each byte of an LZ4
/// length stands for 255.
const ZSTD_RATIO: u64 = 1 << 15;
const LZ4_RATIO: u64 = 1 << 8;

/// What a record batch says of itself, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct BatchNumbers {
    pub(super) rows: u64,
    /// Length of each node.
    pub(super) nodes: Vec<u64>,
    /// Bytes that each buffer takes when it is decompressed; 0 where it is a view into the file.
    pub(super) decompressed: Vec<u64>,
}

impl BatchNumbers {
    /// Bytes that a column takes on the heap when it is decoded.
    pub(super) fn heap_bytes(&self, column: &ColumnLayout) -> u64 {
        let own = self.decompressed.get(column.buffers.clone()).unwrap_or_default();
        own.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Rows of a column, or items of its lists, where a list without one counts as one.
    pub(super) fn values(&self, column: &ColumnLayout) -> u64 {
        let items = if column.nodes.len() > 1 { self.nodes.get(column.nodes.start + 1) } else { None };
        items.map_or(self.rows, |items| self.rows.saturating_add(*items))
    }
}

/// The numbers of a record batch whose buffers lie in `body`.
///
/// # Errors
/// What is wrong with them.
pub(super) fn checked(batch: RecordBatch<'_>, body: &[u8]) -> Result<BatchNumbers, String> {
    let rows = u64::try_from(batch.length()).ok().filter(|rows| *rows <= ROWS_MAX);
    let rows = rows.ok_or_else(|| format!("a record batch of {} rows", batch.length()))?;
    let mut numbers = BatchNumbers { rows, ..BatchNumbers::default() };
    for node in batch.nodes().into_iter().flatten() {
        let (length, nulls) = (node.length(), node.null_count());
        if !(0..=VALUES_MAX).contains(&length) || !(0..=length).contains(&nulls) {
            return Err(format!("a column of {length} values with {nulls} nulls"));
        }
        numbers.nodes.push(length as u64);
    }
    let ratio = match batch.compression() {
        None => None,
        Some(compression) if compression.method() != BodyCompressionMethod::BUFFER => {
            return Err("an unknown method of compression".into());
        }
        Some(compression) if compression.codec() == CompressionType::ZSTD => Some(ZSTD_RATIO),
        Some(compression) if compression.codec() == CompressionType::LZ4_FRAME => Some(LZ4_RATIO),
        Some(_) => return Err("an unknown codec".into()),
    };
    for buffer in batch.buffers().into_iter().flatten() {
        let (offset, length) = (buffer.offset(), buffer.length());
        let range = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
        let range = range.and_then(|(start, length)| Some(start..start.checked_add(length)?));
        let bytes = range.and_then(|range| body.get(range));
        let bytes = bytes.ok_or_else(|| {
            format!("a buffer of {length} bytes at offset {offset} in a record batch of {} bytes", body.len())
        })?;
        numbers.decompressed.push(match ratio {
            Some(ratio) if !bytes.is_empty() => decompressed_bytes(bytes, ratio)?,
            _ => 0,
        });
    }
    for count in batch.variadicBufferCounts().into_iter().flatten() {
        if !(0..=numbers.decompressed.len() as i64).contains(&count) {
            return Err(format!("a column of {count} buffers"));
        }
    }
    Ok(numbers)
}

/// Length of a compressed buffer when it is decompressed; 0 where it is not compressed.
fn decompressed_bytes(buffer: &[u8], ratio: u64) -> Result<u64, String> {
    let Some((prefix, data)) = buffer.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(format!("a compressed buffer of {} bytes", buffer.len()));
    };
    let length = i64::from_le_bytes(*prefix);
    let most = (data.len() as u64).saturating_mul(ratio);
    match u64::try_from(length) {
        _ if length == NOT_COMPRESSED => Ok(0),
        Ok(bytes) if bytes <= most => Ok(bytes),
        _ => Err(format!("{} compressed bytes that stand for {length}", data.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_no_compression_reaches_are_refused() {
        let buffer = |length: i64, data: usize| {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.resize(8 + data, 0);
            decompressed_bytes(&bytes, LZ4_RATIO)
        };
        assert_eq!(buffer(2560, 10), Ok(2560));
        assert_eq!(buffer(-1, 10), Ok(0));
        assert!(buffer(2561, 10).unwrap_err().contains("10 compressed bytes that stand for 2561"));
        assert!(buffer(-2, 10).is_err());
        assert!(buffer(i64::MAX, 10).is_err());
        assert!(decompressed_bytes(&[0; 7], LZ4_RATIO).is_err());
    }
}
