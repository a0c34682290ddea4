//! A process as container engines run it: with the environment, user and mounts of an image.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::accounts;
use super::bwrap::{self, Sandbox};
use super::mounts::bare_places;
use super::request::Process;
use super::root::Root;
use super::shown::Mounted;
use super::tasks::Tasks;
use super::worker::WorkerError;
use super::{launch, procfs};
use crate::instruction::{Ids, Network, SCRIPTS, StepLimits};

/// Where programs are if the image does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Tasks<'_> {
    pub(super) fn process(&self, process: &Process) -> Result<(), WorkerError> {
        bare_places(self.tree)?;
        let root = Root::new(self.tree).map_err(WorkerError::io("open the tree"))?;
        let account = root
            .text("/etc/passwd")
            .and_then(|passwd| Ok((passwd, root.text("/etc/group")?)))
            .map_err(WorkerError::io("read the users of the image"))
            .and_then(|(passwd, group)| {
                accounts::account(&process.user, &passwd, &group).map_err(|message| {
                    WorkerError::Unsatisfiable {
                        message,
                        help: "name one that exists at this step, or give the numeric id"
                            .to_owned(),
                    }
                })
            })?;
        let mut env = process.env.clone();
        env.entry("PATH".to_owned())
            .or_insert_with(|| PATH.to_owned());
        let home = env.entry("HOME".to_owned()).or_default();
        if home.is_empty() {
            home.clone_from(&account.home);
        }
        let network = process.network != Network::None;
        if network {
            for (name, value) in &self.request.proxies {
                env.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        let workdir = Path::new(&process.workdir);
        root.make_directory(workdir, &mut |path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        })
        .map_err(WorkerError::io(format!("make {}", process.workdir)))?;

        let mut mounted = Mounted::new(&root, &self.request.scratch.join("private"))?;
        if network && let Some((path, content)) = self.in_run {
            mounted
                .file(path, content, 0o644, Ids::default())
                .map_err(WorkerError::io("show the resolver's file"))?;
        }
        for shown in &process.shown {
            mounted.show(shown, self.request, self.beside)?;
        }
        let scripts = process
            .script
            .as_ref()
            .map(|script| mounted.script(&script.name, &script.content))
            .transpose()
            .map_err(WorkerError::io("show a script to the step"))?;
        let mut argv = vec![program(&root, process, &env["PATH"])?];
        argv.extend(process.argv.iter().cloned());
        let isolation = self.request.confinement.isolation;
        let invocation = bwrap::invocation(&Sandbox {
            tree: self.tree,
            isolation,
            env: &env,
            workdir: &process.workdir,
            network,
            covers: &procfs::of_this_process()?,
            scripts: scripts.as_deref().map(|directory| (directory, SCRIPTS)),
            identity: Some(&account.identity),
            argv: &argv,
        });
        let child = launch::start(&invocation, isolation.processes)?;
        // Unlike steps of recipes, those of Dockerfiles take as long as they take.
        let limits = StepLimits {
            seconds: process.limits.seconds.or(Some(u64::MAX)),
            ..process.limits.clone()
        };
        let ended = self.wait(child, &limits);
        mounted.remove();
        ended?.map_err(|how| WorkerError::Failed {
            command: process.label.clone(),
            how,
        })
    }
}

/// The path of the program that is executed, which is looked up as execvp(3) does.
fn program(root: &Root, process: &Process, path: &str) -> Result<String, WorkerError> {
    let failed = |how: String| WorkerError::Failed {
        command: process.label.clone(),
        how,
    };
    let Some(name) = process.argv.first().filter(|name| !name.is_empty()) else {
        return Err(failed("names no program".to_owned()));
    };
    let workdir = Path::new(&process.workdir);
    if name.contains('/') {
        let path = workdir.join(name);
        // These are bubblewrap's.
        let is_elsewhere = path.starts_with("/dev") || path.starts_with("/proc");
        if !is_elsewhere && let Err(error) = executable(root, &path) {
            return Err(failed(format!("cannot start: {name}: {error}")));
        }
        return Ok(name.clone());
    }
    let mut places = path
        .split(':')
        .map(|directory| workdir.join(directory).join(name));
    let found: Option<PathBuf> = places.find(|place| executable(root, place).is_ok());
    found
        .map(|path| path.to_string_lossy().into_owned())
        .ok_or_else(|| failed(format!("cannot start: {name} is in no directory of PATH")))
}

fn executable(root: &Root, path: &Path) -> io::Result<()> {
    let file = fs::File::from(root.open(path, OFlags::PATH)?);
    let meta = file.metadata()?;
    match meta.is_file() && meta.permissions().mode() & 0o111 != 0 {
        true => Ok(()),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    }
}
