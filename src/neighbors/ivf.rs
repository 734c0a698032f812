//! A coarse partition of each task's rows: k-means lists of positives, by our own kernels, on a sample.
//!
//! It gives all rows a *place*: list after list. Exact search goes by it, since a query that begins among its own
//! kind finds high floors early; edges and clusters number rows by it, since neighbours then lie close. Approximate
//! search ([`super::tiles`]) looks into the lists whose centres are nearest to the query.
//!
//! `partition.ord`:
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 64 | 4 · rows | rows in order, list after list, u32 |
//! | | 4 · rows | each row's place in that order, u32 |
//! | | 4 · (lists + 1) | where each list starts, u32 |
//! | | 4 · (tasks + 1) | each task's first list, u32 |
//! | | 4 · dim · lists | centres, unit length, f32 |
//!
//! Header fields: rows, lists, tasks, dimensions. Memory while it is made: 8 bytes a row, the centres of
//! one task twice. Algorithm: spherical k-means (Dhillon, Modha, 2001), O(sample · lists · dim) a round,
//! then O(rows · lists · dim).

use std::io::Write;
use std::ops::Range;
use std::path::Path;

use rand::RngExt;
use rayon::prelude::*;

use super::cpu::float::{Float, FloatBase, FloatQueries};
use super::cpu::{Matrix, Nearest, Simd, UnitRows, scan, to_unit};
use super::topk::{Candidate, TopK};
use crate::error::{Error, Result};
use crate::random::{Purpose, stream};
use crate::run::StageRun;
use crate::run::sealed::{FileFormat, Sealed};
use crate::vectors::{RowId, Vectors};

/// Where the partition lies, in the stage's folder.
pub(crate) const IVF_FILE: &str = "partition.ord";
/// Format of the partition.
pub(crate) const IVF_FORMAT: FileFormat = FileFormat { magic: *b"BMPARTIT", version: 1, name: "partition" };
/// Rows of a list, about.
const LIST_ROWS: usize = 400;
/// A task's centres hold at most so many values.
const CENTRE_VALUES_MAX: usize = 4 << 20;
/// Sampled rows for each list.
const SAMPLE_ROWS: usize = 32;
const ROUNDS: usize = 4;
/// Queries that one thread packs at a time.
const CHUNK_ROWS: usize = 96;

/// The `count` nearest centres of each row, the nearest first. O(rows · lists · dim).
fn nearest(
    simd: Simd,
    source: &impl UnitRows,
    rows: &[RowId],
    centres: &FloatBase,
    lists: usize,
    count: usize,
) -> Vec<Vec<Candidate>> {
    rows.par_chunks(CHUNK_ROWS)
        .flat_map_iter(|rows| {
            let queries = FloatQueries::pack(source, rows, true);
            let mut best: Vec<TopK> = rows.iter().map(|_| TopK::new(count)).collect();
            scan(Float(simd), &queries, rows.len(), centres, 0..lists, 0, &mut Nearest(&mut best));
            best.into_iter().map(|best| best.finish(|_| {}))
        })
        .collect()
}

fn lists_of(rows: usize, dim: usize) -> usize {
    if rows < 4 * LIST_ROWS { 1 } else { (rows / LIST_ROWS).min(CENTRE_VALUES_MAX / dim).max(1) }
}

/// Values of the largest task's centres, at most.
pub(crate) fn centre_values(rows: usize, dim: usize) -> usize {
    lists_of(rows, dim) * dim
}

/// Some rows, spread evenly but for chance: one out of each stretch of equal length, so that no period in the
/// input's order can favour some kind of rows.
pub(crate) fn spread(rows: Range<RowId>, count: usize) -> Vec<RowId> {
    let length = rows.len() as u64;
    let mut random = stream(Purpose::SpreadRows { length, count: count as u64 });
    let stretch = |index: u64| rows.start as u64 + index * length / count as u64;
    (0..count as u64).map(|index| random.random_range(stretch(index)..stretch(index + 1)) as RowId).collect()
}

