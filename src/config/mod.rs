//! Flags, environment and `batchmine.toml` become one validated [`Config`], once.
//!
//! Precedence: task's table in the file > flag > `BATCHMINE_*` environment variable > file > default. Everything behind
//! this module may take a [`Config`]'s invariants for granted: K divides the batch size, counts are not zero, the rank
//! window is within bounds.

mod batches;
mod by_task;
mod choices;
mod columns;
mod gpu;
mod idle;
mod inputs;
mod machine;
mod mix;
mod settings;
mod sizes;
mod table;
mod tasks;
mod threshold;
mod verdicts;
mod window;

use std::collections::BTreeMap;

pub use batches::{BatchRules, ClusterRules, HARD_NEGATIVES_MAX};
pub use by_task::ByTask;
pub use choices::{
    Backend, BadRows, BinaryType, EdgeRule, EmptyKeys, KernelPrecision, Mask, Method, Metric, NegativesOf, PartitionBy,
    Pieces, RankBy, RankLayout, Remainder, SameQuery, TableFormat,
};
pub use columns::{Columns, EmbeddingColumns, IdColumn};
pub use gpu::GpuRules;
pub use inputs::Inputs;
pub use machine::half_of_memory;
pub use mix::{MixRule, MixRules};
pub use settings::{Flag, FlagValue, Settings};
pub use sizes::{BATCH_SIZE_MAX, Sizes};
pub use table::TableRules;
pub use tasks::{RankRule, TaskRules, TaskSettings};
pub use threshold::Threshold;
pub use verdicts::VerdictRules;
pub use window::{Limit, RankWindow, ScoreLimits, WINDOW_MAX, Width};

use crate::error::{Error, Result};

/// The settings of one job, validated.
#[derive(Debug, Clone)]
pub struct Config {
    pub inputs: Inputs,
    pub columns: Columns,
    /// Files, folders and globs of documents that no row has as its positive, as given.
    pub corpus: Vec<String>,
    /// What becomes of rows with one query.
    pub same_query: SameQuery,
    pub metric: Metric,
    /// Rank window, with its score limits, of tasks that have none of their own.
    pub window: RankWindow,
    /// What takes a rank in tasks that have no rule of their own.
    pub rank_by: RankBy,
    /// What holds for tasks that the user has given settings of their own.
    pub tasks: BTreeMap<String, TaskRules>,
    pub edges: EdgeRule,
    /// Pairs that were judged.
    pub verdicts: VerdictRules,
    /// Rows whose own positive has a higher rank are in no cluster and no batch.
    pub max_own_rank: Option<u32>,
    pub clusters: ClusterRules,
    pub batches: BatchRules,
    /// How often the batches of each task come in an epoch; none: once each, in any order.
    pub mix: Option<MixRules>,
    /// The batch table to publish besides the run folder's own.
    pub table: Option<TableRules>,
    /// Seed of all randomness.
    pub seed: u64,
    /// Who computes the search.
    pub backend: Backend,
    pub gpu: GpuRules,
    /// Exact or approximate search.
    pub method: Method,
    /// Numbers that the CPU's search filters with.
    pub precision: KernelPrecision,
    /// Who makes the parts of the search and of the graph.
    pub pieces: Pieces,
    /// Memory budget in bytes.
    pub memory_bytes: u64,
    pub threads: usize,
    /// A sentence for each setting that is given and has no effect.
    pub idle: Vec<String>,
}

impl Config {
    /// Validates settings into a job.
    ///
    /// # Errors
    /// No input, numbers out of range, or K that does not divide the batch size; the message names the flag.
    pub fn new(paths: Vec<String>, settings: Settings) -> Result<Config> {
        Config::of(Inputs::new(paths, &settings)?, settings)
    }

    /// Validates settings into a job whose rows come from elsewhere than from files.
    ///
    /// # Errors
    /// See [`Config::new`]; or the settings name files.
    pub fn without_files(settings: Settings) -> Result<Config> {
        Inputs::refuse_files(&settings)?;
        Config::of(Inputs::default(), settings)
    }

