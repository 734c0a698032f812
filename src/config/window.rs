//! The rank window of a query, and the score limits that narrow it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Metric, RankBy};
use crate::error::{Error, Result};

/// Widest rank window, p + m, that a search keeps for each query.
pub const WINDOW_MAX: u32 = 16_384;

/// m, as the user writes it: a number of ranks, or a share of a task's distinct positives, such as `30%`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "NumberOrWord", into = "RanksOrWord")]
pub enum Width {
    Ranks(u32),
    /// In percent, of the distinct positives without the query's own, as far as there are so many behind the first p.
    /// It is counted when they are known.
    Share(f64),
}

impl Width {
    /// The number of ranks, where it is known.
    pub(crate) fn known(self) -> Option<u32> {
        match self {
            Width::Ranks(ranks) => Some(ranks),
            Width::Share(_) => None,
        }
    }
}

impl fmt::Display for Width {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Width::Ranks(ranks) => write!(out, "{ranks}"),
            Width::Share(percent) => write!(out, "{percent}%"),
        }
    }
}

impl std::str::FromStr for Width {
    type Err = String;

    fn from_str(text: &str) -> Result<Width, String> {
        let wrong = || format!("{text}: expected a number of ranks, or a share from above 0% to 100%, such as 30%");
        match text.strip_suffix('%') {
            None => text.parse().map(Width::Ranks).map_err(|_| wrong()),
            Some(percent) => match percent.parse() {
                Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Width::Share(percent)),
                _ => Err(wrong()),
            },
        }
    }
}

impl TryFrom<NumberOrWord> for Width {
    type Error = String;

    fn try_from(value: NumberOrWord) -> Result<Width, String> {
        match value {
            NumberOrWord::Number(number) => number.to_string().parse(),
            NumberOrWord::Word(word) => word.parse(),
        }
    }
}

/// A [`Width`] as it is recorded.
#[derive(Serialize)]
#[serde(untagged)]
enum RanksOrWord {
    Ranks(u32),
    Word(String),
}

impl From<Width> for RanksOrWord {
    fn from(width: Width) -> RanksOrWord {
        match width {
            Width::Ranks(ranks) => RanksOrWord::Ranks(ranks),
            share @ Width::Share(_) => RanksOrWord::Word(share.to_string()),
        }
    }
}

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

/// A number, or a word in its place.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number, or a word in quotes")]
pub(super) enum NumberOrWord {
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
    pub width: Width,
    /// What scores make of the ranks.
    #[serde(flatten)]
    pub limits: ScoreLimits,
}

impl RankWindow {
    /// Ranks that a search keeps: p + m. Of a share that is not counted yet, the least that it can come to.
    pub fn ranks(self) -> u32 {
        self.skip + self.preferred()
    }

    /// m. Of a share that is not counted yet, the least that it can come to.
    pub fn preferred(self) -> u32 {
        self.width.known().unwrap_or(1)
    }

    /// Itself with a number of ranks, in a task of so many distinct positives.
    pub(crate) fn counted(self, distinct: u64) -> RankWindow {
        let others = distinct.saturating_sub(1);
        let left = others.saturating_sub(u64::from(self.skip)) as f64;
        let share = |percent: f64| (percent * others as f64 / 100.0).ceil().min(left).max(1.0) as u32;
        match self.width {
            Width::Ranks(_) => self,
            Width::Share(percent) => RankWindow { width: Width::Ranks(share(percent)), ..self },
        }
    }

    /// Itself, if its numbers are within range.
    ///
    /// # Errors
    /// A number is out of range; the message names the flag.
    pub(super) fn checked(self, metric: Metric, rank_by: RankBy) -> Result<RankWindow> {
        if let (Width::Share(_), RankBy::Row) = (self.width, rank_by) {
            return Err(Error::input("a share of the distinct positives needs ranks of positives")
                .expected("--rank-by positive with a --window in percent")
                .found(format!("--rank-by row --window {}", self.width))
                .remedy("leave --rank-by out, or give --window a number of ranks"));
        }
        let ranks = u64::from(self.skip) + u64::from(self.preferred());
        if self.preferred() == 0 || ranks > u64::from(WINDOW_MAX) {
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
            let error =
                RankWindow { skip: 1, width: Width::Ranks(2), limits }.checked(metric, RankBy::Auto).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(flag) && text.contains("remedy:") && error.exit_code() == 2, "{text}");
        }
        let sound =
            [(limits(Some(1.0), Some(1.0), Some(-1.0)), Metric::Cosine), (limits(None, Some(9.0), None), Metric::Dot)];
        for (limits, metric) in sound {
            assert!(RankWindow { skip: 0, width: Width::Ranks(1), limits }.checked(metric, RankBy::Row).is_ok());
        }
    }

    #[test]
    fn a_window_is_recorded_with_the_limits_that_it_has() {
        let limits = limits(Some(0.05), None, Some(0.1));
        let window = RankWindow { skip: 3, width: Width::Ranks(4), limits };
        let value = serde_json::to_value(window).unwrap();
        assert_eq!(value, serde_json::json!({"skip": 3, "window": 4, "relative-margin": 0.05, "min-score": 0.1}));
        assert_eq!(serde_json::from_value::<RankWindow>(value).unwrap(), window);
        let plain = serde_json::json!({"skip": 3, "window": 4});
        assert_eq!(serde_json::to_value(RankWindow { limits: ScoreLimits::default(), ..window }).unwrap(), plain);
    }

    #[test]
    fn a_window_is_a_number_of_ranks_or_a_share() {
        assert_eq!("100".parse(), Ok(Width::Ranks(100)));
        assert_eq!("30%".parse(), Ok(Width::Share(30.0)));
        assert_eq!("0.5%".parse(), Ok(Width::Share(0.5)));
        for wrong in ["", "%", "-1", "1.5", "0%", "-1%", "101%", "NaN%", "inf%", "30 %", "x"] {
            assert!(wrong.parse::<Width>().is_err(), "{wrong}");
        }
        let window = RankWindow { skip: 3, width: Width::Share(30.0), limits: ScoreLimits::default() };
        let value = serde_json::to_value(window).unwrap();
        assert_eq!(value, serde_json::json!({"skip": 3, "window": "30%"}));
        assert_eq!(serde_json::from_value::<RankWindow>(value).unwrap(), window);
        assert!(serde_json::from_value::<RankWindow>(serde_json::json!({"skip": 3, "window": 1.5})).is_err());
        assert!(window.checked(Metric::Cosine, RankBy::Row).is_err());
        assert!(window.checked(Metric::Cosine, RankBy::Auto).is_ok());
    }

    #[test]
    fn a_share_is_counted_of_the_others_and_is_one_rank_at_least() {
        let counted = |percent, distinct| {
            let window = RankWindow { skip: 3, width: Width::Share(percent), limits: ScoreLimits::default() };
            window.counted(distinct).preferred()
        };
        assert_eq!([11, 12, 101].map(|distinct| counted(30.0, distinct)), [3, 4, 30]);
        assert_eq!([0, 1, 2, 3].map(|distinct| counted(10.0, distinct)), [1; 4]);
        assert_eq!([counted(100.0, 60), counted(95.0, 60)], [56; 2], "no more than there are behind the suspects");
    }

    #[test]
    fn a_limit_is_a_number_or_none() {
        assert_eq!("none".parse(), Ok(Limit::None));
        assert_eq!("0.05".parse(), Ok(Limit::At(0.05)));
        assert!("5%".parse::<Limit>().is_err());
    }
}
