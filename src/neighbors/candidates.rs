//! `candidates.col`: which rows share a positive, where ranks are those of distinct positives (`--rank-by positive`);
//! and, with a corpus, which of its documents are candidates.
//!
//! Rows share a positive if they have one value of the positive key, or else bit-identical positives. The first of them
//! stands for all: it alone is a candidate, under its score. Of a list's candidate one row with this positive is the
//! other end of the edge, its *carrier*: so a row has at most p + m edges of its own list, however many rows share a
//! positive.
//!
//! A document is a candidate unless a row of its task has the same positive, or a document before it is the same: by
//! the positive key or by the vector. It takes a rank as a positive does, and there is no edge to it.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 64 | 4 · rows | for each place, the place of the row that stands for its positive, u32 |
//! | | 4 · rows | its number among the rows of this positive, u32 |
//! | | 4 · rows | how many these are, u32 |
//! | | 4 · rows | where they begin in the next section, u32 |
//! | | 4 · rows | places, positive after positive, each in the order of rows, u32 |
//! | | 4 · tasks | distinct positives of each task, u32; 0 where every row takes a rank |
//! | | 4 · candidates | places of the rows that stand for a positive, and then of documents, rising, u32 |
//! | | 4 · candidates | these rows and documents, IVF list after IVF list, the rows of a list first, u32 |
//!
//! Header fields: rows, tasks, candidates, documents among them. Memory: 20 bytes a row while it is made, with a corpus
//! 8 more and 12 a document; then none but the map.

use std::io::Write;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::documents::{distinct_documents, room};
use super::ivf::ListOrder;
use crate::config::RankBy;
use crate::error::{Error, Result};
use crate::run::sealed::{FileFormat, PartWriter, Sealed};
use crate::vectors::{Place, ROWS_MAX, RowId, RowPositives, Tasks, Vectors};

/// Name of the file, in the stage's folder.
pub(crate) const CANDIDATES_FILE: &str = "candidates.col";
/// Format of the file.
pub(crate) const CANDIDATES: FileFormat = FileFormat { magic: *b"BMCANDID", version: 1, name: "candidate" };
/// Sections of a word for each place.
const SECTIONS: usize = 5;

/// For each row of a task the first row of the task that has its positive; `first` is room for a row a code.
fn representatives(task: std::ops::Range<RowId>, codes: &RowPositives<'_>, first: &mut [Vec<RowId>; 2]) -> Vec<RowId> {
    let represent = |row: RowId| {
        // What has no key is known by its vector.
        let Some((kind, code)) = codes.of(row) else { return row };
        let known = &mut first[kind][code as usize];
        if !task.contains(known) {
            *known = row;
        }
        *known
    };
    task.clone().map(represent).collect()
}

/// The distinct positives of each task. O(rows). Memory: 12 bytes a row.
pub(crate) fn count_distinct(tasks: &Tasks, codes: &RowPositives<'_>) -> Vec<u64> {
    let mut first = room(&codes.codes);
    let distinct = |task: std::ops::Range<RowId>| {
        let found = representatives(task.clone(), codes, &mut first);
        task.zip(found).filter(|(row, first)| row == first).count() as u64
    };
    tasks.ranges().map(distinct).collect()
}

/// What the file holds, section by section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PositiveGroups {
    sections: [Vec<u32>; SECTIONS],
    distinct: Vec<u32>,
    /// Places of the documents that are candidates, rising.
    documents: Vec<u32>,
}

/// By place, who stands for the positive of the row there. Memory: 16 bytes a row.
fn represented(tasks: &Tasks, codes: &RowPositives<'_>, places: &[Place], by: &[RankBy]) -> Vec<u32> {
    let mut first = room(&codes.codes);
    let mut represented: Vec<u32> = (0..places.len() as u32).collect();
    for (task, _) in tasks.ranges().zip(by).filter(|(_, by)| **by == RankBy::Positive) {
        for (row, of) in task.clone().zip(representatives(task, codes, &mut first)) {
            represented[places[row as usize].index()] = places[of as usize].number();
        }
    }
    represented
}

