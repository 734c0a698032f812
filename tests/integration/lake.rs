//! Published batch tables: as Delta versions and as plain Parquet, in folders and in object stores.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use serde_json::Value;

use super::command::{Place, files, mine, mine_command};
use super::dataset::Dataset;
use super::lake_server::{Server, lake_script, readers_are_missing};

const FLAGS: &str = "--skip 3 --window 12 --cluster-size 4 --batch-size 16";
/// Names that a folder cannot have, or that contain separators of paths.
const TASKS: [&str; 3] = ["a/b c=d%é", "plain", "%2F"];

pub fn data(seed: u64) -> Dataset {
    Dataset::planted(200, 16, seed).with_tasks(|row| TASKS[row % 3].into())
}

/// The live files of each version of a Delta table in a folder, by its log alone.
fn versions(table: &Path) -> Vec<BTreeSet<String>> {
    let mut live = BTreeSet::new();
    let mut all = Vec::new();
    for version in 0.. {
        let Ok(text) = fs::read_to_string(table.join(format!("_delta_log/{version:020}.json"))) else { break };
        for line in text.lines() {
            let action: Value = serde_json::from_str(line).unwrap();
            if let Some(path) = action["remove"]["path"].as_str() {
                assert!(live.remove(path), "version {version} removes {path}, which is not there");
            }
            if let Some(path) = action["add"]["path"].as_str() {
                assert!(live.insert(path.to_owned()), "version {version} adds {path} twice");
            }
        }
        all.push(live.clone());
    }
    all
}

/// Every file under a folder except the log's: path and bytes.
fn tree(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with("_delta_log") => {}
                true => folders.push(path),
                false => {
                    let name = path.strip_prefix(folder).unwrap().display().to_string();
                    all.push((name, fs::read(&path).unwrap()));
                }
            }
        }
    }
    all.sort();
    all
}

#[test]
fn a_delta_table_opens_in_three_readers() {
    if readers_are_missing() {
        return;
    }
    for (data, extra) in [
        (data(81), ""),
        (data(82).with_text_ids(), "--hard-negatives 5 --partition-by task"),
        (data(83), "--partition-by task --epochs 3 --remainder fill"),
    ] {
        let place = Place::with(&data);
        let (run, table) = (place.path("run"), place.path("lake/table"));
        let publish = format!("{FLAGS} --task-column task {extra} --table delta --table-out {}", table.display());
        mine(&place.input(), &run, &publish).ok();
        lake_script(&["delta", &table.display().to_string(), &run.display().to_string()], &[]);
    }
}

#[test]
fn plain_parquet_opens_in_three_readers() {
    if readers_are_missing() {
        return;
    }
    let place = Place::with(&data(84));
    let run = place.path("run");
    for (name, extra, words) in [("flat", "", vec![]), ("hive", "--partition-by task", vec!["task"])] {
        let table = place.path(name);
        let publish = format!("{FLAGS} --task-column task --hard-negatives 3 {extra} --table-out {}", table.display());
        mine(&place.input(), &run, &publish).ok();
        let (table, run) = (table.display().to_string(), run.display().to_string());
        lake_script(&[&["parquet", &table, &run], words.as_slice()].concat(), &[]);
        if words.is_empty() {
            lake_script(&["iceberg", &table, &run], &[]);
        }
    }
}