    fn of(inputs: Inputs, settings: Settings) -> Result<Config> {
        let metric = settings.metric.unwrap_or(Metric::Cosine);
        let rank_by = settings.rank_by.unwrap_or_default();
        let window = job_window(&settings, metric, rank_by)?;
        let (clusters, batches) = (ClusterRules::new(&settings)?, BatchRules::new(&settings)?);
        let sizes = Sizes { cluster_size: clusters.size, batch_size: batches.size }.checked()?;
        batches.check_share(sizes)?;
        let method = Method::new(settings.search, settings.recall)?;
        let threads = machine::threads(settings.threads)?;
        let (backend, gpu) = checked_backend(&settings, method)?;
        let mix = MixRule { weight: None, max_batches: settings.max_task_batches }.checked()?;
        let tasks = task_rules(&settings, TaskRules { window, rank_by, sizes, mix }, metric, &batches)?;
        let mixes = ByTask::new(mix, tasks.iter().map(|(name, own)| (name, own.mix)));
        Ok(Config {
            inputs,
            same_query: settings.same_query.unwrap_or_default(),
            metric,
            window,
            rank_by,
            tasks,
            edges: settings.edges.unwrap_or(EdgeRule::by_sizes(sizes)),
            verdicts: VerdictRules::new(&settings)?,
            max_own_rank: own_rank_limit(&settings)?,
            clusters,
            batches,
            mix: MixRules {
                task_temperature: settings.task_temperature,
                max_task_repeats: settings.max_task_repeats,
                tasks: mixes,
            }
            .checked(batches.remainder)?,
            table: TableRules::new(&settings)?,
            seed: settings.seed.unwrap_or(0),
            backend,
            gpu,
            method,
            precision: settings.precision.unwrap_or(KernelPrecision::Auto),
            pieces: settings.pieces.unwrap_or_default(),
            memory_bytes: settings.memory.map_or_else(half_of_memory, |size| size.as_u64()),
            threads,
            idle: idle::idle(&settings, backend, method),
            corpus: settings.corpus.clone(),
            columns: Columns::new(settings)?,
        })
    }

    /// Whether devices are sought.
    pub fn seeks_gpus(&self) -> bool {
        let allowed = matches!(self.backend, Backend::Auto | Backend::FaissGpu) && self.method == Method::Exact;
        allowed && self.gpu.plugin.is_some()
    }

    /// Every task's rank window.
    pub fn windows(&self) -> ByTask<RankWindow> {
        ByTask::new(self.window, self.tasks.iter().map(|(name, own)| (name, own.window)))
    }

    /// What takes a rank in every task.
    pub fn ranks_by(&self) -> ByTask<RankBy> {
        ByTask::new(self.rank_by, self.tasks.iter().map(|(name, own)| (name, own.rank_by)))
    }

    /// What holds for tasks without settings of their own.
    fn job_rules(&self) -> TaskRules {
        let mix = self.mix.as_ref().map(|mix| mix.tasks.job).unwrap_or_default();
        TaskRules { window: self.window, rank_by: self.rank_by, sizes: self.sizes().job, mix }
    }

    /// Whether no task's ranks can be those of distinct positives.
    pub(crate) fn ranks_rows(&self) -> bool {
        self.ranks_by().each().all(|by| by == RankBy::Row)
    }

    /// What takes a rank in every task, and shares that windows are, as they are recorded.
    pub(crate) fn rank_rules(&self) -> ByTask<RankRule> {
        let job = self.job_rules();
        ByTask::new(job.ranked(), self.tasks.iter().map(|(name, own)| (name, own.ranked())))
    }

