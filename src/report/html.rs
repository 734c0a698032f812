//! A report as one page without links: it holds its style and plots, and names are escaped. Pure.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::examples_html;
use super::figures::{Compared, Measures, Report, StageCost, TaskMeasures};
use super::numbers::{amount, bytes, count, estimate, name, or_none, percent, seconds};
use super::plots::{self, Bars};
use super::words::{Finding, Tone, findings, list_names, lists, parameter_lines, rows};

/// Tasks with bars of their own.
const BARS: usize = 12;
/// Tasks in the table.
const TASKS: usize = 500;

pub(crate) fn page(report: &Report) -> String {
    let title = report.run.file_name().map_or_else(|| "run".into(), |name| name.to_string_lossy());
    let title = name(&title, 80);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // A browser must fetch nothing, whatever names the page shows.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                meta name="color-scheme" content="light dark";
                title { "Batches of " (title) }
                style { (PreEscaped(include_str!("report.css"))) }
            }
            body {
                h1 { "What the batches of " (title) " are worth" }
                (introduction(report))
                div.cards { @for finding in findings(report) { (card(&finding)) } }
                h2 { "How near and how hard" }
                (legend(report))
                (figures(report))
                h2 { "Every measure" }
                (measures(report))
                @if report.tasks.len() > 1 {
                    h2 { "Tasks" }
                    (tasks(report))
                }
                (examples_html::section(&report.examples))
                (clusters(report))
                h2 { "What it took" }
                (cost(report))
                h2 { "Words" }
                (words(report))
                p.soft {
                    "Made by batchmine " (report.version) ". The same figures, unrounded, are in "
                    code { "report.json" } "."
                }
            }
        }
    }
    .into_string()
}

fn introduction(report: &Report) -> Markup {
    let window = report.parameters.edges.windows.job;
    let (p, m) = (
        count(u64::from(window.skip)),
        window.width.known().map_or_else(|| window.width.to_string(), |m| count(u64::from(m))),
    );
    html! {
        p {
            "In contrastive training the other rows of a batch are a query's negatives. For each query, batchmine \
             ranks all other rows of its task by score. The best " (p) " are " strong { "suspects" }
            ": many of them are right answers that nobody marked. The next " (m) " are its "
            strong { "preferred negatives" } ": close, and most likely wrong. A good batch holds many preferred \
             negatives of its queries, few suspects, and no duplicates."
        }
        p {
            "This page compares the batches that were " strong { "mined" } " with " strong { "random" }
            " ones: the same batches, with the rows of each task shuffled"
            @if report.overall.against.is_some() { ", and with a " strong { "given" } " list of batches" }
            "."
        }
        p.soft.terms {
            @for (index, part) in parameter_lines(report).join(", ").split(", ").enumerate() {
                @if index > 0 { ", " }
                span { (part) }
            }
        }
    }
}

fn card(finding: &Finding) -> Markup {
    let (class, word) = match finding.tone {
        Tone::Good => ("good", "good"),
        Tone::Fair => ("fair", "worth a look"),
        Tone::Bad => ("bad", "not good"),
    };
    html! {
        section class={ "card " (class) } {
            h3 { (finding.about) " " span.soft { "· " (word) } }
            div.figure { (finding.figure) }
            p { (finding.text) }
        }
    }
}

fn legend(report: &Report) -> Markup {
    let against = report.parameters.against.as_ref().map(|path| name(&path.display().to_string(), 120));
    html! {
        div.legend {
            @for list in list_names(report) {
                span {
                    span class={ "swatch " (list) } {} (list)
                    @if list == "given" { ": " (or_none(against.clone())) }
                }
            }
        }
    }
}

fn figures(report: &Report) -> Markup {
    let similarity = &report.similarity;
    let shares: Vec<&[f64]> =
        [&similarity.mined, &similarity.random].into_iter().chain(&similarity.against).map(Vec::as_slice).collect();
    let hits = &report.window_hits;
    let share = |queries: &Vec<u64>| -> Vec<f64> {
        let all = queries.iter().sum::<u64>().max(1) as f64;
        queries.iter().map(|queries| *queries as f64 / all).collect()
    };
    let hit_shares: Vec<Vec<f64>> = [&hits.mined, &hits.random].into_iter().chain(&hits.against).map(share).collect();
    html! {
        div.figures {
            figure {
                h3 { "Preferred negatives in a query's batch" }
                (plots::columns(
                    "Share of the queries by preferred negatives in their batch",
                    &buckets(&hits.bounds), &hit_shares, "preferred negatives"
                ))
                figcaption {
                    "Share of the queries that have so many. Queries at 0 learn nothing hard from their batch."
                }
            }
            figure {
                h3 { "Similarity of the " (report.parameters.top) " closest" }
                (plots::outlines(
                    "Share of the queries by similarity of the closest rows",
                    &similarity.bounds, &shares, "mean similarity"
                ))
                figcaption {
                    "Share of the sampled queries by the mean similarity with the " (report.parameters.top)
                    " closest rows of their batch. Further right is harder."
                }
            }
            figure {
                h3 { "Hard, and wrong" }
                (plots::bars("Preferred negatives and suspects a query", &hard_and_wrong(report)))
                figcaption {
                    "Rows of a query's batch that are in its rank window (wanted), and that are suspects (not wanted). "
                    "Batches far from random in the first and near it in the second are good."
                }
            }
        }
    }
}

