//! Documents that no row has as its positive: candidates for ranks and hard negatives, and never rows of a batch.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::budgets::{least_mib, measured};
use super::command::{Line, Place, assert_same, call, inspect, mine, mine_command, verify};
use super::dataset::{Dataset, Float, Ids};
use super::negatives;
use super::oracle::{Cut, Exactness, Oracle, check_cut_graph};
use super::promises::{self, Terms};
use super::table;

const ROWS: usize = 500;
const DOCUMENTS: usize = 700;
const FLAGS: &str = "--skip 3 --window 30 --cluster-size 4 --batch-size 16";

/// Rows and documents of three tasks, of which one has no row; some documents are positives of rows, some are others of
/// the corpus, some are queries; keys that rows and documents share.
fn data() -> Dataset {
    let mut data = Dataset::planted(ROWS + DOCUMENTS, 24, 7);
    data.documents = DOCUMENTS;
    for number in 0..40 {
        data.positives[ROWS + 5 * number] = data.positives[(number * 11) % ROWS].clone();
        data.positives[ROWS + 300 + number] = data.positives[ROWS + 200 + number].clone();
        data.positives[ROWS + 500 + number] = data.queries[(number * 7) % ROWS].clone();
    }
    let task = |row: usize| if row >= ROWS && row.is_multiple_of(13) { "none" } else { ["news", "wiki"][row / 3 % 2] };
    data.with_tasks(|row| task(row).into())
        .with_key(|row| (row % 4 < 3).then(|| format!("page {}", row % 290)))
        .with_text_ids()
        .with_text("query", |row| Some(format!("question {row}")))
        .with_text("text", |row| Some(format!("text {row}")))
}

fn flags(data: &Dataset, place: &Place) -> String {
    format!("{FLAGS} {}{}", data.column_flags(), data.corpus_flags(&place.input()))
}

fn documents_of(lines: &[Line]) -> usize {
    lines.iter().flat_map(|line| &line.neighbors).filter(|(other, _)| *other >= ROWS).count()
}

#[test]
fn they_take_ranks_and_are_hard_negatives_and_are_in_no_batch() {
    let data = data();
    let place = Place::with(&data);
    let flags = flags(&data, &place);
    let runs = [
        ("", Cut::skip(3)),
        ("--negatives-of cluster", Cut::skip(3)),
        ("--negatives-of row --remainder fill", Cut::skip(3)),
        ("--negatives-of row-top --epochs 2", Cut { max_score: Some(0.8), ..Cut::skip(3) }),
        ("--max-own-rank 20", Cut { sides: [Some(0.9), Some(0.85)], ..Cut::skip(3) }),
    ];
    for (number, (more, cut)) in runs.into_iter().enumerate() {
        let run = place.path(&format!("run-{number}"));
        let flags = format!("{flags} --hard-negatives 4 {more}{}", cut.flags());
        let said = mine(&place.input(), &run, &flags).ok().stderr;
        assert!(said.contains("documents are left out: no row is of their task"), "{said}");
        assert!(said.contains("% of the candidates in lists are documents"), "{said}");
        let verified = verify(&run).ok().stdout;
        assert!(verified.contains("of 646 documents, are candidates"), "{verified}");
        let (lines, table) = (inspect(&run, 0..ROWS), table::read(&run));
        let oracle = Oracle::new(&data, true);
        oracle.check(&lines, 33, Exactness::NearTies);
        oracle.check_too_close(&lines, |_| cut);
        assert!(documents_of(&lines) > 4000, "{}", documents_of(&lines));
        let drawn = table.iter().flat_map(|row| row.negatives.iter().flatten());
        let of_corpus = drawn.filter(|negative| negative.0 >= ROWS).count();
        assert!(of_corpus > 500, "{of_corpus} negatives are documents");
        if more.contains("own-rank") {
            continue;
        }
        check_cut_graph(&lines, |_| cut, false);
        if more.is_empty() {
            let short = negatives::check(&data, &lines, &table, true, &|_| cut, 4);
            assert_eq!(negatives::counted(&run), Some(short));
        }
        let remainder = if more.contains("fill") { "fill" } else { "short" };
        let epochs = if more.contains("epochs") { 2 } else { 1 };
        promises::check(&data, &lines, &table, Terms { cluster_size: 4, batch_size: 16, epochs, remainder });
    }
}

