//! A job: its settings, input and plan, with every check that comes before work; and the stages in their order.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use arrow::array::RecordBatchReader;

use crate::batches::lake::Lake;
use crate::batches::{self, Forecast, Summary};
use crate::config::{Config, Inputs, Pieces, RankBy, RankWindow};
use crate::cost::Cost;
use crate::edges::JudgedFiles;
use crate::error::{Error, Result};
use crate::neighbors::window::refuse_empty_windows;
use crate::plan::Plan;
use crate::run::Run;
use crate::run::record::{
    BatchesSettings, ClustersSettings, CorpusSettings, EdgesSettings, FilePlace, JobSettings, NeighborsSettings,
    RankRules, VectorsSettings, VerdictSettings,
};
use crate::vectors::budget::InputMeasures;
use crate::vectors::{self, CheckedInput, MemoryRows, ShardFile, Shards, Vectors};
use crate::watch::Watch;
use crate::{allocator, clusters, edges, neighbors};

/// One validated job: settings, input files and plan.
#[derive(Debug)]
pub struct Job {
    pub config: Config,
    pub shards: Shards,
    /// The corpus' files, where there are any.
    pub corpus: Option<Shards>,
    /// Judged pairs, where there are any.
    pub(crate) judged: Option<JudgedFiles>,
    /// What the memory budget allows.
    pub plan: Plan,
    /// What beside the rows' shape decides what the job needs.
    measures: InputMeasures,
    /// Rows of each task, counted when they are first needed.
    tasks: OnceLock<BTreeMap<String, u64>>,
}

impl Job {
    /// Opens the input and checks all that can be known before work. Reads footers and headers of pages, and the task
    /// column where single tasks have settings. Takes fewer threads where the budget has no room for all.
    ///
    /// # Errors
    /// A file or column that is not there or does not fit, a rank window that leaves no row, a budget that is too
    /// small, settings for a task that the input does not have.
    pub fn open(config: Config) -> Result<Job> {
        let shards = Shards::open(&config.inputs, &config.columns)?;
        Job::of(config, shards)
    }

    /// Opens a job whose rows are in memory, which `config` names no file of. See [`Job::open`].
    ///
    /// # Errors
    /// Those of [`Job::open`].
    pub fn in_memory(config: Config, rows: MemoryRows) -> Result<Job> {
        let shards = Shards::in_memory(rows, &config.columns)?;
        Job::of(config, shards)
    }

    /// Mines the rows of an Arrow stream, which `config` names no file of, on as many threads as it says. They are
    /// written to a temporary file of the run folder first: what is not needed of them is left out.
    ///
    /// # Errors
    /// The stream or the disk fails; else those of [`Job::open`] and [`Job::run`].
    pub fn run_stream(config: Config, stream: impl RecordBatchReader, run: &Run, replace: bool) -> Result<Summary> {
        let path = vectors::keep_stream(run, stream, &config.columns).map_err(|error| run.explain(error))?;
        // A path that is there is taken as it is, whatever its letters mean in a glob.
        let inputs = Inputs::from(vec![path.to_string_lossy().into_owned()]);
        let done = Job::open(Config { inputs, ..config }).and_then(|job| job.run(run, replace));
        let swept = run.discard(&path);
        done.and_then(|summary| swept.map(|()| summary))
    }

    /// A job of this input, once it was checked.
    fn of(config: Config, shards: Shards) -> Result<Job> {
        refuse_listed_positives(&config, &shards)?;
        let mut shards = shards;
        let corpus = match &config.corpus[..] {
            [] => None,
            paths => Some(Shards::open_corpus(paths, &config.columns, &mut shards)?),
        };
        let judged = match &config.verdicts.files[..] {
            [] => None,
            _ => Some(JudgedFiles::open(&config.verdicts)?),
        };
        if let Some(judged) = &judged {
            judged.refuse_other_ids(shards.has_text_ids())?;
        }
        // What an epoch of tasks by weight holds follows from their rows.
        let tasks = config.mix.is_some().then(|| vectors::task_sizes(&shards, &config)).transpose()?;
        let measures = measures(&config, &shards, (corpus.as_ref(), judged.as_ref()), tasks.as_ref());
        let candidates = (shards.shape.rows + measures.documents) as usize;
        refuse_empty_windows(config.windows().each().map(|window| (window, candidates)))?;
        let (plan, threads) = Plan::on_fewer_threads(&config, shards.shape, measures)?;
        if threads < config.threads {
            let asked = config.threads;
            tracing::warn!("the memory budget has room for {threads} of {asked} threads: a larger --memory uses more");
        }
        let inputs = std::iter::once(&shards).chain(&corpus);
        inputs.for_each(|input| input.hold_blocks(plan.vectors.column_blocks));
        let config = Config { threads, ..config };
        let job = Job {
            config,
            shards,
            corpus,
            judged,
            plan,
            measures,
            tasks: tasks.map_or_else(OnceLock::new, OnceLock::from),
        };
        if !job.config.tasks.is_empty() {
            vectors::refuse_unknown_tasks(&job.config, &job.shards, job.tasks()?)?;
        }
        Ok(job)
    }