/// Names of buckets of counts: `0`, `1`, `2–3`, …
fn buckets(bounds: &[f64]) -> Vec<String> {
    let name = |index: usize| match (bounds[index], bounds.get(index + 1)) {
        (low, Some(next)) if next - low > 1.0 => format!("{low:.0}–{:.0}", next - 1.0),
        (low, None) if low > 1.0 => format!("{low:.0}+"),
        (low, _) => format!("{low:.0}"),
    };
    (0..bounds.len()).map(name).collect()
}

fn hard_and_wrong(report: &Report) -> Vec<Bars> {
    let bar = |value: Option<f64>| (value.unwrap_or(0.0), or_none(value.map(amount)));
    let row = |name: &str, measure: fn(&Measures) -> Option<f64>| Bars {
        name: name.into(),
        bars: lists(&report.overall).into_iter().map(|measures| bar(measure(measures))).collect(),
    };
    vec![row("preferred", |m| m.window_per_query), row("suspects", |m| m.suspects_per_query)]
}

fn measures(report: &Report) -> Markup {
    let names = list_names(report);
    html! {
        table.measures {
            thead { tr { th { "measure" } @for list in &names { th { (list) } } } }
            tbody {
                @for row in rows(report) {
                    tr {
                        th scope="row" { (row.name) span.why { (row.why) } }
                        @for (list, figure) in names.iter().zip(&row.figures) {
                            td class=(list) data-list=(list) { (figure) }
                        }
                    }
                }
            }
        }
    }
}

fn tasks(report: &Report) -> Markup {
    let mut largest: Vec<&TaskMeasures> = report.tasks.iter().collect();
    largest.sort_by_key(|task| std::cmp::Reverse(task.rows));
    let bar = |measures: &Measures| {
        let value = measures.window_per_query;
        (value.unwrap_or(0.0), or_none(value.map(amount)))
    };
    let bars: Vec<Bars> = largest
        .iter()
        .take(BARS)
        .map(|task| Bars { name: task_name(task, 16), bars: lists(&task.measures).into_iter().map(bar).collect() })
        .collect();
    let left = report.tasks.len().saturating_sub(TASKS);
    html! {
        figure {
            h3 { "Preferred negatives a query, by task" }
            (legend(report))
            (plots::bars("Preferred negatives a query by task", &bars))
            @if report.tasks.len() > BARS {
                figcaption { "The " (BARS) " tasks with the most rows; all are in the table." }
            }
        }
        p.soft { "Largest first. Figures from the sample have their standard error; those of small tasks are rough." }
        div.wide.tasks tabindex="0" { (task_table(report, &largest[..largest.len().min(TASKS)])) }
        @if left > 0 { p.soft { (count(left as u64)) " more tasks are in " code { "report.json" } "." } }
    }
}

fn task_name(task: &TaskMeasures, most: usize) -> String {
    name(task.task.as_deref().unwrap_or("all rows"), most)
}

fn task_table(report: &Report, tasks: &[&TaskMeasures]) -> Markup {
    let names = list_names(report);
    let head = |title: &str| html! { @for list in &names { th { (title) br; (list) } } };
    let cells = |compared: &Compared, figure: &dyn Fn(&Measures) -> Option<String>| {
        html! {
            @for (list, measures) in names.iter().zip(lists(compared)) {
                td class=(list) { (or_none(figure(measures))) }
            }
        }
    };
    html! {
        table {
            thead {
                tr {
                    th { "task" } th { "rows" }
                    (head("preferred negatives")) (head("without any")) (head("suspects"))
                    (head("similarity")) (head("gap"))
                }
            }
            tbody {
                @for task in tasks {
                    tr {
                        th scope="row" { (task_name(task, 80)) }
                        td { (count(task.rows)) }
                        (cells(&task.measures, &|m| m.window_per_query.map(amount)))
                        (cells(&task.measures, &|m| m.queries_without_share.map(percent)))
                        (cells(&task.measures, &|m| m.suspects_per_query.map(amount)))
                        (cells(&task.measures, &|m| m.top_similarity.as_ref().map(estimate)))
                        (cells(&task.measures, &|m| m.gap.as_ref().map(estimate)))
                    }
                }
            }
        }
    }
}

