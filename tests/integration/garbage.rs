//! Whatever is wrong with the input or the settings is named, with a remedy, before any long work.

use std::fs;
use std::path::Path;

use super::command::{Outcome, Place, batchmine, call, mine, mine_command, verify};
use super::dataset::{Dataset, Fault, Float, Ids, Layout, npy};

const FLAGS: &str = "--skip 3 --window 12 --cluster-size 4 --batch-size 16";
const ROWS: usize = 60;

fn data() -> Dataset {
    Dataset::planted(ROWS, 12, 51)
}

fn mined(data: &Dataset, flags: &str) -> Outcome {
    let place = Place::with(data);
    let run = place.path("run");
    let outcome = mine(&place.input(), &run, &format!("{FLAGS} {flags}"));
    assert!(!run.join("_SUCCESS").exists() || outcome.code == Some(0), "failed, and yet marked as done");
    outcome
}

#[test]
fn paths_that_hold_no_shards() {
    let place = Place::with(&data());
    let (run, empty) = (place.path("run"), place.path("empty"));
    fs::create_dir(&empty).unwrap();
    fs::write(place.path("notes.txt"), "not a shard").unwrap();
    mine(&place.path("no/such.parquet"), &run, FLAGS).refuses(&["no/such.parquet"]);
    mine(&empty, &run, FLAGS).refuses(&["empty"]);
    mine(&place.path("input/x-*.parquet"), &run, FLAGS).refuses(&["x-*.parquet"]);
    mine(&place.path("notes.txt"), &run, FLAGS).refuses(&["notes.txt"]);
    assert!(!run.join("vectors").exists(), "refused before a run folder is filled");
}

#[test]
fn files_that_are_not_what_their_name_says() {
    let place = Place::with(&data());
    let file = place.input().join("part-0.parquet");
    let whole = fs::read(&file).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        bytes
    };
    let length = whole.len();
    let kinds: [(&str, Vec<u8>); 6] = [
        ("empty", Vec::new()),
        ("text", b"query\tpositive\nwhat is a shard?\ta file\n".to_vec()),
        ("cut in half", whole[..length / 2].to_vec()),
        ("without its end", whole[..length - 1].to_vec()),
        ("with another magic", flipped(length - 1)),
        ("with a footer longer than the file", flipped(length - 5)),
    ];
    for (number, (kind, bytes)) in kinds.into_iter().enumerate() {
        fs::write(&file, bytes).unwrap();
        let outcome = mine(&place.input(), &place.path(&format!("run-{number}")), FLAGS);
        assert_eq!(outcome.code, Some(2), "{kind}: {}", outcome.stderr);
        outcome.refuses(&["part-0.parquet"]);
    }
}

#[test]
fn columns_that_are_not_there() {
    mined(&data(), "--query-column querry").refuses(&["querry", "query_embedding"]);
    mined(&data(), "--positive-column nothing").refuses(&["nothing", "positive_embedding"]);
    mined(&data(), "--embedding-column vector").refuses(&["vector"]);
    mined(&data(), "--id-column uuid").refuses(&["uuid"]);
    mined(&data(), "--task-column dataset").refuses(&["dataset"]);
    mined(&data(), "--key-column doc").refuses(&["doc"]);
    let only = Dataset { one_column: true, ..data() };
    mined(&only, "--query-column embedding").refuses(&["positive"]);
}

#[test]
fn a_column_that_one_file_lacks() {
    let place = Place::with(&data().with_tasks(|_| "a".into()));
    data().write(&place.path("other"));
    fs::copy(place.path("other/part-0.parquet"), place.input().join("part-1.parquet")).unwrap();
    mine(&place.input(), &place.path("run"), &format!("{FLAGS} --task-column task"))
        .refuses(&["part-1.parquet", "task"]);
}

#[test]
fn columns_of_the_wrong_type() {
    let labelled = data().with_text_ids().with_tasks(|_| "a".into());
    mined(&labelled, "--embedding-column task").refuses(&["task", "part-0.parquet"]);
    mined(&labelled, "--task-column query_embedding").refuses(&["query_embedding"]);
    mined(&labelled, "--id-column query_embedding").refuses(&["query_embedding"]);
    let binary = Dataset { layout: Layout::FixedBinary, ..data() };
    mined(&binary, "").refuses(&["query_embedding", "--dtype"]);
    let odd = Dataset { layout: Layout::FixedBinary, float: Float::F16, ..Dataset::planted(ROWS, 11, 51) };
    mined(&odd, "--dtype f32").refuses(&["query_embedding", "22"]);
}

