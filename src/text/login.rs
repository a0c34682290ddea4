//! User names and passwords in addresses, which vmfab must not show.

use std::ops::Range;

/// Where a text has user names and passwords, before the `@` of addresses. The user name of an SSH
/// address does not count.
pub(crate) fn logins(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("://") {
        let start = at + "://".len();
        let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | ',' | '<' | '>');
        let end = text[start..].find(ends);
        let authority = &text[start..end.map_or(text.len(), |end| start + end)];
        let Some(length) = authority.rfind('@') else {
            continue;
        };
        match (text[..at].ends_with("ssh"), authority[..length].find(':')) {
            (false, _) => found.push(start..start + length),
            (true, Some(colon)) => found.push(start + colon..start + length),
            (true, None) => {}
        }
    }
    found
}

/// The text without the user names and passwords of its addresses.
#[must_use]
pub(crate) fn without_logins(text: &str) -> String {
    let mut text = text.to_owned();
    for range in logins(&text).into_iter().rev() {
        // The `@` stays behind the user name of SSH.
        let end = range.end + usize::from(!text[range.clone()].starts_with(':'));
        text.replace_range(range.start..end, "");
    }
    text
}

/// The text with `*` in place of each character of user names and passwords, so that spans still fit.
/// Variables stay: they show what to correct.
#[must_use]
pub(crate) fn hide_logins(text: &str) -> String {
    let mut hidden = text.to_owned();
    for range in logins(text) {
        for part in text[range.clone()]
            .split(':')
            .filter(|part| !part.starts_with('$'))
        {
            let start =
                range.start + part.as_ptr() as usize - text[range.clone()].as_ptr() as usize;
            hidden.replace_range(start..start + part.len(), &"*".repeat(part.len()));
        }
    }
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_shown_without_passwords() {
        for (text, without, hidden) in [
            (
                "ADD https://a:b@c/d@e /f",
                "ADD https://c/d@e /f",
                "ADD https://*:*@c/d@e /f",
            ),
            (
                "http://t@c \"http://u@d\"",
                "http://c \"http://d\"",
                "http://*@c \"http://*@d\"",
            ),
            ("ssh://a:bc@d/e", "ssh://a@d/e", "ssh://a:**@d/e"),
            (
                "https://x:$T@c/${U}",
                "https://c/${U}",
                "https://*:$T@c/${U}",
            ),
            ("a@b://c me@d:e", "a@b://c me@d:e", "a@b://c me@d:e"),
            ("https://ä@c", "https://c", "https://**@c"),
        ] {
            assert_eq!(without_logins(text), without);
            assert_eq!(hide_logins(text), hidden);
        }
    }
}
