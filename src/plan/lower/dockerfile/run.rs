//! `RUN`: a process in the tree of its stage.

use super::config::inside;
use super::{Build, Origin, Stage};
use crate::derivation::Input;
use crate::derivation::step::{self, Step};
use crate::dockerfile::{self, Instruction, MountKind, Owner, Script};
use crate::instruction::{
    Add, CacheMount, Exec, Ids, Mount, Network, Origin as Role, SCRIPTS, ScriptFile, SecretMount,
    Sharing, SourcePath, SshMount,
};
use crate::plan::PlanError;
use crate::plan::lower::Lowering;
use crate::recipe::{Problem, Spanned};

impl Build<'_> {
    pub(super) fn run(
        &mut self,
        lowering: &mut Lowering<'_>,
        stage: &mut Stage,
        index: usize,
        instruction: &Instruction,
        run: &dockerfile::Run,
    ) -> Result<(), PlanError> {
        let machine = stage.platform.machine();
        if !lowering.world.runs(machine) {
            let platform = &stage.platform;
            let message = format!("this host runs no programs for {platform}");
            let problem = Problem::new(&instruction.keyword.span, message, "needs to run one");
            let help = "install an interpreter for them, such as the packages qemu-user-static and \
                        binfmt-support, or use --platform=$BUILDPLATFORM in FROM";
            return Err(problem.with_help(help).into());
        }
        let (argv, script) = match run.script() {
            Script::Shell(script) => {
                let mut argv = stage.config().shell();
                argv.push(script);
                (argv, None)
            }
            Script::Exec(argv) => (argv, None),
            Script::File { name, content } => {
                let argv = vec![format!("{SCRIPTS}/{name}")];
                (argv, Some(ScriptFile { name, content }))
            }
        };
        let mut inputs = Vec::new();
        let mut mounts = Vec::new();
        for mount in &run.mounts {
            let mount = self.mount(lowering, stage, index, mount, mounts.len(), &mut inputs)?;
            mounts.push(mount);
        }
        let step = Step::Exec(Exec {
            argv,
            script,
            env: stage.variables.all().clone(),
            user: stage.config().user.clone(),
            workdir: Some(stage.workdir().to_owned()).filter(|path| path != "/"),
            network: match run.network {
                dockerfile::Network::Default => Network::Default,
                dockerfile::Network::None => Network::None,
                dockerfile::Network::Host => Network::Host,
            },
            mounts,
            limits: step::StepLimits::default(),
        });
        let name = self.name(index, &instruction.text);
        lowering.layer(stage.tree(), name, &step, inputs)
    }

    /// One of the mounts of a process. What it reads goes to `inputs`.
    fn mount(
        &mut self,
        lowering: &mut Lowering<'_>,
        stage: &Stage,
        index: usize,
        mount: &dockerfile::Mount,
        number: usize,
        inputs: &mut Vec<Input>,
    ) -> Result<Mount, PlanError> {
        let kind = mount.resolve(&|word| stage.variables.expand(&self.arguments, word))?;
        let target = |path: &str| inside(stage.workdir(), path);
        let ids = |owner: Owner| Ids {
            uid: owner.uid,
            gid: owner.gid,
        };
        let role = format!("mount-{number}");
        Ok(match kind {
            MountKind::Bind(bind) => {
                let from = mount.from().zip(bind.from);
                let from = from.map(|(word, from)| Spanned::new(from, word.span.clone()));
                let source = inside("/", &bind.source);
                let path = Spanned::new(source.clone(), mount.span.clone());
                let from = self.mounted(lowering, index, from, path, role, inputs)?;
                Mount::Bind {
                    from,
                    source,
                    target: target(&bind.target),
                    writable: bind.writable,
                }
            }
            MountKind::Cache(cache) => {
                let from = match mount.from().zip(cache.from) {
                    Some((word, from)) => {
                        let name = Some(Spanned::new(from, word.span.clone()));
                        let source = inside("/", &cache.source);
                        let path = Spanned::new(source.clone(), mount.span.clone());
                        let from = self.mounted(lowering, index, name, path, role, inputs)?;
                        Some((from, source))
                    }
                    None => None,
                };
                Mount::Cache(CacheMount {
                    id: cache.id,
                    target: target(&cache.target),
                    sharing: match cache.sharing {
                        dockerfile::Sharing::Shared => Sharing::Shared,
                        dockerfile::Sharing::Private => Sharing::Private,
                        dockerfile::Sharing::Locked => Sharing::Locked,
                    },
                    writable: cache.writable,
                    from,
                    mode: cache.mode,
                    owner: ids(cache.owner),
                })
            }
            MountKind::Tmpfs(tmpfs) => Mount::Tmpfs {
                target: target(&tmpfs.target),
                size: tmpfs.size,
            },
            MountKind::Secret(secret) => Mount::Secret(SecretMount {
                target: secret.target.as_deref().map(target),
                id: secret.id,
                env: secret.env,
                required: secret.required,
                mode: secret.mode,
                owner: ids(secret.owner),
            }),
            MountKind::Ssh(ssh) => Mount::Ssh(SshMount {
                target: match &ssh.target {
                    Some(path) => target(path),
                    None => format!("/run/buildkit/ssh_agent.{number}"),
                },
                id: ssh.id,
                required: ssh.required,
                mode: ssh.mode,
                owner: ids(ssh.owner),
            }),
        })
    }

    /// Where a mount finds what is at `path`: in the context, or in what `from` names. A step of its
    /// own reads it from a tree, so that the process does not depend on the rest of that.
    fn mounted(
        &mut self,
        lowering: &mut Lowering<'_>,
        index: usize,
        from: Option<Spanned<String>>,
        path: Spanned<String>,
        role: String,
        inputs: &mut Vec<Input>,
    ) -> Result<Role, PlanError> {
        let origin = match &from {
            Some(name) => self.origin(lowering, name, index)?,
            None => Origin::Directory(self.asked.context.clone()),
        };
        Ok(match origin {
            Origin::Tree(tree) => {
                let part = match path.value.as_str() {
                    "/" => tree,
                    source => {
                        let from = from.as_ref().map_or("", |from| &from.value);
                        let name = self.name(index, &format!("read {source} of {from}"));
                        let whole = Add {
                            whole: true,
                            ..Add::default()
                        };
                        lowering.subtree(name, &tree, &SourcePath::literal(source), whole)?
                    }
                };
                inputs.extend(part.inputs_as(&role));
                Role::Layers(role)
            }
            Origin::Directory(directory) => {
                inputs.push(self.local(lowering, &directory, &[path], &role)?);
                Role::Files(role)
            }
        })
    }
}