#[test]
fn a_run_is_published_once() {
    let place = Place::with(&data(85));
    let table = place.path("run/table");
    let publish = format!("{FLAGS} --table delta");
    mine(&place.input(), &place.path("run"), &publish).ok();
    let first = tree(&table);
    let again = mine(&place.input(), &place.path("run"), &publish).ok();
    assert!(again.said().contains("is in that table already"), "{}", again.said());
    // Another run of the same job holds the same batches.
    let elsewhere = format!("{publish} --table-out {}", table.display());
    mine(&place.input(), &place.path("twin"), &elsewhere).ok();
    assert_eq!(versions(&table).len(), 1);
    // Other batches are a new version, which the first run's next call does not replace.
    mine(&place.input(), &place.path("other"), &format!("{elsewhere} --seed 7")).ok();
    let event = mine(&place.input(), &place.path("run"), &format!("{publish} --json")).ok();
    let event = event.stdout.lines().find(|line| line.contains(r#""event":"table""#)).unwrap();
    let event: Value = serde_json::from_str(event).unwrap();
    assert_eq!((&event["was_there"], &event["version"]), (&true.into(), &1.into()), "{event}");
    let found = versions(&table);
    assert_eq!(found.len(), 2);
    assert!(found[0].is_disjoint(&found[1]), "the later batches stand alone");
    assert!(first.iter().all(|file| tree(&table).contains(file)), "and the earlier ones can be travelled to");
}

#[test]
fn concurrent_writers_lose_nothing() {
    let place = Place::with(&data(86));
    let table = place.path("table");
    let names: Vec<String> = (0..6).map(|seed| format!("run{seed}")).collect();
    // The last has the same batches as the first: whichever comes first publishes for both.
    let flags = |index: usize| format!("{FLAGS} --epochs 3 --seed {} --threads 1", index % 5);
    for (index, name) in names.iter().enumerate() {
        mine(&place.input(), &place.path(name), &flags(index)).ok();
    }
    let publish = |(index, name): (usize, &String)| -> Child {
        let flags = format!("{} --table delta --table-out {}", flags(index), table.display());
        let mut command = mine_command(&place.input(), &place.path(name), &flags);
        command.stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let writers: Vec<Child> = names.iter().enumerate().map(publish).collect();
    for writer in writers {
        let output = writer.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let found = versions(&table);
    assert_eq!(found.len(), 5, "a version for each run, and one for the twins");
    for (version, live) in found.iter().enumerate() {
        assert_eq!(live.len(), 3, "version {version} holds one run's three files: {live:?}");
        let bytes: BTreeSet<Vec<u8>> = live.iter().map(|path| fs::read(table.join(path)).unwrap()).collect();
        let of = |name: &String| files(&place.path(name), &["batches"]).into_iter().map(|(_, bytes)| bytes).collect();
        assert!(names.iter().any(|name| bytes == of(name)), "version {version} is no run's");
    }
    if !readers_are_missing() {
        let runs: Vec<String> = names[..5].iter().map(|name| place.path(name).display().to_string()).collect();
        let table = table.display().to_string();
        let words = ["versions", &table].into_iter().chain(runs.iter().map(String::as_str));
        lake_script(&words.collect::<Vec<_>>(), &[]);
    }
}

#[test]
fn a_killed_publication_is_finished_by_the_next_call() {
    let place = Place::with(&data(87));
    let run = place.path("run");
    let flags = format!("{FLAGS} --task-column task --epochs 12");
    mine(&place.input(), &run, &flags).ok();
    for format in ["delta", "parquet"] {
        let publish = |table: &Path| format!("{flags} --table {format} --table-out {}", table.display());
        let reference = place.path(&format!("{format}-reference"));
        mine(&place.input(), &run, &publish(&reference)).ok();
        let parts = |table: &Path| tree(table).into_iter().filter(|(name, _)| name.starts_with("part-"));
        let mut killed_inside = 0;
        for attempt in 0..24 {
            let table = place.path(&format!("{format}-{attempt}"));
            let quiet = || std::process::Stdio::null();
            let mut child = mine_command(&place.input(), &run, &publish(&table)).stderr(quiet()).spawn().unwrap();
            let some_part = || {
                let names = fs::read_dir(&table).into_iter().flatten().map(|entry| entry.unwrap().file_name());
                names.filter(|name| name.to_string_lossy().starts_with("part-")).count() > attempt % 12
            };
            while !some_part() && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_micros(200));
            }
            child.kill().unwrap();
            child.wait().unwrap();
            let finished = table.join("_SUCCESS").exists() || !versions(&table).is_empty();
            killed_inside += u32::from(some_part() && !finished);
            mine(&place.input(), &run, &publish(&table)).ok();
            assert_eq!(versions(&table), versions(&reference), "{format}, attempt {attempt}");
            assert!(parts(&table).eq(parts(&reference)), "{format}, attempt {attempt}");
            assert_eq!(table.join("_SUCCESS").exists(), format == "parquet");
        }
        assert!(killed_inside > 0, "no call was killed between the first file of {format} and the last");
    }
}

#[test]
fn a_damaged_copy_is_replaced() {
    let place = Place::with(&data(88));
    let run = place.path("run");
    for format in ["delta", "parquet"] {
        let (whole, torn) = (place.path(&format!("{format}-whole")), place.path(&format!("{format}-torn")));
        let publish = |table: &Path| format!("{FLAGS} --table {format} --table-out {}", table.display());
        mine(&place.input(), &run, &publish(&whole)).ok();
        mine(&place.input(), &run, &publish(&torn)).ok();
        // What a power cut before the commit may leave: a copy of the right length, full of zeros.
        for (name, bytes) in tree(&torn).iter().filter(|(name, _)| name.starts_with("part-")) {
            fs::write(torn.join(name), vec![0; bytes.len()]).unwrap();
        }
        let _ = fs::remove_file(torn.join("_SUCCESS"));
        let _ = fs::remove_dir_all(torn.join("_delta_log"));
        mine(&place.input(), &run, &publish(&torn)).ok();
        assert!(tree(&torn) == tree(&whole), "{format}");
    }
}

#[test]
fn a_damaged_part_is_not_published() {
    let place = Place::with(&data(89));
    let run = place.path("run");
    let flags = format!("{FLAGS} --task-column task");
    mine(&place.input(), &run, &flags).ok();
    let part = run.join("batches/part-00000-00000.parquet");
    let mut bytes = fs::read(&part).unwrap();
    bytes[100] ^= 1;
    fs::write(&part, bytes).unwrap();
    for format in ["delta", "parquet", "delta --partition-by task", "parquet --partition-by task"] {
        let table = place.path(&format.replace(' ', "-"));
        let publish = format!("{flags} --table {format} --table-out {}", table.display());
        mine(&place.input(), &run, &publish).fails(1, &["not what was written", "part-00000-00000", "remedy"]);
        assert!(versions(&table).is_empty() && !table.join("_SUCCESS").exists());
        assert!(tree(&table).iter().all(|(name, _)| !name.contains("part-")), "nothing of it is left");
    }
}

#[test]
fn another_kind_of_table_is_refused() {
    let place = Place::with(&data(90));
    let table = place.path("table");
    let publish = format!("{FLAGS} --task-column task --table delta --table-out {}", table.display());
    mine(&place.input(), &place.path("run"), &publish).ok();
    for (name, extra, word) in
        [("drawn", "--hard-negatives 3", "negative_rows"), ("hive", "--partition-by task", "by task")]
    {
        let refused = mine(&place.input(), &place.path(name), &format!("{publish} {extra}"));
        refused.refuses(&["not a batch table like this one", word, "--table-out"]);
    }
    assert_eq!(versions(&table).len(), 1);
    let none = mine(&place.input(), &place.path("none"), &format!("{FLAGS} --table delta --partition-by task"));
    none.refuses(&["--task-column"]);
    let escaped = format!("{FLAGS} --table delta --table-out {}", place.path("dt=2026%2F11").display());
    mine(&place.input(), &place.path("escaped"), &escaped).refuses(&["of this name", "dt=2026%2F11"]);
    for own in ["mine/batches/new", "mine", "."] {
        let inside = format!("{FLAGS} --table delta --table-out {}", place.path(own).display());
        mine(&place.input(), &place.path("mine"), &inside).refuses(&["among the run's own files"]);
    }
    mine(&place.input(), &place.path("mine"), FLAGS).ok();
}

#[test]
fn a_folder_of_parquet_holds_one_run() {
    let place = Place::with(&data(91));
    let table = place.path("table");
    let publish = |table: &PathBuf| format!("{FLAGS} --table-out {}", table.display());
    mine(&place.input(), &place.path("run"), &publish(&table)).ok();
    let first = tree(&table);
    let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names[0], names[1], names.len()), ("_SUCCESS", "_batchmine.json", 3), "{names:?}");
    let again = mine(&place.input(), &place.path("run"), &publish(&table)).ok();
    assert!(again.said().contains("is there already"), "{}", again.said());
    let other = format!("{} --seed 9", publish(&table));
    mine(&place.input(), &place.path("other"), &other).refuses(&["is taken", "another run", "--replace"]);
    assert!(tree(&table) == first);
    mine(&place.input(), &place.path("other"), &format!("{other} --replace")).ok();
    let second = tree(&table);
    assert!(second.len() == 3 && second[2].0 != first[2].0);
    assert!(second[2].1 == files(&place.path("other"), &["batches"])[0].1);
    let foreign = place.path("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("mine.txt"), "mine").unwrap();
    mine(&place.input(), &place.path("run"), &publish(&foreign)).refuses(&["is taken", "mine.txt"]);
}

/// A job is killed halfway, and another one takes its place over.
#[test]
fn a_replacement_leaves_nothing_of_others_behind() {
    let place = Place::with(&data(92));
    for by_task in ["", "--partition-by task"] {
        let table = place.path(&format!("table{by_task}"));
        let flags = |run: &str, more: &str| {
            let table = table.display().to_string().replace(' ', "_");
            (place.path(run), format!("{FLAGS} --task-column task --epochs 3 {by_task} --table-out {table} {more}"))
        };
        let table = PathBuf::from(table.display().to_string().replace(' ', "_"));
        let call = |(run, flags): (PathBuf, String)| mine(&place.input(), &run, &flags);
        call(flags("run", "--replace")).ok();
        let unfinished = tree(&table);
        fs::remove_file(table.join("_SUCCESS")).unwrap();
        call(flags("other", "--seed 9")).refuses(&["another run"]);
        call(flags("other", "--seed 9 --replace")).ok();
        let part = |name: &String| name.contains("part-");
        let left = tree(&table).iter().filter(|(name, _)| part(name)).count();
        assert_eq!(left, 3, "three epochs or three tasks: {:?}", tree(&table).iter().map(|f| &f.0).collect::<Vec<_>>());
        assert!(unfinished.iter().filter(|(name, _)| part(name)).all(|(name, _)| !table.join(name).exists()));
        assert!(table.join("_SUCCESS").exists());
    }
}

#[test]
fn the_two_kinds_of_table_do_not_mix() {
    let place = Place::with(&data(97));
    let (run, other) = (place.path("run"), place.path("other"));
    let publish = |run: &PathBuf, format: &str, more: &str| {
        let flags = format!("{FLAGS} --table {format} --table-out {} {more}", place.path("table").display());
        mine(&place.input(), run, &flags)
    };
    fs::create_dir(place.path("table")).unwrap();
    for left in ["_batchmine_probe-1-2", "._batchmine.json.1-2.tmp", "._batchmine_probe-1-2.1-3.tmp"] {
        fs::write(place.path("table").join(left), "what a killed job may leave").unwrap();
    }
    publish(&run, "parquet", "").ok();
    publish(&run, "delta", "").refuses(&["plain Parquet", "--table-out"]);
    publish(&other, "delta", "--seed 3").refuses(&["plain Parquet", "--table-out"]);
    assert!(!other.join("neighbors").read_dir().unwrap().any(|_| true), "refused before the search");
    fs::remove_dir_all(place.path("table")).unwrap();
    publish(&run, "delta", "").ok();
    publish(&run, "parquet", "--replace").refuses(&["a Delta table", "--table-out"]);
}

#[test]
fn a_refused_place_costs_no_finished_stage() {
    let place = Place::with(&data(100));
    let run = place.path("run");
    mine(&place.input(), &run, FLAGS).ok();
    let before = files(&run, &["clusters", "batches"]);
    let closed =
        format!("{FLAGS} --cluster-size 2 --replace --table delta --table-out {}", run.join("tmp/x").display());
    mine(&place.input(), &run, &closed.replace("--cluster-size 4 ", "")).refuses(&["own files"]);
    assert!(files(&run, &["clusters", "batches"]) == before);
}

#[test]
fn names_that_no_folder_can_have_are_refused_before_the_search() {
    let long = "火".repeat(40);
    let data = Dataset::planted(200, 16, 98).with_tasks(|row| [long.clone(), "b".into()][row % 2].clone());
    let place = Place::with(&data);
    let flags = format!("{FLAGS} --task-column task --partition-by task");
    mine(&place.input(), &place.path("run"), &flags).refuses(&[&long, "--partition-by"]);
    assert!(!place.path("run/neighbors").read_dir().unwrap().any(|_| true));
    mine(&place.input(), &place.path("whole"), &format!("{FLAGS} --task-column task --table delta")).ok();
}

/// Transactions are found in checkpoints too.
#[test]
fn tables_with_checkpoints_are_known_again() {
    if readers_are_missing() {
        return;
    }
    let place = Place::with(&data(99));
    let table = place.path("table");
    let runs: Vec<PathBuf> = (0..5).map(|seed| place.path(&format!("run{seed}"))).collect();
    let publish = |seed: usize| {
        let flags = format!("{FLAGS} --seed {seed} --table delta --table-out {}", table.display());
        mine(&place.input(), &runs[seed], &flags).ok().said()
    };
    publish(0);
    lake_script(&["configure", &table.display().to_string(), "delta.checkpointInterval=2"], &[]);
    (1..5).for_each(|seed| drop(publish(seed)));
    assert!(table.join("_delta_log/_last_checkpoint").exists());
    (0..5).for_each(|seed| assert!(publish(seed).contains("is in that table already")));
    assert_eq!(versions(&table).len(), 6, "five runs and the new property");
    lake_script(&["delta", &table.display().to_string(), &runs[4].display().to_string()], &[]);
    lake_script(&["configure", &table.display().to_string(), "delta.appendOnly=true"], &[]);
    assert!(publish(2).contains("is in that table already"), "nothing is to be done in it");
    let closed = format!("{FLAGS} --seed 9 --table delta --table-out {}", table.display());
    mine(&place.input(), &place.path("run9"), &closed).refuses(&["does not allow a batch table", "--table-out"]);
}

#[test]
fn object_stores_hold_tables() {
    if readers_are_missing() {
        return;
    }
    let Some(server) = Server::moto() else { return };
    let place = Place::with(&data(93));
    let run = place.path("run");
    let variables = server.variables();
    let publish = |flags: &str| -> super::command::Outcome {
        let flags = format!("{FLAGS} --task-column task --hard-negatives 4 {flags}");
        mine_command(&place.input(), &run, &flags).envs(variables.clone()).output().unwrap().into()
    };
    let words = run.display().to_string();
    publish("--table delta --table-out s3://lake/deep/delta").ok();
    let again = publish("--table delta --table-out s3://lake/deep/delta/").ok();
    assert!(again.said().contains("is in that table already"), "{}", again.said());
    lake_script(&["delta", "s3://lake/deep/delta", &words], &variables);
    publish("--table delta --partition-by task --table-out s3://lake/hive").ok();
    lake_script(&["delta", "s3://lake/hive", &words], &variables);
    publish("--table-out s3://lake/flat").ok();
    assert!(publish("--table-out s3://lake/flat").ok().said().contains("is there already"));
    lake_script(&["parquet", "s3://lake/flat", &words], &variables);
    publish("--partition-by task --table-out s3://lake/tasks").ok();
    lake_script(&["parquet", "s3://lake/tasks", &words, "task"], &variables);
    // Its file is uploaded in more than one chunk.
    let large = place.path("large");
    Dataset::planted(4000, 8, 93).write(&large);
    let run = place.path("drawn");
    let flags = "--skip 3 --window 500 --hard-negatives 256 --batch-size 64 --table-out s3://lake/large";
    let outcome: super::command::Outcome =
        mine_command(&large, &run, flags).envs(variables.clone()).output().unwrap().into();
    outcome.ok();
    assert!(files(&run, &["batches"])[0].1.len() > 6 << 20);
    lake_script(&["parquet", "s3://lake/large", &run.display().to_string()], &variables);
    let lost = publish("--table delta --table-out s3://no-such-bucket/x");
    lost.fails(1, &["s3://no-such-bucket/x/", "remedy", "bucket"]);
}

#[test]
fn concurrent_writers_share_an_object_store() {
    if readers_are_missing() {
        return;
    }
    let Some(server) = Server::moto() else { return };
    let place = Place::with(&data(94));
    let flags = |seed: usize| format!("{FLAGS} --seed {seed} --threads 1");
    let runs: Vec<PathBuf> = (0..4).map(|seed| place.path(&format!("run{seed}"))).collect();
    for (seed, run) in runs.iter().enumerate() {
        mine(&place.input(), run, &flags(seed)).ok();
    }
    let publish = |(seed, run): (usize, &PathBuf)| {
        let flags = format!("{} --table delta --table-out s3://lake/shared", flags(seed));
        mine_command(&place.input(), run, &flags).envs(server.variables()).spawn().unwrap()
    };
    let writers: Vec<Child> = runs.iter().enumerate().map(publish).collect();
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    let runs: Vec<String> = runs.iter().map(|run| run.display().to_string()).collect();
    let words = ["versions", "s3://lake/shared"].into_iter().chain(runs.iter().map(String::as_str));
    let said = lake_script(&words.collect::<Vec<_>>(), &server.variables());
    assert!(said.contains("ok versions 4"), "{said}");
}

/// A store that checks signatures, and in which an object can be created twice.
#[test]
fn a_store_without_conditional_writes_gets_no_delta_table() {
    let Some(server) = Server::rclone() else { return };
    let place = Place::with(&data(95));
    let run = place.path("run");
    let call = |flags: &str, variables: Vec<(String, String)>| -> super::command::Outcome {
        mine_command(&place.input(), &run, &format!("{FLAGS} {flags}")).envs(variables).output().unwrap().into()
    };
    let delta = "--table delta --table-out s3://lake/delta";
    call(delta, server.variables()).refuses(&["created twice", "s3://lake/delta/"]);
    assert!(files(&run, &["vectors"]).is_empty(), "refused before any work");
    let mut wrong = server.variables();
    wrong.iter_mut().find(|(name, _)| name == "AWS_SECRET_ACCESS_KEY").unwrap().1 = "wrongwrong".into();
    call("--table-out s3://lake/flat", wrong).fails(1, &["credentials", "s3://lake/flat/"]);
    call("--table-out s3://lake/flat", server.variables()).ok();
    let stored = tree(&server.folder().join("lake/flat"));
    let part = stored.iter().find(|(name, _)| name.starts_with("part-")).unwrap();
    assert!(part.1 == files(&run, &["batches"])[0].1);
    assert!(stored.iter().any(|(name, _)| name == "_SUCCESS"));
}

#[test]
fn plan_counts_the_published_table() {
    let place = Place::with(&data(96));
    let least = |flags: &str| {
        let outcome = mine(&place.input(), &place.path("none"), &format!("{FLAGS} --memory 1MiB {flags}"));
        let said = outcome.fails(4, &["raise --memory to"]).said();
        said.split("raise --memory to ").nth(1).unwrap().split("MiB").next().unwrap().parse::<u64>().unwrap()
    };
    let enough = least("--table delta");
    assert!(enough > 40, "{enough} MiB");
    mine(&place.input(), &place.path("run"), &format!("{FLAGS} --table delta --memory {enough}MiB")).ok();
}
