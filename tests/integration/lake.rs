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
/// Names that a folder cannot have, or that a path would be taken apart at.
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

/// Every file under a folder, but those of the log: path and bytes.
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
    // Other batches are a new version, which the first run's next call leaves in its place.
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
fn writers_at_once_lose_nothing() {
    let place = Place::with(&data(86));
    let table = place.path("table");
    let names: Vec<String> = (0..6).map(|seed| format!("run{seed}")).collect();
    // The last is the first one's twin: whoever comes first publishes for both.
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
    let reference = place.path("reference");
    mine(&place.input(), &run, &format!("{flags} --table delta --table-out {}", reference.display())).ok();
    let mut killed = 0;
    for (index, after) in (0..24).enumerate() {
        let table = place.path(&format!("table{index}"));
        let flags = format!("{flags} --table delta --table-out {}", table.display());
        let mut child = mine_command(&place.input(), &run, &flags).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(10 + 4 * after));
        killed += u32::from(child.try_wait().unwrap().is_none() && table.exists());
        child.kill().unwrap();
        child.wait().unwrap();
        mine(&place.input(), &run, &flags).ok();
        assert_eq!(versions(&table), versions(&reference), "killed after {after} steps");
        let names = |table: &Path| tree(table).into_iter().filter(|(name, _)| name.starts_with("part-"));
        assert!(names(&table).eq(names(&reference)));
    }
    assert!(killed > 0, "no call was killed while it published");
}

#[test]
fn a_torn_copy_is_made_whole() {
    let place = Place::with(&data(88));
    let run = place.path("run");
    for format in ["delta", "parquet"] {
        let (whole, torn) = (place.path(&format!("{format}-whole")), place.path(&format!("{format}-torn")));
        let publish = |table: &Path| format!("{FLAGS} --table {format} --table-out {}", table.display());
        mine(&place.input(), &run, &publish(&whole)).ok();
        mine(&place.input(), &run, &publish(&torn)).ok();
        // As a machine leaves it that lost power before the commit: a copy of the right length, full of zeros.
        for (name, bytes) in tree(&torn).iter().filter(|(name, _)| name.starts_with("part-")) {
            fs::write(torn.join(name), vec![0; bytes.len()]).unwrap();
        }
        let _ = fs::remove_file(torn.join("_SUCCESS"));
        let _ = fs::remove_dir_all(torn.join("_delta_log"));
        mine(&place.input(), &run, &publish(&torn)).ok();
        assert_eq!(tree(&torn), tree(&whole), "{format}");
    }
}

#[test]
fn a_damaged_part_is_not_published() {
    let place = Place::with(&data(89));
    let run = place.path("run");
    mine(&place.input(), &run, FLAGS).ok();
    let part = run.join("batches/part-00000-00000.parquet");
    let mut bytes = fs::read(&part).unwrap();
    bytes[100] ^= 1;
    fs::write(&part, bytes).unwrap();
    for format in ["delta", "parquet"] {
        let table = place.path(format);
        let publish = format!("{FLAGS} --table {format} --table-out {}", table.display());
        mine(&place.input(), &run, &publish).fails(1, &["not what was written", "part-00000-00000", "remedy"]);
        assert!(versions(&table).is_empty() && !table.join("_SUCCESS").exists());
        assert!(tree(&table).iter().all(|(name, _)| !name.starts_with("part-")), "{:?}", tree(&table));
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
    let inside = format!("{FLAGS} --table-out {}", place.path("mine/batches").display());
    mine(&place.input(), &place.path("mine"), &inside).refuses(&["among the run's own files"]);
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
    assert_eq!(tree(&table), first);
    mine(&place.input(), &place.path("other"), &format!("{other} --replace")).ok();
    let second = tree(&table);
    assert!(second.len() == 3 && second[2].0 != first[2].0, "{second:?}");
    assert_eq!(second[2].1, files(&place.path("other"), &["batches"])[0].1);
    let foreign = place.path("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("mine.txt"), "mine").unwrap();
    mine(&place.input(), &place.path("run"), &publish(&foreign)).refuses(&["is taken", "mine.txt"]);
}

/// A call killed while it put one run's files in the place of another's.
#[test]
fn an_interrupted_replacement_leaves_nothing_behind() {
    let place = Place::with(&data(92));
    let table = place.path("table");
    let publish = format!("{FLAGS} --table-out {}", table.display());
    mine(&place.input(), &place.path("run"), &publish).ok();
    let old = tree(&table)[2].0.clone();
    let other = format!("{publish} --seed 9 --replace");
    mine(&place.input(), &place.path("other"), &other).ok();
    let done = tree(&table);
    // Back to the moment after the description was written: the old file lies there, the new one does not.
    let mut description: Value = serde_json::from_slice(&done[1].1).unwrap();
    description["superseded"] = serde_json::json!([old]);
    description["files"] = serde_json::json!([]);
    fs::write(table.join("_batchmine.json"), description.to_string()).unwrap();
    fs::remove_file(table.join("_SUCCESS")).unwrap();
    fs::rename(table.join(&done[2].0), table.join(&old)).unwrap();
    mine(&place.input(), &place.path("other"), &other).ok();
    assert_eq!(tree(&table), done);
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
    let lost = publish("--table delta --table-out s3://no-such-bucket/x");
    lost.fails(1, &["s3://no-such-bucket/x/", "remedy", "bucket"]);
}

#[test]
fn writers_at_once_share_an_object_store() {
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

/// A store that checks signatures, and that creates an object as often as it is asked to.
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
    let done = call("--table-out s3://lake/flat", server.variables()).ok();
    assert!(done.said().contains("must not publish there at once"), "{}", done.said());
    let stored = tree(&server.folder().join("lake/flat"));
    let part = stored.iter().find(|(name, _)| name.starts_with("part-")).unwrap();
    assert_eq!(part.1, files(&run, &["batches"])[0].1);
    assert!(stored.iter().any(|(name, _)| name == "_SUCCESS"), "{stored:?}");
}

#[test]
fn plan_takes_the_table_into_its_account() {
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
