//! The messages of an Arrow IPC file or stream: where each begins and ends. Pure.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow::ipc::convert::try_fb_to_schema;
use arrow::ipc::{Block, Endianness, Message, MessageHeader, MetadataVersion, root_as_footer, root_as_message};

use super::check::{BatchNumbers, checked};
use super::layout::layouts;
use crate::vectors::row::ROWS_MAX;

/// Each end of a file with a footer.
pub(super) const MAGIC: &[u8] = b"ARROW1";
/// Length of the footer's length.
const LENGTH_BYTES: usize = 4;
/// Stands before the length of a message.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// Bodies of messages begin at multiples of so many bytes: their values can be used where they lie.
const ALIGNMENT: usize = 8;

/// A message: the bytes of its description, and those of its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MessageAt {
    pub(super) description: Range<usize>,
    pub(super) body: Range<usize>,
}

/// A message that gives a dictionary, or more values of one.
#[derive(Debug, Clone)]
pub(super) struct DictionaryAt {
    pub(super) message: MessageAt,
    pub(super) id: i64,
    /// It goes on with the dictionary that is there.
    pub(super) delta: bool,
}

/// A record batch.
#[derive(Debug, Clone)]
pub(super) struct BatchAt {
    pub(super) message: MessageAt,
    /// Within the file.
    pub(super) first_row: u64,
    pub(super) rows: u64,
    /// Dictionary messages that come before it.
    pub(super) dictionaries: usize,
    /// For each column, bytes that it takes on the heap when it is decoded.
    pub(super) heap_bytes: Vec<u64>,
    /// For each column, its rows, or the items of its lists.
    pub(super) values: Vec<u64>,
}

/// What a file holds.
#[derive(Debug)]
pub(super) struct Messages {
    pub(super) schema: Arc<Schema>,
    pub(super) version: MetadataVersion,
    pub(super) dictionaries: Vec<DictionaryAt>,
    pub(super) batches: Vec<BatchAt>,
    pub(super) rows: u64,
    /// Bytes that describe the whole file: its footer, or its schema.
    pub(super) head: Range<usize>,
    /// The stream ends with the mark of its end; files with a footer have all that it lists.
    pub(super) ended: bool,
}

/// Finds the messages of a file or a stream.
///
/// # Errors
/// What is wrong: the file is cut short, damaged, big-endian, or of a version before 0.15 of Arrow.
pub(super) fn messages(bytes: &[u8]) -> Result<Messages, String> {
    if bytes.starts_with(MAGIC) { of_file(bytes) } else { of_stream(bytes) }
}

fn of_file(bytes: &[u8]) -> Result<Messages, String> {
    let cut = || "no footer at the end: the file is cut short, or was not closed".to_owned();
    let front = bytes.strip_suffix(MAGIC).and_then(|rest| rest.split_last_chunk::<LENGTH_BYTES>());
    let (front, length) = front.ok_or_else(cut)?;
    let length = usize::try_from(i32::from_le_bytes(*length)).map_err(|_| cut())?;
    let start = front.len().checked_sub(length).filter(|start| *start >= MAGIC.len()).ok_or_else(cut)?;
    let footer = root_as_footer(&front[start..]).map_err(|e| format!("a damaged footer: {e}"))?;
    let schema = footer.schema().ok_or("a footer without a schema")?;
    let mut found = Messages::new(schema, footer.version(), start..front.len())?;
    for block in footer.dictionaries().into_iter().flatten() {
        let message = of_block(bytes, block)?;
        found.add_dictionary(bytes, message)?;
    }
    let replaced = |(at, dictionary): (usize, &DictionaryAt)| {
        !dictionary.delta && found.dictionaries[..at].iter().any(|other| other.id == dictionary.id)
    };
    if found.dictionaries.iter().enumerate().any(replaced) {
        return Err("a dictionary that is given twice".into());
    }
    for block in footer.recordBatches().into_iter().flatten() {
        let message = of_block(bytes, block)?;
        found.add_batch(bytes, message)?;
    }
    found.ended = true;
    Ok(found)
}

/// The message of a footer's entry.
fn of_block(bytes: &[u8], block: &Block) -> Result<MessageAt, String> {
    let wrong =
        || format!("a block of {} and {} bytes at {}", block.metaDataLength(), block.bodyLength(), block.offset());
    let start = usize::try_from(block.offset()).map_err(|_| wrong())?;
    let length = usize::try_from(block.metaDataLength()).map_err(|_| wrong())?;
    let body = usize::try_from(block.bodyLength()).map_err(|_| wrong())?;
    let end = start.checked_add(length).ok_or_else(wrong)?;
    let body = end..end.checked_add(body).filter(|end| *end <= bytes.len()).ok_or_else(wrong)?;
    let description = bytes.get(start..end).ok_or_else(wrong)?;
    let prefix = if description.starts_with(&CONTINUATION) { 8 } else { 4 };
    if length < prefix {
        return Err(wrong());
    }
    Ok(MessageAt { description: start + prefix..end, body })
}