impl PositiveGroups {
    /// Groups the rows of the tasks whose ranks are those of positives; any other row is alone. O(rows).
    pub(crate) fn new(vectors: &Vectors, codes: &RowPositives<'_>, places: &[Place], by: &[RankBy]) -> PositiveGroups {
        let groups = PositiveGroups::of_rows(&vectors.tasks, codes, &places[..vectors.row_count() as usize], by);
        if vectors.documents.is_none() {
            return groups;
        }
        let place = |document: RowId| places[document as usize].number();
        let mut documents: Vec<u32> = distinct_documents(vectors, &codes.codes).into_iter().map(place).collect();
        documents.sort_unstable();
        PositiveGroups { documents, ..groups }
    }

    fn of_rows(tasks: &Tasks, codes: &RowPositives<'_>, places: &[Place], by: &[RankBy]) -> PositiveGroups {
        let represented = represented(tasks, codes, places, by);
        let [mut numbers, mut sizes, mut starts, mut members] = [(); SECTIONS - 1].map(|()| vec![0u32; places.len()]);
        let mut distinct = Vec::with_capacity(by.len());
        for (task, by) in tasks.ranges().zip(by) {
            for row in task.clone() {
                let place = places[row as usize].index();
                let of = represented[place] as usize;
                numbers[place] = sizes[of];
                sizes[of] += 1;
            }
            // Positives by the place of the row that stands for them.
            let (mut start, mut count) = (task.start, 0);
            for place in task.start as usize..task.end as usize {
                if represented[place] as usize == place {
                    starts[place] = start;
                    start += sizes[place];
                    count += 1;
                }
            }
            for row in task {
                let place = places[row as usize].index();
                let of = represented[place] as usize;
                (starts[place], sizes[place]) = (starts[of], sizes[of]);
                members[(starts[of] + numbers[place]) as usize] = place as u32;
            }
            distinct.push(if *by == RankBy::Positive { count } else { 0 });
        }
        let sections = [represented, numbers, sizes, starts, members];
        PositiveGroups { sections, distinct, documents: Vec::new() }
    }

    /// The places of the rows that stand for a positive, and of documents, rising.
    fn columns(&self) -> impl Iterator<Item = u32> + Clone + '_ {
        let stands = (0u32..).zip(&self.sections[0]).filter(|(place, of)| place == *of).map(|(place, _)| place);
        stands.chain(self.documents.iter().copied())
    }

    /// The same rows and documents in the order of columns: list after list.
    fn column_rows(&self, lists: ListOrder<'_>) -> Vec<RowId> {
        let (columns, order): (Vec<u32>, _) = (self.columns().collect(), lists.order);
        let behind = columns.len() - self.documents.len();
        lists.in_order(&columns, behind).map(|place| order[place as usize]).collect()
    }

    fn header(&self) -> [u64; 6] {
        let [rows, tasks, columns] = [self.sections[0].len(), self.distinct.len(), self.columns().count()];
        [rows as u64, tasks as u64, columns as u64, self.documents.len() as u64, 0, 0]
    }

    /// Writes the file.
    pub(crate) fn write(&self, out: &mut PartWriter, lists: ListOrder<'_>) -> std::io::Result<()> {
        out.write_all(&CANDIDATES.header(self.header()))?;
        self.sections
            .iter()
            .chain([&self.distinct])
            .try_for_each(|words| out.write_all(bytemuck::cast_slice(words)))?;
        self.columns().chain(self.column_rows(lists)).try_for_each(|word| out.write_all(&word.to_le_bytes()))?;
        out.seal()
    }
}

/// The mapped file.
#[derive(Debug, Clone)]
pub(crate) struct Candidates {
    sealed: Sealed,
    rows: usize,
    tasks: usize,
    documents: usize,
}

impl Candidates {
    /// Maps the file of so many rows, whose tasks have these ranges, and checks every value. O(rows).
    ///
    /// # Errors
    /// It is not what was written.
    pub(crate) fn open(path: &Path, lists: ListOrder<'_>, tasks: &[std::ops::Range<RowId>]) -> Result<Candidates> {
        let candidates = Candidates::check_file(path)?;
        let is_sound = (candidates.rows, candidates.tasks) == (lists.rows as usize, tasks.len());
        candidates.sealed.expect_payload(Some(candidates.sealed.payload().len() as u64).filter(|_| is_sound))?;
        let are_sound = tasks.iter().enumerate().all(|(number, task)| candidates.are_sound(number, task));
        if are_sound && candidates.has_columns(lists) {
            return Ok(candidates);
        }
        Err(Error::runtime("a file of candidates is inconsistent")
            .path(path)
            .expected("each place among those of its positive, in its task")
            .found("something else")
            .remedy("delete the file and run `mine` again"))
    }

