//! Addresses of git repositories, with what of them is meant: `ADDRESS#REF:DIRECTORY`, or
//! `ADDRESS?ref=…&subdir=…`. Pure. Source: <https://docs.docker.com/build/concepts/context/>.

use percent_encoding::percent_decode_str;

use crate::host::Login;
use crate::text::{logins, without_logins};

/// Never hosts in the scp form of SSH: in `web@sha256:…`, they begin digests of images.
const ALGORITHMS: [&str; 2] = ["sha256", "sha512"];

/// Where a git repository is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Address {
    /// As git takes it. User name and password are left out, except the user name of SSH.
    pub url: String,
    pub login: Option<Login>,
}

impl Address {
    /// # Errors
    /// The text is not an address. The error says why, and quotes nothing of it.
    fn parse(text: &str) -> Result<Self, String> {
        if text.contains(|c: char| c.is_ascii_control() || matches!(c, ' ' | '"' | '\\')) {
            return Err("the address has characters that addresses cannot have".to_owned());
        }
        let mut address = Self {
            url: without_logins(text),
            login: None,
        };
        let Some(range) = logins(text).pop() else {
            return Ok(address);
        };
        let (name, password) = split(&text[range], ':');
        if address.is_ssh() {
            return match password {
                "" => Ok(address),
                _ => Err("an SSH address cannot have a password".to_owned()),
            };
        }
        let decoded = |text: &str| {
            let text = percent_decode_str(text).decode_utf8().ok()?;
            let is_line = !text.contains(|c: char| c.is_ascii_control());
            is_line.then(|| text.into_owned())
        };
        let (Some(name), Some(password)) = (decoded(name), decoded(password)) else {
            return Err("its user name or password is not one line of text".to_owned());
        };
        address.login = Some(Login { name, password });
        Ok(address)
    }

    #[must_use]
    pub fn is_ssh(&self) -> bool {
        self.url.starts_with("ssh://") || is_scp(&self.url)
    }

    /// `https://HOST:PORT`.
    #[must_use]
    pub fn server(&self) -> &str {
        let start = self.url.find("://").map_or(0, |at| at + 3);
        let end = self.url[start..].find('/');
        &self.url[..end.map_or(self.url.len(), |at| start + at)]
    }

    /// `HOST:PORT`.
    #[must_use]
    pub fn host(&self) -> &str {
        let server = self.server();
        server.split_once("://").map_or(server, |(_, host)| host)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.url)
    }
}

/// A git repository with the part of it that is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repository {
    pub address: Address,
    /// A branch, a tag or a commit.
    pub reference: Option<String>,
    /// Relative to the root of the repository.
    pub directory: Option<String>,
    /// The first digits of the commit, or all.
    pub commit: Option<String>,
    pub keep_git_dir: Option<bool>,
}

impl Repository {
    /// `None` when the text is no git repository: it is one by its scheme, by `.git` at the end of
    /// its path, or as `USER@HOST:PATH`.
    ///
    /// # Errors
    /// What follows the address cannot be: the text says why.
    #[must_use]
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        let (rest, fragment) = split(text, '#');
        let (address, query) = split(rest, '?');
        let by_scheme = ["git://", "ssh://"];
        let by_scheme = by_scheme.iter().any(|start| address.starts_with(start));
        let by_path = is_url(address) && address.ends_with(".git");
        (by_scheme || by_path || is_scp(address)).then(|| {
            let mut repository = Self {
                address: Address::parse(address)?,
                ..Self::default()
            };
            repository.read_query(query)?;
            let (reference, directory) = split(fragment, ':');
            repository.set_reference(reference.to_owned())?;
            repository.set_directory(directory)?;
            Ok(repository)
        })
    }

    fn read_query(&mut self, query: &str) -> Result<(), String> {
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = split(part, '=');
            match name {
                "ref" => self.set_reference(value.to_owned())?,
                "branch" => self.set_reference(format!("refs/heads/{value}"))?,
                "tag" => self.set_reference(format!("refs/tags/{value}"))?,
                "subdir" => self.set_directory(value)?,
                "commit" | "checksum" => self.commit = Some(commit(value)?),
                "keep-git-dir" => self.keep_git_dir = Some(!matches!(value, "0" | "false")),
                "submodules" if !matches!(value, "0" | "false") => {}
                "submodules" => return Err("vmfab always fetches submodules".to_owned()),
                _ => {
                    return Err(format!(
                        "\"{name}\" is unknown in the address of a repository"
                    ));
                }
            }
        }
        Ok(())
    }

    fn set_reference(&mut self, reference: String) -> Result<(), String> {
        match (&self.reference, reference.is_empty()) {
            (_, true) => Ok(()),
            (Some(first), false) => Err(format!("two references are named: {first}, {reference}")),
            (None, false) => {
                self.reference = Some(reference);
                Ok(())
            }
        }
    }

    fn set_directory(&mut self, directory: &str) -> Result<(), String> {
        let directory = directory.trim_matches('/');
        match (&self.directory, directory.is_empty()) {
            (_, true) => Ok(()),
            (Some(first), false) => Err(format!("two directories are named: {first}, {directory}")),
            (None, false) => {
                self.directory = Some(directory.to_owned());
                Ok(())
            }
        }
    }
}

