//! report: what a run's batches are worth, beside random batches and a list of the user's.
//!
//! Counts that need no vectors (pairs in rank windows, suspects, duplicates) are taken over all rows, in one pass over
//! the neighbor lists for each list of batches. Similarities and Theorem 1's gap are taken exactly on a seeded sample
//! of queries, each against its whole batch. Random batches are the run's own with the rows of each task shuffled: the
//! same sizes, tasks and clusters. Everything comes from the run's seed, and is the same at any number of threads.
//!
//! Memory: at most 24 bytes a row. A list of batches takes 8 (the run's own, and the given one); finding rows while
//! lists are read 4 to 8; the members of batches while they are measured 4. Beside them a table of batch numbers, the
//! counts of each task, 40 bytes for each sampled query and list, and a batch's scores on each thread.

mod count;
mod estimate;
pub mod examples;
mod examples_html;
pub mod figures;
mod html;
pub mod judged;
mod lists;
mod metrics;
pub(crate) mod numbers;
mod plots;
mod sample;
mod terminal;
mod words;

use std::path::{Path, PathBuf};

use crate::batches::read::epoch_files;
pub use crate::batches::texts::TextSource;
use crate::edges;
use crate::error::{Error, Result};
use crate::neighbors::{self, Windows};
use crate::run::progress::Progress;
use crate::run::record::{BatchesSettings, ClustersSettings, EdgesFacts, VectorsSettings};
use crate::run::storage::{Disk, Storage, folder_of, replace_file};
use crate::run::{RunReader, Stage};
use crate::vectors::{self, Vectors};
use count::{Counter, HITS, ListTally, Members};
use estimate::{Estimate, bounds, histogram};
use examples::{Examples, Looked};
use figures::{Compared, FORMAT, Histogram, Measures, Parameters, Report, StageCost, TaskMeasures};
use lists::{BatchList, Directory};
use metrics::PairCounts;
use sample::{Sampled, Sampler};

/// Queries that are sampled, and τ, where nothing else is asked for.
pub const SAMPLE: u64 = 5000;
pub const TEMPERATURE: f64 = 0.02;

/// Options of a report.
#[derive(Debug, Clone)]
pub struct Options {
    /// The epoch that is reported, from 0.
    pub epoch: u32,
    /// Another list of batches, as a Parquet file or a folder of them.
    pub against: Option<PathBuf>,
    /// Queries to sample.
    pub sample: u64,
    /// K of the top-K measures; the run's cluster size by default.
    pub top: Option<u32>,
    /// τ.
    pub temperature: f64,
    /// Where texts are found that are shown of some batches.
    pub texts: TextSource,
}

impl Default for Options {
    /// Those of `batchmine report` without flags.
    fn default() -> Options {
        let texts = TextSource::default();
        Options { epoch: 0, against: None, sample: SAMPLE, top: None, temperature: TEMPERATURE, texts }
    }
}

