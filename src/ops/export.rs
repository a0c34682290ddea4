//! Writing a stored disk to a user's file, in a format that other programs open.
//!
//! The file appears under its name when it is complete, or not at all: it is made in a hidden
//! directory beside its target and renamed. It is made under its own name there, because a VMDK
//! carries its name inside.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{CWD, RenameFlags, SeekFrom, copy_file_range, ioctl_ficlone, renameat_with, seek};
use rustix::io::Errno;
use serde::Serialize;

use super::Context;
use super::hypervisor::{self, Hypervisor};
use crate::digest::ObjectId;
use crate::event::Event;
use crate::failure::Failure;
use crate::host::process::{self, End};
use crate::host::{Interrupt, MissingProgram, Program, bare_command, require, umask};
use crate::image::DiskFormat;
use crate::image::ImageConfig;
use crate::store::StoreError;

/// Bytes copied between two looks at the interrupt.
const PIECE: u64 = 32 << 20;

/// What to write, and where.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// The disk, raw in the store.
    pub disk: ObjectId,
    pub target: PathBuf,
    pub format: DiskFormat,
    /// The program that is to import it, when one is named.
    pub hypervisor: Option<Hypervisor>,
    /// Whether its content is compressed.
    pub compress: bool,
    /// Whether an existing file is replaced.
    pub force: bool,
}

/// A disk was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    pub path: PathBuf,
    /// Size of the disk in bytes, as a guest sees it.
    pub disk_size: u64,
    /// Bytes that the file takes on the host's disk.
    pub allocated: u64,
}

/// A disk could not be written to a file.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The file is there.
    #[error("{} already exists", .0.display())]
    Exists(PathBuf),
    /// Something is there that is not a file: a directory, a device.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The path names no file in a directory, such as `/` or `..`.
    #[error("{} is not a file name", .0.display())]
    NoName(PathBuf),
    /// The directory of the file is not there.
    #[error("the directory {} does not exist", .0.display())]
    NoDirectory(PathBuf),
    /// qemu-img is needed and missing.
    #[error(transparent)]
    Missing(#[from] MissingProgram),
    /// The target's file system is full.
    #[error("no space left for {}", .0.display())]
    NoSpace(PathBuf),
    /// qemu-img failed.
    #[error("qemu-img {how}")]
    Convert {
        /// `exited with code 1`, …
        how: String,
        /// Its last lines of output.
        tail: Vec<String>,
    },
    /// The user gave up.
    #[error("interrupted")]
    Interrupted,
    /// The disk cannot be had from the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        source: io::Error,
    },
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        let message = error.to_string();
        let usage = |help: &str| Failure::usage(message.clone()).with_help(help.to_owned());
        match error {
            ExportError::Exists(_) => usage("add --force to replace it"),
            ExportError::NotAFile(_) | ExportError::NoName(_) => {
                usage("give the path of a new file")
            }
            ExportError::NoDirectory(_) => usage("create it first"),
            ExportError::Missing(missing) => missing.into(),
            ExportError::NoSpace(_) => Failure::failed(message)
                .with_help("free some space, or write to another file system"),
            ExportError::Convert { tail, .. } => Failure::failed(message).with_output(tail),
            ExportError::Interrupted => Self::interrupted(),
            ExportError::Store(error) => error.into(),
            ExportError::Io {
                action,
                path,
                source,
            } => Self::of_io(action, &path, &source),
        }
    }
}