#[test]
fn every_search_finds_the_same() {
    let data = data();
    let place = Place::with(&data);
    let (flags, run) = (flags(&data, &place), place.path("run"));
    mine(&place.input(), &run, &format!("{flags} --hard-negatives 2")).ok();
    let mut searches = vec!["--precision f32", "--precision bf16", "--threads 1"];
    if cfg!(feature = "faiss") {
        searches.push("--backend faiss");
    }
    for (number, more) in searches.into_iter().enumerate() {
        let other = place.path(&format!("other-{number}"));
        mine(&place.input(), &other, &format!("{flags} --hard-negatives 2 {more}")).ok();
        assert_same(&run, &other, &["vectors", "neighbors", "edges", "clusters", "batches"]);
    }
}

#[test]
fn approximate_search_looks_at_the_documents_of_its_lists() {
    // Enough rows and documents for several lists, in two tasks of which one has no document.
    let (rows, documents) = (3000, 3500);
    let mut data = Dataset::planted(rows + documents, 16, 8);
    data.documents = documents;
    let data = data.with_tasks(|row| ["a", "b"][usize::from(row < 900 && row % 2 == 0)].into());
    let place = Place::with(&data);
    let flags = format!("{FLAGS} {}{}", data.column_flags(), data.corpus_flags(&place.input()));
    let [exact, all, some] = ["exact", "all", "some"].map(|name| place.path(name));
    mine(&place.input(), &exact, &flags).ok();
    mine(&place.input(), &all, &format!("{flags} --search ivf:1000")).ok();
    assert_same(&exact, &all, &["neighbors", "edges", "clusters"]);
    let said = mine(&place.input(), &some, &format!("{flags} --search ivf --recall 0.9")).ok().stderr;
    assert!(said.contains("recall@33 0.9") || said.contains("recall@33 1.0"), "{said}");
    verify(&some).ok();
    let lines = inspect(&some, 0..rows);
    let found: usize = lines.iter().flat_map(|line| &line.neighbors).filter(|(other, _)| *other >= rows).count();
    assert!(found > 10_000, "{found} documents in lists");
}

#[test]
fn documents_of_another_number_type_are_kept_exactly() {
    for (of_rows, one_column) in [(Float::F16, false), (Float::F16, true), (Float::F32, true)] {
        let mut data = Dataset::planted(300, 16, 9);
        data.documents = 120;
        data.one_column = one_column;
        // Rows in halves; documents need all bits of a single, but for copies of rows.
        let candidates = if one_column { &mut data.queries } else { &mut data.positives };
        for vector in &mut candidates[..180] {
            let half = |value: &f64| half::f16::from_f64(*value).to_f64();
            *vector = vector.iter().map(half).collect();
        }
        candidates[200] = candidates[17].clone();
        let place = Place::empty();
        Dataset { float: of_rows, ..data.clone() }.write(&place.input());
        Dataset { float: Float::F32, ..data.clone() }.write(&place.path("single/rows"));
        let corpus = place.path("single/corpus");
        let run = place.path("run");
        mine(&place.input(), &run, &format!("{FLAGS} --corpus {}", corpus.display())).ok();
        verify(&run).ok();
        let data = Dataset { float: Float::F32, queries: halved(&data, one_column), ..data };
        Oracle::new(&data, true).check(&inspect(&run, 0..180), 33, Exactness::NearTies);
    }
}

