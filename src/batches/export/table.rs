//! The batch table of a run as the export reads it: the files of one epoch or of all.

use std::path::PathBuf;

use polars::prelude::*;

use super::chunks::Pick;
use super::engine;
use super::settings::Epochs;
use crate::error::{Error, Result};
use crate::regular;
use crate::run::record::BatchesSettings;
use crate::run::{RunReader, Stage};

/// The files, in order, and how many hard negatives of them are exported.
#[derive(Debug)]
pub(crate) struct BatchTable {
    paths: Vec<PathBuf>,
    /// Rows may be in an epoch several times, by the weight of their task.
    pub repeats: bool,
    /// Most negatives of a row that are exported; 0: none.
    pub negatives: u32,
}

impl BatchTable {
    /// Finds the files of some epochs. `negatives`: how many to export of each row; `None`: all.
    ///
    /// # Errors
    /// The run is not finished, has no such epoch, or has no negatives although some are requested.
    pub(crate) fn open(run: &RunReader, epochs: Epochs, negatives: Option<u32>) -> Result<BatchTable> {
        let record = run.stage(Stage::Batches)?;
        let folder = regular::utf8_path(&run.stage_folder(Stage::Batches), "the run folder")?;
        let wanted = |name: &&String| match epochs {
            Epochs::All => true,
            Epochs::One(epoch) => name.starts_with(&format!("part-{epoch:05}-")),
        };
        let names = record.parts.keys().filter(wanted);
        let paths = names.map(|name| run.part(Stage::Batches, name)).collect::<Result<Vec<PathBuf>>>()?;
        if paths.is_empty() {
            let count = run.settings::<BatchesSettings>()?.epochs;
            return Err(Error::input("the run has no such batches")
                .path(&folder)
                .expected(format!("--epoch from 0 to {}, or all", count.saturating_sub(1)))
                .found(match epochs {
                    Epochs::One(epoch) if epoch >= count => format!("--epoch {epoch}"),
                    _ => "an epoch without a batch".into(),
                })
                .remedy("choose another epoch, or mine with more --epochs"));
        }
        let repeats = run.settings::<BatchesSettings>()?.mix.is_some();
        let mut table = BatchTable { paths, repeats, negatives: 0 };
        let mut scan = table.scan()?;
        let schema = engine::guarded(|| scan.collect_schema())?;
        let listed = schema.get("negative_rows").is_some();
        if !listed && negatives.is_some_and(|count| count > 0) {
            return Err(Error::input("the run has no hard negatives")
                .path(&folder)
                .expected("a column negative_rows in the batch table")
                .found(format!("columns {}", schema.iter_names().map(|n| n.as_str()).collect::<Vec<_>>().join(", ")))
                .remedy("leave --negatives out, or mine with --hard-negatives"));
        }
        if listed && negatives != Some(0) {
            let most = engine::collect(table.scan()?.select([col("negative_rows").list().len().max()]))?;
            let most =
                most.column("negative_rows").and_then(|c| Ok(c.idx()?.get(0))).map_err(engine::failed)?.unwrap_or(0);
            table.negatives = negatives.unwrap_or(most).min(most);
            if most == 0 {
                tracing::warn!("no row of these batches has a hard negative: they are exported without");
            }
        }
        Ok(table)
    }

    /// `batch_id`, where wanted `cluster_id`, `row` and, if there are any, `negative_rows` of every row.
    ///
    /// # Errors
    /// None in practice: files are read when the frame is.
    pub(crate) fn rows(&self, with_clusters: bool) -> Result<LazyFrame> {
        let mut columns = vec![col("batch_id"), col("row")];
        columns.extend(with_clusters.then(|| col("cluster_id")));
        columns.extend((self.negatives > 0).then(|| self.cut("negative_rows")));
        Ok(self.scan()?.select(columns))
    }

    /// Whether any row has no negative, of a table with negatives.
    ///
    /// # Errors
    /// The table cannot be read.
    pub(crate) fn has_rows_without_negatives(&self) -> Result<bool> {
        let least = engine::collect(self.scan()?.select([col("negative_rows").list().len().min()]))?;
        let least = least.column("negative_rows").and_then(|column| Ok(column.idx()?.get(0)));
        Ok(least.map_err(engine::failed)? == Some(0))
    }

    /// The rows of a chunk in their order; the column `place` numbers them.
    ///
    /// # Errors
    /// The table cannot be read, or the chunk has more rows than a frame can have.
    pub(crate) fn chunk(&self, pick: &Pick) -> Result<DataFrame> {
        let names = ["epoch", "batch_id", "position", "cluster_id", "task", "id", "row", "score"];
        let mut columns: Vec<Expr> = names.into_iter().map(col).collect();
        if self.negatives > 0 {
            columns.extend(["negatives", "negative_rows", "negative_scores"].map(|name| self.cut(name)));
        }
        let frame = self.scan()?.select(columns);
        let rows = match pick {
            Pick::Rows(range) => {
                let rows = IdxSize::try_from(range.end - range.start);
                let rows = rows.map_err(|_| engine::damaged("more rows in a chunk than a frame can have"))?;
                engine::collect(frame.slice(range.start as i64, rows))?
            }
            Pick::Clusters(range, size) => {
                let number = || col("cluster_id");
                let inside = number().gt_eq(lit(range.start as i64)).and(number().lt(lit(range.end as i64)));
                let rows = engine::collect(frame.filter(inside))?;
                whole_clusters(&rows, *size, self.repeats).map_err(engine::failed)?
            }
        };
        rows.with_row_index("place".into(), None).map_err(engine::failed)
    }

    fn cut(&self, column: &str) -> Expr {
        col(column).list().head(lit(self.negatives))
    }

    fn scan(&self) -> Result<LazyFrame> {
        let paths = self.paths.iter().map(|path| PlRefPath::new(path.to_string_lossy())).collect();
        let arguments = ScanArgsParquet {
            glob: false,
            hive_options: polars::io::HiveOptions { enabled: Some(false), ..Default::default() },
            ..Default::default()
        };
        engine::guarded(|| LazyFrame::scan_parquet_files(paths, arguments))
    }
}

/// Rows sorted by cluster, and within it by place in the epoch; clusters of another size are dropped. Where rows come
/// several times, a cluster is what one batch has of it.
fn whole_clusters(rows: &DataFrame, size: u32, repeats: bool) -> PolarsResult<DataFrame> {
    let sorted = rows.sort(["cluster_id", "batch_id", "position"], SortMultipleOptions::default())?;
    let batch = |number: Option<i64>| number.filter(|_| repeats);
    let batches = sorted.column("batch_id")?.i64()?.iter().map(batch);
    let numbers: Vec<_> = sorted.column("cluster_id")?.i64()?.iter().zip(batches).collect();
    let whole = |group: &[(Option<i64>, Option<i64>)]| std::iter::repeat_n(group.len() == size as usize, group.len());
    let mask: BooleanChunked = numbers.chunk_by(|a, b| a == b).flat_map(whole).collect();
    sorted.filter(&mask)
}
