//! Every kind of input gives the same lists.

use std::fs;

use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};

use super::command::{Line, Place, call, inspect, mine};
use super::dataset::{Dataset, Float, Ids, Layout, npy};
use super::oracle::{Exactness, Oracle};
use super::table;

const FLAGS: &str = "--skip 3 --window 12 --cluster-size 4 --batch-size 16";
const ROWS: usize = 120;

fn data() -> Dataset {
    Dataset::planted(ROWS, 20, 11).in_halves()
}

fn mined(data: &Dataset, flags: &str) -> Vec<Line> {
    let place = Place::with(data);
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{FLAGS} {flags}")).ok();
    inspect(&run, 0..data.rows())
}

#[test]
fn every_number_and_list_type_gives_the_same_lists() {
    let reference = mined(&data(), "");
    Oracle::new(&data(), true).check(&reference, 15, Exactness::NearTies);
    for float in [Float::F16, Float::F32, Float::F64] {
        for layout in [Layout::List, Layout::LargeList, Layout::FixedList, Layout::FixedBinary] {
            let flags = match (layout, float) {
                (Layout::FixedBinary, Float::F16) => "--dtype f16",
                (Layout::FixedBinary, Float::F32) => "--dtype f32",
                (Layout::FixedBinary, Float::F64) => "--dtype f64",
                _ => "",
            };
            let found = mined(&Dataset { float, layout, ..data() }, flags);
            assert_eq!(found, reference, "{float:?} in {layout:?}");
        }
    }
}

#[test]
fn doubles_are_rounded_once() {
    let data = Dataset { float: Float::F64, ..Dataset::planted(ROWS, 20, 12) };
    Oracle::new(&data, true).check(&mined(&data, ""), 15, Exactness::NearTies);
}

#[test]
fn files_row_groups_and_codecs_do_not_matter() {
    let reference = mined(&data(), "");
    let ways = [
        (Compression::UNCOMPRESSED, 1, 7),
        (Compression::SNAPPY, 2, 50),
        (Compression::LZ4_RAW, 3, 1),
        (Compression::ZSTD(ZstdLevel::default()), 4, 19),
        (Compression::GZIP(GzipLevel::default()), 7, 100),
        (Compression::BROTLI(BrotliLevel::default()), 120, 100),
    ];
    for (compression, files, row_group_rows) in ways {
        let found = mined(&Dataset { compression, files, row_group_rows, ..data() }, "");
        assert_eq!(found, reference, "{compression:?}, {files} files, row groups of {row_group_rows}");
    }
}

#[test]
fn folders_files_and_globs_name_the_same_input() {
    let place = Place::with(&Dataset { files: 3, ..data() });
    let input = place.input();
    // Neither of these is a shard.
    fs::write(input.join("_SUCCESS"), "").unwrap();
    fs::write(input.join("README.txt"), "pairs").unwrap();
    let file = |number| input.join(format!("part-{number}.parquet")).display().to_string();
    let pattern = input.join("part-*.parquet").display().to_string();
    let ways = [vec![input.display().to_string()], vec![file(0), file(1), file(2)], vec![pattern]];
    let lists = ways.map(|paths| {
        let run = place.path(&format!("run-{}-{}", paths.len(), paths[0].len()));
        let out = ["--out".to_owned(), run.display().to_string()];
        let flags = FLAGS.split(' ').map(str::to_owned);
        call(["mine".to_owned()].into_iter().chain(paths).chain(out).chain(flags)).ok();
        inspect(&run, 0..ROWS)
    });
    assert_eq!(lists[1], lists[0]);
    assert_eq!(lists[2], lists[0]);
}

