//! The rank window of a query, and the score limits that narrow it.

use serde::{Deserialize, Serialize};

use super::Metric;
use crate::error::{Error, Result};

/// Widest rank window, p + m, that a search keeps for each query.
pub const WINDOW_MAX: u32 = 16_384;

/// A score limit as the user writes it: a number, or `none` where a weaker setting is to be lifted.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "NumberOrWord")]
pub enum Limit {
    /// Lifts a weaker setting's limit.
    None,
    At(f64),
}

impl Limit {
    /// The number, if there is one.
    pub fn at(self) -> Option<f64> {
        match self {
            Limit::None => None,
            Limit::At(number) => Some(number),
        }
    }
}

impl std::str::FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Limit, String> {
        match text {
            "none" => Ok(Limit::None),
            _ => text.parse().map(Limit::At).map_err(|_| format!("{text}: expected a number, or none")),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrWord {
    Number(f64),
    Word(String),
}

impl TryFrom<NumberOrWord> for Limit {
    type Error = String;

    fn try_from(value: NumberOrWord) -> Result<Limit, String> {
        match value {
            NumberOrWord::Number(number) => Ok(Limit::At(number)),
            NumberOrWord::Word(word) => word.parse(),
        }
    }
}

/// Scores that make a candidate a suspect, or too easy to be a negative; without a number there is no limit.
///
/// The positive-aware filter of de Souza Moreira et al., *NV-Retriever: Improving text embedding models with
/// effective hard-negative mining* (2024, arXiv 2407.15831): its TopK-PercPos is the relative margin, its
/// TopK-Abs the highest score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ScoreLimits {
    /// M: who scores above s − M·|s|, s being the score of the query's own positive, is a suspect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_margin: Option<f64>,
    /// Who scores above this is a suspect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_score: Option<f64>,
    /// Who scores below this is neither a suspect nor a preferred negative.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_score: Option<f64>,
    /// Whose query scores above this with the own query is a suspect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_query_score: Option<f64>,
    /// Whose positive scores above this with the own positive is a suspect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_positive_score: Option<f64>,
}

impl ScoreLimits {
    /// Whether there is any limit.
    pub fn any(&self) -> bool {
        *self != ScoreLimits::default()
    }

    /// Whether there is a limit for queries, or for positives, among themselves.
    pub(crate) fn of_sides(&self) -> bool {
        self.max_query_score.is_some() || self.max_positive_score.is_some()
    }

    /// Whether rows are suspects by what their queries, and their positives, score with each other.
    pub(crate) fn are_sides_too_close(&self, [queries, positives]: [f32; 2]) -> bool {
        let above = |limit: Option<f64>, score: f32| limit.is_some_and(|limit| f64::from(score) > limit);
        above(self.max_query_score, queries) || above(self.max_positive_score, positives)
    }

    fn check(&self, metric: Metric) -> Result<()> {
        let (least, most) = if metric == Metric::Cosine { (-1.0, 1.0) } else { (f64::MIN, f64::MAX) };
        let refused = |flag: &str, what: &str, range: &str, found: f64, remedy: &str| {
            Err(Error::input(format!("the {what} is out of range"))
                .expected(format!("{flag} {range}"))
                .found(found.to_string())
                .remedy(remedy))
        };
        if let Some(margin) = self.relative_margin.filter(|margin| !(0.0..=1.0).contains(margin)) {
            let remedy = "0.05 makes suspects of all that score above 95 % of the query's own positive";
            return refused("--relative-margin", "relative margin", "from 0 to 1", margin, remedy);
        }
        let range = if metric == Metric::Cosine { "from -1 to 1, as cosines are" } else { "that is a finite number" };
        let limits = [
            ("--max-score", "highest score", self.max_score),
            ("--min-score", "lowest score", self.min_score),
            ("--max-query-score", "highest score of queries", self.max_query_score),
            ("--max-positive-score", "highest score of positives", self.max_positive_score),
        ];
        for (flag, what, limit) in limits {
            if let Some(limit) = limit.filter(|limit| !(least..=most).contains(limit)) {
                return refused(flag, what, range, limit, "`inspect RUN --rows 0..10` shows what scores are like");
            }
        }
        match (self.min_score, self.max_score) {
            (Some(min), Some(max)) if min >= max => Err(Error::input("the score limits leave nothing between them")
                .expected("--min-score below --max-score")
                .found(format!("--min-score {min} --max-score {max}"))
                .remedy("leave one of them out")),
            _ => Ok(()),
        }
    }
}

/// Ranks [0, skip) are suspects, ranks [skip, skip + window) are preferred negatives, as far as scores allow.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RankWindow {
    /// p.
    pub skip: u32,
    /// m.
    #[serde(rename = "window")]
    pub width: u32,
    /// What scores make of the ranks.
    #[serde(flatten)]
    pub limits: ScoreLimits,
}

