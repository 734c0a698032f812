//! lake: the batch table published where others read it: plain Parquet or a Delta Lake table, in a folder or an
//! object store.
//!
//! ```text
//!  batches/part-*.parquet ──▶ (divided by task) ──▶ uploaded ──▶ committed: a Delta version, or _SUCCESS
//! ```
//!
//! Files are named by their content, so that a second attempt puts the same bytes in the same places. A Delta reader
//! sees none of them before the commit, which is one atomic step; a reader of plain Parquet waits for `_SUCCESS`. A
//! publication is identified by its content, so the same batches are never published twice in one table, however often
//! the job is run.
//!
//! Memory: what [`super::budget`] says, and what the open row groups of divided files hold. Time: O(bytes), and where
//! files are divided by task one scan of the batch table for each group of tasks.

mod delta;
mod durable;
mod folder;
mod location;
mod partition;
mod placed;
mod schema;
mod stats;
mod upload;

use deltalake::kernel::StructType;
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::budget::BatchesCounts;
use super::table;
use crate::config::{Config, Mask, TableFormat, TableRules};
use crate::error::{Error, Result};
use crate::objects::StoreThreads;
use crate::run::progress::Meter;
use crate::run::record::{IdKind, VectorsFacts};
use crate::run::{Run, Stage};
use crate::vectors;
use location::Location;
use placed::PlacedFile;
use upload::{LocalFile, upload};

/// Version of the published layout; goes up whenever the same batches would be published as other files.
const PUBLICATION_VERSION: u32 = 1;

/// Where the batch table will be published, if the settings want that.
#[derive(Debug)]
pub(crate) struct Lake(Option<TableTarget>);

/// A place where a batch table will be published.
#[derive(Debug)]
struct TableTarget {
    rules: TableRules,
    location: Location,
    threads: StoreThreads,
}

/// The progress event of a publication.
#[derive(Serialize)]
struct TableEvent<'a> {
    event: &'static str,
    #[serde(flatten)]
    published: &'a Published,
}

/// What was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Published {
    /// Folder or URL.
    place: String,
    /// The version of a Delta table.
    version: Option<u64>,
    /// Files of the table; 0 where an earlier job published it.
    files: usize,
    /// Bytes of these files.
    bytes: u64,
    /// Whether an earlier job published these batches.
    was_there: bool,
}

/// Files that are being published.
struct Publication<'a> {
    run: &'a Run,
    location: &'a Location,
    meter: Meter,
    placed: Vec<PlacedFile>,
}

impl Lake {
    /// Opens the place, and proves that files can be written and committed there: a job must not find out after hours
    /// that they cannot. [`Lake::check_target`] checks the rest. Without rules nothing is published.
    ///
    /// # Errors
    /// The place cannot be reached or written, or is inside the run folder; or the table is a Delta table and the place
    /// is an object store that lets an object be created twice: concurrent jobs would overwrite each other's commits.
    pub(crate) fn open(rules: Option<&TableRules>, run: &Run) -> Result<Lake> {
        rules.map(|rules| TableTarget::open(rules, run)).transpose().map(Lake)
    }

    /// Checks that a table of these rows can be published in the place, or is there already.
    ///
    /// # Errors
    /// The place holds another table, or a task's name cannot be a folder's.
    pub(crate) fn check_target(&self, run: &Run, config: &Config) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), |target| target.check(run, config))
    }

    /// Publishes a run's finished batch table. `replace`: overwrite another run's plain Parquet files.
    ///
    /// # Errors
    /// The place holds another table, the store or the disk fails, a part is damaged, or the user interrupts.
    pub(crate) fn publish(&self, run: &Run, config: &Config, counts: &BatchesCounts, replace: bool) -> Result<()> {
        let publish = |target: &TableTarget| target.publish(run, config, counts, replace);
        self.0.as_ref().map_or(Ok(()), publish)
    }
}

impl TableTarget {
    fn open(rules: &TableRules, run: &Run) -> Result<TableTarget> {
        let threads = StoreThreads::start()?;
        let vectors = run.stage_folder(Stage::Vectors);
        let work = vectors.parent().unwrap_or(run.folder());
        let location = Location::open(rules.out.as_deref(), run.folder(), work)?;
        if rules.format == TableFormat::Delta {
            location.refuse_escapes()?;
        }
        threads.wait(|| run.check_interrupt(), location.probe(rules.format == TableFormat::Delta))?;
        Ok(TableTarget { rules: rules.clone(), location, threads })
    }

    fn check(&self, run: &Run, config: &Config) -> Result<()> {
        if self.rules.by_task {
            let tasks = vectors::tasks(run)?;
            (0..tasks.len()).try_for_each(|task| partition::refuse_name(tasks.name(task)))?;
        }
        match self.rules.format {
            TableFormat::Delta => {
                let finished = run.is_complete(Stage::Batches);
                if finished
                    && self
                        .threads
                        .wait(|| run.check_interrupt(), delta::version_with(&self.location, &self.identity(run)))?
                        .is_some()
                {
                    return Ok(());
                }
                let schema = table_schema(run, config)?;
                self.threads
                    .wait(|| run.check_interrupt(), delta::check_target(&self.location, &schema, self.rules.by_task))
            }
            TableFormat::Parquet => self.threads.wait(|| run.check_interrupt(), folder::check_target(&self.location)),
        }
    }

