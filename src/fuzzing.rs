//! An entry for each decoder of bytes that come from a disk, for fuzzing. Nothing of it is part of the interface.
//!
//! An entry writes the bytes to a file, opens it as the stages and verbs do, and reads all that it holds. It returns
//! whether the bytes were taken. Whatever they are, it must neither panic nor run long. Bytes of a binary file of a run
//! are its header's fields and its payload: the frame around them, with length and checksum, is made here.
//!
//! Memory: what a run of the same file takes.

use std::collections::BTreeSet;
use std::path::Path;

use crate::clusters::TaskPlaces;
use crate::clusters::labels::{Clusters, LABELS, members};
use crate::clusters::passes::{PASS, PassState};
use crate::config::{Columns, Config, IdColumn, Settings, VerdictRules};
use crate::edges::file::EDGES;
use crate::edges::{Adjacency, EdgeFile, EdgeRows, JudgedFiles, pieces as graph};
use crate::error::{Error, Result};
use crate::inspect::describe;
use crate::neighbors::candidates::{CANDIDATES, Candidates};
use crate::neighbors::cpu::int8::{PACKED, PackedBase};
use crate::neighbors::cpu::simd::Simd;
use crate::neighbors::file::{Block, NEIGHBORS};
use crate::neighbors::gpu::{DeviceBase, GPU_BASE};
use crate::neighbors::ivf::{IVF_FORMAT, IvfIndex, IvfShape, ListOrder};
use crate::neighbors::marks::{MARKS, MarkBlock, is_marked};
use crate::neighbors::own_ranks::{OWN_RANKS, OwnRanks};
use crate::neighbors::pieces as search;
use crate::neighbors::verdicts::{VERDICTS, Verdicts};
use crate::run::block_hash;
use crate::run::pieces::{PieceFolder, TASK};
use crate::run::record::{
    BatchesFacts, BatchesSettings, ClustersFacts, ClustersSettings, EdgesFacts, EdgesSettings, NeighborsFacts,
    NeighborsSettings, VectorsFacts, VectorsSettings,
};
use crate::run::sealed::{FileFormat, HEADER_BYTES, seal_of, u64_at};
use crate::run::{Manifest, RunReader};
use crate::vectors::{
    DOCUMENTS, INT_IDS, Ids, KEY_LISTS, KeyListFile, Place, PlaceRange, ROWS, ROWS_MAX, RowId, RowTable, Shards, TASKS,
    TEXT_IDS, TaskDocuments, Tasks, Unit, VECTORS, VectorStore, check_input, guarded_batches, open_files, open_table,
};
use crate::verify::table_file::for_each_batch;
use crate::watch::Watch;

/// Name and function of each entry: bytes, and a folder to write to.
type Decoder = (&'static str, fn(&[u8], &Path) -> Result<()>);

const DECODERS: [Decoder; 26] = [
    ("parquet", import),
    ("arrow", import),
    ("npy", import),
    ("settings", settings),
    ("manifest", manifest),
    ("table", table),
    ("vectors", vectors),
    ("rows", rows),
    ("tasks", tasks),
    ("documents", documents),
    ("ids", ids),
    ("neighbors", neighbors),
    ("candidates", candidates),
    ("marks", marks),
    ("own-ranks", own_ranks),
    ("verdicts", verdicts),
    ("judged", judged),
    ("edges", edges),
    ("labels", labels),
    ("key-lists", key_lists),
    ("pass", pass),
    ("order", order),
    ("packed", packed),
    ("gpu-base", gpu_base),
    ("search-pieces", search_pieces),
    ("graph-pieces", graph_pieces),
];

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 64;
/// Most rows of the vectors that a file is read with, where that asks for them.
const OTHERS_ROWS: u64 = 4096;

/// Names of all entries.
pub fn decoders() -> impl Iterator<Item = &'static str> {
    DECODERS.iter().map(|(name, _)| *name)
}

