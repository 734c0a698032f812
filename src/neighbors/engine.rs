//! Who computes the tiles of the search; chosen once.

use super::budget::NeighborsCounts;
use super::gpu::GpuSearch;
use super::tiles::Tiles;
use super::topk::Candidate;
#[cfg(feature = "faiss")]
use crate::config::Backend;
use crate::config::{Config, Method};
use crate::error::Result;
use crate::vectors::RowId;
use crate::watch::Watch;

/// Who computes the tiles.
#[derive(Debug)]
pub(crate) enum SearchEngine {
    /// Our own kernels, all pairs.
    Exact,
    /// Our own kernels, so many lists for each query.
    Lists(usize),
    /// FAISS on GPUs, all pairs.
    Gpus(Box<GpuSearch>),
    /// FAISS's flat index, so many base rows at a time.
    #[cfg(feature = "faiss")]
    Faiss(usize),
}

impl SearchEngine {
    /// What the settings ask for. `gpus`: the devices that were found; `choose_probes`: the lists that a recall takes.
    ///
    /// # Errors
    /// `choose_probes` fails.
    pub(crate) fn choose(
        config: &Config,
        counts: &NeighborsCounts,
        gpus: Option<GpuSearch>,
        choose_probes: impl FnOnce(f64) -> Result<usize>,
    ) -> Result<SearchEngine> {
        #[cfg(not(feature = "faiss"))]
        let _ = counts;
        Ok(match (config.backend, gpus, config.method) {
            (_, Some(gpus), _) => SearchEngine::Gpus(Box::new(gpus)),
            #[cfg(feature = "faiss")]
            (Backend::Faiss, ..) => {
                tracing::info!("FAISS multiplies with {}", super::faiss::blas());
                SearchEngine::Faiss(counts.faiss_tile_rows)
            }
            (_, _, Method::Exact) => SearchEngine::Exact,
            (_, _, Method::Lists { probes: Some(probes), .. }) => SearchEngine::Lists(probes as usize),
            (_, _, Method::Lists { probes: None, recall }) => SearchEngine::Lists(choose_probes(recall)?),
        })
    }

    /// The best `ranks` (or all, where there are fewer) of some rows of a task, by row.
    ///
    /// # Errors
    /// The engine fails, or the watch stops the job.
    pub(crate) fn segment(
        &self,
        tiles: &Tiles<'_>,
        task: usize,
        queries: &[RowId],
        ranks: usize,
        watch: Watch<'_>,
    ) -> Result<Vec<Vec<Candidate>>> {
        let columns = tiles.columns.of_task(task);
        let ranks = ranks.min(tiles.columns.others(task));
        if ranks == 0 {
            return Ok(vec![Vec::new(); queries.len()]);
        }
        match self {
            SearchEngine::Exact => tiles.exact(columns, queries, ranks, watch),
            SearchEngine::Lists(probes) => tiles.approximate(task, queries, ranks, *probes, watch),
            // BaseColumns of the GPU's base are all rows: none is sought where ranks are those of positives.
            SearchEngine::Gpus(gpus) => gpus.segment(tiles, tiles.vectors.tasks.range(task), queries, ranks, watch),
            #[cfg(feature = "faiss")]
            SearchEngine::Faiss(base_tile_rows) => {
                let faiss = super::faiss::FaissSearch {
                    vectors: tiles.vectors,
                    metric: tiles.metric,
                    base_tile_rows: *base_tile_rows,
                };
                faiss.segment(&tiles.columns.base_rows(task), queries, ranks, watch)
            }
        }
    }

    /// Queries that a search on GPUs left to the CPU in this job.
    pub(crate) fn left_to_cpu(&self) -> Option<usize> {
        match self {
            SearchEngine::Gpus(gpus) => Some(gpus.left_to_cpu()),
            _ => None,
        }
    }

    /// Lists that each query looks into; `None`: all pairs are scored.
    pub(crate) fn probes(&self) -> Option<usize> {
        match self {
            SearchEngine::Lists(probes) => Some(*probes),
            _ => None,
        }
    }
}
