//! The cut of each row's list into three: suspects, preferred negatives, and candidates too easy to be either.
//!
//! Lists are sorted by score. So the suspects (by rank, or by a score above a limit) are the beginning of a list, and
//! the candidates that are too easy are its end. Two binary searches find where both are cut. Limits for what queries,
//! or positives, score with each other make suspects of any candidate between; those are marked ([`super::marks`]).
//! After the positive-aware filter of de Souza Moreira et al., *NV-Retriever* (2024, arXiv 2407.15831).
//!
//! Memory: none. Rows are known by their places.

use std::ops::Range;

use rayon::prelude::*;

use super::candidates::Candidates;
use super::file::Neighbors;
use super::marks::{Marks, is_marked};
use super::verdicts::{RowVerdicts, Verdicts};
use crate::config::{ByTask, Config, RankWindow, ScoreLimits};
use crate::error::{Error, Result};
use crate::run::RunReader;
use crate::run::record::{EdgesSettings, WindowCounts};
use crate::vectors::{Place, PlaceRange, Tasks, Vectors};

/// The ranks of a list that are preferred negatives; those before are suspects, those behind are neither. Pure.
/// `own` is the score of the query's own positive, `scores` are the list's in rank order. O(log scores).
pub(crate) fn cut(window: &RankWindow, own: f32, scores: &[f32]) -> Range<usize> {
    let limits = &window.limits;
    let above = |limit: Option<f64>| limit.map_or(0, |limit| scores.partition_point(|score| f64::from(*score) > limit));
    let margin = limits.relative_margin.map(|margin| relative_limit(own, margin));
    let easy = |least: f64| scores.partition_point(|score| f64::from(*score) >= least);
    let end = limits.min_score.map_or(scores.len(), easy);
    let suspects = (window.skip as usize).max(above(margin)).max(above(limits.max_score));
    suspects.min(end)..end
}

/// s − M·|s|: the share 1 − M of a positive score s. Of a negative one that share would lie above it, and a larger
/// margin would let more pass; so the margin is always taken off.
fn relative_limit(own: f32, margin: f64) -> f64 {
    f64::from(own) - margin * f64::from(own).abs()
}

/// One row's list, cut.
#[derive(Debug, Clone)]
pub(crate) struct Window<'a> {
    /// All places of the list, in rank order.
    pub places: &'a [Place],
    /// Ranks of the preferred negatives, and of suspects among them that are marked.
    pub ranks: Range<usize>,
    /// By rank, who is too close on the other side; empty where there is no such limit.
    pub marks: &'a [u64],
    /// What was judged of the row's query: it counts before ranks and limits.
    verdicts: RowVerdicts<'a>,
    /// Whose list it is.
    place: Place,
    /// Which rows share a positive, where ranks are those of distinct positives.
    candidates: Option<&'a Candidates>,
    /// Places from here on are documents'.
    rows: Place,
}

impl<'a> Window<'a> {
    /// Whether the candidate of a rank is a suspect: as judged, or else by rank or by a limit.
    #[inline]
    pub(crate) fn is_suspect(&self, rank: usize) -> bool {
        let by_rule = rank < self.ranks.start || rank < self.ranks.end && is_marked(self.marks, rank);
        if self.verdicts.is_empty() { by_rule } else { self.judged(rank).unwrap_or(by_rule) }
    }

    /// Whether the candidate of a rank was judged a right answer; `None`: it was not judged.
    pub(crate) fn judged(&self, rank: usize) -> Option<bool> {
        self.verdicts.on(*self.places.get(rank)?)
    }

    /// The same list, as ranks and limits alone cut it.
    pub(crate) fn without_verdicts(&self) -> Window<'a> {
        Window { verdicts: RowVerdicts::default(), ..self.clone() }
    }

    /// Likely false negatives, in rank order; behind the window only who was judged so.
    pub(crate) fn suspects(&self) -> impl Iterator<Item = Place> + use<'a> {
        let (window, places) = (self.clone(), self.places);
        let end = match (self.verdicts.is_empty(), self.marks.is_empty()) {
            (true, true) => self.ranks.start,
            (true, false) => self.ranks.end,
            (false, _) => places.len(),
        };
        (0..end).filter(move |rank| window.is_suspect(*rank)).map(move |rank| places[rank])
    }

    /// Preferred negatives, in rank order; before the window only who was judged to be none of its suspects.
    pub(crate) fn preferred(&self) -> impl Iterator<Item = Place> + use<'a> {
        let (window, places) = (self.clone(), self.places);
        let start = if self.verdicts.is_empty() { self.ranks.start } else { 0 };
        (start..self.ranks.end).filter(move |rank| !window.is_suspect(*rank)).map(move |rank| places[rank])
    }

    /// The suspects that are rows, and no documents, in rank order.
    pub(crate) fn suspect_rows(&self) -> impl Iterator<Item = Place> + use<'a> {
        let rows = self.rows;
        self.suspects().filter(move |other| *other < rows)
    }

    /// The preferred negatives that are rows, and no documents, in rank order.
    pub(crate) fn preferred_rows(&self) -> impl Iterator<Item = Place> + use<'a> {
        let rows = self.rows;
        self.preferred().filter(move |other| *other < rows)
    }

    /// The rows to which this one has an edge, with their ranks: suspects and preferred negatives, or their carriers
    /// where they stand for a positive that other rows have, too. Documents have no edges.
    #[inline]
    pub(crate) fn partners(&self) -> impl Iterator<Item = (usize, Place)> + use<'a> {
        let Window { places, place, candidates, rows, .. } = *self;
        let carrier = move |other: Place| candidates.map_or(other, |candidates| candidates.carrier(place, other));
        let ranked = places[..self.ranks.end].iter().copied().enumerate();
        ranked.filter(move |(_, other)| *other < rows).map(move |(rank, other)| (rank, carrier(other)))
    }
}