/// Queries as halves, which the rows' files hold; those of documents stay what they are.
fn halved(data: &Dataset, one_column: bool) -> Vec<Vec<f64>> {
    let half = |value: &f64| half::f16::from_f64(*value).to_f64();
    let row = |(row, query): (usize, &Vec<f64>)| match one_column && row >= data.rows() {
        true => query.clone(),
        false => query.iter().map(half).collect(),
    };
    data.queries.iter().enumerate().map(row).collect()
}

#[test]
fn arrays_are_a_corpus_too_and_bad_documents_are_left_out_or_refused() {
    use npyz::WriterBuilder;
    let mut data = Dataset::planted(260, 16, 10);
    data.documents = 100;
    data.positives[190] = vec![0.0; 16];
    let place = Place::with(&data);
    let write = |name: &str, rows: std::ops::Range<usize>| {
        let file = fs::File::create(place.path(name)).unwrap();
        let options = npyz::WriteOptions::new().default_dtype().shape(&[rows.len() as u64, 16]);
        let mut writer = options.writer(file).begin_nd().unwrap();
        writer.extend(data.positives[rows].iter().flatten().map(|value| *value as f32)).unwrap();
        writer.finish().unwrap();
        place.path(name).display().to_string()
    };
    let corpus = write("corpus.npy", 160..260);
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{FLAGS} --corpus {corpus}")).refuses(&["corpus.npy", "row 30", "zero"]);
    for (number, corpus) in [corpus, place.path("corpus").display().to_string()].iter().enumerate() {
        let run = place.path(&format!("run-{number}"));
        let flags = format!("{FLAGS} --corpus {corpus} --bad-rows drop --hard-negatives 2");
        let said = mine(&place.input(), &run, &flags).ok().stderr;
        assert!(said.contains("1 of 100 documents are left out") && said.contains("bad_documents.parquet"), "{said}");
        let verified = verify(&run).ok().stdout;
        assert!(verified.contains("99 of 99 documents, are candidates"), "{verified}");
        // A document that is left out has a number all the same.
        let lines = inspect(&run, 0..160);
        assert!(lines.iter().flat_map(|line| &line.neighbors).all(|(other, _)| *other != 190));
        let wanted = Dataset { tasks: task_of_the_bad(&data), ..data.clone() };
        Oracle::new(&wanted, true).check(&lines, 33, Exactness::NearTies);
    }
}

/// A task of its own for the document that cannot be used: it is no candidate of any row.
fn task_of_the_bad(data: &Dataset) -> Vec<Option<String>> {
    (0..data.all()).map(|row| (row == 190).then(|| "bad".to_owned())).collect()
}

