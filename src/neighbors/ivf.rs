//! IVF lists: each task's positives divided into lists of similar ones, by k-means on a sample.
//!
//! They give all rows an order, the *list order*: list after list, and by row within a list. A row's number in it is
//! its *place*. Exact search goes by it, since a query that begins among its own kind finds high thresholds early;
//! edges and clusters number rows by it, since neighbours then lie close. Approximate search ([`super::tiles`]) looks
//! into the lists whose centres are nearest to the query.
//!
//! `partition.ord`:
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 64 | 4 · (rows + documents) | rows in order, list after list, then documents in such an order, u32 |
//! | | 4 · (rows + documents) | each one's place in that order, u32 |
//! | | 4 · (lists + 1) | where each list's rows start, u32 |
//! | | 4 · (lists + 1), with documents | where each list's documents start, u32 |
//! | | 4 · (tasks + 1) | each task's first list, u32 |
//! | | 4 · dim · lists | centres, unit length, f32 |
//!
//! Header fields: rows, lists, tasks, dimensions, documents. The documents of a corpus are in the lists of their task:
//! their places follow those of all rows. Memory while it is made: 8 bytes a row or document, the centres of one task
//! twice. Algorithm: spherical k-means (Dhillon, Modha, 2001), O(sample · lists · dim) a round,
//! then O(rows · lists · dim).

use std::io::Write;
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use super::cpu::float::FloatBase;
use super::cpu::matrix::{Matrix, UnitRows};
use super::cpu::simd::Simd;
use super::k_means::{TaskMembers, find_centres, nearest};
use crate::config::Metric;
use crate::error::{Error, Result};
use crate::run::StageRun;
use crate::run::sealed::{FileFormat, Sealed};
use crate::vectors::{Place, RowId, VectorStore, Vectors};
use crate::watch::Watch;

/// Name of the file, in the stage's folder.
pub(crate) const IVF_FILE: &str = "partition.ord";
/// Format of the file.
pub(crate) const IVF_FORMAT: FileFormat = FileFormat { magic: *b"BMPARTIT", version: 2, name: "list order" };
/// About how many rows a list has.
const LIST_ROWS: usize = 400;
/// Most values of a task's centres.
const CENTRE_VALUES_MAX: usize = 4 << 20;

fn lists_of(rows: usize, dim: usize) -> usize {
    if rows < 4 * LIST_ROWS { 1 } else { (rows / LIST_ROWS).min(CENTRE_VALUES_MAX / dim).max(1) }
}

/// Values of the largest task's centres, at most.
pub(crate) fn centre_values(rows: usize, dim: usize) -> usize {
    lists_of(rows, dim) * dim
}

/// The lists of all tasks while they are found.
struct ListsBuilder<'a> {
    source: &'a VectorStore,
    simd: Simd,
    order: Vec<RowId>,
    starts: [Vec<u32>; 2],
    centres: Vec<f32>,
}

impl ListsBuilder<'_> {
    /// Divides a task's rows and documents into lists.
    fn add(&mut self, members: &TaskMembers, watch: Watch<'_>) -> Result<()> {
        let dim = self.source.dim();
        let (lists, parts) = (lists_of(members.len(), dim), [members.rows.clone(), members.documents.clone()]);
        if lists == 1 {
            self.starts.iter_mut().zip(&parts).for_each(|(starts, part)| starts.push(part.start));
            self.centres.extend(std::iter::repeat_n(0f32, dim));
            return Ok(());
        }
        let found = find_centres(self.simd, self.source, members, lists);
        let all: Vec<RowId> = (0..lists as RowId).collect();
        let base = FloatBase::pack(&found, &all, Metric::Cosine);
        for (part, starts) in parts.into_iter().zip(&mut self.starts) {
            let order = &mut self.order[part.start as usize..part.end as usize];
            let mut list_of: Vec<u32> = Vec::with_capacity(order.len());
            for chunk in order.chunks(1 << 16) {
                let found = nearest(self.simd, self.source, chunk, &base, lists, 1);
                list_of.extend(found.iter().map(|found| found[0].row));
                watch.add(chunk.len() as u64)?;
            }
            order.par_sort_unstable_by_key(|row| (list_of[(row - part.start) as usize], *row));
            let mut counts = vec![0u32; lists];
            list_of.iter().for_each(|list| counts[*list as usize] += 1);
            let mut start = part.start;
            for count in counts {
                starts.push(start);
                start += count;
            }
        }
        self.centres.extend(found.values);
        Ok(())
    }
}