/// Decodes bytes with the entry of a name, by way of a file in a folder. Returns whether they were taken.
pub fn decode(name: &str, bytes: &[u8], folder: &Path) -> bool {
    DECODERS.iter().any(|(known, entry)| *known == name && entry(bytes, folder).is_ok())
}

/// Uses what was read, so that the compiler does not leave the reading out.
fn keep<T>(value: T) {
    std::hint::black_box(value);
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(|e| Error::io("a file cannot be written", path, e))
}

/// Input files, as `mine --dry-run` and `inspect` read them.
fn import(bytes: &[u8], folder: &Path) -> Result<()> {
    let path = folder.join("input");
    write(&path, bytes)?;
    let name = path.display().to_string();
    let inputs = vec![name.clone()].into();
    let shards = open_files(&inputs)?;
    for unit in Unit::all(&shards) {
        let Some(schema) = unit.shard.schema() else { continue };
        let names: BTreeSet<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let names: Vec<&str> = names.into_iter().collect();
        // A damaged column does not hide what the others do.
        names.iter().for_each(|name| drop(unit.for_each_batch(&[name], BATCH_ROWS, |_, _| Ok(()))));
    }
    drop(describe(&path, &Columns::unnamed()));
    let mut config = Config::new(vec![name], Settings::default())?;
    let plain = Shards::open(&inputs, &config.columns).and_then(|shards| checked(&shards, &config));
    config.columns.task = Some("task".into());
    config.columns.keys = vec!["task".into(), "id".into()];
    config.columns.id = IdColumn::Found;
    drop(Shards::open(&inputs, &config.columns).and_then(|shards| checked(&shards, &config)));
    plain
}

fn checked(shards: &Shards, config: &Config) -> Result<()> {
    check_input(shards, None, config, BATCH_ROWS, Watch::silent()).map(drop)
}

/// A file of settings.
fn settings(bytes: &[u8], folder: &Path) -> Result<()> {
    let path = folder.join("settings.toml");
    write(&path, bytes)?;
    Config::new(vec!["input".into()], Settings::from_file(&path)?).map(drop)
}

/// A manifest: as it is, and with the checksum that it should have. Then the records of all stages.
fn manifest(bytes: &[u8], folder: &Path) -> Result<()> {
    let path = folder.join("manifest.json");
    write(&path, bytes)?;
    let as_it_is = RunReader::open(folder).map(drop);
    let parsed = serde_json::from_slice::<Manifest>(bytes);
    let Ok(found) = parsed else { return as_it_is };
    write(&path, &found.to_bytes())?;
    let run = RunReader::open(folder)?;
    drop((run.settings::<VectorsSettings>(), run.facts::<VectorsFacts>()));
    drop((run.settings::<NeighborsSettings>(), run.facts::<NeighborsFacts>()));
    drop((run.settings::<EdgesSettings>(), run.facts::<EdgesFacts>()));
    drop((run.settings::<ClustersSettings>(), run.facts::<ClustersFacts>()));
    drop((run.settings::<BatchesSettings>(), run.facts::<BatchesFacts>()));
    let described = describe(folder, &Columns::unnamed()).map(|run| drop(run.text()));
    std::fs::remove_file(&path).map_err(|e| Error::io("a file cannot be removed", &path, e))?;
    described
}

/// A file of a batch table, as `verify`, `report` and `inspect` read it.
fn table(bytes: &[u8], folder: &Path) -> Result<()> {
    let path = folder.join("part-00000-00000.parquet");
    write(&path, bytes)?;
    drop(describe(&path, &Columns::unnamed()).map(|table| table.text()));
    let wrong = |found: String| Error::runtime(found);
    let builder = open_table(&path, wrong)?.with_batch_size(BATCH_ROWS);
    let schema = builder.schema().clone();
    guarded_batches(&path, builder).map_err(wrong)?.try_for_each(|batch| batch.map(drop)).map_err(wrong)?;
    for_each_batch(&path, &schema, |_| ())
}