/// Measures a finished run. O(rows · ranks + sample · |B| · dim) for each list of batches.
///
/// # Errors
/// The run is not finished or damaged, has no such epoch, or the given list does not fit it.
pub fn measure(run: &RunReader, options: &Options, progress: &Progress) -> Result<Report> {
    let epoch_files = epoch_files(run, options.epoch)?;
    let vectors = vectors::open(run)?;
    let neighbors = neighbors::open(run, &vectors)?;
    neighbors.check_lists()?;
    let windows = edges::open_windows(run, &vectors, &neighbors)?;
    let parameters = parameters(run, options, &vectors, &windows)?;

    let mut directory = Directory::new(&vectors, neighbors.places());
    let candidates = neighbors.candidates();
    let has_mix = run.settings::<BatchesSettings>()?.mix.is_some();
    let mined = BatchList::read(&epoch_files, options.epoch, has_mix, &directory)?.by_positive(candidates);
    let against = match &options.against {
        Some(path) => Some(read_given(path, options.epoch, &mut directory)?.by_positive(candidates)),
        None => None,
    };
    drop(directory);

    let lists = 2 + u64::from(against.is_some());
    let sampled = options.sample.min(parameters.rows);
    let meter = progress.meter("report", lists * (parameters.rows + sampled), "rows");
    let counter = Counter { vectors: &vectors, neighbors: &neighbors, windows: &windows, meter: &meter };
    let sampler = Sampler {
        vectors: &vectors,
        neighbors: &neighbors,
        top: parameters.top as usize,
        temperature: parameters.temperature,
        meter: &meter,
    };
    let seed = parameters.batches.seed;
    let chosen = sample::draw(&vectors.tasks, options.sample, seed, options.epoch);
    let look = |list: &BatchList, members: &Members| -> Result<MeasuredList> {
        let tally = counter.count(list, members)?;
        let sampled = sampler.measure(list, members, &chosen)?;
        Ok(MeasuredList { tally, sampled, batches: list.count(), clusters: list.membership().cluster.is_some() })
    };
    let members = Members::new(&mined);
    let own = look(&mined, &members)?;
    let looked = Looked {
        vectors: &vectors,
        neighbors: &neighbors,
        windows: &windows,
        list: &mined,
        members: &members,
        tally: &own.tally,
    };
    let examples = looked.examples(run, &options.texts)?;
    let verdicts = run.facts::<EdgesFacts>()?.verdicts;
    let verdicts = verdicts.map(|facts| judged::measure(&neighbors, &windows, &mined, &facts));
    drop(members);
    let look = |list: &BatchList| look(list, &Members::new(list));
    let tasks = (0..vectors.tasks.len()).map(|task| vectors.tasks.places(task));
    let random = look(&mined.shuffled(tasks, seed, options.epoch).by_positive(candidates))?;
    let against = against.as_ref().map(look).transpose()?;
    drop(meter);
    let report = compose(run, parameters, &vectors, &own, &random, against.as_ref())?;
    Ok(Report { examples, verdicts, ..report })
}

/// The report as a person reads it on a terminal.
pub fn table(report: &Report) -> String {
    terminal::table(report)
}

/// The report as a page.
pub fn page(report: &Report) -> String {
    html::page(report)
}

/// All measures of one list.
struct MeasuredList {
    tally: ListTally,
    sampled: Sampled,
    batches: u32,
    clusters: bool,
}

impl MeasuredList {
    fn populations(&self) -> Vec<u64> {
        self.tally.tasks.iter().map(|counts| counts.queries).collect()
    }

    fn overall(&self) -> Measures {
        let mut sum = PairCounts::default();
        self.tally.tasks.iter().for_each(|counts| sum.add(counts));
        let populations = self.populations();
        let sampled = [self.sampled.similarity(&populations), self.sampled.gap(&populations)];
        let sampled = sampled.map(|strata| Estimate::new(&strata));
        Measures::new(&sum, u64::from(self.batches), self.clusters, sampled, self.sampled.alone().iter().sum())
    }

    fn by_task(&self) -> Vec<Measures> {
        let (populations, alone) = (self.populations(), self.sampled.alone());
        let (similarity, gap) = (self.sampled.similarity(&populations), self.sampled.gap(&populations));
        let of_task = |task: usize| {
            let sampled = [&similarity, &gap].map(|strata| Estimate::new(&strata[task..=task]));
            let tally = &self.tally;
            Measures::new(&tally.tasks[task], tally.batches[task], self.clusters, sampled, alone[task])
        };
        (0..self.tally.tasks.len()).map(of_task).collect()
    }
}

fn compose(
    run: &RunReader,
    parameters: Parameters,
    vectors: &Vectors,
    mined: &MeasuredList,
    random: &MeasuredList,
    against: Option<&MeasuredList>,
) -> Result<Report> {
    let mut given = against.map(|list| list.by_task().into_iter());
    let measures = mined.by_task().into_iter().zip(random.by_task());
    let tasks = measures.enumerate().map(|(task, (mined, random))| TaskMeasures {
        task: vectors.named_tasks.then(|| vectors.tasks.name(task).to_owned()),
        rows: vectors.tasks.range(task).len() as u64,
        measures: Compared { mined, random, against: given.as_mut().and_then(Iterator::next) },
    });
    let tasks = tasks.collect();
    let overall =
        Compared { mined: mined.overall(), random: random.overall(), against: against.map(MeasuredList::overall) };
    Ok(Report {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        run: run.folder().to_owned(),
        settings_fingerprint: run.manifest().stages[&Stage::Batches].fingerprint.clone(),
        parameters: Parameters { rows_in_no_batch: parameters.rows - overall.mined.queries, ..parameters },
        overall,
        tasks,
        window_hits: window_hits(mined, random, against),
        similarity: similarities(mined, random, against),
        search: run.facts()?,
        clusters: run.facts()?,
        batches: run.facts()?,
        verdicts: None,
        examples: Examples::default(),
        stages: costs(run),
    })
}

