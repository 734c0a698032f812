//! `manifest.json`: which parts of which stage are done, and under which settings.
//!
//! Read once, replaced atomically after every commit. It holds a checksum of itself: a damaged file is refused, and
//! not taken for other settings.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::json::{differences, to_value};
use super::record::FilePlace;
use super::stage::Stage;
use crate::error::{Error, Result};
use crate::regular;

/// Most bytes of a manifest: some millions of parts.
const BYTES_MAX: u64 = 1 << 30;
/// Version of the run folder's layout.
pub(crate) const FORMAT: u32 = 3;

/// A complete file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartRecord {
    pub bytes: u64,
    /// Its hash (`run/block_hash.rs`), in hex.
    pub xxh3: String,
}

/// The state of a stage.
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
    /// `clean` deleted parts that were done.
    pub cleaned: bool,
    /// Counts and measures that later stages and reports need; null until the stage is complete.
    pub facts: Value,
    /// Wall-clock seconds, over all calls.
    pub seconds: f64,
    /// Peak of resident anonymous memory, in bytes.
    pub peak_bytes: u64,
}

impl StageRecord {
    /// Bytes of all parts that are done.
    pub fn bytes(&self) -> u64 {
        self.parts.values().map(|part| part.bytes).sum()
    }

    /// The settings as one line of JSON; of the input files only their number.
    pub fn settings_text(&self) -> String {
        let mut settings = self.settings.clone();
        if let Some(inputs) = settings.get_mut("inputs") {
            *inputs = Value::from(format!("{} files", inputs.as_array().map_or(0, Vec::len)));
        }
        settings.to_string()
    }

    /// The facts as one line of JSON, once there are any.
    pub fn facts_text(&self) -> Option<String> {
        (!self.facts.is_null()).then(|| self.facts.to_string())
    }
}

/// The state of a run folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// The batchmine that made the folder.
    pub version: String,
    /// The run's identity, by chance: 32 hexadecimal digits. Its work folder is marked with it.
    pub id: String,
    /// Folder of the first four stages, where it is not the run folder.
    pub work: Option<PathBuf>,
    /// Where the input files were last found, in the order of the vectors stage's `inputs`.
    pub inputs: Vec<FilePlace>,
    /// Stages by name.
    pub stages: BTreeMap<Stage, StageRecord>,
}

impl Manifest {
    /// The manifest of a new run folder.
    pub fn new(work: Option<PathBuf>) -> Self {
        Manifest {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            id: new_id(),
            work,
            inputs: Vec::new(),
            stages: BTreeMap::new(),
        }
    }

    /// Reads and checks a manifest; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be read, was damaged, or belongs to another format.
    pub fn read(path: &Path) -> Result<Option<Manifest>> {
        let Some(bytes) = regular::read_if_there(path, BYTES_MAX)? else { return Ok(None) };
        let damaged = |found: String| {
            Error::runtime("the run folder's manifest is damaged")
                .path(path)
                .expected("the manifest as batchmine wrote it")
                .found(found)
                .remedy("restore the file, or mine again into a new folder")
        };
        // Before all else: a manifest of another format need not have this one's keys.
        let head: Head = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if head.format != FORMAT {
            return Err(Error::runtime("the run folder has another format")
                .path(path)
                .expected(format!("format {FORMAT}"))
                .found(format!("format {}, written by batchmine {}", head.format, head.version))
                .remedy("use the batchmine that made it, or mine again into a new folder"));
        }
        let file: File = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        let found = checksum(&file.manifest);
        if found != file.checksum {
            return Err(damaged(format!("checksum {found}, the file says {}", file.checksum)));
        }
        // The checksum is that of what was understood. A key that has another name was not.
        let whole: Value = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if let Some(other) = differences(&whole, &to_value(&file)).first() {
            return Err(damaged(format!("what batchmine does not write: {other}")));
        }
        file.manifest.check().map_err(damaged)?;
        Ok(Some(file.manifest))
    }

    /// Checks what the checksum cannot: whoever writes a manifest can also write its checksum. A part's name must stay
    /// within its folder, and sums of lengths within u64; else what is wrong.
    fn check(&self) -> Result<(), String> {
        let mut bytes = 0u64;
        let mut chained = self.clone();
        chained.chain_fingerprints();
        for (stage, record) in &self.stages {
            for (name, part) in &record.parts {
                if Path::new(name).file_name() != Some(name.as_ref()) {
                    return Err(format!("{name:?} as the name of a file of the {} stage", stage.name()));
                }
                bytes = bytes.checked_add(part.bytes).ok_or_else(|| format!("{} bytes in {name:?}", part.bytes))?;
            }
            let wanted = &chained.stages[stage].fingerprint;
            if record.fingerprint != *wanted {
                let found = &record.fingerprint;
                return Err(format!(
                    "fingerprint {found:?} of the {} stage, whose settings give {wanted}",
                    stage.name()
                ));
            }
        }
        Ok(())
    }

