//! Verdicts: which pairs of rows are parted for good, and which are no suspects any more. Made before the graph.
//!
//! What was judged is a query and a positive. So a verdict holds for all rows that have that positive, by its bits or
//! by the positive key. A right answer is a suspect of the query, whatever its rank or score (`verdicts.col`), and its
//! rows share a key with the query's row (`verdict_keys.lst`): they never meet. What is no right answer is no suspect.
//! Where a pair was judged both ways, it is parted.
//!
//! O(rows + verdicts · rows of a positive). Memory: the pairs while they are read, and 32 bytes for each row that a
//! verdict holds for.

use std::collections::{HashMap, HashSet};

use indicatif::HumanCount;

use super::budget::{EdgesCounts, VERDICT_ENTRY_BYTES};
use super::judged::{Judged, JudgedFiles, JudgedPair};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::neighbors::Neighbors;
use crate::neighbors::verdicts::{self, PairVerdict, Verdicts};
use crate::run::record::{EdgesSettings, VerdictFacts};
use crate::run::{Run, RunReader, Stage, StageRun};
use crate::vectors::{KeyListFile, PositiveCodes, RowId, Vectors, write_row_codes};

pub(super) const NAME: &str = "verdicts.col";
pub(super) const KEYS_NAME: &str = "verdict_keys.lst";

/// Reads the judged pairs and writes what follows from them, where the job names any.
///
/// # Errors
/// The files cannot be read or are of other rows, they need more memory than there is, or the disk fails.
pub(super) fn make(
    run: &Run,
    stage: &StageRun<'_>,
    (vectors, neighbors): (&Vectors, &Neighbors),
    files: Option<&JudgedFiles>,
    config: &Config,
    counts: &EdgesCounts,
) -> Result<Option<VerdictFacts>> {
    let Some(files) = files else { return Ok(None) };
    let judged = files.read(vectors)?;
    refuse_strangers(files, &judged)?;
    let codes = vectors.positive_codes(config.columns.positive_key.as_deref())?;
    let groups = Groups::new(codes, &judged.pairs, vectors.candidate_count());
    let (pairs, mut facts) = distinct(&judged, &groups);
    let entries: usize = pairs.iter().map(|pair| groups.of(pair.candidate).len() + 1).sum();
    if entries > counts.verdict_entries {
        let more = (entries - counts.verdict_entries) as u64 * VERDICT_ENTRY_BYTES;
        return Err(Error::new(Kind::OverBudget, "the memory budget is too small for these verdicts")
            .expected(format!("room for {entries} rows that they hold for"))
            .found(format!("room for {}", counts.verdict_entries))
            .remedy(format!(
                "raise --memory by {}MiB: verdicts hold for all rows of a positive",
                more.div_ceil(1 << 20)
            )));
    }
    let held = held(&pairs, &groups, neighbors);
    facts.rows_parted = held.iter().filter(|verdict| verdict.positive).count() as u64;
    if !run.has(Stage::Edges, NAME) {
        let (rows, candidates) = (vectors.row_count(), vectors.candidate_count());
        stage.commit(NAME, |out| verdicts::write(out, rows, candidates, &held))?;
    }
    drop(held);
    if !run.has(Stage::Edges, KEYS_NAME) {
        let keys = keys(&pairs, &groups, vectors.row_count());
        stage.commit(KEYS_NAME, |out| write_row_codes(out, u64::from(vectors.candidate_count()), &keys))?;
    }
    tell(&facts, &judged);
    Ok(Some(facts))
}

/// Reads the judged pairs before the search, so that what is wrong with them is known then.
///
/// # Errors
/// Those of reading them.
pub(crate) fn foresee(vectors: &Vectors, files: Option<&JudgedFiles>) -> Result<()> {
    files.map_or(Ok(()), |files| refuse_strangers(files, &files.read(vectors)?))
}

/// Rows and documents that have the positive of a judged candidate: by a code in common, or by one of those that have
/// such a code, and so on.
struct Groups {
    /// By row, where a group has several.
    group_of: HashMap<RowId, usize>,
    groups: Vec<Vec<RowId>>,
}

impl Groups {
    /// O(rows + pairs), and again for each code that leads to others.
    fn new(codes: PositiveCodes<'_>, pairs: &[JudgedPair], candidates: RowId) -> Groups {
        let mut wanted: HashSet<(usize, u32)> = pairs.iter().flat_map(|pair| codes.all(pair.candidate)).collect();
        let mut known = 0;
        while wanted.len() > known {
            known = wanted.len();
            for row in 0..candidates {
                if codes.all(row).any(|code| wanted.contains(&code)) {
                    wanted.extend(codes.all(row));
                }
            }
        }
        let mut found = Groups { group_of: HashMap::new(), groups: Vec::new() };
        if !wanted.is_empty() {
            found.unite(codes, (0..candidates).filter(|row| codes.all(*row).any(|code| wanted.contains(&code))));
        }
        found
    }