/// The format of a file: what is said, what the program takes that it is for, or what its name ends
/// in.
///
/// # Errors
/// Nothing tells, or two of them differ, or what is written so cannot be compressed.
pub fn format(
    target: &Path,
    said: Option<DiskFormat>,
    hypervisor: Option<Hypervisor>,
    compress: bool,
) -> Result<DiskFormat, Failure> {
    let usage = |message: String, help: &str| Failure::usage(message).with_help(help.to_owned());
    let named = said.or_else(|| DiskFormat::of_path(target));
    let format = match (named, hypervisor.map(Hypervisor::format)) {
        (Some(named), Some(taken)) if named != taken => {
            let whom = hypervisor.map(|one| one.to_string()).unwrap_or_default();
            let message = format!("{whom} imports {taken} files, but this is a {named} file");
            return Err(usage(
                message,
                "leave out --for, or use another file extension",
            ));
        }
        (Some(format), _) | (None, Some(format)) => format,
        (None, None) => {
            let message = format!(
                "cannot tell the format from the file name {}",
                target.display()
            );
            return Err(usage(
                message,
                "add --format qcow2, raw, vmdk, vhdx, vdi or vhd",
            ));
        }
    };
    // A VMDK for import is compressed in any case.
    let can = format == DiskFormat::Qcow2 || hypervisor == Some(Hypervisor::Vmware);
    if compress && !can {
        let message = format!("vmfab cannot compress {format} files");
        return Err(usage(message, "use qcow2, or compress the file afterwards"));
    }
    Ok(format)
}

/// Tells what keeps an image from being used where its disk is to go.
///
/// # Errors
/// The store fails.
pub fn advise(
    context: &Context,
    config: &ImageConfig,
    options: &ExportOptions,
) -> Result<(), Failure> {
    /// The first part of a kernel has its version in it.
    const HEAD: usize = 64 << 10;
    let store = context.store()?;
    let disk = store.materialise(&options.disk)?;
    let kernel = match config.kernel {
        Some(kernel) => {
            let reader = store.open_object(&kernel.id)?;
            let mut head = vec![0; HEAD.min(reader.size() as usize)];
            reader
                .read_exact_at(&mut head, 0)
                .map_err(Failure::io("read a kernel of", &context.home.store()))?;
            Some(head)
        }
        None => None,
    };
    let hypervisor = options
        .hypervisor
        .or_else(|| Hypervisor::of_format(options.format));
    for message in hypervisor::lacks(&disk, config, kernel.as_deref(), hypervisor) {
        context.emit(Event::Warning { message });
    }
    Ok(())
}

/// Whether a disk could be written, without writing it: to be asked before long work whose result
/// goes there.
///
/// # Errors
/// The target exists and is not to be replaced, cannot be a file, or a program is missing.
pub fn check(target: &Path, format: DiskFormat, force: bool) -> Result<(), ExportError> {
    let (directory, _) = split(target)?;
    if format != DiskFormat::Raw {
        require(Program::QemuImg)?;
    }
    if !directory.is_dir() {
        return Err(ExportError::NoDirectory(directory.to_owned()));
    }
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("look at", target)(error)),
        Ok(meta) if !meta.is_file() => Err(ExportError::NotAFile(target.to_owned())),
        Ok(_) if !force => Err(ExportError::Exists(target.to_owned())),
        Ok(_) => Ok(()),
    }
}

/// Options of the target, for `qemu-img convert -o`; none where qemu-img is not needed.
///
/// qcow2 as every QEMU since 1.1 reads it. Of the VMDK kinds `monolithicSparse` is one file that
/// grows and that VMware Workstation, VirtualBox and QEMU open for writing.
/// For import into ESXi and vSphere it is `streamOptimized`, as in an OVA.
const fn target_options(options: &ExportOptions) -> Option<&'static str> {
    match options.format {
        DiskFormat::Raw => None,
        DiskFormat::Qcow2 => Some("compat=1.1"),
        DiskFormat::Vmdk if matches!(options.hypervisor, Some(Hypervisor::Vmware)) => {
            Some("subformat=streamOptimized,adapter_type=lsilogic")
        }
        DiskFormat::Vmdk => Some("subformat=monolithicSparse,adapter_type=lsilogic"),
        DiskFormat::Vdi => Some("static=off"),
        DiskFormat::Vhdx => Some("subformat=dynamic"),
        // As Azure takes it: the footer says the exact size.
        DiskFormat::Vhd => Some("subformat=fixed,force_size=on"),
        DiskFormat::Qcow | DiskFormat::Qed | DiskFormat::Parallels => Some(""),
    }
}

