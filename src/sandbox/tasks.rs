//! The tasks of a worker, done one after the other on its tree.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::beside::Beside;
use super::bwrap::{self, HostSandbox, Sandbox};
use super::edit::Edit;
use super::keeper::end_descendants;
use super::limits::{self, Bounded};
use super::mounts::Mounts;
use super::overlay::MEMORY;
use super::packages::PackageManager;
use super::procfs;
use super::request::{Command, HostCommand, Install, Request, Task};
use super::worker::{EDIT_ARGUMENT, WORKER_ARGUMENT, WorkerError};
use super::{add, launch, layer};
use crate::derivation::SOURCE_DATE_EPOCH;
use crate::disk::DiskError;
use crate::disk::ext4::{self, Filling};
use crate::host::beneath::{SMALL, read_to_limit, regular};
use crate::host::process::End;
use crate::host::{bare_command, this_program};
use crate::image::OWN_INIT;
use crate::instruction::StepLimits;

/// What the sandbox puts into every environment; a command's own variables win.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("SYSTEMD_OFFLINE", "1"),
    ("TERM", "dumb"),
    ("USER", "root"),
];

/// The largest kernel or initrd that is taken out of a tree, in bytes.
const MOST_KERNEL: u64 = 1 << 30;

/// A tree and what to do with it.
pub(super) struct Tasks<'a> {
    pub(super) request: &'a Request,
    pub(super) tree: &'a Path,
    /// Trees that are read beside it.
    pub(super) beside: &'a [Beside],
    /// A file below `/run` for commands with network, with its content.
    pub(super) in_run: Option<&'a (PathBuf, Vec<u8>)>,
}

