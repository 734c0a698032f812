//! A publication as a version of a Delta Lake table.
//!
//! The table holds one run's batches at a time: a commit adds the new files and removes the others, which stay for
//! time travel until the table is vacuumed. The commit also holds a transaction identifier (Delta protocol,
//! "Transaction Identifiers"), a hash of the files' content: a job that finds its own in the log has nothing to do.
//! Writers that commit at the same time compete for the next version by creating its log entry: the loser reads the
//! table again and retries, and the table shows the batches of the later one.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use deltalake::DeltaTableError;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, PROTOCOL, TableReference, TransactionError};
use deltalake::kernel::{Action, Add, Protocol, StructType, Transaction, new_metadata};
use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::table::state::DeltaTableState;

use super::folder;
use super::location::Location;
use super::placed::PlacedFile;
use crate::error::{Error, Result};
use crate::objects::causes;

/// Most attempts to commit. Each failed one is another writer's success.
const ATTEMPTS_MAX: u32 = 64;
/// Column that divided tables are partitioned by.
const PARTITION: &str = "task";

/// Checks that a table can be created here, or that the one that is here can be replaced.
///
/// # Errors
/// The table cannot be read, has other columns, or does not allow our commits; or plain Parquet lies here.
pub(crate) async fn check_target(location: &Location, schema: &StructType, by_task: bool) -> Result<()> {
    folder::refuse_plain(location).await?;
    let table = DeltaTable::open(location);
    match table.state().await? {
        Some(state) => table.refuse_other(&state, schema, by_task),
        None => Ok(()),
    }
}

/// The table's version, if the table contains this publication; its commit is durable then. O(log entries).
///
/// # Errors
/// The table cannot be read, plain Parquet lies here, or a disk fails.
pub(crate) async fn version_with(location: &Location, id: &str) -> Result<Option<u64>> {
    folder::refuse_plain(location).await?;
    let table = DeltaTable::open(location);
    let Some(state) = table.state().await? else { return Ok(None) };
    if !table.has(&state, id).await? {
        return Ok(None);
    }
    // The job that committed may have found the disk failing just then.
    location.make_durable("_delta_log")?;
    Ok(Some(state.version()))
}

/// Makes the files the table's newest version, and returns its number.
///
/// # Errors
/// The table cannot be read or written, has other columns, or other writers are always faster.
pub(crate) async fn commit(
    location: &Location,
    id: &str,
    schema: &StructType,
    by_task: bool,
    files: &[PlacedFile],
) -> Result<u64> {
    let table = DeltaTable::open(location);
    for attempt in 0..ATTEMPTS_MAX {
        let state = table.state().await?;
        if let Some(state) = &state {
            table.refuse_other(state, schema, by_task)?;
            if table.has(state, id).await? {
                return Ok(state.version());
            }
        }
        let actions = actions(state.as_ref(), schema, by_task, files).map_err(|e| table.failed(&e))?;
        match table.try_commit(state.as_ref(), id, by_task, actions).await {
            Ok(version) => return Ok(version),
            Err(e) if overtaken(&e) => {
                tracing::debug!("another writer has committed to {location}: trying again");
                tokio::time::sleep(Duration::from_millis(u64::from(attempt.min(20)) * 10)).await;
            }
            // The commit itself may have succeeded: its answer was lost, or what came after it failed.
            Err(e) => match version_with(location, id).await {
                Ok(Some(version)) => return Ok(version),
                _ => return Err(table.failed(&e)),
            },
        }
    }
    Err(Error::runtime("the Delta table could not be committed")
        .path(location.to_string())
        .expected("a free version")
        .found(format!("other writers took the next version {ATTEMPTS_MAX} times"))
        .remedy("run the same command again when fewer jobs write to the table"))
}

/// Whether a commit failed because another one came before it.
fn overtaken(error: &DeltaTableError) -> bool {
    matches!(
        error,
        DeltaTableError::VersionAlreadyExists(_)
            | DeltaTableError::Transaction {
                source: TransactionError::MaxCommitAttempts(_)
                    | TransactionError::VersionAlreadyExists(_)
                    | TransactionError::CommitConflict(_)
            }
    )
}