#[test]
fn what_does_not_fit_the_rows_is_refused_by_name() {
    let data = data();
    let place = Place::with(&data);
    let (flags, run) = (flags(&data, &place), place.path("run"));
    let other = |name: &str, change: &dyn Fn(&mut Dataset)| {
        let mut other = data.clone();
        change(&mut other);
        other.write(&place.path(&format!("{name}/input")));
        flags.replace(
            &place.path("corpus").display().to_string(),
            &place.path(&format!("{name}/corpus")).display().to_string(),
        )
    };
    let short = |data: &mut Dataset| {
        data.dim = 8;
        [&mut data.queries, &mut data.positives].into_iter().flatten().for_each(|vector| vector.truncate(8));
    };
    let numbers = |data: &mut Dataset| data.ids = Ids::Int((0..data.all() as i64).map(Some).collect());
    let same = |data: &mut Dataset| {
        let Ids::Text(ids) = &mut data.ids else { unreachable!() };
        ids[ROWS + 20] = ids[3].clone();
    };
    let twice = |data: &mut Dataset| {
        let Ids::Text(ids) = &mut data.ids else { unreachable!() };
        ids[ROWS + 20] = ids[ROWS + 3].clone();
    };
    type Case<'c> = (&'c str, &'c dyn Fn(&mut Dataset), &'c [&'c str]);
    let cases: [Case; 6] = [
        ("dimensions", &short, &["24 dimensions", "8 dimensions"]),
        ("tasks", &|data| data.tasks.clear(), &["no column of tasks", "--task-column"]),
        ("numbers", &numbers, &["ids of two kinds", "--document-id-column"]),
        ("same", &same, &["a row and a document have the same id", "row 3", "row 20"]),
        ("twice", &twice, &["two documents have the same id"]),
        ("columns", &|data| data.one_column = false, &[]),
    ];
    for (name, change, words) in cases {
        let flags = other(name, change);
        match words {
            [] => _ = mine(&place.input(), &run, &flags).ok(),
            words => _ = mine(&place.input(), &run, &flags).refuses(words),
        }
    }
    mine(&place.input(), &run, &format!("{flags} --document-column text --replace")).refuses(&["text", "Utf8"]);
    mine(&place.input(), &run, &format!("{flags} --document-column nothing")).refuses(&["nothing"]);
    mine(&place.input(), &run, &flags.replace("/corpus", "/nowhere")).refuses(&["nowhere"]);
    let idle = mine(&place.input(), &place.path("idle"), &format!("{FLAGS} --document-column text")).ok().stderr;
    assert!(idle.contains("--document-column has no effect here"), "{idle}");
}

#[test]
fn a_run_knows_its_corpus_by_its_content() {
    let data = data();
    let place = Place::with(&data);
    let (flags, run) = (flags(&data, &place), place.path("run"));
    mine(&place.input(), &run, &flags).ok();
    // The same elsewhere is the same; another is refused; one for the run without is refused, too.
    let (from, to) = (place.path("corpus"), place.path("moved"));
    fs::rename(&from, &to).unwrap();
    let moved = flags.replace(&from.display().to_string(), &to.display().to_string());
    let said = mine(&place.input(), &run, &moved).ok().stderr;
    assert!(said.contains("this job was finished already"), "{said}");
    let mut other = data.clone();
    other.positives[ROWS + 2][0] += 0.25;
    other.write(&place.path("other/input"));
    let changed = flags.replace(&from.display().to_string(), &place.path("other/corpus").display().to_string());
    mine(&place.input(), &run, &changed).refuses(&["--replace"]);
    let without = format!("{FLAGS} {}", data.column_flags());
    mine(&place.input(), &run, &without).refuses(&["--replace"]);
    mine(&place.input(), &run, &format!("{without} --replace")).ok();
    verify(&run).ok();
}

#[test]
fn the_plan_counts_them_and_the_least_budget_suffices() {
    let mut data = Dataset::planted(24_000, 32, 11);
    data.documents = 20_000;
    let place = Place::with(&data);
    let run = place.path("run");
    let flags = format!("{FLAGS} --hard-negatives 3{}", data.corpus_flags(&place.input()));
    let least = least_mib(mine_command(&place.input(), &run, &flags));
    let plan =
        call(["plan".as_ref(), place.input().as_os_str(), "--corpus".as_ref(), place.path("corpus").as_os_str()]);
    assert!(plan.ok().stdout.contains("corpus   20,000 documents"));
    let found = measured(mine_command(&place.input(), &run, &format!("{flags} --memory {least}MiB")), &run);
    found.outcome.ok();
    assert!(found.peak <= least << 20, "{} of {least} MiB", found.peak >> 20);
    let rich = place.path("rich");
    mine(&place.input(), &rich, &flags).ok();
    assert_same(&run, &rich, &["vectors", "neighbors", "edges", "clusters", "batches"]);
}

#[test]
fn a_look_at_rows_names_documents_with_their_texts() {
    let data = data();
    let place = Place::with(&data);
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{} --hard-negatives 2", flags(&data, &place))).ok();
    let said = call(["inspect".as_ref(), run.as_os_str(), "--rows".as_ref(), "0..60".as_ref()]).ok().stdout;
    let known: BTreeMap<String, String> =
        (0..DOCUMENTS).map(|document| (document.to_string(), format!("text {}", ROWS + document))).collect();
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("  document ")).collect();
    assert!(lines.len() > 60, "{said}");
    for line in lines {
        let (_, end) = line.split_once("  document ").unwrap();
        let (number, text) = end.split_once("  ").unwrap();
        assert_eq!(known[number], text, "{line}");
    }
    let checked = call(
        ["mine".as_ref(), place.input().as_os_str(), "--out".as_ref(), place.path("dry").as_os_str()]
            .into_iter()
            .chain(["--dry-run", "--corpus"].map(AsRef::as_ref))
            .chain([place.path("corpus").as_os_str()]),
    );
    assert!(checked.ok().stdout.contains("700 documents can be used"));
    report_is_of_rows(&run);
}

