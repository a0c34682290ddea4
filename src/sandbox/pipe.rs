//! The pipe on which a worker hands over the layer that it packs.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat};
use rustix::pipe::fcntl_setpipe_size;

use crate::failure::Failure;

/// What the names of pipes end in.
pub(super) const EXTENSION: &str = "pipe";
/// Bytes that a pipe holds: what the kernel gives to everybody.
const SIZE: usize = 1 << 20;

/// Makes a pipe: its path, and both its ends. It lies beside the scratch directory, in which
/// programs of the step may write.
pub(super) fn beside(scratch: &Path) -> Result<(PathBuf, File, File), Failure> {
    let path = scratch.with_extension(EXTENSION);
    let (reader, writer) = make(&path).map_err(Failure::step_io("create a pipe at", &path))?;
    Ok((path, reader, writer))
}

fn make(path: &Path) -> io::Result<(File, File)> {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    // There is nobody to wait for yet.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let reader = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let writer = OpenOptions::new().write(true).open(path)?;
    fcntl_setfl(&reader, OFlags::empty())?;
    // Those of the usual size do as well, but slower.
    let _ = fcntl_setpipe_size(&reader, SIZE);
    Ok((reader, writer))
}