/// A binary file of a run: 48 bytes of fields, and the payload, put into the frame of their format.
fn framed(bytes: &[u8], path: &Path, format: &FileFormat) -> Result<[u64; 6]> {
    let (fields, payload) = bytes.split_at(bytes.len().min(HEADER_BYTES - 16));
    let mut all = [0; HEADER_BYTES - 16];
    all[..fields.len()].copy_from_slice(fields);
    let fields: [u64; 6] = std::array::from_fn(|field| u64_at(&all, 8 * field));
    let mut file = format.header(fields).to_vec();
    file.extend(payload);
    file.extend(seal_of(file.len() as u64, &block_hash::table(&file)));
    write(path, &file)?;
    Ok(fields)
}

fn described(bytes: &[u8], folder: &Path, format: &FileFormat) -> Result<()> {
    let path = folder.join("artefact");
    framed(bytes, &path, format)?;
    describe(&path, &Columns::unnamed()).map(|artefact| drop(artefact.text()))
}

fn vectors(bytes: &[u8], folder: &Path) -> Result<()> {
    described(bytes, folder, &VECTORS)?;
    let store = VectorStore::open(&folder.join("artefact"))?;
    let mut row = vec![0.0; store.shape().dim];
    (0..store.shape().rows as u32).for_each(|number| store.load(number, &mut row));
    Ok(())
}

fn tasks(bytes: &[u8], folder: &Path) -> Result<()> {
    described(bytes, folder, &TASKS)?;
    let tasks = Tasks::open(&folder.join("artefact"))?;
    tasks.ranges().for_each(|range| keep(range.clone().next().map(|row| tasks.of(row))));
    tasks.names().for_each(|name| keep(name.len()));
    Ok(())
}

fn documents(bytes: &[u8], folder: &Path) -> Result<()> {
    described(bytes, folder, &DOCUMENTS)?;
    let path = folder.join("artefact");
    let tasks = framed(bytes, &path, &DOCUMENTS)?[1];
    let found = TaskDocuments::open(&path, Some(tasks as usize), 7)?;
    (0..tasks as usize).for_each(|task| keep(found.of_task(task)));
    Ok(())
}

/// A row table without key lists, which would be files of their own.
fn rows(bytes: &[u8], folder: &Path) -> Result<()> {
    described(bytes, folder, &ROWS)?;
    let rows = RowTable::open(&folder.join("artefact"))?;
    let keys = rows.keys();
    (0..rows.input_rows().len() as u32).for_each(|row| keep(keys.conflict(row, 0)));
    Ok(())
}

/// Ids of whole numbers and of texts: the same bytes as each.
fn ids(bytes: &[u8], folder: &Path) -> Result<()> {
    let path = folder.join("artefact");
    let rows = framed(bytes, &path, &INT_IDS)?[0];
    let whole = Ids::open_int(&path, rows).map(|ids| keep(ids.int(0)));
    let texts = described(bytes, folder, &TEXT_IDS).and_then(|()| Ids::open_text(&path, rows));
    let texts = texts.map(|ids| (0..rows.min(ROWS_MAX) as u32).for_each(|row| keep(ids.text(row).map(str::len))));
    whole.or(texts)
}

fn neighbors(bytes: &[u8], folder: &Path) -> Result<()> {
    described(bytes, folder, &NEIGHBORS)?;
    let block = Block::open(&folder.join("artefact"))?;
    for place in block.range().indices().map(|place| Place::new(place as u32)) {
        let lists = (block.neighbors(place).len(), block.scores(place).len());
        assert_eq!(lists.0, lists.1, "as many scores as places");
    }
    Ok(())
}

/// Candidates of tasks of equal size.
/// Rows, tasks and blocks of the run that descriptions of pieces are of.
const PIECES_OF: (u32, usize, usize) = (600, 3, 1);