/// A report counts pairs of a batch, where no document is.
fn report_is_of_rows(run: &Path) {
    call(["report".as_ref(), run.as_os_str()]).ok();
    let report: serde_json::Value = serde_json::from_slice(&fs::read(run.join("report.json")).unwrap()).unwrap();
    assert_eq!(report["terms"]["rows"].as_u64(), Some(ROWS as u64));
}

#[cfg(feature = "export")]
#[test]
fn exports_join_the_texts_of_documents() {
    use std::sync::Arc;

    use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};

    use super::command::export;
    use super::dataset::write_columns;
    use super::exported::{lines, numbers, parquet, strings};
    let data = data();
    let place = Place::with(&data);
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{} --hard-negatives 4 --negatives-of row", flags(&data, &place))).ok();
    let text_of: BTreeMap<String, String> = (0..data.all()).map(|row| (data.id(row), format!("text {row}"))).collect();
    let texts = "--query-text query --positive-text text";
    let out = place.path("tevatron");
    export(&run, "tevatron", &out, texts).ok();
    let mut of_corpus = 0;
    for line in lines(&out.join("train.jsonl")) {
        for passage in line["negative_passages"].as_array().unwrap() {
            let (id, text) = (passage["docid"].as_str().unwrap(), passage["text"].as_str().unwrap());
            assert_eq!(text_of[id], text);
            of_corpus += usize::from(text.strip_prefix("text ").unwrap().parse::<usize>().unwrap() >= ROWS);
        }
    }
    assert!(of_corpus > 400, "{of_corpus}");
    for format in ["sentence-transformers", "flagembedding", "swift", "arctic", "b3"] {
        export(&run, format, &place.path(format), texts).ok();
    }
    // Lists: every document of a list is in the table of documents once, with its text.
    let out = place.path("neighbors");
    export(&run, "neighbors", &out, texts).ok();
    let documents = parquet(&out.join("documents/part-00000.parquet"));
    let known: BTreeMap<String, String> =
        strings(&documents, "document_id").into_iter().zip(strings(&documents, "text")).collect();
    assert_eq!(known.len(), documents.num_rows(), "each once");
    assert!(known.iter().all(|(id, text)| text_of[id] == *text));
    let scores = parquet(&out.join("scores/part-00000.parquet"));
    let lists = scores.column_by_name("document_ids").unwrap().as_list::<i32>();
    let ids = lists.values().as_string::<i32>();
    assert!((0..ids.len()).all(|at| known.contains_key(ids.value(at))));
    assert!(known.len() > ROWS + 200, "{} documents", known.len());
    // Texts may be in other files, of as many documents.
    let text: ArrayRef =
        Arc::new(StringArray::from_iter_values((0..DOCUMENTS).map(|number| format!("other {number}"))));
    write_columns(&place.path("texts.parquet"), vec![("title", text)]);
    let out = place.path("other");
    let more = format!("{texts} --document-text title --corpus-source {}", place.path("texts.parquet").display());
    export(&run, "tevatron", &out, &more).ok();
    let all = lines(&out.join("train.jsonl"));
    let passages = all.iter().flat_map(|line| line["negative_passages"].as_array().unwrap());
    assert_eq!(passages.filter(|p| p["text"].as_str().unwrap().starts_with("other")).count(), of_corpus);
    let few: ArrayRef = Arc::new(StringArray::from_iter_values(["a"]));
    write_columns(&place.path("few.parquet"), vec![("title", few)]);
    let few = format!("{texts} --corpus-source {}", place.path("few.parquet").display());
    export(&run, "tevatron", &place.path("few"), &few).refuses(&["700 documents", "1 rows"]);
    let wrong = format!("{texts} --document-text nothing");
    export(&run, "tevatron", &place.path("wrong"), &wrong).refuses(&["nothing", "part-0.parquet"]);
    let numbered: ArrayRef = Arc::new(Int64Array::from_iter_values(0..DOCUMENTS as i64));
    write_columns(&place.path("numbers.parquet"), vec![("text", numbered)]);
    let numbered = format!("{texts} --corpus-source {}", place.path("numbers.parquet").display());
    export(&run, "tevatron", &place.path("numbers"), &numbered).refuses(&["text", "--document-text"]);
    assert_eq!(numbers(&parquet(&out_of(&run)), "row").len(), ROWS);
}