    /// Maps a file of any rows and tasks: its frame and its length are checked.
    ///
    /// # Errors
    /// It is not what was written.
    pub(crate) fn check_file(path: &Path) -> Result<Candidates> {
        let sealed = Sealed::open(path, &CANDIDATES)?;
        sealed.check()?;
        let [rows, tasks, columns, documents, ..] = sealed.fields;
        let is_sound = [rows, tasks, columns].iter().all(|count| *count <= ROWS_MAX) && documents <= columns;
        // Three numbers below 2^31: none of these overflows.
        let bytes = || 4 * (rows * SECTIONS as u64 + tasks + 2 * columns);
        sealed.expect_payload(is_sound.then(bytes))?;
        Ok(Candidates { rows: rows as usize, tasks: tasks as usize, documents: documents as usize, sealed })
    }

    /// Whether the members of a task's positives, one after the other, are its places, each once.
    fn are_sound(&self, number: usize, task: &std::ops::Range<RowId>) -> bool {
        let (mut start, mut distinct) = (task.start, 0);
        while start < task.end {
            let of = self.section(4)[start as usize];
            let Some(size) = self.section(2).get(of as usize).copied() else { return false };
            let end = start.checked_add(size).filter(|end| size > 0 && *end <= task.end);
            let is_member = |slot: u32| {
                let place = self.section(4)[slot as usize];
                let at = |section: usize| self.section(section)[place as usize];
                task.contains(&place) && [at(0), at(1), at(2), at(3)] == [of, slot - start, size, start]
            };
            match end {
                Some(end) if (start..end).all(is_member) => (start, distinct) = (end, distinct + 1),
                _ => return false,
            }
        }
        let counted = self.counts()[number];
        counted == distinct || counted == 0 && distinct as usize == task.len()
    }

    /// Whether the columns are the places that stand for positives, and rising ones of documents; and a row each.
    fn has_columns(&self, lists: ListOrder<'_>) -> bool {
        let stands = (0u32..).zip(self.section(0)).filter(|(place, of)| place == *of).map(|(place, _)| place);
        let (rows, documents) = self.columns().split_at(self.columns().len() - self.documents);
        let order = lists.order;
        let are_documents = documents.iter().all(|place| (self.rows..order.len()).contains(&(*place as usize)));
        let rising = documents.is_sorted_by(|a, b| a < b);
        are_documents && rising && stands.eq(rows.iter().copied()) && {
            let wanted = lists.in_order(self.columns(), rows.len()).map(|place| order[place as usize]);
            wanted.eq(self.column_rows().iter().copied())
        }
    }

    /// Whether the file is what these groups are.
    pub(crate) fn are(&self, groups: &PositiveGroups) -> bool {
        // Rows of columns follow from their places, as was checked when the file was opened.
        let sections = (0..SECTIONS).all(|number| self.section(number) == groups.sections[number]);
        sections && self.counts() == groups.distinct && groups.columns().eq(self.columns().iter().copied())
    }

    fn words(&self) -> &[u32] {
        bytemuck::cast_slice(self.sealed.payload())
    }

    #[inline]
    fn section(&self, number: usize) -> &[u32] {
        &self.words()[number * self.rows..][..self.rows]
    }

    fn counts(&self) -> &[u32] {
        &self.words()[SECTIONS * self.rows..][..self.tasks]
    }

    /// The places of the rows that stand for a positive, and then of documents, rising.
    pub(crate) fn columns(&self) -> &[u32] {
        let both = &self.words()[SECTIONS * self.rows + self.tasks..];
        &both[..both.len() / 2]
    }

    /// Those of rows alone, and those of documents.
    pub(crate) fn parts(&self) -> [&[u32]; 2] {
        let (rows, documents) = self.columns().split_at(self.columns().len() - self.documents);
        [rows, documents]
    }

    /// Whether the row or document at a place is a candidate. O(log documents).
    pub(crate) fn has_column(&self, place: Place) -> bool {
        match place.index() < self.rows {
            true => self.representative(place) == place,
            false => self.parts()[1].binary_search(&place.number()).is_ok(),
        }
    }

