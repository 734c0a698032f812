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
/// The first field of the headers of data pages and of dictionaries: the number of values.
const VALUES: i16 = 1;

/// Of data pages, the encoding, in both versions of their headers.
const ENCODING: i16 = 2;
const ENCODING_V2: i16 = 4;
/// The encoding DELTA_BYTE_ARRAY.
const DELTA_BYTE_ARRAY: i64 = 7;

/// The structures of a page's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Structure {
    Page,
    Data,
    Index,
    Dictionary,
    DataV2,
    Statistics,
}

impl Structure {
    /// The type of a field that the format knows, and the structure in it. (The format's `parquet.thrift`.)
    fn field(self, id: i16) -> Option<(u8, Option<Structure>)> {
        let plain = |kind: u8| Some((kind, None));
        let within = |structure: Structure| Some((kind::STRUCT, Some(structure)));
        match (self, id) {
            (Structure::Page, 1..=4) | (Structure::Data, 1..=4) => plain(kind::I32),
            (Structure::Page, 5) => within(Structure::Data),
            (Structure::Page, 6) => within(Structure::Index),
            (Structure::Page, 7) => within(Structure::Dictionary),
            (Structure::Page, 8) => within(Structure::DataV2),
            (Structure::Data, 5) | (Structure::DataV2, 8) => within(Structure::Statistics),
            (Structure::Dictionary, 1..=2) | (Structure::DataV2, 1..=6) => plain(kind::I32),
            (Structure::Dictionary, 3) | (Structure::DataV2, 7) | (Structure::Statistics, 7..=8) => plain(kind::TRUE),
            (Structure::Statistics, 1..=2 | 5..=6) => plain(kind::BINARY),
            (Structure::Statistics, 3..=4) => plain(kind::I64),
            _ => None,
        }
    }
}

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
    /// Values are what they do not share with the one before (the encoding DELTA_BYTE_ARRAY).
    pub(super) shares_prefixes: bool,
}

/// Fails where a page claims what its column cannot have, or has a header that the reader would not get through.
/// `bytes`: those of the file, from the column's first page on; `length`: how many of them are the column's;
/// `decompressed`: how many its pages have, decompressed, by the footer. The reader does not stop at the column's end
/// in the midst of a header, and neither does this. O(pages).
///
/// # Errors
/// What is wrong.
pub(super) fn check_pages(bytes: &[u8], length: usize, decompressed: i64) -> Result<(), String> {
    let mut at = 0usize;
    while at < length.min(bytes.len()) {
        let rest = &bytes[at..];
        let (mut walk, mut mistyped) = (Walk::new(rest), None);
        let Some(page) = header_at(&mut walk, &mut mistyped) else {
            return Err(match (walk.fault(), mistyped) {
                (Some(fault), _) => format!("{fault}, in a page's header"),
                // The reader knows a field by its number alone, and would read its value as another one.
                (None, Some((kind, id))) => format!("a page's header whose field {id} has the type {kind}"),
                (None, None) => format!("a page's header that is damaged at its byte {}", walk.at()),
            });
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
        // A negative length the reader refuses by itself.
        let Some(next) = next.and_then(|next| at.checked_add(next)) else { return Ok(()) };
        at = next;
    }
    Ok(())
}

/// The header that bytes begin with, if it is one. What it lacks is zero.
pub(super) fn header(bytes: &[u8]) -> Option<PageHeader> {
    header_at(&mut Walk::new(bytes), &mut None)
}

/// The same at a walk; `mistyped` becomes the type and the number of a known field that has another type.
fn header_at(walk: &mut Walk<'_>, mistyped: &mut Option<(u8, i16)>) -> Option<PageHeader> {
    let mut page = PageHeader::default();
    go_through(walk, Structure::Page, &mut page, mistyped)?;
    page.header_bytes = walk.at();
    Some(page)
}

/// Goes through a structure and those in it: three levels, as their kinds say.
fn go_through(
    walk: &mut Walk<'_>,
    structure: Structure,
    page: &mut PageHeader,
    mistyped: &mut Option<(u8, i16)>,
) -> Option<()> {
    let mut last = 0;
    loop {
        let (kind, id) = walk.field(last)?;
        if kind == kind::STOP {
            return Some(());
        }
        last = id;
        match structure.field(id) {
            None => walk.skip(kind, STRUCTURES_MAX)?,
            Some((due, _)) if due != if kind == kind::FALSE { kind::TRUE } else { kind } => {
                *mistyped = Some((kind, id));
                return None;
            }
            Some((_, Some(within))) => {
                page.is_dictionary |= within == Structure::Dictionary;
                go_through(walk, within, page, mistyped)?;
            }
            Some((kind::I32, _)) => {
                let number = walk.signed()?;
                match (structure, id) {
                    (Structure::Page, DECOMPRESSED) => page.decompressed = number,
                    (Structure::Page, COMPRESSED) => page.compressed = number,
                    (Structure::Data | Structure::Dictionary | Structure::DataV2, VALUES) => page.values = number,
                    (Structure::Data, ENCODING) | (Structure::DataV2, ENCODING_V2) => {
                        page.shares_prefixes = number == DELTA_BYTE_ARRAY;
                    }
                    _ => {}
                }
            }
            Some(_) => walk.skip(kind, STRUCTURES_MAX)?,
        }
    }
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

    fn check(pages: &[u8]) -> Result<(), String> {
        check_pages(pages, pages.len(), 70)
    }

    #[test]
    fn pages_that_claim_more_than_their_column_are_refused() {
        assert_eq!(check(&[page(7, 30, 10, 8), page(5, 40, 40, 24)].concat()), Ok(()));
        let large = [page(7, 30, 10, 8), page(5, i32::MAX as u32, 40, 24)].concat();
        assert!(check(&large).unwrap_err().contains("2147483647 bytes in a column that has 70"));
        // Zigzag: 61 is -31, 62 is 31.
        assert!(check(&page(5, 30, 10, 61)).unwrap_err().contains("-31 values"));
        assert!(check(&page(7, 30, 10, 62)).unwrap_err().contains("31 values in 30 bytes"));
        // A list of 2^31 - 1 doubles in a field that is not known, and of as many truth values.
        for own in [7, 2] {
            let list = [0x15, 0, 0x15, 2, 0x15, 2, 0xc9, 0xf0 | own, 0xff, 0xff, 0xff, 0xff, 7, 0, 0];
            assert!(check(&list).unwrap_err().contains("a list of 2147483647 elements"));
        }
        // A list in the place of a number, of a structure, and of statistics.
        for (at, own) in [(1, 0x19), (5, 0x29)] {
            let mut mistyped = page(5, 30, 10, 8);
            mistyped[at - 1] = own;
            assert!(check(&mistyped).unwrap_err().contains("has the type 9"), "{at}");
        }
        // Truth values in a list and in a map, of which the library's walk takes no byte.
        for collection in [vec![0xc9, 0xf1, 100], vec![0xcb, 100, 0x21]] {
            let header = [&[0x15, 0, 0x15, 2, 0x15, 2], &collection[..], &[1; 250]].concat();
            assert!(check(&header).unwrap_err().starts_with("a list or map of truth values"));
        }
        assert!(check(&[0xff; 30]).unwrap_err().contains("damaged at its byte 1"));
        // A header that ends behind the column is what the reader reads; its page the reader misses by itself.
        let whole = page(5, 30, 10, 8);
        assert_eq!(check_pages(&whole, 9, 70), Ok(()));
        assert_eq!(check(&whole[..whole.len() - 3]), Ok(()));
        assert!(check(&whole[..9]).unwrap_err().contains("damaged at its byte 9"));
    }
}
