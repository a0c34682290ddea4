//! `COPY` and `ADD`: files of the context, of stages, of images, and from outside.

use std::path::Path;

use super::config::inside;
use super::{Build, Origin, Stage};
use crate::derivation::Input;
use crate::derivation::step::{self, Step};
use crate::digest::{Algorithm, Checksum};
use crate::dockerfile::{self, Files, Instruction, Word, is_mode};
use crate::instruction::{self, Add, AddSource, Git, Repository, SourcePath, is_url};
use crate::plan::lower::outside::not_pinned;
use crate::plan::lower::tree::Tree;
use crate::plan::lower::{Lowering, input};
use crate::plan::{LocalFiles, PlanError, Selection};
use crate::recipe::{Fetch, Pin, Problem, Span, Spanned};
use crate::text::without_logins;

/// What `COPY` and `ADD` put, before it is known where it comes from.
struct Put {
    paths: Vec<Spanned<String>>,
    step: Add,
    inputs: Vec<Input>,
}

impl Put {
    /// Adds the step. With `--link` it reads the layers below only for names of accounts.
    fn layer(
        self,
        lowering: &mut Lowering<'_>,
        stage: &mut Stage,
        name: String,
    ) -> Result<(), PlanError> {
        let is_number = |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        let by_number = |owner: &String| {
            let parts = owner.split_once(':');
            parts.is_some_and(|(user, group)| is_number(user) && is_number(group))
        };
        let alone = self.step.link && self.step.owner.as_ref().is_none_or(by_number);
        let step = Step::Add(self.step);
        match alone {
            true => lowering.layer_of(stage.tree(), name, &step, self.inputs),
            false => lowering.layer(stage.tree(), name, &step, self.inputs),
        }
    }
}

