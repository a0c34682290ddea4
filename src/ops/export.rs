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
use crate::audit::Deed;
use crate::digest::ObjectId;
use crate::event::Event;
use crate::failure::{Failure, Kind};
use crate::host::process::{self, End};
use crate::host::{Interrupt, Program, bare_command, require, umask};
use crate::image::DiskFormat;
use crate::image::ImageConfig;

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
pub fn check(target: &Path, format: DiskFormat, force: bool) -> Result<(), Failure> {
    let (directory, _) = split(target)?;
    if format != DiskFormat::Raw {
        require(Program::QemuImg)?;
    }
    if !directory.is_dir() {
        let message = format!("the directory {} does not exist", directory.display());
        return Err(Failure::usage(message).with_help("create it first"));
    }
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::io("look at", target)(error)),
        Ok(meta) if !meta.is_file() => Err(no_target(target, "is not a regular file")),
        Ok(_) if !force => Err(exists(target)),
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
/// See [`Failure`].
pub fn export(context: &Context, options: &ExportOptions) -> Result<Exported, Failure> {
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
        .map_err(Failure::io("create a directory in", directory))?;
    let partial = scratch.path().join(name);
    match target_options(options) {
        None => copy(&source, &partial, &context.interrupt),
        Some(settings) => convert(&source, &partial, options, settings, context),
    }
    .map_err(|error| full(error, target))?;
    if context.interrupt.requested() {
        return Err(Failure::interrupted());
    }
    publish(&partial, target, options.force)?;

    let meta = fs::metadata(target).map_err(Failure::io("look at", target))?;
    let disk_size = fs::metadata(&source)
        .map_err(Failure::io("look at", &source))?
        .len();
    context.emit(Event::TaskFinished {
        name: task,
        seconds: started.elapsed().as_secs_f64(),
    });
    context.record(&Deed::DiskExported {
        disk: options.disk.to_string(),
        to: target.display().to_string(),
        format: options.format.to_string(),
    });
    Ok(Exported {
        path: target.to_owned(),
        disk_size,
        allocated: std::os::unix::fs::MetadataExt::blocks(&meta) * 512,
    })
}

/// The directory and the name of a file.
pub(super) fn split(target: &Path) -> Result<(&Path, &Path), Failure> {
    let name = target
        .file_name()
        .ok_or_else(|| no_target(target, "is not a file name"))?;
    let directory = match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    Ok((directory, Path::new(name)))
}

fn no_target(target: &Path, why: &str) -> Failure {
    let message = format!("{} {why}", target.display());
    Failure::usage(message).with_help("give the path of a new file")
}

fn exists(target: &Path) -> Failure {
    let message = format!("{} already exists", target.display());
    Failure::usage(message).with_help("add --force to replace it")
}

/// A full disk has a failure of its own, whoever found it.
pub(super) fn full(failure: Failure, target: &Path) -> Failure {
    let says_full = |line: &String| {
        line.contains("No space left on device") || line.contains("Disk quota exceeded")
    };
    if !failure.is(Kind::Unwritable) && !failure.details().output.iter().any(says_full) {
        return failure;
    }
    let message = format!("no space left for {}", target.display());
    Failure::new(Kind::Unwritable, message)
        .with_help("free some space, or write to another file system")
}