#[test]
fn values_that_are_no_vectors() {
    // Row 47 lies in the second file (rows 30..) as its row 17, in row group 1 of 16 rows.
    let bad: [(&str, f64, &str); 4] = [
        ("NaN", f64::NAN, "NaN"),
        ("Inf", f64::INFINITY, "inf"),
        ("-Inf", f64::NEG_INFINITY, "inf"),
        ("zero", 0.0, "zero"),
    ];
    for (name, value, word) in bad {
        for float in [Float::F16, Float::F32, Float::F64] {
            let mut data = Dataset { float, files: 2, row_group_rows: 16, ..data() };
            if name == "zero" {
                data.positives[47].fill(0.0);
            } else {
                data.positives[47][5] = value;
            }
            let outcome = mined(&data, "");
            assert_eq!(outcome.code, Some(2), "{name} in {float:?}: {}", outcome.stderr);
            outcome.refuses(&["part-1.parquet", "positive_embedding", "row group 1", "row 17", word]);
        }
    }
    let mut data = data();
    data.queries[3][0] = f64::NAN;
    mined(&data, "--metric dot").refuses(&["part-0.parquet", "query_embedding", "row 3", "dimension 0"]);
    data.queries[3][0] = 1e300;
    mined(&Dataset { float: Float::F64, ..data }, "").refuses(&["query_embedding", "row 3"]);
}

#[test]
fn scores_that_f32_cannot_hold() {
    let mut data = data();
    data.queries[1][0] = 1e30;
    data.positives[2][0] = 1e30;
    mined(&data, "--metric dot").refuses(&["cosine"]);
    // Cosine divides by the norms, and so has no trouble with them.
    mined(&data, "--metric cosine").ok();
}

#[test]
fn nulls_among_the_embeddings() {
    for layout in [Layout::List, Layout::LargeList, Layout::FixedList] {
        for fault in [Fault::NullEmbedding, Fault::NullValue] {
            for row in [0, 33] {
                let data = Dataset { layout, fault: Some((fault, row)), ..data() };
                let outcome = mined(&data, "");
                assert_eq!(outcome.code, Some(2), "{fault:?} in {layout:?}, row {row}: {}", outcome.stderr);
                outcome.refuses(&["part-0.parquet", "positive_embedding", &format!("row {row}"), "null"]);
            }
        }
    }
    let binary = Dataset { layout: Layout::FixedBinary, fault: Some((Fault::NullEmbedding, 33)), ..data() };
    mined(&binary, "--dtype f32").refuses(&["positive_embedding", "row 33", "null"]);
}

#[test]
fn nulls_among_ids_and_tasks() {
    let mut data = data().with_tasks(|_| "a".into());
    data.tasks[21] = None;
    mined(&data, "--task-column task").refuses(&["task", "row 21", "null"]);
    // The column is not asked for, so it cannot be wrong.
    mined(&data, "").ok();
    let numbers = (0..ROWS as i64).map(|id| (id != 8).then_some(id)).collect();
    mined(&Dataset { ids: Ids::Int(numbers), ..self::data() }, "").refuses(&["column id", "row 8", "null"]);
    let texts = (0..ROWS).map(|id| (id != 8).then(|| id.to_string())).collect();
    mined(&Dataset { ids: Ids::Text(texts), ..self::data() }, "").refuses(&["column id", "row 8", "null"]);
}

#[test]
fn a_row_without_a_key_has_none() {
    mined(&data().with_key(|row| (row % 2 == 0).then(|| row.to_string())), "--key-column key0").ok();
}

#[test]
fn ids_that_occur_twice() {
    let number = |row: i64| Some(if row == 52 { 7 } else { row });
    let numbers = Dataset { ids: Ids::Int((0..ROWS as i64).map(number).collect()), files: 2, ..data() };
    mined(&numbers, "").refuses(&["column id", "id 7", "part-0.parquet", "part-1.parquet", "row 22"]);
    let mut texts = data().with_text_ids();
    if let Ids::Text(ids) = &mut texts.ids {
        ids[52] = ids[7].clone();
    }
    mined(&texts, "").refuses(&["column id", "row 52", "row 7"]);
}

#[test]
fn embeddings_of_several_lengths() {
    for layout in [Layout::List, Layout::LargeList] {
        let data = Dataset { layout, fault: Some((Fault::TooLong, 25)), ..data() };
        mined(&data, "").refuses(&["positive_embedding", "row 25", "12", "13"]);
    }
    for layout in [Layout::List, Layout::FixedList] {
        let place = Place::with(&Dataset { layout, ..data() });
        Dataset { layout, ..Dataset::planted(ROWS, 16, 52) }.write(&place.path("other"));
        fs::copy(place.path("other/part-0.parquet"), place.input().join("part-1.parquet")).unwrap();
        mine(&place.input(), &place.path("run"), FLAGS).refuses(&["part-1.parquet", "12", "16"]);
    }
}