impl Tasks<'_> {
    pub(super) fn run_all(&self, tasks: &[Task]) -> Result<(), WorkerError> {
        tasks.iter().try_for_each(|task| match task {
            Task::Command(command) => self.command(command),
            Task::Process(process) => self.process(process),
            Task::Add(files) => add::add(files, self.request, self.tree, self.beside),
            Task::Packages(install) => self.packages(install),
            Task::Bootable(wanted) => self.bootable(wanted),
            Task::Service { config, .. } if self.open(OWN_INIT).is_ok() => self.own_service(config),
            Task::Service { usual, .. } => self.run_all(usual),
            Task::Edit(edits) => self.edit(edits),
            Task::Host(command) => self.host(command),
            Task::FileSystem { file, offset, time } => {
                self.file_system(&self.request.path(file), *offset, *time)
            }
            Task::Kernel { kernel, initrd } => self.kernel(kernel.as_deref(), initrd.as_deref()),
            Task::BootableContainer => self.bootable_container(),
            Task::Apply { archive, form } => fs::File::open(self.request.path(archive))
                .and_then(|mut archive| layer::apply(&mut archive, *form, self.tree))
                .map_err(|error| not_unpacked(form.name(), error)),
            Task::Fetch { path, to } => match self.open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                result => result
                    .and_then(|mut file| {
                        io::copy(&mut file, &mut fs::File::create(self.request.path(to))?)
                    })
                    .map(drop)
                    .map_err(WorkerError::io(format!("copy {path}"))),
            },
        })
    }

    pub(super) fn command(&self, command: &Command) -> Result<(), WorkerError> {
        let mut env: BTreeMap<String, String> = ENVIRONMENT
            .iter()
            .map(|&(name, value)| (name.into(), value.into()))
            .collect();
        env.insert("SOURCE_DATE_EPOCH".into(), SOURCE_DATE_EPOCH.to_string());
        if command.network {
            env.extend(self.request.proxies.clone());
        }
        env.extend(command.env.clone());
        let workdir = command.workdir.as_deref().unwrap_or("/");
        let mut directories: Vec<&str> =
            command.binds.iter().map(|bind| bind.to.as_str()).collect();
        directories.push(workdir);
        directories.retain(|path| self.open(path).is_err());
        if !directories.is_empty() {
            let edits = directories.iter().map(|&path| Edit::Directory {
                path: path.to_owned(),
                owner: None,
            });
            self.edit(&edits.collect::<Vec<_>>())?;
        }
        let mounts = self.mounts(command)?;
        let isolation = self.request.confinement.isolation;
        let invocation = bwrap::invocation(&Sandbox {
            tree: self.tree,
            isolation,
            env: &env,
            workdir,
            network: command.network,
            covers: &procfs::of_this_process()?,
            scripts: None,
            identity: None,
            argv: &command.argv,
        });
        let child = launch::start(&invocation, isolation.processes)?;
        let ended = self.wait(child, &command.limits);
        drop(mounts);
        let last = || command.argv.last().cloned().unwrap_or_default();
        ended?.map_err(|how| WorkerError::Failed {
            command: command.label.clone().unwrap_or_else(last),
            how,
        })
    }

    /// Waits for the sandbox and all in it. The inner error says how the command failed.
    pub(super) fn wait(
        &self,
        mut child: std::process::Child,
        limits: &StepLimits,
    ) -> Result<Result<(), String>, WorkerError> {
        let request = self.request;
        let scratch = &request.scratch;
        let bounded = request.most.as_ref().map(|most| Bounded {
            most,
            // Changes may be in a file system of their own.
            places: [scratch.clone(), scratch.join(MEMORY)]
                .into_iter()
                .chain(request.caches.values().cloned())
                .collect(),
        });
        let ended = limits::wait(&mut child, limits, bounded.as_ref())
            .map_err(WorkerError::io("wait for the sandbox"))?;
        // Bubblewrap may end a moment before the processes inside, and a limit ends only the first
        // of them.
        end_descendants();
        Ok(match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(End::Exited(status).describe()),
            Err(how) => Err(how),
        })
    }

    /// What the command sees and no layer gets: directories that it may write to, and the
    /// resolver's file where that is in `/run`. (Where it is not, see `borrowed`.)
    fn mounts(&self, command: &Command) -> Result<Mounts, WorkerError> {
        let mut mounts = Mounts::new(self.tree)?;
        for bind in &command.binds {
            mounts.directory(&self.request.path(&bind.from), &bind.to)?;
        }
        if command.network
            && let Some((path, text)) = self.in_run
        {
            mounts
                .run_file(path, text)
                .map_err(WorkerError::io("write the resolver's file"))?;
        }
        Ok(mounts)
    }

    fn host(&self, command: &HostCommand) -> Result<(), WorkerError> {
        // The root directory of the tree is new: without this it would carry the time.
        let epoch = std::time::UNIX_EPOCH
            + std::time::Duration::from_secs(SOURCE_DATE_EPOCH.cast_unsigned());
        fs::File::open(self.tree)
            .and_then(|tree| tree.set_modified(epoch))
            .map_err(WorkerError::io("set the time of the tree"))?;
        let tree = self.tree.to_string_lossy();
        let job = self.request.scratch.to_string_lossy();
        let placed = |argument: &String| argument.replace("{tree}", &tree).replace("{job}", &job);
        let argv: Vec<String> = command.argv.iter().map(placed).collect();
        let mut env = command.env.clone();
        env.insert("VMFAB_JOB".into(), job.into_owned());
        env.insert(
            "PATH".into(),
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
        );
        if command.network {
            env.extend(self.request.proxies.clone());
        }
        let isolation = self.request.confinement.isolation;
        let invocation = bwrap::host_invocation(&HostSandbox {
            vmfab: &this_program().map_err(|gone| WorkerError::Helped {
                message: gone.message().to_owned(),
                help: gone.help().concat(),
            })?,
            isolation,
            writable: &self.request.scratch,
            env: &env,
            network: command.network,
            covers: &procfs::of_this_process()?,
            argv: &argv,
        });
        let child = launch::start(&invocation, isolation.processes)?;
        // Programs that vmfab chose have no limits of their own.
        let limits = StepLimits {
            seconds: Some(u64::MAX),
            memory: None,
            processes: Some(u64::MAX),
        };
        self.wait(child, &limits)?
            .map_err(|how| WorkerError::Failed {
                command: argv.join(" "),
                how,
            })
    }

    fn file_system(&self, path: &Path, offset: u64, time: u32) -> Result<(), WorkerError> {
        let file = fs::File::options().read(true).write(true).open(path);
        let file = file.map_err(WorkerError::io(format!("open {}", path.display())))?;
        let filling = Filling {
            time,
            keep: &layer::is_kept,
            // What a worker says is shown while it works.
            progress: &|files| drop(writeln!(io::stdout(), "{files} files")),
        };
        ext4::fill(&file, offset, self.tree, &filling).map_err(|error| {
            let Some(help) = error.help() else {
                return WorkerError::Plain(error.to_string());
            };
            let size = file.metadata().map_or(0, |meta| meta.len() >> 20);
            WorkerError::Unsatisfiable {
                message: match error {
                    DiskError::Full => {
                        format!("the files of the image do not fit on a disk of {size} MiB")
                    }
                    error => format!("the image cannot become a disk: {error}"),
                },
                help: help.to_owned(),
            }
        })
    }

    /// Edits the tree in a process of its own, whose root directory the tree becomes.
    pub(super) fn edit(&self, edits: &[Edit]) -> Result<(), WorkerError> {
        let input = serde_json::to_vec(&(&self.request.scratch, self.tree, edits))
            .map_err(|error| WorkerError::Plain(error.to_string()))?;
        let mut child = bare_command("/proc/self/exe")
            .args([WORKER_ARGUMENT, EDIT_ARGUMENT])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(WorkerError::io("start a worker"))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(&input)
                .map_err(WorkerError::io("instruct a worker"))?;
        }
        let output = child
            .wait_with_output()
            .map_err(WorkerError::io("wait for a worker"))?;
        // For the log.
        let _ = io::stderr().write_all(&output.stderr);
        if output.status.success() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(&output.stderr);
        Err(WorkerError::Plain(match message.trim() {
            "" => format!("editing the tree {}", End::Exited(output.status).describe()),
            message => message.to_owned(),
        }))
    }

    /// The file that names the system of the tree; empty when there is none.
    pub(super) fn os_release(&self) -> String {
        let text = ["/etc/os-release", "/usr/lib/os-release"]
            .iter()
            .find_map(|path| read_to_limit(self.file(path).ok()?, SMALL).ok());
        String::from_utf8_lossy(&text.unwrap_or_default()).into_owned()
    }

    pub(super) fn packages(&self, install: &Install) -> Result<(), WorkerError> {
        let text = self.os_release();
        let manager = package_manager(&text)?;
        let directory = self.request.scratch.join("packages");
        let install = install.on(&text);
        if install.wanted.names.is_empty() && install.choices.is_empty() {
            // Nothing is wanted on this system: that much is known of what was installed.
            let targets = directory.join("archives/targets");
            return fs::create_dir_all(directory.join("archives"))
                .and_then(|()| fs::write(&targets, ""))
                .map_err(WorkerError::io(format!("write {}", targets.display())));
        }
        let command = manager.install(&install);
        for bind in &command.binds {
            let from = self.request.path(&bind.from);
            fs::create_dir_all(&from)
                .map_err(WorkerError::io(format!("create {}", from.display())))?;
        }
        self.command(&command)
    }

    pub(super) fn names_in_boot(&self) -> Vec<String> {
        self.names_in("/boot")
    }

    pub(super) fn kernel(
        &self,
        kernel: Option<&str>,
        initrd: Option<&str>,
    ) -> Result<(), WorkerError> {
        let names = self.names_in_boot();
        let kernel = match kernel {
            Some(path) => path.to_owned(),
            None => newest_kernel(&names)
                .map(|name| format!("/boot/{name}"))
                .ok_or_else(|| self.no_kernel())?,
        };
        let copy = |path: &str, name: &str| {
            let copy = |file: fs::File| {
                let length = file.metadata()?.len();
                if length > MOST_KERNEL {
                    let message = format!("it has more than {MOST_KERNEL} bytes");
                    return Err(io::Error::other(message));
                }
                io::copy(
                    &mut file.take(length),
                    &mut fs::File::create(self.request.scratch.join(name))?,
                )
            };
            self.file(path)
                .and_then(copy)
                .map_err(|error| WorkerError::Unsatisfiable {
                    message: format!("cannot read the image's {name} {path}: {error}"),
                    help: format!("name an existing file in the `kernel` node, or none to use the newest {name}"),
                })
        };
        copy(&kernel, "kernel")?;
        let found = initrd.map(str::to_owned).or_else(|| {
            let file = Path::new(&kernel)
                .file_name()?
                .to_string_lossy()
                .into_owned();
            initrd_of(&file, &names).map(|name| format!("/boot/{name}"))
        });
        found.map_or(Ok(()), |path| copy(&path, "initrd").map(drop))
    }

    /// What is to be added to a tree without a kernel: to one of a container image an init, too.
    fn no_kernel(&self) -> WorkerError {
        let has_init = [
            "/sbin/init",
            "/usr/lib/systemd/systemd",
            "/lib/systemd/systemd",
        ]
        .iter()
        .any(|path| self.open(path).is_ok());
        let (message, debian, ubuntu) = match has_init {
            true => (
                "the image has no kernel in /boot",
                r#""linux-image-cloud-amd64""#,
                r#""linux-image-virtual""#,
            ),
            false => (
                "the image has neither a kernel in /boot nor an init system: it can only run in a container",
                r#""linux-image-cloud-amd64" "systemd-sysv" "openssh-server""#,
                r#""linux-image-virtual" "systemd-sysv" "openssh-server""#,
            ),
        };
        WorkerError::Unsatisfiable {
            message: message.to_owned(),
            help: format!(
                "install what is missing, such as `packages {debian}` on Debian or `packages {ubuntu}` on Ubuntu"
            ),
        }
    }

    /// A regular file of the tree; links are followed inside the tree only.
    fn file(&self, path: &str) -> io::Result<fs::File> {
        regular(self.open(path)?.into())
    }

    /// Opens what is at a path of the tree, without waiting for it; links are followed inside the
    /// tree only.
    pub(super) fn open(&self, path: &str) -> io::Result<fs::File> {
        let tree = fs::File::open(self.tree)?;
        let relative = path.trim_start_matches('/');
        let relative = if relative.is_empty() { "." } else { relative };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(openat2(&tree, relative, flags, Mode::empty(), ResolveFlags::IN_ROOT)?.into())
    }
}

