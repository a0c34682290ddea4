//! The beginning of a text from elsewhere.

/// Characters that are shown.
const MOST: usize = 200;

/// The beginning of a text from elsewhere, escaped, to be shown in a line.
pub(crate) fn excerpt(text: &str) -> String {
    let begin: String = text.chars().take(MOST).collect();
    let more = if begin.len() < text.len() { "…" } else { "" };
    format!("{}{more}", begin.escape_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_hostile_texts_stay_in_a_line() {
        assert_eq!(excerpt("https://slsa.dev/v1"), "https://slsa.dev/v1");
        assert_eq!(excerpt("\u{1b}[2J\n"), "\\u{1b}[2J\\n");
        assert_eq!(excerpt(&"x".repeat(MOST)), "x".repeat(MOST));
        let long = excerpt(&"x".repeat(1 << 20));
        assert_eq!(long, "x".repeat(MOST) + "…");
    }
}