#[test]
fn settings_that_cannot_be() {
    let place = Place::with(&data());
    let run = place.path("run");
    let refused = |flags: &str, words: &[&str]| {
        mine(&place.input(), &run, flags).refuses(words);
        assert!(!run.exists(), "{flags}: refused before the run folder is made");
    };
    refused("--batch-size 100 --cluster-size 32", &["--cluster-size", "--batch-size", "100"]);
    refused("--batch-size 1 --cluster-size 1", &["--batch-size"]);
    refused("--batch-size 131072 --cluster-size 32", &["--batch-size", "65536"]);
    refused("--window 0", &["--window"]);
    refused("--skip 16000 --window 1000", &["--skip", "--window"]);
    refused("--epochs 0", &["--epochs"]);
    refused("--threads 0", &["--threads"]);
    refused("--suspect-weight=-1", &["--suspect-weight"]);
    refused("--suspect-weight NaN", &["--suspect-weight"]);
}

#[test]
fn flags_that_do_not_parse() {
    let place = Place::with(&data());
    let run = place.path("run");
    for (flags, word) in [
        ("--seed lucky", "--seed"),
        ("--memory lots", "--memory"),
        ("--edges both", "mutual"),
        ("--remainder keep", "short"),
        ("--batchsize 64", "--batch-size"),
        ("--embedding-column a --query-column b", "--query-column"),
    ] {
        mine(&place.input(), &run, flags).fails(2, &[word]);
    }
    let bad = mine_command(&place.input(), &run, FLAGS).env("BATCHMINE_SEED", "lucky").output().unwrap();
    Outcome::from(bad).fails(2, &["lucky"]);
    call(["mine"]).fails(2, &["--out"]);
    call(["frobnicate"]).fails(2, &["frobnicate"]);
}

#[test]
fn configuration_files_that_do_not_fit() {
    let place = Place::with(&data());
    let config = place.path("batchmine.toml");
    let (run, flag) = (place.path("run"), format!("--config {}", config.display()));
    mine(&place.input(), &run, &flag).refuses(&["batchmine.toml"]);
    for (text, word) in [
        ("batch-sise = 64\n", "batch-sise"),
        ("seed = \"lucky\"\n", "seed"),
        ("skip = 3\nskip 4\n", "line 2"),
        ("memory = \"lots\"\n", "memory"),
    ] {
        fs::write(&config, text).unwrap();
        mine(&place.input(), &run, &flag).refuses(&["batchmine.toml", word]);
    }
}

#[test]
fn windows_wider_than_the_input_are_refused_and_shrink_in_small_tasks() {
    let place = Place::with(&data());
    let sizes = "--cluster-size 4 --batch-size 16";
    let flags = |ranks: &str| format!("{sizes} {ranks}");
    // 60 rows: each has 59 others.
    mine(&place.input(), &place.path("last"), &flags("--skip 58 --window 1")).ok();
    mine(&place.input(), &place.path("none"), &flags("--skip 58 --window 2")).refuses(&["--window", "59", "60 rows"]);
    mine(&place.input(), &place.path("wide"), &flags("--skip 20 --window 500"))
        .refuses(&["try --window 39", "p at 20"]);
    // Four tasks of 15 rows: 14 candidates each.
    let tasks = Place::with(&data().with_tasks(|row| format!("task {}", row % 4)));
    let flags = format!("{sizes} --task-column task --window 5");
    let shrunk = mine(&tasks.input(), &tasks.path("last"), &format!("{flags} --skip 13")).ok();
    assert!(shrunk.stderr.contains("window is shorter"), "{}", shrunk.stderr);
    verify(&tasks.path("last")).ok();
    mine(&tasks.input(), &tasks.path("none"), &format!("{flags} --skip 14")).refuses(&["--skip"]);
}

#[test]
fn one_row_has_nothing_to_be_compared_with() {
    let place = Place::with(&Dataset::planted(1, 12, 53));
    mine(&place.input(), &place.path("run"), "--skip 0 --window 5 --cluster-size 2 --batch-size 4").refuses(&["row"]);
}

