//! Packing against its rules, and against the bound.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::clusters::exclude::{exclude, most_of_one_key};
use crate::random::{Purpose, stream};
use crate::vectors::UNIQUE;

fn packing(seed: u64) -> ChaCha8Rng {
    stream(Purpose::Packing { seed, epoch: 0, task: 0 })
}

/// Clusters of `size` rows without a conflict inside, out of rows in order, but for those that `out` keeps out; the
/// rows that fit into none are loose.
fn clusters(out: &[bool], size: usize, keys: &Keys<'_>) -> (Vec<RowId>, Vec<u32>, Vec<RowId>) {
    let mut open: VecDeque<Vec<RowId>> = VecDeque::new();
    let mut done: Vec<Vec<RowId>> = Vec::new();
    let rows = || (0..out.len() as RowId).filter(|row| !out[*row as usize]);
    for row in rows() {
        let fits = |cluster: &&mut Vec<RowId>| cluster.iter().all(|other| !keys.conflict(row, *other));
        match open.iter_mut().find(fits) {
            Some(cluster) => cluster.push(row),
            None => open.push_back(vec![row]),
        }
        let full = open.iter().position(|cluster| cluster.len() == size);
        done.extend(full.and_then(|index| open.remove(index)));
    }
    let starts = (0..=done.len()).map(|cluster| (cluster * size) as u32).collect();
    let kept_out = (0..out.len() as RowId).filter(|row| out[*row as usize]);
    (done.concat(), starts, open.into_iter().flatten().chain(kept_out).collect())
}

/// Packs, and holds the batches against the rules: each row once, no key more than R times.
#[track_caller]
fn pack(units: Units<'_>, [size, cluster_size, per_key]: [u32; 3], keys: &Keys<'_>, seed: u64) -> Packed {
    let sizes = Sizes { cluster_size, batch_size: size };
    let packed = pack_task(units, &PackRules { sizes, per_key, keys }, &mut packing(seed));
    let mut seen: Vec<RowId> = [&packed.full.rows[..], &packed.short.rows].concat();
    seen.sort_unstable();
    let mut wanted: Vec<RowId> = (0..units.rows()).map(|position| units.row(position)).collect();
    wanted.sort_unstable();
    assert_eq!(seen, wanted);
    for batch in packed.full.batches().chain(packed.short.batches()) {
        let mut held = HashMap::<(u32, u32), u32>::new();
        batch.iter().flat_map(|row| keys.shared(*row)).for_each(|key| *held.entry(key).or_default() += 1);
        assert!(held.values().all(|rows| *rows <= per_key));
    }
    assert!(packed.full.batches().all(|batch| batch.len() == size as usize));
    assert!(packed.short.batches().all(|batch| (1..size as usize).contains(&batch.len())));
    // A row is alone only where no other short batch takes it.
    let is_open = |batch: &&[RowId]| batch.len() < size as usize;
    for (index, single) in packed.short.batches().enumerate().filter(|(_, batch)| batch.len() == 1) {
        let others = packed.short.batches().enumerate().filter(|(other, batch)| *other != index && is_open(batch));
        let mut others = others.take(if packed.short.count() <= SHORT_TRIES { SHORT_TRIES } else { 0 });
        assert!(others.all(|(_, batch)| batch.iter().any(|row| keys.conflict(*row, single[0]))) || per_key > 1);
    }
    assert!(packed.full.count() as u64 <= packed.possible);
    packed
}

/// Clusters whose rows are not all in one batch.
fn divided(packed: &Packed, units: Units<'_>) -> usize {
    let rows = (0..units.rows()).map(|position| units.row(position) as usize + 1).max().unwrap_or(0);
    let mut batch_of = vec![0; rows];
    for (index, batch) in packed.full.batches().chain(packed.short.batches()).enumerate() {
        batch.iter().for_each(|row| batch_of[*row as usize] = index);
    }
    let is_divided = |unit: &usize| {
        let rows = units.get(*unit);
        rows.iter().any(|row| batch_of[*row as usize] != batch_of[rows[0] as usize])
    };
    (0..units.clusters()).filter(is_divided).count()
}

/// Codes as import gives them: the first row of each key.
fn coded(codes: &[u32]) -> Vec<u32> {
    let mut first = HashMap::new();
    let code = |(row, code): (usize, &u32)| match *code {
        UNIQUE => UNIQUE,
        code => *first.entry(code).or_insert(row as u32),
    };
    codes.iter().enumerate().map(code).collect()
}

