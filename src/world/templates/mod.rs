//! Repositories of templates: what they have, and packages from them.
//!
//! ```text
//! config ── repositories ──► update: index of each ──► templates/indexes (compared with before)
//!                                                            │
//! TemplateRef ── find ──► NAMESPACE/NAME, Entry ◄────────────┘
//!                              │ package: templates/packages, or from its repository;
//!                              ▼          digest, what the index said, signatures
//!                           Package ── unpacked ──► cache/templates/DIGEST
//!
//! recipe ── asks ──► composed ──► template::resolve: versions of all that fit together
//! ```

mod composed;
mod directory;
mod git;
mod kept;
mod registry;
mod unpacked;
mod used;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Context;
use super::signatures::{Evidence, check_evidence};
use crate::config::TrustedUse;
use crate::digest::{Hasher, Sha256};
use crate::event::Event;
use crate::failure::{Failure, Kind};
use crate::host::file::{self, Durability, Replace};
use crate::template::index::{Hidden, MOST_BYTES};
use crate::template::{
    Entry, Index, LOCAL, Package, Place, TemplateName, TemplateRef, TemplateRepository, Wanted,
};
use crate::trust::OwnKey;

pub(crate) use composed::{Composition, LockedTemplates, Versions};
pub(crate) use directory::read as read_directory;
pub(crate) use kept::{Kept, kept, remove};
pub(crate) use unpacked::unpacked;
pub(crate) use used::{is_of_others, used};

/// What an update found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Updated {
    pub(crate) index: Index,
    /// What was there before and is not any more.
    pub(crate) hidden: Vec<Hidden>,
}

/// A version of a template that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) repository: TemplateRepository,
    pub(crate) name: TemplateName,
    pub(crate) entry: Entry,
}

/// Where a package was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Put {
    /// For people: a file, or `HOST/REPOSITORY:TAG`.
    pub(crate) place: String,
    /// Whether it was there.
    pub(crate) present: bool,
}

/// The repositories of the user's, in order, and the one of this home.
pub(crate) fn repositories(context: &Context) -> Vec<TemplateRepository> {
    let mut all = context.config.templates.clone();
    all.push(local(context));
    all
}

/// The repository of this home: what was imported.
pub(crate) fn local(context: &Context) -> TemplateRepository {
    TemplateRepository {
        namespace: LOCAL.to_owned().try_into().expect("it is a name"),
        place: Place::Directory(context.home.templates().join(LOCAL)),
    }
}

/// The repository of a namespace.
///
/// # Errors
/// There is none.
pub(crate) fn repository(
    context: &Context,
    namespace: &str,
) -> Result<TemplateRepository, Failure> {
    let all = repositories(context);
    let found = all.iter().find(|one| one.namespace == namespace);
    found.cloned().ok_or_else(|| {
        let known = all.iter().map(|one| &*one.namespace);
        Failure::not_found("repository of templates", namespace, known).with_help(
            "\"vmfab template repo list\" lists them, \"vmfab template repo add\" adds one",
        )
    })
}

/// The file of the index of a repository. Another place under the same namespace has another one.
pub(crate) fn index_path(context: &Context, repository: &TemplateRepository) -> PathBuf {
    let mut hasher = Hasher::new("vmfab template repository v1");
    hasher.update_field(repository.place.to_string().as_bytes());
    let name = format!(
        "{}-{}",
        repository.namespace,
        &hasher.finish().to_string()[..16]
    );
    context.home.templates().join("indexes").join(name)
}

/// What is known of a repository. That of this home is always looked at; of others nothing is known
/// before the first update.
///
/// # Errors
/// The index cannot be read.
pub(crate) fn index(context: &Context, repository: &TemplateRepository) -> Result<Index, Failure> {
    if repository.namespace == LOCAL {
        return directory::index(&repository.place, &repository.namespace);
    }
    match index_text(context, repository)? {
        Some(text) => Index::parse(&repository.namespace, &text),
        None => Ok(Index::default()),
    }
}