    /// What the settings come to in tasks of known names, rows and distinct positives: windows are numbers of ranks,
    /// and what takes a rank is decided.
    ///
    /// # Errors
    /// A share of the distinct positives is more ranks than a window can have.
    pub(crate) fn counted<'n>(&self, tasks: impl Iterator<Item = (&'n str, u64, u64)>) -> Result<Config> {
        let job = self.job_rules();
        let mut counted = BTreeMap::new();
        for (name, rows, distinct) in tasks {
            let own = self.tasks.get(name).copied().unwrap_or(job);
            let own = own.counted(rows, distinct, self.metric).map_err(|error| error.task(name))?;
            counted.insert(name.to_owned(), own);
        }
        // What the tasks have in common is the job's.
        let common = counted.values().next().copied().unwrap_or(job);
        let job = if counted.values().all(|own| *own == common) { common } else { job.counted(1, 1, self.metric)? };
        counted.retain(|name, own| self.tasks.contains_key(name) || *own != job);
        Ok(Config { window: job.window, rank_by: job.rank_by, tasks: counted, ..self.clone() })
    }

    /// Whether any task's ranks are those of distinct positives, as far as it is known.
    pub(crate) fn ranks_positives(&self) -> bool {
        self.ranks_by().each().any(|by| by == RankBy::Positive)
    }

    /// Every task's K and |B|.
    pub fn sizes(&self) -> ByTask<Sizes> {
        let job = Sizes { cluster_size: self.clusters.size, batch_size: self.batches.size };
        ByTask::new(job, self.tasks.iter().map(|(name, own)| (name, own.sizes)))
    }

    /// The most ranks that any task's search keeps.
    pub fn most_ranks(&self) -> u32 {
        self.windows().each().map(RankWindow::ranks).max().unwrap_or(0)
    }
}

/// The rank window of tasks that have none of their own.
fn job_window(settings: &Settings, metric: Metric, rank_by: RankBy) -> Result<RankWindow> {
    let limits = ScoreLimits {
        relative_margin: settings.relative_margin.and_then(Limit::at),
        max_score: settings.max_score.and_then(Limit::at),
        min_score: settings.min_score.and_then(Limit::at),
        max_query_score: settings.max_query_score.and_then(Limit::at),
        max_positive_score: settings.max_positive_score.and_then(Limit::at),
    };
    let width = settings.window.unwrap_or(Width::Ranks(100));
    RankWindow { skip: settings.skip.unwrap_or(10), width, limits }.checked(metric, rank_by)
}

/// R, where there is one.
fn own_rank_limit(settings: &Settings) -> Result<Option<u32>> {
    let Some(limit) = settings.max_own_rank.and_then(Limit::at) else { return Ok(None) };
    if limit.fract() != 0.0 || !(0.0..f64::from(WINDOW_MAX)).contains(&limit) {
        return Err(Error::input("the highest rank of own positives is out of range")
            .expected(format!("--max-own-rank with a whole number from 0 to {}, or none", WINDOW_MAX - 1))
            .found(limit.to_string())
            .remedy("own positives beyond p + m ranks are left out whatever the number is"));
    }
    Ok(Some(limit as u32))
}

/// The backend, if this build has it and it can search this way, and what it needs to know of GPUs.
fn checked_backend(settings: &Settings, method: Method) -> Result<(Backend, GpuRules)> {
    let backend = settings.backend.unwrap_or(Backend::Auto);
    if backend == Backend::Faiss && !cfg!(feature = "faiss") {
        return Err(Error::input("this build has no FAISS in it")
            .expected("--backend auto or --backend cpu")
            .found("--backend faiss")
            .remedy(
                "build it with FAISS: `cargo build --release --features faiss` (needs cmake, g++ and libopenblas-dev)",
            ));
    }
    let gpu = GpuRules::new(settings, backend == Backend::FaissGpu)?;
    if matches!(backend, Backend::Faiss | Backend::FaissGpu) && method != Method::Exact {
        return Err(Error::input("FAISS is an exact backend here")
            .expected("--search exact with --backend faiss or faiss-gpu")
            .found(format!("--search {}", String::from(method)))
            .remedy("leave --backend out: approximate search is the cpu backend's"));
    }
    Ok((backend, gpu))
}

/// The rules of tasks that have a table of their own.
fn task_rules(
    settings: &Settings,
    job: TaskRules,
    metric: Metric,
    batches: &BatchRules,
) -> Result<BTreeMap<String, TaskRules>> {
    if let Some(task) = settings.task.keys().next().filter(|_| settings.task_column.is_none()) {
        return Err(Error::input("a task has settings, and there are no tasks")
            .task(task)
            .expected("--task-column, or task-column in the file")
            .found(format!("[task.\"{task}\"] and no task column"))
            .remedy("name the column whose values the tables are for"));
    }
    let mut tasks = BTreeMap::new();
    for (name, own) in &settings.task {
        let own = job.with(own, name, metric)?;
        batches.check_share(own.sizes).map_err(|error| error.task(name))?;
        tasks.insert(name.clone(), own);
    }
    Ok(tasks)
}

