//! Files of a git repository, by the host's git, which sees nothing of the host but programs and
//! certificates.

use std::collections::BTreeMap;
use std::path::Path;

use super::local;
use crate::derivation::{BuildRequest, Builder, Outputs, Step};
use crate::failure::Failure;
use crate::host::find_program;
use crate::plan::{LocalFiles, Selection};
use crate::sandbox::{HostCommand, Job, Lent, Runner, Sandbox, Task};

/// `$1` is the repository, `$2` the commit; it makes the directory `repository`. Servers that do not give
/// single commits give all of them.
const SCRIPT: &str = r#"
export HOME="$VMFAB_JOB"
git init --quiet -- "$HOME/repository"
cd -- "$HOME/repository"
git remote add origin "$1"
git fetch --quiet --depth 1 origin "$2" 2>/dev/null ||
    git fetch --quiet --tags origin '+refs/heads/*:refs/remotes/origin/*'
git -c advice.detachedHead=false checkout --quiet "$2"
if test -e .gitmodules; then git submodule --quiet update --init --recursive --depth 1; fi
"#;
use crate::store::Store;

pub(super) struct Git {
    pub(super) sandbox: Sandbox,
    pub(super) store: Store,
}

impl Builder for Git {
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, Failure> {
        let Step::Git(params) = super::step(request)? else {
            return Err(super::wrong_kind(request));
        };
        if find_program("git").is_none() {
            return Err(Failure::missing(format!(
                "git is not installed, and {} needs it",
                params.repository
            ))
            .and_help(vec!["install the package git".to_owned()]));
        }
        let scratch = self.sandbox.scratch()?;
        let directory = scratch.path().join("repository");
        let argv = [
            "/bin/sh",
            "-euc",
            SCRIPT,
            "git",
            &params.repository,
            &params.commit,
        ];
        let command = HostCommand {
            argv: argv.map(str::to_owned).into(),
            env: BTreeMap::from([
                ("GIT_CONFIG_NOSYSTEM".to_owned(), "1".to_owned()),
                ("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned()),
                ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
            ]),
            network: true,
        };
        let job = Job::over(&[], vec![Task::Host(command)]);
        self.sandbox
            .run(job, &Lent::default(), &scratch, request)
            .map_err(|error| match error.is_command() {
                true => {
                    error.with_command(format!("git fetch {} {}", params.repository, params.commit))
                }
                false => error,
            })?;
        let path = match &params.directory {
            Some(below) => inside(&directory, below)?,
            None => directory,
        };
        let files = LocalFiles {
            path,
            exclude: Vec::new(),
            selection: Some(Selection {
                include: vec!["/".to_owned()],
                ignore: match params.keep_git_dir {
                    true => String::new(),
                    false => "**/.git".to_owned(),
                },
            }),
        };
        let mut archive = self.store.writer().map_err(Failure::of_step)?;
        local::list(&files, None, None)
            .and_then(|listing| local::pack(&files, &listing, &mut archive))
            .map_err(Failure::step_io("read", &files.path))?;
        let source = archive.finish().map_err(Failure::of_step)?;
        Ok(Outputs::from([("source".to_owned(), source)]))
    }
}

/// A directory of the repository, which no link of it leads out of.
fn inside(directory: &Path, below: &str) -> Result<std::path::PathBuf, Failure> {
    let lacking = || {
        Failure::failed(format!("the repository has no directory \"{below}\""))
            .with_help("check what follows the colon in the address")
    };
    let root = directory.canonicalize().map_err(|_| lacking())?;
    let path = root.join(below.trim_start_matches('/'));
    let path = path.canonicalize().map_err(|_| lacking())?;
    match path.is_dir() && path.starts_with(&root) {
        true => Ok(path),
        false => Err(lacking()),
    }
}
