//! Settings as the user writes them: flags, environment variables, or a TOML file with the same names.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args, Command, FromArgMatches};
use serde::Deserialize;

use super::{
    Backend, BadRows, BinaryType, EdgeRule, EmptyKeys, KernelPrecision, Limit, Mask, Method, Metric, NegativesOf,
    PartitionBy, Pieces, RankBy, RankLayout, Remainder, SameQuery, TableFormat, TaskSettings, Threshold, Width,
};
use crate::error::{Error, Result};
use crate::regular;

/// Longest configuration file.
const FILE_MAX: u64 = 4 << 20;

/// The settings of a job as the user wrote them: every field may be missing.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// .npy file, folder or glob of query embeddings (repeatable); --positive-file names as many files, in the same
    /// order
    #[arg(long, value_name = "FILE", env = "BATCHMINE_QUERY_FILE", hide_env = true, help_heading = "Input")]
    pub query_file: Vec<String>,
    /// .npy file, folder or glob of positive embeddings (repeatable): row N is the positive of row N of the query file
    #[arg(long, value_name = "FILE", env = "BATCHMINE_POSITIVE_FILE", hide_env = true, help_heading = "Input")]
    pub positive_file: Vec<String>,
    /// Column of query embeddings [default: query_embedding or another usual name]
    #[arg(long, value_name = "NAME", env = "BATCHMINE_QUERY_COLUMN", hide_env = true, help_heading = "Input")]
    pub query_column: Option<String>,
    /// Column of positive embeddings [default: positive_embedding or another usual name]
    #[arg(long, value_name = "NAME", env = "BATCHMINE_POSITIVE_COLUMN", hide_env = true, help_heading = "Input")]
    pub positive_column: Option<String>,
    /// One column for both sides (images, sentences); the row itself is its own positive
    #[arg(
        long,
        value_name = "NAME",
        env = "BATCHMINE_EMBEDDING_COLUMN",
        hide_env = true,
        conflicts_with_all = ["query_column", "positive_column"],
        help_heading = "Input"
    )]
    pub embedding_column: Option<String>,
    /// Column of ids; none: the row number [default: id if there, else the row number]
    #[arg(long, value_name = "NAME", env = "BATCHMINE_ID_COLUMN", hide_env = true, help_heading = "Input")]
    pub id_column: Option<String>,
    /// Mine each value of this column by itself [default: one task]
    #[arg(long, value_name = "NAME", env = "BATCHMINE_TASK_COLUMN", hide_env = true, help_heading = "Input")]
    pub task_column: Option<String>,
    /// Rows that share a value here are never negatives of each other (repeatable)
    #[arg(
        long,
        value_name = "NAME",
        env = "BATCHMINE_KEY_COLUMN",
        hide_env = true,
        value_delimiter = ',',
        help_heading = "Input"
    )]
    pub key_column: Vec<String>,
    /// A key column, too: rows that share a value here have one positive, which takes one rank with --rank-by positive
    #[arg(long, value_name = "NAME", env = "BATCHMINE_POSITIVE_KEY", hide_env = true, help_heading = "Input")]
    pub positive_key: Option<String>,
    /// Files, folders or globs of documents that no row has as its positive: candidates for ranks and hard negatives
    /// (repeatable)
    #[arg(long, value_name = "PATH", env = "BATCHMINE_CORPUS", hide_env = true, help_heading = "Input")]
    pub corpus: Vec<String>,
    /// Column of the corpus' embeddings [default: embedding, document_embedding or another usual name]
    #[arg(long, value_name = "NAME", env = "BATCHMINE_DOCUMENT_COLUMN", hide_env = true, help_heading = "Input")]
    pub document_column: Option<String>,
    /// Column of the corpus' ids; none: numbers behind the rows' [default: id if there, else such numbers]
    #[arg(long, value_name = "NAME", env = "BATCHMINE_DOCUMENT_ID_COLUMN", hide_env = true, help_heading = "Input")]
    pub document_id_column: Option<String>,
    /// Whether an empty text in a key column is no key, or a key that its rows share [default: missing]
    #[arg(long, value_enum, env = "BATCHMINE_EMPTY_KEYS", hide_env = true, help_heading = "Input")]
    pub empty_keys: Option<EmptyKeys>,
    /// Rows with bit-identical queries, or whose query is the other's positive [default: exclude]
    #[arg(long, value_enum, env = "BATCHMINE_SAME_QUERY", hide_env = true, help_heading = "Input")]
    pub same_query: Option<SameQuery>,
    /// Number type inside binary embeddings
    #[arg(long, value_enum, env = "BATCHMINE_DTYPE", hide_env = true, help_heading = "Input")]
    pub dtype: Option<BinaryType>,
    /// What int8 and uint8 embeddings are multiplied by [default: 1]
    #[arg(long, value_name = "S", env = "BATCHMINE_EMBEDDING_SCALE", hide_env = true, help_heading = "Input")]
    pub embedding_scale: Option<f32>,
    /// Rows with an embedding that is null, zero, not finite or of another length [default: refuse]
    #[arg(long, value_enum, env = "BATCHMINE_BAD_ROWS", hide_env = true, help_heading = "Input")]
    pub bad_rows: Option<BadRows>,
    /// How vectors are compared [default: cosine]
    #[arg(long, value_enum, env = "BATCHMINE_METRIC", hide_env = true, help_heading = "Mining")]
    pub metric: Option<Metric>,
    /// p: best ranks to skip as likely false negatives [default: 10]
    #[arg(long, value_name = "P", env = "BATCHMINE_SKIP", hide_env = true, help_heading = "Mining")]
    pub skip: Option<u32>,
    /// m: ranks after those that are preferred negatives, or a share of the distinct positives: 30% [default: 100]
    #[arg(long, value_name = "M", env = "BATCHMINE_WINDOW", hide_env = true, help_heading = "Mining")]
    pub window: Option<Width>,
    /// What takes a rank: every row's positive, or every distinct positive [default: auto]
    #[arg(long, value_enum, env = "BATCHMINE_RANK_BY", hide_env = true, help_heading = "Mining")]
    pub rank_by: Option<RankBy>,
    /// M: candidates above (1 − M) of the score of the query's own positive are suspects, too [default: none]
    #[arg(long, value_name = "M", env = "BATCHMINE_RELATIVE_MARGIN", hide_env = true, help_heading = "Mining")]
    pub relative_margin: Option<Limit>,
    /// Candidates above this score are suspects, too [default: none]
    #[arg(
        long,
        value_name = "SCORE",
        env = "BATCHMINE_MAX_SCORE",
        hide_env = true,
        allow_negative_numbers = true,
        help_heading = "Mining"
    )]
    pub max_score: Option<Limit>,
    /// Candidates below this score are neither suspects nor preferred negatives [default: none]
    #[arg(
        long,
        value_name = "SCORE",
        env = "BATCHMINE_MIN_SCORE",
        hide_env = true,
        allow_negative_numbers = true,
        help_heading = "Mining"
    )]
    pub min_score: Option<Limit>,
    /// Candidates whose query scores above this with the own query are suspects, too [default: none]
    #[arg(
        long,
        value_name = "SCORE",
        env = "BATCHMINE_MAX_QUERY_SCORE",
        hide_env = true,
        allow_negative_numbers = true,
        help_heading = "Mining"
    )]
    pub max_query_score: Option<Limit>,
    /// Candidates whose positive scores above this with the own positive are suspects, too [default: none]
    #[arg(
        long,
        value_name = "SCORE",
        env = "BATCHMINE_MAX_POSITIVE_SCORE",
        hide_env = true,
        allow_negative_numbers = true,
        help_heading = "Mining"
    )]
    pub max_positive_score: Option<Limit>,
    /// Leave out rows whose own positive ranks higher than this among the candidates, from 0 [default: none]
    #[arg(long, value_name = "RANK", env = "BATCHMINE_MAX_OWN_RANK", hide_env = true, help_heading = "Mining")]
    pub max_own_rank: Option<Limit>,
    /// Parquet files of judged pairs (repeatable): id and other_id, and a label, or a relevance from 0 to 1
    #[arg(long, value_name = "FILE", env = "BATCHMINE_VERDICTS", hide_env = true, help_heading = "Mining")]
    pub verdicts: Vec<String>,
    /// Relevance from which on a pair is judged positive, or two: below the first it is negative [default: 0.5]
    #[arg(long, value_name = "T", env = "BATCHMINE_VERDICT_THRESHOLD", hide_env = true, help_heading = "Mining")]
    pub verdict_threshold: Option<Threshold>,
    /// Which pairs become edges [default: any; mutual where K is more than a quarter of |B|]
    #[arg(long, value_enum, env = "BATCHMINE_EDGES", hide_env = true, help_heading = "Mining")]
    pub edges: Option<EdgeRule>,
    /// K: rows in a cluster; divides the batch size [default: 8]
    #[arg(long, value_name = "K", env = "BATCHMINE_CLUSTER_SIZE", hide_env = true, help_heading = "Mining")]
    pub cluster_size: Option<u32>,
    /// Passes of swap refinement over the graph [default: 5]
    #[arg(long, value_name = "N", env = "BATCHMINE_CLUSTER_PASSES", hide_env = true, help_heading = "Mining")]
    pub cluster_passes: Option<u32>,
    /// λ: how strongly a query and its suspect are kept out of a cluster [default: 0.5]
    #[arg(long, value_name = "LAMBDA", env = "BATCHMINE_SUSPECT_WEIGHT", hide_env = true, help_heading = "Mining")]
    pub suspect_weight: Option<f32>,
    /// |B|: rows in a batch [default: 1024]
    #[arg(long, value_name = "B", env = "BATCHMINE_BATCH_SIZE", hide_env = true, help_heading = "Batches")]
    pub batch_size: Option<u32>,
    /// What becomes of rows that fill no whole batch of their task [default: short]
    #[arg(long, value_enum, env = "BATCHMINE_REMAINDER", hide_env = true, help_heading = "Batches")]
    pub remainder: Option<Remainder>,
    /// h: hard negatives to draw for each example out of rank windows [default: 0]
    #[arg(long, value_name = "H", env = "BATCHMINE_HARD_NEGATIVES", hide_env = true, help_heading = "Batches")]
    pub hard_negatives: Option<u32>,
    /// Whose rank windows hard negatives come from [default: batch]
    #[arg(long, value_enum, env = "BATCHMINE_NEGATIVES_OF", hide_env = true, help_heading = "Batches")]
    pub negatives_of: Option<NegativesOf>,
    /// Which rows of a batch are no negatives of a row, by the column masked: none, or its suspects [default: none]
    #[arg(long, value_enum, env = "BATCHMINE_MASK", hide_env = true, help_heading = "Batches")]
    pub mask: Option<Mask>,
    /// R: most rows of a key in a batch; losses with several positives of a class take more than one [default: 1]
    #[arg(long, value_name = "R", env = "BATCHMINE_ROWS_PER_KEY", hide_env = true, help_heading = "Batches")]
    pub rows_per_key: Option<u32>,
    /// T: a task of n full batches has n^(1/T) parts of an epoch; 1 leaves tasks their sizes [default: none]
    #[arg(long, value_name = "T", env = "BATCHMINE_TASK_TEMPERATURE", hide_env = true, help_heading = "Batches")]
    pub task_temperature: Option<f64>,
    /// Most times that a batch of a task comes in an epoch by --task-temperature [default: none]
    #[arg(long, value_name = "C", env = "BATCHMINE_MAX_TASK_REPEATS", hide_env = true, help_heading = "Batches")]
    pub max_task_repeats: Option<u32>,
    /// Most full batches of a task in an epoch [default: none]
    #[arg(long, value_name = "N", env = "BATCHMINE_MAX_TASK_BATCHES", hide_env = true, help_heading = "Batches")]
    pub max_task_batches: Option<u32>,
    /// W: ranks that share each batch; no cluster is divided between two [default: 1]
    #[arg(long, value_name = "W", env = "BATCHMINE_WORLD_SIZE", hide_env = true, help_heading = "Batches")]
    pub world_size: Option<u32>,
    /// Which positions of a batch each rank reads [default: contiguous]
    #[arg(long, value_enum, env = "BATCHMINE_RANK_LAYOUT", hide_env = true, help_heading = "Batches")]
    pub rank_layout: Option<RankLayout>,
    /// Epochs to write; each unites the clusters anew [default: 1]
    #[arg(long, value_name = "N", env = "BATCHMINE_EPOCHS", hide_env = true, help_heading = "Batches")]
    pub epochs: Option<u32>,
    /// Seed of all randomness [default: 0]
    #[arg(long, value_name = "N", env = "BATCHMINE_SEED", hide_env = true, help_heading = "Batches")]
    pub seed: Option<u64>,
    /// Publish the batch table, too: delta commits a version of a Delta Lake table, parquet writes plain files
    #[arg(long, value_enum, env = "BATCHMINE_TABLE", hide_env = true, help_heading = "Batches")]
    pub table: Option<TableFormat>,
    /// Folder or URL (s3://, gs://, az://) of the published table [default: table/ in the run folder]
    #[arg(long, value_name = "PLACE", env = "BATCHMINE_TABLE_OUT", hide_env = true, help_heading = "Batches")]
    pub table_out: Option<String>,
    /// Divide the published table into Hive folders
    #[arg(long, value_enum, env = "BATCHMINE_PARTITION_BY", hide_env = true, help_heading = "Batches")]
    pub partition_by: Option<PartitionBy>,
    /// Who computes the search [default: auto]
    #[arg(long, value_enum, env = "BATCHMINE_BACKEND", hide_env = true, help_heading = "Resources")]
    pub backend: Option<Backend>,
    /// GPU plugin [default: libbatchmine_gpu.so beside the executable, if there]
    #[arg(long, value_name = "FILE", env = "BATCHMINE_GPU_PLUGIN", hide_env = true, help_heading = "Resources")]
    pub gpu_plugin: Option<PathBuf>,
    /// Seconds that a GPU may take for a tile before the tile is taken from it [default: 120]
    #[arg(long, value_name = "SECONDS", env = "BATCHMINE_GPU_TIMEOUT", hide_env = true, help_heading = "Resources")]
    pub gpu_timeout: Option<u32>,
    /// exact, or approximate: ivf, or ivf:PROBES [default: exact]
    #[arg(long, value_name = "METHOD", env = "BATCHMINE_SEARCH", hide_env = true, help_heading = "Mining")]
    pub search: Option<Method>,
    /// Recall that --search ivf reaches on a sample by choosing its probes [default: 0.95]
    #[arg(long, value_name = "SHARE", env = "BATCHMINE_RECALL", hide_env = true, help_heading = "Mining")]
    pub recall: Option<f64>,
    /// Numbers that the CPU's search filters with; the result is the same [default: auto]
    #[arg(long, value_enum, env = "BATCHMINE_PRECISION", hide_env = true, help_heading = "Resources")]
    pub precision: Option<KernelPrecision>,
    /// Who makes the parts of the search and of the graph: this process, or `batchmine work` in others [default: own]
    #[arg(long, value_enum, env = "BATCHMINE_PIECES", hide_env = true, help_heading = "Resources")]
    pub pieces: Option<Pieces>,
    /// Memory budget, such as 4GiB [default: half of the machine or its cgroup]
    #[arg(long, value_name = "SIZE", env = "BATCHMINE_MEMORY", hide_env = true, help_heading = "Resources")]
    pub memory: Option<bytesize::ByteSize>,
    /// Threads [default: all]
    #[arg(long, value_name = "N", env = "BATCHMINE_THREADS", hide_env = true, help_heading = "Resources")]
    pub threads: Option<usize>,
    /// What holds for single tasks, by name: tables of the file only
    #[arg(skip)]
    pub task: BTreeMap<String, TaskSettings>,
}