/// The only file of a run's table.
#[cfg(feature = "export")]
fn out_of(run: &Path) -> std::path::PathBuf {
    run.join("batches/part-00000-00000.parquet")
}

#[test]
fn documents_of_other_tasks_alone_are_no_corpus() {
    let data = data().with_tasks(|row| if row < ROWS { "news" } else { "none" }.into());
    let place = Place::with(&data);
    let (flags, run) = (format!("{} --hard-negatives 2", flags(&data, &place)), place.path("run"));
    let said = mine(&place.input(), &run, &flags).ok().stderr;
    assert!(said.contains("700 documents are left out: no row is of their task"), "{said}");
    verify(&run).ok();
    let lines = inspect(&run, 0..ROWS);
    Oracle::new(&data, true).check(&lines, 33, Exactness::NearTies);
    assert_eq!(documents_of(&lines), 0);
}

#[test]
fn a_key_that_one_row_and_documents_have_parts_no_rows_of_one_positive() {
    let mut data = Dataset::planted(160, 16, 12);
    data.documents = 40;
    data.positives[1] = data.positives[0].clone();
    let data = data.with_key(|row| [0, 125, 130, 131].contains(&row).then(|| "seven".to_owned()));
    let place = Place::with(&data);
    let run = place.path("run");
    let flags = "--skip 0 --window 159 --cluster-size 4 --batch-size 16 --rank-by positive --positive-key key0";
    mine(&place.input(), &run, &format!("{flags}{}", data.corpus_flags(&place.input()))).ok();
    verify(&run).ok();
    // Of rows 0 and 1 one takes a rank; of the documents with row 0's key none does.
    let lines = inspect(&run, 0..120);
    for line in &lines[2..] {
        let has = |row: usize| line.neighbors.iter().any(|(other, _)| *other == row);
        assert_eq!([0, 1, 125, 130, 131].map(has), [true, false, false, false, false], "row {}", line.row);
    }
    assert_eq!(lines[5].neighbors.len(), 119 - 1 + 37);
}

#[test]
fn a_search_that_is_long_enough_for_a_trial_tries_rows_and_no_documents() {
    // 10^11 multiplications and more: below, no precision is tried.
    let mut data = Dataset::planted(24_200, 448, 13);
    data.documents = 14_000;
    data.float = Float::F16;
    let place = Place::with(&data.in_halves());
    let (corpus, run, other) = (place.path("corpus"), place.path("run"), place.path("other"));
    let flags = format!("{FLAGS} --hard-negatives 1 --corpus {}", corpus.display());
    mine(&place.input(), &run, &flags).ok();
    verify(&run).ok();
    mine(&place.input(), &other, &format!("{flags} --precision f32")).ok();
    assert_same(&run, &other, &["vectors", "neighbors", "edges", "clusters", "batches"]);
}