impl Build<'_> {
    pub(super) fn copy(
        &mut self,
        lowering: &mut Lowering<'_>,
        stage: &mut Stage,
        index: usize,
        instruction: &Instruction,
        copy: &dockerfile::Copy,
    ) -> Result<(), PlanError> {
        let mut put = self.put(lowering, stage, &copy.files)?;
        put.step.parents = copy.parents;
        let origin = match &copy.from {
            Some(from) => self.origin(lowering, from, index)?,
            None => Origin::Directory(self.asked.context.clone()),
        };
        let paths = match origin {
            Origin::Tree(tree) => {
                let name = |path: &str| {
                    let from = copy.from.as_ref().map_or("", |from| &from.value);
                    self.name(index, &format!("read {path} of {from}"))
                };
                paths_of_tree(lowering, &mut put, &tree, &name)?
            }
            Origin::Directory(_) if put.paths.is_empty() => Vec::new(),
            Origin::Directory(directory) => {
                let paths = std::mem::take(&mut put.paths);
                self.of_directory(lowering, &directory, &paths, false, &mut put.inputs)?
            }
        };
        put.step.sources.splice(0..0, paths);
        let name = self.name(index, &instruction.text);
        put.layer(lowering, stage, name)
    }

    pub(super) fn add(
        &mut self,
        lowering: &mut Lowering<'_>,
        stage: &mut Stage,
        index: usize,
        instruction: &Instruction,
        add: &dockerfile::Add,
    ) -> Result<(), PlanError> {
        let mut put = self.put(lowering, stage, &add.files)?;
        let (outside, local): (Vec<_>, Vec<_>) = std::mem::take(&mut put.paths)
            .into_iter()
            .partition(|path| is_url(&path.value) || Repository::parse(&path.value).is_some());
        if let Some(word) = &add.checksum
            && (outside.len() != 1 || !local.is_empty() || !put.step.sources.is_empty())
        {
            let message = "--checksum is for one file from an HTTP address, or one git repository";
            let problem = Problem::new(&word.span, message, "not for these sources");
            return Err(problem
                .with_help("write an ADD of its own for the address")
                .into());
        }
        let mut sources = Vec::new();
        if !local.is_empty() {
            let unpack = add.unpack.unwrap_or(true);
            let context = &self.asked.context;
            sources = self.of_directory(lowering, context, &local, unpack, &mut put.inputs)?;
        }
        for (number, url) in outside.iter().enumerate() {
            let role = format!("source-{number}");
            let source = match Repository::parse(&url.value) {
                Some(parsed) => {
                    let mut git = parsed.map_err(|message| {
                        let problem = Problem::new(&url.span, message, "not such an address");
                        problem
                            .with_help("write ADDRESS#REF:DIRECTORY, or ?ref=REF&subdir=DIRECTORY")
                    })?;
                    git.keep_git_dir = add.keep_git_dir.or(git.keep_git_dir);
                    let wanted = match (&add.checksum, &git.commit) {
                        (Some(word), _) => Some((&word.span, self.commit(stage, word)?)),
                        (None, Some(commit)) => Some((&url.span, commit.clone())),
                        (None, None) => None,
                    };
                    let commit = self.pinned(lowering, url, &git, wanted)?;
                    self.git(lowering, git, commit, role, &mut put.inputs)?
                }
                None => {
                    let checksum = match &add.checksum {
                        Some(word) => Some(self.checksum(stage, word)?),
                        None => None,
                    };
                    let blob = self.fetched(lowering, url, checksum, &role)?;
                    put.inputs.push(blob);
                    AddSource::Fetched {
                        input: role,
                        name: name_of(url, &put.step.destination)?,
                        unpack: add.unpack.unwrap_or(false),
                    }
                }
            };
            sources.push(source);
        }
        put.step.sources.splice(0..0, sources);
        let name = self.name(index, &instruction.text);
        put.layer(lowering, stage, name)
    }

    /// What `COPY` and `ADD` have in common: all but the sources that are paths.
    fn put(&self, lowering: &Lowering<'_>, stage: &Stage, files: &Files) -> Result<Put, PlanError> {
        let expand = |word: &Word| stage.variables.expand(&self.arguments, word);
        let optional = |word: &Option<Word>| word.as_ref().map(expand).transpose();
        let mut paths = Vec::new();
        for word in &files.sources {
            let path = expand(word)?;
            if path.is_empty() {
                let problem = Problem::new(&word.span, "the source is empty", "empty");
                return Err(problem.with_help("write a path in the context").into());
            }
            paths.push(Spanned::new(path, word.span.clone()));
        }
        let sources = files.documents.iter().map(|document| {
            let content = stage
                .variables
                .with_expander(&self.arguments, |expander| expander.document(document))?;
            Ok(AddSource::Content {
                name: document.name.value.clone(),
                content,
            })
        });
        let sources: Vec<AddSource> = sources.collect::<Result<_, PlanError>>()?;
        let destination = destination(stage.workdir(), &expand(&files.destination)?);
        if paths.len() + sources.len() > 1 && !destination.ends_with('/') {
            let message = "several files go to one destination, which must be a directory";
            let problem = Problem::new(&files.destination.span, message, "without / at its end");
            return Err(problem.with_help(format!("write {destination}/")).into());
        }
        let mode = optional(&files.chmod)?.filter(|mode| !mode.is_empty());
        if let (Some(word), Some(mode)) = (&files.chmod, &mode)
            && !is_mode(mode)
        {
            let problem = Problem::new(
                &word.span,
                format!("\"{mode}\" is not a mode"),
                "not a mode",
            );
            return Err(problem
                .with_help("write it as for chmod: 755, u=rwX,go=rX")
                .into());
        }
        let exclude = files.exclude.iter().map(expand).collect::<Result<_, _>>()?;
        let step = Add {
            sources,
            destination,
            owner: optional(&files.chown)?.filter(|owner| !owner.is_empty()),
            mode,
            link: files.link,
            exclude,
            time: lowering.world.file_time(),
            ..Add::default()
        };
        Ok(Put {
            paths,
            step,
            inputs: Vec::new(),
        })
    }

    /// Paths of a directory of this host.
    fn of_directory(
        &self,
        lowering: &mut Lowering<'_>,
        directory: &Path,
        paths: &[Spanned<String>],
        unpack: bool,
        inputs: &mut Vec<Input>,
    ) -> Result<Vec<AddSource>, PlanError> {
        let role = "source".to_owned();
        inputs.push(self.local(lowering, directory, paths, &role)?);
        let paths = paths.iter().map(|path| AddSource::Path {
            from: crate::instruction::Origin::Files(role.clone()),
            path: path.value.clone(),
            unpack,
        });
        Ok(paths.collect())
    }

    /// Files of a directory of this host, as an input. Only those that one of `paths` names are
    /// read.
    pub(super) fn local(
        &self,
        lowering: &mut Lowering<'_>,
        directory: &Path,
        paths: &[Spanned<String>],
        role: &str,
    ) -> Result<Input, PlanError> {
        let is_context = directory == self.asked.context;
        let ignore = self.asked.ignore.as_ref().filter(|_| is_context);
        let ignore = ignore.map_or("", |source| source.inner());
        let files = |paths: &[Spanned<String>]| LocalFiles {
            path: directory.to_owned(),
            exclude: Vec::new(),
            selection: Some(Selection {
                include: paths.iter().map(|path| path.value.clone()).collect(),
                ignore: ignore.to_owned(),
            }),
        };
        // One after the other, to say which of them it is.
        let wrong = paths.iter().find_map(|path| {
            if paths.len() == 1 {
                return None;
            }
            let error = lowering
                .world
                .local(&files(std::slice::from_ref(path)))
                .err()?;
            Some((path, error))
        });
        let (path, error) = match wrong {
            Some(wrong) => wrong,
            None => match lowering.local(self.own, files(paths)) {
                Ok(node) => return Ok(input(role, node, step::LISTING)),
                Err(error) => (&paths[0], error),
            },
        };
        let shown = directory.display();
        let message = format!(
            "cannot read \"{}\" of the context {shown}: {error}",
            path.value
        );
        let problem = Problem::new(&path.span, message, "not readable");
        let help = "paths are relative to the context, and .dockerignore may leave them out";
        Err(problem.with_help(help).into())
    }

    fn checksum(&self, stage: &Stage, word: &Word) -> Result<Checksum, PlanError> {
        let text = stage.variables.expand(&self.arguments, word)?;
        if let Ok(checksum) = text.parse::<Checksum>()
            && checksum.algorithm() != Algorithm::Blake3
        {
            return Ok(checksum);
        }
        let message = format!("\"{text}\" is not a checksum");
        let problem = Problem::new(&word.span, message, "not a checksum");
        Err(problem.with_help("write sha256: and 64 digits").into())
    }

    /// A file from an HTTP address.
    fn fetched(
        &self,
        lowering: &mut Lowering<'_>,
        url: &Spanned<String>,
        checksum: Option<Checksum>,
        role: &str,
    ) -> Result<Input, PlanError> {
        if without_logins(&url.value) != url.value {
            let message = "the address of a file has a user name or a password in it";
            let problem = Problem::new(&url.span, message, "would stay in the lock");
            let help = "put it into a mirror of the configuration (docs/config.md), or download \
                        the file in a RUN with --mount=type=secret";
            return Err(problem.with_help(help).into());
        }
        let fetch = Fetch {
            url: url.clone(),
            mirrors: Vec::new(),
            pin: Some(checksum.map_or(Pin::FirstUse, Pin::Checksum)),
            size: None,
        };
        let blob = lowering.fetch(self.own, &fetch)?;
        Ok(Input {
            role: role.to_owned(),
            ..blob
        })
    }

    /// The commit of a repository that is meant; `wanted` is how it must begin.
    fn pinned(
        &self,
        lowering: &Lowering<'_>,
        url: &Spanned<String>,
        git: &Repository,
        wanted: Option<(&Span, String)>,
    ) -> Result<String, PlanError> {
        // A commit with all its digits need not be asked for.
        let whole = git.commit.as_deref().filter(|commit| commit.len() >= 40);
        let reference = git.reference.as_deref().or(whole).unwrap_or("HEAD");
        let commit = lowering.world.commit(&git.address, reference);
        let commit = commit.map_err(|error| not_pinned(url, "commit", error))?;
        // Where nobody is asked, it is no commit that is told.
        let told = commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        match wanted {
            Some((span, start)) if told && !commit.starts_with(&start) => {
                let message = format!("{reference} of {} is the commit {commit}", git.address);
                let problem = Problem::new(span, message, "another commit");
                let help = "correct the checksum, or name the commit after the # of the address";
                Err(problem.with_help(help).into())
            }
            _ => Ok(commit),
        }
    }

    /// The first digits of a commit, or all.
    fn commit(&self, stage: &Stage, word: &Word) -> Result<String, PlanError> {
        let text = stage.variables.expand(&self.arguments, word)?;
        let message = match instruction::commit(&text) {
            Ok(commit) => return Ok(commit),
            Err(message) => message,
        };
        let problem = Problem::new(&word.span, message, "not a commit");
        let help = "for a git repository, write the commit: at least 7 digits";
        Err(problem.with_help(help).into())
    }

    /// The files of a commit of a git repository.
    fn git(
        &self,
        lowering: &mut Lowering<'_>,
        git: Repository,
        commit: String,
        role: String,
        inputs: &mut Vec<Input>,
    ) -> Result<AddSource, PlanError> {
        let step = Step::Git(Git {
            repository: git.address.url.clone(),
            commit,
            directory: git.directory,
            keep_git_dir: git.keep_git_dir.unwrap_or(false),
        });
        let name = format!("{}: git {}", self.own, git.address);
        if let Some(login) = git.address.login {
            lowering.logins.insert(git.address.url, login);
        }
        let node = lowering.graph.add_step(name, &step, Vec::new())?;
        inputs.push(input(&role, node, "source"));
        Ok(AddSource::Path {
            from: crate::instruction::Origin::Files(role),
            path: "/".to_owned(),
            unpack: false,
        })
    }
}