impl RankWindow {
    /// Ranks that a search keeps: p + m.
    pub fn ranks(self) -> u32 {
        self.skip + self.width
    }

    /// Itself, if its numbers are within range.
    ///
    /// # Errors
    /// A number is out of range; the message names the flag.
    pub(super) fn checked(self, metric: Metric) -> Result<RankWindow> {
        let ranks = u64::from(self.skip) + u64::from(self.width);
        if self.width == 0 || ranks > u64::from(WINDOW_MAX) {
            return Err(Error::input("the rank window is out of range")
                .expected(format!("--window at least 1, and --skip + --window at most {WINDOW_MAX}"))
                .found(format!("--skip {} --window {}", self.skip, self.width))
                .remedy("the paper's values are --skip 30 --window 100"));
        }
        self.limits.check(metric)?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(margin: Option<f64>, max: Option<f64>, min: Option<f64>) -> ScoreLimits {
        ScoreLimits { relative_margin: margin, max_score: max, min_score: min, ..ScoreLimits::default() }
    }

    #[test]
    fn limits_out_of_range_are_refused_with_a_remedy() {
        let refused = [
            (limits(Some(1.5), None, None), Metric::Dot, "--relative-margin"),
            (limits(Some(-0.1), None, None), Metric::Cosine, "--relative-margin"),
            (limits(Some(f64::NAN), None, None), Metric::Cosine, "--relative-margin"),
            (limits(None, Some(1.5), None), Metric::Cosine, "--max-score"),
            (limits(None, None, Some(f64::NEG_INFINITY)), Metric::Dot, "--min-score"),
            (limits(None, Some(0.4), Some(0.4)), Metric::Cosine, "--min-score 0.4"),
        ];
        for (limits, metric, flag) in refused {
            let error = RankWindow { skip: 1, width: 2, limits }.checked(metric).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(flag) && text.contains("remedy:") && error.exit_code() == 2, "{text}");
        }
        let sound =
            [(limits(Some(1.0), Some(1.0), Some(-1.0)), Metric::Cosine), (limits(None, Some(9.0), None), Metric::Dot)];
        for (limits, metric) in sound {
            assert!(RankWindow { skip: 0, width: 1, limits }.checked(metric).is_ok());
        }
    }

    #[test]
    fn a_window_is_recorded_with_the_limits_that_it_has() {
        let window = RankWindow { skip: 3, width: 4, limits: limits(Some(0.05), None, Some(0.1)) };
        let value = serde_json::to_value(window).unwrap();
        assert_eq!(value, serde_json::json!({"skip": 3, "window": 4, "relative-margin": 0.05, "min-score": 0.1}));
        assert_eq!(serde_json::from_value::<RankWindow>(value).unwrap(), window);
        let plain = serde_json::json!({"skip": 3, "window": 4});
        assert_eq!(serde_json::to_value(RankWindow { limits: ScoreLimits::default(), ..window }).unwrap(), plain);
    }

    #[test]
    fn a_limit_is_a_number_or_none() {
        assert_eq!("none".parse(), Ok(Limit::None));
        assert_eq!("0.05".parse(), Ok(Limit::At(0.05)));
        assert!("5%".parse::<Limit>().is_err());
    }
}
