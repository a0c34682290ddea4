//! Texts of others, made harmless for those who read them.

/// A line of a program's output, or a name of others, without what could move a cursor, change
/// colours or turn the order of letters.
pub(crate) fn harmless(line: &str) -> String {
    console::strip_ansi_codes(line)
        .chars()
        .map(|c| if is_harmful(c) { ' ' } else { c })
        .collect()
}

/// Whether a terminal or a browser does something else with a character than showing it.
pub(crate) fn is_harmful(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns
}
