//! URLs of the schemes `http` and `https`, as far as a client needs them (RFC 3986).

use std::fmt;
use std::str::FromStr;

/// What comes before `://`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

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
pub struct Url {
    scheme: Scheme,
    /// `name` or `name:password`, as written.
    user: Option<String>,
    /// In small letters; IPv6 addresses in brackets.
    host: String,
    port: u16,
    /// Path and query, beginning with `/`.
    path: String,
}

/// The text is no URL that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{url}\" is not a URL: {why}")]
pub struct ParseUrlError {
    /// The text, or its beginning.
    url: String,
    why: &'static str,
}

impl FromStr for Url {
    type Err = ParseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = |why| ParseUrlError {
            url: text.chars().take(200).collect(),
            why,
        };
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| refused("it must begin with http:// or https://"))?;
        let scheme = [Scheme::Http, Scheme::Https]
            .into_iter()
            .find(|one| scheme.eq_ignore_ascii_case(one.name()))
            .ok_or_else(|| refused("only http:// and https:// are known"))?;
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, authority),
        };
        let port_at = match place.rfind(']') {
            Some(end) => end + 1,
            None => place.find(':').unwrap_or(place.len()),
        };
        let (host, port) = place.split_at(port_at);
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => scheme.port(),
            None => return Err(refused("the host has characters after its address")),
            Some("") => scheme.port(),
            Some(digits) => digits
                .parse()
                .map_err(|_| refused("the port is not a number up to 65535"))?,
        };
        let fine = |c: char| c.is_ascii_alphanumeric() || "-._~[]:%".contains(c);
        if host.is_empty() {
            return Err(refused("it names no host"));
        }
        if !host.chars().all(fine) {
            return Err(refused(
                "the host has characters that host names cannot have",
            ));
        }
        Ok(Self {
            scheme,
            user,
            host: host.to_ascii_lowercase(),
            port,
            path: escaped_path(path),
        })
    }
}

/// A path with its query, as it is sent: without the fragment, and with everything escaped that cannot
/// stand in a request.
fn escaped_path(path: &str) -> String {
    let path = path.split_once('#').map_or(path, |(path, _)| path);
    let mut escaped = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        escaped.push('/');
    }
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

impl Url {
    /// What comes before `://`.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host in small letters; an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, written or not.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The user name and the password, when the URL has them, with their escapes resolved.
    #[must_use]
    pub fn credentials(&self) -> Option<(String, String)> {
        let user = self.user.as_deref()?;
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        Some((unescape(name), unescape(password)))
    }

    /// The last part of the path with its escapes resolved: what a file from here is called.
    #[must_use]
    pub fn file_name(&self) -> String {
        let path = self
            .path
            .split_once('?')
            .map_or(&*self.path, |(path, _)| path);
        unescape(path.rsplit('/').next().unwrap_or_default())
    }

    /// The same without user name and password.
    #[must_use]
    pub fn without_user(&self) -> Self {
        Self {
            user: None,
            ..self.clone()
        }
    }

    /// The same path and query at another server.
    #[must_use]
    pub fn at_server(&self, server: &Self) -> Self {
        Self {
            path: self.path.clone(),
            ..server.clone()
        }
    }

    /// The same without what is behind `?`.
    #[must_use]
    pub fn without_query(&self) -> Self {
        let path = self.path.split('?').next().unwrap_or_default();
        Self {
            path: path.to_owned(),
            ..self.clone()
        }
    }

    /// The same with another parameter behind what there is.
    #[must_use]
    pub fn with_parameter(&self, name: &str, value: &str) -> Self {
        let sign = if self.path.contains('?') { '&' } else { '?' };
        Self {
            path: format!("{}{sign}{name}={}", self.path, escape(value)),
            ..self.clone()
        }
    }

    /// Whether `other` is served by the same server, as far as a URL tells: what is meant for one is
    /// not to be told to another.
    #[must_use]
    pub fn same_server(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.host == other.host && self.port == other.port
    }

    /// The URL that `reference` means in a document at this one (RFC 3986, section 5.2).
    ///
    /// # Errors
    /// It is a URL of another scheme than `http` and `https`, or a wrong one.
    pub fn join(&self, reference: &str) -> Result<Self, ParseUrlError> {
        let reference = reference.trim();
        let scheme = reference.split(['/', '?', '#']).next().unwrap_or_default();
        if scheme.contains(':') {
            return reference.parse();
        }
        if let Some(rest) = reference.strip_prefix("//") {
            return format!("{}://{rest}", self.scheme.name()).parse();
        }
        let (path, query) = match self.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&*self.path, None),
        };
        let joined = match reference.split('#').next().unwrap_or_default() {
            "" => query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}")),
            only_query if only_query.starts_with('?') => format!("{path}{only_query}"),
            absolute if absolute.starts_with('/') => absolute.to_owned(),
            relative => {
                let directory = path.rfind('/').map_or("/", |at| &path[..=at]);
                format!("{directory}{relative}")
            }
        };
        Ok(Self {
            path: escaped_path(&without_dots(&joined)),
            ..self.clone()
        })
    }
}

/// A path without `.` and `..` (RFC 3986, section 5.2.4).
fn without_dots(path: &str) -> String {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let mut parts: Vec<&str> = Vec::new();
    let mut all = path.split('/').skip(1).peekable();
    while let Some(part) = all.next() {
        match part {
            "." | ".." => {
                if part == ".." {
                    parts.pop();
                }
                if all.peek().is_none() {
                    parts.push("");
                }
            }
            _ => parts.push(part),
        }
    }
    let path = format!("/{}", parts.join("/"));
    query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"))
}

/// A text as it stands in queries and forms: all but letters, digits and `-._~` as `%XX`.
#[must_use]
pub fn escape(text: &str) -> String {
    use fmt::Write as _;
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// A text with its `%XX` resolved; what is no UTF-8 then is replaced.
#[must_use]
pub fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.first_chunk::<2>();
        let value = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let value = value.and_then(|digits| std::str::from_utf8(digits).ok());
        match value.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Without user name and password.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.host)?;
        if self.port != self.scheme.port() {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
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
            "http://ä.de/",
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
            "https://a/v2/up?_state=x%3D&digest=sha256%3Aa%20b"
        );
        let bare = whole.without_query();
        assert_eq!(bare.to_string(), "https://a/v2/up");
        assert_eq!(
            bare.with_parameter("n", "1").to_string(),
            "https://a/v2/up?n=1"
        );
        assert_eq!(unescape(&escape("ü/&=+ ~")), "ü/&=+ ~");
    }

    #[test]
    fn broken_escapes_stay() {
        assert_eq!(unescape("%41%4%zz%"), "A%4%zz%");
        assert_eq!(unescape("%+1"), "%+1");
    }
}