/// Paths in another tree. A step of its own reads each, so that `COPY` does not depend on the rest
/// of that tree.
fn paths_of_tree(
    lowering: &mut Lowering<'_>,
    put: &mut Put,
    tree: &Tree,
    name: &dyn Fn(&str) -> String,
) -> Result<Vec<AddSource>, PlanError> {
    let mut sources = Vec::new();
    for (number, path) in put.paths.iter().enumerate() {
        let role = match put.paths.len() {
            1 => "source".to_owned(),
            _ => format!("source-{number}"),
        };
        let parents = put.step.parents;
        let mut path = path.value.as_str();
        if SourcePath::parse(path).is_ok_and(|path| path.is_root()) {
            put.inputs.extend(tree.inputs_as(&role));
        } else {
            let part = Add {
                parents,
                exclude: put.step.exclude.clone(),
                ..Add::default()
            };
            let part = lowering.subtree(name(path), tree, path, part)?;
            put.inputs.extend(part.inputs_as(&role));
            if parents {
                path = path.split_once("/./").map_or(path, |(_, below)| below);
            }
        }
        sources.push(AddSource::layers(&role, path));
    }
    Ok(sources)
}

/// An absolute destination. What can only be a directory ends with `/`.
fn destination(workdir: &str, path: &str) -> String {
    let is_directory =
        path.ends_with('/') || path.ends_with("/.") || matches!(path, "." | "" | "..");
    let path = inside(workdir, path);
    match is_directory && path != "/" {
        true => format!("{path}/"),
        false => path,
    }
}

/// What a file from an address is called in a directory.
fn name_of(url: &Spanned<String>, destination: &str) -> Result<String, PlanError> {
    let path = url.value.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let name = path.rsplit_once('/').map_or("", |(_, name)| name);
    if name.is_empty() && destination.ends_with('/') {
        let message = "the address does not say what the file is called";
        let problem = Problem::new(&url.span, message, "no file name at its end");
        return Err(problem
            .with_help("give the file as the destination: /opt/tool")
            .into());
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        for (path, is) in [
            ("a", "/w/a"),
            ("a/", "/w/a/"),
            (".", "/w/"),
            ("./", "/w/"),
            ("a/.", "/w/a/"),
            ("/", "/"),
            ("/a/../b/", "/b/"),
        ] {
            assert_eq!(destination("/w", path), is, "{path}");
        }
    }
}
