//! Git repositories that are built: their files at a commit, kept in the home.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{Context, git, pins, usual_dockerfile};
use crate::digest::Hasher;
use crate::failure::{Failure, Kind};
use crate::instruction::Repository;
use crate::recipe::{Wanted, is_dockerfile};
use crate::text::without_logins;

/// A file or directory of a git repository on this host, and its commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedOut {
    pub path: PathBuf,
    pub commit: String,
}

/// The Dockerfile of the git repository that a text names; `None` when it names none.
///
/// # Errors
/// The text is not an address, the repository cannot be read, or it has no Dockerfile there.
pub fn checked_out(context: &Context, text: &str) -> Result<Option<CheckedOut>, Failure> {
    let Some(repository) = Repository::parse(text) else {
        return Ok(None);
    };
    let repository = repository.map_err(|message| {
        Failure::usage(format!("{}: {message}", without_logins(text)))
            .with_help("write ADDRESS#REF:DIRECTORY, or ADDRESS?ref=REF&subdir=DIRECTORY")
    })?;
    check_out(context, &repository, Wanted::Dockerfile).map(Some)
}

/// A Dockerfile or directory of a git repository. A branch or tag stands for what the repository
/// says now; offline, for what it said last.
///
/// # Errors
/// The repository cannot be read, or lacks the file or directory.
pub(crate) fn check_out(
    context: &Context,
    repository: &Repository,
    wanted: Wanted,
) -> Result<CheckedOut, Failure> {
    let address = &repository.address;
    let unread = |error: Failure| {
        let message = format!("cannot read {address}: {}", error.message());
        error.with_kind(Kind::Failed).with_message(message)
    };
    let commit = commit_of(context, repository).map_err(unread)?;
    if let Some(start) = &repository.commit
        && !commit.starts_with(start)
    {
        let message = format!("{address} is at the commit {commit}, not at {start}");
        return Err(Failure::verification(message).with_help("name the commit after the #"));
    }
    let mut hasher = Hasher::new("vmfab repository v1");
    hasher.update_field(address.url.as_bytes());
    hasher.update_field(commit.as_bytes());
    let place = context
        .home
        .repositories()
        .join(hasher.finish().to_string());
    // The image is called as its directory.
    let name = address.url.trim_end_matches('/').rsplit(['/', ':']).next();
    let name = name.map(|name| name.trim_end_matches(".git"));
    let name = name.filter(|name| !name.is_empty() && !name.starts_with('.'));
    let root = place.join(name.unwrap_or("repository"));
    if !root.is_dir() {
        let failed = |error: &io::Error| Failure::of_io("cannot write", &root, error);
        let new = context.home.repositories();
        fs::create_dir_all(&place).map_err(|error| failed(&error))?;
        let new = tempfile::tempdir_in(new).map_err(|error| failed(&error))?;
        git::check_out(context, address, &commit, new.path()).map_err(unread)?;
        let new = new.keep();
        if let Err(error) = fs::rename(&new, &root) {
            // Another process was faster.
            let _ = fs::remove_dir_all(&new);
            if !root.is_dir() {
                return Err(failed(&error));
            }
        }
    }
    let path = inside(&root, repository.directory.as_deref(), wanted)?;
    Ok(CheckedOut { path, commit })
}

fn commit_of(context: &Context, repository: &Repository) -> Result<String, Failure> {
    let whole = repository
        .commit
        .as_deref()
        .filter(|commit| commit.len() >= 40);
    let reference = repository.reference.as_deref().or(whole).unwrap_or("HEAD");
    if let Some(commit) = git::Commit::of(reference) {
        return Ok(commit.into_digits());
    }
    let address = git::address(&repository.address.url, reference);
    if let Some(known) = context.commits().get(&address) {
        return Ok(known.clone());
    }
    let commit = match context.offline {
        true => pins::pin_commit(context, &repository.address, reference),
        false => pins::look_up_commit(context, &repository.address, reference),
    };
    let commit = commit?.into_digits();
    context.commits().insert(address, commit.clone());
    Ok(commit)
}

/// The file or directory that is meant. It must lie in the repository, also if it is a link.
fn inside(root: &Path, below: Option<&str>, wanted: Wanted) -> Result<PathBuf, Failure> {
    let below = below.unwrap_or(".");
    let (noun, help) = match wanted {
        Wanted::Directory => ("directory", "name it: ADDRESS#REF:DIRECTORY"),
        Wanted::Dockerfile => (
            "Dockerfile",
            "name its directory or itself: ADDRESS#REF:DIRECTORY",
        ),
    };
    let lacking =
        || Failure::unknown(&format!("{noun} in the repository at"), below).with_help(help);
    let root = root.canonicalize().map_err(|_| lacking())?;
    let path = root.join(below).canonicalize().map_err(|_| lacking())?;
    if !path.starts_with(&root) {
        return Err(lacking());
    }
    let found = match (wanted, path.is_dir()) {
        (Wanted::Directory, true) => return Ok(path),
        (Wanted::Directory, false) => None,
        (Wanted::Dockerfile, true) => usual_dockerfile(&path),
        (Wanted::Dockerfile, false) => Some(path).filter(|path| is_dockerfile(path)),
    };
    let found = found.ok_or_else(lacking)?;
    // The build also reads these ignore files, if they exist.
    let own = PathBuf::from(format!("{}.dockerignore", found.display()));
    let read = [found.clone(), own, found.with_file_name(".dockerignore")];
    let leads_out = |path: &&PathBuf| {
        path.canonicalize()
            .is_ok_and(|path| !path.starts_with(&root))
    };
    match read.iter().find(leads_out) {
        Some(path) => {
            let below = path.strip_prefix(&root).unwrap_or(path).display();
            let message = format!("{below} is a link that leads out of the repository");
            Err(Failure::failed(message).with_help("the repository must have the file itself"))
        }
        None => Ok(found),
    }
}
