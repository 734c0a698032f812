//! `.npy` files in pairs: by their names, and by `--query-file` and `--positive-file`.

use std::fs;
use std::path::Path;

use super::command::{Outcome, Place, batchmine};
use super::dataset::{Dataset, Float, npy};

const ROWS: usize = 60;
const DIM: usize = 8;
const FLAGS: &str = "--batch-size 8 --cluster-size 4 --skip 2 --window 5";

fn data() -> Dataset {
    Dataset::planted(ROWS, DIM, 71)
}

/// Writes some rows as an array.
fn write(path: &Path, rows: &[Vec<f64>], float: Float) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let dim = rows.first().map_or(DIM, Vec::len);
    fs::write(path, npy(float, &[rows.len(), dim], false, rows.concat().into_iter())).unwrap();
}

fn mine(place: &Place, run: &str, arguments: &[&str]) -> Outcome {
    let mut command = batchmine();
    command.current_dir(place.path(".")).arg("mine").args(arguments).args(["--out", run]).args(FLAGS.split(' '));
    command.output().unwrap().into()
}

/// Asserts that a run's stores have these rows, as f32.
#[track_caller]
fn has_rows(place: &Place, run: &str, sides: [&[Vec<f64>]; 2]) {
    for (name, rows) in ["queries.vec", "positives.vec"].iter().zip(sides) {
        let store = fs::read(place.path(run).join("vectors").join(name)).unwrap();
        let bytes: Vec<u8> = rows.concat().iter().flat_map(|value| (*value as f32).to_le_bytes()).collect();
        assert!(store.windows(bytes.len()).any(|window| window == bytes), "{run}: {name}");
    }
}

#[test]
fn usual_names_are_pairs_and_the_log_says_which() {
    let data = data();
    for (number, (query, positive)) in [
        ("queries", "corpus"),
        ("anchors", "positives"),
        ("q", "p"),
        ("query_embeddings", "passage_embeddings"),
        ("Queries", "Positives"),
        ("queries/0", "positives/0"),
    ]
    .into_iter()
    .enumerate()
    {
        let place = Place::empty();
        let [query, positive] = [query, positive].map(|name| format!("{name}.npy"));
        write(&place.path(&query), &data.queries, Float::F32);
        write(&place.path(&positive), &data.positives, Float::F32);
        // In both orders.
        let inputs = if number % 2 == 0 { [&*query, &*positive] } else { [&*positive, &*query] };
        let said = mine(&place, "run", &inputs).ok().said();
        assert!(said.contains(&format!("{positive} has the positives of {query}")), "{said}");
        has_rows(&place, "run", [&data.queries, &data.positives]);
    }
}

#[test]
fn half_a_pair_is_refused() {
    let data = data();
    let place = Place::empty();
    for name in ["queries_0", "positives_0", "queries_3"] {
        write(&place.input().join(format!("{name}.npy")), &data.queries, Float::F32);
    }
    mine(&place, "run", &["input"]).refuses(&["queries_3.npy", "positives", "--query-file"]);
    write(&place.input().join("positives_3.npy"), &data.positives, Float::F32);
    write(&place.input().join("passages_3.npy"), &data.positives, Float::F32);
    mine(&place, "run", &["input"]).refuses(&["could be paired with two others", "passages_3.npy", "positives_3.npy"]);
    fs::remove_file(place.input().join("passages_3.npy")).unwrap();
    write(&place.input().join("negatives_3.npy"), &data.positives, Float::F32);
    mine(&place, "run", &["input"]).refuses(&["negatives_3.npy", "negatives are what is mined"]);
    fs::remove_file(place.input().join("negatives_3.npy")).unwrap();
    write(&place.input().join("more.npy"), &data.positives, Float::F32);
    mine(&place, "run", &["input"]).refuses(&["more.npy", "their own positives", "queries_0.npy"]);
}

#[test]
fn pairs_of_other_shapes_are_refused_with_both_files() {
    let data = data();
    let place = Place::empty();
    write(&place.path("q.npy"), &data.queries, Float::F32);
    write(&place.path("p.npy"), &data.positives[1..], Float::F32);
    mine(&place, "run", &["q.npy", "p.npy"]).refuses(&["p.npy", "q.npy", "[60, 8]", "[59, 8]"]);
    let wide: Vec<Vec<f64>> = data.positives.iter().map(|row| [row.as_slice(), &[1.0]].concat()).collect();
    write(&place.path("p.npy"), &wide, Float::F32);
    mine(&place, "run", &["q.npy", "p.npy"]).refuses(&["p.npy", "q.npy", "[60, 8]", "[60, 9]"]);
}