/// A setting's flag, for those who offer settings in another way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// Without the dashes before it.
    pub name: String,
    /// What it means, with its default.
    pub help: String,
    /// It may be given several times.
    pub is_list: bool,
    /// What a value may be.
    pub value: FlagValue,
}

/// What values of a flag may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlagValue {
    /// One of these words.
    Word(Vec<String>),
    Whole,
    Number,
    Text,
}

impl FlagValue {
    fn of(argument: &clap::Arg) -> FlagValue {
        let words: Vec<String> = argument.get_possible_values().iter().map(|word| word.get_name().to_owned()).collect();
        let parsed = argument.get_value_parser().type_id();
        let whole = [TypeId::of::<u32>(), TypeId::of::<u64>(), TypeId::of::<usize>()];
        if !words.is_empty() {
            FlagValue::Word(words)
        } else if whole.iter().any(|kind| parsed == *kind) {
            FlagValue::Whole
        } else if parsed == TypeId::of::<f32>() || parsed == TypeId::of::<f64>() {
            FlagValue::Number
        } else {
            FlagValue::Text
        }
    }
}

impl Settings {
    /// The flags of all settings, in the order of `mine --help`.
    pub fn flags() -> Vec<Flag> {
        let command = Settings::augment_args(Command::new("mine"));
        let flag = |argument: &clap::Arg| {
            let name = argument.get_long()?.to_owned();
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let is_list = matches!(argument.get_action(), ArgAction::Append);
            Some(Flag { name, help, is_list, value: FlagValue::of(argument) })
        };
        command.get_arguments().filter_map(flag).collect()
    }

