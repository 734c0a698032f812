//! What `bench` measured, as JSON: typed, with a version, read strictly.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::measured::Repeated;
use crate::error::{Error, Result};
use crate::regular;
use crate::run::Stage;

/// Version of the record.
pub(crate) const BENCH_FORMAT: u32 = 1;
/// Longest record that is read.
const FILE_MAX: u64 = 4 << 20;

/// All figures of one call of `bench`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BenchRecord {
    pub format: u32,
    /// The batchmine that measured.
    pub batchmine: String,
    pub machine: BenchMachine,
    pub settings: BenchSettings,
    pub ceilings: Vec<Ceiling>,
    /// The stages, in their order.
    pub stages: Vec<StageFigures>,
    pub whole: WholeFigures,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BenchMachine {
    pub cpu: String,
    /// Threads that the system offers.
    pub cores: usize,
    pub memory_bytes: u64,
    /// Instruction sets that kernels use, of those that the CPU has.
    pub instructions: Vec<String>,
    /// Operating system and architecture.
    pub system: String,
}

/// What a figure depends on, beside the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BenchSettings {
    /// `planted`, or `own` and a hash of what the user's own files contain.
    pub data: String,
    pub rows: u64,
    pub dim: usize,
    /// k = p + m: candidates kept of each query.
    pub k: u32,
    pub skip: u32,
    pub cluster_size: u32,
    pub batch_size: u32,
    pub precision: String,
    pub search: String,
    /// Who computes the search.
    pub backend: String,
    /// The settings of each stage but the first, as text.
    pub stages: BTreeMap<String, String>,
    pub threads: usize,
    pub memory_bytes: u64,
    /// Bytes of the buffers whose bandwidth is measured.
    pub buffer_bytes: u64,
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CeilingUnit {
    /// 10⁹ operations a second; a multiplication and an addition are two.
    #[serde(rename = "GOP/s")]
    Operations,
    /// 10⁹ bytes a second.
    #[serde(rename = "GB/s")]
    Bytes,
    /// Calls a second.
    #[serde(rename = "calls/s")]
    Calls,
}

impl CeilingUnit {
    pub(super) fn name(self) -> &'static str {
        match self {
            CeilingUnit::Operations => "GOP/s",
            CeilingUnit::Bytes => "GB/s",
            CeilingUnit::Calls => "calls/s",
        }
    }
}

/// The most that the machine does of something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ceiling {
    pub name: String,
    pub unit: CeilingUnit,
    pub rate: Repeated,
}

/// What one stage did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StageFigures {
    pub stage: Stage,
    /// Of each job.
    pub seconds: Repeated,
    pub rows_per_second: f64,
    /// Multiplications and additions of all pairs; null where a stage has none to count.
    pub gop_per_second: Option<f64>,
    /// Edges, each counted from both ends.
    pub arcs_per_second: Option<f64>,
    pub bytes_per_arc: Option<f64>,
    /// Read from input files.
    pub read_gb_per_second: Option<f64>,
    /// Left in the run folder.
    pub written_gb_per_second: f64,
    /// The ceiling that bounds this stage, and the share of it that was reached; null where none does.
    pub of_ceiling: Option<Share>,
    /// Most resident anonymous memory, of all jobs.
    pub peak_bytes: u64,
}

/// A share of a ceiling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Share {
    pub ceiling: String,
    pub percent: f64,
}

/// The whole job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WholeFigures {
    /// Of all stages, of each job.
    pub seconds: Repeated,
    pub rows_per_second: f64,
    pub peak_bytes: u64,
}

impl BenchRecord {
    /// Reads a record from a file.
    ///
    /// # Errors
    /// The file is not there, is no record, is of another version, or holds a figure that cannot have been measured.
    pub(crate) fn read(path: &Path) -> Result<BenchRecord> {
        let refused = |found: String| {
            Error::input("the file is no record of `batchmine bench`")
                .path(path)
                .expected(format!("what `batchmine bench --json` prints, in format {BENCH_FORMAT}"))
                .found(found)
                .remedy("measure anew: batchmine bench --out FILE")
        };
        if let Err(e) = path.metadata() {
            return Err(refused(e.to_string()));
        }
        let bytes = regular::read(path, FILE_MAX)?;
        let version: RecordVersion = serde_json::from_slice(&bytes).map_err(|e| refused(e.to_string()))?;
        if version.format != BENCH_FORMAT {
            return Err(refused(format!("format {}", version.format)));
        }
        let record: BenchRecord = serde_json::from_slice(&bytes).map_err(|e| refused(e.to_string()))?;
        record.fault().map_or(Ok(record), |fault| Err(refused(fault)))
    }

