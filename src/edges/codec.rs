//! The edges of consecutive rows as bytes, and back. Pure.
//!
//! | bytes | content |
//! |---|---|
//! | 4 · rows | degrees, u32 |
//! | ⌈arcs / 2⌉ | relations, 4 bits each, the lower half first |
//! | ⌈arcs / 4⌉ | lengths of the gaps in bytes − 1, 2 bits each, lowest first |
//! | | gaps, 1 to 4 bytes each, little-endian |
//! | 3 | zero |
//!
//! `arcs` is the number of edges. A row's first gap is the place at the other end of its first edge; the others are the
//! difference of two places − 1. The layout is that of Lemire, Kurz, Rupp, *Stream VByte* (2017), and the whole is then
//! compressed by zstd.

use super::rows::{Adjacency, Edge, Relation};
use crate::vectors::Place;

const PADDING: usize = 3;
const MASKS: [u32; 4] = [0xFF, 0xFFFF, 0xFF_FFFF, 0xFFFF_FFFF];
/// For each byte of lengths: where its second, third and fourth gap begin, and where the next byte's do.
const BEGINS: [[u8; 4]; 256] = begins();
/// For each byte of relations whether one of the two is none.
const NO_RELATION: [bool; 256] = no_relation();

const fn begins() -> [[u8; 4]; 256] {
    let mut table = [[0; 4]; 256];
    let mut lengths = 0;
    while lengths < 256 {
        let (mut gap, mut at) = (0, 0);
        while gap < 4 {
            at += (lengths >> (2 * gap) & 3) as u8 + 1;
            table[lengths][gap] = at;
            gap += 1;
        }
        lengths += 1;
    }
    table
}

const fn no_relation() -> [bool; 256] {
    let mut table = [false; 256];
    let mut pair = 0;
    while pair < 256 {
        table[pair] = Relation::from_code(pair as u8 & 15).is_none() || Relation::from_code(pair as u8 >> 4).is_none();
        pair += 1;
    }
    table
}

/// Encodes rows whose edges end at `ends`. O(edges).
pub fn encode(ends: &[u32], edges: &[Edge], out: &mut Vec<u8>) {
    out.clear();
    let mut start = 0;
    for end in ends {
        out.extend((end - start).to_le_bytes());
        start = *end;
    }
    let (pairs, odd) = edges.as_chunks::<2>();
    out.extend(pairs.iter().map(|[low, high]| low.relation.code() | high.relation.code() << 4));
    out.extend(odd.iter().map(|edge| edge.relation.code()));
    let controls = out.len();
    let mut at = controls + edges.len().div_ceil(4);
    // Room for the longest gaps: each is stored whole, and the next one over what it does not need.
    out.resize(at + 4 * edges.len() + PADDING, 0);
    let (mut index, mut lengths) = (0, 0u32);
    for end in ends {
        let mut least = 0;
        for edge in &edges[index..*end as usize] {
            let gap = edge.other.number() - least;
            least = edge.other.number() + 1;
            out[at..at + 4].copy_from_slice(&gap.to_le_bytes());
            let more = (31 - (gap | 1).leading_zeros()) / 8;
            at += more as usize + 1;
            lengths |= more << (2 * (index % 4));
            index += 1;
            if index % 4 == 0 {
                out[controls + index / 4 - 1] = lengths as u8;
                lengths = 0;
            }
        }
    }
    if index % 4 > 0 {
        out[controls + index / 4] = lengths as u8;
    }
    out.truncate(at);
    out.extend([0; PADDING]);
}

/// The bytes of a block of so many rows and edges, at most.
pub(super) fn most_bytes(rows: u64, edges: u64) -> Option<u64> {
    let relations_and_lengths = edges.div_ceil(2).checked_add(edges.div_ceil(4))?;
    let gaps = edges.checked_mul(4)?.checked_add(PADDING as u64)?;
    rows.checked_mul(4)?.checked_add(relations_and_lengths)?.checked_add(gaps)
}

/// Decodes `rows` rows of a graph of `graph_rows` rows into `ends` and `edges`; `None` where the bytes are
/// no such block. O(edges).
pub fn decode(bytes: &[u8], rows: usize, graph_rows: u32, into: &mut Adjacency) -> Option<()> {
    let (degrees, rest) = bytes.split_at_checked(rows.checked_mul(4)?)?;
    into.ends.clear();
    let mut total = 0u32;
    for degree in degrees.as_chunks::<4>().0 {
        total = total.checked_add(u32::from_le_bytes(*degree))?;
        into.ends.push(total);
    }
    let edges = total as usize;
    // Nothing is reserved for edges that the bytes are too few for.
    let (relations, rest) = rest.split_at_checked(edges.div_ceil(2))?;
    let (controls, gaps) = rest.split_at_checked(edges.div_ceil(4))?;
    into.edges.resize(edges, Edge { other: Place::NONE, relation: Relation::WINDOW });
    let used = decode_gaps(relations, controls, gaps, &mut into.edges)?;
    let mut start = 0;
    for end in &into.ends {
        // Places rise, so that the last one alone is compared with the limit.
        let mut least = 0u64;
        for edge in &mut into.edges[start..*end as usize] {
            let other = least + u64::from(edge.other.number());
            edge.other = Place::new(other as u32);
            least = other + 1;
        }
        if least > u64::from(graph_rows) {
            return None;
        }
        start = *end as usize;
    }
    (used + PADDING == gaps.len()).then_some(())
}

