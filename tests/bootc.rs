//! Bootable containers, installed to disks by a stand-in for bootc (see `fixtures/bootc`).

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::pb::Bench;
use super::support::{Build, Lab, Machine, Ran, Recipes};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/bootc");

/// The files of the fixture, where the test can add to them.
fn fixture() -> Recipes {
    let recipes = Recipes::new();
    for name in ["Containerfile", "bootc", "host-keys.service", "os.kdl"] {
        let content = fs::read_to_string(Path::new(FIXTURES).join(name)).unwrap();
        recipes.write(name, &content);
    }
    recipes
}

/// Builds an image of a recipe that is written beside the fixture.
fn build(recipes: &Recipes, recipe: &str) -> Build {
    recipes.write("bootc.kdl", recipe);
    recipes.build("bootc")
}

/// The processes whose arguments name a path.
fn processes_with(text: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let arguments = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let named = |arguments: &Vec<u8>| String::from_utf8_lossy(arguments).contains(text);
    arguments.filter(named).count()
}

#[test]
fn an_image_is_installed_once_and_boots_by_uefi() {
    let _turn = Machine::turn();
    let recipes = fixture();
    let os = r#"include "./os.kdl"
        image "bootc" {
            bootc "container" filesystem="xfs" root-size="3G" target="quay.io/me/os:stable" {
                karg "vmfab.test=1" "console=ttyS0"
                authorized-keys "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAmgAJMcoiTd9ESJsvR+WYtdQIpF/SQ0rpnmZm1PRcjU me"
            }
            disk size="4G"
            check "grep -qw vmfab.test=1 /proc/cmdline"
            check "test \"$(findmnt -n -o FSTYPE,SIZE /)\" = 'xfs    3G' || findmnt / >&2"
            check "grep -q '/SQ0rpnmZm1PRcjU me$' /root/.ssh/authorized_keys"
            check "grep -qx registry:quay.io/me/os:stable /usr/lib/bootc/origin"
        }"#;

    // A build that is killed while it installs leaves no machine behind.
    recipes.write("bootc.kdl", os);
    let mut running = recipes.start("bootc");
    running.until_line("booting the image to install it");
    std::thread::sleep(Duration::from_secs(3));
    running.signal(rustix::process::Signal::KILL);
    drop(running.finish());
    let scratch = Lab::get().home().join("work");
    let scratch = scratch.display().to_string();
    let started = Instant::now();
    while processes_with(&format!("{scratch}/")) > 0 {
        assert!(started.elapsed() < Duration::from_secs(30), "QEMU goes on");
        std::thread::sleep(Duration::from_millis(100));
    }

    let first = build(&recipes, os).succeeds();
    assert!(
        first
            .output()
            .iter()
            .any(|line| line.contains("Installation complete!"))
    );
    // The layers and the disk of the installer were there.
    let started = first.started();
    assert!(
        !started
            .iter()
            .any(|step| step.contains("disk of the installer")),
        "{started:?}"
    );

    let second = build(&recipes, os).succeeds();
    assert_eq!(second.started(), Vec::<&str>::new());
    assert_eq!(second.image(), first.image());

    // What is for the first boot of its machines needs no other installation.
    let ignited = |config: &str| {
        recipes.write("config.ign", config);
        let os = os.replace(" root-size", " ignition=\"./config.ign\" root-size");
        let os: Vec<&str> = os.lines().filter(|line| !line.contains("check ")).collect();
        build(&recipes, &os.join("\n"))
    };
    let config = r#"{"ignition":{"version":"3.4.0"}}"#;
    let third = ignited(config).succeeds();
    assert!(!third.started().iter().any(|step| step.contains("install")));
    let inspect = ["image", "inspect", third.image(), "--json"];
    let told = Lab::get().run(inspect).ends_with(0).json();
    assert!(told.to_string().contains(&format!("{config:?}")), "{told}");
    let wrong = ignited("variant: fcos").ends_with(4);
    assert!(
        wrong.stderr.contains("config.ign is no JSON"),
        "{}",
        wrong.stderr
    );
}