/// Fails where no task has more rows than its window skips. Takes each task's window and number of rows.
///
/// # Errors
/// Every candidate of every row is a suspect by rank.
pub(crate) fn refuse_empty_windows(tasks: impl Iterator<Item = (RankWindow, usize)>) -> Result<()> {
    // The task that comes nearest to a preferred negative.
    let best = tasks.max_by_key(|(window, rows)| *rows as i64 - i64::from(window.skip));
    let Some((window, rows)) = best.filter(|(window, rows)| *rows <= window.skip as usize + 1) else { return Ok(()) };
    Err(Error::input("no row can have a preferred negative")
        .expected(format!(
            "a task of more than --skip + 1 = {} rows, of distinct positives where these take ranks",
            window.skip + 1
        ))
        .found(format!("{rows} in the largest task"))
        .remedy("lower --skip, or mine more rows; where there are several tasks, mine without --task-column"))
}

/// The lists of all rows, each cut by its task's window and its own score.
#[derive(Debug, Clone)]
pub(crate) struct Windows<'a> {
    neighbors: &'a Neighbors,
    /// Scores of the rows' own positives, by row.
    own: &'a [f32],
    tasks: &'a Tasks,
    /// By task; a single one where all tasks have the same.
    windows: Vec<RankWindow>,
    /// Who is too close on the other side, where limits say so and it was found out.
    marks: Option<Marks>,
    /// What was judged, where anything was.
    verdicts: Option<Verdicts>,
}

