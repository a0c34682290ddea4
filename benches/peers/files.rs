//! Programs that do one thing to one file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lab::{remove, time, tool};

/// A compressed qcow2 of a raw disk, on all cores: another way to put a disk away.
pub(crate) fn qcow2(disk: &Path, output: &Path) -> Duration {
    remove(output);
    time(
        tool("qemu-img", "qemu-utils")
            .args(["convert", "-m", "8", "-W", "-c", "-f", "raw"])
            .args(["-O", "qcow2", "-o", "compression_type=zstd"])
            .args([disk, output]),
    )
}

/// Compresses at the store's level.
pub(crate) fn zstd(file: &Path, output: &Path) -> Duration {
    time(
        tool("zstd", "zstd")
            .args(["-q", "-3", "-f"])
            .args([file, Path::new("-o"), output]),
    )
}

/// Decompresses to a new file; zeros become holes.
pub(crate) fn zstd_to_file(file: &Path, output: &Path) -> Duration {
    remove(output);
    time(
        tool("zstd", "zstd")
            .args(["-q", "-d"])
            .args([file, Path::new("-o"), output]),
    )
}

/// Decompresses and keeps nothing.
pub(crate) fn zstd_to_nowhere(file: &Path) -> Duration {
    time(tool("zstd", "zstd").args(["-q", "-t"]).arg(file))
}

/// Hashes files.
pub(crate) fn b3sum(files: &[PathBuf]) -> Duration {
    time(tool("b3sum", "b3sum").args(files))
}