/// Divides every task's rows and documents into lists and commits these as a part. `watch` is told the rows done.
///
/// # Errors
/// The write fails, or the watch stops the job.
pub(crate) fn build(stage: &StageRun<'_>, name: &str, vectors: &Vectors, simd: Simd, watch: Watch<'_>) -> Result<()> {
    let (source, rows, all) = (&vectors.positives, vectors.row_count(), vectors.candidate_count());
    let (order, starts) = ((0..all).collect(), [Vec::new(), Vec::new()]);
    let mut builder = ListsBuilder { source, simd, order, starts, centres: Vec::new() };
    let mut task_lists = vec![0u32];
    for (task, rows) in vectors.tasks.ranges().enumerate() {
        builder.add(&TaskMembers { rows, documents: vectors.documents_of(task) }, watch)?;
        task_lists.push(builder.starts[0].len() as u32);
    }
    let ListsBuilder { order, starts: [mut starts, mut document_starts], centres, .. } = builder;
    starts.push(rows);
    document_starts.push(all);
    if all == rows {
        document_starts.clear();
    }
    let mut places = vec![0u32; order.len()];
    order.iter().enumerate().for_each(|(place, row)| places[*row as usize] = place as u32);
    let [lists, tasks] = [starts.len(), task_lists.len()].map(|ends| ends as u64 - 1);
    let fields = [u64::from(rows), lists, tasks, source.dim() as u64, u64::from(all - rows), 0];
    stage.commit(name, |file| {
        file.write_all(&IVF_FORMAT.header(fields))?;
        for words in [&order, &places, &starts, &document_starts, &task_lists] {
            file.write_all(bytemuck::cast_slice(words))?;
        }
        file.write_all(bytemuck::cast_slice(&centres))?;
        file.seal()
    })
}

/// Bytes of a payload whose header says so; `None`: more than can be.
fn payload_bytes([rows, lists, tasks, dim, documents, _]: [u64; 6]) -> Option<u64> {
    let all = rows.checked_add(documents)?.checked_mul(2)?;
    let starts = lists.checked_add(1)?;
    let document_starts = if documents > 0 { starts } else { 0 };
    let words = [all, starts, document_starts, tasks.checked_add(1)?, lists.checked_mul(dim)?];
    words.into_iter().try_fold(0u64, u64::checked_add)?.checked_mul(4)
}

/// The mapped file of IVF lists.
#[derive(Debug, Clone)]
pub(crate) struct IvfIndex {
    sealed: Sealed,
    rows: usize,
    lists: usize,
    tasks: usize,
    dim: usize,
    documents: usize,
}

/// The order of rows and documents, and where the lists are in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListOrder<'a> {
    /// How many of the places are rows': the first ones.
    pub rows: RowId,
    pub order: &'a [RowId],
    /// Where each list's rows start, with the end of the last.
    pub starts: &'a [u32],
    /// The same of its documents; nothing without documents.
    pub document_starts: &'a [u32],
}

impl<'a> ListOrder<'a> {
    /// Rising places, of which those from a number on are documents', list after list: the rows of a list first.
    pub(crate) fn in_order(self, places: &'a [u32], behind: usize) -> impl Iterator<Item = u32> + 'a {
        let (rows, documents) = places.split_at(behind);
        let part = |places: &'a [u32], starts: &'a [u32], list: usize| {
            let at = |list: usize| starts.get(list).map_or(0, |start| places.partition_point(|place| place < start));
            &places[at(list)..at(list + 1)]
        };
        (0..self.starts.len() - 1).flat_map(move |list| {
            let of_list = [part(rows, self.starts, list), part(documents, self.document_starts, list)];
            of_list.into_iter().flatten().copied()
        })
    }
}

/// What the vectors of a file of IVF lists are.
#[derive(Debug, Clone)]
pub(crate) struct IvfShape {
    pub rows: RowId,
    pub dim: usize,
    /// Each task's rows.
    pub tasks: Vec<Range<RowId>>,
    /// Each task's documents; none without a corpus.
    pub documents: Vec<Range<RowId>>,
}

impl IvfIndex {
    /// Maps the file.
    ///
    /// # Errors
    /// It is not complete, or of other vectors.
    pub(crate) fn open(path: &Path, vectors: &Vectors) -> Result<IvfIndex> {
        let of_task = |task: usize| vectors.documents_of(task);
        let documents = vectors.documents.as_ref().map_or(0, |_| vectors.tasks.len());
        let shape = IvfShape {
            rows: vectors.row_count(),
            dim: vectors.shape().dim,
            tasks: vectors.tasks.ranges().collect(),
            documents: (0..documents).map(of_task).collect(),
        };
        IvfIndex::open_of(path, &shape)
    }

