//! Settings that may differ from task to task: a table `[task."NAME"]` of the configuration file.
//!
//! The more specific wins: what a task's table sets holds for that task, whatever flags, environment and the rest of
//! the file say; what it leaves out is the job's.

use serde::{Deserialize, Serialize};

use super::{Limit, Metric, MixRule, RankBy, RankWindow, Sizes, Width};
use crate::error::{Error, Result};

/// A task's table as the user wrote it: every field may be missing.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TaskSettings {
    /// p.
    pub skip: Option<u32>,
    /// m.
    pub window: Option<Width>,
    /// What takes a rank.
    pub rank_by: Option<RankBy>,
    /// Margin of suspects below the own score.
    pub relative_margin: Option<Limit>,
    /// Score above which candidates are suspects.
    pub max_score: Option<Limit>,
    /// Score below which candidates are nothing.
    pub min_score: Option<Limit>,
    /// Score of two queries above which the rows are suspects.
    pub max_query_score: Option<Limit>,
    /// Score of two positives above which the rows are suspects.
    pub max_positive_score: Option<Limit>,
    /// K.
    pub cluster_size: Option<u32>,
    /// |B|.
    pub batch_size: Option<u32>,
    /// Times that each of its full batches comes in an epoch.
    pub weight: Option<f64>,
    /// Most full batches of it in an epoch.
    pub max_batches: Option<u32>,
}

/// What holds for one task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TaskRules {
    /// Rank window, with its score limits.
    pub window: RankWindow,
    /// What takes a rank.
    pub rank_by: RankBy,
    pub sizes: Sizes,
    /// How often its batches come.
    pub mix: MixRule,
}

impl TaskRules {
    /// The job's rules with what a task's table says.
    ///
    /// # Errors
    /// A number is out of range; the message names the task.
    pub(super) fn with(self, own: &TaskSettings, task: &str, metric: Metric) -> Result<TaskRules> {
        let limit = |own: Option<Limit>, job: Option<f64>| own.map_or(job, Limit::at);
        let (mut window, sizes) = (self.window, self.sizes);
        window.skip = own.skip.unwrap_or(window.skip);
        window.width = own.window.unwrap_or(window.width);
        let limits = &mut window.limits;
        limits.relative_margin = limit(own.relative_margin, limits.relative_margin);
        limits.max_score = limit(own.max_score, limits.max_score);
        limits.min_score = limit(own.min_score, limits.min_score);
        limits.max_query_score = limit(own.max_query_score, limits.max_query_score);
        limits.max_positive_score = limit(own.max_positive_score, limits.max_positive_score);
        let sizes = Sizes {
            cluster_size: own.cluster_size.unwrap_or(sizes.cluster_size),
            batch_size: own.batch_size.unwrap_or(sizes.batch_size),
        };
        let mix = MixRule { weight: own.weight, max_batches: own.max_batches.or(self.mix.max_batches) };
        let rank_by = own.rank_by.unwrap_or(self.rank_by);
        let named = |error: Error| error.task(task);
        Ok(TaskRules {
            window: window.checked(metric, rank_by).map_err(named)?,
            rank_by,
            sizes: sizes.checked().map_err(named)?,
            mix: mix.checked().map_err(named)?,
        })
    }

    /// What the rules come to in a task of so many rows and distinct positives.
    ///
    /// # Errors
    /// A share of the distinct positives is more ranks than a window can have.
    pub(super) fn counted(self, rows: u64, distinct: u64, metric: Metric) -> Result<TaskRules> {
        let rank_by = self.ranked().counted(rows, distinct);
        let window = self.window.counted(distinct).checked(metric, rank_by)?;
        Ok(TaskRules { window, rank_by, ..self })
    }
}

/// What takes a rank in a task, and its window where that is a share of the distinct positives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RankRule {
    pub rank_by: RankBy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Width>,
}