/// Finds a task's centres. Deterministic: sums run in row order, centre by centre.
fn find_centres(simd: Simd, source: &impl UnitRows, rows: Range<RowId>, lists: usize) -> Matrix {
    let dim = source.dim();
    let sample = spread(rows.clone(), rows.len().min(SAMPLE_ROWS * lists));
    let mut centres = Matrix { values: vec![0.0; lists * dim], dim };
    for (row, centre) in spread(rows, lists).iter().zip(centres.values.chunks_exact_mut(dim)) {
        source.load_unit(*row, centre);
    }
    let all: Vec<RowId> = (0..lists as RowId).collect();
    for _ in 0..ROUNDS {
        let base = FloatBase::pack(&centres, &all, true);
        let mut members: Vec<(RowId, RowId)> = nearest(simd, source, &sample, &base, lists, 1)
            .iter()
            .zip(&sample)
            .map(|(found, row)| (found[0].row, *row))
            .collect();
        members.sort_unstable();
        let groups: Vec<&[(RowId, RowId)]> = members.chunk_by(|a, b| a.0 == b.0).collect();
        let means: Vec<(RowId, Vec<f32>)> = groups
            .par_iter()
            .map(|group| {
                let (mut mean, mut values) = (vec![0f32; dim], vec![0f32; dim]);
                for (_, row) in *group {
                    source.load_unit(*row, &mut values);
                    mean.iter_mut().zip(&values).for_each(|(sum, value)| *sum += value);
                }
                (group[0].0, mean)
            })
            .collect();
        for (list, mut mean) in means {
            // Members that cancel out leave the centre where it was.
            if to_unit(&mut mean).is_normal() {
                centres.values[list as usize * dim..][..dim].copy_from_slice(&mean);
            }
        }
    }
    centres
}

/// Finds the lists of every task and commits them as a part. `watch` is told the rows done.
///
/// # Errors
/// The write fails, or the watch stops the job.
pub(crate) fn build(
    stage: &StageRun<'_>,
    name: &str,
    vectors: &Vectors,
    simd: Simd,
    watch: &dyn Fn(u64) -> Result<()>,
) -> Result<()> {
    let source = &vectors.positives;
    let dim = source.dim();
    let mut order: Vec<RowId> = (0..vectors.row_count()).collect();
    let (mut starts, mut task_lists, mut centres) = (Vec::new(), vec![0u32], Vec::new());
    for task in vectors.tasks.ranges() {
        let lists = lists_of(task.len(), dim);
        if lists == 1 {
            starts.push(task.start);
            centres.extend(std::iter::repeat_n(0f32, dim));
        } else {
            let found = find_centres(simd, source, task.clone(), lists);
            let all: Vec<RowId> = (0..lists as RowId).collect();
            let base = FloatBase::pack(&found, &all, true);
            let mut list_of: Vec<u32> = Vec::with_capacity(task.len());
            for chunk in order[task.start as usize..task.end as usize].chunks(1 << 16) {
                list_of.extend(nearest(simd, source, chunk, &base, lists, 1).iter().map(|found| found[0].row));
                watch(chunk.len() as u64)?;
            }
            order[task.start as usize..task.end as usize]
                .par_sort_unstable_by_key(|row| (list_of[(row - task.start) as usize], *row));
            let mut counts = vec![0u32; lists];
            list_of.iter().for_each(|list| counts[*list as usize] += 1);
            let mut start = task.start;
            for count in counts {
                starts.push(start);
                start += count;
            }
            centres.extend(found.values);
        }
        task_lists.push(starts.len() as u32);
    }
    starts.push(vectors.row_count());
    let mut places = vec![0u32; order.len()];
    order.iter().enumerate().for_each(|(place, row)| places[*row as usize] = place as u32);
    let fields = [order.len() as u64, starts.len() as u64 - 1, task_lists.len() as u64 - 1, dim as u64, 0, 0];
    stage.commit(name, |file| {
        file.write_all(&IVF_FORMAT.header(fields))?;
        for words in [&order, &places, &starts, &task_lists] {
            file.write_all(bytemuck::cast_slice(words))?;
        }
        file.write_all(bytemuck::cast_slice(&centres))?;
        file.seal()
    })
}

/// The mapped partition.
#[derive(Debug, Clone)]
pub(crate) struct IvfIndex {
    sealed: Sealed,
    rows: usize,
    lists: usize,
    tasks: usize,
    dim: usize,
}