#[test]
fn a_budget_that_is_too_small_names_one_that_will_do() {
    let place = Place::with(&data());
    let run = place.path("run");
    let outcome = mine(&place.input(), &run, &format!("{FLAGS} --memory 1MiB")).fails(4, &["remedy:", "MiB"]);
    assert!(!run.join("vectors/queries.vec").exists(), "refused before any work");
    let words: Vec<&str> = outcome.stderr.split_whitespace().collect();
    let flag = words.iter().position(|word| *word == "--memory").expect("the remedy is a --memory to copy");
    let least = words[flag + 1].trim_end_matches([',', ';', '.']);
    mine(&place.input(), &run, &format!("{FLAGS} --memory {least}")).ok();
    verify(&run).ok();
}

#[test]
fn npy_files_of_other_kinds() {
    let data = data();
    let values = || data.queries.concat().into_iter();
    let shape = [ROWS, data.dim];
    let good = npy(Float::F32, &shape, false, values());
    let no_values = |shape: &[usize]| npy(Float::F32, shape, false, std::iter::empty());
    let mut big_endian = good.clone();
    let descr = big_endian.iter().position(|byte| *byte == b'<').unwrap();
    big_endian[descr] = b'>';
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("wide.npy", no_values(&[1, usize::MAX]), "cut"), // more bytes than a u64 can count
        ("long.npy", no_values(&[usize::MAX, 4]), "cut"),
        ("narrow.npy", no_values(&[usize::MAX, 0]), "without values"),
        ("big.npy", big_endian, "astype('<f4')"),
        ("flat.npy", npy(Float::F32, &[ROWS * data.dim], false, values()), "shape"),
        ("three.npy", npy(Float::F32, &[ROWS / 3, 3, data.dim], false, values()), "shape"),
        ("cut.npy", good[..good.len() - 4].to_vec(), "cut"),
        ("text.npy", b"0.1, 0.2, 0.3".to_vec(), "text.npy"),
    ];
    for (name, bytes, word) in cases {
        let place = Place::empty();
        fs::write(place.path(name), bytes).unwrap();
        mine(&place.path(name), &place.path("run"), FLAGS).refuses(&[name, word]);
    }
    let place = Place::empty();
    fs::write(place.path("a.npy"), &good).unwrap();
    mine(&place.path("a.npy"), &place.path("run"), &format!("{FLAGS} --task-column task")).refuses(&["task"]);
    let mut nan = data.clone();
    nan.queries[9][2] = f64::NAN;
    fs::write(place.path("a.npy"), npy(Float::F32, &shape, false, nan.queries.concat().into_iter())).unwrap();
    mine(&place.path("a.npy"), &place.path("run-2"), FLAGS).refuses(&["a.npy", "row 9", "dimension 2"]);
}

#[test]
fn npy_files_that_do_not_belong_together() {
    let data = data();
    let place = Place::empty();
    fs::create_dir(place.input()).unwrap();
    let write = |name: &str, rows: usize| {
        let values = data.queries[..rows].concat().into_iter();
        fs::write(place.input().join(name), npy(Float::F32, &[rows, data.dim], false, values)).unwrap();
    };
    write("queries.npy", ROWS);
    write("positives.npy", ROWS - 1);
    mine(&place.input(), &place.path("run"), FLAGS).refuses(&["positives.npy", "59", "60"]);
    data.write(&place.input());
    mine(&place.input(), &place.path("run"), FLAGS).refuses(&["npy"]);
}

#[test]
fn output_folders_that_are_not_ours() {
    let place = Place::with(&data());
    let foreign = place.path("thesis");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("chapter-1.tex"), "\\section{Introduction}").unwrap();
    mine(&place.input(), &foreign, FLAGS).refuses(&["thesis"]);
    mine(&place.input(), &place.input(), FLAGS).refuses(&["input"]);
    let left = |folder: &Path| fs::read_dir(folder).unwrap().count();
    assert_eq!((left(&foreign), left(&place.input())), (1, 1), "nothing was written there");
    // Neither is a folder at all.
    let file = place.input().join("part-0.parquet");
    let outcome = mine(&place.input(), &file, FLAGS);
    assert!(matches!(outcome.code, Some(1 | 2)), "{}", outcome.stderr);
    verify(&foreign).refuses(&["thesis"]);
    verify(&place.path("nothing")).refuses(&["nothing"]);
}

#[test]
fn rows_that_are_not_there_cannot_be_inspected() {
    let place = Place::with(&data());
    let run = place.path("run");
    mine(&place.input(), &run, FLAGS).ok();
    let rows = |range: &str| {
        let output = batchmine().arg("inspect").arg(&run).args(["--rows", range, "--json"]).output().unwrap();
        Outcome::from(output)
    };
    rows("0..60").ok();
    rows("50..61").fails(2, &["61"]);
    rows("9..3").fails(2, &[]);
    rows("all").fails(2, &["all"]);
}