    /// The same of vectors that are not there.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn open_of(path: &Path, shape: &IvfShape) -> Result<IvfIndex> {
        let behind = shape.documents.last().map_or(0, |last| last.end - shape.rows);
        let expected = [shape.rows.into(), shape.tasks.len() as u64, shape.dim as u64, behind.into()];
        let sealed = Sealed::open(path, &IVF_FORMAT)?;
        sealed.check()?;
        let [rows, lists, tasks, dim, documents, _] = sealed.fields;
        let is_sound = [rows, tasks, dim, documents] == expected && lists <= rows + documents;
        sealed.expect_payload(payload_bytes(sealed.fields).filter(|_| is_sound))?;
        let [rows, lists, tasks, dim, documents] = [rows, lists, tasks, dim, documents].map(|field| field as usize);
        let ivf = IvfIndex { sealed, rows, lists, tasks, dim, documents };
        let end = rows + documents;
        let sound = ivf.has_lists_of(ivf.starts(), &shape.tasks, rows)
            && (documents == 0 || ivf.has_lists_of(ivf.document_starts(), &shape.documents, end))
            && ivf.orders(&shape.tasks)
            && ivf.orders(&shape.documents);
        if !sound {
            return Err(Error::runtime("a file of IVF lists is inconsistent")
                .path(path)
                .expected("rising starts, each task's lists over its rows, and each row at one place of its task")
                .found("something else")
                .remedy("delete the file and run `mine` again"));
        }
        Ok(ivf)
    }

    /// Whether the lists of each task, at least one, cover its places, given where they start and where the last ends.
    fn has_lists_of(&self, starts: &[u32], tasks: &[Range<RowId>], end: usize) -> bool {
        let firsts = self.task_lists();
        let rising = starts.is_sorted() && firsts.is_sorted_by(|a, b| a < b);
        let whole = firsts.last() == Some(&(self.lists as u32)) && starts.last() == Some(&(end as u32));
        // All firsts are at most the last one, which is a place of `starts`.
        rising && whole && firsts.iter().zip(tasks).all(|(first, task)| starts[*first as usize] == task.start)
    }

    /// Whether each row stands at one place, which is its task's.
    fn orders(&self, tasks: &[Range<RowId>]) -> bool {
        let (order, places) = (self.order(), self.places());
        let leads_back = |task: &Range<RowId>, place: RowId| {
            let row = order[place as usize];
            task.contains(&row) && places[row as usize] == Place::new(place)
        };
        tasks.iter().all(|task| task.clone().all(|place| leads_back(task, place)))
    }

    fn words(&self) -> &[u32] {
        bytemuck::cast_slice(self.sealed.payload())
    }

    /// Rows, and then documents, in order; a task's places are its range of either.
    pub(crate) fn order(&self) -> &[RowId] {
        &self.words()[..self.rows + self.documents]
    }

    /// Place of each of them in that order.
    pub(crate) fn places(&self) -> &[Place] {
        let all = self.rows + self.documents;
        bytemuck::cast_slice(&self.words()[all..2 * all])
    }

