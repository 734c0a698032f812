//! What the figures mean: the findings, and a sentence for each measure. The terminal and the page show the same.
//! Pure.

use std::collections::BTreeSet;

use super::figures::{Compared, Measures, Report};
use super::judged::JudgedFigures;
use super::numbers::{amount, count, estimate, or_none, percent};
use crate::config::{SameQuery, name_of};
use crate::run::record::{BatchesFacts, MixFacts};

/// How a finding is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Fair,
    /// Against what batches are mined for.
    Bad,
}

impl Tone {
    /// Good at `good` and above, bad below `fair`.
    fn rising(value: f64, fair: f64, good: f64) -> Tone {
        if value >= good {
            Tone::Good
        } else if value >= fair {
            Tone::Fair
        } else {
            Tone::Bad
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    /// How to take it.
    pub tone: Tone,
    /// What it is about.
    pub about: &'static str,
    /// The finding itself: a figure.
    pub figure: String,
    /// What it says, in a sentence.
    pub text: String,
}

/// All findings, the most telling first.
pub(crate) fn findings(report: &Report) -> Vec<Finding> {
    let Compared { mined, random, .. } = &report.overall;
    let found = [
        hardness(mined, random),
        false_negatives(mined, random),
        left_out(mined, random),
        judged(report),
        duplicates(report),
        packing(report),
        similarity(report),
        gap(report),
    ];
    found.into_iter().flatten().collect()
}

fn hardness(mined: &Measures, random: &Measures) -> Option<Finding> {
    let (own, other) = (mined.window_per_query?, random.window_per_query?);
    let figure = if other > 0.0 { format!("{} × random", amount(own / other)) } else { amount(own) };
    Some(Finding {
        tone: Tone::rising(own, other, 1.5 * other),
        about: "Hard negatives",
        figure,
        text: format!(
            "A query finds {} preferred negatives in its batch, and {} in a random batch of the same size.",
            amount(own),
            amount(other)
        ),
    })
}

fn false_negatives(mined: &Measures, random: &Measures) -> Option<Finding> {
    let (own, other) = (mined.suspects_per_query?, random.suspects_per_query?);
    let purity = |measures: &Measures| measures.window_pairs as f64 / measures.suspect_pairs as f64;
    let text = match (mined.suspect_pairs, random.suspect_pairs) {
        (0, _) => format!("No query meets a suspect in its batch; in random batches it meets {}.", amount(other)),
        (_, 0) => format!("A query meets {} suspects in its batch, and none in a random batch.", amount(own)),
        _ => format!(
            "A query meets {} suspects in its batch, {} in a random batch. For each suspect it meets {} preferred \
             negatives; in random batches {}.",
            amount(own),
            amount(other),
            amount(purity(mined)),
            amount(purity(random))
        ),
    };
    let more = own > MORE_SUSPECTS * other;
    let tone = match (mined.suspect_pairs, random.suspect_pairs) {
        (0, _) => Tone::Good,
        (_, 0) => Tone::Fair,
        _ => suspects_tone(more, purity(mined), purity(random)),
    };
    let text = match tone {
        Tone::Good => text,
        _ if more && random.suspect_pairs > 0 => format!(
            "{text} That is {} times as many as random: if many are right answers that nobody marked, they cost \
             more than hard negatives gain. `inspect --rows` shows some; a larger --skip, a larger --suspect-weight or \
             a smaller --cluster-size has fewer.",
            amount(own / other)
        ),
        _ => text,
    };
    Some(Finding { tone, about: "Likely false negatives", figure: format!("{} a query", amount(own)), text })
}

/// What judged pairs say: the rules are good where most of who they shut out would be wrong, and few slip through.
fn judged(report: &Report) -> Option<Finding> {
    let JudgedFigures { pairs, suspects, precision, preferred, missed, left } = report.verdicts.as_ref()?;
    let share = |share: &Option<f64>| or_none(share.map(percent));
    let figure = match left.covered {
        0 => format!("{} judged", count(pairs.right + pairs.wrong)),
        _ => format!("{} wrong", count(left.wrong.round() as u64)),
    };
    let estimate = match left.covered {
        0 => "Nothing was judged that scores like them, so nothing is said of the rest.".to_owned(),
        covered => format!(
            "Of {} pairs in batches that nobody judged, and that are in a list, {} are wrong negatives by estimate \
             ({} to {}, 95 of 100 times){}.",
            count(left.pairs),
            count(left.wrong.round() as u64),
            count(left.low.floor() as u64),
            count(left.high.ceil() as u64),
            if covered < left.pairs {
                format!(", counted among {} that score like judged ones", count(covered))
            } else {
                String::new()
            }
        ),
    };
    let text = format!(
        "{} pairs were judged, {} of them right answers. Of {} judged suspects {} are right answers (the precision of \
         ranks and limits), of {} judged preferred negatives {} (what they miss). {estimate}",
        count(pairs.right + pairs.wrong),
        count(pairs.right),
        count(suspects.right + suspects.wrong),
        share(precision),
        count(preferred.right + preferred.wrong),
        share(missed),
    );
    let share = left.wrong / left.covered.max(1) as f64;
    let tone = if left.covered == 0 { Tone::Fair } else { Tone::rising(1.0 - share, 0.95, 0.99) };
    Some(Finding { tone, about: "Verdicts", figure, text })
}

fn left_out(mined: &Measures, random: &Measures) -> Option<Finding> {
    let (own, other) = (mined.queries_without_share?, random.queries_without_share?);
    let hopeless = match mined.queries_without_window {
        0 => String::new(),
        n => format!(" {} have none anywhere: their task has too few rows, or limits left them none.", count(n)),
    };
    Some(Finding {
        tone: if own < 0.01 || own <= 0.5 * other {
            Tone::Good
        } else if own <= other + 0.02 {
            Tone::Fair
        } else {
            Tone::Bad
        },
        about: "Queries left without",
        figure: percent(own),
        text: format!(
            "{} of the queries find no preferred negative in their batch; in random batches {}.{hopeless}",
            percent(own),
            percent(other)
        ),
    })
}

fn duplicates(report: &Report) -> Option<Finding> {
    let Compared { mined, random, .. } = &report.overall;
    let (own, other) = (mined.duplicates_per_batch?, random.duplicates_per_batch?);
    let asked_for = report.parameters.batches.rows_per_key > 1;
    let (tone, why) = match (mined.key_pairs, report.parameters.same_query) {
        (0, _) => (Tone::Good, ""),
        _ if asked_for => (Tone::Fair, " With --rows-per-key, several rows of a key may share a batch."),
        (_, SameQuery::Exclude) => (Tone::Bad, ""),
        (_, SameQuery::Allow) => (Tone::Fair, " With --same-query allow, rows of one query may share a batch."),
    };
    Some(Finding {
        tone,
        about: "Duplicates",
        figure: if mined.key_pairs == 0 { "none".into() } else { format!("{} a batch", amount(own)) },
        text: format!(
            "{} in one batch; random batches hold {} such pairs each.{why}",
            if mined.key_pairs == 0 {
                "No two rows that share a key or a vector are".to_owned()
            } else {
                format!("{} pairs that share a key or a vector are", amount(own))
            },
            amount(other)
        ),
    })
}

/// Said only where keys had clusters divided, or took full batches.
fn packing(report: &Report) -> Option<Finding> {
    let BatchesFacts { full_batches, possible_batches, divided_clusters, .. } = report.batches;
    // What tasks' weights make of them is no work of keys.
    let full_batches = report.batches.mix.map_or(full_batches, |mix| mix.first_round_batches);
    let clusters = u64::from(report.clusters.clusters) * u64::from(report.parameters.batches.epochs);
    if full_batches >= possible_batches && divided_clusters == 0 {
        return None;
    }
    let share = divided_clusters as f64 / clusters.max(1) as f64;
    Some(Finding {
        tone: Tone::rising(full_batches as f64, 0.5 * possible_batches as f64, 0.95 * possible_batches as f64),
        about: "Full batches",
        figure: format!("{} of {}", count(full_batches), count(possible_batches)),
        text: format!(
            "Keys allow {} full batches. For them {} clusters of {} ({}) are divided between batches.",
            count(possible_batches),
            count(divided_clusters),
            count(clusters),
            percent(share)
        ),
    })
}

fn similarity(report: &Report) -> Option<Finding> {
    let Compared { mined, random, .. } = &report.overall;
    let (own, other) = (mined.top_similarity?, random.top_similarity?);
    Some(Finding {
        tone: Tone::rising(own.mean - other.mean, 0.0, 3.0 * (own.standard_error + other.standard_error)),
        about: "Closeness",
        figure: estimate(&own),
        text: format!(
            "That is the mean similarity of a query with the {} closest rows of its batch; in random batches it is {}.",
            report.parameters.top,
            estimate(&other)
        ),
    })
}

fn gap(report: &Report) -> Option<Finding> {
    let Compared { mined, random, .. } = &report.overall;
    let (own, other) = (mined.gap?, random.gap?);
    Some(Finding {
        tone: Tone::rising(other.mean - own.mean, 0.0, 3.0 * (own.standard_error + other.standard_error)),
        about: "Theorem 1's gap",
        figure: estimate(&own),
        text: format!(
            "So much of the loss over the whole task can the batches miss, at most; random batches {}. Lower is \
             better.",
            estimate(&other)
        ),
    })
}

/// How to take suspects, by the preferred negatives for each: here, and in random batches. More of what may be wrong is
/// never as it should be, however many preferred negatives come with it.
fn suspects_tone(more: bool, purity: f64, random: f64) -> Tone {
    Tone::rising(purity, random, if more { f64::INFINITY } else { 1.2 * random })
}

/// Times as many suspects as in random batches that are as many.
const MORE_SUSPECTS: f64 = 1.05;

/// A measure: its name, its sentence, and its figure for each list.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MeasureRow {
    pub name: String,
    /// What it is, in a sentence.
    pub why: String,
    /// Mined, random, and the given list, where there is one.
    pub figures: Vec<String>,
}

/// All measures of a report.
pub(crate) fn rows(report: &Report) -> Vec<MeasureRow> {
    let (compared, top) = (&report.overall, report.parameters.top);
    let row = |name: &str, why: &str, figure: &dyn Fn(&Measures) -> Option<String>| MeasureRow {
        name: name.into(),
        why: why.into(),
        figures: lists(compared).into_iter().map(|measures| or_none(figure(measures))).collect(),
    };
    vec![
        row(
            "Preferred negatives a query",
            "Rows of the query's batch that stand in its rank window: close, but not so close that they are \
             probably right answers. More of them make a batch harder.",
            &|m| m.window_per_query.map(amount),
        ),
        row("Pairs in the rank window", "The same as a share of all pairs of two rows in one batch.", &|m| {
            m.window_share.map(percent)
        }),
        row(
            "… in one cluster",
            "The same of the pairs that are in one cluster. A batch is made of clusters, and most of its hard \
             pairs are inside them.",
            &|m| m.in_cluster.as_ref()?.window_share.map(percent),
        ),
        row(
            "Queries without any",
            "Queries whose batch holds none of their preferred negatives: to them the batch is as good as random.",
            &|m| m.queries_without_share.map(percent),
        ),
        row(
            "Suspects a query",
            "Rows of the query's batch that rank so high for it that they may be right answers that nobody marked. \
             As negatives they teach the wrong thing: fewer is better.",
            &|m| m.suspects_per_query.map(amount),
        ),
        row("Suspects a batch", "The same, summed up over a batch.", &|m| m.suspects_per_batch.map(amount)),
        row("Suspect pairs", "The same as a share of all pairs of two rows in one batch.", &|m| {
            m.suspect_share.map(percent)
        }),
        row("… in one cluster", "The same of the pairs that are in one cluster.", &|m| {
            m.in_cluster.as_ref()?.suspect_share.map(percent)
        }),
        row(
            "Duplicates a batch",
            "Pairs of two rows in one batch that share a key, or that have the very same positive, the very same \
             query, or one's query as the other's positive: each is a wrong negative of the other.",
            &|m| m.duplicates_per_batch.map(amount),
        ),
        row(
            &format!("Similarity of the {top} closest"),
            &format!(
                "Mean similarity of a query with the {top} rows of its batch that score highest for it, duplicates \
                 left out. From a sample of queries, with its standard error."
            ),
            &|m| m.top_similarity.as_ref().map(estimate),
        ),
        row(
            "Theorem 1's gap",
            &format!(
                "log(N/K · H / H_B) with K = {top}: H sums exp(score / {}) over the query's K best candidates of \
                 all, H_B over those of its batch, N is the rows of its task. Its mean bounds how far the loss \
                 over batches is below the loss over everything. Lower is better.",
                report.parameters.temperature
            ),
            &|m| m.gap.as_ref().map(estimate),
        ),
        row("Queries", "Rows of the input that are in a batch.", &|m| Some(count(m.queries))),
        row("Batches", "Batches of any size, the smaller last ones too.", &|m| Some(count(m.batches))),
    ]
}

/// The measures of each list, in order.
pub(crate) fn lists(compared: &Compared) -> Vec<&Measures> {
    [&compared.mined, &compared.random].into_iter().chain(&compared.against).collect()
}

/// The lists' names.
pub(crate) fn list_names(report: &Report) -> Vec<&'static str> {
    ["mined", "random", "given"].into_iter().take(lists(&report.overall).len()).collect()
}

