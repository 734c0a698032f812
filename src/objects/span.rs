//! In which pieces a stretch of a file is fetched. Pure.

use std::ops::Range;

/// Bytes of a block: what is fetched at a time. Contents are hashed in the same blocks.
pub(crate) const BLOCK_BYTES: u64 = 4 << 20;

/// What is fetched at a time outside of a stretch.
const OUTSIDE_BYTES: u64 = 64 << 10;

/// A stretch of a file that a reader goes through, such as a column in a row group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) range: Range<u64>,
    /// Nothing but the stretch is fetched; else the file's blocks in which it lies, which other readers can use too.
    pub(crate) exact: bool,
}

#[cfg_attr(not(any(test, feature = "lake")), expect(dead_code, reason = "nothing is fetched"))]
impl Span {
    /// The piece in which a byte of the stretch lies, in a file of so many bytes.
    pub(crate) fn piece(&self, at: u64, bytes: u64) -> Range<u64> {
        if self.exact && !self.range.contains(&at) {
            // Behind the stretch, where a decoder looks for the end of a header.
            return at..bytes.min(at.saturating_add(OUTSIDE_BYTES));
        }
        let (first, end) = if self.exact { (self.range.start, self.range.end.min(bytes)) } else { (0, bytes) };
        let start = first + at.saturating_sub(first) / BLOCK_BYTES * BLOCK_BYTES;
        start..end.min(start.saturating_add(BLOCK_BYTES))
    }

    /// The piece to fetch ahead while a byte of the stretch is read: the next one, once half of this one is behind.
    pub(crate) fn ahead(&self, at: u64, bytes: u64) -> Option<Range<u64>> {
        let piece = self.piece(at, bytes);
        let next = piece.end;
        let is_late = at.saturating_sub(piece.start.max(self.range.start)) >= BLOCK_BYTES / 2;
        (is_late && next < self.range.end.min(bytes)).then(|| self.piece(next, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: u64 = BLOCK_BYTES;

    #[test]
    fn pieces_cover_a_stretch_and_are_no_longer_than_a_block() {
        let exact = Span { range: 10..B + 30, exact: true };
        assert_eq!([exact.piece(10, 9 * B), exact.piece(B + 9, 9 * B)], [10..B + 10, 10..B + 10]);
        assert_eq!(exact.piece(B + 10, 9 * B), B + 10..B + 30);
        assert_eq!(exact.piece(B + 30, 9 * B), B + 30..B + 30 + OUTSIDE_BYTES, "a piece has the byte it is of");
        let blocks = Span { exact: false, ..exact };
        assert_eq!([blocks.piece(10, 2 * B), blocks.piece(B + 29, B + 40)], [0..B, B..B + 40]);
    }

    #[test]
    fn the_next_piece_is_fetched_from_the_middle_of_one_on() {
        let span = Span { range: 0..3 * B, exact: false };
        assert_eq!(span.ahead(0, 9 * B), None);
        assert_eq!(span.ahead(B / 2, 9 * B), Some(B..2 * B));
        assert_eq!(span.ahead(2 * B + B / 2, 9 * B), None, "nothing behind the stretch is fetched");
        // Where a stretch begins near the end of a block, its first bytes are no sign that it will be read on.
        let late = Span { range: B - 10..3 * B, exact: false };
        assert_eq!(late.ahead(B - 10, 9 * B), None);
    }
}
