//! Reversed arcs, sorted in memory, as runs.
//!
//! Memory: 8 bytes an arc for the buffer, and the encoded run.

use rayon::prelude::*;

use super::file::{BLOCK_ARCS, EncodedRange};
use super::rows::{Arc, Kind};
use crate::vectors::RowId;

/// Arcs that one task of the encoder takes.
const ENCODE_ARCS: usize = 32 * BLOCK_ARCS;

/// A reversed arc as one sortable number: the row, the source, the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reversed(u64);

impl Reversed {
    /// "`row` stands in `source`'s list".
    #[inline]
    pub fn new(row: RowId, source: RowId, kind: Kind) -> Self {
        Reversed(u64::from(row) << 33 | u64::from(source) << 2 | u64::from(kind.code()))
    }

    fn row(self) -> RowId {
        (self.0 >> 33) as RowId
    }

    fn arc(self) -> Arc {
        let kind = if self.0 & 3 == u64::from(Kind::WINDOW.code()) { Kind::WINDOW } else { Kind::SUSPECT };
        Arc { row: (self.0 >> 2) as RowId & (RowId::MAX >> 1), kind }
    }
}

/// Sorts the arcs and encodes them as a run over `rows` rows. O(arcs log arcs).
///
/// # Errors
/// zstd fails.
pub fn encode_run(arcs: &mut [Reversed], rows: RowId) -> std::io::Result<EncodedRange> {
    arcs.par_sort_unstable();
    // Cut where a row begins, near every ENCODE_ARCS-th arc.
    let mut cuts = vec![0];
    let mut at = 0;
    while at < arcs.len() {
        let near = (at + ENCODE_ARCS).min(arcs.len());
        at = match arcs.get(near) {
            Some(next) => near + arcs[near..].partition_point(|arc| arc.row() == next.row()),
            None => near,
        };
        cuts.push(at);
    }
    let pieces: Vec<&[Reversed]> = cuts.windows(2).map(|cut| &arcs[cut[0]..cut[1]]).collect();
    let starts: Vec<RowId> = (0..pieces.len())
        .map(|piece| if piece == 0 { 0 } else { pieces[piece - 1].last().map_or(0, |a| a.row() + 1) })
        .collect();
    let ends = starts.iter().skip(1).copied().chain([rows]);
    let encoded: Vec<EncodedRange> = pieces
        .par_iter()
        .zip(starts.par_iter().zip(ends.collect::<Vec<_>>()))
        .map(|(piece, (start, end))| encode_piece(piece, *start..end))
        .collect::<Result<_, _>>()?;
    let mut run = EncodedRange::default();
    encoded.into_iter().for_each(|piece| run.append(piece));
    if arcs.is_empty() && rows > 0 {
        run = encode_piece(&[], 0..rows)?;
    }
    Ok(run)
}

fn encode_piece(piece: &[Reversed], rows: std::ops::Range<RowId>) -> std::io::Result<EncodedRange> {
    let arcs: Vec<Arc> = piece.iter().map(|arc| arc.arc()).collect();
    let mut ends = Vec::with_capacity(rows.len());
    let mut at = 0;
    for row in rows.clone() {
        at += piece[at..].partition_point(|arc| arc.row() == row);
        ends.push(at as u32);
    }
    super::file::encode_rows(rows.start, &ends, &arcs)
}
