//! Flags, environment and `batchmine.toml` become one validated [`Config`], once.
//!
//! Precedence: task's table in the file > flag > `BATCHMINE_*` environment variable > file > default. Everything behind this
//! module may take a [`Config`]'s invariants for granted: K divides the batch size, counts are not
//! zero, the rank window is within bounds.

mod choices;
mod gpu;
mod settings;
mod table;
mod tasks;
mod window;

use std::collections::BTreeMap;

use serde::Serialize;

pub use choices::{Backend, BinaryType, EdgeRule, KernelPrecision, Method, Metric, RankLayout, Remainder};
pub use gpu::GpuRules;
pub use settings::Settings;
pub use table::{PartitionBy, TableFormat, TableRules};
pub use tasks::{ByTask, Sizes, TaskRules, TaskSettings};
pub use window::{Limit, RankWindow, ScoreLimits, WINDOW_MAX};

use crate::error::{Error, Result};

/// Largest batch.
pub const BATCH_SIZE_MAX: u32 = 65_536;
/// Most hard negatives of an example.
pub const HARD_NEGATIVES_MAX: u32 = 256;

/// Which columns of the shards hold what.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Columns {
    /// The embeddings: one column for both sides, or two; names may be left to be found.
    pub embeddings: EmbeddingColumns,
    /// Ids; `None`: a column called `id` if there is one, else the row number.
    pub id: Option<String>,
    /// Tasks; `None`: one task.
    pub task: Option<String>,
    /// Keys that forbid two rows to be negatives of each other.
    pub keys: Vec<String>,
    /// Number type of `fixed_size_binary` columns.
    pub dtype: Option<BinaryType>,
}

/// The embedding columns that the user named.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum EmbeddingColumns {
    /// Query and positive apart; a `None` is found by its usual names.
    Pair {
        /// Query column.
        query: Option<String>,
        /// Positive column.
        positive: Option<String>,
    },
    /// One column serves as query and as positive.
    Shared(String),
}

/// How clusters are grown.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClusterRules {
    /// K, of tasks that have none of their own.
    pub size: u32,
    /// Passes of swap refinement.
    pub passes: u32,
    /// λ: what a suspect pair inside a cluster costs, where an edge in the window gains 1.
    pub suspect_weight: f32,
}

/// How batches are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BatchRules {
    /// |B|, of tasks that have none of their own, and of batches that `fill` unites.
    pub size: u32,
    /// What becomes of rows that fill no whole batch.
    pub remainder: Remainder,
    /// Epochs to write.
    pub epochs: u32,
    /// h: hard negatives of each example.
    pub hard_negatives: u32,
    /// W: ranks that share a batch; |B|/W is a multiple of K.
    pub world_size: u32,
    /// Which positions are which rank's.
    pub rank_layout: RankLayout,
}

/// One validated job.
#[derive(Debug, Clone)]
pub struct Config {
    /// Files, folders and globs, as given.
    pub inputs: Vec<String>,
    /// Columns.
    pub columns: Columns,
    /// Metric.
    pub metric: Metric,
    /// Rank window, with its score limits, of tasks that have none of their own.
    pub window: RankWindow,
    /// What holds for tasks that the user has given settings of their own.
    pub tasks: BTreeMap<String, TaskRules>,
    /// Edge rule.
    pub edges: EdgeRule,
    /// Cluster rules.
    pub clusters: ClusterRules,
    /// Batch rules.
    pub batches: BatchRules,
    /// The batch table to publish besides the run folder's own.
    pub table: Option<TableRules>,
    /// Seed of all randomness.
    pub seed: u64,
    /// Search backend.
    pub backend: Backend,
    /// What a search on GPUs needs to know.
    pub gpu: GpuRules,
    /// Exact or approximate search.
    pub method: Method,
    /// Numbers of the CPU's search.
    pub precision: KernelPrecision,
    /// Memory budget in bytes.
    pub memory_bytes: u64,
    /// Worker threads.
    pub threads: usize,
}

