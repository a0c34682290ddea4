//! Repositories of templates: those that the user's configuration names.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::Context;
use crate::checked::Name;
use crate::config::Config;
use crate::failure::Failure;
use crate::host::file::{Durability, Lock, Replace, read_text};
use crate::template::{LOCAL, Place, TemplateRepository};
use crate::text::kdl::{self, Bounds, Value};
use crate::world::templates;

/// A repository, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepositoryEntry {
    pub namespace: Name,
    /// `directory`, `git` or `registry`.
    pub kind: &'static str,
    pub place: String,
    /// Templates that are known of it; absent before the first update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub templates: Option<usize>,
}

/// What an update found in one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpdatedRepository {
    pub namespace: Name,
    pub templates: usize,
    pub versions: usize,
    /// Versions that were listed before and are not any more.
    pub hidden: Vec<String>,
}

/// All repositories, in the order in which they are asked.
///
/// # Errors
/// An index cannot be read.
pub fn list(context: &Context) -> Result<Vec<RepositoryEntry>, Failure> {
    let all = templates::repositories(context);
    all.iter().map(|one| entry(context, one)).collect()
}

fn entry(context: &Context, one: &TemplateRepository) -> Result<RepositoryEntry, Failure> {
    let text = templates::index_text(context, one)?;
    Ok(RepositoryEntry {
        namespace: one.namespace.clone(),
        kind: one.place.kind(),
        place: one.place.to_string(),
        templates: text.map(|text| text.lines().count()),
    })
}

/// Adds a repository to the configuration, behind the others, and asks it what it has.
///
/// # Errors
/// The namespace is taken, the place is none, or it cannot be asked; then the configuration stays as
/// it is.
pub fn add(context: &Context, namespace: &str, place: &str) -> Result<UpdatedRepository, Failure> {
    let path = configuration(context)?;
    let place = match Place::parse(place, |text| PathBuf::from(text)) {
        // The configuration has its own directory.
        Place::Directory(path) if !Place::is_other_address(place) => {
            let absolute = std::path::absolute(&path).map_err(Failure::io("find", &path))?;
            if !absolute.is_dir() {
                return Err(Failure::unknown("directory", absolute.display())
                    .with_help("make it first, or write oci://HOST/REPOSITORY or git+URL"));
            }
            absolute.display().to_string()
        }
        _ => place.to_owned(),
    };
    let line = format!("templates {namespace:?} {place:?}");
    let (before, _lock) = locked(context, path)?;
    let between = if before.is_empty() || before.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let text = format!("{before}{between}{line}\n");
    let config = parse(path, &text)?;
    let added = config.templates.last();
    let added = added.ok_or_else(|| Failure::failed("the repository was not added"))?;
    let updated = update_one(context, added)?;
    write(path, &text)?;
    Ok(updated)
}

/// Takes a repository out of the configuration. What was used of it stays.
///
/// # Errors
/// There is none of this namespace, or the configuration cannot be written.
pub fn remove(context: &Context, namespace: &str) -> Result<RepositoryEntry, Failure> {
    let path = configuration(context)?;
    let repository = templates::repository(context, namespace)?;
    if namespace == LOCAL {
        return Err(
            Failure::usage("the repository \"local\" is that of this home")
                .with_help("\"vmfab template rm\" removes templates from it"),
        );
    }
    let removed = entry(context, &repository)?;
    let (before, _lock) = locked(context, path)?;
    let source = std::sync::Arc::new(miette::NamedSource::new("configuration", before.clone()));
    let document = kdl::parse(&source, Bounds::WRITTEN, "the configuration is")
        .map_err(|mut problems| Failure::recipe(problems.remove(0)))?;
    let node = document.nodes().iter().find(|node| {
        let named = node.get(0).and_then(Value::as_string);
        node.name().value() == "templates" && named == Some(namespace)
    });
    let Some(node) = node else {
        return Err(Failure::unknown("repository of templates", namespace));
    };
    let (start, end) = (
        node.span().offset(),
        node.span().offset() + node.span().len(),
    );
    // Its line goes, if there is nothing else in it.
    let line_end = before[end..]
        .find('\n')
        .map_or(before.len(), |at| end + at + 1);
    let end = match before[end..line_end].trim().is_empty() {
        true => line_end,
        false => end,
    };
    let text = format!("{}{}", &before[..start], &before[end..]);
    parse(path, &text)?;
    write(path, &text)?;
    Ok(removed)
}

/// Asks repositories what they have: those that are named, or all.
///
/// # Errors
/// One of them cannot be asked, or breaks a rule; the others are updated all the same.
pub fn update(context: &Context, namespaces: &[String]) -> Result<Vec<UpdatedRepository>, Failure> {
    let wanted = match namespaces {
        [] => templates::repositories(context),
        some => some
            .iter()
            .map(|namespace| templates::repository(context, namespace))
            .collect::<Result<_, _>>()?,
    };
    let (mut updated, mut failed) = (Vec::new(), Vec::new());
    for repository in wanted {
        match update_one(context, &repository) {
            Ok(one) => updated.push(one),
            Err(failure) => failed.push(failure),
        }
    }
    match failed.is_empty() {
        true => Ok(updated),
        false => Err(Failure::several(
            failed,
            "several repositories cannot be updated",
        )),
    }
}

fn update_one(
    context: &Context,
    repository: &TemplateRepository,
) -> Result<UpdatedRepository, Failure> {
    let updated = templates::update(context, repository)?;
    let versions = updated.index.iter().map(|(_, versions)| versions.len());
    let hidden = updated.hidden.iter();
    Ok(UpdatedRepository {
        namespace: repository.namespace.clone(),
        templates: updated.index.len(),
        versions: versions.sum(),
        hidden: hidden
            .map(|one| format!("{} {}", one.name, one.version))
            .collect(),
    })
}

fn configuration(context: &Context) -> Result<&Path, Failure> {
    context.config.path.as_deref().ok_or_else(|| {
        Failure::missing("neither VMFAB_CONFIG, XDG_CONFIG_HOME nor HOME is set")
            .with_help("set VMFAB_CONFIG to the file of the configuration")
    })
}

/// The text of the configuration, and the lock on it.
fn locked(context: &Context, path: &Path) -> Result<(String, Lock), Failure> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory).map_err(Failure::io("create", directory))?;
    let lock = directory.join(".config.kdl.lock");
    let lock = Lock::wait(&lock, &context.interrupt, || ())
        .map_err(Failure::io("lock", &lock))?
        .ok_or_else(Failure::interrupted)?;
    match read_text(path, context.config.limits.recipe_size) {
        Ok(text) => Ok((text, lock)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok((String::new(), lock)),
        Err(error) => Err(Failure::of_io("read", path, &error)),
    }
}

/// Nothing is written that cannot be read again.
fn parse(path: &Path, text: &str) -> Result<Config, Failure> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let check = |text: &str| super::super::cache::repository(text).map(drop);
    Config::parse(path, text, home.as_deref(), &check).map_err(Failure::recipe)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let mode = fs::metadata(path).map_or_else(
        |_| fs::Permissions::from_mode(0o644),
        |metadata| metadata.permissions(),
    );
    Replace::new(path, Durability::Lasting)
        .permissions(mode)
        .with(text.as_bytes())
        .map_err(Failure::io("write", path))
}