    /// Rows of each task, by name. Reads the task column the first time.
    ///
    /// # Errors
    /// The column cannot be read.
    pub fn tasks(&self) -> Result<&BTreeMap<String, u64>> {
        if let Some(tasks) = self.tasks.get() {
            return Ok(tasks);
        }
        let tasks = vectors::task_sizes(&self.shards, &self.config)?;
        Ok(self.tasks.get_or_init(|| tasks))
    }

    /// What labels allow: full batches, and a warning where keys take some. Reads the task column and the key columns;
    /// equal vectors are not known yet, nor are rows that will be left out if the input was not checked.
    ///
    /// # Errors
    /// A column cannot be read; or no batch can come out.
    pub(crate) fn forecast(&self, checked: Option<&CheckedInput>) -> Result<(Forecast, Option<String>)> {
        batches::foresee_labels(&self.shards, &self.config, checked.map(|checked| &checked.dropped))
    }

    /// Reads every row and checks it as import does, without a run folder. One pass over the embeddings.
    ///
    /// # Errors
    /// Rows that cannot be used, where they are not to be dropped; an id that is missing or there twice; a file that
    /// cannot be decoded.
    pub(crate) fn check_input(&self, watch: Watch<'_>) -> Result<CheckedInput> {
        let Job { config, shards, corpus, plan, .. } = self;
        let batch_rows = plan.vectors.batch_rows;
        on_threads(config.threads, || vectors::check_input(shards, corpus.as_ref(), config, batch_rows, watch))?
    }

    /// What the job costs, apart from memory.
    ///
    /// # Errors
    /// The task column cannot be read.
    pub fn cost(&self) -> Result<Cost> {
        let sides = if self.shards.roles.shared { 1 } else { 2 };
        let widths = self.shards.store_types.iter().take(sides).map(|store_type| store_type.bytes());
        let row_bytes = widths.sum::<usize>() * self.shards.shape.dim;
        Ok(Cost::new(&self.config, self.shards.shape, self.measures, row_bytes as u64, self.tasks()?))
    }

    /// Where the input files are, in the order of the settings' `inputs`.
    pub fn places(&self) -> Vec<FilePlace> {
        self.files().map(|file| file.place.clone()).collect()
    }

    /// All input files, the corpus' last.
    fn files(&self) -> impl Iterator<Item = &ShardFile> {
        self.shards.files().chain(self.corpus.iter().flat_map(Shards::files))
    }

    /// The settings that decide each stage's output: resources are not among them. What the input files contain is not
    /// known yet, but for their size and footer.
    pub fn settings(&self) -> JobSettings {
        let Job { config, shards, .. } = self;
        let windows = config.windows();
        let batches = config.batches;
        let others = windows.tasks.iter().map(|(name, own)| (name.clone(), own.ranks()));
        JobSettings {
            vectors: VectorsSettings {
                inputs: self.files().map(|file| file.identity.clone()).collect(),
                columns: shards.roles.clone(),
                corpus: self
                    .corpus
                    .as_ref()
                    .map(|corpus| CorpusSettings { files: corpus.files().count(), columns: corpus.roles.clone() }),
                empty_keys: config.columns.empty_keys,
                dtype: config.columns.dtype,
                embedding_scale: config.columns.scale,
                bad_rows: config.columns.bad_rows,
                metric: config.metric,
                same_query: config.same_query,
            },
            neighbors: NeighborsSettings {
                ranks: config.window.ranks(),
                search: config.method,
                tasks: others.filter(|(_, ranks)| *ranks != config.window.ranks()).collect(),
                candidates: RankRules { by: config.rank_rules(), positive_key: config.columns.positive_key.clone() },
            },
            edges: EdgesSettings {
                windows,
                edges: config.edges,
                max_own_rank: config.max_own_rank,
                verdicts: self
                    .judged
                    .as_ref()
                    .map(|judged| VerdictSettings { files: judged.contents(), threshold: config.verdicts.threshold }),
            },
            clusters: ClustersSettings {
                sizes: config.sizes(),
                cluster_passes: config.clusters.passes,
                suspect_weight: config.clusters.suspect_weight,
                rows_per_key: batches.rows_per_key,
            },
            batches: BatchesSettings {
                remainder: batches.remainder,
                epochs: batches.epochs,
                seed: config.seed,
                hard_negatives: batches.hard_negatives,
                negatives_of: batches.negatives_of,
                mask: batches.mask,
                mix: config.mix.clone(),
                rows_per_key: batches.rows_per_key,
                world_size: batches.world_size,
                rank_layout: batches.rank_layout,
            },
        }
    }

