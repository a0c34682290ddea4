//! syft: bills of materials.

use std::path::Path;
use std::process::Command;

/// Writes the bill of materials of a tree. `.ci/syft` installs it from PyPI.
pub(crate) fn syft(tree: &Path, output: &Path) -> Command {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/target/syft/bin/syft");
    assert!(Path::new(program).exists(), "run .ci/syft first");
    let mut command = Command::new(program);
    command
        .arg("scan")
        .arg(format!("dir:{}", tree.display()))
        .args(["--quiet", "--output"])
        .arg(format!("spdx-json={}", output.display()))
        .env("SYFT_CHECK_FOR_APP_UPDATE", "false");
    command
}
