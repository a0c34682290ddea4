//! Where here-documents begin in a line.

use std::ops::Range;

use super::expand::expand;

/// `<<NAME` and its kin, as one word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redirection {
    pub(super) name: String,
    pub(super) expands: bool,
    pub(super) strips_tabs: bool,
}

impl Redirection {
    /// Digits, `<<`, perhaps `-`, and a name that can be quoted.
    pub(super) fn parse(word: &str) -> Option<Self> {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
        let rest = rest.strip_prefix("<<")?;
        let (rest, strips_tabs) = match rest.strip_prefix('-') {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let raw = rest.trim_start();
        if raw.is_empty() || raw.contains('<') || words(raw)?.len() != 1 {
            return None;
        }
        // Variables in a name stay.
        let keep = |name: &str| Some(format!("${name}"));
        let name = expand(raw, &keep, '\\').ok()?;
        let quotes = |text: &str| text.matches(['\'', '"']).count();
        Some(Self {
            expands: quotes(&name) == quotes(raw),
            name,
            strips_tabs,
        })
    }
}

/// The here-documents that a line announces, in their order; none if its quotes are not closed.
pub(super) fn redirections(line: &str) -> Vec<(Range<usize>, Redirection)> {
    let words = words(line).unwrap_or_default().into_iter();
    let parsed = words.filter_map(|range| {
        let redirection = Redirection::parse(&line[range.clone()])?;
        Some((range, redirection))
    });
    parsed.collect()
}

/// Words of a shell's line, with their quotes; a name that follows `<<` after blanks belongs to it.
fn words(line: &str) -> Option<Vec<Range<usize>>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut last = None;
    let mut characters = line.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            words.extend(start.take().map(|start| start..at));
            last = None;
            continue;
        }
        start.get_or_insert(at);
        match quote {
            Some(closing) if character == closing => quote = None,
            None if matches!(character, '\'' | '"') => quote = Some(character),
            _ if character == '\\' && quote != Some('\'') => {
                characters.next();
            }
            None if character == '<' && last == Some('<') => {
                while characters
                    .next_if(|(_, c)| matches!(c, ' ' | '\t' | '\r'))
                    .is_some()
                {}
                last = None;
                continue;
            }
            _ => {}
        }
        last = Some(character);
    }
    if quote.is_some() {
        return None;
    }
    words.extend(start.map(|start| start..line.len()));
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> String {
        let show = |(range, redirection): (Range<usize>, Redirection)| {
            format!(
                "{}:{}{}{}",
                &line[range],
                redirection.name,
                if redirection.expands { "" } else { " quoted" },
                if redirection.strips_tabs { " tabs" } else { "" },
            )
        };
        let found: Vec<_> = redirections(line).into_iter().map(show).collect();
        found.join(", ")
    }

    #[test]
    fn names() {
        assert_eq!(found("RUN <<EOF"), "<<EOF:EOF");
        assert_eq!(
            found("RUN cat <<-A 3<<'B' << C"),
            "<<-A:A tabs, 3<<'B':B quoted, << C:C"
        );
        assert_eq!(
            found(r#"COPY <<a.txt <<"b c" /x"#),
            r#"<<a.txt:a.txt, <<"b c":b c quoted"#
        );
        assert_eq!(found("RUN cat <<E\"O\"F"), "<<E\"O\"F:EOF quoted");
        assert_eq!(found("RUN cat <<$A"), "<<$A:$A");
    }

    #[test]
    fn what_is_none() {
        for line in [
            "RUN cat <<<word",
            "RUN echo '<<EOF'",
            "RUN echo \"<<EOF\"",
            "RUN echo \\<<EOF",
            "RUN cat<<EOF",
            "RUN echo it's <<EOF",
            "RUN cat <<",
            "RUN echo $((1<<2))",
        ] {
            assert_eq!(found(line), "", "{line}");
        }
    }
}