    /// These rows and documents, in the order of columns.
    pub(crate) fn column_rows(&self) -> &[RowId] {
        let both = &self.words()[SECTIONS * self.rows + self.tasks..];
        &both[both.len() / 2..]
    }

    /// The distinct positives of a task; none where every row takes a rank.
    pub(crate) fn distinct(&self, task: usize) -> Option<u64> {
        Some(u64::from(self.counts()[task])).filter(|count| *count > 0)
    }

    /// The place of the row that stands for the positive of the row at a place.
    #[inline]
    pub(crate) fn representative(&self, place: Place) -> Place {
        Place::new(self.section(0)[place.index()])
    }

    /// Whether a candidate is a document, and no row's positive.
    #[inline]
    fn is_document(&self, candidate: Place) -> bool {
        candidate.index() >= self.rows
    }

    /// The places of the rows that have the positive of the row at a place, in the order of rows.
    pub(crate) fn members(&self, place: Place) -> &[Place] {
        let (start, size) = (self.section(3)[place.index()], self.section(2)[place.index()]);
        bytemuck::cast_slice(&self.section(4)[start as usize..(start + size) as usize])
    }

    /// The place of the one row with a candidate's positive to which the row at a place has its edge.
    ///
    /// The i-th row of a positive leads to the i-th row of any other. So rows that lead to each other have one number:
    /// their edges are mutual, and a cluster of them knows all its suspects. Where the other positive has fewer rows,
    /// numbers go round; where it has more, one of those whose numbers go round to this row's is drawn, so that
    /// the rows of a frequent positive are spread over those of rare ones.
    ///
    /// A document has no other carrier than itself.
    #[inline]
    pub(crate) fn carrier(&self, place: Place, candidate: Place) -> Place {
        if self.is_document(candidate) {
            return candidate;
        }
        let at = |section: usize, place: Place| self.section(section)[place.index()];
        let number = carrier_number([at(1, place), at(2, place)], at(2, candidate), || {
            xxh3_64(&(u64::from(place.number()) << 32 | u64::from(candidate.number())).to_le_bytes())
        });
        Place::new(self.section(4)[(at(3, candidate) + number) as usize])
    }

    /// Values by place, brought into the order of members and sorted within each positive. O(rows log copies).
    pub(crate) fn by_positive(&self, values: &[u32]) -> Vec<u32> {
        let mut sorted: Vec<u32> = self.section(4).iter().map(|place| values[*place as usize]).collect();
        for place in 0..self.rows {
            let [of, size, start] = [0, 2, 3].map(|section| self.section(section)[place] as usize);
            if of == place {
                sorted[start..start + size].sort_unstable();
            }
        }
        sorted
    }

    /// Whether any row with a candidate's positive has a value, given [`Candidates::by_positive`]. O(log copies).
    pub(crate) fn has(&self, by_positive: &[u32], candidate: Place, value: u32) -> bool {
        if self.is_document(candidate) {
            return false;
        }
        let (start, size) = (self.section(3)[candidate.index()], self.section(2)[candidate.index()]);
        by_positive[start as usize..(start + size) as usize].binary_search(&value).is_ok()
    }
}