#[test]
fn one_column_serves_both_sides() {
    let data = Dataset { one_column: true, ..data() };
    let named = mined(&data, "--embedding-column embedding");
    Oracle::new(&data, true).check(&named, 15, Exactness::NearTies);
    assert!(named.iter().all(|line| (line.score - 1.0).abs() < 1e-6), "a row is its own positive");
    assert_eq!(mined(&data, ""), named, "the column is found by its name");
    let query_only = Dataset { positives: data.queries.clone(), one_column: false, ..data.clone() };
    assert_eq!(mined(&query_only, "--embedding-column query_embedding"), named);
}

#[test]
fn named_columns_may_be_swapped() {
    let data = data();
    let swapped = Dataset::of(data.dim, data.positives.clone(), data.queries.clone());
    let found = mined(&data, "--query-column positive_embedding --positive-column query_embedding");
    assert_eq!(found, mined(&swapped, ""));
}

#[test]
fn ids_are_carried_through() {
    let numbers = (0..ROWS as i64).map(|row| Some(row * 1_000_003 - 50_000_000)).collect();
    let cases = [
        Dataset { ids: Ids::Int(numbers), ..data() },
        data().with_text_ids(),
        data(),
        Dataset { float: Float::F16, files: 2, ..data().with_text_ids() },
    ];
    for data in cases {
        let place = Place::with(&data);
        let run = place.path("run");
        mine(&place.input(), &run, FLAGS).ok();
        for line in inspect(&run, 0..ROWS) {
            assert_eq!(line.id, data.id(line.row));
        }
        for row in table::read(&run) {
            assert_eq!(row.id, data.id(row.row));
        }
    }
}

#[test]
fn any_column_may_hold_the_ids() {
    let data = data().with_key(|row| Some(format!("sku-{row}")));
    let lines = mined(&data, "--id-column key0");
    assert!(lines.iter().all(|line| line.id == format!("sku-{}", line.row)));
}

#[test]
fn npy_arrays_give_the_lists_of_the_same_parquet() {
    let data = data();
    let reference = mined(&data, "");
    let (queries, positives) = (&data.queries, &data.positives);
    let all = |side: &[Vec<f64>]| side.concat().into_iter();
    let shape = [ROWS, data.dim];
    let paired = || queries.iter().zip(positives).flat_map(|(x, y)| [x.clone(), y.clone()]).flatten();
    let half = ROWS / 2;
    for float in [Float::F16, Float::F32] {
        let two = vec![
            ("queries.npy", npy(float, &shape, false, all(queries))),
            ("positives.npy", npy(float, &shape, false, all(positives))),
        ];
        let pairs = vec![("pairs.npy", npy(float, &[ROWS, 2, data.dim], false, paired()))];
        let shards = vec![
            ("queries-0.npy", npy(float, &[half, data.dim], false, all(&queries[..half]))),
            ("positives-0.npy", npy(float, &[half, data.dim], false, all(&positives[..half]))),
            ("queries-1.npy", npy(float, &[half, data.dim], false, all(&queries[half..]))),
            ("positives-1.npy", npy(float, &[half, data.dim], false, all(&positives[half..]))),
        ];
        for files in [two, pairs, shards] {
            let place = Place::empty();
            fs::create_dir(place.input()).unwrap();
            for (name, bytes) in &files {
                fs::write(place.input().join(name), bytes).unwrap();
            }
            let run = place.path("run");
            mine(&place.input(), &run, FLAGS).ok();
            assert_eq!(inspect(&run, 0..ROWS), reference, "{float:?} in {}", files[0].0);
        }
    }
}

#[test]
fn one_npy_matrix_serves_both_sides() {
    let data = Dataset { one_column: true, ..data() };
    let place = Place::empty();
    fs::create_dir(place.input()).unwrap();
    let bytes = npy(Float::F32, &[ROWS, data.dim], false, data.queries.concat().into_iter());
    fs::write(place.input().join("images.npy"), bytes).unwrap();
    let run = place.path("run");
    mine(&place.input(), &run, FLAGS).ok();
    assert_eq!(inspect(&run, 0..ROWS), mined(&data, ""));
}
