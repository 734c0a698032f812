//! A report on the terminal, in one screen. Pure.

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};

use super::figures::Report;
use super::numbers::{amount, bytes, count, name, or_none, percent, seconds};
use super::words::{Tone, findings, list_names, lists, parameter_lines, rows};

/// Tasks that are shown.
const TASKS: usize = 8;
/// Width of the lines, in characters.
const WIDTH: u16 = 110;

/// The report as text.
pub(crate) fn table(report: &Report) -> String {
    let mut text = format!("{}\n{}\n\n", report.run.display(), parameter_lines(report).join("\n"));
    let mut found = plain(std::iter::empty());
    found.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    for finding in findings(report) {
        let mark = match finding.tone {
            Tone::Good => "+",
            Tone::Fair => "~",
            Tone::Bad => "!",
        };
        found.add_row([mark.to_owned(), finding.about.to_owned(), finding.figure, finding.text]);
    }
    // Sentences alone are wrapped.
    found.column_iter_mut().take(3).for_each(|column| {
        column.set_constraint(ColumnConstraint::ContentWidth);
    });
    text += &trimmed(&found);
    text.push('\n');
    let names = list_names(report);
    let mut measures = plain(std::iter::once("").chain(names.iter().copied()));
    for row in rows(report) {
        measures.add_row(std::iter::once(row.name).chain(row.figures).collect::<Vec<_>>());
    }
    text += &format!("\n{}\n", aligned(measures));
    if report.tasks.len() > 1 {
        text += &format!("\n{}\n", tasks(report));
    }
    text += &format!("\n{}", stages(report));
    text
}

fn plain<'a>(head: impl Iterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let head: Vec<Cell> = head.map(Cell::new).collect();
    if !head.is_empty() {
        table.set_header(head);
    }
    table
}

/// Figures to the right.
fn aligned(mut table: Table) -> String {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    trimmed(&table)
}

/// Nothing at the ends of lines.
fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn tasks(report: &Report) -> String {
    let names = list_names(report);
    let head = |measure: &str| -> Vec<String> { names.iter().map(|list| format!("{measure}\n{list}")).collect() };
    let heads = [vec!["task".to_owned(), "rows".into()], head("preferred"), head("without")].concat();
    let mut table = plain(heads.iter().map(String::as_str));
    let mut largest: Vec<_> = report.tasks.iter().collect();
    largest.sort_by_key(|task| std::cmp::Reverse(task.rows));
    for task in largest.iter().take(TASKS) {
        let all = lists(&task.measures);
        let mut cells = vec![name(task.task.as_deref().unwrap_or_default(), 24), count(task.rows)];
        cells.extend(all.iter().map(|measures| or_none(measures.window_per_query.map(amount))));
        cells.extend(all.iter().map(|measures| or_none(measures.queries_without_share.map(percent))));
        table.add_row(cells);
    }
    let rest = match report.tasks.len().saturating_sub(TASKS) {
        0 => String::new(),
        n => format!("\n {} more tasks are in report.json and report.html", count(n as u64)),
    };
    aligned(table) + &rest
}

fn stages(report: &Report) -> String {
    let times: Vec<String> =
        report.stages.iter().map(|stage| format!("{} {}", stage.stage, seconds(stage.seconds))).collect();
    let all: f64 = report.stages.iter().map(|stage| stage.seconds).sum();
    let peak = report.stages.iter().map(|stage| stage.peak_bytes).max().unwrap_or(0);
    let disk: u64 = report.stages.iter().map(|stage| stage.bytes).sum();
    format!(" mined in {}: {}; peak memory {}, {} on disk", seconds(all), times.join(", "), bytes(peak), bytes(disk))
}
