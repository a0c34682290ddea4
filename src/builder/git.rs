//! Files of a git repository, by the host's git, which sees nothing of the host but programs and
//! certificates.

use std::collections::BTreeMap;
use std::path::Path;

use super::agent::Forwarded;
use super::local;
use crate::derivation::{BuildRequest, Builder, Outputs, Step};
use crate::failure::Failure;
use crate::host::git::Access;
use crate::host::{Login, Secret, Secrets, find_program};
use crate::instruction::Address;
use crate::plan::{LocalFiles, Selection};
use crate::sandbox::{HostCommand, Job, Lent, Runner, Sandbox, Task};
use crate::store::Store;

/// `$1` is the repository, `$2` the commit; it makes the directory `repository`. Servers that do not give
/// single commits give all of them. The link `/tmp/agent` is there because the path of a socket has room
/// for 107 bytes only.
const SCRIPT: &str = r#"
export HOME="$VMFAB_JOB" GIT_CONFIG_GLOBAL="$VMFAB_JOB/gitconfig"
export VMFAB_KNOWN_HOSTS="$VMFAB_JOB/known_hosts" SSH_AUTH_SOCK=/tmp/agent
ln -s "$VMFAB_JOB/agent" /tmp/agent
git init --quiet -- "$HOME/repository"
cd -- "$HOME/repository"
git remote add origin "$1"
git fetch --quiet --depth 1 origin "$2" 2>/dev/null ||
    git fetch --quiet --tags origin '+refs/heads/*:refs/remotes/origin/*'
git -c advice.detachedHead=false checkout --quiet "$2"
if test -e .gitmodules; then git submodule --quiet update --init --recursive --depth 1; fi
"#;

pub(super) struct Git {
    pub(super) sandbox: Sandbox,
    pub(super) store: Store,
    pub(super) secrets: Secrets,
    /// By addresses of repositories.
    pub(super) logins: BTreeMap<String, Login>,
}

/// How to reach a repository: with a login or an SSH agent that the user gives.
pub(crate) struct Reach<'a> {
    login: Option<Login>,
    pub(crate) agent: Option<&'a Path>,
}

impl<'a> Reach<'a> {
    /// `login` is that of its address, if it has one.
    ///
    /// # Errors
    /// A secret cannot be read, or there is no agent for SSH.
    pub(crate) fn new(
        address: &Address,
        secrets: &'a Secrets,
        login: Option<&Login>,
    ) -> Result<Self, Failure> {
        let unread = |error| {
            let message = format!("cannot read the secret for {}: {error}", address.host());
            Failure::failed(message).with_help("check the option --secret")
        };
        if !address.is_ssh() {
            let login = match login {
                Some(login) => Some(login.clone()),
                None => secrets.login(address.host()).map_err(unread)?,
            };
            return Ok(Self { login, agent: None });
        }
        if find_program("ssh").is_none() {
            let message = format!("ssh is not installed, and {address} needs it");
            return Err(Failure::missing(message)
                .and_help(vec!["install the package openssh-client".to_owned()]));
        }
        let agent = secrets.agents.get("default").ok_or_else(|| {
            Failure::failed("reading over SSH needs an agent with a key").with_help(
                "start one and add the key: eval $(ssh-agent) && ssh-add; then give --ssh-agent",
            )
        })?;
        Ok(Self {
            login: None,
            agent: Some(agent),
        })
    }

    pub(crate) fn access<'b>(&'b self, address: &'b Address) -> Access<'b> {
        Access {
            server: address.server(),
            login: self.login.as_ref(),
            ssh: self.agent.is_some(),
        }
    }

    /// What to do when the repository cannot be read.
    pub(crate) fn advice(&self, address: &Address) -> String {
        match (address.is_ssh(), &self.login) {
            (true, _) => "check the address; ssh must know the host (connect to it once, and ssh \
                          adds it to ~/.ssh/known_hosts), and the agent must have a key for it \
                          (ssh-add -l)"
                .to_owned(),
            (false, Some(_)) => {
                "check the address, and the user name and password or token for it".to_owned()
            }
            (false, None) => "check the address; a private repository needs a token: --secret \
                              id=GIT_AUTH_TOKEN,env=VARIABLE"
                .to_owned(),
        }
    }

    /// What must not be shown.
    fn hidden(&self) -> Vec<Secret> {
        let texts = self
            .login
            .iter()
            .map(|login| match login.password.is_empty() {
                true => &login.name,
                false => &login.password,
            });
        texts
            .map(|text| Secret::new(text.clone().into_bytes()))
            .collect()
    }
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
        let address = Address {
            url: params.repository.clone(),
            login: None,
        };
        let login = self.logins.get(&params.repository);
        let reach = Reach::new(&address, &self.secrets, login)?;
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
        let access = reach.access(&address);
        access
            .write(scratch.path())
            .map_err(Failure::step_io("write", scratch.path()))?;
        let socket = scratch.path().join("agent");
        let agent = reach.agent.map(|agent| Forwarded::new(agent, &socket));
        let agent = agent.transpose().map_err(|error| {
            Failure::failed(format!("cannot reach the SSH agent: {error}"))
                .with_help("check the option --ssh-agent")
        })?;
        let command = HostCommand {
            argv: argv.map(str::to_owned).into(),
            env: access.env(),
            network: true,
        };
        let job = Job::over(&[], vec![Task::Host(command)]);
        let lent = Lent {
            secrets: reach.hidden(),
            ..Lent::default()
        };
        self.sandbox
            .run(job, &lent, &scratch, request)
            .map_err(|error| match error.is_command() {
                true => error
                    .with_command(format!("git fetch {} {}", params.repository, params.commit))
                    .with_help(reach.advice(&address)),
                false => error,
            })?;
        drop(agent);
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