    /// The order with its lists.
    pub(crate) fn list_order(&self) -> ListOrder<'_> {
        ListOrder {
            rows: self.row_count(),
            order: self.order(),
            starts: self.starts(),
            document_starts: self.document_starts(),
        }
    }

    /// How many rows there are.
    pub(crate) fn row_count(&self) -> RowId {
        self.rows as RowId
    }

    /// Where each list's rows start in the order, with the end of the last.
    pub(crate) fn starts(&self) -> &[u32] {
        &self.words()[2 * (self.rows + self.documents)..][..self.lists + 1]
    }

    /// Where each list's documents start in the order, with the end of the last; nothing without documents.
    pub(crate) fn document_starts(&self) -> &[u32] {
        &self.words()[2 * (self.rows + self.documents) + self.lists + 1..][..self.document_words()]
    }

    fn document_words(&self) -> usize {
        if self.documents > 0 { self.lists + 1 } else { 0 }
    }

    /// Where the sections begin that follow the starts.
    fn behind_starts(&self) -> usize {
        2 * (self.rows + self.documents) + self.lists + 1 + self.document_words()
    }

    fn task_lists(&self) -> &[u32] {
        &self.words()[self.behind_starts()..][..self.tasks + 1]
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
        let base = FloatBase::pack(&self.centres(lists.clone()), &all, Metric::Cosine);
        let found = nearest(simd, &vectors.queries, queries, &base, lists.len(), count.min(lists.len()));
        found.into_iter().map(|found| found.iter().map(|list| lists.start as u32 + list.row).collect()).collect()
    }

    fn centres(&self, lists: Range<usize>) -> Matrix {
        let start = self.behind_starts() + self.tasks + 1;
        let words = &self.words()[start + lists.start * self.dim..start + lists.end * self.dim];
        Matrix { values: words.iter().map(|word| f32::from_bits(*word)).collect(), dim: self.dim }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Metric;
    use crate::neighbors::given_vectors::GivenVectors;
    use crate::vectors::UNIQUE;
    use crate::vectors::testing::write_sealed;

    const ROWS: usize = 12;
    const DIM: usize = 3;
    const FIELDS: [u64; 6] = [ROWS as u64, 2, 1, DIM as u64, 0, 0];

    /// The file's sections: order, places, starts of two lists, the task's lists, centres.
    type Sections = (Vec<u32>, Vec<u32>, Vec<u32>, Vec<u32>, Vec<f32>);

    fn sound() -> Sections {
        let all: Vec<u32> = (0..ROWS as u32).collect();
        (all.clone(), all, vec![0, 5, ROWS as u32], vec![0, 2], vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    }

    fn vectors() -> Vectors {
        let values: Vec<f32> = (0..ROWS * DIM).map(|at| ((at * 7 % 11) as f32) - 4.5).collect();
        let keys = vec![vec![UNIQUE; ROWS]];
        GivenVectors { dim: DIM, queries: values.clone(), positives: values, keys, metric: Metric::Cosine }.write()
    }

    fn open(vectors: &Vectors, fields: [u64; 6], sections: &Sections) -> Result<IvfIndex> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(IVF_FILE);
        let (order, places, starts, task_lists, centres) = sections;
        let words = [order, places, starts, task_lists].into_iter().flatten().copied();
        let payload: Vec<u32> = words.chain(centres.iter().map(|value| value.to_bits())).collect();
        write_sealed(&path, &IVF_FORMAT, fields, bytemuck::cast_slice(&payload));
        IvfIndex::open(&path, vectors)
    }

    #[test]
    fn a_header_of_other_counts_is_refused() {
        let vectors = vectors();
        assert!(open(&vectors, FIELDS, &sound()).is_ok());
        for field in 0..4 {
            for value in [0, 1, 4, ROWS as u64 + 1, 1 << 31, 1 << 32, 1 << 62, u64::MAX] {
                let mut fields = FIELDS;
                fields[field] = value;
                if fields != FIELDS {
                    assert!(open(&vectors, fields, &sound()).is_err(), "field {field} is {value}");
                }
            }
        }
    }

    #[test]
    fn lists_that_do_not_cover_their_task_are_refused() {
        let vectors = vectors();
        let all_starts = [[1, 5, 12], [0, 13, 12], [5, 0, 12], [0, 5, 11], [0, 5, u32::MAX]];
        for starts in all_starts {
            let mut sections = sound();
            sections.2 = starts.to_vec();
            assert!(open(&vectors, FIELDS, &sections).is_err(), "starts {starts:?}");
        }
        for task_lists in [[0, 0], [0, 1], [1, 2], [2, 2], [0, 3], [0, u32::MAX], [u32::MAX, 2]] {
            let mut sections = sound();
            sections.3 = task_lists.to_vec();
            assert!(open(&vectors, FIELDS, &sections).is_err(), "lists {task_lists:?}");
        }
        for (at, value) in [(3, 4), (3, ROWS as u32), (0, u32::MAX)] {
            let (mut orders, mut places) = (sound(), sound());
            orders.0[at] = value;
            places.1[at] = value;
            assert!(open(&vectors, FIELDS, &orders).is_err(), "row {value} at place {at}");
            assert!(open(&vectors, FIELDS, &places).is_err(), "place {value} of row {at}");
        }
    }

    #[test]
    fn centres_that_are_no_numbers_are_never_the_nearest() {
        let vectors = vectors();
        let queries: Vec<RowId> = (0..ROWS as RowId).collect();
        for value in [f32::NAN, f32::INFINITY, 0.0] {
            let mut sections = sound();
            sections.4[..DIM].fill(value);
            let ivf = open(&vectors, FIELDS, &sections).unwrap();
            for simd in Simd::all() {
                let lists = ivf.probe(simd, &vectors, 0, &queries, 2);
                assert!(lists.iter().all(|lists| lists[..] == [1]), "{value} {simd:?}: {lists:?}");
            }
        }
    }
}
