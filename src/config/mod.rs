//! What the user set: `config.kdl` and the environment. Everything in it is optional.
//!
//! Parsing is pure; [`Config::from_env`] is the one function that reads. `docs/config.md` is for
//! users.

mod cache;
mod file;
mod mirror;
mod shape;
mod trust;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use cache::{CacheMode, CacheSettings, NONE, ParseCacheModeError};
pub use mirror::Mirror;
pub use trust::{CosignKey, Demand, TrustRule, TrustSettings, TrustedUse};

use crate::failure::Failure;
use crate::host::file::read_text;
use crate::limits::Limits;
use crate::template::TemplateRepository;
use crate::text::Problems;

/// The variable that fixes times (<https://reproducible-builds.org/specs/source-date-epoch/>).
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// What the user set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where else to look for what is at a URL, in the order in which they are asked.
    pub mirrors: Vec<Mirror>,
    /// How many downloads run at once.
    pub parallel: usize,
    /// How often a download is tried again at one address.
    pub retries: u32,
    /// A directory of recipes that goes before the built-in catalogue.
    pub recipes: Option<PathBuf>,
    /// The repository with images of roles: that of the role `docker` is `REPOSITORY/docker`.
    pub roles: Option<String>,
    /// PEM files of certificate authorities, beside the system's.
    pub certificate_authorities: Vec<PathBuf>,
    /// How registries are reached, by host and port.
    pub registries: BTreeMap<String, Registry>,
    /// Build caches, unless the command line says otherwise.
    pub cache: CacheSettings,
    /// The time of files that recipes bring, in seconds since 1970: `SOURCE_DATE_EPOCH`.
    pub file_time: Option<i64>,
    /// How much recipes, images and servers may take.
    pub limits: Limits,
    /// Garbage collection after builds; nothing when there is none.
    pub gc: Option<AutoCollect>,
    /// Whose signatures are asked for, and for what.
    pub trust: TrustSettings,
    /// Repositories of templates, in the order in which they are asked.
    pub templates: Vec<TemplateRepository>,
    /// The file itself, whether it exists or not; nothing when no variable says where it would be.
    pub path: Option<PathBuf>,
}

/// What garbage collection after builds keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoCollect {
    /// Collect only when the store has more bytes, and until it has at most so many; when absent,
    /// once a day.
    pub max_size: Option<u64>,
    /// Bytes that the caches may have.
    pub cache_size: u64,
    /// Results of steps that were used within this time stay.
    pub older_than: Duration,
    /// So many images that were built last stay.
    pub keep_last: usize,
}

impl Default for AutoCollect {
    fn default() -> Self {
        Self {
            max_size: None,
            cache_size: 20 << 30,
            older_than: Duration::from_hours(14 * 24),
            keep_last: 3,
        }
    }
}

/// How a registry is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    /// Without TLS.
    pub plain_http: bool,
    /// With TLS, whoever it says it is.
    pub insecure: bool,
    /// A PEM file of certificate authorities for it alone, beside the others.
    pub authority: Option<PathBuf>,
}

/// Tells why a text is no repository. What one is, a module above knows.
pub type CheckRepository<'a> = &'a dyn Fn(&str) -> Result<(), String>;

impl Default for Config {
    fn default() -> Self {
        Self {
            mirrors: Vec::new(),
            parallel: 4,
            retries: 4,
            recipes: None,
            roles: None,
            certificate_authorities: Vec::new(),
            registries: BTreeMap::new(),
            cache: CacheSettings::default(),
            file_time: None,
            limits: Limits::default(),
            gc: None,
            trust: TrustSettings::default(),
            templates: Vec::new(),
            path: None,
        }
    }
}

