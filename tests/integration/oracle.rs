//! What the search and the graph must be, by brute force.

use std::collections::{BTreeMap, BTreeSet};

use super::command::Line;
use super::dataset::Dataset;

/// How exactly scores have to agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exactness {
    /// Sums are exact: the same ids in the same order.
    Exact,
    /// The order of a sum may change the last bit: near ties may swap.
    NearTies,
}

/// The ranking by plain f64 sums.
pub struct Oracle<'a> {
    data: &'a Dataset,
    queries: Vec<Vec<f64>>,
    positives: Vec<Vec<f64>>,
    query_norms: Vec<f64>,
    positive_norms: Vec<f64>,
    labels: Vec<Vec<BTreeSet<Vec<u8>>>>,
    /// For each row the one whose positive takes the rank.
    stands: Vec<usize>,
    cosine: bool,
}

impl<'a> Oracle<'a> {
    pub fn data(&self) -> &'a Dataset {
        self.data
    }

    pub fn new(data: &'a Dataset, cosine: bool) -> Oracle<'a> {
        let stored = |side: &[Vec<f64>]| -> Vec<Vec<f64>> {
            side.iter().map(|vector| vector.iter().map(|value| f64::from(data.stored(*value))).collect()).collect()
        };
        let norms = |side: &[Vec<f64>]| -> Vec<f64> {
            side.iter().map(|vector| vector.iter().map(|value| value * value).sum::<f64>().sqrt()).collect()
        };
        let labels = (0..data.all()).map(|row| data.labels(row)).collect();
        let (queries, positives) = (stored(&data.queries), stored(data.candidates()));
        let (query_norms, positive_norms) = (norms(&queries), norms(&positives));
        let known = |row: usize| row >= data.rows() && data.is_known_document(row);
        // Nobody stands for itself by the number of another.
        let stands = (0..data.all()).map(|row| if known(row) { 0 } else { row }).collect();
        Oracle { data, queries, positives, query_norms, positive_norms, labels, stands, cosine }
    }

    /// The same with ranks of distinct positives: of each group of rows the first is a candidate.
    pub fn by_positive(self, groups: &[Vec<usize>]) -> Oracle<'a> {
        let mut stands = self.stands.clone();
        groups.iter().flat_map(|group| group.iter().map(|row| (*row, group[0]))).for_each(|(row, of)| stands[row] = of);
        Oracle { stands, ..self }
    }

    /// The score, and how far a sum in another order may be from it.
    pub fn score(&self, query: usize, positive: usize) -> (f64, f64) {
        let sum: f64 = self.queries[query].iter().zip(&self.positives[positive]).map(|(a, b)| a * b).sum();
        let norms = self.query_norms[query] * self.positive_norms[positive];
        let (score, size) = if self.cosine { (sum / norms, 1.0) } else { (sum, norms) };
        // Minus zero is zero, and ties with it.
        (score + 0.0, 1e-6 * score.abs() + 1e-10 * size)
    }

    /// The scores of two rows' queries, and of their positives, each with how far another sum may be from it.
    pub fn sides(&self, a: usize, b: usize) -> [(f64, f64); 2] {
        let sides = [(&self.queries, &self.query_norms), (&self.positives, &self.positive_norms)];
        let mut is_query = b >= self.data.rows();
        sides.map(|(vectors, lengths)| {
            // A document has no query, which is close to none.
            if std::mem::take(&mut is_query) {
                return (f64::NEG_INFINITY, 0.0);
            }
            let sum: f64 = vectors[a].iter().zip(&vectors[b]).map(|(a, b)| a * b).sum();
            let norms = lengths[a] * lengths[b];
            let (score, size) = if self.cosine { (sum / norms, 1.0) } else { (sum, norms) };
            (score, 1e-6 * score.abs() + 1e-10 * size)
        })
    }

    /// Compares the marks of candidates within the window that are too close on the other side; how many there are.
    pub fn check_too_close(&self, lines: &[Line], cut: impl Fn(&Line) -> Cut) -> usize {
        for line in lines {
            for rank in line.window.clone() {
                let (surely, perhaps) = cut(line).too_close(self, line.row, line.neighbors[rank].0);
                let marked = line.too_close.contains(&rank);
                assert!(marked || !surely, "row {}, rank {rank} is not marked", line.row);
                assert!(perhaps || !marked, "row {}, rank {rank} is marked", line.row);
            }
        }
        lines.iter().map(|line| line.too_close.len()).sum()
    }

    /// Whether `row` may be a negative of `query`.
    pub fn is_candidate(&self, query: usize, row: usize) -> bool {
        let shared = Dataset::conflict(&self.labels[query], &self.labels[row]);
        let is_first = self.stands[row] == row;
        is_first && query != row && self.data.task(query) == self.data.task(row) && !shared
    }

    /// Compares neighbour lists of `ranks` ranks and own scores.
    pub fn check(&self, lines: &[Line], ranks: usize, exactness: Exactness) {
        for line in lines {
            self.check_line(line, ranks, exactness);
        }
    }

    fn check_line(&self, line: &Line, ranks: usize, exactness: Exactness) {
        let query = line.row;
        let (own, slack) = self.score(query, query);
        assert!((own - f64::from(line.score)).abs() <= slack, "row {query}: own score {}, expected {own}", line.score);
        let candidates = (0..self.data.all()).filter(|row| self.is_candidate(query, *row));
        let mut expected: Vec<(f64, usize)> = candidates.map(|row| (self.score(query, row).0, row)).collect();
        expected.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        expected.truncate(ranks);
        assert_eq!(line.neighbors.len(), expected.len(), "row {query}: length of its list");
        let in_order = |a: &(usize, f32), b: &(usize, f32)| a.1 > b.1 || (a.1 == b.1 && a.0 < b.0);
        assert!(line.neighbors.is_sorted_by(in_order), "row {query}: {:?}", line.neighbors);
        for (rank, (&(found, score), &(best, row))) in line.neighbors.iter().zip(&expected).enumerate() {
            assert!(self.is_candidate(query, found), "row {query}: {found} can be no negative of it");
            let (true_score, slack) = self.score(query, found);
            let place = format!("row {query}, rank {rank}: found {found} at {score}, expected {row} at {best}");
            assert!((true_score - f64::from(score)).abs() <= slack, "{place}; its score is {true_score}");
            match exactness {
                Exactness::Exact => assert_eq!((found, score), (row, best as f32), "{place}"),
                Exactness::NearTies => {
                    assert!(found == row || (true_score - best).abs() <= 2.0 * slack, "{place}");
                }
            }
        }
        let mut distinct: Vec<usize> = line.neighbors.iter().map(|neighbor| neighbor.0).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), line.neighbors.len(), "row {query}: a neighbour twice");
    }
}