impl RankRule {
    /// What takes a rank in a task of so many rows and distinct positives.
    pub(crate) fn counted(self, rows: u64, distinct: u64) -> RankBy {
        if self.window.is_some() { RankBy::Positive } else { self.rank_by.counted(rows, distinct) }
    }
}

impl TaskRules {
    /// What of them takes a rank.
    pub(super) fn ranked(&self) -> RankRule {
        let share = Some(self.window.width).filter(|width| width.known().is_none());
        RankRule { rank_by: self.rank_by, window: share }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{ByTask, Config, ScoreLimits, Settings};

    fn config(file: &str, flags: Settings) -> Result<Config> {
        let file: Settings = toml::from_str(file).unwrap_or_else(|e| panic!("{e}"));
        Config::new(vec!["x".into()], flags.or(file))
    }

    const FILE: &str = r#"
        task-column = "kind"
        skip = 10
        max-score = 0.9
        [task."code search"]
        skip = 0
        cluster-size = 16
        max-score = "none"
        relative-margin = 0.05
        [task.qa]
        batch-size = 96
    "#;

    #[test]
    fn a_tasks_table_is_stronger_than_flags_and_leaves_the_rest_to_the_job() {
        let flags =
            Settings { skip: Some(20), window: Some(Width::Ranks(50)), batch_size: Some(64), ..Settings::default() };
        let config = config(FILE, flags).unwrap();
        let (windows, sizes) = (config.windows(), config.sizes());
        let window = |skip, margin, max| {
            let limits = ScoreLimits { relative_margin: margin, max_score: max, ..ScoreLimits::default() };
            RankWindow { skip, width: Width::Ranks(50), limits }
        };
        assert_eq!(windows.of("code search"), window(0, Some(0.05), None));
        assert_eq!(windows.of("qa"), window(20, None, Some(0.9)));
        assert_eq!(windows.of("any other"), windows.of("qa"));
        assert_eq!(sizes.of("code search"), Sizes { cluster_size: 16, batch_size: 64 });
        assert_eq!(sizes.of("qa"), Sizes { cluster_size: 8, batch_size: 96 });
    }

    #[test]
    fn only_what_differs_is_recorded() {
        let config = config(FILE, Settings::default()).unwrap();
        let sizes = json!({
            "cluster-size": 8, "batch-size": 1024,
            "tasks": {
                "code search": {"cluster-size": 16, "batch-size": 1024}, "qa": {"cluster-size": 8, "batch-size": 96},
            },
        });
        assert_eq!(json!(config.sizes()), sizes);
        assert_eq!(serde_json::from_value::<ByTask<Sizes>>(sizes).unwrap(), config.sizes());
        let windows = json!({
            "skip": 10, "window": 100, "max-score": 0.9,
            "tasks": {"code search": {"skip": 0, "window": 100, "relative-margin": 0.05}},
        });
        assert_eq!(json!(config.windows()), windows);
        assert_eq!(serde_json::from_value::<ByTask<RankWindow>>(windows).unwrap(), config.windows());
    }

    #[test]
    fn wrong_tables_are_refused_by_the_tasks_name() {
        let refused = [
            ("[task.a]\ncluster-size = 30", "--cluster-size 32"),
            ("[task.a]\nbatch-size = 1", "--batch-size from 2"),
            ("[task.a]\nwindow = 0", "--window at least 1"),
            ("[task.a]\nrelative-margin = 3", "--relative-margin from 0 to 1"),
        ];
        for (table, word) in refused {
            let error = config(&format!("task-column = \"kind\"\n{table}"), Settings::default()).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("task a") && text.contains(word) && text.contains("remedy:"), "{text}");
        }
        let error = config("[task.a]\nskip = 1", Settings::default()).unwrap_err();
        assert!(error.to_string().contains("--task-column"), "{error}");
        assert!(toml::from_str::<Settings>("[task.a]\nseed = 1").is_err());
        assert!(toml::from_str::<Settings>("[task.a]\nskips = 1").is_err());
    }
}
