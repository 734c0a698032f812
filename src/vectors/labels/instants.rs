//! Instants as one text, whatever type they come from. Pure.

use std::fmt::Write;

use arrow::datatypes::TimeUnit;

const SECONDS_OF_A_DAY: i64 = 86_400;

/// A count of a unit since 1970 as an ISO date and time, without zeros at the end of the fraction of a second.
pub(super) fn text_of_instant(count: i64, unit: TimeUnit, zoned: bool) -> String {
    let (per_second, digits) = match unit {
        TimeUnit::Second => (1, 0),
        TimeUnit::Millisecond => (1_000, 3),
        TimeUnit::Microsecond => (1_000_000, 6),
        TimeUnit::Nanosecond => (1_000_000_000, 9),
    };
    let (seconds, fraction) = (count.div_euclid(per_second), count.rem_euclid(per_second));
    let (days, of_day) = (seconds.div_euclid(SECONDS_OF_A_DAY), seconds.rem_euclid(SECONDS_OF_A_DAY));
    let mut text = text_of_day(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    // Writing into a string cannot fail.
    let _ = write!(text, "T{hour:02}:{minute:02}:{second:02}");
    if fraction != 0 {
        let _ = write!(text, ".{}", format!("{fraction:0digits$}").trim_end_matches('0'));
    }
    if zoned {
        text.push('Z');
    }
    text
}

/// The date that lies so many days after 1970-01-01, in the proleptic Gregorian calendar.
fn text_of_day(days: i64) -> String {
    // Years begin in March here, so that the leap day is the last; 400 years have 146,097 days.
    let shifted = i128::from(days) + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i128::from(month <= 2);
    // A sign before years of another form, as ISO 8601 has it.
    let sign = match year {
        ..0 => "-",
        0..=9999 => "",
        _ => "+",
    };
    format!("{sign}{:04}-{month:02}-{day:02}", year.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_instant_has_one_text_in_every_unit() {
        let of = |count, unit| text_of_instant(count, unit, false);
        let seconds = 1_700_000_000;
        assert_eq!(of(seconds, TimeUnit::Second), "2023-11-14T22:13:20");
        assert_eq!(of(seconds * 1_000, TimeUnit::Millisecond), "2023-11-14T22:13:20");
        assert_eq!(of(seconds * 1_000_000_000, TimeUnit::Nanosecond), "2023-11-14T22:13:20");
        assert_eq!(of(seconds * 1_000 + 250, TimeUnit::Millisecond), "2023-11-14T22:13:20.25");
        assert_eq!(of(seconds * 1_000_000 + 250_000, TimeUnit::Microsecond), "2023-11-14T22:13:20.25");
        assert_eq!(of(-1, TimeUnit::Millisecond), "1969-12-31T23:59:59.999");
        assert_eq!(text_of_instant(0, TimeUnit::Second, true), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for days in (-800_000..4_000_000).step_by(97) {
            let expected = arrow::temporal_conversions::date32_to_datetime(days).unwrap().date().to_string();
            assert_eq!(text_of_day(i64::from(days)), expected);
        }
        for count in [i64::MIN, i64::MAX] {
            for unit in [TimeUnit::Second, TimeUnit::Nanosecond] {
                assert!(text_of_instant(count, unit, true).ends_with('Z'), "no count is too large");
            }
        }
    }
}