    /// What is wrong with it.
    fn fault(&self) -> Option<String> {
        let stages: Vec<Stage> = self.stages.iter().map(|stage| stage.stage).collect();
        if stages != Stage::ALL {
            return Some(format!(
                "the stages {}",
                stages.iter().map(|stage| stage.name()).collect::<Vec<_>>().join(", ")
            ));
        }
        let mut names: Vec<&str> = self.ceilings.iter().map(|ceiling| ceiling.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Some(format!("the ceiling {} twice", pair[0]));
        }
        let figures = self.ceilings.iter().map(|ceiling| (ceiling.name.as_str(), &ceiling.rate));
        let figures = figures.chain(self.stages.iter().map(|stage| (stage.stage.name(), &stage.seconds)));
        let mut figures = figures.chain([("whole", &self.whole.seconds)]);
        figures.find_map(|(name, figure)| Some(format!("of {name}: {}", figure.fault()?)))
    }

    /// The rows, where the data were planted.
    pub(crate) fn planted_rows(&self) -> Option<u64> {
        self.is_planted().then_some(self.settings.rows)
    }

    /// The dimensions, where the data were planted.
    pub(crate) fn planted_dim(&self) -> Option<u32> {
        self.is_planted().then(|| u32::try_from(self.settings.dim).ok()).flatten()
    }

    fn is_planted(&self) -> bool {
        self.settings.data == "planted"
    }

    /// The ceiling of this name.
    pub(super) fn ceiling(&self, name: &str) -> Option<&Ceiling> {
        self.ceilings.iter().find(|ceiling| ceiling.name == name)
    }
}

/// The version of a record, whatever else is in it.
#[derive(Debug, Deserialize)]
struct RecordVersion {
    format: u32,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A record like one that was measured.
    pub(in crate::bench) fn record() -> BenchRecord {
        let ceiling = |name: &str, unit, values: [f64; 3]| Ceiling {
            name: name.into(),
            unit,
            rate: Repeated::new(values.to_vec()),
        };
        let stage = |stage, seconds: [f64; 2]| StageFigures {
            stage,
            seconds: Repeated::new(seconds.to_vec()),
            rows_per_second: 1000.0,
            gop_per_second: (stage == Stage::Neighbors).then_some(250.0),
            arcs_per_second: (stage == Stage::Edges).then_some(1e6),
            bytes_per_arc: (stage == Stage::Edges).then_some(2.5),
            read_gb_per_second: (stage == Stage::Vectors).then_some(0.5),
            written_gb_per_second: 0.25,
            of_ceiling: (stage == Stage::Neighbors).then(|| Share { ceiling: "int8 avx2".into(), percent: 50.0 }),
            peak_bytes: 1 << 30,
        };
        BenchRecord {
            format: BENCH_FORMAT,
            batchmine: "0.1.0".into(),
            machine: BenchMachine {
                cpu: "some CPU".into(),
                cores: 2,
                memory_bytes: 8 << 30,
                instructions: vec!["avx2".into(), "fma".into()],
                system: "linux x86_64".into(),
            },
            settings: BenchSettings {
                data: "planted".into(),
                rows: 1000,
                dim: 384,
                k: 110,
                skip: 10,
                cluster_size: 8,
                batch_size: 1024,
                precision: "int8".into(),
                search: "exact".into(),
                backend: "auto".into(),
                stages: BTreeMap::from([("edges".to_owned(), "edges any".to_owned())]),
                threads: 2,
                memory_bytes: 4 << 30,
                buffer_bytes: 256 << 20,
            },
            ceilings: vec![
                ceiling("int8 avx2", CeilingUnit::Operations, [500.0, 510.0, 505.0]),
                ceiling("memory read", CeilingUnit::Bytes, [10.0, 11.0, 12.0]),
                ceiling("disk sync", CeilingUnit::Calls, [800.0, 1200.0, 1000.0]),
            ],
            stages: Stage::ALL.map(|name| stage(name, [1.0, 1.1])).to_vec(),
            whole: WholeFigures { seconds: Repeated::new(vec![5.0, 5.5]), rows_per_second: 190.0, peak_bytes: 1 << 30 },
        }
    }

    fn read(text: &str) -> Result<BenchRecord> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        std::fs::write(&path, text).unwrap();
        BenchRecord::read(&path)
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let text = serde_json::to_string(&record()).unwrap();
        assert_eq!(read(&text).unwrap(), record());
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let text = serde_json::to_string(&record()).unwrap();
        let refused = |text: &str, word: &str| {
            let error = read(text).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(word), "no {word:?} in: {error}");
        };
        refused("", "EOF");
        refused("{}", "format");
        refused(&text.replacen("\"format\":1", "\"format\":2", 1), "format 2");
        refused(&text.replacen("\"machine\"", "\"engine\"", 1), "engine");
        refused(&text.replacen("\"median\":505.0", "\"median\":404.0", 1), "int8 avx2");
        let twice = BenchRecord { ceilings: [record().ceilings, record().ceilings].concat(), ..record() };
        refused(&serde_json::to_string(&twice).unwrap(), "twice");
        let short = BenchRecord { stages: record().stages[1..].to_vec(), ..record() };
        refused(&serde_json::to_string(&short).unwrap(), "stages");
    }
}
