//! Reversed arcs, sorted in memory, as runs.
//!
//! Lists come in the order of their sources. So each row's reversed arcs are in order if they are put, list after
//! list, where the row's own stretch has got to: a counting sort, O(arcs), without comparisons. Each thread takes the
//! rows of one stretch and reads all lists for it.
//!
//! Memory: 4 bytes an arc, 4 bytes a row, and the encoded run.

use std::ops::Range;

use rayon::prelude::*;

use super::file::{BLOCK_ARCS, EncodedRange, encode_rows};
use super::rows::{Edge, Relation};
use crate::neighbors::Windows;
use crate::vectors::RowId;

/// Arcs that one task of the encoder takes.
const ENCODE_ARCS: usize = 32 * BLOCK_ARCS;
/// Bit of a suspect; a source has the others.
const SUSPECT: u32 = 1 << 31;

/// How many lists of some places each row stands in, as suspect or preferred negative. O(stretches · arcs).
pub(crate) fn in_degrees(windows: &Windows<'_>, places: Range<RowId>) -> Vec<u32> {
    let mut degrees = vec![0; windows.rows() as usize];
    let stretch = stretch_rows(windows.rows());
    degrees.par_chunks_mut(stretch).enumerate().for_each(|(number, degrees)| {
        let first = (number * stretch) as RowId;
        for place in places.clone() {
            for other in windows.of(place).partners() {
                if let Some(degree) = degrees.get_mut(other.wrapping_sub(first) as usize) {
                    *degree += 1;
                }
            }
        }
    });
    degrees
}

/// Rows of a stretch: one for each thread.
fn stretch_rows(rows: RowId) -> usize {
    (rows as usize).div_ceil(rayon::current_num_threads()).max(1)
}

/// The reversed arcs of some lists, by row.
#[derive(Debug)]
pub(crate) struct Reversed {
    /// Where each row's arcs end.
    ends: Vec<u32>,
    /// Sources, with a bit for suspects.
    sources: Vec<u32>,
}

impl Reversed {
    /// Turns the lists of consecutive places round. O(stretches · arcs).
    pub(crate) fn new(windows: &Windows<'_>, places: Range<RowId>) -> Reversed {
        let mut ends = in_degrees(windows, places.clone());
        let mut total = 0;
        // Each becomes the row's start, and its end as arcs come in.
        for end in &mut ends {
            (*end, total) = (total, total + *end);
        }
        let stretch = stretch_rows(windows.rows());
        let starts: Vec<u32> = ends.iter().step_by(stretch).copied().chain([total]).collect();
        let mut sources = vec![0; total as usize];
        let (mut pieces, mut left) = (Vec::with_capacity(starts.len()), &mut sources[..]);
        for bounds in starts.windows(2) {
            let (piece, rest) = left.split_at_mut((bounds[1] - bounds[0]) as usize);
            pieces.push((bounds[0], piece));
            left = rest;
        }
        ends.par_chunks_mut(stretch).zip(pieces).enumerate().for_each(|(number, (ends, (start, sources)))| {
            let first = (number * stretch) as RowId;
            for place in places.clone() {
                let window = windows.of(place);
                for (rank, other) in window.partners().iter().enumerate() {
                    if let Some(end) = ends.get_mut(other.wrapping_sub(first) as usize) {
                        sources[(*end - start) as usize] = place | if rank < window.ranks.start { SUSPECT } else { 0 };
                        *end += 1;
                    }
                }
            }
        });
        Reversed { ends, sources }
    }

    fn start(&self, row: RowId) -> u32 {
        if row == 0 { 0 } else { self.ends[row as usize - 1] }
    }

    /// Adds each row's number of arcs to what it has.
    pub(crate) fn add_degrees(&self, degrees: &mut [u32]) {
        let mut start = 0;
        for (degree, end) in degrees.iter_mut().zip(&self.ends) {
            *degree += end - start;
            start = *end;
        }
    }

    /// Encodes the arcs as a run. O(arcs).
    ///
    /// # Errors
    /// zstd fails.
    pub(crate) fn encode(&self) -> std::io::Result<EncodedRange> {
        let pieces: Vec<EncodedRange> =
            self.pieces().into_par_iter().map(|rows| self.encode_piece(rows)).collect::<Result<_, _>>()?;
        let mut run = EncodedRange::default();
        pieces.into_iter().for_each(|piece| run.append(piece));
        Ok(run)
    }

    /// Cuts rows where they have about `ENCODE_ARCS` arcs.
    fn pieces(&self) -> Vec<Range<RowId>> {
        let (mut pieces, mut first) = (Vec::new(), 0);
        for row in 0..self.ends.len() as RowId {
            let last = row + 1 == self.ends.len() as RowId;
            if last || (self.ends[row as usize] - self.start(first)) as usize >= ENCODE_ARCS {
                pieces.push(first..row + 1);
                first = row + 1;
            }
        }
        pieces
    }

    fn encode_piece(&self, rows: Range<RowId>) -> std::io::Result<EncodedRange> {
        let start = self.start(rows.start);
        let ends: Vec<u32> = self.ends[rows.start as usize..rows.end as usize].iter().map(|end| end - start).collect();
        let sources = &self.sources[start as usize..self.ends[rows.end as usize - 1] as usize];
        let arc = |source: &u32| Edge {
            row: source & !SUSPECT,
            relation: if source & SUSPECT == 0 { Relation::WINDOW } else { Relation::SUSPECT },
        };
        encode_rows(rows.start, &ends, &sources.iter().map(arc).collect::<Vec<_>>())
    }
}
