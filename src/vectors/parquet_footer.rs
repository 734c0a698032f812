//! A look at a Parquet file's footer before it is parsed: its length, and how deep and wide its schema is. Pure.
//!
//! The parser recurses into each group of the schema and reserves memory for as many children as a group claims. So a
//! footer of some kilobytes could end the process. Here it is walked once, with a stack of its own.

use bytes::Bytes;
use parquet::file::reader::ChunkReader;

/// Most levels of groups in a schema.
const LEVELS_MAX: usize = 64;
/// Most levels of structures in the footer itself; the format needs eight.
const STRUCTURES_MAX: usize = 32;
/// Longest footer that is read.
const FOOTER_MAX: u64 = 512 << 20;
/// Bytes at the end of a file: the footer's length, and the magic.
pub(super) const TRAILER_BYTES: u64 = 8;
/// A magic at each end, and the footer's length.
const LEAST_BYTES: u64 = 12;

/// Types of fields in Thrift's compact protocol.
mod kind {
    pub(super) const STOP: u8 = 0;
    pub(super) const TRUE: u8 = 1;
    pub(super) const FALSE: u8 = 2;
    pub(super) const BYTE: u8 = 3;
    pub(super) const I16: u8 = 4;
    pub(super) const I32: u8 = 5;
    pub(super) const I64: u8 = 6;
    pub(super) const DOUBLE: u8 = 7;
    pub(super) const BINARY: u8 = 8;
    pub(super) const LIST: u8 = 9;
    pub(super) const SET: u8 = 10;
    pub(super) const MAP: u8 = 11;
    pub(super) const STRUCT: u8 = 12;
    pub(super) const UUID: u8 = 13;
}

/// The footer's field with the schema, and the field of a schema's element with the number of its children.
const SCHEMA: i16 = 2;
const CHILDREN: i16 = 5;

/// The footer's bytes, if the parser can take them.
///
/// # Errors
/// What is wrong with the footer.
pub(crate) fn footer_of(file: &impl ChunkReader) -> Result<Bytes, String> {
    let length = file.len();
    if length < LEAST_BYTES {
        return Err(format!("{length} bytes"));
    }
    let read = |start, bytes: u64| file.get_bytes(start, bytes as usize).map_err(|e| e.to_string());
    let trailer = read(length - TRAILER_BYTES, TRAILER_BYTES)?;
    let (bytes, magic) = trailer.split_at(4);
    match magic {
        b"PAR1" => {}
        b"PARE" => return Err("an encrypted footer".into()),
        other => return Err(format!("no PAR1 at its end, but the bytes {other:02x?}: the file is cut short, or none")),
    }
    let bytes = u64::from(u32::from_le_bytes(bytes.try_into().unwrap_or_default()));
    if bytes > length - LEAST_BYTES {
        return Err(format!("a footer of {bytes} bytes in a file of {length} bytes"));
    }
    if bytes > FOOTER_MAX {
        return Err(format!("a footer of {bytes} bytes, where at most {FOOTER_MAX} are read"));
    }
    let footer = read(length - TRAILER_BYTES - bytes, bytes)?;
    check(&footer)?;
    Ok(footer)
}

/// Fails where the parser would recurse or reserve without a bound; else says nothing of the footer.
pub(super) fn check(footer: &[u8]) -> Result<(), String> {
    let mut walk = Walk { bytes: footer, at: 0 };
    let damaged = |walk: &Walk<'_>| format!("a footer that is damaged at its byte {} of {}", walk.at, footer.len());
    let mut last = 0;
    loop {
        let Some((kind, id)) = walk.field(last) else { return Err(damaged(&walk)) };
        if kind == kind::STOP {
            return Ok(());
        }
        let walked = match (kind, id) {
            (kind::LIST, SCHEMA) => walk.schema()?,
            _ => walk.skip(kind, STRUCTURES_MAX),
        };
        if walked.is_none() {
            return Err(damaged(&walk));
        }
        last = id;
    }
}

