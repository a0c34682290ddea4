//! What users install: `vmfab version`, the package's dependencies, the static program.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use vmfab::host::Program;

use crate::cli::Bench;
use crate::support::Ran;
use crate::support::registry::{Registry, RegistryOptions};

/// The packages of a field of the package, `name = "a, b"` in Cargo.toml.
fn packages(field: &str) -> BTreeSet<String> {
    let text = include_str!("../Cargo.toml");
    let (_, deb) = text.split_once("[package.metadata.deb]").unwrap();
    let field = format!("{field} = \"");
    let line = deb.lines().find_map(|line| line.strip_prefix(&field));
    let list = line.unwrap().trim_end_matches('"').split(", ");
    list.map(str::to_owned).collect()
}

#[test]
fn the_package_depends_on_what_doctor_asks_for() {
    let (depends, recommends) = (packages("depends"), packages("recommends"));
    for program in Program::ALL {
        let package = match program {
            // The package's fields are those of amd64; a variant has another emulator.
            Program::QemuSystem => "qemu-system-x86",
            program => program.package(),
        };
        let optional = matches!(program, Program::Swtpm | Program::Virtiofsd);
        let list = if optional { &recommends } else { &depends };
        assert!(list.contains(package), "{package} is not in {list:?}");
    }
    assert!(depends.contains("util-linux"), "doctor calls unshare");
}

#[test]
fn the_version_has_details() {
    let bench = Bench::new();
    let plain = bench.run(["--version"]).ends_with(0).stdout;
    assert_eq!(plain, format!("vmfab {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(bench.run(["version"]).ends_with(0).stdout, plain);
    let details = bench.run(["--version", "--verbose"]).ends_with(0).stdout;
    assert!(details.starts_with(&plain), "{details}");
    for name in ["commit ", "target ", "linked ", "kernel ", "qemu-img "] {
        assert!(details.contains(&format!("\n{name}")), "{name}: {details}");
    }
    let json = bench.run(["version", "-v", "--json"]).ends_with(0).json();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        json["programs"].as_array().unwrap().len(),
        Program::ALL.len()
    );
    assert!(!bench.home.path().join("store").exists());
    bench.run(["version", "1.0"]).ends_with(2);
}

/// The program that `VMFAB_TEST_DIST` names, with nothing around it but a file with host names and
/// its configuration, reaches a registry by name and with TLS.
#[test]
#[ignore = "needs what make dist builds; make test-dist runs it"]
fn the_binary_works_in_an_empty_root() {
    let program = std::env::var("VMFAB_TEST_DIST").expect("VMFAB_TEST_DIST names the program");
    let registry = Registry::with(&RegistryOptions {
        tls: true,
        ..RegistryOptions::default()
    });
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let hosts = file("hosts", "127.0.0.1 localhost\n");
    let config = format!("registry \"{}\" ca=\"/ca.pem\"\n", registry.address());
    let config = file("config.kdl", &config);
    let inside = |binds: &[(&Path, &str)], arguments: &[&str]| {
        let mut command = Command::new("bwrap");
        command.args([
            "--unshare-all",
            "--share-net",
            "--die-with-parent",
            "--clearenv",
        ]);
        command.args(["--setenv", "HOME", "/home", "--setenv", "PATH", "/bin"]);
        command.args([
            "--ro-bind",
            &program,
            "/bin/vmfab",
            "--dir",
            "/tmp",
            "--proc",
            "/proc",
        ]);
        for (path, at) in binds {
            command.arg("--ro-bind").arg(path).arg(at);
        }
        Ran::of(command.arg("/bin/vmfab").args(arguments))
    };
    let version = inside(&[], &["version", "--verbose"]).ends_with(0);
    for line in ["linked              statically", "features            init"] {
        assert!(version.stdout.contains(line), "{}", version.stdout);
    }
    assert!(
        version.stdout.contains("not installed"),
        "{}",
        version.stdout
    );
    let doctor = inside(&[], &["doctor"]).ends_with(5);
    assert!(doctor.stdout.contains("apt-get"), "{}", doctor.stdout);
    let authority = registry.authority();
    let binds = [
        (hosts.as_path(), "/etc/hosts"),
        (&config, "/home/.config/vmfab/config.kdl"),
        (&authority, "/ca.pem"),
    ];
    let name = registry.at("a/b");
    let ran = inside(&binds, &["tags", &name]).ends_with(3);
    assert!(
        ran.stderr.contains("there is no repository"),
        "{}",
        ran.stderr
    );
    // Without the file, nobody knows the name.
    let ran = inside(&binds[1..], &["tags", &name]);
    assert_ne!(ran.code, Some(3), "{}", ran.stderr);
}