/// Why an archive could not be unpacked.
pub(super) fn not_unpacked(what: &str, error: io::Error) -> WorkerError {
    match error.kind() {
        // The host's trouble, not the archive's.
        io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::PermissionDenied => WorkerError::io(format!("unpack the {what}"))(error),
        io::ErrorKind::Unsupported => WorkerError::Unsatisfiable {
            message: format!("cannot unpack the {what}: {error}"),
            help: "build as root of the host, or get more ids: /etc/subuid and /etc/subgid say which ones \
                   a user has"
                .to_owned(),
        },
        _ => WorkerError::Unsatisfiable {
            message: format!("cannot unpack the {what}: {error}"),
            help: format!(
                "see whether it is whole where it comes from, and whether it is the {what} of a root \
                 file system"
            ),
        },
    }
}

fn package_manager(os_release: &str) -> Result<PackageManager, WorkerError> {
    PackageManager::from_os_release(os_release).ok_or_else(|| WorkerError::Unsatisfiable {
        message: "the image's /etc/os-release names no system with a known package manager"
            .to_owned(),
        help: "vmfab knows Debian, Ubuntu, Alpine, Fedora, CentOS and similar systems; elsewhere install with a `run` step"
            .to_owned(),
    })
}

/// The newest of the kernels among the names in /boot, by version.
pub(super) fn newest_kernel(names: &[String]) -> Option<&str> {
    let kernels = names.iter().filter(|name| {
        let known = ["vmlinuz", "vmlinux", "Image"].iter().any(|prefix| {
            name.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        });
        known && !name.ends_with(".old")
    });
    kernels
        .max_by_key(|name| version_key(name))
        .map(String::as_str)
}