impl Config {
    /// Validates settings into a job.
    ///
    /// # Errors
    /// Numbers out of range, or K that does not divide the batch size; the message names the flag.
    pub fn new(inputs: Vec<String>, settings: Settings) -> Result<Config> {
        let metric = settings.metric.unwrap_or(Metric::Cosine);
        let limits = ScoreLimits {
            relative_margin: settings.relative_margin.and_then(Limit::at),
            max_score: settings.max_score.and_then(Limit::at),
            min_score: settings.min_score.and_then(Limit::at),
        };
        let window = RankWindow { skip: settings.skip.unwrap_or(10), width: settings.window.unwrap_or(100), limits };
        let window = window.checked(metric)?;
        let clusters = ClusterRules {
            size: settings.cluster_size.unwrap_or(8),
            passes: settings.cluster_passes.unwrap_or(5),
            suspect_weight: settings.suspect_weight.unwrap_or(0.5),
        };
        let batches = BatchRules {
            size: settings.batch_size.unwrap_or(1024),
            remainder: settings.remainder.unwrap_or(Remainder::Short),
            epochs: settings.epochs.unwrap_or(1),
            hard_negatives: settings.hard_negatives.unwrap_or(0),
            world_size: settings.world_size.unwrap_or(1),
            rank_layout: settings.rank_layout.unwrap_or(RankLayout::Contiguous),
        };
        let sizes = Sizes { cluster_size: clusters.size, batch_size: batches.size }.checked()?;
        check_world_size(batches.world_size, sizes)?;
        if batches.hard_negatives > HARD_NEGATIVES_MAX {
            return Err(Error::input("there are too many hard negatives")
                .expected(format!("--hard-negatives from 0 to {HARD_NEGATIVES_MAX}"))
                .found(batches.hard_negatives.to_string())
                .remedy("the paper draws 5; 0 draws none"));
        }
        if !(0.0..=100.0).contains(&clusters.suspect_weight) {
            return Err(Error::input("the suspect weight is out of range")
                .expected("--suspect-weight from 0 to 100")
                .found(clusters.suspect_weight.to_string())
                .remedy("0 ignores suspects, 0.5 is the default"));
        }
        if batches.epochs == 0 || batches.epochs > 10_000 {
            return Err(Error::input("the number of epochs is out of range")
                .expected("--epochs from 1 to 10000")
                .found(batches.epochs.to_string())
                .remedy("each epoch writes the whole batch table once more"));
        }
        let method = match (settings.search.unwrap_or(Method::Exact), settings.recall) {
            (Method::Lists { probes: None, .. }, Some(recall)) if recall > 0.0 && recall <= 1.0 => {
                Method::Lists { probes: None, recall }
            }
            (method, None) => method,
            (method, Some(recall)) => {
                return Err(Error::input("the recall cannot be aimed at")
                    .expected("--recall above 0 and at most 1, with --search ivf")
                    .found(format!("--recall {recall} --search {}", String::from(method)))
                    .remedy("exact search has recall 1; --search ivf:PROBES fixes the effort instead"));
            }
        };
        let threads = settings.threads.unwrap_or_else(all_threads);
        if threads == 0 || threads > 4096 {
            return Err(Error::input("the number of threads is out of range")
                .expected("--threads from 1 to 4096")
                .found(threads.to_string())
                .remedy("leave --threads out to use every core"));
        }
        let backend = settings.backend.unwrap_or(Backend::Auto);
        if backend == Backend::Faiss && !cfg!(feature = "faiss") {
            return Err(Error::input("this build has no FAISS in it")
                .expected("--backend auto or --backend cpu")
                .found("--backend faiss")
                .remedy(
                    "build it with FAISS: `cargo build --release --features faiss` (needs cmake, g++ and libopenblas-dev)",
                ));
        }
        let gpu = GpuRules::new(&settings, backend == Backend::FaissGpu)?;
        if matches!(backend, Backend::Faiss | Backend::FaissGpu) && method != Method::Exact {
            return Err(Error::input("FAISS is an exact backend here")
                .expected("--search exact with --backend faiss or faiss-gpu")
                .found(format!("--search {}", String::from(method)))
                .remedy("leave --backend out: approximate search is the cpu backend's"));
        }
        if let Some(task) = settings.task.keys().next().filter(|_| settings.task_column.is_none()) {
            return Err(Error::input("a task has settings, and there are no tasks")
                .task(task)
                .expected("--task-column, or task-column in the file")
                .found(format!("[task.\"{task}\"] and no task column"))
                .remedy("name the column whose values the tables are for"));
        }
        let job = TaskRules { window, sizes };
        let mut tasks = BTreeMap::new();
        for (name, own) in &settings.task {
            let own = job.with(own, name, metric)?;
            check_world_size(batches.world_size, own.sizes).map_err(|error| error.task(name))?;
            tasks.insert(name.clone(), own);
        }
        let table = TableRules::new(&settings)?;
        let embeddings = match settings.embedding_column {
            Some(column) => EmbeddingColumns::Shared(column),
            None => EmbeddingColumns::Pair { query: settings.query_column, positive: settings.positive_column },
        };
        Ok(Config {
            inputs,
            columns: Columns {
                embeddings,
                id: settings.id_column,
                task: settings.task_column,
                keys: settings.key_column,
                dtype: settings.dtype,
            },
            metric,
            window,
            tasks,
            edges: settings.edges.unwrap_or(EdgeRule::by_sizes(sizes)),
            clusters,
            batches,
            table,
            seed: settings.seed.unwrap_or(0),
            backend,
            gpu,
            method,
            precision: settings.precision.unwrap_or(KernelPrecision::Int8),
            memory_bytes: settings.memory.map_or_else(half_of_memory, |size| size.as_u64()),
            threads,
        })
    }
}