    fn publish(&self, run: &Run, config: &Config, counts: &BatchesCounts, replace: bool) -> Result<()> {
        if run.parts(Stage::Batches, "").is_empty() {
            return Err(Error::input("there is nothing to publish")
                .path(run.stage_folder(Stage::Batches))
                .expected("at least one batch")
                .found("none: --remainder drop left every row out")
                .remedy("mine with a smaller --batch-size or another --remainder"));
        }
        let id = self.identity(run);
        let published = match self.published_before(run, &id, replace)? {
            Some(published) => published,
            None => {
                let schema = table_schema(run, config)?;
                self.commit(run, &id, &schema, &self.place(run, counts)?)?
            }
        };
        run.progress().event(&TableEvent { event: "table", published: &published });
        Ok(())
    }

    /// The publication of this identity, if it is there already; else a place for plain Parquet is taken. `replace`:
    /// also one that holds another run's.
    fn published_before(&self, run: &Run, id: &str, replace: bool) -> Result<Option<Published>> {
        let place = self.location.to_string();
        let version = match self.rules.format {
            TableFormat::Delta => {
                match self.threads.wait(|| run.check_interrupt(), delta::version_with(&self.location, id))? {
                    Some(version) => Some(version),
                    None => return Ok(None),
                }
            }
            TableFormat::Parquet
                if self.threads.wait(|| run.check_interrupt(), folder::claim(&self.location, id, replace))? =>
            {
                None
            }
            TableFormat::Parquet => return Ok(None),
        };
        match version {
            Some(version) => {
                tracing::info!("{place}: this batch table is in that table already, which is now at version {version}");
            }
            None => tracing::info!("{place}: this batch table is there already"),
        }
        Ok(Some(Published { place, version, files: 0, bytes: 0, was_there: true }))
    }

    /// Makes the uploaded files the table.
    fn commit(&self, run: &Run, id: &str, schema: &StructType, placed: &[PlacedFile]) -> Result<Published> {
        let place = self.location.to_string();
        let version = match self.rules.format {
            TableFormat::Delta => {
                let commit = delta::commit(&self.location, id, schema, self.rules.by_task, placed);
                Some(self.threads.wait(|| run.check_interrupt(), commit)?)
            }
            TableFormat::Parquet => {
                self.threads.wait(|| run.check_interrupt(), folder::finish(&self.location, id, placed))?;
                None
            }
        };
        let bytes = placed.iter().map(|file| file.bytes).sum();
        let what = version.map_or("plain Parquet".into(), |version| format!("version {version}"));
        tracing::info!("{place}: the batch table as {what}, {} files", placed.len());
        Ok(Published { place, version, files: placed.len(), bytes, was_there: false })
    }

    /// A hash of what is published: the batch table's parts and how they are laid out.
    fn identity(&self, run: &Run) -> String {
        let mut hash = Xxh3::new();
        hash.update(&PUBLICATION_VERSION.to_le_bytes());
        hash.update(&[u8::from(self.rules.by_task)]);
        for (name, part) in run.record(Stage::Batches).parts {
            hash.update(format!("{name} {} {}\n", part.bytes, part.xxh3).as_bytes());
        }
        format!("{:032x}", hash.digest128())
    }

    /// Uploads every file to its place, where no commit refers to it yet.
    fn place(&self, run: &Run, counts: &BatchesCounts) -> Result<Vec<PlacedFile>> {
        let parts = run.record(Stage::Batches).parts;
        let total = parts.values().map(|part| part.bytes).fold(0, u64::saturating_add);
        let meter = run.progress().meter("table", total, "bytes");
        let mut publication = Publication { run, location: &self.location, meter, placed: Vec::new() };
        if self.rules.by_task {
            partition::divide(run, counts, &mut |stem, task, local| {
                self.threads.wait(|| run.check_interrupt(), publication.put(stem, Some(task), &local))?;
                run.discard(&local.path)
            })?;
        } else {
            for (name, part) in &parts {
                // What is copied is checked meanwhile as well: the file may have changed since.
                let path = run.part(Stage::Batches, name)?;
                let local = LocalFile { path, bytes: part.bytes, xxh3: part.xxh3.clone() };
                let stem = name.trim_end_matches(".parquet");
                self.threads.wait(|| run.check_interrupt(), publication.put(stem, None, &local))?;
            }
        }
        Ok(publication.placed)
    }
}

/// The table's columns in Delta's terms, by the records of the run: its vectors may be cleaned.
fn table_schema(run: &Run, config: &Config) -> Result<StructType> {
    let text_ids = run.facts::<VectorsFacts>()?.ids == IdKind::String;
    Ok(schema::of(&table::schema(table::TableForm {
        text_ids,
        negatives: config.batches.hard_negatives > 0,
        own_ranks: config.max_own_rank.is_some(),
        masked: config.batches.mask == Mask::Suspects,
    })))
}

impl Publication<'_> {
    /// Uploads a file, named by its content.
    async fn put(&mut self, stem: &str, task: Option<&str>, local: &LocalFile) -> Result<()> {
        self.run.check_interrupt()?;
        let folder = task.map(|task| format!("task={}/", partition::hive(task))).unwrap_or_default();
        let path = format!("{folder}{stem}-{}.parquet", local.xxh3);
        let stats = stats::of_file(&local.path)?;
        upload(self.location, &path, local, &self.meter).await?;
        self.placed.push(PlacedFile { path, bytes: local.bytes, task: task.map(str::to_owned), stats });
        Ok(())
    }
}
