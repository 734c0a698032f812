//! A list of batches: the run's own, the same with its rows shuffled, or one that the user gives.
//!
//! Memory: 8 bytes a row for a list (batch and cluster; 16, where ranks are those of distinct positives), 4 bytes a row
//! while lists are read (8, where rows are named by id), and 8 bytes a batch beside a table of the batches' numbers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::metrics::{ByPositive, Membership, NO_BATCH};
use crate::clusters::NO_CLUSTER;
use crate::error::{Error, Result};
use crate::neighbors::candidates::Candidates;
use crate::random::{Purpose, stream};
use crate::vectors::{Ids, Place, PlaceRange, Vectors};
use crate::vectors::{guarded_batches, open_table};

/// Rows decoded at a time.
const CHUNK_ROWS: usize = 8192;

/// Batches, by place.
#[derive(Debug, Clone)]
pub(crate) struct BatchList {
    batch: Vec<u32>,
    cluster: Option<Vec<u32>>,
    by_positive: Option<ByPositive>,
    count: u32,
    /// The number that the files give each batch.
    names: Vec<i64>,
}

impl BatchList {
    /// Which batch and cluster each row is in.
    pub(crate) fn membership(&self) -> Membership<'_> {
        Membership { batch: &self.batch, cluster: self.cluster.as_deref(), by_positive: self.by_positive.as_ref() }
    }

    /// The same with what is known of the rows of each positive, where ranks are those of distinct positives.
    pub(crate) fn by_positive(self, candidates: Option<&Candidates>) -> BatchList {
        let by_positive = candidates.map(|known| ByPositive::new(known, &self.batch, self.cluster.as_deref()));
        BatchList { by_positive, ..self }
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The number that the list's files give a batch.
    pub(crate) fn name(&self, batch: u32) -> i64 {
        self.names[batch as usize]
    }

    /// The same batches and clusters, sizes and tasks, with the rows of each task shuffled.
    pub(crate) fn shuffled(mut self, tasks: impl Iterator<Item = PlaceRange>, seed: u64, epoch: u32) -> BatchList {
        for (task, range) in tasks.enumerate() {
            let range = range.indices();
            // The same numbers twice: batch and cluster stay together.
            let shuffle = || stream(Purpose::ReportShuffle { seed, epoch, task });
            self.batch[range.clone()].shuffle(&mut shuffle());
            if let Some(cluster) = &mut self.cluster {
                cluster[range].shuffle(&mut shuffle());
            }
        }
        self
    }

    /// Reads a list from Parquet files: columns `batch_id` and `row` or `id`, and `cluster_id` if it is there. Of a
    /// list with an `epoch` column the rows of one epoch count.
    ///
    /// # Errors
    /// A file is damaged, a column is missing or of another type, a row is unknown or in two batches, or no row
    /// is left.
    ///
    /// `repeats`: rows come several times, by the weight of their task, and the first batch counts.
    pub(crate) fn read(paths: &[PathBuf], epoch: u32, repeats: bool, directory: &Directory<'_>) -> Result<BatchList> {
        let rows = directory.places.len();
        let mut reading = Reading {
            directory,
            epoch: i64::from(epoch),
            repeats,
            list: BatchList {
                batch: vec![NO_BATCH; rows],
                cluster: None,
                by_positive: None,
                count: 0,
                names: Vec::new(),
            },
            last_left_out: None,
            numbers: HashMap::new(),
            rows: 0,
        };
        for path in paths {
            reading.file(path)?;
        }
        if reading.rows == 0 {
            return Err(Error::input("the list has no batches")
                .path(paths.first().map_or(Path::new(""), PathBuf::as_path))
                .expected(format!("rows with a batch_id (of epoch {epoch}, where there is an epoch column)"))
                .found("none")
                .remedy("name another list, or another --epoch"));
        }
        let mut names = vec![0; reading.numbers.len()];
        reading.numbers.iter().for_each(|(name, number)| names[*number as usize] = *name);
        Ok(BatchList { names, ..reading.list })
    }
}

