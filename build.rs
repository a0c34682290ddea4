//! Builds `init/`, the init of images that have none: a static program without a libc, which
//! becomes part of vmfab. Its users need no compiler. Tells vmfab how it is built, for
//! `vmfab version --verbose`.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=init");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    println!("cargo::rustc-env=VMFAB_TARGET={}", variable("TARGET"));
    println!("cargo::rustc-env=VMFAB_COMMIT={}", commit());
    let program = PathBuf::from(variable("OUT_DIR")).join("init");
    let architecture = variable("CARGO_CFG_TARGET_ARCH");
    let known = ["x86_64", "aarch64"].contains(&architecture.as_str());
    if variable("CARGO_CFG_TARGET_OS") != "linux" || !known {
        std::fs::write(&program, "").expect("cannot write to OUT_DIR");
        return;
    }
    let mut compiler = Command::new(variable("RUSTC"));
    compiler
        .args(["--crate-name=init", "--crate-type=bin", "--edition=2024"])
        .args(["--target", &variable("TARGET"), "-Copt-level=s"])
        .args(["-Cpanic=abort", "-Cstrip=symbols", "-Cdebuginfo=0"])
        .args(["-Crelocation-model=static", "-Ctarget-feature=+crt-static"])
        .args(["-Clink-arg=-nostdlib", "-Clink-arg=-static"])
        .args(["-Clink-arg=-nostartfiles", "-Clink-arg=-Wl,--build-id=none"])
        .arg("-o")
        .arg(&program)
        .arg("init/main.rs");
    if variable("CARGO_CFG_TARGET_ENV") == "musl" {
        // Otherwise the toolchain adds files with a start of their own.
        compiler.arg("-Clink-self-contained=no");
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        compiler.arg(format!("-Clinker={linker}"));
    }
    let status = compiler.status().expect("cannot start rustc");
    assert!(status.success(), "init/ does not compile");
}

/// The commit that is built: what `VMFAB_COMMIT` says, or what git says of a release; empty when
/// neither knows. Other builds do not ask: each commit would compile the whole program anew.
fn commit() -> String {
    println!("cargo::rerun-if-env-changed=VMFAB_COMMIT");
    if let Ok(commit) = env::var("VMFAB_COMMIT") {
        return commit;
    }
    if env::var("PROFILE").is_ok_and(|profile| profile != "release") {
        return String::new();
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    // A checkout of another project around the sources says nothing of them.
    if git(&["ls-files", "build.rs"]).is_none_or(|listed| listed.is_empty()) {
        return String::new();
    }
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "HEAD"]).unwrap_or_default()
}
