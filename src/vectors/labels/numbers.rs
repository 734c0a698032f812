//! Numbers of several types as one text. Pure.

/// The digits of a float that stands for one integer; none where it stands for no integer, or for several.
///
/// `bits`: those of the type's significand. From 2^bits on, several integers are one float.
pub(super) fn digits_of_float(value: f64, bits: i32) -> Option<String> {
    (value.fract() == 0.0 && value.abs() < 2f64.powi(bits)).then(|| (value as i64).to_string())
}

/// A decimal number as text, without the zeros at the end of its fraction.
pub(super) fn without_trailing_zeros(decimal: &str) -> &str {
    if decimal.contains('.') { decimal.trim_end_matches('0').trim_end_matches('.') } else { decimal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_integers_where_there_is_one_integer_that_they_can_be() {
        let of = |value: f64| digits_of_float(value, 53).unwrap_or_else(|| "none".into());
        assert_eq!([7.0, -7.0, -0.0, 0.0, 1e15].map(of), ["7", "-7", "0", "0", "1000000000000000"]);
        let most = 9_007_199_254_740_991.0;
        assert_eq!([most, -most].map(of), ["9007199254740991", "-9007199254740991"]);
        // 2^53 + 1 as a double is 2^53.
        let others = [75.25, most + 1.0, 1e300, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e-300];
        assert_eq!(others.map(of), ["none"; 7]);
        assert_eq!(digits_of_float(16_777_215.0, 24).as_deref(), Some("16777215"));
        assert_eq!(digits_of_float(f64::from(16_777_217i32 as f32), 24), None, "2^24 + 1 as a float is 2^24");
    }

    #[test]
    fn zeros_go_from_the_end_of_a_fraction_only() {
        let cases = [("7.50", "7.5"), ("7.00", "7"), ("0.00", "0"), ("700", "700"), ("-0.10", "-0.1"), ("0", "0")];
        for (written, value) in cases {
            assert_eq!(without_trailing_zeros(written), value);
        }
    }
}