fn window_hits(mined: &MeasuredList, random: &MeasuredList, against: Option<&MeasuredList>) -> Histogram<u64> {
    let lists = [Some(mined), Some(random), against];
    let last = |list: &MeasuredList| list.tally.hits.iter().rposition(|queries| *queries > 0).unwrap_or(0);
    let buckets = lists.into_iter().flatten().map(last).max().unwrap_or(0) + 1;
    let hits = |list: &MeasuredList| list.tally.hits[..buckets].to_vec();
    Histogram {
        bounds: HITS[..buckets].iter().map(|bound| *bound as f64).collect(),
        mined: hits(mined),
        random: hits(random),
        against: against.map(hits),
    }
}

fn similarities(mined: &MeasuredList, random: &MeasuredList, against: Option<&MeasuredList>) -> Histogram<f64> {
    let lists: Vec<&MeasuredList> = [Some(mined), Some(random), against].into_iter().flatten().collect();
    let bounds = bounds(lists.iter().flat_map(|list| list.sampled.similarities().iter().copied()));
    let shares = |list: &MeasuredList| histogram(&list.sampled.similarity(&list.populations()), &bounds);
    Histogram { mined: shares(mined), random: shares(random), against: against.map(shares), bounds }
}

fn read_given(path: &Path, epoch: u32, directory: &mut Directory<'_>) -> Result<BatchList> {
    let files = lists::files_of(path)?;
    for file in &files {
        if lists::is_by_id(file)? {
            directory.index_ids();
        }
    }
    BatchList::read(&files, epoch, false, directory)
}

fn parameters(run: &RunReader, options: &Options, vectors: &Vectors, windows: &Windows<'_>) -> Result<Parameters> {
    let clusters: ClustersSettings = run.settings()?;
    let imported: VectorsSettings = run.settings()?;
    let wanted = options.top.unwrap_or(clusters.sizes.job.cluster_size);
    let ranks = (0..vectors.tasks.len()).map(|task| windows.of_task(task).ranks()).max().unwrap_or(wanted);
    Ok(Parameters {
        rows: vectors.shape().rows,
        dim: vectors.shape().dim,
        metric: imported.metric,
        same_query: imported.same_query,
        edges: run.settings()?,
        clusters,
        batches: run.settings()?,
        epoch: options.epoch,
        rows_in_no_batch: 0,
        top: wanted.min(ranks),
        top_wanted: (wanted > ranks).then_some(wanted),
        temperature: options.temperature,
        sample: options.sample,
        against: options.against.clone(),
    })
}

fn costs(run: &RunReader) -> Vec<StageCost> {
    let record = |stage: Stage| run.manifest().stages.get(&stage).map(|record| (stage, record));
    Stage::ALL
        .into_iter()
        .filter_map(record)
        .map(|(stage, record)| StageCost {
            stage: stage.name().into(),
            seconds: record.seconds,
            peak_bytes: record.peak_bytes,
            bytes: record.bytes(),
            files: record.parts.len() as u64,
        })
        .collect()
}

/// Writes a file whole or not at all.
///
/// # Errors
/// The disk fails.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = folder_of(path);
    let temp = path.with_file_name(format!(".{}.tmp", path.file_name().unwrap_or_default().to_string_lossy()));
    let written = Disk.create_folder(folder).and_then(|()| replace_file(&Disk, &temp, path, bytes));
    written.map_err(|e| {
        let _ = Disk.remove(&temp);
        Error::io("a report cannot be written", path, e)
    })
}