impl<'a> Windows<'a> {
    /// As a job's settings cut them, without marks.
    pub(crate) fn new(vectors: &'a Vectors, neighbors: &'a Neighbors, config: &Config) -> Windows<'a> {
        Windows::by_task(vectors, neighbors, &config.windows())
    }

    /// As some windows cut them, without marks.
    pub(crate) fn by_task(vectors: &'a Vectors, neighbors: &'a Neighbors, windows: &ByTask<RankWindow>) -> Windows<'a> {
        let mut windows = windows.all(vectors.tasks.names());
        if let Some(candidates) = neighbors.candidates() {
            for (task, window) in windows.iter_mut().enumerate() {
                *window = window.counted(candidates.distinct(task).unwrap_or(0));
            }
        }
        if windows.iter().all(|window| *window == windows[0]) {
            windows.truncate(1);
        }
        Windows { neighbors, own: vectors.rows.scores(), tasks: &vectors.tasks, windows, marks: None, verdicts: None }
    }

    /// As a finished run has cut them, without marks.
    ///
    /// # Errors
    /// The edges stage is not finished, or its record is not one.
    pub(crate) fn open(run: &RunReader, vectors: &'a Vectors, neighbors: &'a Neighbors) -> Result<Windows<'a>> {
        let settings: EdgesSettings = run.settings()?;
        Ok(Windows::by_task(vectors, neighbors, &settings.windows))
    }

    /// Itself, with what was judged.
    pub(crate) fn with_verdicts(self, verdicts: Option<Verdicts>) -> Windows<'a> {
        Windows { verdicts, ..self }
    }

    /// Itself, with the marks of limits for sides.
    pub(crate) fn with_marks(self, marks: Option<Marks>) -> Windows<'a> {
        Windows { marks, ..self }
    }

    /// The window of a task's rows.
    pub(crate) fn of_task(&self, task: usize) -> RankWindow {
        self.windows[task.min(self.windows.len() - 1)]
    }

    /// The longest list's ranks.
    pub(crate) fn most_ranks(&self) -> u64 {
        self.windows.iter().map(|window| u64::from(window.ranks())).max().unwrap_or(0)
    }

    /// The window of the row at a place.
    #[inline]
    fn of_place(&self, place: Place) -> &RankWindow {
        match &self.windows[..] {
            [window] => window,
            windows => &windows[self.tasks.of_place(place)],
        }
    }

    /// Whether any score limit is set.
    pub(crate) fn limited(&self) -> bool {
        self.windows.iter().any(|window| window.limits.any())
    }

    /// Whether any limit is one for queries, or for positives, among themselves.
    pub(crate) fn limited_by_sides(&self) -> bool {
        self.windows.iter().any(|window| window.limits.of_sides())
    }

    /// The limits of the row at a place.
    pub(crate) fn limits(&self, place: Place) -> &ScoreLimits {
        &self.of_place(place).limits
    }

    pub(crate) fn neighbors(&self) -> &'a Neighbors {
        self.neighbors
    }

    pub(crate) fn places(&self) -> PlaceRange {
        PlaceRange {
            start: Place::new(0),
            end: self.neighbors.blocks().last().map_or(Place::new(0), |b| b.range().end),
        }
    }

    /// All places in the ranges of the blocks on disk, for threads to take one at a time.
    pub(crate) fn block_places(&self) -> Vec<PlaceRange> {
        self.neighbors.blocks().iter().map(super::file::Block::range).collect()
    }

    /// The list of the row at a place.
    #[inline]
    pub(crate) fn of(&self, place: Place) -> Window<'_> {
        let neighbors = self.neighbors;
        let (places, scores) = (neighbors.of(place), neighbors.scores(place));
        let window = self.of_place(place);
        // Reading it is a cache miss, so it is read only where the limit needs it.
        let relative = window.limits.relative_margin.is_some();
        let own = if relative { self.own_score(place) } else { 0.0 };
        let marks = self.marks.as_ref().map_or(&[][..], |marks| marks.of(place));
        let (candidates, rows) = (neighbors.candidates(), Place::new(neighbors.row_count()));
        let verdicts = self.verdicts_of(place);
        Window { places, ranks: cut(window, own, scores), marks, verdicts, place, candidates, rows }
    }

    /// What was judged of the query of the row at a place.
    #[inline]
    pub(crate) fn verdicts_of(&self, place: Place) -> RowVerdicts<'_> {
        self.verdicts.as_ref().map_or(RowVerdicts::default(), |verdicts| verdicts.of(place))
    }

    /// All verdicts, where there are any.
    pub(crate) fn verdicts(&self) -> Option<&Verdicts> {
        self.verdicts.as_ref()
    }

    /// The score of the own positive of the row at a place.
    fn own_score(&self, place: Place) -> f32 {
        self.own[self.neighbors.row_at(place) as usize]
    }

    /// Whether a verdict or a limit makes a suspect of a candidate with these scores for the row at a place: that of
    /// the row's query with it, and those of their queries and of their positives. The candidate need not be in the
    /// row's list: the list may be approximate, or end with suspects.
    pub(crate) fn is_too_close(
        &self,
        place: Place,
        candidate: Place,
        score: impl FnOnce() -> f32,
        sides: impl FnOnce() -> [f32; 2],
    ) -> bool {
        if let Some(positive) = self.verdicts_of(place).on(candidate) {
            return positive;
        }
        let window = self.of_place(place);
        let limits = &window.limits;
        let by_score = limits.relative_margin.is_some() || limits.max_score.is_some();
        if !by_score && !limits.of_sides() {
            return false;
        }
        let ranks = cut(&RankWindow { skip: 0, ..*window }, self.own_score(place), &[score()]);
        ranks.start > 0 || ranks.end > 0 && limits.of_sides() && limits.are_sides_too_close(sides())
    }

    /// Whether a limit may make a suspect of a candidate that is not in the row's list, or of a row whose positive
    /// another one stands for. `complete`: the list holds the best of all candidates, so that none outside scores
    /// higher than its last.
    pub(crate) fn may_hold_outside(&self, place: Place, complete: bool) -> bool {
        let window = self.of_place(place);
        let limits = &window.limits;
        if limits.of_sides() || !complete {
            return limits.any();
        }
        let scores = self.neighbors.scores(place);
        let ends_close = |last| self.is_too_close(place, Place::NONE, || last, || [f32::NEG_INFINITY; 2]);
        scores.last().is_some_and(|last| scores.len() == window.ranks() as usize && ends_close(*last))
    }

    /// Counts what the cuts make of all candidates. O(rows · log ranks).
    pub(crate) fn count(&self) -> WindowCounts {
        let of_block = |places: &PlaceRange| {
            places.iter().map(|place| self.count_one(place)).fold(WindowCounts::default(), WindowCounts::plus)
        };
        self.block_places().par_iter().map(of_block).reduce(WindowCounts::default, WindowCounts::plus)
    }

    fn count_one(&self, place: Place) -> WindowCounts {
        let list = self.of(place);
        let skip = self.of_place(place).skip as usize;
        let without = list.preferred().next().is_none();
        // Only rows that by rank alone have a preferred negative count as emptied by a score limit.
        let emptied = without && list.places.len() > skip;
        let by_rank = skip.min(list.ranks.start);
        let [mut parted, mut cleared] = [0; 2];
        if !list.verdicts.is_empty() {
            let rules = list.without_verdicts();
            for rank in 0..list.places.len() {
                let [before, after] = [rules.is_suspect(rank), list.is_suspect(rank)];
                parted += u64::from(after && !before);
                cleared += u64::from(before && !after);
            }
        }
        WindowCounts {
            rows: 1,
            suspects_by_rank: by_rank as u64,
            suspects_by_score: list.suspects().count() as u64 + cleared - parted - by_rank as u64,
            suspects_by_verdict: parted,
            cleared,
            too_easy: (list.places.len() - list.ranks.end) as u64,
            rows_without_window: u64::from(without),
            emptied_by_suspects: u64::from(emptied && list.ranks.end == list.places.len()),
            emptied_by_min_score: u64::from(emptied && list.ranks.end < list.places.len()),
        }
    }
}