/// The Parquet files of a list: the file itself, or those of a folder in the order of their names.
///
/// # Errors
/// There are none.
pub(crate) fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |e| Error::io("a folder cannot be listed", path, e);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        files.push(entry.map_err(failed)?.path());
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "parquet"));
    files.sort();
    if files.is_empty() {
        return Err(Error::input("the folder has no batch list in it")
            .path(path)
            .expected("Parquet files")
            .found("none")
            .remedy("name a Parquet file with the columns batch_id and row or id"));
    }
    Ok(files)
}

/// Where rows of the input are found.
#[derive(Debug)]
pub(crate) struct Directory<'a> {
    /// Place by input row; none of rows that were left out.
    places: Vec<Place>,
    ids: &'a Ids,
    /// Input rows in the order of their ids, where a list names rows by id.
    by_id: Option<Vec<u32>>,
}

impl<'a> Directory<'a> {
    /// Places of all input rows, given the place of each row.
    pub(crate) fn new(vectors: &'a Vectors, place_of_row: &[Place]) -> Directory<'a> {
        let mut places = vec![Place::NONE; vectors.rows.input_row_limit() as usize];
        // Documents are in no batch.
        for (row, input) in vectors.rows.input_rows()[..vectors.row_count() as usize].iter().enumerate() {
            // An input row beyond them was ruled out by the file's checksum.
            places[*input as usize] = place_of_row[row];
        }
        Directory { places, ids: &vectors.ids, by_id: None }
    }

    /// Sorts the ids, so that rows are found by id. O(rows log rows).
    pub(crate) fn index_ids(&mut self) {
        if self.by_id.is_some() {
            return;
        }
        let ids = self.ids;
        let mut order: Vec<u32> = (0..self.places.len() as u32).collect();
        order.retain(|row| self.places[*row as usize] != Place::NONE);
        order.par_sort_unstable_by(|a, b| match ids {
            Ids::Text(_) => ids.text(*a).cmp(&ids.text(*b)),
            _ => ids.int(*a).cmp(&ids.int(*b)),
        });
        self.by_id = Some(order);
    }

    fn place_of_input(&self, row: i64) -> Option<Place> {
        usize::try_from(row).ok().and_then(|row| self.places.get(row)).copied().filter(|place| *place != Place::NONE)
    }

    fn place_of_int(&self, id: i64) -> Option<Place> {
        let order = self.by_id.as_ref()?;
        let at = order.binary_search_by(|row| self.ids.int(*row).cmp(&Some(id))).ok()?;
        self.place_of_input(i64::from(order[at]))
    }

    fn place_of_text(&self, id: &str) -> Option<Place> {
        let order = self.by_id.as_ref()?;
        let at = order.binary_search_by(|row| self.ids.text(*row).cmp(&Some(id))).ok()?;
        self.place_of_input(i64::from(order[at]))
    }
}

/// Whether a list names its rows by id, having no column `row`.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn is_by_id(path: &Path) -> Result<bool> {
    Ok(open(path)?.schema().column_with_name("row").is_none())
}

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<Bytes>> {
    open_table(path, |found| unreadable(path, &found))
}

fn unreadable(path: &Path, found: &str) -> Error {
    // The run's own are held to their checksums before.
    Error::input("a batch list cannot be read")
        .path(path)
        .expected("a Parquet file with the columns batch_id and row or id")
        .found(found)
        .remedy("write it again; if it is the run's own, delete it and run the same `mine` command again")
}

/// A list while it is read.
struct Reading<'a> {
    directory: &'a Directory<'a>,
    epoch: i64,
    /// Rows come several times: batches that begin with one that came are left out.
    repeats: bool,
    list: BatchList,
    /// The last batch that was left out.
    last_left_out: Option<i64>,
    /// Batches in the order of their first rows, by the number that the file gives them.
    numbers: HashMap<i64, u32>,
    rows: u64,
}