/// Writes the disk. Nothing is left behind when it fails or is interrupted.
///
/// # Errors
/// See [`ExportError`].
pub fn export(context: &Context, options: &ExportOptions) -> Result<Exported, ExportError> {
    let target = options.target.as_path();
    check(target, options.format, options.force)?;
    let store = context.store()?;
    let source = store.materialise(&options.disk)?;
    let (directory, name) = split(target)?;
    let started = Instant::now();
    let task = format!("write {} ({})", target.display(), options.format);
    context.emit(Event::TaskStarted { name: task.clone() });

    let scratch = tempfile::Builder::new()
        .prefix(".vmfab-")
        .tempdir_in(directory)
        .map_err(failed("create a directory in", directory))?;
    let partial = scratch.path().join(name);
    match target_options(options) {
        None => copy(&source, &partial, &context.interrupt),
        Some(settings) => convert(&source, &partial, options, settings, context),
    }
    .map_err(|error| full(error, target))?;
    if context.interrupt.requested() {
        return Err(ExportError::Interrupted);
    }
    publish(&partial, target, options.force)?;

    let meta = fs::metadata(target).map_err(failed("look at", target))?;
    let disk_size = fs::metadata(&source)
        .map_err(failed("look at", &source))?
        .len();
    context.emit(Event::TaskFinished {
        name: task,
        seconds: started.elapsed().as_secs_f64(),
    });
    Ok(Exported {
        path: target.to_owned(),
        disk_size,
        allocated: std::os::unix::fs::MetadataExt::blocks(&meta) * 512,
    })
}

/// The directory and the name of a file.
pub(super) fn split(target: &Path) -> Result<(&Path, &Path), ExportError> {
    let name = target
        .file_name()
        .ok_or_else(|| ExportError::NoName(target.to_owned()))?;
    let directory = match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    Ok((directory, Path::new(name)))
}

pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ExportError {
    let path = path.to_owned();
    move |source| ExportError::Io {
        action,
        path,
        source,
    }
}

/// A full disk has an error of its own, whoever found it.
pub(super) fn full(error: ExportError, target: &Path) -> ExportError {
    let is_full = match &error {
        ExportError::Io { source, .. } => matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ),
        ExportError::Convert { tail, .. } => tail.iter().any(|line| {
            line.contains("No space left on device") || line.contains("Disk quota exceeded")
        }),
        _ => false,
    };
    if is_full {
        ExportError::NoSpace(target.to_owned())
    } else {
        error
    }
}

/// A copy that shares its blocks with the source where the file system can, and has holes where
/// the source has them.
fn copy(source: &Path, target: &Path, interrupt: &Interrupt) -> Result<(), ExportError> {
    let from = File::open(source).map_err(failed("open", source))?;
    let to = File::create(target).map_err(failed("create", target))?;
    if ioctl_ficlone(&to, &from).is_ok() {
        return Ok(());
    }
    let size = from.metadata().map_err(failed("look at", source))?.len();
    to.set_len(size).map_err(failed("write", target))?;
    let mut position = 0;
    loop {
        let start = match seek(&from, SeekFrom::Data(position)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(failed("read", source)(error.into())),
        };
        let end = seek(&from, SeekFrom::Hole(start))
            .map_err(|error| failed("read", source)(error.into()))?;
        position = start;
        while position < end {
            if interrupt.requested() {
                return Err(ExportError::Interrupted);
            }
            let count = PIECE.min(end - position);
            position += copy_piece(&from, &to, position, count).map_err(failed("write", target))?;
        }
    }
}

/// Copies at most `count` bytes at one place of both files; tells how many.
fn copy_piece(from: &File, to: &File, at: u64, count: u64) -> io::Result<u64> {
    use std::os::unix::fs::FileExt;
    let (mut read_at, mut write_at) = (at, at);
    match copy_file_range(
        from,
        Some(&mut read_at),
        to,
        Some(&mut write_at),
        count as usize,
    ) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(copied) => Ok(copied as u64),
        // Two file systems that cannot do it between them.
        Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => {
            let mut buffer = vec![0; count.min(1 << 20) as usize];
            from.read_exact_at(&mut buffer, at)?;
            to.write_all_at(&buffer, at)?;
            Ok(buffer.len() as u64)
        }
        Err(error) => Err(error.into()),
    }
}

