//! A process as container engines run it.

use std::collections::BTreeMap;

use super::agent::Forwarded;
use super::beside::Trees;
use super::sources::Sources;
use crate::derivation::{BuildRequest, Builder, Outputs, Step};
use crate::digest::ObjectRef;
use crate::failure::Failure;
use crate::host::{Secret, Secrets};
use crate::instruction::{self, Mount, SecretMount, Sharing, SshMount};
use crate::sandbox::{
    CacheMounts, HeldCache, Job, Lent, Process, Runner, Sandbox, Scratch, Shown, Task, What,
};

pub(super) struct Exec {
    pub(super) sandbox: Sandbox,
    pub(super) sources: Sources,
    pub(super) caches: CacheMounts,
    pub(super) secrets: Secrets,
}

impl Builder for Exec {
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, Failure> {
        let Step::Exec(params) = super::step(request)? else {
            return Err(super::wrong_kind(request));
        };
        let scratch = self.sandbox.scratch()?;
        let mut work = Work {
            exec: self,
            scratch: &scratch,
            caches: self.caches(&params, request)?,
            trees: Trees::new(request, &self.sources, &scratch),
            secrets: Vec::new(),
            agents: Vec::new(),
            process: Process {
                label: label(&params.argv),
                argv: params.argv,
                script: params.script,
                env: params.env,
                user: params.user.unwrap_or_default(),
                workdir: params.workdir.unwrap_or_else(|| "/".to_owned()),
                network: params.network,
                shown: Vec::new(),
                limits: params.limits,
            },
        };
        for mount in &params.mounts {
            work.mount(mount)?;
        }
        let layers: Vec<ObjectRef> = request.inputs_of("layer").collect();
        let directory = |(id, held): (&String, &HeldCache)| (id.clone(), held.directory.clone());
        let lent = Lent {
            secrets: work.secrets,
            caches: work.caches.iter().map(directory).collect(),
            local: work.trees.local,
        };
        let job = Job {
            beside: work.trees.list,
            ..Job::layer(&layers, vec![Task::Process(work.process)], false)
        };
        // As in docker's layers: what the process left behind, the next one finds.
        let layer = self.sandbox.layer(job, &lent, &scratch, request)?;
        drop((work.caches, work.agents));
        Ok(Outputs::from([("layer".to_owned(), layer)]))
    }
}

impl Exec {
    /// The caches of a step, by id. They are held in the order of their ids: no two steps wait for
    /// each other. One that is mounted twice is shared as its strictest mount says.
    fn caches(
        &self,
        params: &instruction::Exec,
        request: &BuildRequest<'_>,
    ) -> Result<BTreeMap<String, HeldCache>, Failure> {
        let mut wanted: BTreeMap<&str, Sharing> = BTreeMap::new();
        for mount in &params.mounts {
            if let Mount::Cache(cache) = mount {
                let sharing = wanted.entry(&cache.id).or_insert(cache.sharing);
                if *sharing == Sharing::Shared || cache.sharing == Sharing::Locked {
                    *sharing = cache.sharing;
                }
            }
        }
        let mut held = BTreeMap::new();
        for (id, sharing) in wanted {
            let cache = self
                .caches
                .hold(id, sharing, request.interrupt)
                .map_err(Failure::of_step)?;
            held.insert(id.to_owned(), cache.ok_or(Failure::interrupted())?);
        }
        Ok(held)
    }
}

/// A step while what its process sees is put together.
struct Work<'a> {
    exec: &'a Exec,
    scratch: &'a Scratch,
    caches: BTreeMap<String, HeldCache>,
    trees: Trees<'a>,
    secrets: Vec<Secret>,
    agents: Vec<Forwarded>,
    process: Process,
}

impl Work<'_> {
    fn mount(&mut self, mount: &Mount) -> Result<(), Failure> {
        match mount {
            Mount::Bind {
                from,
                source,
                target,
                writable,
            } => {
                let tree = match writable {
                    true => self.trees.own(from)?,
                    false => self.trees.shared(from)?,
                };
                let what = What::Tree {
                    tree,
                    source: source.clone(),
                    writable: *writable,
                };
                self.show(target, what);
            }
            Mount::Cache(cache) => {
                let from = match &cache.from {
                    Some((origin, source)) => Some((self.trees.shared(origin)?, source.clone())),
                    None => None,
                };
                let what = What::Cache {
                    id: cache.id.clone(),
                    writable: cache.writable,
                    from,
                    mode: cache.mode,
                    owner: cache.owner,
                };
                self.show(&cache.target, what);
            }
            Mount::Tmpfs { target, size } => self.show(target, What::Memory { size: *size }),
            Mount::Secret(secret) => return self.secret(secret),
            Mount::Ssh(ssh) => return self.agent(ssh),
        }
        Ok(())
    }

    fn show(&mut self, target: &str, what: What) {
        self.process.shown.push(Shown {
            target: target.to_owned(),
            what,
        });
    }

    fn secret(&mut self, mount: &SecretMount) -> Result<(), Failure> {
        let id = &mount.id;
        let Some(source) = self.exec.secrets.secrets.get(id) else {
            return match mount.required {
                true => Err(
                    Failure::failed(format!("the step needs the secret \"{id}\""))
                        .with_help(format!("give it with the build: --secret id={id},src=FILE")),
                ),
                false => Ok(()),
            };
        };
        let content = source.read().map_err(|error| {
            Failure::failed(format!(
                "cannot read the secret \"{id}\" from {source}: {error}"
            ))
            .with_help("check the option --secret")
        })?;
        if let Some(name) = &mount.env {
            let value = String::from_utf8(content.bytes().to_vec());
            let value = value
                .ok()
                .filter(|value| !value.contains('\0'))
                .ok_or_else(|| {
                    Failure::failed(format!(
                        "the secret \"{id}\" is no text, so no variable can hold it"
                    ))
                    .with_help("mount it as a file")
                })?;
            self.process.env.insert(name.clone(), value);
        }
        let target = mount.target.clone();
        let target = target.or_else(|| mount.env.is_none().then(|| format!("/run/secrets/{id}")));
        if let Some(target) = target {
            let what = What::Secret {
                content: content.clone(),
                mode: mount.mode,
                owner: mount.owner,
            };
            self.show(&target, what);
        }
        self.secrets.push(content);
        Ok(())
    }

    fn agent(&mut self, mount: &SshMount) -> Result<(), Failure> {
        let id = &mount.id;
        let Some(agent) = self.exec.secrets.agents.get(id) else {
            return match mount.required {
                true => Err(
                    Failure::failed(format!("the step needs the SSH agent \"{id}\""))
                        .with_help("give it with the build: --ssh-agent"),
                ),
                false => Ok(()),
            };
        };
        let name = format!("agent-{}", self.agents.len());
        let forwarded = Forwarded::new(agent, &self.scratch.path().join(&name))
            .map_err(Failure::step_io("forward the SSH agent", agent))?;
        let env = &mut self.process.env;
        env.entry("SSH_AUTH_SOCK".to_owned())
            .or_insert_with(|| mount.target.clone());
        let what = What::Socket {
            path: name.into(),
            mode: mount.mode,
            owner: mount.owner,
        };
        self.show(&mount.target, what);
        self.agents.push(forwarded);
        Ok(())
    }
}

/// What a process is called when it fails: the script of a shell, or program and arguments.
fn label(argv: &[String]) -> String {
    match argv {
        [_, option, script] if option.starts_with('-') && option.ends_with('c') => script.clone(),
        argv => argv.join(" "),
    }
}