impl IvfIndex {
    /// Maps the file.
    ///
    /// # Errors
    /// It is not complete, or of other vectors.
    pub(crate) fn open(path: &Path, vectors: &Vectors) -> Result<IvfIndex> {
        let sealed = Sealed::open(path, &IVF_FORMAT)?;
        let [rows, lists, tasks, dim, ..] = sealed.fields;
        let expected = [u64::from(vectors.row_count()), vectors.tasks.len() as u64, vectors.shape().dim as u64];
        let sound = [rows, tasks, dim] == expected && lists <= rows;
        sealed.expect_payload(sound.then(|| 4 * (2 * rows + lists + 1 + tasks + 1 + lists * dim)))?;
        let [rows, lists, tasks, dim] = [rows, lists, tasks, dim].map(|field| field as usize);
        let ivf = IvfIndex { sealed, rows, lists, tasks, dim };
        let in_range = |words: &[u32], most: usize| words.iter().all(|word| *word as usize <= most);
        let rising = ivf.starts().is_sorted() && ivf.task_lists().is_sorted();
        let known = in_range(ivf.starts(), rows) && in_range(ivf.task_lists(), lists);
        let whole = ivf.starts().last() == Some(&(rows as u32));
        if !rising || !known || !whole || !ivf.orders(vectors.tasks.ranges()) {
            return Err(Error::runtime("a partition file is inconsistent")
                .path(path)
                .expected("rising starts, and each row at one place of its task")
                .found("something else")
                .remedy("delete the file and run `mine` again"));
        }
        Ok(ivf)
    }

    /// Whether each row stands at one place, which is its task's.
    fn orders(&self, tasks: impl Iterator<Item = Range<RowId>>) -> bool {
        let (order, places) = (self.order(), self.places());
        let leads_back = |task: &Range<RowId>, place: RowId| {
            let row = order[place as usize];
            task.contains(&row) && places[row as usize] == place
        };
        tasks.into_iter().all(|task| task.clone().all(|place| leads_back(&task, place)))
    }

    fn words(&self) -> &[u32] {
        bytemuck::cast_slice(self.sealed.payload())
    }

    /// Rows in order; a task's places are its range of rows.
    pub(crate) fn order(&self) -> &[RowId] {
        &self.words()[..self.rows]
    }

    /// Place of each row in that order.
    pub(crate) fn places(&self) -> &[u32] {
        &self.words()[self.rows..2 * self.rows]
    }

    /// Where each list starts in the order, with the end of the last.
    pub(crate) fn starts(&self) -> &[u32] {
        &self.words()[2 * self.rows..][..self.lists + 1]
    }

    fn task_lists(&self) -> &[u32] {
        &self.words()[2 * self.rows + self.lists + 1..][..self.tasks + 1]
    }

    /// A task's lists.
    pub(crate) fn lists(&self, task: usize) -> Range<usize> {
        self.task_lists()[task] as usize..self.task_lists()[task + 1] as usize
    }

    /// The `count` lists of a task whose centres are nearest to each query, the nearest first.
    /// O(queries · lists · dim).
    pub(crate) fn probe(
        &self,
        simd: Simd,
        vectors: &Vectors,
        task: usize,
        queries: &[RowId],
        count: usize,
    ) -> Vec<Vec<u32>> {
        let lists = self.lists(task);
        if lists.len() == 1 {
            return vec![vec![lists.start as u32]; queries.len()];
        }
        let all: Vec<RowId> = (0..lists.len() as RowId).collect();
        let base = FloatBase::pack(&self.centres(lists.clone()), &all, true);
        let found = nearest(simd, &vectors.queries, queries, &base, lists.len(), count.min(lists.len()));
        found.into_iter().map(|found| found.iter().map(|list| lists.start as u32 + list.row).collect()).collect()
    }

    fn centres(&self, lists: Range<usize>) -> Matrix {
        let start = 2 * self.rows + self.lists + 1 + self.tasks + 1;
        let words = &self.words()[start + lists.start * self.dim..start + lists.end * self.dim];
        Matrix { values: words.iter().map(|word| f32::from_bits(*word)).collect(), dim: self.dim }
    }
}
