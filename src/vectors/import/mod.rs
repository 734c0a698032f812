//! Decodes every shard once, in parallel, into the mapped row-major store.
//!
//! Algorithm: label columns first (ids are checked, tasks give rows their order, keys are coded), then one
//! pass over the embeddings: decode a batch, check and measure every row, write runs of consecutive
//! rows where they belong. Then equal vectors are coded. Where rows may be dropped, a pass before all others finds
//! them. Nothing is normalised: reciprocal norms stand beside the input's values.
//!
//! Memory ([`super::budget`]): 20 bytes a row for labels, 28 with key columns; 24 bytes an element of the largest key
//! column of lists; for each thread one batch of both sides, decoded and encoded, and decompressed pages.

mod bad_row_table;
mod bad_rows;
mod check;
mod context;
mod embeddings;
mod equal_vectors;
mod ids;
mod key_lists;
mod keys;
mod label_keys;
mod labels;
mod row_marks;
mod row_writer;
mod same_vectors;
mod scatter;
mod sides;
mod tasks;

use bad_row_table::BAD_ROW_TABLES;
pub(crate) use check::{CheckedInput, check_input};
pub(crate) use label_keys::{label_keys, words_on_key};
pub(crate) use row_marks::RowMarks;
pub(crate) use tasks::{refuse_unknown_tasks, task_sizes};

use super::budget::VectorsCounts;
use super::content::ContentHashes;
use super::ids::INT_IDS;
use super::key_lists::{key_lists_name, write_key_lists};
use super::open::{ID_TABLE, ROW_TABLE, TASK_TABLE, Vectors, open_parts};
use super::row_table::{BothSides, RowLayout};
use super::shard::Shard;
use super::shards::Shards;
use super::tasks::Tasks;
use crate::config::{BadRows, Config};
use crate::error::Result;
use crate::run::record::{CorpusFacts, IdKind, KeyFacts, VectorsFacts};
use crate::run::sealed::Sealed;
use crate::run::{Run, ScatteredPart, Stage, WrittenPart};
use crate::watch::Watch;
use bad_rows::drop_bad_rows;
use context::{Import, Input};
use embeddings::write_embeddings;
use equal_vectors::EqualCounts;
use ids::write_ids;
use key_lists::key_lists;
use keys::{key_column, words_on_keys};
use same_vectors::write_same_vectors;
use tasks::{Numbers, write_tasks};

/// Decodes the shards into the store, or opens the store that is there.
///
/// # Errors
/// Bad input, named by file, row group and row; or a disk that fails.
pub fn import(
    run: &Run,
    shards: &Shards,
    corpus: Option<&Shards>,
    config: &Config,
    counts: &VectorsCounts,
) -> Result<Vectors> {
    if !run.is_complete(Stage::Vectors) {
        let stage = run.begin(Stage::Vectors);
        let inputs = || std::iter::once(shards).chain(corpus);
        inputs().for_each(|input| input.hold_blocks(counts.column_blocks));
        BAD_ROW_TABLES.iter().try_for_each(|name| run.remove_file(name))?;
        let documents = corpus.map(|corpus| Input::of_corpus(corpus, config, shards.shape.rows));
        let find_bad = |input: &Input<'_>| match config.columns.bad_rows {
            BadRows::Drop => drop_bad_rows(run, input, counts.batch_rows),
            BadRows::Refuse => Ok(None),
        };
        let bad = find_bad(&Input::new(shards, config))?;
        let bad_documents = documents.as_ref().map(find_bad).transpose()?.flatten();
        let input = Input::new(shards, config).without(bad.as_ref());
        let documents = documents.map(|documents| documents.without(bad_documents.as_ref()));
        let import = Import { input, documents, run, stage: &stage, counts };
        let written = write_all(&import)?;
        let files = shards.list.iter().chain(corpus.iter().flat_map(|corpus| &corpus.list));
        files.clone().try_for_each(Shard::refuse_changed)?;
        inputs().for_each(|input| input.hold_blocks(0));
        let kept = import.input.kept();
        let facts = VectorsFacts {
            rows: kept.rows,
            dim: kept.dim,
            tasks: Tasks::open(&run.part(Stage::Vectors, TASK_TABLE)?)?.len(),
            ids: id_kind(run)?,
            shared: shards.roles.shared,
            named_tasks: shards.roles.task.is_some(),
            input_bytes: shards.input_bytes() + corpus.map_or(0, Shards::input_bytes),
            rows_of_same_positive: written.same.positives,
            rows_of_same_query: (!shards.roles.shared).then_some(written.same.queries),
            rows_of_query_as_positive: (!shards.roles.shared).then_some(written.same.crossed),
            keys: written.keys,
            bad_rows_dropped: import.input.dropped_rows(),
            corpus: written.corpus,
        };
        written.same.log(config.same_query);
        log_corpus(written.corpus);
        run.set_contents(written.contents);
        stage.finish(&facts, |_| true)?;
    }
    open_parts(&run.stage_folder(Stage::Vectors), &run.facts()?, &|name| run.part(Stage::Vectors, name))
}