/// A copy that shares its blocks with the source where the file system can, and has holes where
/// the source has them.
fn copy(source: &Path, target: &Path, interrupt: &Interrupt) -> Result<(), Failure> {
    let from = File::open(source).map_err(Failure::io("open", source))?;
    let to = File::create(target).map_err(Failure::io("create", target))?;
    if ioctl_ficlone(&to, &from).is_ok() {
        return Ok(());
    }
    let size = from
        .metadata()
        .map_err(Failure::io("look at", source))?
        .len();
    to.set_len(size).map_err(Failure::io("write", target))?;
    let mut position = 0;
    loop {
        let start = match seek(&from, SeekFrom::Data(position)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(Failure::io("read", source)(error.into())),
        };
        let end = seek(&from, SeekFrom::Hole(start))
            .map_err(|error| Failure::io("read", source)(error.into()))?;
        position = start;
        while position < end {
            if interrupt.requested() {
                return Err(Failure::interrupted());
            }
            let count = PIECE.min(end - position);
            position +=
                copy_piece(&from, &to, position, count).map_err(Failure::io("write", target))?;
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
) -> Result<(), Failure> {
    let mut command = bare_command(require(Program::QemuImg)?);
    command
        .arg("convert")
        .args(options.compress.then_some("-c"))
        .args(["-f", "raw", "-O", options.format.qemu_name()])
        .args((!settings.is_empty()).then(|| format!("-o{settings}")))
        .arg(source)
        // qemu-img takes what begins with "nbd:" or "json:" for no path.
        .arg(std::path::absolute(target).map_err(Failure::io("find", target))?);
    let mut log =
        tempfile::tempfile().map_err(Failure::io("create a file in", &std::env::temp_dir()))?;
    let finished = process::run(
        &mut command,
        &[],
        &mut log,
        &|_| (),
        process::Bounds::default(),
        &context.interrupt,
    )
    .map_err(Failure::io("run", Path::new("qemu-img")))?;
    match finished.end {
        End::Interrupted => Err(Failure::interrupted()),
        end if end.success() => Ok(()),
        end => {
            let message = format!("qemu-img {}", end.describe());
            Err(Failure::failed(message).with_output(finished.tail))
        }
    }
}

/// Gives the finished file its name. A file that appeared there meanwhile stays unless `force`.
pub(super) fn publish(partial: &Path, target: &Path, force: bool) -> Result<(), Failure> {
    fs::set_permissions(partial, umask::users(0o666))
        .map_err(Failure::io("set the mode of", partial))?;
    if !force {
        match renameat_with(CWD, partial, CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => return Err(exists(target)),
            // The file system cannot; the check at the beginning has to do.
            Err(Errno::INVAL | Errno::NOSYS) => {}
            Err(error) => return Err(Failure::io("write", target)(error.into())),
        }
    }
    fs::rename(partial, target).map_err(Failure::io("write", target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_as_such() {
        let target = Path::new("disk.qcow2");
        let found = [
            Failure::io("write", target)(io::Error::from(io::ErrorKind::StorageFull)),
            Failure::failed("qemu-img exited with code 1").with_output(vec![
                "qemu-img: error while writing at byte 0: No space left on device".into(),
            ]),
        ];
        for error in found {
            let error = full(error, target);
            assert_eq!(error.to_string(), "no space left for disk.qcow2");
        }
        let other = Failure::io("write", target)(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(
            full(other, target)
                .to_string()
                .starts_with("write disk.qcow2: ")
        );
    }

    #[test]
    fn targets_that_cannot_be_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("disk.raw");
        fs::write(&file, "mine").unwrap();
        let check = |path: &Path, force| super::check(path, DiskFormat::Raw, force);
        assert!(check(&file, true).is_ok());
        for (path, force, why) in [
            (&*file, false, "already exists"),
            (directory.path(), true, "is not a regular file"),
            (
                &directory.path().join("no/disk.raw"),
                false,
                "does not exist",
            ),
            (Path::new("/"), false, "is not a file name"),
            (Path::new("/dev/null"), true, "is not a regular file"),
        ] {
            let error = check(path, force).unwrap_err();
            assert!(
                error.is(Kind::Usage) && error.message().ends_with(why),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let [partial, target] = ["partial", "target"].map(|name| directory.path().join(name));
        fs::write(&partial, "new").unwrap();
        fs::write(&target, "old").unwrap();
        let error = publish(&partial, &target, false).unwrap_err();
        assert!(error.message().ends_with("already exists"), "{error}");
        assert_eq!(fs::read(&target).unwrap(), b"old");
        publish(&partial, &target, true).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
    }
}