impl Config {
    /// The file that `$VMFAB_CONFIG` names, or else `vmfab/config.kdl` below `$XDG_CONFIG_HOME` or
    /// `~/.config` when there is one; before its mirrors those of `$VMFAB_MIRROR`, and in place of
    /// its caches those of `$VMFAB_CACHE` and its like. `check` tells what a repository is.
    ///
    /// # Errors
    /// The file that `$VMFAB_CONFIG` names does not exist; a file cannot be read or is wrong; or
    /// mirrors or caches of the environment are wrong.
    pub fn from_env(check: CheckRepository<'_>) -> Result<Self, Failure> {
        Self::from_variables(|name| std::env::var_os(name), check)
    }

    /// The same, with variables that `value` gives.
    ///
    /// # Errors
    /// See [`from_env`](Self::from_env).
    pub fn from_variables(
        value: impl Fn(&str) -> Option<OsString>,
        check: CheckRepository<'_>,
    ) -> Result<Self, Failure> {
        let variable = |name| value(name).filter(|value| !value.is_empty());
        let home = variable("HOME").map(PathBuf::from);
        let named = variable("VMFAB_CONFIG").map(PathBuf::from);
        let usual = || {
            variable("XDG_CONFIG_HOME")
                .map(PathBuf::from)
                .filter(|directory| directory.is_absolute())
                .or_else(|| home.as_ref().map(|home| home.join(".config")))
                .map(|directory| directory.join("vmfab/config.kdl"))
        };
        let must_exist = named.is_some();
        let mut config = Self::default();
        let path = named.or_else(usual);
        let directory = path.as_deref().and_then(Path::parent).map(Path::to_owned);
        let file = path.clone();
        if let Some(path) = path {
            match read_text(&path, Limits::default().recipe_size) {
                Ok(text) => {
                    config = Self::parse(&path, &text, home.as_deref(), check)
                        .map_err(Failure::recipe)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {}
                Err(error) => {
                    let path = path.display();
                    let message = format!("cannot read the configuration {path}: {error}");
                    return Err(Failure::usage(message));
                }
            }
        }
        if let Some(mirrors) = variable("VMFAB_MIRROR") {
            let mirrors = mirrors.to_string_lossy();
            let mirrors: Result<Vec<_>, _> = mirrors.split_whitespace().map(str::parse).collect();
            let mirrors = mirrors.map_err(|reason| wrong("VMFAB_MIRROR", reason))?;
            config.mirrors.splice(0..0, mirrors);
        }
        let text = |name| variable(name).map(|value| value.to_string_lossy().into_owned());
        config.cache = caches(text, check)?.over(config.cache);
        config.trust.directory = directory;
        config.path = file;
        config.file_time = text(EPOCH).map(|text| epoch(&text)).transpose()?;
        Ok(config)
    }

    /// Reads the text of the file at `path`. Paths in it count from its directory; `~` is `home`.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn parse(
        path: &Path,
        text: &str,
        home: Option<&Path>,
        check: CheckRepository<'_>,
    ) -> Result<Self, Problems> {
        file::parse(path, text, home, check)
    }

    /// Where to ask for what is at `url`, in order: mirrors, and the URL itself unless a mirror
    /// that is to be the only place covers it.
    #[must_use]
    pub fn candidates(&self, url: &str) -> Vec<String> {
        let mut candidates: Vec<String> = Vec::new();
        let mut itself = true;
        for mirror in &self.mirrors {
            let Some(other) = mirror.apply(url) else {
                continue;
            };
            itself &= !mirror.only;
            if !candidates.contains(&other) {
                candidates.push(other);
            }
        }
        if itself && !candidates.iter().any(|other| other == url) {
            candidates.push(url.to_owned());
        }
        candidates
    }
}

/// A variable of the environment cannot be used.
fn wrong(variable: &str, reason: impl Display) -> Failure {
    Failure::usage(format!("{variable}: {reason}"))
}