/// Says how many documents there are.
fn log_corpus(corpus: Option<CorpusFacts>) {
    let Some(CorpusFacts { documents, of_other_tasks, .. }) = corpus else { return };
    tracing::info!("{documents} documents of the corpus are in the rows' tasks");
    if of_other_tasks > 0 {
        tracing::warn!("{of_other_tasks} documents are left out: no row is of their task");
    }
}

/// What the passes found.
struct Imported {
    /// What was taken for no key.
    keys: Vec<KeyFacts>,
    /// How many rows have equal vectors.
    same: EqualCounts,
    /// The hash of each input file.
    contents: Vec<String>,
    corpus: Option<CorpusFacts>,
}

/// The order of the passes; each frees what the next does not need.
fn write_all(import: &Import<'_>) -> Result<Imported> {
    let mut parts = Vec::new();
    parts.extend(write_ids(import)?);
    let numbers = write_tasks(import)?;
    let keys = &import.input.shards.labels.keys;
    let lists = keys.iter().filter(|column| column.list).count() as u64;
    let keys = 1 + keys.len() as u64 - lists;
    let corpus = import.documents.as_ref().map(|corpus| CorpusFacts {
        documents: numbers.kept,
        bad_dropped: corpus.dropped_rows(),
        of_other_tasks: numbers.of_other_tasks,
    });
    let layout = RowLayout {
        rows: import.input.kept().rows + numbers.kept,
        documents: numbers.kept,
        keys,
        lists,
        both_sides: BothSides::Unknown,
        dropped: import.dropped_rows() + numbers.of_other_tasks,
    };
    let table = import.stage.scattered(ROW_TABLE, layout.file_bytes())?;
    table.extend()?;
    let (lists, keys) = write_keys(import, &numbers, &table, layout)?;
    let contents = ContentHashes::new(import.inputs().flat_map(|input| &input.shards.list));
    let (stores, hashes) = write_embeddings(import, &numbers, &table, layout, &contents)?;
    drop(numbers);
    let (layout, same) = write_same_vectors(import, hashes, &stores, &table, layout)?;
    table.write_at(&layout.header(), 0)?;
    parts.push(table);
    parts.extend(stores);
    import.stage.publish_with(parts, lists)?;
    let interrupt = |_: u64| import.run.check_interrupt();
    Ok(Imported { keys, same, contents: contents.finish(Watch::new(&interrupt))?, corpus })
}

/// Codes the key columns: into the table, or, those of lists, each into a file of its own.
fn write_keys(
    import: &Import<'_>,
    numbers: &Numbers,
    table: &ScatteredPart,
    layout: RowLayout,
) -> Result<(Vec<WrittenPart>, Vec<KeyFacts>)> {
    let (mut lists, mut all_facts, mut section) = (Vec::new(), Vec::new(), 0);
    for column in &import.input.shards.labels.keys {
        let facts = if column.list {
            let (coded, facts) = key_lists(&import.input, import.documents.as_ref(), column, numbers)?;
            let name = key_lists_name(lists.len() as u64);
            lists.push(import.stage.prepare(&name, |out| write_key_lists(out, coded.lists()))?);
            facts
        } else {
            let (codes, facts) = key_column(&import.input, import.documents.as_ref(), column, numbers)?;
            section += 1;
            table.write_at(bytemuck::cast_slice(&codes), layout.key(section))?;
            facts
        };
        if let Some(words) = words_on_keys(&facts, import.input.kept().rows) {
            tracing::info!("{words}");
        }
        all_facts.push(facts);
    }
    Ok((lists, all_facts))
}

fn id_kind(run: &Run) -> Result<IdKind> {
    if !run.has(Stage::Vectors, ID_TABLE) {
        return Ok(IdKind::Row);
    }
    let path = run.part(Stage::Vectors, ID_TABLE)?;
    Ok(if Sealed::open(&path, &INT_IDS).is_ok() { IdKind::Int64 } else { IdKind::String })
}