/// What bcvk does without libvirt.
#[test]
fn an_image_is_tried_without_an_installation_and_written_to_a_file() {
    let turn = Machine::turn();
    let bench = Bench::new();
    let image = bench.image();
    let vmfab = |arguments: &[&str]| {
        let mut command = Lab::get().command();
        let command = command.args(arguments).stdin(Stdio::null());
        Ran::of(command.current_dir(FIXTURES))
    };
    let script = "findmnt -n -o LABEL / && exit 7";
    let tried = ["ephemeral", "ssh", &image, "--timeout", "900", "--", script];
    let tried = vmfab(&tried).ends_with(7);
    assert_eq!(tried.stdout, "vmfab-installer\n");
    assert!(!tried.stderr.contains("bootc install"), "{}", tried.stderr);
    let machines = vmfab(&["list", "--json"]).ends_with(0).json();
    assert_eq!(machines, serde_json::json!([]));

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("os.qcow2");
    let file = file.to_str().unwrap();
    let written = ["to-disk", &image, file, "--disk-size", "4G", "--json"];
    let written = vmfab(&written).ends_with(0);
    let last: Value = serde_json::from_str(written.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["disk_size"], 4_u64 << 30);
    let again = vmfab(&["to-disk", &image, file]).ends_with(2);
    assert!(again.stderr.contains("exists"), "{}", again.stderr);
    drop(turn);
    let recipe = "image \"os\" { from \"./os.qcow2\"; boot firmware=\"uefi\" }";
    fs::write(directory.path().join("os.kdl"), recipe).unwrap();
    let booted = Machine::boot("installed", directory.path(), ["os.kdl"]);
    assert_eq!(booted.output("findmnt -n -o FSTYPE /"), "ext4");
    let origin = booted.output("cat /usr/lib/bootc/origin");
    assert_eq!(origin, format!("registry:{image}"));

    let disk = vmfab(&["ephemeral", "run", "@debian-12"]).ends_with(2);
    assert!(disk.stderr.contains("a disk already"), "{}", disk.stderr);
    let unknown = vmfab(&["to-disk", &image, "os.unknown"]).ends_with(2);
    assert!(unknown.stderr.contains("--format"), "{}", unknown.stderr);
}

#[test]
fn a_failed_installation_says_what_bootc_said() {
    let _turn = Machine::turn();
    let recipes = fixture();
    let small = "include \"./os.kdl\"\nimage \"bootc\" { bootc \"container\"; disk size=\"1G\" }";
    let build = build(&recipes, small).ends_with(1);
    let shown = &build.stderr;
    assert!(shown.contains("failed with exit code 1"), "{shown}");
    assert!(shown.contains("no space left on /dev/vdb"), "{shown}");
    assert!(shown.contains("the log of the step"), "{shown}");
}

#[test]
fn what_an_image_lacks_is_said_before_a_machine_boots() {
    let recipes = fixture();
    let kernel = "/usr/lib/modules/6.1/vmlinuz";
    let systemd = "/usr/lib/systemd/systemd";
    let initramfs = "/usr/lib/modules/6.1/initramfs.img";
    for (files, said) in [
        (&[][..], "the image has no bootc (/usr/bin/bootc)"),
        (&["/usr/bin/bootc"], "the image has no systemd"),
        (&["/usr/bin/bootc", systemd], "the image has no kernel"),
        (
            &["/usr/bin/bootc", systemd, "/boot/EFI/Linux/6.1.efi"],
            "the image has only a unified kernel (/boot/EFI/Linux/6.1.efi)",
        ),
        (
            &["/usr/bin/bootc", systemd, kernel],
            "the image has no initramfs (/usr/lib/modules/6.1/initramfs.img)",
        ),
        (
            &[
                "/usr/bin/bootc",
                systemd,
                kernel,
                initramfs,
                "/usr/lib/modules/6.2/vmlinuz",
            ],
            "the image has more than one kernel: 6.1, 6.2",
        ),
    ] {
        let copies = files.iter().map(|file| format!("COPY bootc {file}\n"));
        let copies: String = copies.collect();
        let text = format!("FROM scratch\nCOPY os.kdl /x\n{copies}LABEL containers.bootc=1\n");
        recipes.write("Containerfile.bare", &text);
        let bare = "image \"bootc\" { bootc \"./Containerfile.bare\" }";
        let build = build(&recipes, bare).ends_with(1);
        assert!(build.stderr.contains(said), "{said}:\n{}", build.stderr);
    }
    recipes.write("Containerfile.bare", "FROM scratch\nCOPY os.kdl /x\n");
    let build = build(
        &recipes,
        "image \"bootc\" { bootc \"./Containerfile.bare\" }",
    )
    .ends_with(4);
    assert!(
        build.stderr.contains("not a bootable one"),
        "{}",
        build.stderr
    );
}