#[test]
fn flags_name_pairs_whatever_they_are_called() {
    let data = data();
    let place = Place::empty();
    for (name, rows) in [("a/x1", &data.queries[..40]), ("a/x2", &data.queries[40..])] {
        write(&place.path(&format!("{name}.npy")), rows, Float::F32);
    }
    for (name, rows) in [("b/y1", &data.positives[..40]), ("b/y2", &data.positives[40..])] {
        write(&place.path(&format!("{name}.npy")), rows, Float::F64);
    }
    let files = ["--query-file", "a/x1.npy", "--query-file", "a/x2.npy", "--positive-file", "b/*.npy"];
    mine(&place, "files", &files).ok();
    has_rows(&place, "files", [&data.queries, &data.positives]);
    fs::write(place.path("batchmine.toml"), "query-file = [\"a\"]\npositive-file = [\"b\"]\n").unwrap();
    mine(&place, "toml", &["--config", "batchmine.toml"]).ok();
    has_rows(&place, "toml", [&data.queries, &data.positives]);
    // A file of positives that is another one later is noticed.
    write(&place.path("b/y1.npy"), &data.queries[..40], Float::F64);
    mine(&place, "files", &files).refuses(&["inputs"]);
    mine(&place, "run", &["--query-file", "a", "--positive-file", "b/y1.npy"]).refuses(&["2 files of queries and 1"]);
    mine(&place, "run", &["--query-file", "a"]).refuses(&["--query-file without --positive-file"]);
    mine(&place, "run", &["a", "--query-file", "a", "--positive-file", "b"]).refuses(&["files besides"]);
    mine(&place, "run", &[]).refuses(&["neither"]);
    data.write(&place.input());
    mine(&place, "run", &["--query-file", "input", "--positive-file", "b"]).refuses(&["is no .npy array"]);
}

#[test]
fn one_array_is_its_own_positive_where_nothing_says_otherwise() {
    let data = data();
    let place = Place::empty();
    write(&place.path("embeddings.npy"), &data.queries, Float::F32);
    let said = mine(&place, "neutral", &["embeddings.npy"]).ok().said();
    assert!(said.contains("each row of 1 arrays is its own positive"), "{said}");
    write(&place.path("docs/corpus.npy"), &data.queries, Float::F32);
    mine(&place, "half", &["docs/corpus.npy"]).refuses(&["corpus.npy", "the same file twice"]);
    let twice = ["--query-file", "docs/corpus.npy", "--positive-file", "docs/corpus.npy"];
    mine(&place, "twice", &twice).ok();
    assert!(!place.path("twice/vectors/positives.vec").exists());
}

#[test]
fn doubles_and_fortran_order_are_read() {
    let data = data();
    let place = Place::empty();
    let mut columns = vec![0.0; ROWS * DIM];
    for (row, values) in data.positives.iter().enumerate() {
        for (at, value) in values.iter().enumerate() {
            columns[at * ROWS + row] = *value;
        }
    }
    write(&place.path("queries.npy"), &data.queries, Float::F64);
    fs::write(place.path("positives.npy"), npy(Float::F32, &[ROWS, DIM], true, columns.into_iter())).unwrap();
    mine(&place, "run", &["queries.npy", "positives.npy"]).ok();
    has_rows(&place, "run", [&data.queries, &data.positives]);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/files/arrays");
    let file = |name: &str| fixtures.join(name).display().to_string();
    mine(&place, "double", &[&file("double-queries.npy"), &file("fortran-positives.npy")]).refuses(&["--query-file"]);
    let sides = |query: &str, positive: &str| [file(query), file(positive)];
    for (run, [query, positive]) in [
        ("a", sides("double-queries.npy", "double-positives.npy")),
        ("b", sides("fortran-queries.npy", "fortran-positives.npy")),
    ] {
        mine(&place, run, &[&query, &positive]).ok();
    }
    for name in ["queries.vec", "positives.vec"] {
        let read = |run: &str| fs::read(place.path(run).join("vectors").join(name)).unwrap();
        assert!(read("a") == read("b"), "{name}");
    }
    let [query, positive] = sides("big-endian-queries.npy", "big-endian-positives.npy");
    mine(&place, "big", &[&query, &positive]).refuses(&["big-endian", "astype('<f4')"]);
    mine(&place, "objects", &[&file("objects.npy")]).refuses(&["objects.npy", "|O"]);
}