/// What makes a neighbour a suspect, and what makes it nothing at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cut {
    /// Limits for what queries, and positives, score with each other.
    pub sides: [Option<f64>; 2],
    pub skip: usize,
    pub relative_margin: Option<f64>,
    pub max_score: Option<f64>,
    pub min_score: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Suspect,
    Preferred,
    Neither,
}

impl Cut {
    /// By rank alone.
    pub fn skip(skip: usize) -> Cut {
        Cut { skip, ..Cut::default() }
    }

    /// The flags for it, but for `--skip`.
    pub fn flags(&self) -> String {
        let flag = |name: &str, limit: Option<f64>| limit.map_or(String::new(), |limit| format!(" --{name}={limit}"));
        flag("relative-margin", self.relative_margin)
            + &flag("max-score", self.max_score)
            + &flag("min-score", self.min_score)
            + &flag("max-query-score", self.sides[0])
            + &flag("max-positive-score", self.sides[1])
    }

    /// Whether side limits make a suspect of a pair of rows: surely, and perhaps.
    pub fn too_close(&self, oracle: &Oracle, a: usize, b: usize) -> (bool, bool) {
        let limits = oracle.sides(a, b).into_iter().zip(self.sides);
        let above = limits.filter_map(|((score, slack), limit)| Some((score - limit?, slack)));
        above.fold((false, false), |(surely, perhaps), (above, slack)| {
            (surely | (above > slack), perhaps | (above > -slack))
        })
    }

    /// What the neighbour at a rank of a line is.
    pub fn part(&self, line: &Line, rank: usize) -> Part {
        let (own, score) = (f64::from(line.score), f64::from(line.neighbors[rank].1));
        if self.min_score.is_some_and(|least| score < least) {
            return Part::Neither;
        }
        let close = self.relative_margin.is_some_and(|margin| score > own - margin * own.abs());
        let high = self.max_score.is_some_and(|most| score > most);
        let marked = line.too_close.contains(&rank);
        let by_rule = (rank < self.skip || close || high) && !line.cleared.contains(&rank);
        if by_rule || marked { Part::Suspect } else { Part::Preferred }
    }
}

/// Compares arcs and suspects with what the neighbour lists of all rows imply.
pub fn check_graph(lines: &[Line], skip: usize, mutual: bool) {
    check_cut_graph(lines, |_| Cut::skip(skip), mutual);
}

/// The same, where each line's list is cut in its own way.
pub fn check_cut_graph(lines: &[Line], cut: impl Fn(&Line) -> Cut, mutual: bool) {
    let suspects = directions(lines, |line, rank| cut(line).part(line, rank) == Part::Suspect);
    let preferred = |line: &Line, rank: usize| cut(line).part(line, rank) == Part::Preferred;
    let mut arcs = directions(lines, preferred);
    if mutual {
        arcs.iter_mut().for_each(|arcs| arcs.retain(|_, directions| *directions == 2));
    }
    for (line, (arcs, suspects)) in lines.iter().zip(arcs.into_iter().zip(suspects)) {
        assert_eq!(line.arcs, Vec::from_iter(arcs), "arcs of row {}", line.row);
        assert_eq!(line.suspects, Vec::from_iter(suspects), "suspects of row {}", line.row);
    }
    check_windows(lines, cut);
}

/// Compares the window of each line with what its list is cut into.
pub fn check_windows(lines: &[Line], cut: impl Fn(&Line) -> Cut) {
    for line in lines {
        let is_preferred = |rank: &usize| cut(line).part(line, *rank) == Part::Preferred;
        let window = (0..line.neighbors.len()).filter(is_preferred);
        let inside = line.window.clone().filter(|rank| !line.too_close.contains(rank));
        let wanted = line.cleared.iter().copied().chain(inside);
        assert!(window.eq(wanted), "window {:?} of row {}", line.window, line.row);
    }
}

/// For each row its partners, by row, and in how many directions some ranks pair them.
fn directions(lines: &[Line], counts: impl Fn(&Line, usize) -> bool) -> Vec<BTreeMap<usize, u64>> {
    let mut pairs = vec![BTreeMap::new(); lines.len()];
    for line in lines {
        let counted = line.neighbors.iter().enumerate().filter(|(rank, _)| counts(line, *rank));
        // Documents have no edges.
        for (_, (other, _)) in counted.filter(|(_, (other, _))| *other < lines.len()) {
            *pairs[line.row].entry(*other).or_insert(0) += 1;
            *pairs[*other].entry(line.row).or_insert(0) += 1;
        }
    }
    pairs
}
