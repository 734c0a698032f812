//! Reversed edges, sorted in memory, as runs.
//!
//! Lists come in the order of their sources. So each row's reversed edges are in order if each is put behind those that
//! the row has already: a counting sort, O(edges), without comparisons. All places are cut into as many *shares* as
//! there are threads; each thread reads all lists for the rows of its share.
//!
//! Memory: 4 bytes an edge, 4 bytes a row, and the encoded run.

use std::ops::Range;

use rayon::prelude::*;

use super::file::{BLOCK_EDGES, EncodedRange, encode_rows};
use super::rows::{Edge, Relation};
use crate::error::Result;
use crate::neighbors::Windows;
use crate::vectors::{Place, PlaceRange};

/// Edges that one call of the encoder takes, about.
const ENCODE_EDGES: usize = 32 * BLOCK_EDGES;
/// Bit of a suspect; a source has the others.
const SUSPECT: u32 = 1 << 31;

/// How many of the lists of some places each row is in, as suspect or preferred negative. O(threads · edges).
pub(crate) fn in_degrees(windows: &Windows<'_>, places: PlaceRange) -> Vec<u32> {
    let mut degrees = vec![0; windows.places().len()];
    let share = share_rows(degrees.len());
    degrees.par_chunks_mut(share).enumerate().for_each(|(number, degrees)| {
        let first = (number * share) as u32;
        for place in places {
            for (_, other) in windows.of(place).partners() {
                if let Some(degree) = degrees.get_mut(other.number().wrapping_sub(first) as usize) {
                    *degree += 1;
                }
            }
        }
    });
    degrees
}

/// Rows of a thread's share.
fn share_rows(rows: usize) -> usize {
    rows.div_ceil(rayon::current_num_threads()).max(1)
}

/// The reversed edges of some lists, by row.
#[derive(Debug)]
pub(crate) struct Reversed {
    /// Where each row's edges end.
    ends: Vec<u32>,
    /// Sources' places, with a bit for suspects.
    sources: Vec<u32>,
}

impl Reversed {
    /// Reverses the lists of consecutive places. O(threads · edges).
    pub(crate) fn new(windows: &Windows<'_>, places: PlaceRange) -> Reversed {
        let mut ends = in_degrees(windows, places);
        let mut total = 0;
        // Each becomes the row's start, and moves to its end as edges come in.
        for end in &mut ends {
            (*end, total) = (total, total + *end);
        }
        let share = share_rows(ends.len());
        let starts: Vec<u32> = ends.iter().step_by(share).copied().chain([total]).collect();
        let mut sources = vec![0; total as usize];
        let (mut shares, mut left) = (Vec::with_capacity(starts.len()), &mut sources[..]);
        for bounds in starts.windows(2) {
            let (own, rest) = left.split_at_mut((bounds[1] - bounds[0]) as usize);
            shares.push((bounds[0], own));
            left = rest;
        }
        ends.par_chunks_mut(share).zip(shares).enumerate().for_each(|(number, (ends, (start, sources)))| {
            let first = (number * share) as u32;
            for place in places {
                let window = windows.of(place);
                for (rank, other) in window.partners() {
                    if let Some(end) = ends.get_mut(other.number().wrapping_sub(first) as usize) {
                        let suspect = if window.is_suspect(rank) { SUSPECT } else { 0 };
                        sources[(*end - start) as usize] = place.number() | suspect;
                        *end += 1;
                    }
                }
            }
        });
        Reversed { ends, sources }
    }

    fn start(&self, row: usize) -> u32 {
        if row == 0 { 0 } else { self.ends[row - 1] }
    }

    /// Adds each row's number of edges to what it has.
    pub(crate) fn add_degrees(&self, degrees: &mut [u32]) {
        let mut start = 0;
        for (degree, end) in degrees.iter_mut().zip(&self.ends) {
            *degree += end - start;
            start = *end;
        }
    }

    /// Encodes the edges as a run. O(edges).
    ///
    /// # Errors
    /// zstd fails.
    pub(crate) fn encode(&self) -> Result<EncodedRange> {
        let pieces: Vec<EncodedRange> =
            self.pieces().into_par_iter().map(|rows| self.encode_piece(rows)).collect::<Result<_, _>>()?;
        Ok(EncodedRange::joined(pieces))
    }

    /// Cuts the rows where they have about `ENCODE_EDGES` edges; ranges of indices.
    fn pieces(&self) -> Vec<Range<usize>> {
        let (mut pieces, mut first) = (Vec::new(), 0);
        for row in 0..self.ends.len() {
            let last = row + 1 == self.ends.len();
            if last || (self.ends[row] - self.start(first)) as usize >= ENCODE_EDGES {
                pieces.push(first..row + 1);
                first = row + 1;
            }
        }
        pieces
    }

    fn encode_piece(&self, rows: Range<usize>) -> Result<EncodedRange> {
        let start = self.start(rows.start);
        let ends: Vec<u32> = self.ends[rows.clone()].iter().map(|end| end - start).collect();
        let sources = &self.sources[start as usize..self.ends[rows.end - 1] as usize];
        let edge = |source: &u32| Edge {
            other: Place::new(source & !SUSPECT),
            relation: if source & SUSPECT == 0 { Relation::WINDOW } else { Relation::SUSPECT },
        };
        encode_rows(Place::new(rows.start as u32), &ends, &sources.iter().map(edge).collect::<Vec<_>>())
    }
}