/// The actions of a commit: files added, files removed, and for a new table its protocol and schema. Pure. Files that
/// stay are neither added nor removed: the protocol forbids a path in both.
fn actions(
    state: Option<&DeltaTableState>,
    schema: &StructType,
    by_task: bool,
    files: &[PlacedFile],
) -> std::result::Result<Vec<Action>, DeltaTableError> {
    let mut actions = Vec::new();
    let mut new: BTreeMap<&str, &PlacedFile> = files.iter().map(|file| (file.path.as_str(), file)).collect();
    match state {
        None => {
            let protocol: Protocol = serde_json::from_str(r#"{"minReaderVersion": 1, "minWriterVersion": 2}"#)?;
            actions.push(Action::Protocol(protocol));
            let partitions: &[&str] = if by_task { &[PARTITION] } else { &[] };
            actions.push(Action::Metadata(new_metadata(schema, partitions, [] as [(&str, &str); 0])?));
        }
        Some(state) => {
            for file in state.log_data().iter() {
                if new.remove(file.path().as_ref()).is_none() {
                    actions.push(Action::Remove(file.remove_action(true)));
                }
            }
        }
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64);
    actions.extend(new.into_values().map(|file| Action::Add(add(file, now))));
    Ok(actions)
}

fn add(file: &PlacedFile, now_ms: i64) -> Add {
    let task = |task: &String| (PARTITION.to_owned(), Some(task.clone()));
    Add {
        path: file.path.clone(),
        partition_values: file.task.iter().map(task).collect::<HashMap<_, _>>(),
        size: file.bytes as i64,
        modification_time: now_ms,
        data_change: true,
        stats: Some(file.stats.clone()),
        ..Default::default()
    }
}

/// A Delta table, which may not exist yet.
struct DeltaTable<'a> {
    location: &'a Location,
    log: LogStoreRef,
}

impl<'a> DeltaTable<'a> {
    fn open(location: &'a Location) -> DeltaTable<'a> {
        let log = default_logstore(location.store(), location.root(), location.url(), &StorageConfig::default());
        DeltaTable { location, log }
    }

    /// The newest version; `None`: there is no table yet.
    async fn state(&self) -> Result<Option<DeltaTableState>> {
        if !self.log.is_delta_table_location().await.map_err(|e| self.failed(&e))? {
            return Ok(None);
        }
        DeltaTableState::try_new(self.log.as_ref(), None).await.map(Some).map_err(|e| self.failed(&e))
    }

    /// Whether the table contains a publication.
    async fn has(&self, state: &DeltaTableState, id: &str) -> Result<bool> {
        let found = state.transaction_version(self.log.as_ref(), app_id(id)).await.map_err(|e| self.failed(&e))?;
        Ok(found.is_some())
    }

    /// Refuses a table of other columns, which holds other data, and one in which our commits would not be valid.
    fn refuse_other(&self, state: &DeltaTableState, schema: &StructType, by_task: bool) -> Result<()> {
        let description = |schema: &StructType, partitions: &[String]| {
            let columns: Vec<String> =
                schema.fields().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
            let by = if partitions.is_empty() { String::new() } else { format!(", by {}", partitions.join(", ")) };
            columns.join(", ") + &by
        };
        let ours: Vec<String> = by_task.then(|| PARTITION.to_owned()).into_iter().collect();
        let (expected, found) =
            (description(schema, &ours), description(&state.schema(), state.metadata().partition_columns()));
        if expected == found {
            let snapshot = state.snapshot();
            let open = PROTOCOL.can_write_to(snapshot).and_then(|()| PROTOCOL.check_append_only(snapshot));
            return open.map_err(|e| {
                Error::input("the Delta table does not allow a batch table")
                    .path(self.location.to_string())
                    .expected("a table whose files may be removed, without features unknown to this batchmine")
                    .found(e.to_string())
                    .remedy("give another place to --table-out")
            });
        }
        Err(Error::input("the Delta table is not a batch table like this one")
            .path(self.location.to_string())
            .expected(format!("columns {expected}"))
            .found(format!("columns {found}"))
            .remedy("give another place to --table-out: a table keeps its columns and its partitions"))
    }

    async fn try_commit(
        &self,
        state: Option<&DeltaTableState>,
        id: &str,
        by_task: bool,
        actions: Vec<Action>,
    ) -> std::result::Result<u64, DeltaTableError> {
        let operation = DeltaOperation::Write {
            mode: SaveMode::Overwrite,
            partition_by: by_task.then(|| vec![PARTITION.to_owned()]),
            predicate: None,
        };
        let about = [("engine".to_owned(), concat!("batchmine ", env!("CARGO_PKG_VERSION")).into())];
        let properties = CommitProperties::default()
            .with_metadata(about)
            // The removed files depend on the current ones: after any other commit the actions are computed again.
            .with_max_retries(0)
            // Old versions stay readable until the table's owner cleans up.
            .with_cleanup_expired_logs(Some(false))
            .with_application_transaction(Transaction::new(app_id(id), 1));
        let state = state.map(|state| state as &dyn TableReference);
        let commit =
            CommitBuilder::from(properties).with_actions(actions).build(state, self.log.clone(), operation).await?;
        Ok(commit.version())
    }

    fn failed(&self, error: &DeltaTableError) -> Error {
        Error::runtime("the Delta table cannot be read or written")
            .path(self.location.to_string())
            .found(causes(error))
            .remedy("fix the cause and run the same command again: the batches are kept, and what is uploaded is used")
    }
}

/// A publication's name in the log.
fn app_id(id: &str) -> String {
    format!("batchmine-{id}")
}