impl WindowCounts {
    fn plus(self, other: WindowCounts) -> WindowCounts {
        WindowCounts {
            rows: self.rows + other.rows,
            suspects_by_rank: self.suspects_by_rank + other.suspects_by_rank,
            suspects_by_score: self.suspects_by_score + other.suspects_by_score,
            suspects_by_verdict: self.suspects_by_verdict + other.suspects_by_verdict,
            cleared: self.cleared + other.cleared,
            too_easy: self.too_easy + other.too_easy,
            rows_without_window: self.rows_without_window + other.rows_without_window,
            emptied_by_suspects: self.emptied_by_suspects + other.emptied_by_suspects,
            emptied_by_min_score: self.emptied_by_min_score + other.emptied_by_min_score,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Width;

    /// Score limits on a grid, so that scores of the same grid meet them exactly.
    fn limits() -> impl Strategy<Value = ScoreLimits> {
        let grid = |range: std::ops::RangeInclusive<i32>| proptest::option::of(range.prop_map(|n| f64::from(n) / 8.0));
        (grid(0..=8), grid(-8..=8), grid(-8..=8)).prop_map(|(relative_margin, max_score, min_score)| ScoreLimits {
            relative_margin,
            max_score,
            min_score,
            ..ScoreLimits::default()
        })
    }

    proptest! {
        #[test]
        fn the_cut_is_what_each_candidate_is_by_itself(
            skip in 0u32..6, limits in limits(), own in -8i32..=8,
            scores in proptest::collection::vec(-8i32..=8, 0..12),
        ) {
            let own = own as f32 / 8.0;
            let mut scores: Vec<f32> = scores.into_iter().map(|score| score as f32 / 8.0).collect();
            scores.sort_unstable_by(|a, b| b.total_cmp(a));
            let window = RankWindow { skip, width: Width::Ranks(12), limits };
            let ranks = cut(&window, own, &scores);
            for (rank, score) in scores.iter().enumerate() {
                let (score, own) = (f64::from(*score), f64::from(own));
                let easy = limits.min_score.is_some_and(|least| score < least);
                let close = limits.relative_margin.is_some_and(|margin| score > own - margin * own.abs())
                    || limits.max_score.is_some_and(|most| score > most);
                let suspect = !easy && (rank < skip as usize || close);
                prop_assert_eq!(suspect, rank < ranks.start, "rank {} of {:?}", rank, scores);
                prop_assert_eq!(!easy && !suspect, ranks.contains(&rank), "rank {} of {:?}", rank, scores);
            }
        }

        #[test]
        fn a_larger_margin_never_has_fewer_suspects(
            own in -8i32..=8, scores in proptest::collection::vec(-8i32..=8, 0..12),
        ) {
            let mut scores: Vec<f32> = scores.into_iter().map(|score| score as f32 / 8.0).collect();
            scores.sort_unstable_by(|a, b| b.total_cmp(a));
            let suspects = |margin: i32| {
                let limits = ScoreLimits { relative_margin: Some(f64::from(margin) / 8.0), ..ScoreLimits::default() };
                cut(&RankWindow { skip: 0, width: Width::Ranks(12), limits }, own as f32 / 8.0, &scores).start
            };
            let all: Vec<usize> = (0..=8).map(suspects).collect();
            prop_assert!(all.is_sorted(), "{:?}", all);
        }
    }

    #[test]
    fn a_negative_own_score_has_its_margin_below_it() {
        assert_eq!(relative_limit(0.5, 0.25), 0.375);
        assert_eq!(relative_limit(-0.5, 0.25), -0.625);
        assert_eq!(relative_limit(0.0, 0.25), 0.0);
    }
}