    /// The settings and the plan once the distinct positives of each task are known. O(rows).
    ///
    /// # Errors
    /// No row can have a preferred negative; a window that is a share comes to too many ranks; or the plan with the
    /// counted windows does not fit the budget.
    fn counted(&self, vectors: &Vectors) -> Result<CountedJob> {
        let (config, tasks) = (&self.config, &vectors.tasks);
        let distinct =
            neighbors::count_distinct(tasks, &vectors.row_positives(config.columns.positive_key.as_deref())?);
        let count = |task: usize| (tasks.name(task), tasks.range(task).len() as u64, distinct[task]);
        let counts = || (0..tasks.len()).map(count);
        let counted = config.counted(counts())?;
        let by = counted.ranks_by().all(tasks.names());
        let others = counts().zip(&by).enumerate().map(|(task, ((_, rows, distinct), by))| {
            let positives = if *by == RankBy::Positive { distinct } else { rows };
            positives as usize + vectors.documents_of(task).len()
        });
        refuse_empty_windows(counted.windows().all(tasks.names()).into_iter().zip(others))?;
        tell_of_positives(config, counts().zip(&by));
        tell_of_shares(config, &counted, tasks, &distinct);
        let plan = Plan::new(&counted, vectors.shape(), self.measures)?;
        Ok(CountedJob { config: counted, plan })
    }

    /// Mines into a run folder, on as many threads as the job says. Parts that are there are not made again.
    ///
    /// # Errors
    /// See [`mine`]; or the threads cannot be started.
    pub fn run(&self, run: &Run, replace: bool) -> Result<Summary> {
        on_threads(self.config.threads, || mine(run, self, replace))?.map_err(|error| run.explain(error))
    }
}

/// The whole job: shards in, batch tables out. Parts that the run folder already has are not made again. Of a finished
/// run no file is opened: only its table may be published.
///
/// It works in the caller's thread pool; [`Job::run`] starts one of its own.
///
/// # Errors
/// Settings other than those of the run folder (without `replace`), bad input named by file and row, an interrupt, or a
/// disk that fails.
pub fn mine(run: &Run, job: &Job, replace: bool) -> Result<Summary> {
    let Job { config, shards, corpus, judged, plan, .. } = job;
    if config.pieces == Pieces::External {
        run.refuse_work_folder()?;
    }
    // Before the search: a place where the table cannot be written is refused at once.
    let lake = Lake::open(config.table.as_ref(), run)?;
    let mut settings = job.settings();
    let all: Vec<_> = shards.list.iter().chain(corpus.iter().flat_map(|corpus| &corpus.list)).collect();
    vectors::recognise(run, &all, &mut settings.vectors.inputs)?;
    run.apply_settings(&settings, job.places(), replace)?;
    if run.is_finished() {
        batches::check(run)?;
        lake.check_target(run, config)?;
        lake.publish(run, config, &plan.batches, replace)?;
        run.succeed()?;
        return Ok(Summary { was_finished: true, ..batches::recorded(run)? });
    }
    let vectors = vectors::import(run, shards, corpus.as_ref(), config, &plan.vectors)?;
    let CountedJob { config, plan } = &job.counted(&vectors)?;
    lake.check_target(run, config)?;
    batches::foresee(&vectors, shards, config)?;
    edges::verdicts::foresee(&vectors, judged.as_ref())?;
    // What a stage has freed is no part of the next one's budget.
    allocator::give_back();
    let neighbors = neighbors::search(run, &vectors, config, &plan.neighbors)?;
    allocator::give_back();
    let edges = edges::build(run, &vectors, &neighbors, (config, judged.as_ref()), &plan.edges)?;
    let vectors = edges::verdicts::parted(run, vectors, config)?;
    allocator::give_back();
    let clusters = clusters::cluster(run, &vectors, &neighbors, &edges, config)?;
    allocator::give_back();
    let summary = batches::write(run, &vectors, &neighbors, &clusters, config, &plan.batches)?;
    allocator::give_back();
    lake.publish(run, config, &plan.batches, replace)?;
    run.succeed()?;
    Ok(summary)
}

