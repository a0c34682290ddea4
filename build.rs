//! Builds `init/`, the init of images that have none: a static program without a libc, which
//! becomes part of vmfab. Its users need no compiler.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=init");
    let variable = |name: &str| env::var(name).unwrap_or_default();
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
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        compiler.arg(format!("-Clinker={linker}"));
    }
    let status = compiler.status().expect("cannot start rustc");
    assert!(status.success(), "init/ does not compile");
}
