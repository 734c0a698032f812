//! A record as text. Pure.

use comfy_table::{Cell, CellAlignment, Table, presets};

use super::record::{BenchRecord, StageFigures};
use crate::report::numbers::{NONE, amount, bytes, count, or_none, percent};

/// Columns of the stages.
const STAGE_HEAD: [&str; 11] =
    ["stage", "seconds", "spread", "rows/s", "GOP/s", "arcs/s", "B/arc", "GB/s in", "GB/s out", "of ceiling", "peak"];

/// The record for a person.
pub(crate) fn describe_record(record: &BenchRecord) -> String {
    let BenchRecord { machine, settings, .. } = record;
    let jobs = match record.whole.seconds.values.len() {
        1 => "one job".to_owned(),
        jobs => format!("medians of {jobs} jobs"),
    };
    let data = if settings.data == "planted" { "planted " } else { "" };
    format!(
        "machine  {}, {} threads of {}, memory {}\n\
         has      {}\n\
         data     {} {data}rows x {} dimensions, {jobs}\n\
         job      k {} (skip {}), K {}, |B| {}, {}, {}, budget {}\n\n{}\n\n{}",
        machine.cpu,
        settings.threads,
        machine.cores,
        bytes(machine.memory_bytes),
        if machine.instructions.is_empty() {
            "no instruction set of its own".into()
        } else {
            machine.instructions.join(" ")
        },
        count(settings.rows),
        settings.dim,
        settings.k,
        settings.skip,
        settings.cluster_size,
        count(settings.batch_size.into()),
        settings.precision,
        settings.search,
        bytes(settings.memory_bytes),
        ceilings(record),
        stages(record),
    )
}

fn ceilings(record: &BenchRecord) -> String {
    let mut table = plain(&["ceiling", "rate", "", "spread"]);
    for ceiling in &record.ceilings {
        let rate = &ceiling.rate;
        table.add_row([
            ceiling.name.clone(),
            amount(rate.median),
            ceiling.unit.name().to_owned(),
            or_none(rate.spread.map(percent)),
        ]);
    }
    aligned(table)
}

fn stages(record: &BenchRecord) -> String {
    let mut table = plain(&STAGE_HEAD);
    for stage in &record.stages {
        table.add_row(cells(stage));
    }
    let whole = &record.whole;
    let mut last = vec![NONE.to_owned(); STAGE_HEAD.len()];
    last[0] = "whole".into();
    last[1] = amount(whole.seconds.median);
    last[2] = or_none(whole.seconds.spread.map(percent));
    last[3] = amount(whole.rows_per_second);
    last[10] = bytes(whole.peak_bytes);
    table.add_row(last);
    aligned(table)
}

fn cells(stage: &StageFigures) -> Vec<String> {
    vec![
        stage.stage.name().to_owned(),
        amount(stage.seconds.median),
        or_none(stage.seconds.spread.map(percent)),
        amount(stage.rows_per_second),
        or_none(stage.gop_per_second.map(amount)),
        or_none(stage.arcs_per_second.map(amount)),
        or_none(stage.bytes_per_arc.map(amount)),
        or_none(stage.read_gb_per_second.map(amount)),
        amount(stage.written_gb_per_second),
        or_none(
            stage.of_ceiling.as_ref().map(|share| format!("{} of {}", percent(share.percent / 100.0), share.ceiling)),
        ),
        bytes(stage.peak_bytes),
    ]
}

fn plain(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(head.iter().map(Cell::new).collect::<Vec<_>>());
    table
}

/// Figures to the right, and nothing at the ends of lines.
fn aligned(mut table: Table) -> String {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn every_figure_is_in_the_table() {
        let text = describe_record(&record());
        for word in [
            "some CPU",
            "avx2 fma",
            "int8 avx2",
            "505",
            "GOP/s",
            "memory read",
            "disk sync",
            "calls/s",
            "1,000 planted",
        ] {
            assert!(text.contains(word), "no {word:?} in:\n{text}");
        }
        let neighbors = text.lines().find(|line| line.trim_start().starts_with("neighbors")).unwrap();
        for word in ["1.05", "9.52 %", "1,000", "250", "50.0 % of int8 avx2", "1.00 GiB"] {
            assert!(neighbors.contains(word), "no {word:?} in: {neighbors}");
        }
        let whole = text.lines().find(|line| line.trim_start().starts_with("whole")).unwrap();
        assert!(whole.contains("5.25") && whole.contains("190"), "{whole}");
        let mut once = record();
        once.whole.seconds.values.truncate(1);
        assert!(describe_record(&once).contains("one job"));
    }
}