/// What the clusters stage says of its phases.
fn clusters(report: &Report) -> Markup {
    let phases = &report.clusters.phases;
    if phases.is_empty() {
        return html! {};
    }
    let share = |part: u64, whole: u64| or_none((whole > 0).then(|| percent(part as f64 / whole as f64)));
    html! {
        h2 { "How the clusters were made" }
        p.soft {
            "Of all preferred negatives and suspects of all queries, so many were in the query's cluster after each \
             phase. Clusters should hold many of the first and few of the second."
        }
        div.wide tabindex="0" {
            table {
                thead {
                    tr {
                        th { "phase" } th { "preferred inside" } th { "suspects inside" } th { "queries without any" }
                    }
                }
                tbody {
                    @for (phase, metrics) in phases {
                        tr {
                            th scope="row" { (phase) }
                            td { (share(metrics.window_inside, metrics.window)) }
                            td { (share(metrics.suspects_inside, metrics.suspects)) }
                            td { (share(metrics.queries_without, metrics.rows)) }
                        }
                    }
                }
            }
        }
    }
}

fn cost(report: &Report) -> Markup {
    let all: f64 = report.stages.iter().map(|stage| stage.seconds).sum();
    let plot = |figure: &dyn Fn(&StageCost) -> (f64, String)| -> Vec<Bars> {
        let row =
            |stage: usize| Bars { name: report.stages[stage].stage.clone(), bars: vec![figure(&report.stages[stage])] };
        (0..report.stages.len()).map(row).collect()
    };
    let times = plot(&|stage| (stage.seconds, seconds(stage.seconds)));
    let memory = plot(&|stage| (stage.peak_bytes as f64, bytes(stage.peak_bytes)));
    let disk = plot(&|stage| (stage.bytes as f64, bytes(stage.bytes)));
    html! {
        div.figures {
            figure {
                h3 { "Time" }
                (plots::bars("Seconds of each stage", &times))
                figcaption { "Wall-clock time of each stage, over all calls: " (seconds(all)) " in all." }
            }
            figure {
                h3 { "Memory" }
                (plots::bars("Peak memory of each stage", &memory))
                figcaption { "Most memory that the process held at a time in each stage (resident, anonymous)." }
            }
            figure {
                h3 { "Disk" }
                (plots::bars("Bytes of each stage", &disk))
                figcaption { "What each stage's files take in the run folder." }
            }
        }
    }
}

fn words(report: &Report) -> Markup {
    let window = report.parameters.edges.windows.job;
    let (p, m) = (
        count(u64::from(window.skip)),
        window.width.known().map_or_else(|| window.width.to_string(), |m| count(u64::from(m))),
    );
    let sampled = report.overall.mined.gap.map_or(0, |gap| gap.queries);
    html! {
        dl {
            dt { "Query, positive" }
            dd {
                "The two sides of a row: a question and its answer, say. A query's candidates are the positives of the \
                 other rows of its task, but for those that conflict with it: they share its key or a vector."
            }
            dt { "Rank" }
            dd {
                "A query's candidates in the order of their score by the embeddings that the batches were mined with."
            }
            dt { "Suspects" }
            dd {
                "The best " (p) " candidates of a query (p), and those beyond a score limit if one was set: so close \
                 that many are right answers that nobody marked."
            }
            dt { "Preferred negatives" }
            dd { "The next " (m) " candidates (m): its rank window." }
            dt { "Pair" }
            dd { "A query and another row of its batch, as an ordered pair. A batch of n rows has n · (n − 1)." }
            dt { "Sampled" }
            @if report.parameters.sample >= report.parameters.rows {
                dd {
                    "Similarities and gaps were taken of all queries, each scored against its whole batch. So there is \
                     no sampling error."
                }
            } @else {
                dd {
                    "Similarities and gaps come from " (count(sampled)) " queries drawn at random, half of them by the \
                     sizes of the tasks and half equally. Each is scored against its whole batch. After ± stands the \
                     standard error: the true mean is within twice that, 19 times in 20. Everything else is counted \
                     over all rows."
                }
            }
        }
    }
}
