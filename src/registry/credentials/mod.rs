//! Who asks: credentials of the environment, of podman's and docker's files, and of their helper
//! programs.
//!
//! ```text
//! VMFAB_REGISTRY…  ►  $REGISTRY_AUTH_FILE  ►  podman's auth.json  ►  docker's config.json
//!                                   in each file:  credHelpers  ►  credsStore  ►  auths
//! ```
//!
//! The first that knows the registry, or a name space of it that the repository is in, is used.

mod file;
mod helper;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use self::file::AuthFile;
use self::helper::Helper;
use super::{Environment, RegistryError};
use crate::event::{Event, Sink};
use crate::host::Interrupt;

/// Docker Hub, as references have it.
const DOCKER_HUB: &str = "docker.io";
/// What docker saves its credentials under.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Who asks. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A name with a password.
    Password { user: String, password: String },
    /// What a token server gives tokens for.
    Identity(String),
    /// What the registry itself takes.
    Token(String),
}

impl Credential {
    /// The user's name, when there is one.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Password { user, .. } => Some(user),
            Self::Identity(_) | Self::Token(_) => None,
        }
    }

    /// What must not be shown.
    pub(super) fn secret(&self) -> &str {
        match self {
            Self::Password { password, .. } => password,
            Self::Identity(token) | Self::Token(token) => token,
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password",
            Self::Identity(_) => "Identity",
            Self::Token(_) => "Token",
        })
    }
}

/// A credential, and where it was found or saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Who asks.
    pub credential: Credential,
    /// A path, a program or a variable, for people.
    pub place: String,
}

/// Finds, saves and forgets credentials.
pub struct Credentials {
    environment: Environment,
    sink: Arc<dyn Sink>,
    interrupt: Interrupt,
    warned: Mutex<BTreeSet<String>>,
}

impl Credentials {
    pub(super) fn new(environment: Environment, sink: Arc<dyn Sink>, interrupt: Interrupt) -> Self {
        Self {
            environment,
            sink,
            interrupt,
            warned: Mutex::default(),
        }
    }