    /// Rows that have a code in common are of one group.
    fn unite(&mut self, codes: PositiveCodes<'_>, rows: impl Iterator<Item = RowId>) {
        let mut of_code: HashMap<(usize, u32), usize> = HashMap::new();
        for row in rows {
            let known: Vec<usize> = codes.all(row).filter_map(|code| of_code.get(&code).copied()).collect();
            let group = known.first().copied().unwrap_or_else(|| {
                self.groups.push(Vec::new());
                self.groups.len() - 1
            });
            self.groups[group].push(row);
            // A row with two codes may unite two groups: the later one is emptied.
            for other in known.into_iter().filter(|other| *other != group) {
                let moved = std::mem::take(&mut self.groups[other]);
                self.groups[group].extend(moved);
                of_code.values_mut().filter(|known| **known == other).for_each(|known| *known = group);
            }
            codes.all(row).for_each(|code| _ = of_code.insert(code, group));
        }
        for (number, group) in self.groups.iter_mut().enumerate() {
            group.sort_unstable();
            group.iter().for_each(|row| _ = self.group_of.insert(*row, number));
        }
    }

    /// All that have a candidate's positive, itself among them, ascending.
    fn of(&self, candidate: RowId) -> Vec<RowId> {
        self.group_of.get(&candidate).map_or_else(|| vec![candidate], |group| self.groups[*group].clone())
    }
}

/// Each query with each positive once; what both ways were judged is positive. Pairs of a query with its own positive
/// say nothing of negatives.
fn distinct(judged: &Judged, groups: &Groups) -> (Vec<JudgedPair>, VerdictFacts) {
    let mut facts = VerdictFacts { open: judged.open, unknown: judged.unknown, ..VerdictFacts::default() };
    let (mut pairs, mut own) = (Vec::with_capacity(judged.pairs.len()), Vec::new());
    for pair in &judged.pairs {
        let group = groups.of(pair.candidate);
        match group.binary_search(&pair.query) {
            Ok(_) => own.push((pair.query, !pair.positive)),
            Err(_) => pairs.push(JudgedPair { candidate: group[0], ..*pair }),
        }
    }
    // Of each row once; who was judged both ways is right.
    own.sort_unstable();
    own.dedup_by_key(|(row, _)| *row);
    facts.own_wrong = own.iter().filter(|(_, wrong)| *wrong).count() as u64;
    facts.own = own.len() as u64 - facts.own_wrong;
    pairs.sort_unstable_by_key(|pair| (pair.query, pair.candidate, !pair.positive));
    let same = |a: &JudgedPair, b: &JudgedPair| (a.query, a.candidate) == (b.query, b.candidate);
    for both in pairs.chunk_by(same) {
        facts.both_ways += u64::from(both[0].positive && !both[both.len() - 1].positive);
    }
    pairs.dedup_by(|later, first| same(later, first));
    facts.positive = pairs.iter().filter(|pair| pair.positive).count() as u64;
    facts.negative = pairs.len() as u64 - facts.positive;
    (pairs, facts)
}

/// The verdicts by place, on whoever stands for a positive in lists; sorted, each pair once.
fn held(pairs: &[JudgedPair], groups: &Groups, neighbors: &Neighbors) -> Vec<PairVerdict> {
    let of_pair = |pair: &JudgedPair| {
        let (query, positive) = (neighbors.place_of(pair.query), pair.positive);
        let candidate = |row: RowId| neighbors.stands_for(neighbors.place_of(row));
        groups.of(pair.candidate).into_iter().map(move |row| PairVerdict { query, candidate: candidate(row), positive })
    };
    let mut held: Vec<PairVerdict> = pairs.iter().flat_map(of_pair).collect();
    held.sort_unstable_by_key(|verdict| (verdict.query, verdict.candidate, !verdict.positive));
    held.dedup_by_key(|verdict| (verdict.query, verdict.candidate));
    held
}

