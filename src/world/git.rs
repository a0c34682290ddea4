//! Which commit a branch, a tag or `HEAD` of a git repository stands for: the repository is asked
//! what it has, by the host's git.

use std::collections::BTreeSet;
use std::env;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Context;
use crate::builder::git::Reach;
use crate::failure::{Failure, Kind};
use crate::host::find_program;
use crate::host::git::{CONFIG, KNOWN_HOSTS, KNOWN_HOSTS_VARIABLE};
use crate::host::process::{self, Bounds};
use crate::instruction::Address;

/// The longest list of references that is read.
const MOST_OUTPUT: u64 = 64 << 20;
/// How long a server may take.
const LONGEST: Duration = Duration::from_secs(300);
/// Fewer digits of a commit name too many of them.
const FEWEST_DIGITS: usize = 7;

/// What the lock and the pins call a reference of a repository.
pub(crate) fn address(repository: &str, reference: &str) -> String {
    format!("git+{repository}#{reference}")
}

/// All the digits of a commit, in small letters. Locks and pins write `commit:` before them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Commit(String);

impl Commit {
    /// The commit, if these are all the digits of one.
    pub(crate) fn of(digits: &str) -> Option<Self> {
        let complete = matches!(digits.len(), 40 | 64) && is_hexadecimal(digits);
        complete.then(|| Self(digits.to_ascii_lowercase()))
    }

    pub(crate) fn into_digits(self) -> String {
        self.0
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commit:{}", self.0)
    }
}

impl FromStr for Commit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("commit:");
        digits.and_then(Self::of).ok_or("not a commit")
    }
}

