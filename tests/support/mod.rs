//! What several areas of tests share.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A home whose store has the image `@debian-12`, built with the recipe that comes with vmfab. It
/// stays from one run of the tests to the next, so that only what changed is built again. Tests
/// make no machines in it: they take its `store`.
pub(crate) fn debian_12() -> PathBuf {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    HOME.get_or_init(|| {
        let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("debian-12");
        let output = Command::new(env!("CARGO_BIN_EXE_vmfab"))
            .args(["build", "debian-12"])
            .env("VMFAB_HOME", &home)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "debian-12 cannot be built:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        home
    })
    .clone()
}
