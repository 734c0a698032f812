//! A binary file of a run folder: its format, its counts, and that it is whole.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::line::one_line;
use crate::clusters::labels::{Clusters, LABELS};
use crate::clusters::passes::PASS;
use crate::edges::file::{EDGES, EdgePart};
use crate::error::{Error, Result};
use crate::neighbors::candidates::{CANDIDATES, Candidates};
use crate::neighbors::cpu::int8::PACKED;
use crate::neighbors::file::{Block, NEIGHBORS};
use crate::neighbors::gpu::GPU_BASE;
use crate::neighbors::ivf::IVF_FORMAT;
use crate::neighbors::marks::{MARKS, MarkBlock};
use crate::neighbors::own_ranks::{OWN_RANKS, OwnRanks};
use crate::neighbors::verdicts::{VERDICTS, Verdicts};
use crate::regular;
use crate::run::sealed::{FileFormat, Sealed};
use crate::vectors::{
    DOCUMENTS, INT_IDS, Ids, KEY_LISTS, KeyListFile, ROWS, ROWS_MAX, RowId, TASKS, TEXT_IDS, TaskDocuments, Tasks,
    VECTORS, VectorStore,
};

/// Tasks that are listed by name.
const TASKS_SHOWN: usize = 20;
/// Ids that are listed.
const IDS_SHOWN: u64 = 5;

/// A format and the names of its header fields, in their order.
type KnownFormat = (FileFormat, &'static [&'static str]);

/// Every format of a run folder's binary files, as docs/formats.md describes them.
const FORMATS: [KnownFormat; 18] = [
    (VECTORS, &["rows", "dimensions", "bytes a value"]),
    (ROWS, &["rows", "key columns", "key lists", "keys of both sides", "rows left out", "documents"]),
    (KEY_LISTS, &["rows", "codes"]),
    (INT_IDS, &["rows"]),
    (TEXT_IDS, &["rows", "bytes of text"]),
    (TASKS, &["tasks", "bytes of text"]),
    (DOCUMENTS, &["documents", "tasks"]),
    (NEIGHBORS, &["first place", "rows", "ranks"]),
    (IVF_FORMAT, &["rows", "lists", "tasks", "dimensions", "documents"]),
    (PACKED, &["rows", "dimensions", "dimensions of the head", "sampled rows"]),
    (GPU_BASE, &["rows", "dimensions", "bytes a value", "exponent"]),
    (MARKS, &["first place", "rows", "words of a row"]),
    (CANDIDATES, &["rows", "tasks", "candidates", "documents"]),
    (OWN_RANKS, &["rows"]),
    (VERDICTS, &["rows", "rows and documents", "verdicts"]),
    (EDGES, &["first place", "rows", "arcs", "blocks", "rows of the graph"]),
    (LABELS, &["rows", "clusters", "cluster size"]),
    (PASS, &["rows", "cluster size", "passes", "arrays", "labels grow"]),
];

/// A binary file, whose checksum is good.
#[derive(Debug, Serialize)]
pub(crate) struct Artefact {
    path: PathBuf,
    /// Name of the format.
    format: &'static str,
    version: u32,
    bytes: u64,
    payload_bytes: u64,
    /// The header's fields.
    fields: BTreeMap<&'static str, i64>,
    /// What the payload holds, in words; of some formats only.
    content: Vec<String>,
}

impl Artefact {
    /// Reads a file whole; `None` where its first bytes are those of no format.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or is of another version.
    pub(crate) fn read(path: &Path) -> Result<Option<Artefact>> {
        let mut magic = Vec::new();
        regular::open(path)?
            .take(8)
            .read_to_end(&mut magic)
            .map_err(|e| Error::io("a file cannot be read", path, e))?;
        let Some((format, names)) = FORMATS.iter().find(|(format, _)| format.magic[..] == magic[..]) else {
            return Ok(None);
        };
        let sealed = Sealed::open(path, format)?;
        sealed.check()?;
        let payload = sealed.payload().len() as u64;
        // Only the exponent of a GPU's base is below zero.
        let fields = names.iter().zip(sealed.fields).map(|(name, value)| (*name, value.cast_signed())).collect();
        Ok(Some(Artefact {
            path: path.to_owned(),
            format: format.name,
            version: format.version,
            bytes: sealed.file_bytes(),
            payload_bytes: payload,
            fields,
            content: content(path, format, sealed.fields)?,
        }))
    }

    pub(crate) fn text(&self) -> String {
        let mut lines = vec![format!("{} file, version {}, checksum good", self.format, self.version)];
        lines.extend(self.fields.iter().map(|(name, value)| match u64::try_from(*value) {
            Ok(count) => format!("  {name}: {}", HumanCount(count)),
            Err(_) => format!("  {name}: {value}"),
        }));
        lines.push(format!("  payload: {}", HumanBytes(self.payload_bytes)));
        lines.extend(self.content.iter().map(|line| format!("  {line}")));
        lines.join("\n")
    }
}