impl Config {
    /// Whether devices are sought.
    pub fn seeks_gpus(&self) -> bool {
        let allowed = matches!(self.backend, Backend::Auto | Backend::FaissGpu) && self.method == Method::Exact;
        allowed && self.gpu.plugin.is_some()
    }

    /// Every task's rank window.
    pub fn windows(&self) -> ByTask<RankWindow> {
        ByTask::new(self.window, self.tasks.iter().map(|(name, own)| (name, own.window)))
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

/// Whether ranks can share a batch in whole clusters.
fn check_world_size(world_size: u32, sizes: Sizes) -> Result<()> {
    let Sizes { cluster_size, batch_size } = sizes;
    let share = u64::from(world_size) * u64::from(cluster_size);
    let size = u64::from(batch_size);
    if world_size > 0 && size.is_multiple_of(share) {
        return Ok(());
    }
    let larger = size.next_multiple_of(share.max(1));
    Err(Error::input("the ranks cannot share a batch in whole clusters")
        .expected(
            "--world-size of at least 1, and a --batch-size that is a multiple of --world-size times --cluster-size",
        )
        .found(format!("--world-size {world_size} --cluster-size {cluster_size} --batch-size {batch_size}"))
        .remedy(match world_size {
            0 => "one process is --world-size 1".into(),
            _ if larger > u64::from(BATCH_SIZE_MAX) => "lower --cluster-size, or train with fewer ranks".into(),
            _ => format!("try --batch-size {larger}, or a smaller --cluster-size"),
        }))
}

/// A choice's name in flags and files.
pub(crate) fn name_of(choice: impl clap::ValueEnum) -> String {
    choice.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn all_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// Half of the machine's memory, or of its cgroup's limit where that is lower.
pub(crate) fn half_of_memory() -> u64 {
    let known = sysinfo::System::new().ok().map(|mut system| {
        system.refresh_memory();
        let machine = system.total_memory();
        system.cgroup_limits().map_or(machine, |limits| limits.total_memory.min(machine))
    });
    known.unwrap_or(0).max(1 << 30) / 2
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
        assert_eq!(config.window, RankWindow { skip: 10, width: 100, limits: ScoreLimits::default() });
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