/// The number of the carrier among so many rows of another positive, for the row of a number among so many. Pure.
fn carrier_number([number, size]: [u32; 2], others: u32, drawn: impl FnOnce() -> u64) -> u32 {
    if others <= size {
        return number % others;
    }
    let rounds = (others - number).div_ceil(size);
    number + size * if rounds == 1 { 0 } else { (drawn() % u64::from(rounds)) as u32 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vectors::testing::{refused, write_sealed};
    use crate::vectors::{PositiveCodes, TASKS, UNIQUE};

    fn tasks_of(starts: &[u64]) -> Tasks {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tasks.col");
        let names: Vec<String> = (1..starts.len()).map(|task| task.to_string()).collect();
        let (fields, payload) = Tasks::encode(&names, starts);
        write_sealed(&path, &TASKS, fields, &payload);
        Tasks::open(&path).unwrap()
    }

    /// The row at each place.
    fn order_of(places: &[Place]) -> Vec<RowId> {
        let row_at = |place: u32| places.iter().position(|other| other.number() == place).map_or(0, |row| row as u32);
        (0..places.len() as u32).map(row_at).collect()
    }

    /// One list for each task, and no documents.
    fn lists<'a>(tasks: &[std::ops::Range<RowId>], order: &'a [RowId], starts: &'a mut Vec<u32>) -> ListOrder<'a> {
        starts.extend(tasks.iter().map(|task| task.start).chain([order.len() as u32]));
        ListOrder { rows: order.len() as RowId, order, starts, document_starts: &[] }
    }

    fn write(path: &Path, groups: &PositiveGroups, lists: ListOrder<'_>) {
        let columns: Vec<u32> = groups.columns().chain(groups.column_rows(lists)).collect();
        let words = [groups.sections.concat(), groups.distinct.clone(), columns].concat();
        write_sealed(path, &CANDIDATES, groups.header(), bytemuck::cast_slice(&words));
    }

    proptest! {
        #[test]
        fn carriers_lead_back_where_both_have_as_many_rows(size in 1u32..9, others in 1u32..40, drawn: u64) {
            let carriers: Vec<u32> = (0..size).map(|number| carrier_number([number, size], others, || drawn)).collect();
            prop_assert!(carriers.iter().all(|carrier| *carrier < others));
            // Whoever is drawn leads back: its number goes round to the row's.
            for (number, carrier) in (0u32..).zip(&carriers) {
                let back = carrier_number([*carrier, others], size, || 0);
                prop_assert!(others < size || back == number, "{number} to {carrier} and back to {back}");
            }
        }

        #[test]
        fn groups_are_those_of_a_map(
            codes in proptest::collection::vec((0u32..4, 0u32..6), 1..40), cut in 0usize..40, by: [bool; 2], seed: u64,
        ) {
            // Codes are the first row that has them; rows alone with theirs have none.
            let rows = codes.len() as RowId;
            let cut = (cut as RowId).clamp(1, rows);
            let coded = |of: &dyn Fn(&(u32, u32)) -> u32| -> Vec<u32> {
                let value = |row: usize| of(&codes[row]);
                let first = |row: usize| (0..codes.len()).find(|other| value(*other) == value(row)).unwrap() as u32;
                let alone = |row: usize| (0..codes.len()).filter(|other| value(*other) == value(row)).count() == 1;
                // Key 3 is none.
                (0..codes.len()).map(|row| if alone(row) || value(row) == 3 { UNIQUE } else { first(row) }).collect()
            };
            let (keys, vectors) = (coded(&|code| code.0), coded(&|code| code.1 + 10));
            let starts = [0, cut, rows].map(u64::from);
            let tasks = tasks_of(if cut == rows { &starts[..2] } else { &starts });
            let by: Vec<RankBy> =
                by.iter().take(tasks.len()).map(|by| if *by { RankBy::Positive } else { RankBy::Row }).collect();
            // Any order of places within tasks.
            let mut places: Vec<Place> = (0..rows).map(Place::new).collect();
            for task in tasks.ranges() {
                places[task.start as usize..task.end as usize]
                    .sort_unstable_by_key(|place| xxh3_64(&(seed ^ u64::from(place.number())).to_le_bytes()));
            }
            let positive_codes = RowPositives::new(PositiveCodes { key: &keys, vectors: &vectors }, rows);
            let groups = PositiveGroups::of_rows(&tasks, &positive_codes, &places, &by);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(CANDIDATES_FILE);
            let ranges: Vec<_> = tasks.ranges().collect();
            let (order, mut starts) = (order_of(&places), Vec::new());
            let lists = lists(&ranges, &order, &mut starts);
            write(&path, &groups, lists);
            let found = Candidates::open(&path, lists, &ranges).unwrap();
            let same = |a: RowId, b: RowId| {
                let task = tasks.of(a);
                let [key, vector] = [&keys, &vectors].map(|codes| [codes[a as usize], codes[b as usize]]);
                let by_key = key[0] != UNIQUE && key[0] == key[1];
                let by_vector = key == [UNIQUE; 2] && vector[0] != UNIQUE && vector[0] == vector[1];
                a == b || task == tasks.of(b) && by[task] == RankBy::Positive && (by_key || by_vector)
            };
            let place = |row: RowId| places[row as usize];
            for row in 0..rows {
                let members: Vec<Place> = (0..rows).filter(|other| same(row, *other)).map(place).collect();
                prop_assert_eq!(found.members(place(row)), &members[..]);
                prop_assert_eq!(found.representative(place(row)), members[0]);
                let is_column = found.columns().binary_search(&place(row).number()).ok();
                let wanted = (members[0] == place(row)).then_some(row);
                prop_assert_eq!(is_column.map(|column| found.column_rows()[column]), wanted);
            }
            let counts = count_distinct(&tasks, &positive_codes);
            for (number, task) in tasks.ranges().enumerate() {
                let first = |row: &RowId| found.representative(place(*row)) == place(*row);
                let distinct = task.filter(first).count() as u64;
                let wanted = (by[number] == RankBy::Positive).then_some(distinct);
                prop_assert_eq!(found.distinct(number), wanted);
                prop_assert!(wanted.is_none_or(|wanted| wanted == counts[number]));
            }
            let values: Vec<u32> = (0..rows).map(|row| row * 7 % 5).collect();
            let sorted = found.by_positive(&values);
            for (row, value) in (0..rows).flat_map(|row| (0..5).map(move |value| (row, value))) {
                let any = found.members(place(row)).iter().any(|member| values[member.index()] == value);
                prop_assert_eq!(found.has(&sorted, place(row), value), any);
            }
        }
    }

    #[test]
    fn a_file_whose_places_are_not_those_of_their_positives_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CANDIDATES_FILE);
        let tasks = tasks_of(&[0, 3, 5]);
        let ranges: Vec<_> = tasks.ranges().collect();
        let places: Vec<Place> = (0..5).map(Place::new).collect();
        let codes = RowPositives::new(PositiveCodes { key: &[], vectors: &[0, 1, 0, 1, UNIQUE] }, 5);
        let sound = PositiveGroups::of_rows(&tasks, &codes, &places, &[RankBy::Positive, RankBy::Row]);
        let (order, mut starts) = (order_of(&places), Vec::new());
        let lists = lists(&ranges, &order, &mut starts);
        let open = |groups: &PositiveGroups| {
            write(&path, groups, lists);
            Candidates::open(&path, lists, &ranges)
        };
        assert_eq!(open(&sound).unwrap().members(Place::new(2)), [0, 2].map(Place::new));
        for (section, at) in (0..SECTIONS).flat_map(|section| (0..5).map(move |at| (section, at))) {
            for wrong in [sound.sections[section][at] ^ 1, 4, 5, u32::MAX] {
                let mut damaged = sound.clone();
                damaged.sections[section][at] = wrong;
                if damaged != sound {
                    refused(&path, open(&damaged));
                }
            }
        }
        let damaged = PositiveGroups { distinct: vec![3, 0], ..sound };
        refused(&path, open(&damaged));
    }

    #[test]
    fn documents_are_columns_behind_the_rows_of_their_list() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CANDIDATES_FILE);
        let tasks = tasks_of(&[0, 3, 5]);
        let ranges: Vec<_> = tasks.ranges().collect();
        // Places of rows and of documents are turned around within their lists.
        let order = [2, 1, 0, 4, 3, 6, 5, 7, 8];
        let lists = ListOrder { rows: 5, order: &order, starts: &[0, 3, 5], document_starts: &[5, 7, 9] };
        let places: Vec<Place> = [2, 1, 0, 4, 3].map(Place::new).to_vec();
        let codes = RowPositives::new(PositiveCodes { key: &[], vectors: &[0, 1, 0, 1, UNIQUE] }, 5);
        let rows = PositiveGroups::of_rows(&tasks, &codes, &places, &[RankBy::Positive, RankBy::Row]);
        let with = |documents: &[u32]| {
            let groups = PositiveGroups { documents: documents.to_vec(), ..rows.clone() };
            write(&path, &groups, lists);
            Candidates::open(&path, lists, &ranges)
        };
        let found = with(&[5, 7, 8]).unwrap();
        assert_eq!(found.columns(), [1, 2, 3, 4, 5, 7, 8]);
        assert_eq!(found.column_rows(), [1, 0, 6, 4, 3, 7, 8]);
        let is_column = |place: u32| found.has_column(Place::new(place));
        assert_eq!([0, 1, 2, 5, 6, 7, 8, 9].map(is_column), [false, true, true, true, false, true, true, false]);
        let document = Place::new(7);
        assert_eq!(found.carrier(Place::new(3), document), document);
        assert!(!found.has(&found.by_positive(&[0; 5]), document, 0));
        for wrong in [&[7, 5][..], &[5, 5], &[4, 5], &[5, 9], &[5, u32::MAX]] {
            refused(&path, with(wrong));
        }
    }
}