impl Reading<'_> {
    fn file(&mut self, path: &Path) -> Result<()> {
        let builder = open(path)?;
        let has = |name: &str| builder.schema().column_with_name(name).is_some();
        let row = if has("row") { "row" } else { "id" };
        if let Some(name) = ["batch_id", row].into_iter().find(|name| !has(name)) {
            let names: Vec<&str> = builder.schema().fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Error::input("a batch list lacks a column")
                .path(path)
                .column(name)
                .expected("the columns batch_id and row or id")
                .found(names.join(", "))
                .remedy("rename its columns"));
        }
        let wanted = ["epoch", "batch_id", "cluster_id", row].into_iter().filter(|name| has(name));
        let mask = ProjectionMask::columns(builder.parquet_schema(), wanted);
        let batches = guarded_batches(path, builder.with_projection(mask).with_batch_size(CHUNK_ROWS));
        let mut first = 0;
        for chunk in batches.map_err(|found| unreadable(path, &found))? {
            let chunk = chunk.map_err(|found| unreadable(path, &found))?;
            let column =
                |name: &str| chunk.column_by_name(name).map(|array| whole_numbers(array, path, name)).transpose();
            let columns = ListColumns {
                path,
                first,
                epochs: column("epoch")?,
                batches: column("batch_id")?.expect("asked for above"),
                clusters: column("cluster_id")?,
                rows: self.places(chunk.column_by_name(row).expect("asked for above"), path, row)?,
            };
            self.take(&columns)?;
            first += chunk.num_rows() as u64;
        }
        Ok(())
    }

    /// Each row's place, if the run has that row.
    fn places(&self, array: &ArrayRef, path: &Path, name: &str) -> Result<Vec<Option<Place>>> {
        let directory = self.directory;
        if name == "id" && matches!(directory.ids, Ids::Text(_)) {
            let text = cast(array, &DataType::LargeUtf8).map_err(|e| unreadable(path, &e.to_string()))?;
            return Ok(text.as_string::<i64>().iter().map(|id| directory.place_of_text(id?)).collect());
        }
        let numbers = whole_numbers(array, path, name)?;
        let place = |number: i64| match name {
            "row" => directory.place_of_input(number),
            _ => directory.place_of_int(number),
        };
        Ok(numbers.iter().map(|number| place(number?)).collect())
    }

    fn take(&mut self, columns: &ListColumns<'_>) -> Result<()> {
        if columns.clusters.is_some() && self.list.cluster.is_none() {
            self.list.cluster = Some(vec![NO_CLUSTER; self.list.batch.len()]);
        }
        for (index, place) in columns.rows.iter().enumerate() {
            let other = |epochs: &Int64Array| epochs.is_null(index) || epochs.value(index) != self.epoch;
            if columns.epochs.as_ref().is_some_and(other) {
                continue;
            }
            let wrong = |what: &str, expected: &str, found: String, remedy: &str| {
                let error = Error::input(what).path(columns.path).row(columns.first + index as u64);
                error.expected(expected).found(found).remedy(remedy)
            };
            let Some(place) = *place else {
                let found = "a row or id that the run does not have, or a null".into();
                return Err(wrong(
                    "a batch list names a row that is unknown",
                    "rows or ids of the run's input",
                    found,
                    "make the list from the input that the run was made from",
                ));
            };
            if columns.batches.is_null(index) {
                let remedy = "drop the rows that are in no batch";
                return Err(wrong("a row of a batch list is in no batch", "a batch_id", "a null".into(), remedy));
            }
            let next = self.numbers.len() as u32;
            let (name, came) = (columns.batches.value(index), self.list.batch[place.index()] != NO_BATCH);
            if self.repeats && (came || self.last_left_out == Some(name)) {
                if !self.numbers.contains_key(&name) {
                    self.last_left_out = Some(name);
                }
                continue;
            }
            let number = *self.numbers.entry(name).or_insert(next);
            let before = std::mem::replace(&mut self.list.batch[place.index()], number);
            if before != NO_BATCH {
                let found = format!("one that is also in batch {}", self.name_of(before));
                let remedy = "give the list of one epoch, or an epoch column";
                return Err(wrong("a batch list has a row twice", "each row once", found, remedy));
            }
            if let (Some(clusters), Some(of)) = (&columns.clusters, &mut self.list.cluster)
                && clusters.is_valid(index)
            {
                let cluster = u32::try_from(clusters.value(index)).ok().filter(|cluster| *cluster != NO_CLUSTER);
                of[place.index()] = cluster.ok_or_else(|| {
                    let found = clusters.value(index).to_string();
                    wrong("a cluster's number is out of range", "0 to 4294967294", found, "number clusters from 0")
                })?;
            }
            self.rows += 1;
        }
        self.list.count = self.numbers.len() as u32;
        Ok(())
    }

    fn name_of(&self, number: u32) -> i64 {
        self.numbers.iter().find(|(_, own)| **own == number).map_or(0, |(name, _)| *name)
    }
}