fn search_pieces(bytes: &[u8], folder: &Path) -> Result<()> {
    write(&folder.join(TASK), bytes)?;
    let (rows, tasks, _) = PIECES_OF;
    search::described_in(PieceFolder::at(folder.to_owned()), folder, (rows, tasks)).map(keep)
}

fn graph_pieces(bytes: &[u8], folder: &Path) -> Result<()> {
    write(&folder.join(TASK), bytes)?;
    let (rows, _, blocks) = PIECES_OF;
    graph::described_in(PieceFolder::at(folder.to_owned()), folder, (rows.into(), blocks)).map(keep)
}

fn candidates(bytes: &[u8], folder: &Path) -> Result<()> {
    described(bytes, folder, &CANDIDATES)?;
    let path = folder.join("artefact");
    let [rows, tasks, _, documents, ..] = framed(bytes, &path, &CANDIDATES)?;
    let (rows, tasks) = (rows.min(OTHERS_ROWS), tasks.clamp(1, 64));
    let begin = |task| (task * rows / tasks) as u32;
    let ranges: Vec<_> = (0..tasks).map(|task| begin(task)..begin(task + 1)).collect();
    // A list for each task; documents, all of the last one, are behind the rows.
    let documents = documents.min(OTHERS_ROWS) as u32;
    let order: Vec<RowId> = (0..rows as u32 + documents).collect();
    let starts: Vec<u32> = (0..=tasks).map(begin).collect();
    let mut document_starts = vec![rows as u32; starts.len()];
    *document_starts.last_mut().expect("there is a task") += documents;
    let lists = ListOrder { rows: rows as u32, order: &order, starts: &starts, document_starts: &document_starts };
    let found = Candidates::open(&path, lists, &ranges)?;
    (1..rows as u32).for_each(|place| keep(found.carrier(Place::new(place), Place::new(place - 1))));
    Ok(())
}

fn marks(bytes: &[u8], folder: &Path) -> Result<()> {
    described(bytes, folder, &MARKS)?;
    let block = MarkBlock::open(&folder.join("artefact"))?;
    block.places().indices().for_each(|place| keep(is_marked(block.of(Place::new(place as u32)), 5)));
    Ok(())
}

fn own_ranks(bytes: &[u8], folder: &Path) -> Result<()> {
    described(bytes, folder, &OWN_RANKS)?;
    let path = folder.join("artefact");
    let rows = u32::try_from(framed(bytes, &path, &OWN_RANKS)?[0]).map_err(|_| Error::runtime("too many rows"))?;
    keep(OwnRanks::open(&path, rows, 3)?.left_out());
    Ok(())
}

fn verdicts(bytes: &[u8], folder: &Path) -> Result<()> {
    described(bytes, folder, &VERDICTS)?;
    let path = folder.join("artefact");
    framed(bytes, &path, &VERDICTS)?;
    let verdicts = Verdicts::open(&path, None)?;
    keep(verdicts.all().filter(|verdict| verdicts.of(verdict.query).on(verdict.candidate).is_none()).count());
    Ok(())
}

/// A file of judged pairs.
fn judged(bytes: &[u8], folder: &Path) -> Result<()> {
    let path = folder.join("judged.parquet");
    write(&path, bytes)?;
    let files = vec![path.to_string_lossy().into_owned()];
    keep(JudgedFiles::open(&VerdictRules { files, ..VerdictRules::default() })?.bytes());
    Ok(())
}

fn edges(bytes: &[u8], folder: &Path) -> Result<()> {
    described(bytes, folder, &EDGES)?;
    let path = folder.join("artefact");
    let fields = framed(bytes, &path, &EDGES)?;
    let rows = u32::try_from(fields[4]).map_err(|_| Error::runtime("too many rows"))?;
    let graph = EdgeFile::open(&[path], rows)?;
    let mut block = Adjacency::default();
    (0..graph.blocks()).try_for_each(|number| graph.read(number, &mut block))
}

