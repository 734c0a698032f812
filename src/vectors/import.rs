//! vectors: decodes every shard once, in parallel, into the mapped row-major store.
//!
//! Algorithm: label columns first (ids checked, tasks give each row its place, keys coded), then one
//! pass over the embeddings: decode a batch, check and measure every row, write runs of consecutive
//! rows where they belong. Nothing is normalised: reciprocal norms stand beside the input's values.
//!
//! Memory: at most 24 bytes a row for labels with one key column (see [`super::labels`]), and for each
//! thread one batch of both sides, decoded and encoded.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use xxhash_rust::xxh3::xxh3_64;

use super::budget::VectorsCounts;
use super::decode::{Unit, embedding_values};
use super::labels::{self, for_each_unit};
use super::row_writer::{RowWriter, Side};
use super::rows::{INT_IDS, Ids, ROWS, RowLayout, RowTable, TASKS, TEXT_IDS, Tasks};
use super::scatter::Scatter;
use super::shard::{self, Shards, Source};
use super::store::{RowId, VECTORS, VectorStore, Vectors};
use crate::config::{BinaryType, Config, Metric};
use crate::error::{Error, Result};
use crate::run::record::{IdKind, VectorsFacts};
use crate::run::sealed::{HEADER_BYTES, Sealed};
use crate::run::{Run, RunReader, ScatteredPart, Stage, StageRun};

const QUERIES: &str = "queries.vec";
const POSITIVES: &str = "positives.vec";
const ROW_TABLE: &str = "rows.col";
const TASK_TABLE: &str = "tasks.col";
const ID_TABLE: &str = "ids.col";
/// Tasks that a message names.
const NAMES_SHOWN: usize = 50;

/// Decodes the shards into the store, or opens the store that is there.
///
/// # Errors
/// Bad input, named by file, row group and row; or a disk that fails.
pub fn import(run: &Run, shards: &Shards, config: &Config, counts: &VectorsCounts) -> Result<Vectors> {
    if !run.is_complete(Stage::Vectors) {
        let stage = run.begin(Stage::Vectors);
        Import { run, stage: &stage, shards, config, counts, units: Unit::all(shards) }.all()?;
        shards_unchanged(shards)?;
        let facts = VectorsFacts {
            rows: shards.shape.rows,
            dim: shards.shape.dim,
            tasks: Tasks::open(&run.part_path(Stage::Vectors, TASK_TABLE))?.len(),
            ids: id_kind(run)?,
            shared: shards.roles.shared,
            named_tasks: shards.roles.task.is_some(),
            input_bytes: shards.input_bytes(),
        };
        stage.finish(&facts, |_| true)?;
    }
    open_in(&run.stage_folder(Stage::Vectors), &run.facts()?)
}

/// Opens the store of a finished run.
///
/// # Errors
/// The stage is not finished, or a file is damaged.
pub fn open(run: &RunReader) -> Result<Vectors> {
    open_in(&run.stage_folder(Stage::Vectors), &run.facts()?)
}

fn open_in(folder: &Path, facts: &VectorsFacts) -> Result<Vectors> {
    let queries = VectorStore::open(&folder.join(QUERIES))?;
    let positives = if facts.shared { queries.clone() } else { VectorStore::open(&folder.join(POSITIVES))? };
    let rows = RowTable::open(&folder.join(ROW_TABLE))?;
    let tasks = Tasks::open(&folder.join(TASK_TABLE))?;
    let count = queries.shape().rows;
    let ids = match facts.ids {
        IdKind::Int64 => Ids::open_int(&folder.join(ID_TABLE), count)?,
        IdKind::String => Ids::open_text(&folder.join(ID_TABLE), count)?,
        IdKind::Row => Ids::RowNumber,
    };
    let task_rows = if tasks.is_empty() { 0 } else { u64::from(tasks.range(tasks.len() - 1).end) };
    if positives.shape() != queries.shape() || rows.input_rows().len() as u64 != count || task_rows != count {
        return Err(Error::runtime("the vector store's files do not fit each other")
            .path(folder)
            .expected(format!("{count} rows in each"))
            .found(format!(
                "{} positives, {} rows, {task_rows} rows in tasks",
                positives.shape().rows,
                rows.input_rows().len()
            ))
            .remedy("the folder was tampered with: mine again with --replace or into a new folder"));
    }
    Ok(Vectors { queries, positives, rows, tasks, ids, named_tasks: facts.named_tasks })
}

