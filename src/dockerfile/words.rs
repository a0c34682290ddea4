//! Lines split into a keyword, flags and arguments.

use std::ops::Range;

/// A part of a line. Its text can be shorter than its range: quotes of flags are taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) range: Range<usize>,
}

impl Piece {
    /// Where a part of the text is written; the whole range where quotes make that unclear.
    pub(super) fn part(&self, part: Range<usize>) -> Range<usize> {
        match self.text.len() == self.range.len() {
            true => self.range.start + part.start..self.range.start + part.end,
            false => self.range.clone(),
        }
    }
}

/// Blanks that separate words; the lines of a file are split already.
pub(super) const BLANKS: [char; 5] = ['\t', '\u{b}', '\u{c}', '\r', ' '];

/// A range without the white space around it.
pub(super) fn trimmed(line: &str, range: Range<usize>) -> Range<usize> {
    let text = &line[range.clone()];
    let start = range.start + text.len() - text.trim_start().len();
    start..start.max(range.start + text.trim_end().len())
}

/// The first word of a range, and what follows it.
pub(super) fn first_word(line: &str, range: Range<usize>) -> (Range<usize>, Range<usize>) {
    let range = trimmed(line, range);
    let text = &line[range.clone()];
    let end = range.start + text.find(BLANKS).unwrap_or(text.len());
    (range.start..end, trimmed(line, end..range.end))
}

/// Words between blanks; quotes do not matter.
pub(super) fn split_blank(line: &str, range: Range<usize>) -> Vec<Piece> {
    let mut words = Vec::new();
    let mut rest = range;
    loop {
        let (word, after) = first_word(line, rest);
        if word.is_empty() {
            return words;
        }
        words.push(Piece {
            text: line[word.clone()].to_owned(),
            range: word,
        });
        rest = after;
    }
}

/// Words between unquoted blanks; quotes and escapes stay, but for an escape at the end.
pub(super) fn split_quoted(line: &str, range: Range<usize>, escape: char) -> Vec<Piece> {
    let mut words = Vec::new();
    let mut word: Option<Piece> = None;
    let mut quote = None;
    let mut characters = line[range.clone()].char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let at = range.start + at;
        if quote.is_none() && character.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let current = word.get_or_insert_with(|| Piece {
            text: String::new(),
            range: at..at,
        });
        current.range.end = at + character.len_utf8();
        match quote {
            None if matches!(character, '\'' | '"') => quote = Some(character),
            Some(closing) if character == closing => quote = None,
            _ if character == escape && quote != Some('\'') => {
                let Some((_, escaped)) = characters.next() else {
                    break;
                };
                current.text.push(character);
                current.text.push(escaped);
                current.range.end += escaped.len_utf8();
                continue;
            }
            _ => {}
        }
        current.text.push(character);
    }
    words.extend(word.filter(|word| !word.text.is_empty()));
    words
}

/// Flags at the start of the arguments, without their quotes, and where the arguments begin.
pub(super) fn split_flags(line: &str, args: Range<usize>, escape: char) -> (Vec<Piece>, usize) {
    let mut flags = Vec::new();
    let mut start = args.start;
    loop {
        start = trimmed(line, start..args.end).start;
        if !line[start..args.end].starts_with("--") {
            return (flags, start);
        }
        let (flag, end) = flag(line, start..args.end, escape);
        start = end;
        if flag.text == "--" {
            return (flags, start);
        }
        flags.push(flag);
    }
}

fn flag(line: &str, range: Range<usize>, escape: char) -> (Piece, usize) {
    let mut text = String::new();
    let mut quote = None;
    let mut characters = line[range.clone()].char_indices();
    let mut end = range.end;
    while let Some((at, character)) = characters.next() {
        match quote {
            None if character.is_whitespace() => {
                end = range.start + at;
                break;
            }
            None if matches!(character, '\'' | '"') => quote = Some(character),
            Some(closing) if character == closing => quote = None,
            _ if character == escape => text.extend(characters.next().map(|(_, c)| c)),
            _ => text.push(character),
        }
    }
    let range = range.start..end;
    (Piece { text, range }, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pieces: &[Piece]) -> Vec<&str> {
        pieces.iter().map(|piece| piece.text.as_str()).collect()
    }

    #[test]
    fn quoted_words() {
        let split = |line: &str| {
            let pieces = split_quoted(line, 0..line.len(), '\\');
            for piece in &pieces {
                assert!(
                    line[piece.range.clone()].starts_with(&piece.text),
                    "{piece:?}"
                );
            }
            texts(&pieces).join("|")
        };
        assert_eq!(split(r#"a=b  c="d e" f='g "h'"#), r#"a=b|c="d e"|f='g "h'"#);
        assert_eq!(split(r"a=b\ c d\\ e"), r"a=b\ c|d\\|e");
        assert_eq!(split(r#"a="b\" c" d"#), r#"a="b\" c"|d"#);
        assert_eq!(split(r"a='b\' c"), r"a='b\'|c");
        assert_eq!(split(r"a=b\"), r"a=b");
        assert_eq!(split(r#"a="b c"#), r#"a="b c"#);
        assert_eq!(split("  "), "");
    }

    #[test]
    fn flags() {
        let split = |line: &str| {
            let (flags, at) = split_flags(line, 0..line.len(), '\\');
            format!("{} > {}", texts(&flags).join("|"), line[at..].trim_start())
        };
        assert_eq!(split("--a=b  --c d --e"), "--a=b|--c > d --e");
        assert_eq!(split(r#"--a="b c" d"#), "--a=b c > d");
        assert_eq!(split(r"--a=b\ c d"), "--a=b c > d");
        assert_eq!(split("--a -- --b c"), "--a > --b c");
        assert_eq!(split("-a b"), " > -a b");
        assert_eq!(split("--a"), "--a > ");
    }
}
