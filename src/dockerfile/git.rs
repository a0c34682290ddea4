//! Addresses of git repositories, with what of them is meant: `ADDRESS#REF:DIRECTORY`, or
//! `ADDRESS?ref=…&subdir=…`. Pure. Source: <https://docs.docker.com/build/concepts/context/>.

/// A git repository with the part of it that is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repository {
    /// As git takes it.
    pub address: String,
    /// A branch, a tag or a commit.
    pub reference: Option<String>,
    /// Relative to the root of the repository.
    pub directory: Option<String>,
    /// The first digits of the commit, or all.
    pub commit: Option<String>,
    pub keep_git_dir: Option<bool>,
}

impl Repository {
    /// `None` when the text is no git repository: it is one by its scheme, or by `.git` at the end
    /// of its path.
    ///
    /// # Errors
    /// What follows the address cannot be: the text says why.
    #[must_use]
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        let (rest, fragment) = split(text, '#');
        let (address, query) = split(rest, '?');
        let by_scheme = ["git://", "ssh://", "git@"];
        let by_scheme = by_scheme.iter().any(|start| address.starts_with(start));
        let by_path = is_url(address) && address.ends_with(".git");
        (by_scheme || by_path).then(|| {
            let mut repository = Self {
                address: address.to_owned(),
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

pub(crate) fn is_url(text: &str) -> bool {
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
            Some((parsed.address, parsed.reference, parsed.directory))
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