fn id_kind(run: &Run) -> Result<IdKind> {
    if !run.has(Stage::Vectors, ID_TABLE) {
        return Ok(IdKind::Row);
    }
    let path = run.part_path(Stage::Vectors, ID_TABLE);
    Ok(if Sealed::open(&path, &INT_IDS).is_ok() { IdKind::Int64 } else { IdKind::String })
}

/// Fails if an input file changed while it was read: what was read would be of no one version.
fn shards_unchanged(shards: &Shards) -> Result<()> {
    for shard in &shards.list {
        let meta = shard.path.metadata().map_err(|e| Error::io("a file cannot be examined", &shard.path, e))?;
        let modified = meta.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let modified = modified.map_or(0, |since| since.as_nanos() as u64);
        if (meta.len(), modified) != (shard.identity.bytes, shard.identity.modified_ns) {
            return Err(Error::input("an input file changed while it was read")
                .path(&shard.path)
                .expected("files that stay as they are")
                .found("another size or time")
                .remedy("run again when the file is complete"));
        }
    }
    Ok(())
}

struct Import<'a> {
    run: &'a Run,
    stage: &'a StageRun<'a>,
    shards: &'a Shards,
    config: &'a Config,
    counts: &'a VectorsCounts,
    units: Vec<Unit<'a>>,
}

