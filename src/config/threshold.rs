//! What a relevance from 0 to 1 says of a judged pair.

use serde::{Deserialize, Serialize};

use super::window::NumberOrWord;
/// What a relevance from 0 to 1 says of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "NumberOrWord", into = "String")]
pub struct Threshold {
    /// Below it a pair is judged negative.
    pub low: f64,
    /// From it on a pair is judged positive; what lies between is not judged.
    pub high: f64,
}

impl Default for Threshold {
    fn default() -> Threshold {
        Threshold { low: 0.5, high: 0.5 }
    }
}

impl Threshold {
    /// Whether it need not be recorded.
    pub(crate) fn is_default(&self) -> bool {
        *self == Threshold::default()
    }

    /// Whether a pair of this relevance is judged positive; `None`: it is not judged.
    pub(crate) fn judge(self, relevance: f64) -> Option<bool> {
        match relevance {
            _ if relevance >= self.high => Some(true),
            _ if relevance < self.low => Some(false),
            _ => None,
        }
    }
}

impl std::fmt::Display for Threshold {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.low == self.high {
            true => write!(out, "{}", self.high),
            false => write!(out, "{}..{}", self.low, self.high),
        }
    }
}

impl From<Threshold> for String {
    fn from(threshold: Threshold) -> String {
        threshold.to_string()
    }
}

impl std::str::FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Threshold, String> {
        let (low, high) = text.split_once("..").unwrap_or((text, text));
        match (low.parse(), high.parse()) {
            (Ok(low), Ok(high)) if 0.0 <= low && low <= high && high <= 1.0 => Ok(Threshold { low, high }),
            _ => Err(format!("{text}: expected a number from 0 to 1, such as 0.5, or two, such as 0.3..0.7")),
        }
    }
}

impl TryFrom<NumberOrWord> for Threshold {
    type Error = String;

    fn try_from(value: NumberOrWord) -> Result<Threshold, String> {
        match value {
            NumberOrWord::Number(number) => number.to_string().parse(),
            NumberOrWord::Word(word) => word.parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_a_number_or_two() {
        let one: Threshold = "0.5".parse().unwrap();
        assert_eq!([0.49, 0.5, 1.0].map(|relevance| one.judge(relevance)), [Some(false), Some(true), Some(true)]);
        let two: Threshold = "0.25..0.75".parse().unwrap();
        let judged = [0.0, 0.25, 0.74, 0.75].map(|relevance| two.judge(relevance));
        assert_eq!(judged, [Some(false), None, None, Some(true)]);
        assert_eq!((one.to_string(), two.to_string()), ("0.5".to_owned(), "0.25..0.75".to_owned()));
        for wrong in ["", "x", "1.5", "-0.1", "0.7..0.3", "NaN", "0.1..", "0..1..2"] {
            assert!(wrong.parse::<Threshold>().is_err(), "{wrong}");
        }
    }
}