/// The first digits of a commit, or all, in small letters.
///
/// # Errors
/// They are none, or too few.
pub fn commit(text: &str) -> Result<String, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match digits && (7..=64).contains(&text.len()) {
        true => Ok(text.to_lowercase()),
        false => Err(format!("\"{text}\" is not a commit")),
    }
}

/// `USER@HOST:PATH`, as for scp(1). Source: `gitutil` of BuildKit.
fn is_scp(text: &str) -> bool {
    let parts = text.split_once('@');
    let parts = parts.and_then(|(user, rest)| Some((user, rest.split_once(':')?)));
    let Some((user, (host, path))) = parts else {
        return false;
    };
    let word = |text: &str, others: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
        text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(fits)
    };
    word(user, "-_") && word(host, "-.") && !path.is_empty() && !ALGORITHMS.contains(&host)
}

/// Whether a text is an HTTP address.
#[must_use]
pub fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

fn split(text: &str, at: char) -> (&str, &str) {
    text.split_once(at).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        let parts = |text: &str| {
            let parsed = Repository::parse(text)?.unwrap();
            Some((parsed.address.url, parsed.reference, parsed.directory))
        };
        let some = |text: &str| Some(text.to_owned());
        let address = "https://example.org/a.git".to_owned();
        for (rest, reference, directory) in [
            ("", None, None),
            ("#v1:docs", some("v1"), some("docs")),
            ("#:docs/", None, some("docs")),
            ("?ref=v1&subdir=/docs", some("v1"), some("docs")),
            ("?branch=a/b#:docs", some("refs/heads/a/b"), some("docs")),
            ("?tag=v1&submodules=1", some("refs/tags/v1"), None),
        ] {
            let found = parts(&format!("{address}{rest}"));
            assert_eq!(
                found,
                Some((address.clone(), reference, directory)),
                "{rest}"
            );
        }
        let ssh = "git@example.org:a/b".to_owned();
        assert_eq!(
            parts("git@example.org:a/b#:docs"),
            Some((ssh, None, some("docs")))
        );
        assert_eq!(
            parts("me@example.org:a/b#main"),
            Some(("me@example.org:a/b".to_owned(), some("main"), None))
        );
        for other in [
            "web@sha256:00",
            "me/web@host:x",
            "@host:x",
            "a@-host:x",
            "a@b",
            "a@b:",
        ] {
            assert_eq!(parts(other), None, "{other}");
        }
        assert_eq!(parts("https://example.org/a.tar.gz?x=.git"), None);
        assert_eq!(parts("a.git"), None);
    }

    #[test]
    fn commits_and_git_directories() {
        let text = "git://example.org/a?checksum=ABCDEF0&keep-git-dir=true";
        let parsed = Repository::parse(text).unwrap().unwrap();
        assert_eq!(parsed.commit.as_deref(), Some("abcdef0"));
        assert_eq!(parsed.keep_git_dir, Some(true));
    }

    #[test]
    fn user_names_and_passwords_leave_addresses() {
        let parsed = Repository::parse("https://me:p%40ss:w@example.org:1/a.git#main").unwrap();
        let address = parsed.unwrap().address;
        assert_eq!(address.url, "https://example.org:1/a.git");
        assert_eq!(address.server(), "https://example.org:1");
        assert_eq!(address.host(), "example.org:1");
        let login = address.login.unwrap();
        assert_eq!((&*login.name, &*login.password), ("me", "p@ss:w"));
        assert_eq!(format!("{login:?}"), "Login");
        let parsed = Repository::parse("ssh://git@example.org/a")
            .unwrap()
            .unwrap();
        assert_eq!(parsed.address.url, "ssh://git@example.org/a");
        assert_eq!(parsed.address.login, None);
        for wrong in [
            "ssh://git:secret@example.org/a",
            "https://me:a%0ab@example.org/a.git",
            "https://me:a b@example.org/a.git",
        ] {
            let error = Repository::parse(wrong).unwrap().unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn wrong_ones() {
        for rest in [
            "?ref=a#b",
            "?ref=a&tag=b",
            "?subdir=a#:b",
            "?commit=xyz",
            "?commit=12",
            "?depth=1",
            "?submodules=0",
        ] {
            let parsed = Repository::parse(&format!("https://example.org/a.git{rest}"));
            assert!(parsed.unwrap().is_err(), "{rest}");
        }
    }
}
