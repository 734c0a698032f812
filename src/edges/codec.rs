//! The arcs of consecutive rows as bytes, and back. Pure.
//!
//! | bytes | content |
//! |---|---|
//! | 4 · rows | degrees, u32 |
//! | ⌈arcs / 2⌉ | kinds, 4 bits each, the lower half first |
//! | ⌈arcs / 4⌉ | lengths of the gaps in bytes − 1, 2 bits each, lowest first |
//! | | gaps, 1 to 4 bytes each, little-endian |
//! | 3 | zero |
//!
//! A row's first gap is its first neighbour itself; the others are the difference − 1. The layout is
//! that of Lemire, Kurz, Rupp, *Stream VByte* (2017), and the whole is then compressed by zstd.

use super::rows::{Adjacency, Arc, Kind};
use crate::vectors::RowId;

const PADDING: usize = 3;
const MASKS: [u32; 4] = [0xFF, 0xFFFF, 0xFF_FFFF, 0xFFFF_FFFF];

/// Encodes rows whose arcs end at `ends`. O(arcs).
pub fn encode(ends: &[u32], arcs: &[Arc], out: &mut Vec<u8>) {
    out.clear();
    let mut start = 0;
    for end in ends {
        out.extend((end - start).to_le_bytes());
        start = *end;
    }
    for pair in arcs.chunks(2) {
        let high = pair.get(1).map_or(0, |arc| arc.kind.code());
        out.push(pair[0].kind.code() | high << 4);
    }
    let controls = out.len();
    out.resize(controls + arcs.len().div_ceil(4), 0);
    let mut index = 0;
    for end in ends {
        let mut least = 0;
        while index < *end as usize {
            let gap = arcs[index].row - least;
            least = arcs[index].row + 1;
            let length = (4 - gap.leading_zeros() as usize / 8).max(1);
            out[controls + index / 4] |= ((length - 1) as u8) << (2 * (index % 4));
            out.extend(&gap.to_le_bytes()[..length]);
            index += 1;
        }
    }
    out.extend([0; PADDING]);
}

/// Decodes `rows` rows of a graph of `row_limit` rows into `ends` and `arcs`; `None` where the bytes are
/// no such block. O(arcs).
pub fn decode(bytes: &[u8], rows: usize, row_limit: RowId, into: &mut Adjacency) -> Option<()> {
    let (degrees, rest) = bytes.split_at_checked(4 * rows)?;
    into.ends.clear();
    into.arcs.clear();
    let mut total = 0u32;
    for degree in degrees.as_chunks::<4>().0 {
        total = total.checked_add(u32::from_le_bytes(*degree))?;
        into.ends.push(total);
    }
    let arcs = total as usize;
    let (kinds, rest) = rest.split_at_checked(arcs.div_ceil(2))?;
    let (controls, gaps) = rest.split_at_checked(arcs.div_ceil(4))?;
    into.arcs.reserve(arcs);
    let (mut at, mut index) = (0, 0);
    for end in &into.ends {
        let mut least = 0u32;
        while index < *end as usize {
            let length = usize::from(controls[index / 4] >> (2 * (index % 4)) & 3);
            let word = gaps.get(at..at + 4)?;
            let gap = u32::from_le_bytes([word[0], word[1], word[2], word[3]]) & MASKS[length];
            let row = least.checked_add(gap).filter(|row| *row < row_limit)?;
            let kind = Kind::from_code(kinds[index / 2] >> (4 * (index % 2)) & 15)?;
            into.arcs.push(Arc { row, kind });
            least = row + 1;
            at += length + 1;
            index += 1;
        }
    }
    (at + PADDING == gaps.len()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows() -> impl Strategy<Value = Vec<Vec<Arc>>> {
        let arc = (0u32..1 << 31, 0usize..5);
        let row = proptest::collection::vec(prop_oneof![arc.clone(), (0u32..3000, 0usize..5), arc], 0..60);
        proptest::collection::vec(row, 0..40).prop_map(|rows| {
            let kinds: Vec<Kind> = (0..9).filter_map(Kind::from_code).collect();
            let row = |mut row: Vec<(u32, usize)>| {
                row.sort_unstable();
                row.dedup_by_key(|arc| arc.0);
                row.into_iter().map(|(row, kind)| Arc { row, kind: kinds[kind] }).collect()
            };
            rows.into_iter().map(row).collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(rows in rows()) {
            let arcs = rows.concat();
            let mut total = 0;
            let ends: Vec<u32> = rows.iter().map(|row| { total += row.len() as u32; total }).collect();
            let mut bytes = Vec::new();
            encode(&ends, &arcs, &mut bytes);
            let mut back = Adjacency::default();
            prop_assert!(decode(&bytes, rows.len(), 1 << 31, &mut back).is_some());
            prop_assert_eq!(&back.ends, &ends);
            prop_assert_eq!(&back.arcs, &arcs);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), rows in 0usize..20) {
            let _ = decode(&bytes, rows, 1000, &mut Adjacency::default());
        }
    }
}
