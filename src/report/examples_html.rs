//! The batches to look at, as a section of the page. Pure.

use maud::{Markup, html};

use super::examples::{ExampleBatch, Examples};
use super::numbers::{count, name, or_none, percent};

pub(crate) fn section(examples: &Examples) -> Markup {
    html! {
        h2 { "Some batches" }
        p.soft {
            "A batch's weight is the share of its pairs that are a query and a preferred negative of it. Of each batch \
             some rows are shown: those with the most preferred negatives in the batch, or with the fewest."
        }
        @if let Some(why) = &examples.no_texts { p.soft { "There are no texts: " (name(why, 1000)) } }
        @if !examples.most.is_empty() {
            h3 { "Most weight inside" }
            @for batch in &examples.most { (table(batch)) }
        }
        @if !examples.least.is_empty() {
            h3 { "Least weight inside" }
            @for batch in &examples.least { (table(batch)) }
        }
    }
}

fn table(batch: &ExampleBatch) -> Markup {
    let text = |text: &Option<String>| or_none(text.as_deref().map(|text| name(text, 201)));
    html! {
        p {
            "Batch " (batch.batch_id) ": " (count(batch.rows)) " rows, " (percent(batch.window_share))
            " of the pairs preferred, " (count(batch.suspect_pairs)) " suspect pairs."
        }
        div.wide.texts tabindex="0" {
            table {
                thead {
                    tr {
                        th { "row" } th { "cluster" } th { "preferred" } th { "suspects" }
                        th { "query" } th { "positive" }
                    }
                }
                tbody {
                    @for row in &batch.examples {
                        tr {
                            th scope="row" { (count(row.row.into())) }
                            td { (or_none(row.cluster_id.map(|cluster| count(cluster.into())))) }
                            td { (count(row.preferred)) }
                            td { (count(row.suspects)) }
                            td.text { (text(&row.query)) }
                            td.text { (text(&row.positive)) }
                        }
                    }
                }
            }
        }
    }
}