/// What came of tasks by weight.
fn words_on_mix(mix: MixFacts) -> String {
    format!(
        "by the tasks' weights {} batches of all epochs repeat rows, and {} of {} are left out; the first batch of a \
         row in the epoch counts",
        count(mix.repeated_batches),
        count(mix.skipped_batches),
        count(mix.first_round_batches),
    )
}

/// What the run and the report were made with, in a line each.
pub(crate) fn parameter_lines(report: &Report) -> Vec<String> {
    let parameters = &report.parameters;
    let (window, sizes, batches) = (parameters.edges.windows.job, parameters.clusters.sizes.job, &parameters.batches);
    let limits: String = [
        ("relative-margin", window.limits.relative_margin),
        ("max-score", window.limits.max_score),
        ("min-score", window.limits.min_score),
        ("max-query-score", window.limits.max_query_score),
        ("max-positive-score", window.limits.max_positive_score),
    ]
    .into_iter()
    .filter_map(|(name, limit)| Some(format!(" {name} = {},", limit?)))
    .collect();
    let mut lines = vec![
        format!(
            "{} rows x {} dimensions, {}, {}",
            count(parameters.rows),
            parameters.dim,
            if report.tasks.len() == 1 {
                "1 task".into()
            } else {
                format!("{} tasks", count(report.tasks.len() as u64))
            },
            name_of(parameters.metric)
        ),
        format!(
            "p = {}, m = {},{limits} edges {}, K = {}, λ = {}, |B| = {}, remainder {}, seed {}",
            window.skip,
            window.width,
            name_of(parameters.edges.edges),
            sizes.cluster_size,
            parameters.clusters.suspect_weight,
            sizes.batch_size,
            name_of(batches.remainder),
            batches.seed,
        ),
        format!("epoch {} of {}", parameters.epoch, batches.epochs),
    ];
    lines.extend(report.batches.mix.map(words_on_mix));
    if parameters.same_query == SameQuery::Allow {
        lines.push("rows of one query may share a batch (--same-query allow)".into());
    }
    let mixed = batches.mix.iter().flat_map(|mix| mix.tasks.tasks.keys());
    let own: BTreeSet<&String> =
        parameters.edges.windows.tasks.keys().chain(parameters.clusters.sizes.tasks.keys()).chain(mixed).collect();
    if !own.is_empty() {
        lines.push(format!("tasks with settings of their own: {}", own.len()));
    }
    if let Some(most) = parameters.edges.max_own_rank {
        lines.push(format!("rows whose own positive has a rank above {most} are left out (--max-own-rank)"));
    }
    if parameters.rows_in_no_batch > 0 {
        lines.push(format!("{} rows are in no batch of it", count(parameters.rows_in_no_batch)));
    }
    if let Some(wanted) = parameters.top_wanted {
        lines.push(format!(
            "the {wanted} closest were asked for, but lists keep {} ranks (p + m): the measures take {}",
            parameters.top, parameters.top
        ));
    }
    let recall = report.search.recall;
    if recall < 1.0 {
        lines.push(format!(
            "the search was approximate (recall {recall:.3}): rank windows and suspects are those that it found"
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_suspects_than_random_are_never_good() {
        assert_eq!(suspects_tone(true, 20.0, 8.0), Tone::Fair);
        assert_eq!(suspects_tone(true, 7.0, 8.0), Tone::Bad);
        assert_eq!(suspects_tone(false, 20.0, 8.0), Tone::Good);
        assert_eq!(suspects_tone(false, 9.0, 8.0), Tone::Fair);
        assert_eq!(suspects_tone(false, 7.0, 8.0), Tone::Bad);
    }
}
