//! `manifest.json`: which parts of which stage are done, and under which settings.
//!
//! Read once, replaced atomically after every commit. It carries a checksum of itself, so that a
//! flipped bit is told from a decision.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::record::to_value;
use crate::error::{Error, Result};

/// Version of the run folder's layout.
pub(crate) const FORMAT: u32 = 1;

/// The stages, in pipeline order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Embedding shards → row-major store.
    Vectors,
    /// Store → top-(p+m) lists.
    Neighbors,
    /// Lists → sparse graph.
    Edges,
    /// Graph → label per row.
    Clusters,
    /// Labels → batch tables.
    Batches,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Stage; 5] = [Stage::Vectors, Stage::Neighbors, Stage::Edges, Stage::Clusters, Stage::Batches];

    /// The stage's noun: its folder, its heading, its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Vectors => "vectors",
            Stage::Neighbors => "neighbors",
            Stage::Edges => "edges",
            Stage::Clusters => "clusters",
            Stage::Batches => "batches",
        }
    }
}

/// One file that is complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartRecord {
    /// Length.
    pub bytes: u64,
    /// xxh3-64 of the whole file, in hex.
    pub xxh3: String,
}

/// One stage's state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Hash of this stage's settings and of every stage's before it.
    pub fingerprint: String,
    /// This stage's own settings.
    pub settings: Value,
    /// Parts that are done, by file name.
    pub parts: BTreeMap<String, PartRecord>,
    /// All parts are done.
    pub complete: bool,
    /// What later stages and reports want to know of it.
    pub facts: Value,
    /// Wall-clock seconds spent, over all sessions.
    pub seconds: f64,
    /// Highest resident anonymous memory seen, in bytes.
    pub peak_bytes: u64,
}

/// The run folder's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The batchmine that made the folder.
    pub version: String,
    /// Folder of the first four stages, where it is not the run folder.
    pub work: Option<PathBuf>,
    /// Stages by name.
    pub stages: BTreeMap<Stage, StageRecord>,
}

impl Manifest {
    /// An empty one.
    pub fn new(work: Option<PathBuf>) -> Self {
        Manifest { format: FORMAT, version: env!("CARGO_PKG_VERSION").into(), work, stages: BTreeMap::new() }
    }

    /// Reads and checks a manifest; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be read, was damaged, or belongs to another format.
    pub fn read(path: &Path) -> Result<Option<Manifest>> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("the manifest cannot be read", path, e)),
        };
        let damaged = |found: String| {
            Error::runtime("the run folder's manifest is damaged")
                .path(path)
                .expected("the manifest as batchmine wrote it")
                .found(found)
                .remedy("restore the file, or mine again into a new folder")
        };
        let file: File = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if file.manifest.format != FORMAT {
            return Err(Error::runtime("the run folder has another format")
                .path(path)
                .expected(format!("format {FORMAT}"))
                .found(format!("format {}, written by batchmine {}", file.manifest.format, file.manifest.version))
                .remedy("use the batchmine that made it, or mine again into a new folder"));
        }
        let found = checksum(&file.manifest);
        if found != file.checksum {
            return Err(damaged(format!("checksum {found}, the file says {}", file.checksum)));
        }
        Ok(Some(file.manifest))
    }

    /// The bytes to write.
    pub fn to_bytes(&self) -> Vec<u8> {
        let file = File { checksum: checksum(self), manifest: self.clone() };
        let mut bytes = serde_json::to_vec_pretty(&file).expect("a manifest is plain data");
        bytes.push(b'\n');
        bytes
    }
}

#[derive(Serialize, Deserialize)]
struct File {
    checksum: String,
    #[serde(flatten)]
    manifest: Manifest,
}

fn checksum(manifest: &Manifest) -> String {
    // Through `Value`, whose maps are sorted: the same content always gives the same bytes.
    let value = serde_json::to_value(manifest).expect("a manifest is plain data");
    format!("{:016x}", xxh3_64(value.to_string().as_bytes()))
}

/// A stage's fingerprint: its settings and everything before it.
pub(crate) fn fingerprint(before: &str, settings: &Value) -> String {
    format!("{:016x}", xxh3_64(format!("{before}\n{settings}").as_bytes()))
}

/// The settings that differ, as `name: old → new`, nested names joined by dots.
pub(crate) fn differences(old: &impl Serialize, new: &impl Serialize) -> Vec<String> {
    fn walk(name: &str, old: &Value, new: &Value, out: &mut Vec<String>) {
        match (old, new) {
            (Value::Object(a), Value::Object(b)) => {
                let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
                for key in keys {
                    let path = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                    walk(&path, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), out);
                }
            }
            _ if old != new => out.push(format!("{name}: {old} → {new}")),
            _ => {}
        }
    }
    let mut out = Vec::new();
    walk("", &to_value(old), &to_value(new), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_flipped_value_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.json");
        let mut manifest = Manifest::new(None);
        let record = StageRecord { seconds: 0.1 + 0.2, complete: true, ..Default::default() };
        manifest.stages.insert(Stage::Edges, record);
        std::fs::write(&path, manifest.to_bytes()).unwrap();
        assert_eq!(Manifest::read(&path).unwrap().unwrap(), manifest);
        let text = String::from_utf8(manifest.to_bytes()).unwrap().replace("true", "false");
        std::fs::write(&path, text).unwrap();
        assert!(Manifest::read(&path).unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn differences_name_nested_settings() {
        let old = json!({"size": 32, "rules": {"a": 1, "b": 2}});
        let new = json!({"size": 16, "rules": {"a": 1, "b": 3}});
        assert_eq!(differences(&old, &new), ["rules.b: 2 → 3", "size: 32 → 16"]);
    }
}