fn of_stream(bytes: &[u8]) -> Result<Messages, String> {
    let mut at = 0;
    let mut found: Option<Messages> = None;
    while let Some(message) = next_message(bytes, &mut at)? {
        let fb = describe(bytes, &message)?;
        match (fb.header_type(), &mut found) {
            (MessageHeader::Schema, None) => {
                let schema = fb.header_as_schema().ok_or("a schema that is not there")?;
                found = Some(Messages::new(schema, fb.version(), message.description)?);
            }
            (MessageHeader::DictionaryBatch, Some(found)) => found.add_dictionary(bytes, message)?,
            (MessageHeader::RecordBatch, Some(found)) => found.add_batch(bytes, message)?,
            (_, None) => return Err("a stream that does not begin with a schema".into()),
            (other, _) => return Err(format!("a message of type {}", other.variant_name().unwrap_or("unknown"))),
        }
    }
    let mut found = found.ok_or("a stream without a schema")?;
    // The mark of the end was read, unless the last message ends where the file does.
    found.ended = bytes.get(at.saturating_sub(4)..at) == Some(&[0; 4]) && at > found.end();
    if bytes[at..].iter().any(|byte| *byte != 0) {
        return Err(format!("{} bytes behind the end of the stream", bytes.len() - at));
    }
    Ok(found)
}

/// The message that begins at `at`, which then is its end; `None`: the stream ends there.
fn next_message(bytes: &[u8], at: &mut usize) -> Result<Option<MessageAt>, String> {
    let rest = &bytes[*at..];
    if rest.is_empty() {
        return Ok(None);
    }
    let cut = || format!("a message at byte {at} that goes beyond the end: the file is cut short", at = *at);
    if !rest.starts_with(&CONTINUATION) {
        return Err(format!("no message at byte {}: the file is damaged, or older than Arrow 0.15", *at));
    }
    let (length, _) = rest[4..].split_first_chunk::<LENGTH_BYTES>().ok_or_else(cut)?;
    let length = usize::try_from(i32::from_le_bytes(*length)).map_err(|_| cut())?;
    let start = *at + 8;
    if length == 0 {
        *at = start;
        return Ok(None);
    }
    let description = start..start.checked_add(length).filter(|end| *end <= bytes.len()).ok_or_else(cut)?;
    let message = root_as_message(&bytes[description.clone()]).map_err(|e| format!("a damaged message: {e}"))?;
    let body = usize::try_from(message.bodyLength()).map_err(|_| cut())?;
    let end = description.end.checked_add(body).filter(|end| *end <= bytes.len()).ok_or_else(cut)?;
    *at = end;
    Ok(Some(MessageAt { body: description.end..end, description }))
}

/// A message's description.
pub(super) fn describe<'b>(bytes: &'b [u8], message: &MessageAt) -> Result<Message<'b>, String> {
    root_as_message(&bytes[message.description.clone()]).map_err(|e| format!("a damaged message: {e}"))
}

impl Messages {
    fn new(schema: arrow::ipc::Schema<'_>, version: MetadataVersion, head: Range<usize>) -> Result<Messages, String> {
        if schema.endianness() != Endianness::Little {
            return Err("big-endian values".into());
        }
        if version < MetadataVersion::V4 {
            return Err("a version of the format before Arrow 0.8".into());
        }
        let schema = Arc::new(try_fb_to_schema(schema).map_err(|e| format!("a damaged schema: {e}"))?);
        let (dictionaries, batches) = (Vec::new(), Vec::new());
        Ok(Messages { schema, version, dictionaries, batches, rows: 0, head, ended: false })
    }

    fn add_dictionary(&mut self, bytes: &[u8], message: MessageAt) -> Result<(), String> {
        let fb = describe(bytes, &message)?;
        let dictionary = fb.header_as_dictionary_batch().ok_or("a dictionary that is not there")?;
        let data = dictionary.data().ok_or("a dictionary without values")?;
        checked(data, &bytes[message.body.clone()])?;
        self.dictionaries.push(DictionaryAt { message, id: dictionary.id(), delta: dictionary.isDelta() });
        Ok(())
    }

    fn add_batch(&mut self, bytes: &[u8], message: MessageAt) -> Result<(), String> {
        let fb = describe(bytes, &message)?;
        let batch = fb.header_as_record_batch().ok_or("a record batch that is not there")?;
        let numbers: BatchNumbers = checked(batch, &bytes[message.body.clone()])?;
        let variadic: Vec<i64> = batch.variadicBufferCounts().into_iter().flatten().collect();
        let layouts = layouts(&self.schema, &variadic);
        let (nodes, buffers) = layouts.last().map_or((0, 0), |last| (last.nodes.end, last.buffers.end));
        if (nodes, buffers) != (numbers.nodes.len(), numbers.decompressed.len()) {
            return Err(format!(
                "a record batch of {} arrays and {} buffers, where the schema has {nodes} and {buffers}",
                numbers.nodes.len(),
                numbers.decompressed.len()
            ));
        }
        if layouts.iter().any(|column| numbers.nodes[column.nodes.start] != numbers.rows) {
            return Err(format!("a record batch of {} rows with columns of other lengths", numbers.rows));
        }
        let misplaced = !message.body.start.is_multiple_of(ALIGNMENT);
        let all = message.body.len() as u64;
        let heap = |column| if misplaced { all } else { numbers.heap_bytes(column) };
        self.batches.push(BatchAt {
            first_row: self.rows,
            rows: numbers.rows,
            dictionaries: self.dictionaries.len(),
            heap_bytes: layouts.iter().map(heap).collect(),
            values: layouts.iter().map(|column| numbers.values(column)).collect(),
            message,
        });
        self.rows = self.rows.checked_add(numbers.rows).filter(|rows| *rows <= ROWS_MAX).ok_or("too many rows")?;
        Ok(())
    }

    /// Where the last message ends.
    fn end(&self) -> usize {
        let bodies = self.batches.iter().map(|batch| &batch.message);
        let all = bodies.chain(self.dictionaries.iter().map(|dictionary| &dictionary.message));
        all.map(|message| message.body.end).max().unwrap_or(self.head.end)
    }
}
