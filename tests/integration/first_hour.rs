//! What a new user meets: slips of the command line, what a job assumes, remedies that fit.

use std::fs;

use super::command::{Outcome, Place, batchmine, call, files, mine, mine_command};
use super::dataset::{Dataset, Float, npy};

const FLAGS: &str = "--skip 4 --window 16 --cluster-size 8 --batch-size 32";

fn data() -> Dataset {
    Dataset::planted(200, 16, 53)
}

#[test]
fn a_misspelt_variable_is_refused_by_every_verb() {
    let place = Place::with(&data());
    let run = place.path("run");
    let mut command = mine_command(&place.input(), &run, FLAGS);
    let words = ["BATCHMINE_BATCHSIZE", "set BATCHMINE_BATCH_SIZE"];
    Outcome::from(command.env("BATCHMINE_BATCHSIZE", "64").output().unwrap()).refuses(&words);
    assert!(!run.exists());
    for verb in ["plan x", "verify x", "report x", "inspect x", "clean x", "man", "completions bash"] {
        let mut command = batchmine();
        command.args(verb.split(' ')).env("BATCHMINE_BATCHSIZE", "64");
        Outcome::from(command.output().unwrap()).refuses(&words);
    }
    let mut known = mine_command(&place.input(), &run, "--skip 4 --window 16 --cluster-size 8");
    Outcome::from(known.env("BATCHMINE_BATCH_SIZE", "32").output().unwrap()).ok();
}

#[test]
fn numbers_that_cannot_be_negative_say_so() {
    let place = Place::with(&data());
    let refused = |flags: &str, words: &[&str]| {
        let said = mine(&place.input(), &place.path("run"), flags).refuses(words);
        assert!(!said.stderr.contains("-- -"), "{}", said.stderr);
    };
    refused("--skip -1", &["--skip (p) cannot be negative", "--skip -1"]);
    refused("--window -5", &["--window (m) cannot be negative"]);
    refused("--seed=-1", &["--seed cannot be negative"]);
    refused("--batch-size -64", &["--batch-size (|B|) cannot be negative"]);
    let mut command = mine_command(&place.input(), &place.path("run"), "");
    let outcome: Outcome = command.env("BATCHMINE_EPOCHS", "-2").output().unwrap().into();
    outcome.refuses(&["--epochs cannot be negative"]);
}

#[test]
fn a_finished_run_says_that_nothing_was_done() {
    let place = Place::with(&data());
    let run = place.path("run");
    let said = mine(&place.input(), &run, FLAGS).ok().stderr;
    assert!(said.contains("on disk") && !said.contains("finished already"), "{said}");
    let made = files(&run, &["vectors", "neighbors", "edges", "clusters", "batches"]);
    let said = mine(&place.input(), &run, FLAGS).ok().stderr;
    assert!(said.contains("finished already: nothing was mined") && !said.contains("on disk"), "{said}");
    assert!(made == files(&run, &["vectors", "neighbors", "edges", "clusters", "batches"]));
}

#[test]
fn the_log_begins_with_what_is_assumed() {
    let data = data().with_text("doc_id", |row| Some(format!("{}", row % 50))).with_text("text", |_| None);
    let place = Place::with(&data);
    let said = mine(&place.input(), &place.path("run"), FLAGS).ok().stderr;
    for words in [
        "columns: query query_embedding, positive positive_embedding",
        "no task, no key",
        "not taken: doc_id",
        "metric cosine, p 4, m 16, K 8, |B| 32, seed 0",
    ] {
        assert!(said.contains(words), "no {words:?} in:\n{said}");
    }
    let said = mine(&place.input(), &place.path("other"), &format!("{FLAGS} --key-column doc_id")).ok().stderr;
    assert!(said.contains("keys doc_id") && !said.contains("not taken"), "{said}");
}

#[test]
fn settings_without_effect_are_warned_of() {
    let place = Place::with(&data());
    let run = place.path("run");
    let said = mine(&place.input(), &run, &format!("{FLAGS} --backend cpu --gpu-timeout 9 --rank-layout strided"));
    let said = said.ok().stderr;
    for flag in ["--gpu-timeout has no effect", "--rank-layout has no effect"] {
        assert!(said.contains(flag), "{said}");
    }
    let flags = ["--empty-keys", "value"].map(std::ffi::OsStr::new);
    let said = call(["plan".as_ref(), place.input().as_os_str()].into_iter().chain(flags)).ok().stderr;
    assert!(said.contains("--empty-keys has no effect"), "{said}");
}

#[test]
fn arrays_have_no_columns_to_name() {
    let place = Place::empty();
    fs::create_dir(place.input()).unwrap();
    let values = (0..100 * 8).map(|at| f64::from(at * 37 % 101 - 50));
    fs::write(place.input().join("a.npy"), npy(Float::F32, &[100, 8], false, values)).unwrap();
    for flag in ["--query-column q", "--positive-column q", "--embedding-column q", "--id-column q", "--key-column q"] {
        mine(&place.input(), &place.path("run"), &format!("{FLAGS} {flag}"))
            .refuses(&[".npy files have no columns", "q"]);
    }
}

#[test]
fn a_window_that_is_too_wide_keeps_p_where_it_can() {
    let place = Place::with(&Dataset::planted(80, 16, 54));
    let run = place.path("run");
    mine(&place.input(), &run, "").refuses(&["wider than the input", "try --window 69, which keeps p at 10"]);
    mine(&place.input(), &run, "--window 69 --batch-size 32").ok();
    let other = place.path("other");
    mine(&place.input(), &other, "--skip 60").refuses(&["--skip 7 --window 72"]);
    mine(&place.input(), &other, "--skip 7 --window 72 --batch-size 32").ok();
}

#[test]
fn remedies_name_what_helps() {
    let place = Place::with(&data());
    let run = place.path("run");
    mine(&place.input(), &run, "--memory 10").fails(4, &["--memory 10: a size without a unit is in bytes", "MiB"]);
    mine(&place.input(), &run, "--search ivf:0").fails(2, &["ivf:PROBES with at least 1 list"]);
    if !cfg!(feature = "export") {
        call(["export", "run"]).refuses(&["this build writes no exports", "--features export"]);
    }
}

#[test]
fn every_verb_has_a_manual_page() {
    let folder = Place::empty();
    let out = folder.path("man");
    call(["man".as_ref(), "--out".as_ref(), out.as_os_str()]).ok();
    for verb in ["mine", "plan", "inspect", "verify", "report", "clean", "gen", "bench", "completions", "man"] {
        let page = fs::read_to_string(out.join(format!("batchmine-{verb}.1"))).unwrap();
        assert_eq!(page.trim_end(), call(["man", verb]).ok().stdout.trim_end());
        let help = call([verb, "--help"]).ok().stdout;
        for flag in help.split_whitespace().filter(|word| word.starts_with("--")) {
            let flag = flag.trim_end_matches(|letter: char| !letter.is_alphanumeric());
            assert!(page.contains(&flag.replace('-', "\\-")), "no {flag} in {page}");
        }
    }
    let page = call(["man", "mine"]).ok().stdout;
    assert!(page.contains("\\-\\-batch\\-size") && page.contains("\\-\\-replace"), "{page}");
    assert!(call(["man"]).ok().stdout.contains("batchmine\\-mine(1)"));
    call(["man", "mien"]).refuses(&["no such verb", "mine"]);
}
