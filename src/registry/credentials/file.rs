//! `auth.json` of podman and `config.json` of docker: `auths`, `credHelpers` and `credsStore`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64ct::{Base64, Base64Unpadded, Encoding};
use serde_json::{Map, Value, json};

use super::{Credential, Known, canonical};
use crate::host::beneath::{SMALL, read_to_limit};
use crate::host::file::{Durability, Replace, open_regular};
use crate::registry::RegistryError;

/// A file of credentials. What is not about credentials stays as it is.
pub(super) struct AuthFile {
    path: PathBuf,
    root: Map<String, Value>,
}

impl AuthFile {
    /// One that is not there yet.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            root: Map::new(),
        }
    }

    /// The file at a path; `None` when there is none.
    pub(super) fn read(path: &Path, registry: &str) -> Result<Option<Self>, RegistryError> {
        let text = open_regular(path).and_then(|file| read_to_limit(file, SMALL));
        let text = match text {
            Ok(text) => text,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(RegistryError::io("read", path)(error)),
        };
        if text.iter().all(u8::is_ascii_whitespace) {
            return Ok(Some(Self::new(path)));
        }
        match serde_json::from_slice(&text) {
            Ok(Value::Object(root)) => Ok(Some(Self {
                path: path.to_owned(),
                root,
            })),
            Ok(_) => Err(broken(path, registry, "holds no JSON object".to_owned())),
            Err(error) => Err(broken(path, registry, format!("is no JSON: {error}"))),
        }
    }

    /// The helper program for a registry, when there is one: `NAME` of `docker-credential-NAME`.
    pub(super) fn helper(&self, registry: &str) -> Option<String> {
        let helpers = self.root.get("credHelpers").and_then(Value::as_object);
        let own = helpers.into_iter().flatten();
        let own = own
            .filter(|(key, _)| canonical(key) == canonical(registry))
            .find_map(|(_, name)| name.as_str());
        let name = own.or_else(|| self.root.get("credsStore")?.as_str());
        name.filter(|name| !name.is_empty()).map(str::to_owned)
    }

    /// What `auths` has for a repository: the entry of the longest name space that it is in.
    pub(super) fn find(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Known>, RegistryError> {
        let mut name = canonical(&format!("{registry}/{repository}"));
        loop {
            for (key, entry) in self.auths() {
                if canonical(key) != name {
                    continue;
                }
                let read = credential(entry);
                let read = read.map_err(|why| {
                    broken(
                        &self.path,
                        registry,
                        format!("has an entry \"{key}\" that {why}"),
                    )
                })?;
                if let Some(credential) = read {
                    return Ok(Some(Known {
                        credential,
                        place: self.path.display().to_string(),
                    }));
                }
            }
            match name.rfind('/') {
                Some(end) => name.truncate(end),
                None => return Ok(None),
            }
        }
    }

    /// Whether `auths` has something for the registry that is more than a mark.
    pub(super) fn holds(&self, registry: &str) -> bool {
        self.auths().any(|(key, entry)| {
            canonical(key) == canonical(registry)
                && entry.as_object().is_some_and(|entry| !entry.is_empty())
        })
    }

    /// The registries, without name spaces, that are named.
    pub(super) fn registries(&self) -> Vec<String> {
        let helpers = self.root.get("credHelpers").and_then(Value::as_object);
        let helped = helpers.into_iter().flatten();
        let mut all: Vec<String> = self
            .auths()
            .chain(helped)
            .map(|(key, _)| canonical(key))
            .filter(|name| !name.contains('/'))
            .collect();
        all.sort();
        all.dedup();
        all
    }

    /// Puts a name with a password.
    pub(super) fn set(&mut self, key: &str, user: &str, password: &str) {
        let registry = canonical(key);
        let auth = Base64::encode_string(format!("{user}:{password}").as_bytes());
        let auths = self.auths_mut();
        auths.retain(|other, _| canonical(other) != registry);
        auths.insert(key.to_owned(), json!({ "auth": auth }));
    }

    /// Marks that a helper program knows the registry, as docker does; whether that was new.
    pub(super) fn mention(&mut self, key: &str) -> bool {
        let registry = canonical(key);
        let auths = self.auths_mut();
        let before = auths.clone();
        // A password that lay here is the helper's now.
        auths.retain(|other, _| canonical(other) != registry);
        auths.insert(key.to_owned(), json!({}));
        *auths != before
    }

    /// Takes out what is there for a registry; whether anything was.
    pub(super) fn remove(&mut self, registry: &str) -> bool {
        if !self
            .auths()
            .any(|(key, _)| canonical(key) == canonical(registry))
        {
            return false;
        }
        let auths = self.auths_mut();
        auths.retain(|key, _| canonical(key) != canonical(registry));
        true
    }

    /// Writes the file, for its owner alone, and at once: who reads it sees the old or the new one.
    pub(super) fn write(&self, registry: &str) -> Result<(), RegistryError> {
        // A link is kept: what it points to is replaced.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let failed = |source| RegistryError::io("write", &path)(source);
        let directory = path
            .parent()
            .ok_or_else(|| broken(&path, registry, "is no path of a file".to_owned()))?;
        fs::create_dir_all(directory).map_err(failed)?;
        let mut text = serde_json::to_vec_pretty(&self.root)
            .map_err(|error| failed(io::Error::other(error)))?;
        text.push(b'\n');
        Replace::new(&path, Durability::Whole)
            .with(&text)
            .map_err(failed)
    }

    fn auths(&self) -> impl Iterator<Item = (&String, &Value)> {
        let auths = self.root.get("auths").and_then(Value::as_object);
        auths.into_iter().flatten()
    }

    fn auths_mut(&mut self) -> &mut Map<String, Value> {
        let auths = self.root.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        match auths {
            Value::Object(auths) => auths,
            _ => unreachable!("it was made an object"),
        }
    }
}

/// What an entry of `auths` holds; `None` for the empty ones that mark what helper programs know.
fn credential(entry: &Value) -> Result<Option<Credential>, &'static str> {
    let text = |name: &str| {
        let text = entry.get(name).and_then(Value::as_str);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credential::Identity(token)));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Credential::Token(token)));
    }
    let Some(auth) = text("auth") else {
        let both = text("username").zip(text("password"));
        return Ok(both.map(|(user, password)| Credential::Password { user, password }));
    };
    let auth = auth.trim().trim_end_matches('=');
    let bytes = Base64Unpadded::decode_vec(auth).map_err(|_| "is not in base64")?;
    let decoded = String::from_utf8(bytes).map_err(|_| "is no text")?;
    let (user, password) = decoded.split_once(':').ok_or("has no password")?;
    Ok(Some(Credential::Password {
        user: user.to_owned(),
        // Docker's own files have had such ends.
        password: password.trim_end_matches('\0').to_owned(),
    }))
}

fn broken(path: &Path, registry: &str, why: String) -> RegistryError {
    RegistryError::Credentials {
        registry: registry.to_owned(),
        message: format!("{} {why}", path.display()),
        help: "correct the file, or move it away and log in again".to_owned(),
    }
}
