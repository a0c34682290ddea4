//! The root file system of a Debian container, made of Debian's packages as Debian's own image is.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use super::tool;

static TREE: OnceLock<Result<Vec<u8>, String>> = OnceLock::new();

/// Debian 12 as a tar: the smallest set of packages, and BusyBox. The first test that asks makes
/// it.
#[track_caller]
pub(crate) fn debian() -> &'static [u8] {
    let tree = TREE.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(directory).unwrap();
        let file = tempfile::NamedTempFile::new_in(directory).unwrap();
        let mut mmdebstrap = tool("mmdebstrap", "mmdebstrap");
        mmdebstrap
            .args([
                "--quiet",
                "--variant=minbase",
                "--format=tar",
                "--include=busybox",
            ])
            .args(["bookworm", "-"])
            .stdout(file.reopen().unwrap());
        let output = mmdebstrap.output().unwrap();
        match output.status.success() {
            true => Ok(fs::read(file.path()).unwrap()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    });
    let tree = tree.as_ref();
    tree.unwrap_or_else(|why| panic!("there is no tree of Debian: {why}"))
}