fn labels(bytes: &[u8], folder: &Path) -> Result<()> {
    described(bytes, folder, &LABELS)?;
    let path = folder.join("artefact");
    let rows = framed(bytes, &path, &LABELS)?[0];
    let labels = Clusters::open(&path, u32::try_from(rows).map_err(|_| Error::runtime("too many rows"))?)?;
    members(labels.labels(), labels.count());
    Ok(())
}

fn key_lists(bytes: &[u8], folder: &Path) -> Result<()> {
    described(bytes, folder, &KEY_LISTS)?;
    let path = folder.join("artefact");
    let file = KeyListFile::open(&path, framed(bytes, &path, &KEY_LISTS)?[0])?;
    keep(file.lists().codes.len());
    Ok(())
}

/// The sixth field, which the format does not have, says where a second task begins, and which rows are excluded.
fn pass(bytes: &[u8], folder: &Path) -> Result<()> {
    let path = folder.join("artefact");
    let [rows, size, _, _, _, others] = framed(bytes, &path, &PASS)?;
    let rows = rows.min(OTHERS_ROWS) as u32;
    let middle = (others as u32 >> 8).min(rows);
    let size = (size as u32).max(1);
    let task = |start, end| TaskPlaces { places: PlaceRange::new(start, end), size, per_key: 1 };
    let mut tasks = vec![task(0, middle), task(middle, rows)];
    tasks.retain(|task| !task.places.is_empty());
    let excluded: Vec<bool> = (0..u64::from(rows)).map(|row| row % 8 + 1 == others % 16).collect();
    PassState::read(&path, &tasks, &excluded).map(keep)
}

/// IVF lists of tasks of equal size.
fn order(bytes: &[u8], folder: &Path) -> Result<()> {
    let path = folder.join("artefact");
    let [rows, _, tasks, dim, documents, _] = framed(bytes, &path, &IVF_FORMAT)?;
    let (rows, tasks) = (rows.min(OTHERS_ROWS), tasks.clamp(1, 64));
    let begin = |task| (task * rows / tasks) as u32;
    let ranges: Vec<_> = (0..tasks).map(|task| begin(task)..begin(task + 1)).collect();
    // Documents, where there are any, are all of the last task.
    let (rows, documents) = (rows as u32, documents.min(OTHERS_ROWS) as u32);
    let mut of_tasks = vec![rows..rows; if documents > 0 { ranges.len() } else { 0 }];
    of_tasks.iter_mut().next_back().into_iter().for_each(|last| last.end += documents);
    let shape = IvfShape { rows, dim: dim.min(OTHERS_ROWS) as usize, tasks: ranges.clone(), documents: of_tasks };
    let lists = IvfIndex::open_of(&path, &shape)?;
    (0..ranges.len()).for_each(|task| keep(lists.lists(task).map(|list| lists.starts()[list + 1]).max()));
    Ok(())
}

fn packed(bytes: &[u8], folder: &Path) -> Result<()> {
    let path = folder.join("artefact");
    let [rows, dim, _, sampled, ..] = framed(bytes, &path, &PACKED)?;
    let (rows, dim) = (rows.clamp(1, OTHERS_ROWS), dim.clamp(1, 64) as usize);
    let base = PackedBase::open(&path, Simd::detect(), rows, dim, sampled.min(rows))?;
    base.check()?;
    keep(base.panel(0).quads.len());
    Ok(())
}

fn gpu_base(bytes: &[u8], folder: &Path) -> Result<()> {
    let path = folder.join("artefact");
    let rows = framed(bytes, &path, &GPU_BASE)?[0] as usize;
    let base = DeviceBase::open(&path)?;
    keep(base.rows(0..rows).map(<[u8]>::len));
    keep(base.bounds(0..rows));
    Ok(())
}
