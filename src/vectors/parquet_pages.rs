//! A look at the headers of a column's pages before they are decoded. Pure.
//!
//! The reader reserves memory for a page as its header says, and fills it: two gigabytes for a page of some bytes. So a
//! header must not claim more than the footer says of the whole column. What else is wrong, the reader finds.

use super::thrift::{STRUCTURES_MAX, Walk, kind};

/// Bytes by which a page may be larger than its column: some writers leave headers out of the count.
const SLACK_BYTES: i64 = 1 << 20;

/// Fields of a page's header.
const DECOMPRESSED: i16 = 2;
const COMPRESSED: i16 = 3;
/// The headers of data pages and of dictionaries, whose first field is the number of values.
const VALUED: [i16; 3] = [5, 7, 8];
const DICTIONARY: i16 = 7;
const VALUES: i16 = 1;

/// What a page's header says.
#[derive(Debug, Default)]
pub(super) struct PageHeader {
    /// Bytes of the header itself.
    pub(super) header_bytes: usize,
    /// Bytes of the page, once decompressed and as it is stored.
    pub(super) decompressed: i64,
    pub(super) compressed: i64,
    pub(super) values: i64,
    pub(super) is_dictionary: bool,
}

/// Fails where a page claims what its column cannot have. `pages`: the bytes of the column's pages, as far as they are
/// there; `decompressed`: the bytes of all of them, decompressed, by the footer.
///
/// # Errors
/// What is wrong.
pub(super) fn check_pages(pages: &[u8], decompressed: i64) -> Result<(), String> {
    let mut rest = pages;
    loop {
        let mut walk = Walk::new(rest);
        let Some(page) = header_at(&mut walk) else {
            // The reader would go through all elements, though the bytes have ended.
            return match walk.overlong() {
                Some(count) => Err(format!("a list of {count} elements in a page's header of {} bytes", rest.len())),
                None => Ok(()),
            };
        };
        if page.decompressed > decompressed.saturating_add(SLACK_BYTES) {
            return Err(format!(
                "a page of {} bytes in a column that has {decompressed} bytes in this row group",
                page.decompressed
            ));
        }
        if page.values < 0 || (page.is_dictionary && page.values > page.decompressed) {
            return Err(format!("a page of {} values in {} bytes", page.values, page.decompressed));
        }
        let next = usize::try_from(page.compressed).ok().and_then(|bytes| bytes.checked_add(page.header_bytes));
        let Some(next) = next.and_then(|next| rest.get(next..)) else { return Ok(()) };
        rest = next;
    }
}

/// The header that bytes begin with, if it is one. What it lacks is zero.
pub(super) fn header(bytes: &[u8]) -> Option<PageHeader> {
    header_at(&mut Walk::new(bytes))
}

fn header_at(walk: &mut Walk<'_>) -> Option<PageHeader> {
    let mut page = PageHeader::default();
    let each = |walk: &mut Walk<'_>, kind: u8, id: i16| match (kind, id) {
        (kind::I32, DECOMPRESSED) => {
            page.decompressed = walk.signed()?;
            Some(true)
        }
        (kind::I32, COMPRESSED) => {
            page.compressed = walk.signed()?;
            Some(true)
        }
        (kind::STRUCT, id) if VALUED.contains(&id) => {
            page.values = values(walk)?;
            page.is_dictionary = id == DICTIONARY;
            Some(true)
        }
        _ => Some(false),
    };
    walk.structure(each, STRUCTURES_MAX)?;
    page.header_bytes = walk.at();
    Some(page)
}

/// The first field of a page's own header: its number of values.
fn values(walk: &mut Walk<'_>) -> Option<i64> {
    let mut values = 0;
    let each = |walk: &mut Walk<'_>, kind: u8, id: i16| match (kind, id) {
        (kind::I32, VALUES) => {
            values = walk.signed()?;
            Some(true)
        }
        _ => Some(false),
    };
    walk.structure(each, STRUCTURES_MAX)?;
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of a type, with sizes and a number of values: fields 1, 2 and 3, and a header in field 5 or 7.
    fn page(own: u8, decompressed: u32, compressed: u8, values: u8) -> Vec<u8> {
        let mut bytes = vec![0x15, 0, 0x15];
        let mut number = u64::from(decompressed) * 2;
        while number >= 0x80 {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        bytes.extend([number as u8, 0x15, compressed * 2, (own - 3) << 4 | 0x0c, 0x15, values, 0, 0]);
        bytes.resize(bytes.len() + usize::from(compressed), 7);
        bytes
    }

    #[test]
    fn pages_that_claim_more_than_their_column_are_refused() {
        assert_eq!(check_pages(&[page(7, 30, 10, 8), page(5, 40, 40, 24)].concat(), 70), Ok(()));
        let large = [page(7, 30, 10, 8), page(5, i32::MAX as u32, 40, 24)].concat();
        assert!(check_pages(&large, 70).unwrap_err().contains("2147483647 bytes in a column that has 70"));
        // Zigzag: 61 is -31, 62 is 31.
        assert!(check_pages(&page(5, 30, 10, 61), 70).unwrap_err().contains("-31 values"));
        assert!(check_pages(&page(7, 30, 10, 62), 70).unwrap_err().contains("31 values in 30 bytes"));
        // A list of 2^31 - 1 doubles in a field that is not known, and of as many truth values.
        for own in [7, 2] {
            let list = [0x15, 0, 0x15, 2, 0x15, 2, 0xc9, 0xf0 | own, 0xff, 0xff, 0xff, 0xff, 7, 0, 0];
            assert!(check_pages(&list, 70).unwrap_err().contains("a list of 2147483647 elements"));
        }
        // What the reader finds by itself.
        assert_eq!(check_pages(&page(5, 30, 10, 8)[..9], 70), Ok(()));
        assert_eq!(check_pages(&[0xff; 30], 70), Ok(()));
    }
}
