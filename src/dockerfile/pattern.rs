//! Patterns within `${NAME#…}`, `${NAME%…}` and `${NAME/…/…}`: `*` and `?`, without brackets.
//! Neither matches a line end.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Exactly(char),
    Any,
    Many,
}

/// Comparisons of one character with one token that a substitution may take.
const MOST_COMPARISONS: usize = 50_000_000;

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unusable {
    /// `\` before this character, or before nothing.
    Escape(Option<char>),
    /// The pattern and the value together are too long.
    TooLong,
}

pub(super) struct Pattern(Vec<Token>);

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, Unusable> {
        let mut tokens = Vec::new();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            tokens.push(match character {
                '*' => Token::Many,
                '?' => Token::Any,
                '\\' => match characters.next() {
                    // `}` and `/` end parts of the substitution, so they are written with `\`.
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Token::Exactly(escaped),
                    other => return Err(Unusable::Escape(other)),
                },
                other => Token::Exactly(other),
            });
        }
        Ok(Self(tokens))
    }

    /// The value without the shortest or longest start that matches.
    pub(super) fn trim_start(&self, value: &str, longest: bool) -> Result<String, Unusable> {
        let value: Vec<char> = value.chars().collect();
        let end = self.end_of_match(&value, longest, &mut MOST_COMPARISONS.clone())?;
        Ok(value[end.unwrap_or(0)..].iter().collect())
    }

    /// The value without the shortest or longest end that matches.
    pub(super) fn trim_end(&self, value: &str, longest: bool) -> Result<String, Unusable> {
        let backwards = Self(self.0.iter().rev().copied().collect());
        let value: String = value.chars().rev().collect();
        let left = backwards.trim_start(&value, longest)?;
        Ok(left.chars().rev().collect())
    }

    /// The value with the first match replaced, or all of them.
    pub(super) fn replace(&self, value: &str, by: &str, all: bool) -> Result<String, Unusable> {
        let value: Vec<char> = value.chars().collect();
        let mut fuel = MOST_COMPARISONS;
        let mut result = String::new();
        let (mut at, mut end_of_last) = (0, None);
        while at <= value.len() {
            let found = self.end_of_match(&value[at..], true, &mut fuel)?;
            match found.map(|length| at + length) {
                // Nothing was matched directly behind a match: that is its end, and not another.
                Some(end) if end > at || end_of_last != Some(at) => {
                    result.push_str(by);
                    if !all {
                        result.extend(&value[end..]);
                        return Ok(result);
                    }
                    if end == at {
                        result.extend(value.get(at));
                    }
                    end_of_last = Some(end);
                    at = end.max(at + 1);
                }
                _ => {
                    result.extend(value.get(at));
                    at += 1;
                }
            }
        }
        Ok(result)
    }

    /// Where the shortest or longest match that starts at the start ends.
    fn end_of_match(
        &self,
        value: &[char],
        longest: bool,
        fuel: &mut usize,
    ) -> Result<Option<usize>, Unusable> {
        let accepting = self.0.len();
        let mut states = vec![false; accepting + 1];
        states[0] = true;
        let mut found = None;
        for at in 0..=value.len() {
            // What `*` matches may be nothing.
            for (state, token) in self.0.iter().enumerate() {
                if states[state] && *token == Token::Many {
                    states[state + 1] = true;
                }
            }
            if states[accepting] {
                found = Some(at);
                if !longest {
                    break;
                }
            }
            let Some(&character) = value.get(at) else {
                break;
            };
            *fuel = fuel.checked_sub(accepting + 1).ok_or(Unusable::TooLong)?;
            let mut next = vec![false; accepting + 1];
            for (state, token) in self.0.iter().enumerate().filter(|(at, _)| states[*at]) {
                match token {
                    Token::Exactly(wanted) if *wanted == character => next[state + 1] = true,
                    Token::Any if character != '\n' => next[state + 1] = true,
                    Token::Many if character != '\n' => next[state] = true,
                    _ => {}
                }
            }
            if !next.contains(&true) {
                break;
            }
            states = next;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The plain definition: a pattern matches a whole text.
    fn matches(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['*', rest @ ..] => (0..=text.len()).any(|at| matches(rest, &text[at..])),
            ['?', rest @ ..] => !text.is_empty() && matches(rest, &text[1..]),
            [first, rest @ ..] => text.first() == Some(first) && matches(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn ends_are_trimmed_as_the_definition_says(
            pattern in "[ab?*]{0,6}", value in "[abc]{0,8}", longest: bool,
        ) {
            let tokens: Vec<char> = pattern.chars().collect();
            let chars: Vec<char> = value.chars().collect();
            let parsed = Pattern::parse(&pattern).unwrap();
            let lengths = 0..=chars.len();
            let fits = |length: &usize| matches(&tokens, &chars[..*length]);
            let cut = if longest { lengths.rev().find(fits) } else { lengths.clone().find(fits) };
            let expected: String = chars[cut.unwrap_or(0)..].iter().collect();
            prop_assert_eq!(parsed.trim_start(&value, longest).unwrap(), expected);

            let lengths = 0..=chars.len();
            let fits = |left: &usize| matches(&tokens, &chars[*left..]);
            let cut = if longest { lengths.clone().find(fits) } else { lengths.rev().find(fits) };
            let expected: String = chars[..cut.unwrap_or(chars.len())].iter().collect();
            prop_assert_eq!(parsed.trim_end(&value, longest).unwrap(), expected);
        }

        #[test]
        fn replacing_a_plain_text_is_what_the_standard_library_does(
            pattern in "[ab]{1,3}", value in "[abc]{0,9}", by in "[xy]{0,2}",
        ) {
            let parsed = Pattern::parse(&pattern).unwrap();
            let all = parsed.replace(&value, &by, true).unwrap();
            prop_assert_eq!(all, value.replace(&pattern, &by));
            let first = parsed.replace(&value, &by, false).unwrap();
            prop_assert_eq!(first, value.replacen(&pattern, &by, 1));
        }
    }

    #[test]
    fn a_pattern_that_would_take_for_ever_is_refused() {
        let pattern = Pattern::parse(&"*a".repeat(100)).unwrap();
        let value = "a".repeat(1 << 20);
        assert_eq!(pattern.replace(&value, "", true), Err(Unusable::TooLong));
    }
}