/// Opens the file as the stages do, which checks its structure, and says what it holds.
fn content(path: &Path, format: &FileFormat, fields: [u64; 6]) -> Result<Vec<String>> {
    let rows = fields[0];
    let few = || (0..rows.min(IDS_SHOWN)).map(|row| row as u32);
    Ok(match format.magic {
        magic if magic == VECTORS.magic => VectorStore::open(path).map(|_| Vec::new())?,
        magic if magic == KEY_LISTS.magic => KeyListFile::open(path, rows).map(|_| Vec::new())?,
        magic if magic == NEIGHBORS.magic => Block::open(path).map(|_| Vec::new())?,
        magic if magic == MARKS.magic => MarkBlock::open(path).map(|_| Vec::new())?,
        magic if magic == CANDIDATES.magic => Candidates::check_file(path).map(|_| Vec::new())?,
        magic if magic == VERDICTS.magic => {
            let verdicts = Verdicts::open(path, None)?;
            let right = verdicts.all().filter(|verdict| verdict.positive).count() as u64;
            vec![format!("{} right answers of {} judged", HumanCount(right), HumanCount(verdicts.count()))]
        }
        magic if magic == OWN_RANKS.magic => {
            let rows = u32::try_from(rows).unwrap_or(u32::MAX);
            OwnRanks::open(path, rows, 0).map(|_| Vec::new())?
        }
        magic if magic == EDGES.magic => EdgePart::open(path).map(|_| Vec::new())?,
        magic if magic == INT_IDS.magic => {
            let ids = Ids::open_int(path, rows)?;
            few().filter_map(|row| ids.int(row).map(|id| format!("id of row {row}: {id}"))).collect()
        }
        magic if magic == TEXT_IDS.magic => {
            let ids = Ids::open_text(path, rows)?;
            let named = |row| ids.text(row).map(|id| format!("id of row {row}: {}", one_line(id, 80)));
            few().filter_map(named).collect()
        }
        magic if magic == DOCUMENTS.magic => TaskDocuments::open(path, None, 0).map(|_| Vec::new())?,
        magic if magic == TASKS.magic => tasks(&Tasks::open(path)?),
        magic if magic == LABELS.magic && rows <= ROWS_MAX => {
            let labels = Clusters::open(path, rows as RowId)?;
            let none = labels.labels().iter().filter(|label| **label == crate::clusters::NO_CLUSTER).count();
            vec![format!("rows in no cluster: {}", HumanCount(none as u64))]
        }
        _ => Vec::new(),
    })
}

fn tasks(tasks: &Tasks) -> Vec<String> {
    let line = |task: usize| {
        let name = one_line(tasks.name(task), 80);
        format!("task {name:?}: {} rows", HumanCount(tasks.range(task).len() as u64))
    };
    let mut lines: Vec<String> = (0..tasks.len().min(TASKS_SHOWN)).map(line).collect();
    if tasks.len() > TASKS_SHOWN {
        lines.push(format!("and {} more tasks", HumanCount((tasks.len() - TASKS_SHOWN) as u64)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::testing::write_sealed;

    #[test]
    fn every_format_is_known_by_its_own_magic() {
        let mut magics: Vec<[u8; 8]> = FORMATS.iter().map(|(format, _)| format.magic).collect();
        magics.sort_unstable();
        magics.dedup();
        assert_eq!(magics.len(), FORMATS.len());
    }

    #[test]
    fn files_that_live_while_a_stage_runs_are_described() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a file");
        for (format, name) in
            [(PASS, "passes"), (PACKED, "sampled rows"), (GPU_BASE, "exponent"), (IVF_FORMAT, "lists")]
        {
            write_sealed(&path, &format, [2, 7, 5, (-3i64).cast_unsigned(), 1, 0], &[0; 64]);
            let found = Artefact::read(&path).unwrap().unwrap();
            let text = found.text();
            assert!(text.contains(name) && text.contains("rows: 2") && text.contains("-3"), "{text}");
            assert_eq!((found.payload_bytes, found.bytes), (64, 160));
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[70] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let text = Artefact::read(&path).unwrap_err().to_string();
            assert!(text.contains("a file") && text.contains("not what was written"), "{text}");
        }
    }

    #[test]
    fn counts_that_do_not_fit_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a file");
        for (format, _) in
            FORMATS.iter().filter(|(f, _)| ![PASS.magic, PACKED.magic, GPU_BASE.magic].contains(&f.magic))
        {
            for number in [u64::MAX, 1 << 61, 1 << 32, 3] {
                write_sealed(&path, format, [number, number, number, number, number, number], &[0; 64]);
                // A row table and an order of places need other files to be judged.
                match Artefact::read(&path) {
                    Ok(found) => assert!([ROWS.magic, IVF_FORMAT.magic].contains(&format.magic) || found.is_some()),
                    Err(error) => assert!(error.to_string().contains("a file"), "{error}"),
                }
            }
        }
    }
}