    /// The credential for a repository of a registry; for the registry itself when `repository` is
    /// empty.
    ///
    /// # Errors
    /// A file is no file of credentials, or the user gave up. What cannot be read otherwise is
    /// warned of.
    pub fn find(&self, registry: &str, repository: &str) -> Result<Option<Known>, RegistryError> {
        if let Some(known) = self.of_environment(registry) {
            return Ok(Some(known));
        }
        for path in self.files() {
            let Some(file) = self.read(&path, registry)? else {
                continue;
            };
            if let Some(found) = self.in_file(&file, registry, repository)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Keeps a name with a password where podman or docker would.
    ///
    /// # Errors
    /// It cannot be written, or the helper program refuses it.
    pub fn save(
        &self,
        registry: &str,
        user: &str,
        password: &str,
    ) -> Result<String, RegistryError> {
        let path = self.home_file().ok_or_else(|| no_home(registry))?;
        let mut file = AuthFile::read(&path, registry)?.unwrap_or_else(|| AuthFile::new(&path));
        if let Some(name) = file.helper(registry) {
            let helper = self.helper(&name, registry)?;
            helper.store(&server(registry), user, password, &self.interrupt)?;
            if file.mention(&server(registry)) {
                file.write(registry)?;
            }
            return Ok(helper.to_string());
        }
        file.set(&file_key(&path, registry), user, password);
        file.write(registry)?;
        Ok(path.display().to_string())
    }

    /// Forgets what is kept for a registry, and says where that was.
    ///
    /// # Errors
    /// It cannot be written, or a helper program refuses it.
    pub fn forget(&self, registry: &str) -> Result<Vec<String>, RegistryError> {
        let mut places = Vec::new();
        for path in self.files() {
            let Some(mut file) = self.read(&path, registry)? else {
                continue;
            };
            if let Some(name) = file.helper(registry) {
                let helper = self.helper(&name, registry)?;
                let server = server(registry);
                if helper.get(&server, &self.interrupt)?.is_some() {
                    helper.erase(&server, &self.interrupt)?;
                    places.push(helper.to_string());
                }
            }
            let held = file.holds(registry);
            if file.remove(registry) {
                file.write(registry)?;
                if held {
                    places.push(path.display().to_string());
                }
            }
        }
        Ok(places)
    }

    /// The registries that the file where [`save`](Self::save) writes knows of.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn registries(&self) -> Result<Vec<String>, RegistryError> {
        let Some(path) = self.home_file() else {
            return Ok(Vec::new());
        };
        let file = AuthFile::read(&path, &path.display().to_string())?;
        Ok(file.map(|file| file.registries()).unwrap_or_default())
    }

    /// `VMFAB_REGISTRY_TOKEN`, or `VMFAB_REGISTRY_USER` with `VMFAB_REGISTRY_PASSWORD`: only for
    /// the registry that `VMFAB_REGISTRY` names, so that no other one is told.
    fn of_environment(&self, registry: &str) -> Option<Known> {
        let text = |name| self.environment.text(name).map(str::to_owned);
        let user = text("VMFAB_REGISTRY_USER").zip(text("VMFAB_REGISTRY_PASSWORD"));
        let credential = match (text("VMFAB_REGISTRY_TOKEN"), user) {
            (Some(token), _) => Credential::Token(token),
            (None, Some((user, password))) => Credential::Password { user, password },
            (None, None) => return None,
        };
        let Some(meant) = self.environment.text("VMFAB_REGISTRY") else {
            self.warn(
                "VMFAB_REGISTRY is not set, so the credentials in VMFAB_REGISTRY_TOKEN, VMFAB_REGISTRY_USER and \
                 VMFAB_REGISTRY_PASSWORD are not used: name the registry that they are for"
                    .to_owned(),
            );
            return None;
        };
        (canonical(meant) == canonical(registry)).then(|| Known {
            credential,
            place: "the environment".to_owned(),
        })
    }

    fn in_file(
        &self,
        file: &AuthFile,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Known>, RegistryError> {
        if let Some(name) = file.helper(registry) {
            match self.ask(&name, registry) {
                Ok(Some(known)) => return Ok(Some(known)),
                Ok(None) => {}
                Err(RegistryError::Interrupted) => return Err(RegistryError::Interrupted),
                Err(error) => self.warn(error.to_string()),
            }
        }
        file.find(registry, repository)
    }

    fn ask(&self, name: &str, registry: &str) -> Result<Option<Known>, RegistryError> {
        let helper = self.helper(name, registry)?;
        let found = helper.get(&server(registry), &self.interrupt);
        Ok(found?.map(|credential| Known {
            credential,
            place: helper.to_string(),
        }))
    }

    fn helper(&self, name: &str, registry: &str) -> Result<Helper, RegistryError> {
        Helper::find(name, registry)
    }

    /// The file at a path. One that cannot be read is warned of, and is none.
    fn read(&self, path: &Path, registry: &str) -> Result<Option<AuthFile>, RegistryError> {
        match AuthFile::read(path, registry) {
            Err(error @ RegistryError::Io { .. }) => {
                self.warn(error.to_string());
                Ok(None)
            }
            other => other,
        }
    }

    /// All files, in the order in which they are asked.
    fn files(&self) -> Vec<PathBuf> {
        let named = self.environment.path("REGISTRY_AUTH_FILE");
        let all = named
            .into_iter()
            .chain(self.podman_files())
            .chain(self.docker_file());
        let mut files: Vec<PathBuf> = Vec::new();
        for path in all {
            if !files.contains(&path) {
                files.push(path);
            }
        }
        files
    }

    fn podman_files(&self) -> Vec<PathBuf> {
        let running = self.environment.path("XDG_RUNTIME_DIR").map_or_else(
            || format!("/run/containers/{}", rustix::process::getuid().as_raw()).into(),
            |directory| directory.join("containers"),
        );
        let settings = self.environment.path("XDG_CONFIG_HOME");
        let home = self.environment.path("HOME");
        let settings = settings.or_else(|| home.map(|home| home.join(".config")));
        let settings = settings.map(|directory| directory.join("containers"));
        let directories = [Some(running), settings].into_iter().flatten();
        directories
            .map(|directory| directory.join("auth.json"))
            .collect()
    }

    fn docker_file(&self) -> Option<PathBuf> {
        let directory = self.environment.path("DOCKER_CONFIG").or_else(|| {
            let home = self.environment.path("HOME")?;
            Some(home.join(".docker"))
        })?;
        Some(directory.join("config.json"))
    }

    /// Where credentials are saved: the file that is named, or else podman's when there is one, or
    /// else docker's.
    fn home_file(&self) -> Option<PathBuf> {
        let named = self.environment.path("REGISTRY_AUTH_FILE");
        named
            .or_else(|| self.podman_files().into_iter().find(|path| path.exists()))
            .or_else(|| self.docker_file())
    }

    /// Tells something once.
    fn warn(&self, message: String) {
        let warned = self.warned.lock();
        let mut warned = warned.unwrap_or_else(PoisonError::into_inner);
        if warned.insert(message.clone()) {
            self.sink.emit(Event::Warning { message });
        }
    }
}

fn no_home(registry: &str) -> RegistryError {
    RegistryError::Credentials {
        registry: registry.to_owned(),
        message: "no file to save them in: HOME is not set".to_owned(),
        help: "set REGISTRY_AUTH_FILE to the path of a file for them".to_owned(),
    }
}

/// How files name a registry: podman's with its host, docker's with its host or, for Docker Hub, an
/// old URL.
fn file_key(path: &Path, registry: &str) -> String {
    match path.file_name().is_some_and(|name| name == "config.json") {
        true => server(registry),
        false => registry.to_owned(),
    }
}

/// What helper programs know a registry by.
fn server(registry: &str) -> String {
    match registry {
        DOCKER_HUB => DOCKER_HUB_KEY.to_owned(),
        other => other.to_owned(),
    }
}

/// A registry or a name space as files have it, without what differs between those who write them:
/// a scheme, the path of an old interface, the many names of Docker Hub.
fn canonical(key: &str) -> String {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    let bare = match bare {
        Some(bare) => bare.split('/').next().unwrap_or_default(),
        None => key.trim_end_matches('/'),
    };
    let (host, rest) = bare
        .split_once('/')
        .map_or((bare, None), |(host, rest)| (host, Some(rest)));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" | "docker.io" => DOCKER_HUB,
        other => other,
    };
    match rest {
        None | Some("v1" | "v2") => host.to_owned(),
        Some(rest) => format!("{host}/{rest}"),
    }
}