impl TryFrom<String> for Commit {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Commit> for String {
    fn from(commit: Commit) -> Self {
        commit.to_string()
    }
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Asks a repository for the commit of a reference.
///
/// # Errors
/// The repository cannot be asked, or has no such reference.
pub(crate) fn look_up(
    context: &Context,
    repository: &Address,
    reference: &str,
) -> Result<Commit, Failure> {
    if context.offline {
        return Err(failed(
            "--offline forbids to ask the repository".to_owned(),
            "give a commit with all its digits, or run \"vmfab lock\" online",
        ));
    }
    let references = listed(context, repository)?;
    choose(&references, reference).map_err(|message| {
        Failure::new(Kind::Recipe, message)
            .with_help("name a branch, a tag, or a commit with all its digits")
    })
}

/// The branches and tags of a repository by their whole names, each with the digits of its commit.
///
/// # Errors
/// The repository cannot be asked.
pub(crate) fn references(
    context: &Context,
    repository: &Address,
) -> Result<Vec<(String, String)>, Failure> {
    let all = listed(context, repository)?;
    let whole = |name: &str| name.starts_with("refs/heads/") || name.starts_with("refs/tags/");
    let names = all.iter().map(|(_, name)| name.trim_end_matches("^{}"));
    let names: BTreeSet<&str> = names.filter(|name| whole(name)).collect();
    let found = names.into_iter().filter_map(|name| {
        let commit = choose(&all, name).ok()?;
        Some((commit.into_digits(), name.to_owned()))
    });
    // An annotated tag stands for the commit that it points to.
    let found = found.map(|(commit, name)| {
        let peeled = format!("{name}^{{}}");
        let peeled = all.iter().find(|(_, other)| *other == peeled);
        (
            peeled.map_or(commit, |(commit, _)| commit.clone().into_digits()),
            name,
        )
    });
    Ok(found.collect())
}

fn listed(context: &Context, repository: &Address) -> Result<Vec<(Commit, String)>, Failure> {
    let lines: Mutex<Vec<(Commit, String)>> = Mutex::default();
    let output = |line: &str| {
        let reference = line.split_once('\t');
        let reference = reference.and_then(|(commit, name)| Some((Commit::of(commit)?, name)));
        let is_one = reference.is_some();
        let mut lines = lines.lock().expect("nothing panics with it");
        lines.extend(reference.map(|(commit, name)| (commit, name.to_owned())));
        is_one
    };
    let words = ["ls-remote", "--quiet", "--", &repository.url];
    git(context, repository, Path::new("/"), &words, &output)?;
    Ok(lines.into_inner().expect("nothing panics with it"))
}

/// Puts the files of a commit into an empty directory. Servers that do not give single commits give
/// all of them.
///
/// # Errors
/// The repository cannot be read, or does not have the commit.
pub(crate) fn check_out(
    context: &Context,
    repository: &Address,
    commit: &str,
    directory: &Path,
) -> Result<(), Failure> {
    let git = |words: &[&str]| git(context, repository, directory, words, &|_| false);
    git(&["init", "--quiet", "--template="])?;
    git(&["remote", "add", "origin", &repository.url])?;
    if git(&["fetch", "--quiet", "--depth=1", "origin", commit]).is_err() {
        let all = "+refs/heads/*:refs/remotes/origin/*";
        git(&["fetch", "--quiet", "--tags", "origin", all])?;
    }
    git(&["checkout", "--quiet", "--detach", commit])?;
    if directory.join(".gitmodules").is_file() {
        let update = ["submodule", "--quiet", "update", "--init", "--recursive"];
        git(&[&update[..], &["--depth=1"]].concat())?;
    }
    Ok(())
}

fn failed(message: String, help: &str) -> Failure {
    Failure::failed(message).with_help(help)
}

/// Runs git in a directory. What `output` does not take of its lines is shown if it fails.
fn git(
    context: &Context,
    repository: &Address,
    directory: &Path,
    words: &[&str],
    output: &(dyn Fn(&str) -> bool + Sync),
) -> Result<(), Failure> {
    let Some(git) = find_program("git") else {
        let message = "git is not installed".to_owned();
        return Err(failed(message, "install the package git"));
    };
    let reach = Reach::new(repository, &context.secrets, repository.login.as_ref())?;
    let unwritten = |error| Failure::of_io("cannot write", &env::temp_dir(), &error);
    let files = tempfile::tempdir().map_err(unwritten)?;
    let access = reach.access(repository);
    access.write(files.path()).map_err(unwritten)?;
    let mut command = Command::new(git);
    command
        .args(["-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=60"])
        .args(words)
        // No configuration of the user, nor of a repository around this directory.
        .current_dir(directory)
        .envs(access.env())
        .env("HOME", "/nonexistent")
        .env(
            "GIT_CEILING_DIRECTORIES",
            directory.parent().unwrap_or(directory),
        )
        .env("GIT_CONFIG_GLOBAL", files.path().join(CONFIG))
        .env(KNOWN_HOSTS_VARIABLE, files.path().join(KNOWN_HOSTS));
    if let Some(agent) = reach.agent {
        command.env("SSH_AUTH_SOCK", agent);
    }
    let said: Mutex<Vec<String>> = Mutex::default();
    let output = |line: &str| {
        if !output(line) && !line.trim().is_empty() {
            let mut said = said.lock().expect("nothing panics with it");
            said.push(line.trim().to_owned());
        }
    };
    let bounds = Bounds {
        time: Some(LONGEST),
        output: Some(MOST_OUTPUT),
    };
    let check = reach.advice(repository);
    let mut log = File::options()
        .write(true)
        .open("/dev/null")
        .map_err(|error| failed(format!("cannot open /dev/null: {error}"), &check))?;
    let interrupt = &context.interrupt;
    let ran = process::run(&mut command, &[], &mut log, &output, bounds, interrupt);
    let ran = ran.map_err(|error| failed(format!("cannot run git: {error}"), &check))?;
    let said = said.into_inner().expect("nothing panics with it");
    if !ran.end.success() {
        // ssh says in its first line what is wrong, other programs in their last one.
        let line = match repository.is_ssh() {
            true => said.first(),
            false => said.last(),
        };
        let said = line.map_or_else(String::new, |line| format!(": {line}"));
        let word = words.first().unwrap_or(&"");
        let message = format!("git {word} {}{said}", ran.end.describe());
        return Err(failed(message, &check));
    }
    Ok(())
}

/// The commit that is meant, as `git checkout` and BuildKit choose: branches come before tags. The
/// beginning of a commit is found if a reference points to the commit.
fn choose(references: &[(Commit, String)], wanted: &str) -> Result<Commit, String> {
    let named = |name: &str| {
        let mut all = references.iter();
        let found = all.find(|(_, other)| other == name);
        found.map(|(commit, _)| commit.clone())
    };
    let names = [
        format!("refs/heads/{wanted}"),
        // What an annotated tag points to.
        format!("refs/tags/{wanted}^{{}}"),
        format!("refs/tags/{wanted}"),
        format!("{wanted}^{{}}"),
        wanted.to_owned(),
        format!("refs/{wanted}"),
    ];
    if let Some(commit) = names.iter().find_map(|name| named(name)) {
        return Ok(commit);
    }
    if wanted.len() >= FEWEST_DIGITS && is_hexadecimal(wanted) {
        let start = wanted.to_ascii_lowercase();
        let commits = references.iter().map(|(commit, _)| commit);
        let commits = commits.filter(|commit| commit.0.starts_with(&start));
        let commits: Vec<&Commit> = commits.collect::<BTreeSet<_>>().into_iter().collect();
        match commits.as_slice() {
            [only] => return Ok((*only).clone()),
            [] => {}
            _ => return Err(format!("several commits of it begin with {wanted}")),
        }
        return Err(format!(
            "it has no branch or tag \"{wanted}\", and none at a commit that begins so"
        ));
    }
    Err(format!("it has no branch or tag \"{wanted}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_come_before_tags_and_tags_are_followed() {
        let commit = |digit: &str| Commit::of(&digit.repeat(40)).unwrap();
        let references = [
            ("1", "HEAD"),
            ("1", "refs/heads/main"),
            ("2", "refs/heads/both"),
            ("3", "refs/pull/7/head"),
            ("4", "refs/tags/both"),
            ("5", "refs/tags/v1"),
            ("6", "refs/tags/v1^{}"),
            ("7", "refs/tags/plain"),
            ("A", "refs/heads/upper"),
        ];
        let references = references.map(|(digit, name)| (commit(digit), name.to_owned()));
        for (wanted, digit) in [
            ("HEAD", "1"),
            ("main", "1"),
            ("refs/heads/main", "1"),
            ("both", "2"),
            ("refs/tags/both", "4"),
            ("v1", "6"),
            ("refs/tags/v1", "6"),
            ("plain", "7"),
            ("pull/7/head", "3"),
            ("3333333", "3"),
            ("upper", "a"),
            ("aaaaaaaa", "a"),
        ] {
            assert_eq!(choose(&references, wanted), Ok(commit(digit)), "{wanted}");
        }
        for wanted in ["none", "333333", "9999999", "ain", ""] {
            assert!(choose(&references, wanted).is_err(), "{wanted}");
        }
        let twice = [
            (format!("1111111{}", "2".repeat(33)), "refs/heads/a"),
            (format!("1111111{}", "3".repeat(33)), "refs/heads/b"),
        ];
        let twice = twice.map(|(digits, name)| (Commit::of(&digits).unwrap(), name.to_owned()));
        let error = choose(&twice, "1111111").unwrap_err();
        assert!(error.starts_with("several commits"), "{error}");
    }
}
