//! `WWW-Authenticate` (RFC 9110, section 11.6.1; RFC 6750): how a registry wants to be told who
//! asks. Pure.

use std::collections::BTreeMap;

/// How a registry wants to be told who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With the name and the password.
    Basic,
    /// With a token of another server.
    Bearer {
        /// The URL of that server.
        realm: String,
        /// What the registry is called there.
        service: Option<String>,
    },
}

impl Challenge {
    /// The challenge that is answered: tokens rather than passwords. `None` when no known one is
    /// there.
    pub(super) fn of<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut basic = None;
        for header in headers {
            for (scheme, mut parameters) in challenges(header) {
                if scheme.eq_ignore_ascii_case("basic") {
                    basic = Some(Self::Basic);
                } else if scheme.eq_ignore_ascii_case("bearer")
                    && let Some(realm) = parameters.remove("realm")
                {
                    let service = parameters.remove("service");
                    return Some(Self::Bearer { realm, service });
                }
            }
        }
        basic
    }
}

/// The schemes of one header, with their parameters by names in small letters.
fn challenges(header: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=', '"']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return found;
        }
        let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        let Some(value) = value else {
            found.push((word.to_owned(), BTreeMap::new()));
            rest = after;
            continue;
        };
        let (value, after) = value_of(value.trim_start_matches([' ', '\t']));
        if let Some((_, parameters)) = found.last_mut() {
            parameters.insert(word.to_ascii_lowercase(), value);
        }
        rest = after;
    }
}

/// A value in quotes or without, and what is behind it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[&str]) -> Option<Challenge> {
        Challenge::of(headers.iter().copied())
    }

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
        })
    }

    #[test]
    fn challenges_of_registries() {
        assert_eq!(
            of(&[r#"Basic realm="Registry Realm""#]),
            Some(Challenge::Basic)
        );
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let expected = bearer("https://auth.docker.io/token", Some("registry.docker.io"));
        assert_eq!(of(&[hub]), expected);
        assert_eq!(of(&[r#"Basic realm="x""#, hub]), expected);
        let both = format!(r#"Basic realm="a, b", {hub}"#);
        assert_eq!(of(&[&both]), expected);
        assert_eq!(
            of(&["BEARER Realm = http://a/t , error=x"]),
            bearer("http://a/t", None)
        );
        assert_eq!(of(&[r#"bearer realm="a\"b"#]), bearer("a\"b", None));
    }

    #[test]
    fn what_is_no_challenge() {
        for header in [
            "",
            ",",
            "Bearer",
            "Bearer scope=\"x\"",
            "=",
            "\"",
            "Negotiate",
            "a=b",
        ] {
            assert_eq!(of(&[header]), None, "{header}");
        }
    }
}
