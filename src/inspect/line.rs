//! Texts of the data in one line. Pure.

/// A text fit for one line: without control characters, at most `most` characters.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let clean = |letter: char| if letter.is_control() { ' ' } else { letter };
    let mut line: String = text.chars().take(most).map(clean).collect();
    if text.chars().nth(most).is_some() {
        line.pop();
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_no_control_characters_and_no_more_than_its_length() {
        assert_eq!(one_line("a\nb\tc", 5), "a b c");
        assert_eq!(one_line("größer", 6), "größer");
        assert_eq!(one_line("größere", 6), "größe…");
        assert_eq!(one_line("", 3), "");
    }
}