/// Fills edges with gaps instead of places, four at a time; returns the bytes of all gaps.
fn decode_gaps(relations: &[u8], controls: &[u8], gaps: &[u8], edges: &mut [Edge]) -> Option<usize> {
    let (mut at, mut wrong) = (0, false);
    let (fours, rest) = edges.as_chunks_mut::<4>();
    let word = |bytes: &[u8; 16], at: u8| {
        let at = usize::from(at & 15).min(12);
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    let mut whole = 0;
    for ((edges, lengths), relations) in fours.iter_mut().zip(controls).zip(relations.as_chunks::<2>().0) {
        // The last few gaps of a block have no 16 bytes left to be read from.
        let Some(bytes) = gaps.get(at..).and_then(|gaps| gaps.first_chunk::<16>()) else { break };
        let begins = BEGINS[usize::from(*lengths)];
        for (number, edge) in edges.iter_mut().enumerate() {
            let begin = if number == 0 { 0 } else { begins[number - 1] };
            edge.other = Place::new(word(bytes, begin) & MASKS[usize::from(lengths >> (2 * number) & 3)]);
        }
        for (edges, relations) in edges.as_chunks_mut::<2>().0.iter_mut().zip(relations) {
            wrong |= NO_RELATION[usize::from(*relations)];
            (edges[0].relation, edges[1].relation) =
                (Relation::from_nibble(relations & 15), Relation::from_nibble(relations >> 4));
        }
        at += usize::from(begins[3]);
        whole += 4;
    }
    let left = fours.as_flattened_mut()[whole..].iter_mut().chain(rest);
    for (index, edge) in (whole..).zip(left) {
        let length = usize::from(controls[index / 4] >> (2 * (index % 4)) & 3);
        let word = gaps.get(at..at + 4)?;
        edge.other = Place::new(u32::from_le_bytes([word[0], word[1], word[2], word[3]]) & MASKS[length]);
        edge.relation = Relation::from_code(relations[index / 2] >> (4 * (index % 2)) & 15)?;
        at += length + 1;
    }
    (!wrong).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows() -> impl Strategy<Value = Vec<Vec<Edge>>> {
        let edge = (0u32..1 << 31, 0usize..5);
        let row = proptest::collection::vec(prop_oneof![edge.clone(), (0u32..3000, 0usize..5), edge], 0..60);
        proptest::collection::vec(row, 0..40).prop_map(|rows| {
            let relations: Vec<Relation> = (0..9).filter_map(Relation::from_code).collect();
            let row = |mut row: Vec<(u32, usize)>| {
                row.sort_unstable();
                row.dedup_by_key(|edge| edge.0);
                row.into_iter()
                    .map(|(row, relation)| Edge { other: Place::new(row), relation: relations[relation] })
                    .collect()
            };
            rows.into_iter().map(row).collect()
        })
    }

    proptest! {
        #[test]
        fn no_block_is_longer_than_its_bound(rows in rows()) {
            let edges = rows.concat();
            let mut total = 0;
            let ends: Vec<u32> = rows.iter().map(|row| { total += row.len() as u32; total }).collect();
            let mut bytes = Vec::new();
            encode(&ends, &edges, &mut bytes);
            prop_assert!(bytes.len() as u64 <= most_bytes(rows.len() as u64, edges.len() as u64).unwrap());
        }

        #[test]
        fn what_is_encoded_comes_back(rows in rows()) {
            let edges = rows.concat();
            let mut total = 0;
            let ends: Vec<u32> = rows.iter().map(|row| { total += row.len() as u32; total }).collect();
            let mut bytes = Vec::new();
            encode(&ends, &edges, &mut bytes);
            let mut back = Adjacency::default();
            prop_assert!(decode(&bytes, rows.len(), 1 << 31, &mut back).is_some());
            prop_assert_eq!(&back.ends, &ends);
            prop_assert_eq!(&back.edges, &edges);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), rows in 0usize..20) {
            let _ = decode(&bytes, rows, 1000, &mut Adjacency::default());
        }
    }
}
