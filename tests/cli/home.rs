//! Who may read what the program writes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use vmfab::store::Store;

use super::{Bench, Ran};

/// Runs the program with a umask.
fn run(bench: &Bench, umask: &str, arguments: &[&str]) -> Ran {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "umask \"$1\"; shift; exec \"$@\"", "sh", umask])
        .arg(env!("CARGO_BIN_EXE_vmfab"))
        .args(arguments)
        .env("VMFAB_HOME", bench.home.path().join("home"))
        .current_dir(bench.home.path());
    Ran::from(shell.output().unwrap())
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// What is below a directory, and itself.
fn all_below(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            found.extend(all_below(&entry.unwrap().path()));
        }
    }
    found
}

#[test]
fn a_home_is_closed_whatever_the_umask() {
    let bench = Bench::new();
    let home = bench.home.path().join("home");
    fs::write(bench.home.path().join("file"), "secret").unwrap();
    run(&bench, "000", &["store", "add", "file"]).ends_with(0);
    let all = all_below(&home);
    assert!(all.len() > 5, "{all:?}");
    for path in all {
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
    }
    // One of an earlier version is closed by any command that looks at it.
    let open = fs::Permissions::from_mode(0o755);
    for directory in [home.clone(), home.join("cache/layers")] {
        fs::create_dir_all(&directory).unwrap();
        fs::set_permissions(&directory, open.clone()).unwrap();
    }
    run(&bench, "022", &["images"]).ends_with(0);
    assert_eq!(mode(&home), 0o700);
    assert_eq!(mode(&home.join("cache/layers")), 0o700);
}

#[test]
fn what_is_the_users_follows_the_umask() {
    let bench = Bench::new();
    let store = Store::open(bench.home.path().join("home/store")).unwrap();
    bench.image_in(&store, "web");
    for (umask, file, directory) in [("022", 0o644, 0o755), ("027", 0o640, 0o750)] {
        let name = |what: &str| format!("{umask}-{what}");
        let (disk, layout, archive) = (name("disk.raw"), name("new/layout"), name("a.tar"));
        let to = format!("oci:{layout}:1");
        run(&bench, umask, &["push", "@web", &to]).ends_with(0);
        let to = format!("oci-archive:{archive}:1");
        run(&bench, umask, &["push", "@web", &to]).ends_with(0);
        run(&bench, umask, &["store", "get", "@web", "-o", &disk]).ends_with(0);
        let log = name("log");
        let trace = name("trace");
        run(&bench, umask, &["--log", &log, "--trace", &trace, "images"]).ends_with(0);
        let man = name("man");
        run(&bench, umask, &["man", "--output", &man]).ends_with(0);
        for name in [disk, archive, log, trace, name("new"), man] {
            for path in all_below(&bench.home.path().join(name)) {
                let wanted = if path.is_dir() { directory } else { file };
                assert_eq!(mode(&path), wanted, "{}", path.display());
            }
        }
    }
}
