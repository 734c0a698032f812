//! Jobs on planted rows, in a folder that goes when they do.

#![allow(dead_code, reason = "each bench uses a part of it")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use batchmine::Job;
use batchmine::config::{Config, EdgeRule, Settings, Width};
use batchmine::measured::{EdgeFile, build};
use batchmine::measured::{Neighbors, search};
use batchmine::measured::{Vectors, import};
use batchmine::run::Disk;
use batchmine::run::Progress;
use batchmine::run::Run;

/// Writes planted rows, of so many dimensions, in clusters of about 400.
pub fn generate(folder: &Path, rows: usize, dim: usize) {
    let [clusters, rows, dim] = [rows.div_ceil(400), rows, dim].map(|number| number.to_string());
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_batchmine"))
        .args(["gen", "--progress", "none", "--rows", &rows, "--dim", &dim, "--clusters", &clusters, "--out"])
        .arg(folder)
        .status();
    assert!(status.expect("the executable starts").success());
}

/// Planted rows, and a run folder beside them.
pub struct Planted {
    place: tempfile::TempDir,
    settings: Settings,
}

impl Planted {
    pub fn new(rows: usize, dim: usize, settings: Settings) -> Planted {
        let place = tempfile::tempdir().expect("a temporary folder");
        let input = place.path().join("input");
        generate(&input, rows, dim);
        Planted { place, settings }
    }

    pub fn job(&self, settings: Settings) -> Job {
        let input = self.place.path().join("input").display().to_string();
        let settings = settings.or(self.settings.clone()).or(measured());
        let config = Config::new(vec![input], settings).expect("sound settings");
        Job::open(config).expect("sound input and enough memory")
    }

    /// A run of this number, new if there was none.
    pub fn run(&self, number: usize) -> Run {
        let folder = self.place.path().join(format!("run-{number}"));
        let run = Run::open(&folder, None, Arc::new(Disk), Progress::silent(), Arc::new(AtomicBool::new(false)));
        run.expect("a folder of its own")
    }

    /// The run's vectors, under these settings; stages that they touch are redone.
    pub fn vectors(&self, run: &Run, job: &Job) -> Vectors {
        run.apply_settings(&job.settings(), job.places(), true).expect("a folder of its own");
        import(run, &job.shards, None, &job.config, &job.plan.vectors).expect("sound input")
    }

    /// The run's vectors and lists.
    pub fn neighbors(&self, run: &Run, job: &Job) -> (Vectors, Neighbors) {
        let vectors = self.vectors(run, job);
        let neighbors = search(run, &vectors, &job.config, &job.plan.neighbors).expect("a search");
        (vectors, neighbors)
    }

    /// The run's vectors and lists, its graph gone.
    pub fn without_edges(&self, run: &Run, job: &Job) -> (Vectors, Neighbors) {
        let other = Settings { edges: Some(EdgeRule::Mutual), ..Settings::default() };
        self.neighbors(run, &self.job(other));
        self.neighbors(run, job)
    }

    /// The run's graph.
    pub fn edges(&self, run: &Run, job: &Job) -> EdgeFile {
        let (vectors, neighbors) = self.neighbors(run, job);
        build(run, &vectors, &neighbors, (&job.config, None), &job.plan.edges).expect("a graph")
    }
}

/// What docs/performance.md has figures of, where a bench says nothing else.
fn measured() -> Settings {
    Settings { skip: Some(30), window: Some(Width::Ranks(100)), cluster_size: Some(32), ..Settings::default() }
}