/// The initrd that belongs to a kernel: Debian's, Fedora's or Alpine's name for it.
fn initrd_of<'a>(kernel: &str, names: &'a [String]) -> Option<&'a str> {
    let version = kernel.split_once('-').map_or("", |(_, version)| version);
    let candidates = if version.is_empty() {
        vec![
            "initrd.img".to_owned(),
            "initrd".to_owned(),
            "initramfs".to_owned(),
        ]
    } else {
        vec![
            format!("initrd.img-{version}"),
            format!("initramfs-{version}.img"),
            format!("initramfs-{version}"),
            format!("initrd-{version}"),
        ]
    };
    candidates
        .iter()
        .find_map(|wanted| names.iter().find(|name| *name == wanted))
        .map(String::as_str)
}

/// Numbers in names compare as numbers: 6.10 is newer than 6.9.
fn version_key(name: &str) -> Vec<(u64, String)> {
    name.split(['.', '-', '_', '+'])
        .map(|part| {
            let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            (
                part[..digits].parse().unwrap_or(0),
                part[digits..].to_owned(),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_newest_kernel_is_found_with_its_initrd() {
        let debian = names(&[
            "System.map-6.1.0-9-cloud-amd64",
            "vmlinuz-6.1.0-9-cloud-amd64",
            "initrd.img-6.1.0-9-cloud-amd64",
            "vmlinuz-6.1.0-56-cloud-amd64",
            "initrd.img-6.1.0-56-cloud-amd64",
            "vmlinuz-6.1.0-99-cloud-amd64.old",
        ]);
        let kernel = newest_kernel(&debian).unwrap();
        assert_eq!(kernel, "vmlinuz-6.1.0-56-cloud-amd64");
        assert_eq!(
            initrd_of(kernel, &debian),
            Some("initrd.img-6.1.0-56-cloud-amd64")
        );
        let alpine = names(&["vmlinuz-virt", "initramfs-virt"]);
        assert_eq!(
            initrd_of(newest_kernel(&alpine).unwrap(), &alpine),
            Some("initramfs-virt")
        );
        assert_eq!(newest_kernel(&names(&["grub", "config-6.1"])), None);
        assert_eq!(initrd_of("vmlinuz-1", &names(&["initrd.img-2"])), None);
    }
}