/// The text of the index of a repository; nothing before the first update.
pub(crate) fn index_text(
    context: &Context,
    repository: &TemplateRepository,
) -> Result<Option<String>, Failure> {
    if repository.namespace == LOCAL {
        return index(context, repository).map(|index| Some(index.to_text()));
    }
    let path = index_path(context, repository);
    match file::read_text(&path, MOST_BYTES) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::of_io("read", &path, &error)),
    }
}

/// Asks a repository what it has, and compares with what it had.
///
/// # Errors
/// It cannot be asked, its index is wrong, or a version changed its bytes.
pub(crate) fn update(
    context: &Context,
    repository: &TemplateRepository,
) -> Result<Updated, Failure> {
    let whose = &repository.namespace;
    let before = index(context, repository)?;
    if context.offline && repository.place.directory().is_none() {
        let message = format!("--offline forbids to ask {}", repository.place);
        return Err(Failure::failed(message));
    }
    let now = match &repository.place {
        place @ Place::Directory(_) => directory::index(place, whose)?,
        Place::Git(url) => git::index(context, url, &before)?,
        Place::Registry(place) => registry::index(context, place, whose)?,
    };
    let (index, hidden) = now.after(whose, &before)?;
    for one in &hidden {
        context.emit(Event::Warning {
            message: missed(whose, one),
        });
    }
    if repository.namespace != LOCAL {
        let path = index_path(context, repository);
        write(&path, index.to_text().as_bytes())?;
    }
    Ok(Updated { index, hidden })
}

fn missed(whose: &str, one: &Hidden) -> String {
    let Hidden { name, version, .. } = one;
    match one.newest {
        true => format!(
            "the index of {whose} hides {whose}/{name} {version}, which is newer than all that it lists: ask whoever \
             keeps it whether the version was withdrawn"
        ),
        false => format!("the index of {whose} lists {whose}/{name} {version} no more"),
    }
}

/// The newest version that is wanted: in its namespace, or in the first repository that has the
/// template.
///
/// # Errors
/// No repository has it.
pub(crate) fn find(context: &Context, wanted: &TemplateRef) -> Result<Found, Failure> {
    let all = match &wanted.namespace {
        Some(namespace) => vec![repository(context, namespace)?],
        None => repositories(context),
    };
    let mut known = Vec::new();
    for repository in all {
        let index = index(context, &repository)?;
        let versions = index.versions(&wanted.name);
        if versions.is_empty() {
            let namespace = &repository.namespace;
            known.extend(index.iter().map(|(name, _)| match wanted.namespace {
                Some(_) => format!("{namespace}/{name}"),
                None => name.to_string(),
            }));
            continue;
        }
        let name = TemplateName::new(repository.namespace.clone(), wanted.name.clone());
        let Some(entry) = choose(versions, &wanted.wanted) else {
            return Err(no_version(&name, versions, wanted));
        };
        return Ok(Found {
            repository,
            entry: entry.clone(),
            name,
        });
    }
    let text = wanted.to_string();
    Err(
        Failure::not_found("template", &text, known.iter().map(String::as_str))
            .or_help("\"vmfab template repo update\" looks for new ones"),
    )
}

fn no_version(name: &TemplateName, versions: &[Entry], wanted: &TemplateRef) -> Failure {
    let there = versions.iter().filter(|entry| entry.is_release());
    let mut there: Vec<String> = there.map(|entry| entry.version.to_string()).collect();
    there.extend(
        versions
            .iter()
            .flat_map(|entry| &entry.references)
            .map(|one| one.to_string()),
    );
    let message = format!("{name} has no version {}", wanted.wanted);
    Failure::new(Kind::NotFound, message).with_help(match there.is_empty() {
        true => "\"vmfab template repo update\" looks for new ones".to_owned(),
        false => format!("it has {}", there.join(", ")),
    })
}

/// The newest release in a range; else what a branch, tag or commit stands for.
pub(crate) fn choose<'a>(versions: &'a [Entry], wanted: &Wanted) -> Option<&'a Entry> {
    match wanted {
        Wanted::Range(range) => {
            let fits = |entry: &&Entry| entry.is_release() && range.matches(&entry.version);
            let newest = versions.iter().rfind(fits);
            // Whoever asks for any gets the state of a branch if there is nothing else.
            let any = *range == semver::VersionReq::STAR;
            newest.or_else(|| versions.last().filter(|_| any))
        }
        Wanted::Reference(wanted) => versions.iter().find(|entry| {
            let commit = entry
                .place
                .as_deref()
                .and_then(|place| place.split(':').next());
            let is_commit =
                wanted.len() >= 7 && commit.is_some_and(|one| one.starts_with(wanted.as_str()));
            is_commit || entry.references.iter().any(|one| one == &wanted.as_str())
        }),
    }
}

