//! Directories of the host that a guest mounts: virtiofsd serves each, or QEMU itself does by 9p.
//!
//! virtiofsd (the one in Rust) runs without root, in namespaces of its own, and ends when QEMU does.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::Machine;
use super::config::MachineConfig;
use super::console::last_lines;
use super::directory::files;
use super::error::{MachineError, io_error};
use super::launch::utf8;
use crate::host::{bare_command, find_program};
use crate::image::Mounted;
use crate::qemu::{Share, ShareServer};

/// How long virtiofsd may take until it listens.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where distributions put it besides the directories of programs. `/usr/lib/qemu` has an old one
/// in C, which needs root.
const PLACES: [&str; 3] = [
    "/usr/libexec/virtiofsd",
    "/usr/lib/virtiofsd",
    "/usr/lib/virtiofsd/virtiofsd",
];

/// A directory that a machine shares.
pub(super) struct Shared<'a> {
    number: usize,
    path: &'a Path,
    read_only: bool,
}

impl Shared<'_> {
    /// What the guest calls it.
    pub(super) fn tag(number: usize) -> String {
        format!("share-{number}")
    }
}

/// The directories that a machine shares.
pub(super) fn of(config: &MachineConfig) -> Vec<Shared<'_>> {
    let shared = config.mounts.iter().filter_map(|mount| match &mount.what {
        Mounted::Share(path) => Some((path, mount.read_only)),
        Mounted::Volume(_) => None,
    });
    let numbered = shared.enumerate();
    numbered
        .map(|(number, (path, read_only))| Shared {
            number,
            path,
            read_only,
        })
        .collect()
}

/// The program, when it is installed.
pub(super) fn virtiofsd() -> Option<PathBuf> {
    let is_program = |path: &PathBuf| path.is_file();
    find_program("virtiofsd").or_else(|| PLACES.map(PathBuf::from).into_iter().find(is_program))
}

/// What QEMU is told of a directory.
pub(super) fn device(shared: &Shared<'_>, virtiofs: bool) -> Result<Share, MachineError> {
    if !shared.path.is_dir() {
        return Err(MachineError::ShareGone(shared.path.to_owned()));
    }
    Ok(Share {
        tag: Shared::tag(shared.number),
        server: match virtiofs {
            true => ShareServer::Virtiofs {
                socket: files::share_socket(shared.number),
            },
            false => ShareServer::NineP {
                path: utf8(shared.path.to_owned())?,
                read_only: shared.read_only,
            },
        },
    })
}

/// Starts virtiofsd and waits until it listens.
pub(super) fn serve(
    machine: &Machine,
    shared: &Shared<'_>,
    program: &Path,
) -> Result<Child, MachineError> {
    let socket = files::share_socket(shared.number);
    let at = machine.directory.join(&socket);
    match fs::remove_file(&at) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(io_error("remove", &at)(error));
        }
        _ => {}
    }
    let log_path = machine.directory.join(files::share_log(shared.number));
    let log = File::create(&log_path).map_err(io_error("create", &log_path))?;
    let mut command = bare_command(program);
    command
        .arg(format!("--socket-path={socket}"))
        .arg(format!("--shared-dir={}", utf8(shared.path.to_owned())?))
        .args(["--sandbox=namespace", "--cache=auto", "--log-level=warn"])
        .current_dir(&machine.directory)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    if shared.read_only {
        command.arg("--readonly");
    }
    let mut child = command.spawn().map_err(io_error("start", program))?;
    let began = Instant::now();
    loop {
        if at.exists() {
            return Ok(child);
        }
        let ended = child.try_wait().map_err(io_error("wait for", program))?;
        if ended.is_some() || began.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            return Err(MachineError::Share {
                path: shared.path.to_owned(),
                tail: last_lines(&log_path, 10),
            });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
