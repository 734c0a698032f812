//! A run folder: its stages, its manifest, and the files that hold no data.

use std::path::{Path, PathBuf};

use indicatif::HumanBytes;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::run::{Manifest, RunReader, Stage, StageRecord};

/// A run folder.
#[derive(Debug, Serialize)]
pub(crate) struct RunFolder {
    path: PathBuf,
    /// The batchmine that made it.
    version: String,
    /// The job is done.
    finished: bool,
    /// Stages that have begun, in pipeline order.
    stages: Vec<StageState>,
}

/// One stage as the manifest has it.
#[derive(Debug, Serialize)]
struct StageState {
    stage: Stage,
    /// Folder of its files.
    folder: PathBuf,
    /// Bytes of its files.
    bytes: u64,
    #[serde(flatten)]
    record: StageRecord,
}

impl RunFolder {
    pub(crate) fn read(run: &RunReader) -> RunFolder {
        let manifest = run.manifest();
        let state = |stage: Stage| {
            let record = manifest.stages.get(&stage)?;
            Some(StageState { stage, folder: run.stage_folder(stage), bytes: record.bytes(), record: record.clone() })
        };
        RunFolder {
            path: run.folder().to_owned(),
            version: manifest.version.clone(),
            finished: run.succeeded(),
            stages: Stage::ALL.into_iter().filter_map(state).collect(),
        }
    }

    pub(crate) fn text(&self) -> String {
        let state = if self.finished { "finished" } else { "not finished: run `mine` again to go on" };
        let mut lines = vec![format!("run of batchmine {}, {state}", self.version)];
        lines.extend(self.stages.iter().flat_map(|stage| stage_lines(stage.stage, &stage.record)));
        lines.join("\n")
    }
}

fn stage_lines(stage: Stage, record: &StageRecord) -> Vec<String> {
    let mut lines = vec![format!(
        "{:>10}  {}  {} files, {}, {:.2} s, peak {}",
        stage.name(),
        match (record.complete, record.cleaned) {
            (true, true) => "cleaned",
            (true, false) => "done   ",
            (false, _) => "pending",
        },
        record.parts.len(),
        HumanBytes(record.bytes()),
        record.seconds,
        HumanBytes(record.peak_bytes),
    )];
    lines.extend(record.facts_text().map(|facts| format!("{:>12}{facts}", "")));
    lines.push(format!("{:>12}{}", "", record.settings_text()));
    lines
}

/// `manifest.json`, whose checksum is good.
#[derive(Debug, Serialize)]
pub(crate) struct ManifestFile {
    path: PathBuf,
    manifest: Manifest,
}

impl ManifestFile {
    pub(crate) fn new(path: &Path, manifest: Manifest) -> ManifestFile {
        ManifestFile { path: path.to_owned(), manifest }
    }

    pub(crate) fn text(&self) -> String {
        let manifest = &self.manifest;
        let work = manifest.work.as_ref().map_or("none".into(), |path| path.display().to_string());
        let mut lines = vec![
            format!("manifest of a run of batchmine {}, format {}, checksum good", manifest.version, manifest.format),
            format!("  work folder: {work}"),
        ];
        for (stage, record) in &manifest.stages {
            lines.extend(stage_lines(*stage, record));
            let part = |(name, part): (&String, &crate::run::PartRecord)| {
                format!("{:>12}{name}  {}  xxh3 {}", "", HumanBytes(part.bytes), part.xxh3)
            };
            lines.extend(record.parts.iter().map(part));
        }
        lines.join("\n")
    }
}

/// A file whose presence or lock says something, or whose content another verb wrote for people.
#[derive(Debug, Serialize)]
pub(crate) struct FolderMark {
    path: PathBuf,
    bytes: u64,
    /// What the file is for.
    meaning: &'static str,
}

impl FolderMark {
    /// `None` for a file of another name.
    ///
    /// # Errors
    /// The file cannot be examined, or has content where it must be empty.
    pub(crate) fn of(path: &Path) -> Result<Option<FolderMark>> {
        let (meaning, empty) = match path.file_name().and_then(|name| name.to_str()) {
            Some("_SUCCESS") => ("the run, the export or the table in this folder is finished", true),
            Some("lock") => (
                "locked while a job works in this folder; it has the name of that job, or of one that was killed",
                false,
            ),
            Some("report.json") => ("the figures that `batchmine report` found; docs/formats.md describes them", false),
            Some("report.html") => ("the same figures as a page: open it in a browser", false),
            Some("_export.json") => ("what decides the content of the export in this folder", false),
            _ => return Ok(None),
        };
        let bytes = path.metadata().map_err(|e| Error::io("a file cannot be examined", path, e))?.len();
        if empty && bytes > 0 {
            return Err(Error::runtime("a file that must be empty has content")
                .path(path)
                .expected("0 bytes")
                .found(format!("{bytes} bytes"))
                .remedy("something else wrote it: delete it and run `mine` again"));
        }
        Ok(Some(FolderMark { path: path.to_owned(), bytes, meaning }))
    }

    pub(crate) fn text(&self) -> String {
        format!("{}: {} ({})", self.path.display(), self.meaning, HumanBytes(self.bytes))
    }
}
