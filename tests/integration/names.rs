//! Names of files and folders: odd ones work, and those that no record can hold are refused with their bytes.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::command::{Outcome, Place, batchmine, call, mine, mine_command, verify};
use super::pages::root;

const FLAGS: &str = "--skip 1 --window 4 --cluster-size 2 --batch-size 4";

/// A name that is not UTF-8, and how messages show it.
const NO_TEXT: (&[u8], &str) = (b"pairs-\xff", "pairs-\\xFF");

fn no_text() -> &'static OsStr {
    OsStr::from_bytes(NO_TEXT.0)
}

fn texts() -> PathBuf {
    root().join("fixtures/corrupt/texts.parquet")
}

fn refused(outcome: Outcome) {
    let outcome = outcome.refuses(&["UTF-8"]);
    assert!(outcome.stderr.contains(NO_TEXT.1), "no {} in:\n{}", NO_TEXT.1, outcome.stderr);
}

fn called(words: &[&OsStr]) -> Outcome {
    batchmine().args(words).output().unwrap().into()
}

#[test]
fn a_name_that_is_no_text_is_refused_with_its_bytes() {
    let place = Place::empty();
    let odd = place.path("").join(no_text());
    fs::create_dir(&odd).unwrap();
    fs::copy(texts(), odd.join("a.parquet")).unwrap();
    let plain = place.path("plain");
    fs::create_dir(&plain).unwrap();
    fs::copy(texts(), plain.join("b").with_file_name(OsStr::from_bytes(b"pairs-\xff.parquet"))).unwrap();
    let run = place.path("run");
    // As an argument, in a folder, through a link, and where the current folder has such a name.
    refused(mine(&odd, &run, FLAGS));
    refused(mine(&plain, &run, FLAGS));
    symlink(&odd, place.path("link")).unwrap();
    refused(mine(&place.path("link"), &run, FLAGS));
    refused(mine_command(Path::new("a.parquet"), &run, FLAGS).current_dir(&odd).output().unwrap().into());
    refused(called(&["inspect".as_ref(), odd.as_os_str()]));
    refused(called(&["plan".as_ref(), odd.as_os_str()]));
    // What is written.
    refused(mine(&texts(), &odd.join("run"), FLAGS));
    refused(mine_command(&texts(), &run, FLAGS).arg("--work").arg(&odd).output().unwrap().into());
    let missing: Outcome =
        mine_command(&texts(), &run, FLAGS).arg("--config").arg(odd.join("none")).output().unwrap().into();
    missing.fails(2, &[NO_TEXT.1, "remedy:"]);
    assert!(!run.exists() && !odd.join("run").exists(), "refused before anything is written");
}

#[test]
fn a_run_that_was_moved_to_such_a_name_is_read_or_refused() {
    let place = Place::empty();
    let (run, moved) = (place.path("run"), place.path("").join(no_text()));
    mine(&texts(), &run, FLAGS).ok();
    fs::rename(&run, &moved).unwrap();
    verify(&moved).ok();
    called(&["inspect".as_ref(), moved.as_os_str()]).ok();
    refused(called(&["report".as_ref(), moved.as_os_str()]));
    if cfg!(feature = "export") {
        let words: [&OsStr; 6] = [
            "export".as_ref(),
            moved.as_os_str(),
            "--format".as_ref(),
            "tevatron".as_ref(),
            "--out".as_ref(),
            "x".as_ref(),
        ];
        refused(batchmine().args(words).current_dir(place.path("")).output().unwrap().into());
    }
}

#[test]
fn odd_names_that_are_text_work() {
    let long = format!("{}.parquet", "a".repeat(247));
    for name in [
        "a b.parquet",
        "new\nline.parquet",
        "quo'te\".parquet",
        "sta*r.parquet",
        "[1].parquet",
        "q?.parquet",
        "per%20cent.parquet",
        "hash#.parquet",
        "-dash.parquet",
        "ä火.parquet",
        "back\\slash.parquet",
        &long,
    ] {
        let place = Place::empty();
        let folder = place.path(name.trim_end_matches(".parquet"));
        fs::create_dir(&folder).unwrap();
        let file = folder.join(name);
        fs::copy(texts(), &file).unwrap();
        let run = folder.join("run");
        mine(&file, &run, FLAGS).ok();
        // The same content by another way, relative to the folder: nothing is mined again.
        let relative: PathBuf = ["./", name].concat().into();
        let again = mine_command(&relative, Path::new("run"), FLAGS).current_dir(&folder).output().unwrap();
        assert!(Outcome::from(again).ok().stderr.contains("finished already"), "{name:?}");
        verify(&run).ok();
        call([OsStr::new("inspect"), file.as_os_str()]).ok();
        if cfg!(feature = "export") {
            let words: [OsString; 6] = [
                "export".into(),
                run.clone().into(),
                "--format".into(),
                "sentence-transformers".into(),
                "--out".into(),
                folder.join("export").into(),
            ];
            call(words).ok();
        }
    }
}

#[test]
fn an_error_shows_a_line_break_in_a_name_as_an_escape() {
    let place = Place::empty();
    let file = place.path("new\nline.parquet");
    fs::write(&file, "PAR1PAR1").unwrap();
    let outcome = mine(&file, &place.path("run"), FLAGS).refuses(&["new\\nline.parquet"]);
    assert!(!outcome.stderr.contains("new\nline"), "{}", outcome.stderr);
}
