//! Manifests that somebody wrote by hand, each with a checksum that fits: no verb crashes, hangs, or touches what is
//! not the run's.

use std::fs;
use std::path::Path;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::corruption::{Tally, Verdict, flips, in_parallel};
use super::damage::{Verb, World, files_below};

/// Stands for a folder of somebody's files.
const OUTSIDE: &str = "(outside)";

/// Puts a checksum that fits into a manifest.
fn sealed(mut manifest: Value) -> String {
    if let Some(fields) = manifest.as_object_mut() {
        fields.remove("checksum");
    }
    let checksum = format!("{:016x}", xxh3_64(manifest.to_string().as_bytes()));
    if let Some(fields) = manifest.as_object_mut() {
        fields.insert("checksum".into(), checksum.into());
    }
    format!("{manifest:#}\n")
}

/// Where each value of a manifest stands, as a JSON pointer.
fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            all.push(format!("{at}/{}", escaped(key)));
            pointers(value, all.last().unwrap().clone().as_str(), all);
        }),
        Value::Array(items) => items.iter().enumerate().for_each(|(number, value)| {
            all.push(format!("{at}/{number}"));
            pointers(value, all.last().unwrap().clone().as_str(), all);
        }),
        _ => {}
    }
}

/// Values that stand where another one should.
fn hostile_values() -> Vec<Value> {
    vec![
        Value::Null,
        json!(false),
        json!(-1),
        json!(0),
        json!(1),
        json!(u64::from(u32::MAX)),
        json!(1u64 << 53),
        json!(u64::MAX),
        json!(1e308),
        json!(""),
        json!("../../outside"),
        json!("/etc/passwd"),
        json!("a\0b"),
        json!("x".repeat(70_000)),
        json!([]),
        json!({}),
        json!({"": [[]]}),
    ]
}

/// Names that no file of a stage has.
const NAMES: [&str; 9] =
    ["", ".", "..", "../lock", "../../outside/precious", "/etc/passwd", "a\0b", "queries.vec/../x", "a\nb"];

/// A sound manifest with one thing changed, in words and as text.
fn changed(manifest: &Value, random: &mut ChaCha8Rng) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut places = Vec::new();
    pointers(manifest, "", &mut places);
    for at in places.iter().filter(|at| *at != "/checksum") {
        for value in hostile_values() {
            let mut other = manifest.clone();
            let what = format!("{at} is {}", value.to_string().chars().take(40).collect::<String>());
            *other.pointer_mut(at).unwrap() = value;
            all.push((what, sealed(other)));
        }
        let mut other = manifest.clone();
        let (parent, key) = at.rsplit_once('/').unwrap();
        if let Some(fields) = other.pointer_mut(parent).unwrap().as_object_mut() {
            let value = fields.remove(&key.replace("~1", "/").replace("~0", "~")).unwrap();
            fields.insert("unheard of".into(), value);
            all.push((format!("{at} has another name"), sealed(other)));
        }
    }
    all.shuffle(random);
    // These first: they reach for files.
    let mut first = Vec::new();
    for stage in ["vectors", "neighbors", "edges", "clusters", "batches"] {
        for name in NAMES {
            let mut other = manifest.clone();
            let parts = other["stages"][stage]["parts"].as_object_mut().unwrap();
            let old = parts.keys().next().unwrap().clone();
            let part = parts.remove(&old).unwrap();
            parts.insert(name.into(), part);
            first.push((format!("a part of {stage} is called {name:?}"), sealed(other)));
        }
    }
    for work in [OUTSIDE, "..", "/", "", "run", "a\0b"] {
        let mut other = manifest.clone();
        other["work"] = work.into();
        first.push((format!("work is {work:?}"), sealed(other)));
    }
    first.shuffle(random);
    first.extend(all);
    first
}

/// Texts that are no manifest, or one that is very deep or very long.
fn no_manifests(manifest: &Value) -> Vec<(String, String)> {
    let mut many = manifest.clone();
    let parts = many["stages"]["edges"]["parts"].as_object_mut().unwrap();
    let part = parts.values().next().unwrap().clone();
    (0..20_000).for_each(|number| drop(parts.insert(format!("range-{number:06}.edg"), part.clone())));
    vec![
        ("deep".into(), "[".repeat(200_000)),
        ("deep objects".into(), "{\"a\":".repeat(100_000)),
        ("a number".into(), "7".into()),
        ("a long number".into(), format!("{{\"format\":{}}}", "9".repeat(5_000))),
        ("a byte order mark".into(), format!("\u{feff}{}", sealed(manifest.clone()))),
        ("many parts".into(), sealed(many)),
    ]
}

/// A folder with the names of stages, as a run's work folder has them, and with somebody's files in them.
fn somebodys_files(outside: &Path) {
    for folder in ["", "vectors", "neighbors", "edges", "clusters", "batches", "tmp"] {
        fs::create_dir_all(outside.join(folder)).unwrap();
        fs::write(outside.join(folder).join("precious"), folder).unwrap();
    }
}

/// The manifest, with the place of `outside` where it names it.
fn leading_to(manifest: &str, outside: &Path) -> String {
    if !manifest.contains(OUTSIDE) {
        return manifest.to_owned();
    }
    let mut manifest: Value = serde_json::from_str(manifest).unwrap();
    manifest["work"] = outside.to_str().unwrap().into();
    sealed(manifest)
}

#[test]
fn a_hostile_manifest_neither_crashes_a_verb_nor_leads_it_outside() {
    let world = World::new();
    let manifest = &world.files.iter().find(|(name, _)| name == "manifest.json").unwrap().1;
    let manifest: Value = serde_json::from_slice(manifest).unwrap();
    let (all, times) = flips();
    let changes = changed(&manifest, &mut ChaCha8Rng::seed_from_u64(4));
    let changes = [no_manifests(&manifest), changes].concat();
    let mut verbs = Verb::all();
    verbs.retain(|verb| !matches!(verb, Verb::File | Verb::Replace(0..3)));
    let cases = if all { changes.len() * verbs.len() } else { 80 * times };
    let tally = Tally::default();
    in_parallel(cases, |case| {
        let (what, text) = &changes[if all { case / verbs.len() } else { case % changes.len() }];
        let mut random = ChaCha8Rng::seed_from_u64(case as u64);
        let verb = if all { verbs[case % verbs.len()] } else { verbs[random.random_range(0..verbs.len())] };
        let folder = world.undamaged(&format!("case-{case}"));
        let outside = folder.join("outside");
        somebodys_files(&outside);
        let untouched = files_below(&outside);
        fs::write(folder.join("run/manifest.json"), leading_to(text, &outside)).unwrap();
        let told = world.tell(verb, &folder, 0);
        let verdict = match told.outcome.code {
            _ if files_below(&outside) != untouched => {
                Verdict::Wrong("it touched a folder that is not the run's".into())
            }
            // Somebody's own words: a verb may show them.
            Some(0) => Verdict::Harmless,
            Some(1..=3) => Verdict::Detected,
            code => Verdict::Wrong(format!("it died with {code:?}: {}", told.outcome.said())),
        };
        tally.add(&verb.name(), what, verdict);
        fs::remove_dir_all(folder).unwrap();
    });
    tally.finish("hostile manifests");
}
