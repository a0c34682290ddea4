//! Machines in the user's configuration of `ssh`, so that `ssh NAME`, editors and rsync reach them.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::Context;
use crate::event::Event;
use crate::failure::Failure;
use crate::guest::KNOWN_HOSTS;
use crate::host::file::{Durability, Lock, Replace};
use crate::machine::{Machine, Machines, Projects};

/// The file with the blocks of all machines, in the home.
const FILE: &str = "ssh_config";

/// What was done to the user's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// The user's file.
    pub config: PathBuf,
    /// The file that it includes.
    pub included: PathBuf,
    /// Whether the user's file was changed.
    pub changed: bool,
}

/// The block of one machine (`ssh_config(5)`).
///
/// # Errors
/// The machine's config cannot be read.
pub fn ssh_block(machine: &Machine) -> Result<String, Failure> {
    let config = machine.config()?;
    let quoted = |path: PathBuf| format!("\"{}\"", path.display().to_string().replace('%', "%%"));
    let lines = [
        ("HostName", "127.0.0.1".to_owned()),
        ("Port", config.ssh_port.to_string()),
        ("User", config.ssh_user.to_string()),
        ("IdentityFile", quoted(machine.private_key())),
        ("IdentitiesOnly", "yes".to_owned()),
        (
            "UserKnownHostsFile",
            quoted(machine.directory().join(KNOWN_HOSTS)),
        ),
        ("HashKnownHosts", "no".to_owned()),
        ("HostKeyAlias", machine.name().to_string()),
        ("StrictHostKeyChecking", "accept-new".to_owned()),
        ("CheckHostIP", "no".to_owned()),
        ("LogLevel", "ERROR".to_owned()),
    ];
    let lines = lines.map(|(name, value)| format!("    {name} {value}\n"));
    Ok(format!("Host {}\n{}", machine.name(), lines.concat()))
}

/// Writes the blocks of all machines, of the home and of its projects, to a file, and has the
/// user's configuration include it.
///
/// # Errors
/// A file cannot be read or written.
pub fn install_ssh_config(context: &Context) -> Result<Installed, Failure> {
    let included = write_blocks(context)?;
    change(included, |text, line| {
        let there = text.lines().any(|other| other.trim() == line);
        // At the beginning: behind a `Host` it would be of that block.
        (!there).then(|| format!("{line}\n{text}"))
    })
}

/// Rewrites the blocks, if they are installed. Call it after a machine was created, removed or
/// renamed, or got another port.
pub(in crate::ops) fn refresh_ssh_config(context: &Context) {
    if !context.home.root().join(FILE).exists() {
        return;
    }
    // The command itself succeeded: a warning is enough.
    if let Err(error) = write_blocks(context) {
        context.emit(Event::Warning {
            message: format!("cannot update the blocks of vmfab ssh-config: {error}"),
        });
    }
}

/// Writes the file with the blocks.
fn write_blocks(context: &Context) -> Result<PathBuf, Failure> {
    let included = context.home.root().join(FILE);
    // Whoever changes a machine meanwhile writes the blocks after this.
    let path = included.with_extension("lock");
    let lock = Lock::wait(&path, &context.interrupt, || {});
    let lock = lock.map_err(Failure::io("lock", &path))?;
    let _lock = lock.ok_or_else(Failure::interrupted)?;
    let mut machines = Machines::new(&context.home).list()?;
    for project in Projects::new(&context.home).list()? {
        machines.extend(project.project().machines(&context.home).list()?);
    }
    let blocks = machines.iter().map(ssh_block);
    // One that is damaged keeps none of the others out.
    let blocks: Vec<String> = blocks.filter_map(Result::ok).collect();
    let text = format!(
        "# Written by vmfab ssh-config --install\n{}",
        blocks.join("\n")
    );
    Replace::new(&included, Durability::None)
        .with(text.as_bytes())
        .map_err(Failure::io("write", &included))?;
    Ok(included)
}

/// Undoes [`install_ssh_config`].
///
/// # Errors
/// A file cannot be read or written.
pub fn uninstall_ssh_config(context: &Context) -> Result<Installed, Failure> {
    let included = context.home.root().join(FILE);
    match fs::remove_file(&included) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Failure::of_io("remove", &included, &error));
        }
        _ => {}
    }
    change(included, |text, line| {
        let kept = text.split_inclusive('\n');
        let kept: String = kept.filter(|other| other.trim() != line).collect();
        (kept != text).then_some(kept)
    })
}

/// Changes the user's file, when it is to be another one.
fn change(
    included: PathBuf,
    change: impl FnOnce(&str, &str) -> Option<String>,
) -> Result<Installed, Failure> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let home = home.filter(|home| home.is_absolute());
    let home = home.ok_or_else(|| Failure::usage("HOME names no directory for .ssh/config"))?;
    let config = home.join(".ssh/config");
    let text = match fs::read_to_string(&config) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Failure::of_io("read", &config, &error)),
    };
    let line = format!("Include \"{}\"", included.display());
    let new = change(&text, &line);
    if let Some(new) = &new {
        write(&config, new).map_err(Failure::io("write", &config))?;
    }
    Ok(Installed {
        config,
        included,
        changed: new.is_some(),
    })
}

/// A link stays one, and modes stay; what is new is for the user alone, as ssh wants it.
fn write(config: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = config.parent().filter(|directory| !directory.exists()) {
        fs::DirBuilder::new().mode(0o700).create(directory)?;
    }
    let target = config.canonicalize().unwrap_or_else(|_| config.to_owned());
    let permissions = fs::metadata(&target).map(|meta| meta.permissions());
    let permissions = permissions.unwrap_or_else(|_| fs::Permissions::from_mode(0o600));
    Replace::new(&target, Durability::Whole)
        .permissions(permissions)
        .with(text.as_bytes())
}