    /// The settings that the environment has, `BATCHMINE_*`.
    ///
    /// # Errors
    /// A variable has a value that its setting cannot have.
    pub fn from_environment() -> Result<Settings> {
        let command = Settings::augment_args(Command::new("mine").no_binary_name(true));
        let none: [&str; 0] = [];
        let found = command.try_get_matches_from(none).and_then(|found| Settings::from_arg_matches(&found));
        found.map_err(|e| {
            Error::input("a variable of the environment has no value of its setting")
                .found(e.to_string().lines().next().unwrap_or_default().trim_start_matches("error: "))
                .remedy("correct it, or unset it")
        })
    }

    /// These settings, with `weaker` ones where a field is missing here.
    pub fn or(self, weaker: Settings) -> Settings {
        // A flag for one shape of input (one column, or two) overrides the file's other shape.
        let one = self.embedding_column.is_some();
        let two = self.query_column.is_some() || self.positive_column.is_some();
        let strongest = |own: Vec<String>, weaker: Vec<String>| if own.is_empty() { weaker } else { own };
        Settings {
            query_file: strongest(self.query_file, weaker.query_file),
            positive_file: strongest(self.positive_file, weaker.positive_file),
            query_column: self.query_column.or(weaker.query_column).filter(|_| !one),
            positive_column: self.positive_column.or(weaker.positive_column).filter(|_| !one),
            embedding_column: self.embedding_column.or(weaker.embedding_column).filter(|_| !two),
            id_column: self.id_column.or(weaker.id_column),
            task_column: self.task_column.or(weaker.task_column),
            key_column: strongest(self.key_column, weaker.key_column),
            positive_key: self.positive_key.or(weaker.positive_key),
            corpus: strongest(self.corpus, weaker.corpus),
            document_column: self.document_column.or(weaker.document_column),
            document_id_column: self.document_id_column.or(weaker.document_id_column),
            empty_keys: self.empty_keys.or(weaker.empty_keys),
            same_query: self.same_query.or(weaker.same_query),
            dtype: self.dtype.or(weaker.dtype),
            embedding_scale: self.embedding_scale.or(weaker.embedding_scale),
            bad_rows: self.bad_rows.or(weaker.bad_rows),
            metric: self.metric.or(weaker.metric),
            skip: self.skip.or(weaker.skip),
            window: self.window.or(weaker.window),
            rank_by: self.rank_by.or(weaker.rank_by),
            relative_margin: self.relative_margin.or(weaker.relative_margin),
            max_score: self.max_score.or(weaker.max_score),
            min_score: self.min_score.or(weaker.min_score),
            max_query_score: self.max_query_score.or(weaker.max_query_score),
            max_positive_score: self.max_positive_score.or(weaker.max_positive_score),
            max_own_rank: self.max_own_rank.or(weaker.max_own_rank),
            verdicts: strongest(self.verdicts, weaker.verdicts),
            verdict_threshold: self.verdict_threshold.or(weaker.verdict_threshold),
            edges: self.edges.or(weaker.edges),
            cluster_size: self.cluster_size.or(weaker.cluster_size),
            cluster_passes: self.cluster_passes.or(weaker.cluster_passes),
            suspect_weight: self.suspect_weight.or(weaker.suspect_weight),
            batch_size: self.batch_size.or(weaker.batch_size),
            remainder: self.remainder.or(weaker.remainder),
            hard_negatives: self.hard_negatives.or(weaker.hard_negatives),
            negatives_of: self.negatives_of.or(weaker.negatives_of),
            mask: self.mask.or(weaker.mask),
            rows_per_key: self.rows_per_key.or(weaker.rows_per_key),
            task_temperature: self.task_temperature.or(weaker.task_temperature),
            max_task_repeats: self.max_task_repeats.or(weaker.max_task_repeats),
            max_task_batches: self.max_task_batches.or(weaker.max_task_batches),
            world_size: self.world_size.or(weaker.world_size),
            rank_layout: self.rank_layout.or(weaker.rank_layout),
            epochs: self.epochs.or(weaker.epochs),
            seed: self.seed.or(weaker.seed),
            table: self.table.or(weaker.table),
            table_out: self.table_out.or(weaker.table_out),
            partition_by: self.partition_by.or(weaker.partition_by),
            backend: self.backend.or(weaker.backend),
            gpu_plugin: self.gpu_plugin.or(weaker.gpu_plugin),
            gpu_timeout: self.gpu_timeout.or(weaker.gpu_timeout),
            search: self.search.or(weaker.search),
            recall: self.recall.or(weaker.recall),
            precision: self.precision.or(weaker.precision),
            pieces: self.pieces.or(weaker.pieces),
            memory: self.memory.or(weaker.memory),
            threads: self.threads.or(weaker.threads),
            task: if self.task.is_empty() { weaker.task } else { self.task },
        }
    }

    /// Reads settings from a TOML file whose keys are the flags' names.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or has a key that is no flag's name.
    pub fn from_file(path: &Path) -> Result<Settings> {
        if let Err(e) = path.metadata() {
            return Err(Error::input("the configuration file cannot be read")
                .path(path)
                .found(e.to_string())
                .remedy("check the path given to --config"));
        }
        let text = regular::read_text(path, FILE_MAX)?;
        toml::from_str(&text).map_err(|e| {
            Error::input("the configuration file is not valid")
                .path(path)
                .expected("TOML with the flags' names as keys, such as: batch-size = 1024")
                .found(e.to_string().trim_end().replace('\n', "\n            "))
                .remedy("correct the line; `batchmine mine --help` lists the names")
        })
    }
}