/// What the environment says of caches.
fn caches(
    text: impl Fn(&'static str) -> Option<String>,
    check: CheckRepository<'_>,
) -> Result<CacheSettings, Failure> {
    const READ: &str = "VMFAB_CACHE";
    const PUSH: &str = "VMFAB_CACHE_PUSH";
    const MODE: &str = "VMFAB_CACHE_MODE";
    let repository = |variable, text: &str| match text {
        NONE => Ok(()),
        text => check(text).map_err(|reason| wrong(variable, reason)),
    };
    let mut settings = CacheSettings::default();
    for one in text(READ).unwrap_or_default().split_whitespace() {
        repository(READ, one)?;
        settings.read.push(one.to_owned());
    }
    settings.check().map_err(|reason| wrong(READ, reason))?;
    if let Some(push) = text(PUSH) {
        repository(PUSH, &push)?;
        settings.push = Some(push);
    }
    if let Some(mode) = text(MODE) {
        let mode = mode.parse::<CacheMode>();
        settings.mode = Some(mode.map_err(|error| wrong(MODE, error))?);
    }
    Ok(settings)
}

/// A time of the past: what is later than the step that writes it would become another time in its
/// layer.
fn epoch(text: &str) -> Result<i64, Failure> {
    let time: u32 = text.parse().map_err(|_| {
        let reason = format!("{text:?} is not a number of seconds since 1970, such as 1700000000");
        wrong(EPOCH, reason)
    })?;
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
    match now.is_ok_and(|now| u64::from(time) < now.as_secs()) {
        true => Ok(i64::from(time)),
        false => Err(wrong(EPOCH, format!("{text} is in the future"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn from(variables: &[(&str, &Path)]) -> Result<Config, Failure> {
        let value = |name: &str| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| value.as_os_str().to_owned())
        };
        Config::from_variables(value, &|text| match text.contains(':') {
            true => Err(format!("{text} has a tag")),
            false => Ok(()),
        })
    }

    #[test]
    fn times_of_files_are_past() {
        let with = |text: &str| {
            let variable = |name: &str| (name == EPOCH).then(|| text.into());
            let config = Config::from_variables(variable, &|_| Ok(()));
            config
                .map(|config| config.file_time)
                .map_err(|error| error.to_string())
        };
        assert_eq!(with("1700000000"), Ok(Some(1_700_000_000)));
        assert_eq!(with("0"), Ok(Some(0)));
        assert_eq!(with(""), Ok(None));
        insta::assert_snapshot!(with("2024-01-01").unwrap_err(), @r#"SOURCE_DATE_EPOCH: "2024-01-01" is not a number of seconds since 1970, such as 1700000000"#);
        insta::assert_snapshot!(with("4000000000").unwrap_err(), @"SOURCE_DATE_EPOCH: 4000000000 is in the future");
    }

    #[test]
    fn caches_of_the_environment_are_in_place_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.kdl");
        fs::write(
            &file,
            "cache \"a/b\" push=#true mode=\"min\"\ncache \"c/d\"\n",
        )
        .unwrap();
        let with = |variables: &[(&'static str, &str)]| {
            let mut all = vec![("VMFAB_CONFIG", file.as_path())];
            all.extend(
                variables
                    .iter()
                    .map(|(name, value)| (*name, Path::new(*value))),
            );
            from(&all).map(|config| config.cache)
        };
        let settings = |read: &[&str], push: Option<&str>, mode| CacheSettings {
            read: read.iter().map(|&text| text.to_owned()).collect(),
            push: push.map(str::to_owned),
            mode: Some(mode),
        };
        let (min, max) = (CacheMode::Min, CacheMode::Max);
        let of_file = settings(&["a/b", "c/d"], Some("a/b"), min);
        assert_eq!(with(&[]).unwrap(), of_file);
        assert_eq!(with(&[("VMFAB_CACHE", "")]).unwrap(), of_file);
        assert_eq!(
            with(&[("VMFAB_CACHE", " e/f  g/h "), ("VMFAB_CACHE_MODE", "max")]).unwrap(),
            settings(&["e/f", "g/h"], Some("a/b"), max)
        );
        assert_eq!(
            with(&[("VMFAB_CACHE", "none")]).unwrap(),
            settings(&[], None, min)
        );
        assert_eq!(
            with(&[("VMFAB_CACHE_PUSH", "none")]).unwrap(),
            settings(&["a/b", "c/d"], None, min)
        );
        let wrong = [
            ("VMFAB_CACHE", "e/f g/h:1"),
            ("VMFAB_CACHE", "none e/f"),
            ("VMFAB_CACHE_PUSH", "e/f:1"),
            ("VMFAB_CACHE_MODE", "all"),
        ]
        .map(|variable| with(&[variable]).unwrap_err().to_string());
        insta::assert_snapshot!(wrong.join("\n"), @r#"
        VMFAB_CACHE: g/h:1 has a tag
        VMFAB_CACHE: "none" disables caches, but there are others beside it
        VMFAB_CACHE_PUSH: e/f:1 has a tag
        VMFAB_CACHE_MODE: "all" is not a cache mode: use min (content of images) or max (content of every step)
        "#);
    }

    #[test]
    fn which_file_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for (name, parallel) in [
            ("named.kdl", 1),
            ("xdg/vmfab/config.kdl", 2),
            ("home/.config/vmfab/config.kdl", 3),
        ] {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("downloads parallel={parallel}\n")).unwrap();
        }
        let (home, xdg, named) = (root.join("home"), root.join("xdg"), root.join("named.kdl"));
        let all = [
            ("HOME", &*home),
            ("XDG_CONFIG_HOME", &*xdg),
            ("VMFAB_CONFIG", &*named),
        ];
        assert_eq!(from(&all).unwrap().parallel, 1);
        assert_eq!(from(&all[..2]).unwrap().parallel, 2);
        assert_eq!(from(&all[..1]).unwrap().parallel, 3);
        assert_eq!(from(&[]).unwrap(), Config::default());
        // Where keys are is known without a file.
        let mut config = from(&[("HOME", root)]).unwrap();
        let directory = config.trust.directory.take();
        assert_eq!(directory, Some(root.join(".config/vmfab")));
        let file = config.path.take();
        assert_eq!(file, Some(root.join(".config/vmfab/config.kdl")));
        assert_eq!(config, Config::default());
        let missing = root.join("missing.kdl");
        let error = from(&[("VMFAB_CONFIG", &missing)]).unwrap_err();
        assert!(error.to_string().contains("missing.kdl"), "{error}");
    }

    #[test]
    fn mirrors_of_the_environment_come_first() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.kdl");
        fs::write(&file, "mirror \"https://a.org/\" \"https://file/\"\n").unwrap();
        let mirrors = "https://a.org/=https://one/x=y  *=http://127.0.0.1:8080/";
        let config = from(&[
            ("VMFAB_CONFIG", &file),
            ("VMFAB_MIRROR", Path::new(mirrors)),
        ])
        .unwrap();
        assert_eq!(
            config.candidates("https://a.org/b"),
            [
                "https://one/x=y/b",
                "http://127.0.0.1:8080/a.org/b",
                "https://file/b",
                "https://a.org/b"
            ]
        );
        let error = from(&[("VMFAB_MIRROR", Path::new("https://a.org/"))]).unwrap_err();
        assert!(error.to_string().starts_with("VMFAB_MIRROR: "), "{error}");
    }

    #[test]
    fn only_leaves_the_url_out() {
        let mirror = |from, to, only| Mirror::new(from, to, only).unwrap();
        let config = Config {
            mirrors: vec![
                mirror("https://a.org/x/", "https://one/", true),
                mirror("https://a.org/", "https://two/", false),
                mirror("https://a.org/", "https://two", false),
            ],
            ..Config::default()
        };
        assert_eq!(
            config.candidates("https://a.org/x/y"),
            ["https://one/y", "https://two/x/y"]
        );
        assert_eq!(
            config.candidates("https://a.org/z"),
            ["https://two/z", "https://a.org/z"]
        );
        assert_eq!(config.candidates("https://b.org/"), ["https://b.org/"]);
    }
}