/// The package of a version, checked: its bytes, that it is what the index says, and that it is
/// signed if the user asks for that.
///
/// # Errors
/// It cannot be had, or is not what it should be.
pub(crate) fn package(context: &Context, found: &Found) -> Result<Package, Failure> {
    let Found { name, entry, .. } = found;
    let (package, evidence) = match kept::package(context, &entry.digest)? {
        Some(kept) => kept,
        None => {
            let (bytes, evidence) = fetch(context, found)?;
            let digest = Sha256::of(&bytes);
            if digest != entry.digest {
                let message = format!(
                    "{name} {} changed its bytes under the same number: the index says sha256:{}, and it is \
                     sha256:{digest}",
                    entry.version, entry.digest
                );
                return Err(Failure::verification(message)
                    .with_help("whoever publishes it must give the change a new number"));
            }
            (Package::read(bytes)?, evidence)
        }
    };
    let told = Entry::of(&package);
    if *package.name() != name.name || told.version != entry.version || told.needs != entry.needs {
        let message = format!(
            "the index of {} says something else than the package of {name} {}: that is {} {} and needs {}",
            name.namespace,
            entry.version,
            package.name(),
            package.version(),
            match told.needs.is_empty() {
                true => "nothing".to_owned(),
                false => told.needs.join(", "),
            }
        );
        return Err(Failure::verification(message)
            .with_help("whoever keeps the repository must repair its index"));
    }
    check_evidence(context, &signed_name(name), TrustedUse::Template, || {
        Ok(evidence.clone())
    })?;
    kept::keep(context, name, &package, &evidence)?;
    Ok(package)
}

/// What a template is called in policies and by trusted keys.
pub(crate) fn signed_name(name: &TemplateName) -> String {
    format!("template:{name}")
}

fn fetch(context: &Context, found: &Found) -> Result<(Vec<u8>, Evidence), Failure> {
    let Found { name, entry, .. } = found;
    let place = &found.repository.place;
    if context.offline && place.directory().is_none() {
        let message = format!("--offline forbids to fetch {name} {}", entry.version);
        return Err(Failure::failed(message)
            .with_help(format!("\"vmfab template pull {name}\" fetches it online")));
    }
    match place {
        Place::Directory(path) => directory::fetch(path, entry),
        Place::Git(url) => {
            git::fetch(context, url, entry).map(|bytes| (bytes, Evidence::default()))
        }
        Place::Registry(place) => registry::fetch(context, place, name, entry),
    }
}

/// Puts a package into a repository, and a signature beside it.
///
/// # Errors
/// The repository takes none, or has other bytes under this version.
pub(crate) fn put(
    context: &Context,
    repository: &TemplateRepository,
    package: &Package,
    key: Option<&OwnKey>,
) -> Result<Put, Failure> {
    match &repository.place {
        Place::Directory(path) => directory::put(path, package, key),
        Place::Registry(place) => registry::put(context, repository, place, package, key),
        Place::Git(url) => Err(Failure::usage(format!("{url} is a git repository"))
            .with_help("commit the template, tag the commit NAME-VERSION, and push it with git")),
    }
}

/// There is another version of this number.
fn taken(package: &Package, digest: &Sha256) -> Failure {
    let message = format!(
        "the repository has {} {} with other bytes: sha256:{digest}, and this is sha256:{}",
        package.name(),
        package.version(),
        package.digest()
    );
    Failure::verification(message)
        .with_help("a version never changes: give the change a new number in the \"recipe\" node")
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let above = path.parent().unwrap_or(path);
    fs::create_dir_all(above).map_err(Failure::io("create", above))?;
    let replace = Replace::new(path, Durability::Whole);
    replace.with(bytes).map_err(Failure::io("write", path))
}
