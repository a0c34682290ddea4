//! What steps may know and nothing may keep: secrets, and agents that sign.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::beneath::read_to_limit;

/// The longest secret, in bytes, as for BuildKit.
const LONGEST: u64 = 500 << 10;
/// Shorter texts are not hidden: they would hide half of a log.
const SHORTEST_HIDDEN: usize = 4;
/// What stands in logs in place of a secret.
const HIDDEN: &[u8] = b"***";

/// Bytes that are not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(Vec<u8>);

impl Secret {
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A user name and a password for a server, which are not shown: tokens are given as either.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub name: String,
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
}

impl SecretSource {
    /// # Errors
    /// It cannot be read, or has more than 500 KiB.
    pub fn read(&self) -> io::Result<Secret> {
        match self {
            Self::File(path) => read_to_limit(File::open(path)?, LONGEST).map(Secret),
            Self::Variable(name) => {
                let value = std::env::var_os(name).ok_or(io::ErrorKind::NotFound)?;
                Ok(Secret(value.into_encoded_bytes()))
            }
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "the variable {name}"),
        }
    }
}

/// What the user gives with a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// By id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Sockets of SSH agents, by id.
    pub agents: BTreeMap<String, PathBuf>,
}

impl Secrets {
    /// The login for a git server, as with BuildKit: the secret `GIT_AUTH_TOKEN.HOST`, else
    /// `GIT_AUTH_TOKEN`. Source: <https://docs.docker.com/build/building/secrets/>.
    ///
    /// # Errors
    /// The secret cannot be read, or is not text.
    pub fn login(&self, host: &str) -> io::Result<Option<Login>> {
        let names = [&format!("GIT_AUTH_TOKEN.{host}"), "GIT_AUTH_TOKEN"];
        let Some(source) = names.into_iter().find_map(|name| self.secrets.get(name)) else {
            return Ok(None);
        };
        let token = String::from_utf8(source.read()?.0);
        let token = token
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))?;
        Ok(Some(Login {
            name: "x-access-token".to_owned(),
            password: token.trim().to_owned(),
        }))
    }
}

/// Takes secrets out of a stream, wherever it is cut.
#[derive(Debug, Default)]
pub struct Redactor {
    /// The longest first.
    hidden: Vec<Secret>,
    /// What may be the start of a secret.
    held: Vec<u8>,
}

impl Redactor {
    /// Hides secrets, and each of their lines.
    #[must_use]
    pub fn new(secrets: &[Secret]) -> Self {
        let mut hidden = Vec::new();
        for secret in secrets {
            let whole = secret.bytes().trim_ascii();
            let lines = whole.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            hidden.extend(std::iter::once(whole).chain(lines).map(<[u8]>::to_vec));
        }
        hidden.retain(|text| text.len() >= SHORTEST_HIDDEN);
        hidden.sort_by_key(|text| std::cmp::Reverse(text.len()));
        hidden.dedup();
        Self {
            hidden: hidden.into_iter().map(Secret).collect(),
            held: Vec::new(),
        }
    }

    /// What can be shown once these bytes have come.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.hidden.is_empty() {
            return bytes.to_vec();
        }
        self.held.extend_from_slice(bytes);
        self.show(false)
    }

    /// What is left at the end.
    pub fn finish(&mut self) -> Vec<u8> {
        self.show(true)
    }

    fn show(&mut self, is_end: bool) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        let mut shown = Vec::with_capacity(held.len());
        let mut at = 0;
        while at < held.len() {
            let rest = &held[at..];
            // The next bytes say which one it is.
            let may_be = |secret: &Secret| {
                let secret = secret.bytes();
                secret.len() > rest.len() && secret.starts_with(rest)
            };
            if !is_end && self.hidden.iter().any(may_be) {
                self.held = rest.to_vec();
                break;
            }
            let begins = |secret: &&Secret| rest.starts_with(secret.bytes());
            if let Some(secret) = self.hidden.iter().find(begins) {
                shown.extend_from_slice(HIDDEN);
                at += secret.bytes().len();
                continue;
            }
            shown.push(held[at]);
            at += 1;
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_wherever_a_stream_is_cut() {
        let secrets = ["hunter2\n", "line one\nline two\n", "x"].map(|s| Secret::new(s.into()));
        let text = "hunter2, hunter, x: line one\nline two\n, line two, hunte";
        let expected = "***, hunter, x: ***\n, ***, hunte";
        for length in 1..text.len() {
            let mut redactor = Redactor::new(&secrets);
            let mut shown = Vec::new();
            for chunk in text.as_bytes().chunks(length) {
                shown.extend(redactor.pass(chunk));
            }
            shown.extend(redactor.finish());
            assert_eq!(String::from_utf8(shown).unwrap(), expected, "{length}");
        }
        assert_eq!(format!("{:?}", secrets[0]), "Secret");
    }

    #[test]
    fn a_secret_is_read_from_where_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "hunter2").unwrap();
        let read = |source: &SecretSource| source.read().map(|secret| secret.bytes().to_vec());
        assert_eq!(read(&SecretSource::File(path.clone())).unwrap(), b"hunter2");
        std::fs::write(&path, vec![0; 600 << 10]).unwrap();
        assert!(read(&SecretSource::File(path)).is_err());
        let absent = SecretSource::Variable("VMFAB_TEST_NO_SUCH".to_owned());
        assert_eq!(read(&absent).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
