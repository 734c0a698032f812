//! What a job assumes, in the first lines of its log: columns, and the settings that decide its batches.

use arrow::datatypes::{DataType, Schema};
use indicatif::{HumanBytes, HumanCount};

use crate::config::{Config, name_of};
use crate::job::Job;
use crate::run::record::Roles;
use crate::vectors::Shards;

/// Ends of names of columns that often name what two rows have in common, or a row itself.
const TELLING: [&str; 14] =
    ["id", "ids", "key", "keys", "uuid", "guid", "url", "uri", "doc", "docid", "hash", "group", "label", "pid"];

/// Logs what is assumed.
pub(super) fn tell(job: &Job) {
    let Job { shards, config, .. } = job;
    tracing::info!("{}", columns(&shards.roles));
    if let Some(corpus) = &job.corpus {
        tracing::info!("{}", of_corpus(corpus, &shards.roles));
        let without: Vec<&str> = keys_without(&corpus.roles, &shards.roles).collect();
        if !without.is_empty() {
            tracing::warn!("the corpus has no column {}: no document conflicts by this key", without.join(", "));
        }
    }
    if let Some(schema) = shards.list.iter().find(|shard| shard.rows > 0).and_then(|shard| shard.schema()) {
        let names = overlooked(schema, &shards.roles);
        if !names.is_empty() {
            tracing::info!("not taken: {}; --key-column or --id-column takes one", names.join(", "));
        }
    }
    tracing::info!("{}", settings(config));
    config.idle.iter().for_each(|line| tracing::warn!("{line}"));
}

/// The columns of each role.
fn columns(roles: &Roles) -> String {
    let sides = match (&roles.query, &roles.positive) {
        (Some(query), Some(_)) if roles.shared => format!("{query} for both sides"),
        (Some(query), Some(positive)) => format!("query {query}, positive {positive}"),
        _ if roles.shared => "arrays, one side for both".into(),
        _ => "arrays".into(),
    };
    let id = roles.id.as_deref().map_or("id: the row number".into(), |id| format!("id {id}"));
    let task = roles.task.as_deref().map_or("no task".into(), |task| format!("task {task}"));
    let keys = if roles.keys.is_empty() { "no key".into() } else { format!("keys {}", roles.keys.join(", ")) };
    format!("columns: {sides}, {id}, {task}, {keys}")
}

/// Key columns of the rows that a corpus does not have.
fn keys_without<'r>(corpus: &'r Roles, rows: &'r Roles) -> impl Iterator<Item = &'r str> {
    rows.keys.iter().filter(|key| !corpus.keys.contains(key)).map(String::as_str)
}

/// The corpus, and its columns.
fn of_corpus(corpus: &Shards, rows: &Roles) -> String {
    let Roles { positive, id, task, keys, .. } = &corpus.roles;
    let id = id.as_deref().map_or("id: numbers behind the rows'".into(), |id| format!("id {id}"));
    let task = task.as_deref().map_or(String::new(), |task| format!(", task {task}"));
    let keys = match keys.len() {
        0 if rows.keys.is_empty() => String::new(),
        0 => ", no key".into(),
        _ => format!(", keys {}", keys.join(", ")),
    };
    let (files, bytes) = (corpus.list.len(), HumanBytes(corpus.input_bytes()));
    let embedding = positive.as_deref().unwrap_or("arrays");
    format!(
        "corpus: {} documents in {files} files ({bytes}): embedding {embedding}, {id}{task}{keys}",
        HumanCount(corpus.shape.rows)
    )
}

/// Columns without a role whose name and type are those of ids or keys.
fn overlooked(schema: &Schema, roles: &Roles) -> Vec<String> {
    let named = [&roles.query, &roles.positive, &roles.id, &roles.task];
    let taken = |name: &String| named.into_iter().flatten().chain(&roles.keys).any(|other| other == name);
    let telling = |name: &str| {
        let name = name.to_lowercase();
        name.rsplit(['_', '-', '.', ' ']).next().is_some_and(|end| TELLING.contains(&end))
    };
    let fields = schema.fields().iter().filter(|field| !taken(field.name()));
    let alike = fields.filter(|field| telling(field.name()) && may_be_label(field.data_type()));
    alike.map(|field| field.name().clone()).collect()
}

fn may_be_label(kind: &DataType) -> bool {
    match kind {
        DataType::List(item) | DataType::LargeList(item) => {
            !matches!(item.data_type(), DataType::List(_)) && may_be_label(item.data_type())
        }
        DataType::Dictionary(_, value) => may_be_label(value),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => true,
        kind => kind.is_integer(),
    }
}

/// The settings that decide the batches.
fn settings(config: &Config) -> String {
    let (window, sizes) = (config.window, config.sizes().job);
    let own = match config.tasks.len() {
        0 => String::new(),
        n => format!(", {n} tasks with settings of their own"),
    };
    format!(
        "metric {}, p {}, m {}, K {}, |B| {}, seed {}{own}",
        name_of(config.metric),
        window.skip,
        window.width,
        sizes.cluster_size,
        sizes.batch_size,
        config.seed
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Field;

    use super::*;

    fn roles() -> Roles {
        let name = |name: &str| Some(name.to_owned());
        Roles { query: name("q"), positive: name("p"), shared: false, id: name("id"), task: None, keys: vec![] }
    }

    #[test]
    fn the_columns_of_each_role_are_named() {
        assert_eq!(columns(&roles()), "columns: query q, positive p, id id, no task, no key");
        let shared = Roles { shared: true, id: None, task: Some("t".into()), keys: vec!["k".into()], ..roles() };
        assert_eq!(columns(&shared), "columns: q for both sides, id: the row number, task t, keys k");
    }

    #[test]
    fn columns_that_look_like_keys_are_found_by_name_and_type() {
        let field = |name: &str, kind| Field::new(name, kind, true);
        let texts = DataType::List(Arc::new(field("item", DataType::Utf8)));
        let schema = Schema::new(vec![
            field("id", DataType::Int64),
            field("doc_id", DataType::Utf8),
            field("URL", DataType::LargeUtf8),
            field("answer-ids", texts),
            field("lucid", DataType::Utf8),
            field("key", DataType::Float32),
            field("text", DataType::Utf8),
        ]);
        assert_eq!(overlooked(&schema, &roles()), ["doc_id", "URL", "answer-ids"]);
    }
}