fn convert(
    source: &Path,
    target: &Path,
    options: &ExportOptions,
    settings: &str,
    context: &Context,
) -> Result<(), ExportError> {
    let mut command = bare_command(require(Program::QemuImg)?);
    command
        .arg("convert")
        .args(options.compress.then_some("-c"))
        .args(["-f", "raw", "-O", options.format.qemu_name()])
        .args((!settings.is_empty()).then(|| format!("-o{settings}")))
        .arg(source)
        // qemu-img takes what begins with "nbd:" or "json:" for no path.
        .arg(std::path::absolute(target).map_err(failed("find", target))?);
    let mut log =
        tempfile::tempfile().map_err(failed("create a file in", &std::env::temp_dir()))?;
    let finished = process::run(
        &mut command,
        &[],
        &mut log,
        &|_| (),
        process::Bounds::default(),
        &context.interrupt,
    )
    .map_err(failed("run", Path::new("qemu-img")))?;
    match finished.end {
        End::Interrupted => Err(ExportError::Interrupted),
        end if end.success() => Ok(()),
        end => Err(ExportError::Convert {
            how: end.describe(),
            tail: finished.tail,
        }),
    }
}

/// Gives the finished file its name. A file that appeared there meanwhile stays unless `force`.
pub(super) fn publish(partial: &Path, target: &Path, force: bool) -> Result<(), ExportError> {
    fs::set_permissions(partial, umask::users(0o666))
        .map_err(failed("set the mode of", partial))?;
    if !force {
        match renameat_with(CWD, partial, CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => return Err(ExportError::Exists(target.to_owned())),
            // The file system cannot; the check at the beginning has to do.
            Err(Errno::INVAL | Errno::NOSYS) => {}
            Err(error) => return Err(failed("write", target)(error.into())),
        }
    }
    fs::rename(partial, target).map_err(failed("write", target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_as_such() {
        let target = Path::new("disk.qcow2");
        let found = [
            failed("write", target)(io::Error::from(io::ErrorKind::StorageFull)),
            ExportError::Convert {
                how: "exited with code 1".into(),
                tail: vec![
                    "qemu-img: error while writing at byte 0: No space left on device".into(),
                ],
            },
        ];
        for error in found {
            let error = full(error, target);
            assert!(matches!(error, ExportError::NoSpace(_)), "{error}");
        }
        let other = failed("write", target)(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(matches!(full(other, target), ExportError::Io { .. }));
    }

    #[test]
    fn targets_that_cannot_be_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("disk.raw");
        fs::write(&file, "mine").unwrap();
        let check = |path: &Path, force| super::check(path, DiskFormat::Raw, force);
        assert!(matches!(check(&file, false), Err(ExportError::Exists(_))));
        assert!(check(&file, true).is_ok());
        assert!(matches!(
            check(directory.path(), true),
            Err(ExportError::NotAFile(_))
        ));
        assert!(matches!(
            check(&directory.path().join("no/disk.raw"), false),
            Err(ExportError::NoDirectory(_))
        ));
        assert!(matches!(
            check(Path::new("/"), false),
            Err(ExportError::NoName(_))
        ));
        assert!(matches!(
            check(Path::new("/dev/null"), true),
            Err(ExportError::NotAFile(_))
        ));
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let [partial, target] = ["partial", "target"].map(|name| directory.path().join(name));
        fs::write(&partial, "new").unwrap();
        fs::write(&target, "old").unwrap();
        let error = publish(&partial, &target, false).unwrap_err();
        assert!(matches!(error, ExportError::Exists(_)), "{error}");
        assert_eq!(fs::read(&target).unwrap(), b"old");
        publish(&partial, &target, true).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
    }
}