impl Import<'_> {
    fn rows(&self) -> usize {
        self.shards.shape.rows as usize
    }

    /// The order of the passes; each frees what the next does not need.
    fn all(&self) -> Result<()> {
        let mut parts = Vec::new();
        parts.extend(self.ids()?);
        let positions = self.tasks()?;
        let layout = RowLayout { rows: self.rows() as u64, keys: 1 + self.shards.roles.keys.len() as u64 };
        let table = self.stage.scattered(ROW_TABLE, layout.file_bytes())?;
        table.write_at(&ROWS.header([layout.rows, layout.keys, 0, 0, 0, 0]), 0)?;
        table.extend()?;
        for (column, name) in self.shards.roles.keys.iter().enumerate() {
            let codes = self.key_column(name, &positions)?;
            table.write_at(bytemuck::cast_slice(&codes), layout.key(1 + column as u64))?;
        }
        let stores = self.embeddings(&positions, &table, layout)?;
        parts.push(table);
        parts.extend(stores);
        self.stage.publish(parts)
    }

    /// Writes the ids and refuses duplicates; row numbers need no file.
    fn ids(&self) -> Result<Option<ScatteredPart>> {
        let (Some(column), Some(first)) = (self.shards.roles.id.as_deref(), self.units.first()) else {
            return Ok(None);
        };
        let schema = shard::schema(first.shard);
        let field = schema.and_then(|schema| schema.field_with_name(column).ok());
        let Some(field) = field else { return Ok(None) };
        if labels::ids_are_integers(first, column, field.data_type())? {
            self.int_ids(column).map(Some)
        } else {
            self.text_ids(column).map(Some)
        }
    }

    fn int_ids(&self, column: &str) -> Result<ScatteredPart> {
        let part = self.stage.scattered(ID_TABLE, HEADER_BYTES as u64 + 8 * self.rows() as u64)?;
        part.write_at(&INT_IDS.header([self.rows() as u64, 0, 0, 0, 0, 0]), 0)?;
        let hashes = Scatter::new(vec![0u64; self.rows()]);
        for_each_unit(&self.units, |unit| {
            labels::for_each_int_ids(unit, column, |row, ids| {
                let first = unit.first_input_row() + row;
                let hash = ids.iter().map(|id| labels::id_hash(&id.to_string()));
                hashes.write(first as usize, hash);
                part.write_at(bytemuck::cast_slice(ids), HEADER_BYTES as u64 + 8 * first)
            })
        })?;
        labels::refuse_duplicate_ids(&self.units, column, hashes.into_inner())?;
        Ok(part)
    }

    fn text_ids(&self, column: &str) -> Result<ScatteredPart> {
        let text_start = HEADER_BYTES as u64 + 8 * (self.rows() as u64 + 1);
        let mut part = self.stage.scattered(ID_TABLE, text_start)?;
        let mut hashes = Vec::with_capacity(self.rows());
        let mut end = 0u64;
        for unit in &self.units {
            self.run.check_interrupt()?;
            let (mut text, mut offsets) = (Vec::new(), Vec::new());
            let (first, text_from) = (unit.first_input_row(), end);
            labels::for_each_text(unit, column, |row, id| {
                let Some(id) = id else { return Err(unit.place(labels::null_id(), column, Some(row))) };
                hashes.push(labels::id_hash(id));
                offsets.extend(end.to_le_bytes());
                text.extend(id.as_bytes());
                end += id.len() as u64;
                Ok(())
            })?;
            part.write_at(&offsets, HEADER_BYTES as u64 + 8 * first)?;
            part.write_at(&text, text_start + text_from)?;
        }
        part.write_at(&end.to_le_bytes(), text_start - 8)?;
        part.write_at(&TEXT_IDS.header([self.rows() as u64, end, 0, 0, 0, 0]), 0)?;
        part.set_payload_end(text_start + end);
        labels::refuse_duplicate_ids(&self.units, column, hashes)?;
        Ok(part)
    }

    /// Commits the task table and returns each input row's place in task-grouped order.
    fn tasks(&self) -> Result<Vec<RowId>> {
        let (names, starts, positions) = match &self.shards.roles.task {
            None => {
                let rows = self.rows() as u64;
                (vec![String::new()], vec![0, rows], (0..self.rows() as RowId).collect())
            }
            Some(column) => {
                let codes = Scatter::new(vec![0u32; self.rows()]);
                let known = Mutex::new(Names::default());
                for_each_unit(&self.units, |unit| self.task_codes(unit, column, &known, &codes))?;
                let mut codes = codes.into_inner();
                let names = known.into_inner().expect("no thread panics while it holds the names").list;
                let (names, starts) = labels::group_by_task(names, &mut codes);
                (names, starts, codes)
            }
        };
        let (fields, payload) = Tasks::encode(&names, &starts);
        self.stage.commit(TASK_TABLE, |out| {
            use std::io::Write;
            out.write_all(&TASKS.header(fields))?;
            out.write_all(&payload)?;
            out.seal()
        })?;
        Ok(positions)
    }

    fn task_codes(&self, unit: &Unit<'_>, column: &str, known: &Mutex<Names>, codes: &Scatter<u32>) -> Result<()> {
        // Names repeat: each unit keeps the codes it has seen, and asks the shared list for new ones.
        let mut seen = std::collections::HashMap::<String, u32>::new();
        labels::for_each_text(unit, column, |row, name| {
            let Some(name) = name else {
                let error = Error::input("a task is null")
                    .expected("a task name in every row")
                    .found("a null")
                    .remedy("fill the column, or mine without --task-column");
                return Err(unit.place(error, column, Some(row)));
            };
            let code = match seen.get(name) {
                Some(code) => *code,
                None => {
                    let code = known.lock().expect("no thread panics while it holds the names").code(name);
                    seen.insert(name.to_owned(), code);
                    code
                }
            };
            codes.write((unit.first_input_row() + row) as usize, [code]);
            Ok(())
        })
    }

    fn key_column(&self, column: &str, positions: &[RowId]) -> Result<Vec<u32>> {
        let hashes = Scatter::new(vec![0u64; self.rows()]);
        for_each_unit(&self.units, |unit| {
            labels::for_each_text(unit, column, |row, key| {
                let place = positions[(unit.first_input_row() + row) as usize];
                // 0 means "no key"; a key that hashes to 0 takes 1.
                let hash = key.map_or(0, |key| xxh3_64(key.as_bytes()).max(1));
                hashes.write(place as usize, [hash]);
                Ok(())
            })
        })?;
        Ok(labels::key_codes(&hashes.into_inner(), |_, _| true))
    }

    /// The one pass over the embeddings.
    fn embeddings(&self, positions: &[RowId], table: &ScatteredPart, layout: RowLayout) -> Result<Vec<ScatteredPart>> {
        let shape = self.shards.shape;
        let sides = if self.shards.roles.shared { 1 } else { 2 };
        let mut stores = Vec::new();
        for (name, precision) in [QUERIES, POSITIVES].into_iter().zip(self.shards.store_types).take(sides) {
            let store = self.stage.scattered(name, VectorStore::file_bytes(shape, precision))?;
            store.write_at(&VECTORS.header(VectorStore::header(shape, precision)), 0)?;
            stores.push(store);
        }
        let writer = RowWriter {
            shape,
            precision: self.shards.store_types,
            metric: self.config.metric,
            positions,
            stores: &stores,
            table,
            layout,
            hashes: Scatter::new(vec![0u64; self.rows()]),
            largest: Mutex::new([0.0; 2]),
        };
        let meter = self.run.meter(Stage::Vectors, shape.rows, "rows");
        for_each_unit(&self.units, |unit| {
            self.for_each_pair_batch(unit, |row, sides, rows| {
                self.run.check_interrupt()?;
                writer.batch(unit, row, sides, rows, self.side_names())?;
                meter.add(rows as u64)?;
                Ok(())
            })
        })?;
        let largest = writer.largest.into_inner().expect("no thread panics while it holds the norms");
        let most = f64::from(f32::MAX) / 4.0;
        let too_long = largest.iter().any(|norm| *norm > most) || largest[0] * largest[1] > most;
        if self.config.metric == Metric::Dot && too_long {
            return Err(Error::input("inner products can leave the range of f32")
                .expected("norms, and their product, below 8e37")
                .found(format!("norms up to {:e} and {:e}", largest[0], largest[1]))
                .remedy("scale the embeddings down, or use --metric cosine"));
        }
        let hashes = writer.hashes.into_inner();
        let positives = stores.last().expect("there is a store for each side").map()?;
        let row_bytes = shape.dim * self.shards.store_types[sides - 1].bytes();
        let row = |row: RowId| &positives.bytes()[HEADER_BYTES + row as usize * row_bytes..][..row_bytes];
        let codes = labels::key_codes(&hashes, |a, b| row(a) == row(b));
        table.write_at(bytemuck::cast_slice(&codes), layout.key(0))?;
        Ok(stores)
    }

    fn side_names(&self) -> [&str; 2] {
        [&self.shards.roles.query, &self.shards.roles.positive].map(|name| name.as_deref().unwrap_or(""))
    }

    /// Decodes a unit's two sides batch by batch.
    fn for_each_pair_batch(
        &self,
        unit: &Unit<'_>,
        mut each: impl FnMut(u64, [Side<'_>; 2], usize) -> Result<()>,
    ) -> Result<()> {
        let batch_rows = self.counts.batch_rows;
        let dim = self.shards.shape.dim;
        if let Source::Npy(array) = &unit.shard.source {
            let mut row = 0;
            while row < unit.rows {
                let rows = (unit.rows - row).min(batch_rows as u64);
                let side = |side| {
                    let (values, stride) = array.rows(side, unit.start + row, rows);
                    Side { values, stride }
                };
                each(row, [side(0), side(1)], rows as usize)?;
                row += rows;
            }
            return Ok(());
        }
        let names = self.side_names();
        let columns = if self.shards.roles.shared { &names[..1] } else { &names[..] };
        let dtype: Option<BinaryType> = self.config.columns.dtype;
        unit.for_each_batch(columns, batch_rows, |row, arrays| {
            let view = |side: usize| {
                let array = &arrays[side.min(arrays.len() - 1)];
                embedding_values(array.as_ref(), dim, dtype)
                    .map(|values| Side { values, stride: dim })
                    .map_err(|(error, at)| unit.place(error, names[side], Some(row + at)))
            };
            each(row, [view(0)?, view(1)?], arrays[0].len())
        })
    }
}

/// Task names in order of arrival; the order is sorted out at the end.
#[derive(Default)]
struct Names {
    codes: std::collections::HashMap<String, u32>,
    list: Vec<String>,
}

impl Names {
    fn code(&mut self, name: &str) -> u32 {
        if let Some(code) = self.codes.get(name) {
            return *code;
        }
        let code = self.list.len() as u32;
        self.codes.insert(name.to_owned(), code);
        self.list.push(name.to_owned());
        code
    }
}

/// Rows of each task, in task order. Reads the task column only.
///
/// # Errors
/// The column cannot be read, or a task is null.
pub fn task_sizes(shards: &Shards) -> Result<BTreeMap<String, u64>> {
    let mut sizes = BTreeMap::<String, u64>::new();
    let Some(column) = &shards.roles.task else {
        sizes.insert(String::new(), shards.shape.rows);
        return Ok(sizes);
    };
    for unit in Unit::all(shards) {
        labels::for_each_text(&unit, column, |_, name| {
            *sizes.entry(name.unwrap_or_default().to_owned()).or_default() += 1;
            Ok(())
        })?;
    }
    Ok(sizes)
}

/// Fails where settings are given to a task that is not among the known ones.
///
/// # Errors
/// There is no such task.
pub fn refuse_unknown_tasks(config: &Config, shards: &Shards, known: &BTreeMap<String, u64>) -> Result<()> {
    let Some(unknown) = config.tasks.keys().find(|name| !known.contains_key(*name)) else { return Ok(()) };
    let mut names: Vec<String> = known.keys().take(NAMES_SHOWN).map(|name| format!("{name:?}")).collect();
    if known.len() > NAMES_SHOWN {
        names.push(format!("and {} more", known.len() - NAMES_SHOWN));
    }
    Err(Error::input("settings are given to a task that the input does not have")
        .task(unknown)
        .column(shards.roles.task.as_deref().unwrap_or_default())
        .expected(format!("one of the tasks {}", names.join(", ")))
        .found(format!("[task.{unknown:?}]"))
        .remedy("correct the name in the configuration file, or take the table out"))
}
