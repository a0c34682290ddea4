//! Directories of the host that a guest mounts: virtiofsd serves each, or QEMU itself does by 9p.
//!
//! virtiofsd (the one in Rust) runs without root, in namespaces of its own, and ends when QEMU does.

use std::path::Path;
use std::process::Child;

use super::Machine;
use super::config::MachineConfig;
use super::directory::files;
use super::error::MachineError;
use super::launch::utf8;
use super::server::Server;
use crate::image::Mounted;
use crate::qemu::{Share, ShareServer};

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
    let log = files::share_log(shared.number);
    let server = Server {
        program,
        socket: &socket,
        log: &log,
        inherits: false,
    };
    let mut arguments = vec![
        format!("--socket-path={socket}"),
        format!("--shared-dir={}", utf8(shared.path.to_owned())?),
        "--sandbox=namespace".to_owned(),
        "--cache=auto".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    if shared.read_only {
        arguments.push("--readonly".to_owned());
    }
    let arguments = arguments.into_iter().map(Into::into);
    server.start(machine, arguments, |tail| MachineError::Share {
        path: shared.path.to_owned(),
        tail,
    })
}