/// A walk through bytes of the compact protocol. None: they end too early, or are no such bytes.
struct Walk<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Walk<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    fn pass(&mut self, bytes: u64) -> Option<()> {
        let end = self.at.checked_add(usize::try_from(bytes).ok()?).filter(|end| *end <= self.bytes.len())?;
        self.at = end;
        Some(())
    }

    /// The type and the number of the next field.
    fn field(&mut self, last: i16) -> Option<(u8, i16)> {
        let byte = self.byte()?;
        let kind = byte & 0x0f;
        match byte >> 4 {
            _ if kind == kind::STOP => Some((kind, 0)),
            0 => Some((kind, i16::try_from(self.signed()?).ok()?)),
            more => Some((kind, last.checked_add(i16::from(more))?)),
        }
    }

    /// The type of a list's elements, and their number, which the bytes that are left can hold.
    fn list(&mut self) -> Option<(u8, u64)> {
        let byte = self.byte()?;
        let count = if byte >> 4 == 15 { self.number()? } else { u64::from(byte >> 4) };
        (count <= (self.bytes.len() - self.at) as u64).then_some((byte & 0x0f, count))
    }

    fn skip(&mut self, kind: u8, levels: usize) -> Option<()> {
        let levels = levels.checked_sub(1)?;
        match kind {
            kind::TRUE | kind::FALSE => Some(()),
            kind::BYTE => self.pass(1),
            kind::I16 | kind::I32 | kind::I64 => self.number().map(|_| ()),
            kind::DOUBLE => self.pass(8),
            kind::UUID => self.pass(16),
            kind::BINARY => {
                let bytes = self.number()?;
                self.pass(bytes)
            }
            kind::LIST | kind::SET => {
                let (element, count) = self.list()?;
                (0..count).try_for_each(|_| self.element(element, levels))
            }
            kind::MAP => {
                let count = self.number()?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                (0..count).try_for_each(|_| {
                    self.element(kinds >> 4, levels)?;
                    self.element(kinds & 0x0f, levels)
                })
            }
            kind::STRUCT => {
                let mut last = 0;
                loop {
                    let (kind, id) = self.field(last)?;
                    if kind == kind::STOP {
                        return Some(());
                    }
                    self.skip(kind, levels)?;
                    last = id;
                }
            }
            _ => None,
        }
    }

    /// Elements of lists and maps: a truth value has a byte of its own there.
    fn element(&mut self, kind: u8, levels: usize) -> Option<()> {
        match kind {
            kind::TRUE | kind::FALSE => self.pass(1),
            kind => self.skip(kind, levels),
        }
    }

    /// Walks the schema: fails if it is too deep, or a group claims more children than there are elements.
    fn schema(&mut self) -> Result<Option<()>, String> {
        let Some((kind::STRUCT, count)) = self.list() else { return Ok(None) };
        // Children that each open group waits for.
        let mut open: Vec<u64> = Vec::new();
        for _ in 0..count {
            let Some(children) = self.children() else { return Ok(None) };
            if let Some(waiting) = open.last_mut() {
                *waiting -= 1;
            }
            let children = u64::try_from(children).unwrap_or(0);
            if children > count {
                return Err(format!("a group of {children} columns in a schema of {count} elements"));
            }
            if children > 0 {
                open.push(children);
            }
            if open.len() > LEVELS_MAX {
                return Err(format!("a schema of more than {LEVELS_MAX} levels"));
            }
            while open.last() == Some(&0) {
                open.pop();
            }
        }
        Ok(Some(()))
    }

    /// Walks an element of the schema; the number of its children.
    fn children(&mut self) -> Option<i64> {
        let (mut last, mut children) = (0, 0);
        loop {
            match self.field(last)? {
                (kind::STOP, _) => return Some(children),
                (kind::I32, CHILDREN) => {
                    children = self.signed()?;
                    last = CHILDREN;
                }
                (kind, id) => {
                    self.skip(kind, STRUCTURES_MAX)?;
                    last = id;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::testing::parquet_file;

    /// A footer with nothing but a schema: of each element the number of children.
    fn schema(children: &[u32]) -> Vec<u8> {
        let mut footer = vec![0x15, 2, 0x19, 0xfc];
        let number = |mut value: u32, out: &mut Vec<u8>| {
            while value >= 0x80 {
                out.push(value as u8 | 0x80);
                value >>= 7;
            }
            out.push(value as u8);
        };
        number(children.len() as u32, &mut footer);
        for count in children {
            footer.extend([0x48, 1, b'a']); // field 4: a name
            if *count > 0 {
                footer.push(0x15); // field 5
                number(count * 2, &mut footer);
            }
            footer.push(0);
        }
        footer.push(0);
        footer
    }

    #[test]
    fn deep_and_wide_schemas_are_refused_before_the_parser_sees_them() {
        assert_eq!(check(&schema(&[2, 0, 2, 0, 0])), Ok(()));
        assert_eq!(check(&schema(&[vec![1; 63], vec![0]].concat())), Ok(()));
        assert!(check(&schema(&[vec![1; 100_000], vec![0]].concat())).unwrap_err().contains("64 levels"));
        assert!(check(&schema(&[7, 0])).unwrap_err().contains("7 columns in a schema of 2"));
        // Many groups beside one another are no depth.
        assert_eq!(check(&schema(&[vec![500], [1, 0].repeat(500)].concat())), Ok(()));
    }

    #[test]
    fn a_sound_footer_is_walked_to_its_end_and_no_prefix_of_it_is() {
        let file = Bytes::from(parquet_file([3, 2], None));
        let footer = footer_of(&file).unwrap();
        assert_eq!(check(&footer), Ok(()));
        for end in 0..footer.len() {
            assert!(check(&footer[..end]).is_err(), "{end} of {} bytes", footer.len());
        }
        for bytes in [&file[..file.len() - 1], b"PAR1\xff\xff\xff\xffPAR1", b"PAR1"] {
            assert!(footer_of(&Bytes::copy_from_slice(bytes)).is_err());
        }
    }
}
