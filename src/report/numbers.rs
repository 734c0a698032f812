//! Numbers as text. Pure.

use super::estimate::Estimate;

/// Text in the place of a figure that there is none of.
pub(crate) const NONE: &str = "–";

/// A number with about three significant digits.
pub(crate) fn amount(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 1000.0 => indicatif::HumanCount(value.round() as u64).to_string(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        size if size >= 0.001 => format!("{value:.4}"),
        _ => format!("{value:.1e}"),
    }
}

/// A share in percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{} %", amount(100.0 * share))
}

/// A whole number, its thousands separated by commas.
pub(crate) fn count(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// Bytes in powers of 1024.
pub(crate) fn bytes(number: u64) -> String {
    indicatif::HumanBytes(number).to_string()
}

/// Seconds.
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.2} s") } else { format!("{} s", amount(seconds)) }
}

/// A mean and its standard error; the error decides the digits.
pub(crate) fn estimate(estimate: &Estimate) -> String {
    let error = estimate.standard_error;
    let digits = if error > 0.0 { (1.0 - error.log10().floor()).clamp(1.0, 5.0) as usize } else { 4 };
    match error {
        0.0 => format!("{:.digits$}", estimate.mean),
        _ => format!("{:.digits$} ± {error:.digits$}", estimate.mean),
    }
}

pub(crate) fn or_none(text: Option<String>) -> String {
    text.unwrap_or_else(|| NONE.into())
}

/// A name from the data, fit to be shown in one line: without control characters, at most `most` letters.
pub(crate) fn name(text: &str, most: usize) -> String {
    let clean = |letter: char| if letter.is_control() { '\u{FFFD}' } else { letter };
    let mut short: String = text.chars().take(most).map(clean).collect();
    if text.chars().nth(most).is_some() {
        short.pop();
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_significant_digits() {
        let shown = [0.0, 12345.6, 123.4, 12.34, 1.234, 0.0123, 0.000_012].map(amount);
        assert_eq!(shown, ["0", "12,346", "123", "12.3", "1.23", "0.0123", "1.2e-5"]);
        assert_eq!(percent(0.0123), "1.23 %");
        let mut found = Estimate {
            mean: 0.48213,
            standard_error: 0.00152,
            queries: 9,
            p05: 0.0,
            p25: 0.0,
            p50: 0.0,
            p75: 0.0,
            p95: 0.0,
        };
        assert_eq!(estimate(&found), "0.4821 ± 0.0015");
        found.standard_error = 0.0;
        assert_eq!(estimate(&found), "0.4821");
    }

    #[test]
    fn names_are_cut_and_cleaned() {
        assert_eq!(name("a\u{1b}[31mb", 20), "a\u{FFFD}[31mb");
        assert_eq!(name("abcdef", 4), "abc…");
        assert_eq!(name("abcd", 4), "abcd");
    }
}
