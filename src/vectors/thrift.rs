//! A walk through bytes of Thrift's compact protocol, in which Parquet describes files and pages. Pure.
//!
//! It reserves nothing, and goes as deep as it is told. Each step takes a byte at least. What the library's own walk
//! goes through without a byte for each element is refused: it has no byte for a truth value in a list or map that it
//! passes over, and would count two milliards of them.

/// Types of fields.
pub(super) mod kind {
    pub(in crate::vectors) const STOP: u8 = 0;
    pub(in crate::vectors) const TRUE: u8 = 1;
    pub(in crate::vectors) const FALSE: u8 = 2;
    pub(in crate::vectors) const BYTE: u8 = 3;
    pub(in crate::vectors) const I16: u8 = 4;
    pub(in crate::vectors) const I32: u8 = 5;
    pub(in crate::vectors) const I64: u8 = 6;
    pub(in crate::vectors) const DOUBLE: u8 = 7;
    pub(in crate::vectors) const BINARY: u8 = 8;
    pub(in crate::vectors) const LIST: u8 = 9;
    pub(in crate::vectors) const SET: u8 = 10;
    pub(in crate::vectors) const MAP: u8 = 11;
    pub(in crate::vectors) const STRUCT: u8 = 12;
    pub(in crate::vectors) const UUID: u8 = 13;
}

/// Most levels of structures that are walked; Parquet needs eight.
pub(super) const STRUCTURES_MAX: usize = 32;

/// A walk. None: the bytes end too early, or are no such bytes.
pub(super) struct Walk<'b> {
    bytes: &'b [u8],
    at: usize,
    fault: Option<String>,
}

impl<'b> Walk<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Walk<'b> {
        Walk { bytes, at: 0, fault: None }
    }

    /// Bytes that were walked.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Why the walk ended, where it is a list or map that nobody should go through.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    fn fails(&mut self, fault: String) -> Option<()> {
        self.fault = Some(fault);
        None
    }

    /// Goes on if the bytes that are left can hold so many elements.
    fn fits(&mut self, count: u64, of: &str) -> Option<()> {
        let left = (self.bytes.len() - self.at) as u64;
        if count > left { self.fails(format!("a {of} of {count} elements in {left} bytes")) } else { Some(()) }
    }

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

    /// A whole number with a sign.
    pub(super) fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    fn pass(&mut self, bytes: u64) -> Option<()> {
        self.at = self.at.checked_add(usize::try_from(bytes).ok()?).filter(|end| *end <= self.bytes.len())?;
        Some(())
    }

    /// The type and the number of the next field of a structure, behind that of number `last`.
    pub(super) fn field(&mut self, last: i16) -> Option<(u8, i16)> {
        let byte = self.byte()?;
        let kind = byte & 0x0f;
        match byte >> 4 {
            _ if kind == kind::STOP => Some((kind, 0)),
            0 => Some((kind, i16::try_from(self.signed()?).ok()?)),
            more => Some((kind, last.checked_add(i16::from(more))?)),
        }
    }

    /// The type of a list's elements, and their number, which the bytes that are left can hold.
    pub(super) fn list(&mut self) -> Option<(u8, u64)> {
        let byte = self.byte()?;
        let count = if byte >> 4 == 15 { self.number()? } else { u64::from(byte >> 4) };
        self.fits(count, "list")?;
        Some((byte & 0x0f, count))
    }

    /// Goes through a structure: `each` hears of all fields, and walks those that it takes.
    pub(super) fn structure(
        &mut self,
        mut each: impl FnMut(&mut Walk<'b>, u8, i16) -> Option<bool>,
        levels: usize,
    ) -> Option<()> {
        let mut last = 0;
        loop {
            let (kind, id) = self.field(last)?;
            if kind == kind::STOP {
                return Some(());
            }
            if !each(self, kind, id)? {
                self.skip(kind, levels)?;
            }
            last = id;
        }
    }

    /// Passes over a value, down to so many levels.
    pub(super) fn skip(&mut self, kind: u8, levels: usize) -> Option<()> {
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
                self.fits(count.saturating_mul(2), "map")?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                (0..count).try_for_each(|_| {
                    self.element(kinds >> 4, levels)?;
                    self.element(kinds & 0x0f, levels)
                })
            }
            // No closure here: one that called this function would be of an endless type.
            kind::STRUCT => loop {
                // Numbers of fields are of no interest, so that none is too large.
                match self.field(0)? {
                    (kind::STOP, _) => return Some(()),
                    (kind, _) => self.skip(kind, levels)?,
                }
            },
            _ => None,
        }
    }

    /// Elements of lists and maps.
    fn element(&mut self, kind: u8, levels: usize) -> Option<()> {
        match kind {
            kind::TRUE | kind::FALSE => self.fails("a list or map of truth values".into()),
            kind => self.skip(kind, levels),
        }
    }
}
