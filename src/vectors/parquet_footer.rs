//! A look at a Parquet file's footer before it is parsed: its length, and how deep and wide its schema is. Pure.
//!
//! The parser recurses into each group of the schema and reserves memory for as many children as a group claims. So a
//! footer of some kilobytes could end the process. Here it is walked once, with a stack of its own.

use bytes::Bytes;
use parquet::file::reader::ChunkReader;

use super::thrift::{STRUCTURES_MAX, Walk, kind};

/// Most levels of groups in a schema.
const LEVELS_MAX: usize = 64;
/// Longest footer that is read.
const FOOTER_MAX: u64 = 512 << 20;
/// Bytes at the end of a file: the footer's length, and the magic.
pub(super) const TRAILER_BYTES: u64 = 8;
/// A magic at each end, and the footer's length.
const LEAST_BYTES: u64 = 12;

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
    let mut walk = Walk::new(footer);
    let damaged = |walk: &Walk<'_>| format!("a footer that is damaged at its byte {} of {}", walk.at(), footer.len());
    let mut last = 0;
    loop {
        let Some((kind, id)) = walk.field(last) else { return Err(damaged(&walk)) };
        if kind == kind::STOP {
            return Ok(());
        }
        let walked = match (kind, id) {
            (kind::LIST, SCHEMA) => schema(&mut walk)?,
            _ => walk.skip(kind, STRUCTURES_MAX),
        };
        if walked.is_none() {
            return Err(damaged(&walk));
        }
        last = id;
    }
}

/// Walks the schema: fails if it is too deep, or a group claims more children than there are elements.
fn schema(walk: &mut Walk<'_>) -> Result<Option<()>, String> {
    let Some((kind::STRUCT, count)) = walk.list() else { return Ok(None) };
    // Children that each open group waits for.
    let mut open: Vec<u64> = Vec::new();
    for _ in 0..count {
        let Some(children) = children(walk) else { return Ok(None) };
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
fn children(walk: &mut Walk<'_>) -> Option<i64> {
    let mut children = 0;
    let mut each = |walk: &mut Walk<'_>, kind: u8, id: i16| match (kind, id) {
        (kind::I32, CHILDREN) => {
            children = walk.signed()?;
            Some(true)
        }
        _ => Some(false),
    };
    walk.structure(&mut each, STRUCTURES_MAX)?;
    Some(children)
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