/// Columns of some rows of a file.
struct ListColumns<'a> {
    path: &'a Path,
    /// Number of the first row within the file.
    first: u64,
    epochs: Option<Int64Array>,
    batches: Int64Array,
    clusters: Option<Int64Array>,
    rows: Vec<Option<Place>>,
}

fn whole_numbers(array: &ArrayRef, path: &Path, column: &str) -> Result<Int64Array> {
    let wrong = |found: String| {
        Error::input("a column of a batch list has another type")
            .path(path)
            .column(column)
            .expected("whole numbers")
            .found(found)
            .remedy("cast the column to int64")
    };
    if !array.data_type().is_integer() {
        return Err(wrong(array.data_type().to_string()));
    }
    let numbers = cast(array, &DataType::Int64).map_err(|e| wrong(e.to_string()))?;
    if numbers.null_count() != array.null_count() {
        return Err(wrong("a number beyond int64".into()));
    }
    Ok(numbers.as_primitive::<Int64Type>().clone())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn shuffling_keeps_the_sizes_of_batches_and_clusters_in_every_task() {
        // Tasks of 100, 7 and 93 rows; batches of 9 rows across them, clusters of 3; some rows are in none.
        let tasks = [(0, 100), (100, 107), (107, 200)].map(|(start, end)| PlaceRange::new(start, end));
        let list = BatchList {
            batch: (0..200).map(|place| if place % 11 == 0 { NO_BATCH } else { place / 9 }).collect(),
            cluster: Some((0..200).map(|place| if place % 7 == 0 { NO_CLUSTER } else { place / 3 }).collect()),
            by_positive: None,
            count: 23,
            names: (0..23).collect(),
        };
        let places_of = |list: &BatchList| {
            let cluster = list.cluster.clone().unwrap();
            let mut counts = BTreeMap::new();
            for (task, range) in tasks.iter().enumerate() {
                for place in *range {
                    *counts.entry((task, list.batch[place.index()], cluster[place.index()])).or_insert(0) += 1;
                }
            }
            counts
        };
        let shuffled = |seed| list.clone().shuffled(tasks.iter().cloned(), seed, 0);
        assert_eq!(places_of(&shuffled(1)), places_of(&list), "batch and cluster move together, within the task");
        assert_eq!(shuffled(1).batch, shuffled(1).batch);
        assert_ne!(shuffled(1).batch, shuffled(2).batch);
        let stayed = shuffled(1).batch.iter().zip(&list.batch).filter(|(a, b)| a == b).count();
        assert!(stayed < 60, "{stayed} of 200 rows stayed in their batch");
    }
}
