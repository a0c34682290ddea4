//! URLs of the schemes `http` and `https`. The parser is the one of the HTTP library ([`url`]), so
//! that what is decided here about a server is true of the one that is asked.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::form_urlencoded::byte_serialize;

/// What comes before `://`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// The port that need not be written.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A URL of a web server. It is shown without the user name and password that it may have.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Url(url::Url);

/// The text is no URL that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{url}\" is not a URL: {why}")]
pub struct ParseUrlError {
    /// The text, or its beginning.
    url: String,
    why: String,
}

impl ParseUrlError {
    fn new(text: &str, why: impl fmt::Display) -> Self {
        Self {
            url: text.chars().take(200).collect(),
            why: why.to_string(),
        }
    }
}

impl FromStr for Url {
    type Err = ParseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = |why| ParseUrlError::new(text, why);
        let (_, rest) = text
            .split_once("://")
            .ok_or_else(|| refused("it must begin with http:// or https://"))?;
        // Browsers look for the host behind any number of slashes, and leave out line ends.
        if rest.starts_with(['/', '\\']) {
            return Err(refused("it names no host"));
        }
        if text.contains(|c: char| c.is_ascii_control()) {
            return Err(refused("it has characters that URLs cannot have"));
        }
        Self::of(url::Url::parse(text), text)
    }
}

impl Url {
    fn of(parsed: Result<url::Url, url::ParseError>, text: &str) -> Result<Self, ParseUrlError> {
        let mut url = parsed.map_err(|error| ParseUrlError::new(text, error))?;
        if !["http", "https"].contains(&url.scheme()) {
            let why = "only http:// and https:// are known";
            return Err(ParseUrlError::new(text, why));
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// The same with another change.
    fn with(&self, change: impl FnOnce(&mut url::Url)) -> Self {
        let mut url = self.0.clone();
        change(&mut url);
        Self(url)
    }

    /// What comes before `://`.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        match self.0.scheme() {
            "http" => Scheme::Http,
            _ => Scheme::Https,
        }
    }

    /// All of it, with user name and password.
    pub(super) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The host in small letters; an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.0.host_str().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, written or not.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port().unwrap_or_else(|| self.scheme().port())
    }

    /// The user name and the password, when the URL has them, with their escapes resolved.
    #[must_use]
    pub fn credentials(&self) -> Option<(String, String)> {
        let (name, password) = (self.0.username(), self.0.password());
        let given = !name.is_empty() || password.is_some();
        given.then(|| (unescape(name), unescape(password.unwrap_or_default())))
    }

    /// The last part of the path with its escapes resolved: what a file from here is called.
    #[must_use]
    pub fn file_name(&self) -> String {
        unescape(self.0.path().rsplit('/').next().unwrap_or_default())
    }

    /// The same without user name and password.
    #[must_use]
    pub fn without_user(&self) -> Self {
        self.with(|url| {
            // A URL with a host can have them, and can be without.
            let _ = url.set_username("");
            let _ = url.set_password(None);
        })
    }

    /// The same path and query at another server.
    #[must_use]
    pub fn at_server(&self, server: &Self) -> Self {
        server.with(|url| {
            url.set_path(self.0.path());
            url.set_query(self.0.query());
        })
    }

    /// The same without what is behind `?`.
    #[must_use]
    pub fn without_query(&self) -> Self {
        self.with(|url| url.set_query(None))
    }

    /// The same with another parameter behind what there is.
    #[must_use]
    pub fn with_parameter(&self, name: &str, value: &str) -> Self {
        self.with(|url| {
            url.query_pairs_mut().append_pair(name, value);
        })
    }

    /// Whether `other` is served by the same server, as far as a URL tells: what is meant for one
    /// is not to be told to another.
    #[must_use]
    pub fn same_server(&self, other: &Self) -> bool {
        self.0.origin() == other.0.origin()
    }

    /// The URL that `reference` means in a document at this one (RFC 3986, section 5.2).
    ///
    /// # Errors
    /// It is a URL of another scheme than `http` and `https`, or a wrong one.
    pub fn join(&self, reference: &str) -> Result<Self, ParseUrlError> {
        Self::of(self.0.join(reference), reference)
    }
}

/// A text as it stands in queries and forms.
#[must_use]
pub fn escape(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

/// A text with its `%XX` resolved; what is no UTF-8 then is replaced.
#[must_use]
pub fn unescape(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Without user name and password.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.without_user().as_str())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn parts() {
        let full = url("HTTPS://me:p%40ss@Example.ORG:8443/a b/ü.img?x=1#top");
        assert_eq!(
            full.to_string(),
            "https://example.org:8443/a%20b/%C3%BC.img?x=1"
        );
        assert_eq!(full.credentials(), Some(("me".into(), "p@ss".into())));
        assert_eq!((full.host(), full.port()), ("example.org", 8443));
        assert_eq!(full.file_name(), "ü.img");
        let bare = url("http://[::1]:80");
        assert_eq!(bare.to_string(), "http://[::1]/");
        assert_eq!((bare.host(), bare.file_name()), ("::1", String::new()));
        assert_eq!(url("http://a?q").to_string(), "http://a/?q");
        assert_eq!(url("http://ä.de").to_string(), "http://xn--4ca.de/");
    }

    #[test]
    fn what_is_no_url() {
        for bad in [
            "",
            "a",
            "/a",
            "ftp://a/",
            "http:///a",
            "http://a:b/",
            "http://a:70000/",
            "http://a b/",
            "http://[::1]x/",
            "http://a\n/",
        ] {
            assert!(bad.parse::<Url>().is_err(), "{bad}");
        }
    }

    /// The examples of RFC 3986, section 5.4, of references that servers send.
    #[test]
    fn references() {
        let base = url("http://a/b/c/d;p?q");
        for (reference, joined) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q"),
            ("g#s", "http://a/b/c/g"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../../../g", "http://a/g"),
            ("/./g/../h", "http://a/h"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("https://other:1/x", "https://other:1/x"),
        ] {
            assert_eq!(
                base.join(reference).unwrap().to_string(),
                joined,
                "{reference}"
            );
        }
        assert!(base.join("file:///etc/passwd").is_err());
        assert!(base.join("mailto:x@y").is_err());
    }

    #[test]
    fn servers_are_told_apart() {
        let one = url("https://a/x");
        assert!(one.same_server(&url("https://A:443/y")));
        assert!(!one.same_server(&url("http://a/x")));
        assert!(!one.same_server(&url("https://a:444/x")));
        assert!(!one.same_server(&url("https://b/x")));
    }

    #[test]
    fn parameters() {
        let location = url("https://a/v2/up?_state=x%3D");
        let whole = location.with_parameter("digest", "sha256:a b");
        assert_eq!(
            whole.to_string(),
            "https://a/v2/up?_state=x%3D&digest=sha256%3Aa+b"
        );
        let bare = whole.without_query();
        assert_eq!(bare.to_string(), "https://a/v2/up");
        assert_eq!(
            bare.with_parameter("n", "1").to_string(),
            "https://a/v2/up?n=1"
        );
        assert_eq!(escape("ü/&=+ ~"), "%C3%BC%2F%26%3D%2B+%7E");
    }

    #[test]
    fn broken_escapes_stay() {
        assert_eq!(unescape("%41%4%zz%"), "A%4%zz%");
        assert_eq!(unescape("%+1"), "%+1");
    }
}