    /// Makes each stage's fingerprint anew, from its settings and the fingerprint before it.
    pub fn chain_fingerprints(&mut self) {
        let mut before = String::new();
        for stage in Stage::ALL {
            let Some(record) = self.stages.get_mut(&stage) else { return };
            before = fingerprint(&before, &record.settings);
            record.fingerprint.clone_from(&before);
        }
    }

    /// The content of `manifest.json`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let file = File { checksum: checksum(self), manifest: self.clone() };
        let mut bytes = serde_json::to_vec_pretty(&file).expect("a manifest is plain data");
        bytes.push(b'\n');
        bytes
    }
}

/// 128 bits that no other run has: the keys with which the standard library keeps its tables apart.
fn new_id() -> String {
    let word = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", word(), word())
}

/// What a manifest of any format has.
#[derive(Deserialize)]
struct Head {
    format: u32,
    version: String,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_value_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.json");
        let mut manifest = Manifest::new(None);
        let record = StageRecord { seconds: 0.1 + 0.2, complete: true, ..Default::default() };
        manifest.stages.insert(Stage::Edges, record);
        manifest.chain_fingerprints();
        std::fs::write(&path, manifest.to_bytes()).unwrap();
        assert_eq!(Manifest::read(&path).unwrap().unwrap(), manifest);
        let text = String::from_utf8(manifest.to_bytes()).unwrap().replace("true", "false");
        std::fs::write(&path, text).unwrap();
        assert!(Manifest::read(&path).unwrap_err().to_string().contains("damaged"));
    }

    /// What reading a manifest with one part of a name and a length says.
    fn refusal(name: &str, bytes: u64) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.json");
        let mut manifest = Manifest::new(Some("/a folder/elsewhere".into()));
        let mut record = StageRecord::default();
        record.parts.insert("a.edg".into(), PartRecord { bytes: 1, xxh3: String::new() });
        record.parts.insert(name.into(), PartRecord { bytes, xxh3: String::new() });
        manifest.stages.insert(Stage::Edges, record);
        manifest.chain_fingerprints();
        std::fs::write(&path, manifest.to_bytes()).unwrap();
        Manifest::read(&path).err().map(|error| error.to_string())
    }

    #[test]
    fn a_part_outside_its_folder_is_refused() {
        assert_eq!(refusal("range-000000.edg", 5), None);
        for name in ["", ".", "..", "../lock", "a/b", "/etc/passwd", "a/", "a/.."] {
            let refusal = refusal(name, 5).unwrap_or_else(|| panic!("{name:?} was taken"));
            assert!(refusal.contains("damaged") && refusal.contains(&format!("{name:?}")), "{refusal}");
        }
    }

    #[test]
    fn lengths_that_overflow_are_refused() {
        assert!(refusal("b.edg", u64::MAX).unwrap().contains("18446744073709551615 bytes"));
    }

    #[test]
    fn an_unknown_stage_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.json");
        let mut manifest = Manifest::new(None);
        manifest.stages.insert(Stage::Edges, StageRecord::default());
        let text = String::from_utf8(manifest.to_bytes()).unwrap().replace("\"edges\"", "\"ledges\"");
        std::fs::write(&path, text).unwrap();
        let refusal = Manifest::read(&path).unwrap_err().to_string();
        assert!(refusal.contains("damaged") && refusal.contains("ledges"), "{refusal}");
    }

    #[test]
    fn another_format_is_named_even_if_it_has_other_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.json");
        std::fs::write(&path, r#"{"format": 1, "version": "0.1.0", "work": null}"#).unwrap();
        let refusal = Manifest::read(&path).unwrap_err().to_string();
        assert!(refusal.contains("format 1, written by batchmine 0.1.0"), "{refusal}");
    }

    #[test]
    fn settings_are_shown_with_the_number_of_input_files() {
        let settings = serde_json::json!({"metric": "dot", "inputs": [{"path": "a"}, {"path": "b"}]});
        let record = StageRecord { settings, ..StageRecord::default() };
        assert_eq!(record.settings_text(), r#"{"inputs":"2 files","metric":"dot"}"#);
        assert_eq!(record.facts_text(), None);
    }
}