/// A choice's name in flags and files.
pub(crate) fn name_of(choice: impl clap::ValueEnum) -> String {
    choice.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(settings: Settings) -> Result<Config> {
        Config::new(vec!["x".into()], settings)
    }

    #[test]
    fn defaults_are_those_that_training_chose() {
        let config = job(Settings::default()).unwrap();
        assert_eq!(config.window, RankWindow { skip: 10, width: Width::Ranks(100), limits: ScoreLimits::default() });
        assert_eq!((config.clusters.size, config.batches.size), (8, 1024));
        assert_eq!(config.edges, EdgeRule::Any);
    }

    #[test]
    fn clusters_that_are_much_of_a_batch_have_mutual_edges() {
        let edges = |k, b, edges| {
            let settings = Settings { cluster_size: Some(k), batch_size: Some(b), edges, ..Settings::default() };
            job(settings).unwrap().edges
        };
        assert_eq!(edges(16, 64, None), EdgeRule::Any);
        assert_eq!(edges(32, 64, None), EdgeRule::Mutual);
        assert_eq!(edges(32, 64, Some(EdgeRule::Any)), EdgeRule::Any);
    }

    #[test]
    fn cluster_size_must_divide_batch_size() {
        let error = job(Settings { cluster_size: Some(30), ..Settings::default() }).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--cluster-size 32"), "{error}");
    }

    #[test]
    fn ranks_share_batches_in_whole_clusters() {
        let of = |world| {
            let sizes = Settings { cluster_size: Some(32), batch_size: Some(192), ..Settings::default() };
            job(Settings { world_size: Some(world), ..sizes })
        };
        for world in [1, 2, 3, 6] {
            assert_eq!(of(world).unwrap().batches.world_size, world);
        }
        let error = of(4).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--batch-size 256"), "{error}");
        assert!(of(0).unwrap_err().to_string().contains("--world-size 1"));
        assert!(of(u32::MAX).unwrap_err().to_string().contains("fewer ranks"));
    }

    #[test]
    fn hard_negatives_have_a_limit() {
        let of = |count| job(Settings { hard_negatives: Some(count), ..Settings::default() });
        assert_eq!(of(256).unwrap().batches.hard_negatives, 256);
        assert!(of(257).unwrap_err().to_string().contains("--hard-negatives from 0 to 256"));
    }

    #[test]
    fn faiss_is_there_or_says_how_to_get_it() {
        let found = job(Settings { backend: Some(Backend::Faiss), ..Settings::default() });
        if cfg!(feature = "faiss") {
            assert_eq!(found.unwrap().backend, Backend::Faiss);
            return;
        }
        let error = found.unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--features faiss"), "{error}");
    }

    #[test]
    fn flags_are_stronger_than_the_file() {
        let file: Settings =
            toml::from_str("batch-size = 256\nskip = 5\nmemory = \"2GiB\"\nkey-column = [\"doc\"]").unwrap();
        let flags = Settings { batch_size: Some(64), ..Settings::default() };
        let config = job(flags.or(file)).unwrap();
        assert_eq!((config.batches.size, config.window.skip), (64, 5));
        assert_eq!(config.memory_bytes, 2 << 30);
        assert_eq!(config.columns.keys, ["doc"]);
    }

    #[test]
    fn limits_are_numbers_or_none_and_none_lifts_the_files() {
        let file: Settings = toml::from_str("relative-margin = 0.05\nmax-score = 1\nmin-score = \"none\"").unwrap();
        let flags = Settings { max_score: Some(Limit::None), ..Settings::default() };
        let limits = job(flags.or(file)).unwrap().window.limits;
        assert_eq!(limits, ScoreLimits { relative_margin: Some(0.05), ..ScoreLimits::default() });
        assert!(toml::from_str::<Settings>("max-score = \"high\"").is_err());
    }

    #[test]
    fn unknown_keys_in_the_file_are_refused() {
        assert!(toml::from_str::<Settings>("batch_size = 256").is_err());
    }
}
