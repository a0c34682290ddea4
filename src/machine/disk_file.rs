//! Files of this host that a machine has as disks.

use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::{MachineError, io_error};
use super::launch::utf8;
use crate::disk::foreign;
use crate::failure::Failure;
use crate::host::file::{is_byte_locked, open_regular};
use crate::image::{DiskFile, DiskFormat};
use crate::limits::Limits;

/// How a qcow2 begins.
const QCOW2: &[u8; 4] = b"QFI\xfb";
/// Bytes that a QEMU locks in a file that it may write to, and in one that others may not write to.
/// Source: `block/file-posix.c` of QEMU, `RAW_LOCK_PERM_BASE` and `RAW_LOCK_SHARED_BASE`, with the bit
/// of `BLK_PERM_WRITE`.
const WRITES: i64 = 101;
const LETS_NOBODY_WRITE: i64 = 201;

/// Looks at a file that is to be a disk. Its format is what it is now: a guest could write the header of
/// another one into a raw file.
pub(super) fn examine(path: &Path, writable: bool) -> Result<DiskFile, MachineError> {
    let refused = |why: String, help: &str| {
        let message = format!("cannot attach {}: {why}", path.display());
        MachineError::from(Failure::usage(message).with_help(help))
    };
    if let Some(format) = DiskFormat::of_path(path)
        && !matches!(format, DiskFormat::Raw | DiskFormat::Qcow2)
    {
        let help = "convert it first: qemu-img convert -O qcow2 FILE NEW.qcow2";
        return Err(refused(format!("it is a {format} file"), help));
    }
    let file = open_regular(path).map_err(io_error("open", path))?;
    let mut magic = [0; 4];
    let qcow2 = match file.read_exact_at(&mut magic, 0) {
        Ok(()) => magic == *QCOW2,
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => false,
        Err(error) => return Err(io_error("read", path)(error)),
    };
    let format = match qcow2 {
        true => DiskFormat::Qcow2,
        false => DiskFormat::Raw,
    };
    let header = foreign::check(format, &file, Limits::default().image_size);
    let header = header.map_err(|error| refused(error.to_string(), &error.help()))?;
    if header.size == 0 || header.size % 512 != 0 {
        let help = "a disk has whole sectors of 512 bytes: truncate -s %512 FILE rounds it up";
        return Err(refused(format!("it has {} bytes", header.size), help));
    }
    Ok(DiskFile {
        path: path.to_owned(),
        qcow2,
        writable,
    })
}

/// Makes sure that a machine can have the file now. QEMU does, too, with an error that names no machine.
pub(super) fn claim(disk: &DiskFile) -> Result<(), MachineError> {
    let path = &disk.path;
    utf8(path.clone())?;
    if disk.qcow2 && !examine(path, disk.writable)?.qcow2 {
        let message = format!(
            "cannot attach {}: it is not a qcow2 any more",
            path.display()
        );
        let help = "put the disk back, or create the machine again";
        return Err(Failure::failed(message).with_help(help).into());
    }
    let file = open_regular(path).map_err(io_error("open", path))?;
    let locked = |place| is_byte_locked(&file, place).map_err(io_error("examine", path));
    let in_use = locked(WRITES)? || disk.writable && locked(LETS_NOBODY_WRITE)?;
    if !in_use {
        return Ok(());
    }
    let message = format!("cannot attach {}: another machine has it", path.display());
    Err(Failure::failed(message)
        .with_help("stop that machine; several can have a file that none of them writes to")
        .into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::overlay;

    #[test]
    fn files_that_can_be_disks() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let refusal = |name: &str| examine(&at(name), true).unwrap_err().to_string();
        fs::write(at("raw"), [0; 1024]).unwrap();
        let raw = examine(&at("raw"), false).unwrap();
        assert_eq!((raw.qcow2, raw.writable), (false, false));
        fs::write(at("odd"), [0; 1000]).unwrap();
        assert!(refusal("odd").contains("it has 1000 bytes"));
        fs::write(at("empty.img"), []).unwrap();
        assert!(refusal("empty.img").contains("it has 0 bytes"));
        fs::write(at("a.vmdk"), [0; 1024]).unwrap();
        assert!(refusal("a.vmdk").contains("it is a vmdk file"));
        // It names another file, which QEMU would open.
        overlay::create(&at("over.img"), "/etc/shadow", 0, 1 << 20).unwrap();
        assert!(
            refusal("over.img").contains("/etc/shadow"),
            "{}",
            refusal("over.img")
        );
        assert!(refusal("gone").starts_with("open "));
        assert!(refusal("").starts_with("open "));
    }
}
