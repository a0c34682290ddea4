//! Steps that give a layer. Each kind is a pure function from its parameters to sandbox tasks.

mod bootstrap;
mod service;
mod system;
mod user;

use std::path::PathBuf;

use crate::derivation::step::{File, Run, Step};
use crate::derivation::{BuildError, BuildRequest, Builder, Outputs};
use crate::digest::ObjectRef;
use crate::host::process::pause;
use crate::sandbox::{Command, Edit, Sandbox, Task};
use crate::store::{Lock, Store};

/// Builds all kinds of steps whose output is a layer.
pub(super) struct Tree {
    pub(super) sandbox: Sandbox,
    pub(super) store: Store,
    pub(super) package_cache: PathBuf,
}

impl Builder for Tree {
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, BuildError> {
        let step = super::step(request)?;
        let mut held = None;
        let tasks = match &step {
            Step::Bootstrap(params) => bootstrap::tasks(params),
            Step::Packages(params) => {
                let (slot, lock) = self.package_slot(request)?;
                held = Some(lock);
                vec![Task::Packages {
                    names: params.names.clone(),
                    recommends: params.recommends,
                    cache: slot,
                    limits: params.limits.clone(),
                }]
            }
            Step::Run(params) => vec![Task::Command(command(params))],
            Step::File(params) => vec![Task::Edit(vec![write(params)])],
            Step::Copy(params) => {
                let source = request.inputs_of("source").next();
                let source = source.ok_or_else(|| super::wrong_kind(request))?;
                vec![Task::Edit(vec![Edit::Extract {
                    archive: self
                        .store
                        .materialise(&source.id)
                        .map_err(BuildError::other)?,
                    destination: params.destination.clone(),
                    mode: params.mode,
                    owner: params.owner.clone(),
                }])]
            }
            Step::User(params) => user::tasks(params),
            Step::Service(params) => service::tasks(params),
            Step::Env(params) => vec![Task::Edit(
                params
                    .variables
                    .iter()
                    .map(|(name, value)| Edit::SetLine {
                        path: "/etc/environment".to_owned(),
                        prefix: format!("{name}="),
                        line: format!("{name}=\"{value}\""),
                    })
                    .collect(),
            )],
            Step::Hostname(params) => vec![Task::Edit(system::hostname(&params.name))],
            Step::System(params) => vec![Task::Edit(system::edits(params))],
            _ => return Err(super::wrong_kind(request)),
        };
        // What a recipe writes itself is meant; what programs left behind may be of the build.
        let clean = matches!(step, Step::Bootstrap(_) | Step::Packages(_) | Step::Run(_));
        let layers: Vec<ObjectRef> = request.inputs_of("layer").collect();
        let layer = self.sandbox.layer(&layers, tasks, clean, request)?;
        drop(held);
        Ok(Outputs::from([("layer".to_owned(), layer)]))
    }
}

impl Tree {
    /// A directory for package lists and downloads that no other step uses meanwhile: package
    /// managers lock theirs.
    fn package_slot(&self, request: &BuildRequest<'_>) -> Result<(PathBuf, Lock), BuildError> {
        loop {
            for slot in 0..16 {
                let name = format!("packages-{slot}");
                if let Some(lock) = self.store.try_lock(&name).map_err(BuildError::other)? {
                    return Ok((self.package_cache.join(slot.to_string()), lock));
                }
            }
            if !pause(request.interrupt) {
                return Err(BuildError::Interrupted);
            }
        }
    }
}

/// The sandbox command of a `run` or `check` step.
pub(super) fn command(params: &Run) -> Command {
    let mut argv = params.shell.clone();
    argv.push(params.command.clone());
    Command {
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
    }
}