/// Full batches, possible ones, and the share of the clusters that are whole.
fn packed_keys(codes: &[u32], sizes: [u32; 3], seed: u64) -> (u64, u64, f64) {
    let codes = coded(codes);
    let keys = Keys::new(vec![&codes]);
    let rows = codes.len() as u32;
    let most = most_of_one_key(rows, sizes[0]).saturating_mul(sizes[2]);
    let (clustered, starts, loose) =
        clusters(&exclude(&keys, &[(0..rows, most)], vec![false; rows as usize]), sizes[1] as usize, &keys);
    let units = Units::new(&clustered, &starts, &loose);
    let packed = pack(units, sizes, &keys, seed);
    let whole = 1.0 - divided(&packed, units) as f64 / units.clusters().max(1) as f64;
    (packed.full.count() as u64, packed.possible, whole)
}

/// `rows` rows of each of `keys` keys, in random order.
fn even(keys: u32, rows: u32, seed: u64) -> Vec<u32> {
    let mut codes: Vec<u32> = (0..keys * rows).map(|row| row % keys).collect();
    codes.shuffle(&mut packing(seed));
    codes
}

#[test]
fn few_keys_make_all_full_batches_that_are_possible() {
    let cases = [
        ([77, 26, 64], 31),
        ([400, 5, 256], 7),
        ([150, 14, 128], 16),
        ([40, 30, 32], 37),
        ([100, 20, 64], 31),
        ([2000, 5, 1024], 9),
        ([1500, 7, 1024], 10),
        ([64, 25, 64], 25),
        ([65, 25, 64], 25),
    ];
    for ([keys, rows, size], full) in cases {
        for seed in 0..3 {
            let found = packed_keys(&even(keys, rows, seed), [size, 8, 1], seed);
            println!("{keys} keys x {rows}, |B| {size}: {} of {}, {:.3} whole", found.0, found.1, found.2);
            assert_eq!((found.0, found.1), (full, full));
        }
    }
}

#[test]
fn class_labels_make_all_full_batches_that_are_possible() {
    for seed in 0..3 {
        let mut random = packing(seed);
        // Zipf's law over 300 classes: of class c every (c + 1)th.
        let total: f64 = (1..=300).map(|class| 1.0 / f64::from(class)).sum();
        let zipf: Vec<u32> = (0..6000)
            .map(|_| {
                let mut left = random.random::<f64>() * total;
                (0..299)
                    .find(|class| {
                        left -= 1.0 / f64::from(class + 1);
                        left < 0.0
                    })
                    .unwrap_or(299)
            })
            .collect();
        let one_class: Vec<u32> = (0..4000).map(|row| if random.random::<f64>() < 0.4 { 0 } else { row + 1 }).collect();
        for (name, codes) in [("zipf", zipf), ("40 %", one_class)] {
            for size in [32, 64, 128] {
                let (full, possible, whole) = packed_keys(&codes, [size, 8, 1], seed);
                println!("{name} |B| {size}: {full} of {possible}, {whole:.3} whole");
                assert_eq!(full, possible);
                assert!(possible > 0);
            }
        }
    }
}

#[test]
fn rows_of_several_keys_make_nearly_all_full_batches_that_are_possible() {
    for ([first, second], rows, size) in
        [([100, 90], 2000, 64), ([300, 70], 2000, 64), ([77, 2000], 2000, 64), ([400, 300], 2000, 256)]
    {
        let columns = [first, second].map(|keys| coded(&even(keys, rows / keys, 3)));
        let rows = columns.iter().map(Vec::len).min().unwrap();
        let keys = Keys::new(vec![&columns[0][..rows], &columns[1][..rows]]);
        let (clustered, starts, loose) = clusters(&vec![false; rows], 8, &keys);
        let packed = pack(Units::new(&clustered, &starts, &loose), [size, 8, 1], &keys, 3);
        println!("{first} and {second} keys, |B| {size}: {} of {}", packed.full.count(), packed.possible);
        // The bound is not always reached where rows have several keys.
        assert!(packed.full.count() as u64 * 100 >= packed.possible * 85);
    }
}

#[test]
fn several_rows_of_a_class_share_a_batch_where_they_may() {
    for (classes, rows, sizes, full) in
        [(16, 40, [64, 8, 4], 10), (4, 160, [64, 8, 16], 10), (8, 9, [64, 8, 8], 1), (100, 7, [64, 4, 2], 10)]
    {
        let (found, possible, _) = packed_keys(&even(classes, rows, 5), sizes, 5);
        assert_eq!((found, possible), (full, full), "{classes} classes of {rows}, {sizes:?}");
    }
}

#[test]
fn no_cluster_is_divided_where_whole_ones_do() {
    let (found, possible, whole) = packed_keys(&even(3000, 3, 1), [64, 8, 1], 1);
    assert_eq!((found, whole), (possible, 1.0));
}

