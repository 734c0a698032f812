//! Input from object stores and from a server: the same run as from local files, and what can go wrong on the way.

use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::command::{MADE, Outcome, Place, assert_same, batchmine, mine};
use super::dataset::{Dataset, Layout};
use super::file_server::{FileServer, Manner};
use super::lake_server::Server;
use super::readers::python;
use super::signals::{SOON, end};

const FLAGS: &str = "--task-column task --skip 3 --window 12 --cluster-size 4 --batch-size 16 --threads 2";

/// Some files of some row groups each, with a text that nobody asks for.
fn data(seed: u64) -> Dataset {
    let data = Dataset::planted(400, 16, seed).with_tasks(|row| ["a", "b"][row % 2].into());
    let data = data.with_key(|row| Some(format!("key {}", row / 2))).with_text("text", |row| Some("x".repeat(row)));
    Dataset { files: 3, row_group_rows: 50, layout: Layout::List, ..data }
}

fn command<S: Into<OsString>>(
    inputs: impl IntoIterator<Item = S>,
    run: &Path,
    variables: &[(String, String)],
) -> Command {
    let mut command = batchmine();
    command.arg("mine").args(inputs.into_iter().map(Into::into)).arg("--out").arg(run);
    command.args(FLAGS.split_whitespace()).args(["--key-column", "key0"]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command.envs(variables.iter().cloned());
    command
}

fn stored<S: Into<OsString>>(
    inputs: impl IntoIterator<Item = S>,
    run: &Path,
    variables: &[(String, String)],
) -> Outcome {
    command(inputs, run, variables).output().unwrap().into()
}

/// The run of local files.
fn local(place: &Place) -> std::path::PathBuf {
    let reference = place.path("reference");
    stored([place.input()], &reference, &[]).ok();
    reference
}

/// Puts all files of a folder, at any depth, under a prefix of the bucket; the prefix may be empty.
fn upload(server: &Server, folder: &Path, prefix: &str) {
    let script = "import boto3, os, pathlib, sys\n\
                  s3 = boto3.client('s3', endpoint_url=os.environ['AWS_ENDPOINT_URL'])\n\
                  for path in pathlib.Path(sys.argv[1]).rglob('*'):\n    \
                  if path.is_file(): s3.upload_file(path, 'lake', sys.argv[2] + str(path.relative_to(sys.argv[1])))\n";
    let mut upload = python();
    upload.args(["-c", script]).arg(folder).arg(prefix).envs(server.variables());
    assert!(upload.status().unwrap().success());
}

#[test]
fn a_run_from_a_store_is_the_run_from_local_files() {
    let Some(server) = Server::moto() else { return };
    let place = Place::with(&data(101));
    let (variables, folder) = (server.variables(), place.path("copy"));
    fs::create_dir_all(folder.join("_temporary")).unwrap();
    for name in ["part-0.parquet", "part-1.parquet", "part-2.parquet"] {
        fs::copy(place.input().join(name), folder.join(name)).unwrap();
    }
    for hidden in ["_SUCCESS", ".part-0.parquet.crc", "notes.txt", "_temporary/x.parquet", "_old.parquet"] {
        fs::write(folder.join(hidden), "x").unwrap();
    }
    upload(&server, &folder, "deep/pairs/");
    let reference = local(&place);
    let part = |number: u32| format!("s3://lake/deep/pairs/part-{number}.parquet");
    let local_part = place.input().join("part-1.parquet").display().to_string();
    let cases = [
        vec!["s3://lake/deep/pairs".to_owned()],
        vec!["s3://lake/deep/pairs/".to_owned()],
        vec!["s3://lake/deep/pairs/part-?.parquet".to_owned()],
        vec!["s3://lake/*/**/part-*.parquet".to_owned()],
        vec![part(0), local_part, part(2)],
    ];
    for (case, inputs) in cases.iter().enumerate() {
        let run = place.path(&format!("run{case}"));
        stored(inputs, &run, &variables).ok();
        assert_same(&run, &reference, &MADE);
    }
    // What was begun from one place goes on from the other, and nothing is made again.
    let said = stored([place.input()], &place.path("run0"), &[]).ok().said();
    assert!(said.contains("finished already"), "{said}");
    let said = stored(&cases[0], &reference, &variables).ok().said();
    assert!(said.contains("finished already") && said.contains("content is compared"), "{said}");
    let said = stored(&cases[0], &reference, &variables).ok().said();
    assert!(!said.contains("content is compared"), "the version is known now: {said}");
    let mut inspect = batchmine();
    inspect.args(["inspect", &cases[0][0]]).envs(variables.iter().cloned());
    let outcome: Outcome = inspect.output().unwrap().into();
    assert!(outcome.ok().said().contains("query_embedding"));
    let mut dry = command(&cases[0], &place.path("dry"), &variables);
    let outcome: Outcome = dry.arg("--dry-run").output().unwrap().into();
    assert!(outcome.ok().said().contains("can be used"));
    stored(["s3://lake/deep/pairs", &part(1)], &place.path("twice"), &variables).refuses(&["named twice"]);
    stored(["s3://lake/deep"], &place.path("none"), &variables).refuses(&["subfolders only", "**/*.parquet"]);
    stored(["s3://lake/deep/*.pq"], &place.path("none"), &variables).refuses(&["no match"]);
}

#[test]
fn hive_folders_in_a_store_give_columns() {
    let Some(server) = Server::moto() else { return };
    let place = Place::empty();
    for (task, seed) in [("a%2Fb", 102), ("plain", 103)] {
        let folder = place.input().join(format!("task={task}"));
        Dataset::planted(100, 16, seed).with_key(|row| Some(row.to_string())).write(&folder);
    }
    upload(&server, &place.input(), "hive/");
    let (reference, run) = (local(&place), place.path("run"));
    stored(["s3://lake/hive"], &run, &server.variables()).ok();
    assert_same(&run, &reference, &MADE);
    fs::create_dir_all(place.path("log/_delta_log")).unwrap();
    fs::write(place.path("log/_delta_log/0.json"), "{}").unwrap();
    upload(&server, &place.path("log"), "hive/");
    stored(["s3://lake/hive"], &run, &server.variables()).refuses(&["a Delta table", "plain Parquet"]);
}

#[test]
fn a_killed_run_goes_on_and_a_changed_object_is_noticed() {
    let Some(server) = Server::moto() else { return };
    let place = Place::with(&data(104));
    let variables = server.variables();
    upload(&server, &place.input(), "pairs/");
    let (reference, run) = (local(&place), place.path("run"));
    for wait in [60, 200, 400, 700] {
        let mut child = command(["s3://lake/pairs"], &run, &variables).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    stored(["s3://lake/pairs"], &run, &variables).ok();
    assert_same(&run, &reference, &MADE);
    let other = place.path("other");
    data(105).write(&other);
    upload(&server, &other, "pairs/");
    stored(["s3://lake/pairs"], &run, &variables).refuses(&["part-0.parquet"]);
}

#[test]
fn what_cannot_be_read_is_refused_with_its_url() {
    let Some(server) = Server::moto() else { return };
    let place = Place::empty();
    let (variables, bucket) = (server.variables(), place.path("bucket"));
    fs::create_dir(&bucket).unwrap();
    let refused = |url: &str, words: &[&str]| {
        let words: Vec<&str> = words.iter().copied().chain([url]).collect();
        stored([url], &place.path("run"), &variables).refuses(&words);
    };
    fs::write(bucket.join("a.npy"), b"\x93NUMPY\x01\0").unwrap();
    fs::write(bucket.join("a.arrow"), b"ARROW1\0\0 and more").unwrap();
    fs::write(bucket.join("a.csv"), b"a,b\n1,2\n").unwrap();
    fs::write(bucket.join("cut.parquet"), b"PAR1 and no more").unwrap();
    upload(&server, &bucket, "");
    refused("s3://lake/a.npy", &["only Parquet", "a .npy array", "copy it"]);
    refused("s3://lake/a.arrow", &["only Parquet", "an Arrow file", "copy it"]);
    refused("s3://lake/a.csv", &["a CSV file"]);
    refused("s3://lake/cut.parquet", &["no PAR1 at its end"]);
    refused("s3://lake/none.parquet", &["nothing of this name", "AWS_REGION"]);
    refused("ftp://host/x.parquet", &["the scheme ftp"]);
    let said = stored(["https://me:hidden@h/x.parquet"], &place.path("run"), &variables).refuses(&["password"]).said();
    assert!(!said.contains("hidden"), "{said}");
    let outcome = stored(["s3://no-such-bucket/x.parquet"], &place.path("run"), &variables);
    outcome.refuses(&["s3://no-such-bucket/x.parquet"]);
    // A server that checks signatures.
    let Some(server) = Server::rclone() else { return };
    let mut wrong = server.variables();
    wrong.iter_mut().find(|(name, _)| name == "AWS_SECRET_ACCESS_KEY").unwrap().1 = "wrongwrong".into();
    let outcome = stored(["s3://lake/a.npy"], &place.path("run"), &wrong);
    let said = outcome.refuses(&["s3://lake/a.npy", "credentials"]).said();
    assert!(!said.contains("wrongwrong"), "{said}");
}

#[test]
fn a_server_that_fails_on_the_way_changes_nothing() {
    let place = Place::with(&data(106));
    let reference = local(&place);
    let server = FileServer::of(place.input());
    let urls: Vec<String> = (0..3).map(|part| server.url(&format!("part-{part}.parquet?signature=hidden"))).collect();
    for (name, manner) in [("whole", Manner::Answer), ("broken", Manner::BreakOff(4))] {
        server.will(manner);
        let run = place.path(name);
        let said = stored(&urls, &run, &[]).ok().said();
        assert_same(&run, &reference, &MADE);
        let manifest = fs::read_to_string(run.join("manifest.json")).unwrap();
        assert!(!said.contains("hidden") && !manifest.contains("hidden"), "{said}");
    }
    let run = place.path("other");
    server.will(Manner::Change(6));
    stored(&urls, &run, &[]).refuses(&["changed while it was read", "part-"]);
    server.will(Manner::WholeFiles);
    stored(&urls, &run, &[]).fails(1, &["does not send parts", "download the file"]);
    server.will(Manner::Answer);
    let said = stored([server.url("none.parquet?signature=hidden")], &run, &[]).refuses(&["no such file"]).said();
    assert!(!said.contains("hidden"), "{said}");
}

#[test]
fn a_store_that_does_not_answer_does_not_keep_anybody() {
    let place = Place::with(&data(107));
    // Connections are made, and nobody takes them up.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut variables = vec![("AWS_ALLOW_HTTP".to_owned(), "true".to_owned())];
    variables.push(("AWS_ENDPOINT_URL".into(), format!("http://{}", listener.local_addr().unwrap())));
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        variables.push((name.into(), "any".into()));
    }
    let mut child = command(["s3://lake/pairs"], &place.path("run"), &variables).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let (status, time) = end(&mut child, "-INT");
    assert!(status.code() == Some(130) && time < SOON, "{status:?} after {time:?}");
    // In the midst of an import.
    let server = FileServer::of(place.input());
    let (url, run) = (server.url("part-0.parquet"), place.path("run"));
    server.will(Manner::FallSilent(2));
    let mut child = command([url.clone()], &run, &[]).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let (status, time) = end(&mut child, "-TERM");
    assert!(status.code() == Some(130) && time < SOON, "{status:?} after {time:?}");
    server.will(Manner::Answer);
    stored([url], &run, &[]).ok();
}

#[test]
fn only_the_columns_that_are_used_are_fetched() {
    let place = Place::empty();
    // Embeddings of 12 MB and a text of 60 MB, which is no repetition.
    let mut state = 7u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + (state >> 59) as u8 % 26)
    };
    let texts: Vec<String> = (0..6000).map(|_| (0..10_000).map(|_| letter()).collect()).collect();
    let data = Dataset::planted(6000, 256, 108).with_text("body", |row| Some(texts[row].clone()));
    let data = data.with_tasks(|_| "a".into()).with_key(|row| Some(row.to_string()));
    Dataset { row_group_rows: 3000, dictionary: false, ..data }.write(&place.input());
    let bytes = fs::metadata(place.input().join("part-0.parquet")).unwrap().len();
    assert!(bytes > 65 << 20);
    let (reference, server) = (local(&place), FileServer::of(place.input()));
    let run = place.path("run");
    stored([server.url("part-0.parquet")], &run, &[]).ok();
    let (sent, requests) = server.sent();
    println!("{sent} of {bytes} bytes in {requests} requests");
    assert_same(&run, &reference, &MADE);
    // The blocks in which used columns begin and end are read whole.
    assert!((12 << 20..45 << 20).contains(&sent), "{sent} of {bytes} bytes in {requests} requests");
    // A finished run is known by its version.
    stored([server.url("part-0.parquet")], &run, &[]).ok();
    assert!(server.sent().0 < 20 << 20);
    mine(&place.input(), &run, &format!("{FLAGS} --key-column key0")).ok();
}