/// What beside the rows' shape decides what a job needs.
fn measures(
    config: &Config,
    shards: &Shards,
    (corpus, judged): (Option<&Shards>, Option<&JudgedFiles>),
    tasks: Option<&BTreeMap<String, u64>>,
) -> InputMeasures {
    InputMeasures {
        judged_bytes: judged.map_or(0, JudgedFiles::bytes),
        epoch_rows: tasks.map_or(0, |tasks| batches::epoch_rows(config, tasks)),
        ..InputMeasures::of(shards, corpus)
    }
}

/// Fails where the positive key is a column of lists: it must say which one positive a row has.
fn refuse_listed_positives(config: &Config, shards: &Shards) -> Result<()> {
    let key = config.columns.positive_key.as_deref();
    match shards.labels.keys.iter().find(|column| column.list && key == Some(&column.name)) {
        None => Ok(()),
        Some(column) => Err(Error::input("a row has several positive keys")
            .expected("a column of single values after --positive-key")
            .found(format!("--positive-key {}, a column of lists", column.name))
            .remedy("name a column that says which one positive a row has; lists may be --key-column")),
    }
}

/// A job's settings and plan, its distinct positives counted.
struct CountedJob {
    config: Config,
    plan: Plan,
}

/// Says where ranks turn out to be those of distinct positives, though the user did not ask for it.
fn tell_of_positives<'n>(config: &Config, tasks: impl Iterator<Item = ((&'n str, u64, u64), &'n RankBy)>) {
    // A share says it by itself, and needs ranks of positives.
    let (asked, windows) = (config.ranks_by(), config.windows());
    let is_auto = |name: &str| asked.of(name) == RankBy::Auto && windows.of(name).width.known().is_some();
    let chosen = tasks.filter(|((name, ..), by)| **by == RankBy::Positive && is_auto(name));
    let chosen: Vec<_> = chosen.map(|(task, _)| task).collect();
    let add = |[rows, distinct]: [u64; 2], task: &(&str, u64, u64)| [rows + task.1, distinct + task.2];
    let [rows, distinct] = chosen.iter().fold([0; 2], add);
    let of = match chosen[..] {
        [] => return,
        [_] if config.columns.task.is_none() => String::new(),
        [(name, ..)] => format!("task {name:?}: "),
        _ => format!("{} tasks: ", chosen.len()),
    };
    tracing::info!(
        "{of}{rows} rows have {distinct} distinct positives: these take the ranks; --rank-by row ranks rows"
    );
}

/// Says what windows that are shares of the distinct positives come to.
fn tell_of_shares(config: &Config, counted: &Config, tasks: &vectors::Tasks, distinct: &[u64]) {
    let (asked, windows) = (config.windows(), counted.windows());
    let mut told = BTreeMap::new();
    for (name, distinct) in tasks.names().zip(distinct) {
        let window = asked.of(name);
        if window.width.known().is_none() {
            let whole = RankWindow { skip: 0, ..window }.counted(*distinct).preferred();
            let is_cut = whole > windows.of(name).preferred();
            let share = format!("{}{}", window.width, if is_cut { ", as far as --skip leaves it," } else { "" });
            let [least, most] = told.entry(share).or_insert([(u32::MAX, 0), (0, 0)]);
            let found = (windows.of(name).preferred(), *distinct);
            (*least, *most) = ((*least).min(found), (*most).max(found));
        }
    }
    for (share, [least, most]) in told {
        let ranks = if least == most { least.0.to_string() } else { format!("{} to {}", least.0, most.0) };
        let of = if least == most { least.1.to_string() } else { format!("{} to {}", least.1, most.1) };
        let noun = if ranks == "1" { "rank" } else { "ranks" };
        tracing::info!("a window of {share} is {ranks} {noun} of {of} distinct positives");
    }
}

/// Does work in a pool of so many threads; 0 stands for one thread a core.
///
/// # Errors
/// The threads cannot be started.
pub fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> Result<T> {
    // The job itself runs on a thread of the pool: it gets the stack of a main thread.
    let builder = rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(8 << 20);
    let pool = builder.build().map_err(|e| {
        Error::runtime("the worker threads cannot be started").found(e.to_string()).remedy("lower --threads")
    })?;
    Ok(pool.install(work))
}
