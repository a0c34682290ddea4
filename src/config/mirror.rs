//! Where else the same files are.

use std::str::FromStr;

use crate::failure::Failure;

/// What is below `from` is also below `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The beginning of URLs, without a slash at the end; `None` for any URL.
    from: Option<String>,
    /// Where to look instead, without a slash at the end.
    to: String,
    /// Whether the URL itself is not asked when the mirror has nothing.
    pub only: bool,
}

impl Mirror {
    /// A mirror of what is below the URL `from`, or of everything when it is `*`.
    ///
    /// # Errors
    /// One of them is no URL.
    pub fn new(from: &str, to: &str, only: bool) -> Result<Self, Failure> {
        let url = |text: &str| match text.split_once("://") {
            Some(("http" | "https", rest)) if !rest.trim_start_matches('/').is_empty() => {
                Ok(text.trim_end_matches('/').to_owned())
            }
            _ => Err(Failure::usage(format!(
                "\"{text}\" does not begin with http:// or https://"
            ))),
        };
        Ok(Self {
            from: if from == "*" { None } else { Some(url(from)?) },
            to: url(to)?,
            only,
        })
    }

    /// Where this mirror has what is at `url`, when it covers it.
    #[must_use]
    pub fn apply(&self, url: &str) -> Option<String> {
        match &self.from {
            // `https://a.org` is not the beginning of `https://a.org.example`.
            Some(from) => {
                let rest = url.strip_prefix(from)?;
                let whole = rest.is_empty() || rest.starts_with(['/', '?']);
                whole.then(|| format!("{}{rest}", self.to))
            }
            None => {
                let (scheme, rest) = url.split_once("://")?;
                let known = ["http", "https"].contains(&scheme);
                // A password for one server is not for another.
                let start = rest.find('/').unwrap_or(rest.len());
                let host = rest[..start].rfind('@').map_or(0, |at| at + 1);
                known.then(|| format!("{}/{}", self.to, &rest[host..]))
            }
        }
    }
}

/// `PREFIX=REPLACEMENT`, as the variable `VMFAB_MIRROR` has it.
impl FromStr for Mirror {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let starts = ["=http://", "=https://"].map(|start| text.find(start));
        let at = starts.into_iter().flatten().min();
        let at = at.ok_or_else(|| {
            Failure::usage(format!(
                "\"{text}\" is not of the form PREFIX=REPLACEMENT, both of them URLs (or * as \
                 the prefix)"
            ))
        })?;
        Self::new(&text[..at], &text[at + 1..], false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        let mirror = Mirror::new("https://a.org/pub/", "https://m.example/a/", false).unwrap();
        for (url, other) in [
            ("https://a.org/pub/x/y?z", Some("https://m.example/a/x/y?z")),
            ("https://a.org/pub", Some("https://m.example/a")),
            ("https://a.org/public/x", None),
            ("http://a.org/pub/x", None),
        ] {
            assert_eq!(mirror.apply(url).as_deref(), other, "{url}");
        }
        let host = Mirror::new("https://a.org", "https://m", false).unwrap();
        assert_eq!(
            host.apply("https://a.org/x").as_deref(),
            Some("https://m/x")
        );
        assert_eq!(host.apply("https://a.org.example/x"), None);
    }

    #[test]
    fn everything() {
        let any = Mirror::new("*", "http://127.0.0.1:8080/", true).unwrap();
        for (url, other) in [
            ("https://a.org/b", Some("http://127.0.0.1:8080/a.org/b")),
            (
                "http://me:pw@a.org:81/b@c",
                Some("http://127.0.0.1:8080/a.org:81/b@c"),
            ),
            ("https://a.org", Some("http://127.0.0.1:8080/a.org")),
            ("file:///a", None),
        ] {
            assert_eq!(any.apply(url).as_deref(), other, "{url}");
        }
    }

    #[test]
    fn what_is_no_mirror() {
        for (from, to) in [
            ("a.org", "https://b"),
            ("https://a", "b"),
            ("https://", "https://b"),
            ("https://a", "*"),
        ] {
            assert!(Mirror::new(from, to, false).is_err(), "{from} {to}");
        }
        assert!("https://a".parse::<Mirror>().is_err());
        assert!("a=https://b".parse::<Mirror>().is_err());
    }
}