proptest! {
    #[test]
    fn one_key_a_row_makes_all_full_batches_that_are_possible(
        codes in proptest::collection::vec(0u32..40, 0..400), spread in 1u32..40, per_key in 1u32..4,
        sizes in prop_oneof![Just([4u32, 2]), Just([8, 4]), Just([9, 3]), Just([16, 8]), Just([6, 6])],
        seed in any::<u64>(),
    ) {
        // Few keys, many, and rows without one.
        let code = |code: u32| if code > 36 { UNIQUE } else { code % spread };
        let codes: Vec<u32> = codes.into_iter().map(code).collect();
        let (full, possible, _) = packed_keys(&codes, [sizes[0], sizes[1], per_key], seed);
        prop_assert_eq!(full, possible);
    }

    #[test]
    fn rows_of_several_keys_break_no_rule(
        codes in proptest::collection::vec((0u32..40, 0u32..60), 0..300), per_key in 1u32..3, seed in any::<u64>(),
    ) {
        let shared = |code: u32, limit: u32| if code < limit { code } else { UNIQUE };
        let first: Vec<u32> = codes.iter().map(|codes| shared(codes.0, 30)).collect();
        let second: Vec<u32> = codes.iter().map(|codes| shared(codes.1, 30)).collect();
        let (first, second) = (coded(&first), coded(&second));
        let keys = Keys::new(vec![&first, &second]);
        let (clustered, starts, loose) = clusters(&vec![false; codes.len()], 4, &keys);
        pack(Units::new(&clustered, &starts, &loose), [8, 4, per_key], &keys, seed);
    }

    #[test]
    fn without_keys_at_most_one_batch_is_short(width in 1u32..6, whole in 0usize..60, seed in any::<u64>()) {
        let rows: Vec<RowId> = (0..4 * whole as u32 + 3).collect();
        let mut starts: Vec<u32> = (0..=whole as u32).map(|cluster| 4 * cluster).collect();
        starts.push(rows.len() as u32);
        let none = vec![UNIQUE; rows.len()];
        let keys = Keys::new(vec![&none]);
        let units = Units::new(&rows, &starts, &[]);
        let packed = pack(units, [4 * width, 4, 1], &keys, seed);
        let counts = (packed.full.count(), packed.short.count(), divided(&packed, units));
        prop_assert_eq!(counts, (whole / width as usize, 1, 0));
    }
}

/// Peak of the process's resident memory in bytes, since it was last reset.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: Option<u64> = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok());
    kib.unwrap_or(0) << 10
}

/// `cargo test --lib ten_million -- --ignored --nocapture` prints what packing takes of time and memory.
#[test]
#[ignore = "ten million rows take a minute, and memory is that of the whole process: run it alone"]
fn ten_million_rows_take_less_than_twenty_bytes_each() {
    const ROWS: usize = 10_000_000;
    for (keys, size) in [(1_200u32, 1024), (3_000, 1024), (3_000_000, 1024), (77, 64)] {
        let mut random = packing(1);
        let mut codes: Vec<u32> = Vec::with_capacity(ROWS);
        while codes.len() < ROWS {
            let cluster = codes.len() / 8 * 8;
            let code = random.random_range(0..keys);
            if !codes[cluster..].contains(&code) {
                codes.push(code);
            }
        }
        let rows: Vec<RowId> = (0..ROWS as RowId).collect();
        let starts: Vec<u32> = (0..=ROWS as u32 / 8).map(|cluster| 8 * cluster).collect();
        let column = Keys::new(vec![&codes]);
        let sizes = Sizes { cluster_size: 8, batch_size: size };
        let rules = PackRules { sizes, per_key: 1, keys: &column };
        std::fs::write("/proc/self/clear_refs", "5").expect("the peak can be reset");
        let (before, start) = (peak_bytes(), std::time::Instant::now());
        let units = Units::new(&rows, &starts, &[]);
        let packed = pack_task(units, &rules, &mut packing(0));
        let (bytes, seconds) = ((peak_bytes() - before) as f64 / ROWS as f64, start.elapsed().as_secs_f64());
        println!(
            "{keys} keys, |B| {size}: {} of {} batches, {} of {} clusters divided, {seconds:.1} s, {bytes:.1} B a row",
            packed.full.count(),
            packed.possible,
            divided(&packed, units),
            ROWS / 8,
        );
        assert_eq!(packed.full.count() as u64, packed.possible);
        assert!(bytes <= 20.0);
    }
}

#[test]
fn left_over_rows_fill_whole_batches() {
    let codes = [0, 0, 0, UNIQUE, UNIQUE, UNIQUE, UNIQUE, 0];
    let keys = Keys::new(vec![&codes]);
    let sizes = Sizes { cluster_size: 2, batch_size: 2 };
    let rules = PackRules { sizes, per_key: 1, keys: &keys };
    let rows: Vec<RowId> = (0..8).collect();
    let packed = fill(&rows, &rules);
    assert_eq!(packed.full.batches().map(<[u32]>::to_vec).collect::<Vec<_>>(), [[0, 3], [1, 4], [2, 5], [6, 7]]);
}
