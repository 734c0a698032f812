//! What a report must say of a list of batches, by brute force over all pairs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::command::Line;
use super::dataset::Dataset;
use super::oracle::{Cut, Oracle, Part};

/// What the measures depend on.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub cut: Cut,
    /// p + m.
    pub ranks: usize,
    pub top: usize,
    pub temperature: f64,
}

/// Measures of some queries, with the names of report.json.
#[derive(Debug, Default, Clone)]
pub struct Worth {
    pub counts: BTreeMap<&'static str, u64>,
    pub in_cluster: BTreeMap<&'static str, u64>,
    batches: BTreeSet<usize>,
    pub similarities: Vec<f64>,
    pub gaps: Vec<f64>,
    pub hits: Vec<u64>,
    pub alone: u64,
}

/// A list of batches of input rows, each with the clusters of its rows where it has any.
pub struct List<'a> {
    pub batches: Vec<Vec<usize>>,
    pub clusters: Option<&'a [Line]>,
}

impl Worth {
    fn count(&mut self, name: &'static str, number: u64) {
        *self.counts.entry(name).or_default() += number;
    }

    fn count_in_cluster(&mut self, name: &'static str, number: bool) {
        *self.in_cluster.entry(name).or_default() += u64::from(number);
    }

    /// Compares with what a report says where every query was in the sample.
    #[track_caller]
    pub fn check(&self, found: &Value, with_clusters: bool) {
        for (name, count) in &self.counts {
            assert_eq!(found[name].as_u64(), Some(*count), "{name} in {found}");
        }
        let batches = self.batches.len() as u64;
        let count = |name: &str| self.counts.get(name).copied().unwrap_or(0);
        assert_eq!(found["batches"].as_u64(), Some(batches));
        let shares = [
            ("window_share", "window_pairs", count("pairs")),
            ("window_per_query", "window_pairs", count("queries")),
            ("queries_without_share", "queries_without", count("queries")),
            ("suspect_share", "suspect_pairs", count("pairs")),
            ("suspects_per_query", "suspect_pairs", count("queries")),
            ("suspects_per_batch", "suspect_pairs", batches),
            ("duplicates_per_batch", "key_pairs", 2 * batches),
        ];
        for (share, part, whole) in shares {
            let wanted = (whole > 0).then(|| count(part) as f64 / whole as f64);
            assert_eq!(found[share].as_f64(), wanted, "{share} in {found}");
        }
        if with_clusters {
            for name in ["pairs", "window_pairs", "suspect_pairs"] {
                let wanted = self.in_cluster.get(name).copied().unwrap_or(0);
                assert_eq!(found["in_cluster"][name].as_u64(), Some(wanted), "{name} in clusters");
            }
        } else {
            assert!(found["in_cluster"].is_null());
        }
        assert_eq!(found["sampled_alone"].as_u64(), Some(self.alone));
        self.check_sampled(&found["top_similarity"], &self.similarities, 1e-6);
        // Scores are rounded to f32, and the gap divides them by the temperature.
        self.check_sampled(&found["gap"], &self.gaps, 1e-4);
    }

    #[track_caller]
    fn check_sampled(&self, found: &Value, wanted: &[f64], slack: f64) {
        if wanted.is_empty() {
            assert!(found.is_null(), "{found}");
            return;
        }
        let mut sorted = wanted.to_vec();
        sorted.sort_by(f64::total_cmp);
        let mean = wanted.iter().sum::<f64>() / wanted.len() as f64;
        let at = |share: f64| sorted[((share * sorted.len() as f64).ceil() as usize).max(1) - 1];
        let figures = [
            ("mean", mean),
            ("p05", at(0.05)),
            ("p25", at(0.25)),
            ("p50", at(0.5)),
            ("p75", at(0.75)),
            ("p95", at(0.95)),
        ];
        for (name, wanted) in figures {
            let found = found[name].as_f64().unwrap_or_else(|| panic!("no {name} in {found}"));
            assert!((found - wanted).abs() <= slack, "{name}: found {found}, expected {wanted}");
        }
        assert_eq!(found["standard_error"], 0.0, "all queries were looked at");
        assert_eq!(found["queries"].as_u64(), Some(wanted.len() as u64));
    }
}

/// All measures, over all queries and by task.
pub fn measure(
    data: &Dataset,
    lines: &[Line],
    list: &List<'_>,
    terms: Terms,
) -> (Worth, BTreeMap<Option<String>, Worth>) {
    let oracle = Oracle::new(data, true);
    let (mut overall, mut tasks) = (Worth::default(), BTreeMap::<Option<String>, Worth>::new());
    for (number, batch) in list.batches.iter().enumerate() {
        for query in batch {
            let task = tasks.entry(data.task(*query).map(str::to_owned)).or_default();
            for worth in [&mut overall, task] {
                worth.batches.insert(number);
                one(worth, &oracle, lines, list, (batch, *query), terms);
            }
        }
    }
    (overall, tasks)
}

fn one(
    worth: &mut Worth,
    oracle: &Oracle<'_>,
    lines: &[Line],
    list: &List<'_>,
    (batch, query): (&[usize], usize),
    terms: Terms,
) {
    let data = oracle.data();
    let ranked: Vec<usize> = lines[query].neighbors.iter().map(|neighbor| neighbor.0).collect();
    let labels = data.labels(query);
    let mut hits = 0;
    let mut scores = Vec::new();
    for other in batch.iter().copied().filter(|other| *other != query) {
        let rank = ranked.iter().position(|row| *row == other);
        let part = rank.map(|rank| terms.cut.part(&lines[query], rank));
        let (suspect, preferred) = (part == Some(Part::Suspect), part == Some(Part::Preferred));
        let shared = Dataset::conflict(&labels, &data.labels(other));
        hits += u64::from(preferred);
        worth.count("pairs", 1);
        worth.count("window_pairs", u64::from(preferred));
        worth.count("suspect_pairs", u64::from(suspect));
        worth.count("key_pairs", u64::from(shared));
        if let Some(lines) = list.clusters
            && lines[query].cluster.is_some()
            && lines[query].cluster == lines[other].cluster
        {
            worth.count_in_cluster("pairs", true);
            worth.count_in_cluster("window_pairs", preferred);
            worth.count_in_cluster("suspect_pairs", suspect);
        }
        if !shared {
            scores.push(oracle.score(query, other).0);
        }
    }
    let hopeless = (0..ranked.len()).all(|rank| terms.cut.part(&lines[query], rank) != Part::Preferred);
    worth.count("queries", 1);
    worth.count("queries_without", u64::from(hits == 0));
    worth.count("queries_without_window", u64::from(hopeless));
    worth.hits.push(hits);
    // The best of the whole task, scored anew.
    let falling = |scores: &mut Vec<f64>| scores.sort_by(|a, b| b.total_cmp(a));
    let candidates = (0..data.rows()).filter(|row| oracle.is_candidate(query, *row));
    let mut all: Vec<f64> = candidates.map(|row| oracle.score(query, row).0).collect();
    falling(&mut all);
    all.truncate(terms.top.min(terms.ranks));
    falling(&mut scores);
    scores.truncate(all.len());
    if scores.is_empty() {
        worth.alone += 1;
        return;
    }
    worth.similarities.push(scores.iter().sum::<f64>() / scores.len() as f64);
    let sum = |scores: &[f64]| scores.iter().map(|score| (score / terms.temperature).exp()).sum::<f64>();
    let rows = (0..data.rows()).filter(|row| data.task(*row) == data.task(query)).count();
    worth.gaps.push((rows as f64 / all.len() as f64 * sum(&all) / sum(&scores)).ln());
}
