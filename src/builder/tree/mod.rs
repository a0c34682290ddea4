//! Steps that give a layer. Each kind is a pure function from its parameters to sandbox tasks.

mod bootstrap;
mod entrypoint;
mod service;
mod system;
mod user;

use std::collections::BTreeMap;

use super::packages::{self, AptOf, Packages};
use super::sources::Sources;
use crate::derivation::step::{File, Run, Step, StepLimits};
use crate::derivation::{BuildRequest, Builder, Derivation, Outputs};
use crate::digest::{Digest, ObjectRef};
use crate::failure::Failure;
use crate::lock::PackageSet;
use crate::sandbox::{Bootable, Command, Edit, Install, Job, Lent, Runner, Sandbox, Task};
use crate::store::Store;

/// Builds all kinds of steps whose output is a layer.
pub(super) struct Tree {
    pub(super) sandbox: Sandbox,
    pub(super) store: Store,
    pub(super) sources: Sources,
    /// The packages of locked steps, by the digest in their parameters.
    pub(super) locked: BTreeMap<Digest, PackageSet>,
}

/// The file of the job that holds what is copied.
const SOURCE: &str = "source.tar";

impl Builder for Tree {
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, Failure> {
        let step = super::step(request)?;
        let scratch = self.sandbox.scratch()?;
        let tasks = match &step {
            Step::Bootstrap(_) | Step::Packages(_) | Step::Bootable(_) => {
                return self.packages(&step, request);
            }
            Step::Copy(params) => {
                let source = self.sources.of(request, "source")?;
                source.write(&scratch.path().join(SOURCE))?;
                let edit = Edit::Extract {
                    archive: SOURCE.into(),
                    destination: params.destination.clone(),
                    mode: params.mode,
                    owner: params.owner.clone(),
                };
                vec![Task::Edit(vec![edit])]
            }
            Step::System(params) => vec![Task::Edit(system::edits(params))],
            Step::Entrypoint(params) => entrypoint::tasks(params),
            other => plain_tasks(other).ok_or_else(|| super::wrong_kind(request))?,
        };
        // What a recipe writes itself is meant; what programs left behind may be of the build.
        let clean = matches!(step, Step::Run(_));
        let layers: Vec<ObjectRef> = request.inputs_of("layer").collect();
        let job = Job::layer(&layers, tasks, clean);
        let layer = self
            .sandbox
            .layer(job, &Lent::default(), &scratch, request)?;
        Ok(Outputs::from([("layer".to_owned(), layer)]))
    }
}

/// The ids of a user and a group that a step names by number.
pub(super) fn owner(derivation: &Derivation) -> (Option<u64>, Option<u64>) {
    let owner = match Step::from_parts(&derivation.builder, &derivation.params) {
        Ok(Step::User(params)) => {
            let id = params.uid.map(u64::from);
            // The account's own group gets the same number where that is free.
            return (id, id);
        }
        Ok(Step::File(params)) => params.owner,
        Ok(Step::Copy(params)) => params.owner,
        Ok(Step::Add(params)) => params.owner,
        Ok(Step::Exec(params)) => params.user,
        _ => None,
    };
    let owner = owner.unwrap_or_default();
    let (user, group) = owner.split_once(':').unwrap_or((&owner, ""));
    (user.parse().ok(), group.parse().ok())
}

impl Tree {
    /// Builds a step that installs packages.
    fn packages(&self, step: &Step, request: &BuildRequest<'_>) -> Result<Outputs, Failure> {
        let layers: Vec<ObjectRef> = request.inputs_of("layer").collect();
        let limits = StepLimits::default();
        let (locked, from) = match step {
            Step::Bootstrap(params) => (params.locked, AptOf::Host(&params.suite)),
            Step::Packages(params) => (params.locked, AptOf::Tree(&layers, &params.wanted.limits)),
            Step::Bootable(params) => (params.locked, AptOf::Tree(&layers, &limits)),
            _ => return Err(super::wrong_kind(request)),
        };
        let locked = match locked {
            Some(digest) => Some(
                self.locked
                    .get(&digest)
                    .ok_or_else(|| super::wrong_kind(request))?,
            ),
            None => None,
        };
        let (store, sandbox) = (&self.store, &self.sandbox);
        let scratch = sandbox.scratch()?;
        let packages = Packages::prepare(store, sandbox, &scratch, locked, from, request)?;
        let tasks = match step {
            Step::Packages(params) => vec![Task::Packages(Install {
                wanted: params.wanted.clone(),
                choices: Vec::new(),
                locked: locked.is_some(),
            })],
            Step::Bootable(params) => vec![Task::Bootable(Bootable {
                kernel: params.kernel,
                locked: locked.is_some(),
            })],
            Step::Bootstrap(params) => bootstrap::tasks(params),
            _ => return Err(super::wrong_kind(request)),
        };
        let job = Job::layer(&layers, tasks, true);
        let layer = sandbox.layer(job, &Lent::default(), &scratch, request)?;
        let mut outputs = Outputs::from([("layer".to_owned(), layer)]);
        if let Some(installed) = packages.finish()? {
            outputs.insert(packages::OUTPUT.to_owned(), installed);
        }
        Ok(outputs)
    }
}

/// The tasks of a step that is nothing but commands and small edits, in a sandbox or in a machine;
/// `None` for other steps.
pub(super) fn plain_tasks(step: &Step) -> Option<Vec<Task>> {
    Some(match step {
        Step::Run(params) => vec![Task::Command(command(params))],
        Step::File(params) => vec![Task::Edit(vec![write(params)])],
        Step::User(params) => user::tasks(params),
        Step::Service(params) => service::tasks(params),
        Step::Env(params) => {
            let lines = params.variables.iter().map(|(name, value)| Edit::SetLine {
                path: "/etc/environment".to_owned(),
                prefix: format!("{name}="),
                line: format!("{name}=\"{value}\""),
            });
            vec![Task::Edit(lines.collect())]
        }
        Step::Workdir(params) => vec![Task::Edit(vec![Edit::Directory {
            path: params.path.clone(),
            owner: params.owner.clone(),
        }])],
        Step::Hostname(params) => vec![Task::Edit(system::hostname(&params.name))],
        _ => return None,
    })
}

/// The sandbox command of a `run` or `check` step.
pub(super) fn command(params: &Run) -> Command {
    let mut argv = params.shell.clone();
    argv.push(params.command.clone());
    Command {
        label: None,
        argv,
        env: params.env.clone(),
        workdir: params.workdir.clone(),
        network: params.network,
        binds: Vec::new(),
        limits: params.limits.clone(),
    }
}

fn write(params: &File) -> Edit {
    Edit::Write {
        path: params.path.clone(),
        content: params.content.clone(),
        mode: params.mode,
        owner: params.owner.clone(),
        time: params.time,
    }
}