/// A code for each pair that is parted: of the query's row, and of each row that has the positive. Entries are
/// row · 2³² + code, ascending. Documents are in no batch: they have none.
fn keys(pairs: &[JudgedPair], groups: &Groups, rows: RowId) -> Vec<u64> {
    let (mut entries, mut code) = (Vec::new(), 0u64);
    for pair in pairs.iter().filter(|pair| pair.positive) {
        let members: Vec<RowId> = groups.of(pair.candidate).into_iter().filter(|row| *row < rows).collect();
        if !members.is_empty() {
            entries.extend(members.into_iter().chain([pair.query]).map(|row| u64::from(row) << 32 | code));
            code += 1;
        }
    }
    entries.sort_unstable();
    entries
}

fn refuse_strangers(files: &JudgedFiles, judged: &Judged) -> Result<()> {
    match &judged.example {
        Some(example) if judged.pairs.is_empty() => Err(Error::input("no judged pair is of rows of this input")
            .path(files.first())
            .expected("ids of rows that are mined, in id and other_id")
            .found(format!("{} pairs of others, of which one is id {example}", judged.unknown))
            .remedy("judge the pairs that `batchmine candidates` writes of this run")),
        _ => Ok(()),
    }
}

fn tell(facts: &VerdictFacts, judged: &Judged) {
    let VerdictFacts { positive, negative, unknown, both_ways, own, own_wrong, open, .. } = facts;
    tracing::info!(
        "verdicts: {} right answers, whose rows never meet, {} pairs that are no suspects; {} not judged",
        HumanCount(*positive),
        HumanCount(*negative),
        HumanCount(*open)
    );
    if let Some(example) = judged.example.as_ref().filter(|_| *unknown > 0) {
        tracing::warn!("{unknown} judged pairs are of rows that are not mined, such as id {example}: they say nothing");
    }
    if *both_ways > 0 {
        tracing::warn!("{both_ways} pairs are judged both ways: they count as right answers");
    }
    if *own_wrong > 0 {
        tracing::warn!("the own positives of {own_wrong} rows are judged wrong: verdicts do not leave rows out");
    }
    if *own > 0 {
        tracing::info!("the own positives of {own} rows are judged right: that says nothing of negatives");
    }
}

/// The verdicts of a job, where it has any.
///
/// # Errors
/// The file is not what was written.
pub(super) fn open_of(run: &Run, vectors: &Vectors, config: &Config) -> Result<Option<Verdicts>> {
    if config.verdicts.files.is_empty() {
        return Ok(None);
    }
    let known = Some([vectors.row_count(), vectors.candidate_count()]);
    Verdicts::open(&run.part(Stage::Edges, NAME)?, known).map(Some)
}

/// The verdicts of a finished run, where it has any.
///
/// # Errors
/// The stage is not finished, or its files were cleaned or are damaged.
pub(super) fn open(run: &RunReader, vectors: &Vectors) -> Result<Option<Verdicts>> {
    if run.settings::<EdgesSettings>()?.verdicts.is_none() {
        return Ok(None);
    }
    let known = Some([vectors.row_count(), vectors.candidate_count()]);
    Verdicts::open(&run.part(Stage::Edges, NAME)?, known).map(Some)
}

/// The verdicts of a stage under way, where it has any.
///
/// # Errors
/// Its files are damaged.
pub(super) fn open_so_far(run: &RunReader, vectors: &Vectors, settings: &EdgesSettings) -> Result<Option<Verdicts>> {
    if settings.verdicts.is_none() {
        return Ok(None);
    }
    let known = Some([vectors.row_count(), vectors.candidate_count()]);
    Verdicts::open(&run.part_so_far(Stage::Edges, NAME)?, known).map(Some)
}

/// A job's rows, with the keys of pairs that verdicts part.
///
/// # Errors
/// The file is not what was written.
pub(crate) fn parted(run: &Run, vectors: Vectors, config: &Config) -> Result<Vectors> {
    if config.verdicts.files.is_empty() {
        return Ok(vectors);
    }
    let keys = KeyListFile::open(&run.part(Stage::Edges, KEYS_NAME)?, u64::from(vectors.candidate_count()))?;
    Ok(vectors.with_verdict_keys(keys))
}

/// The same of a finished run.
///
/// # Errors
/// The stage is not finished, or its files were cleaned or are damaged.
pub(crate) fn open_parted(run: &RunReader, vectors: Vectors) -> Result<Vectors> {
    if run.settings::<EdgesSettings>()?.verdicts.is_none() {
        return Ok(vectors);
    }
    let keys = KeyListFile::open(&run.part(Stage::Edges, KEYS_NAME)?, u64::from(vectors.candidate_count()))?;
    Ok(vectors.with_verdict_keys(keys))
}
