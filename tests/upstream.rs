//! Disks of upstream's, as a newcomer meets them: from an empty folder to a shell. A server of our
//! own stands for upstream's through the mirror setting; the disk that it serves boots (see
//! `support/alpine-disk.sh`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::support::http::{Fault, Server};
use super::support::{Build, Lab, Machine, Ran, Recipes, program};

const DISK: &str = "aws_alpine-3.22.2-x86_64-bios-tiny-r0.vhd";
const RELEASE: &str = "/dl-cdn.alpinelinux.org/alpine/v3.22/releases/cloud";

/// The disk, made once for a run, and its SHA-256.
fn disk() -> &'static (Vec<u8>, String) {
    static DISK: OnceLock<(Vec<u8>, String)> = OnceLock::new();
    DISK.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.vhd");
        let packages = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alpine-disk.sh");
        let mut command = Command::new("bash");
        command.arg(script).arg(&path).arg(packages);
        // Alpine's own root file system, where somebody has it.
        command.args(std::env::var_os("VMFAB_TEST_ALPINE"));
        Ran::of(&mut command).ends_with(0);
        let bytes = fs::read(&path).unwrap();
        let sum = Sha256::digest(&bytes);
        let sum = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        (bytes, sum)
    })
}

/// A newcomer: an empty home, an empty folder, and a server that stands before all others.
struct Newcomer {
    home: TempDir,
    folder: TempDir,
    server: Server,
}

impl Newcomer {
    fn new() -> Self {
        let server = Server::start();
        server.put(&format!("{RELEASE}/{DISK}"), disk().0.clone());
        Self {
            home: tempfile::tempdir().unwrap(),
            folder: tempfile::tempdir().unwrap(),
            server,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("VMFAB_HOME", self.home.path())
            .env("VMFAB_CONFIG", self.config())
            .env("VMFAB_MIRROR", format!("*={}", self.server.url("/")));
        command
    }

    /// One try each, so that failures are quick.
    fn config(&self) -> PathBuf {
        let path = self.home.path().join("config.kdl");
        fs::write(&path, "downloads retries=0\n").unwrap();
        path
    }

    #[track_caller]
    fn run(&self, arguments: &[&str], code: i32) -> Ran {
        Ran::of(&mut self.command(arguments)).ends_with(code)
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        Ran::of(&mut self.command(&["down", "--rm", "--yes", "--force"]));
    }
}

#[test]
fn from_an_empty_folder_to_a_shell_in_alpine() {
    let _turn = Machine::turn();
    let newcomer = Newcomer::new();
    let sum = format!("disk-sha256={}", disk().1);
    let up = ["up", "--accel", "tcg", "--timeout", "300", "--set", &sum];
    let first = newcomer.run(&up, 0);
    assert!(!first.stderr.contains("cache hit"), "{}", first.stderr);
    let asked = [format!("GET {RELEASE}/{DISK}")];
    assert_eq!(newcomer.server.asked(), asked);

    let shell = newcomer.run(
        &["ssh", "--", "id -un; cat /proc/cmdline; touch mine; sync"],
        0,
    );
    assert!(shell.stdout.starts_with("alpine\n"), "{}", shell.stdout);
    assert!(shell.stdout.contains("root=LABEL=/"), "{}", shell.stdout);
    newcomer.run(&["down", "--force"], 0);

    // The second time: the same machine, and no connection at all.
    let connections = newcomer.server.connections();
    let second = newcomer.run(&up, 0);
    assert!(
        second.stderr.contains("alpine: cache hit"),
        "{}",
        second.stderr
    );
    assert_eq!(newcomer.run(&["ssh", "--", "ls"], 0).stdout, "mine\n");
    newcomer.run(&["down", "--rm", "--yes", "--force"], 0);
    // A new machine of the image that is here, offline.
    let mut offline = up.to_vec();
    offline.push("--offline");
    let third = newcomer.run(&offline, 0);
    assert!(
        third.stderr.contains("alpine: cache hit"),
        "{}",
        third.stderr
    );
    assert_eq!(newcomer.run(&["ssh", "--", "ls"], 0).stdout, "");
    assert_eq!(newcomer.server.connections(), connections);
}

#[test]
fn four_things_that_go_wrong_have_four_remedies() {
    let newcomer = Newcomer::new();
    let path = format!("{RELEASE}/{DISK}");
    let sum = format!("disk-sha256={}", disk().1);
    let up = ["up", "--set", &sum];

    let offline = newcomer.run(&["up", "--offline", "--set", &sum], 1).stderr;
    assert!(offline.contains("offline"), "{offline}");
    assert!(offline.contains(&format!("https:/{path}")), "{offline}");
    assert!(offline.contains("without --offline"), "{offline}");
    assert_eq!(newcomer.server.connections(), 0);

    newcomer.server.next(&path, Fault::Status(503, None));
    // The mirror goes before the address itself, which cannot be reached from where tests run.
    let only = format!(
        "mirror \"*\" \"{}\" only=#true\ndownloads retries=0\n",
        newcomer.server.url("/")
    );
    let download = |arguments: &[&str], code| {
        let mut command = newcomer.command(arguments);
        fs::write(newcomer.home.path().join("config.kdl"), &only).unwrap();
        Ran::of(command.env_remove("VMFAB_MIRROR"))
            .ends_with(code)
            .stderr
    };
    let failed = download(&up, 1);
    assert!(
        failed.contains("503") && failed.contains("mirror"),
        "{failed}"
    );

    let wrong = format!("disk-sha256={}", "0".repeat(64));
    let mismatch = download(&["up", "--set", &wrong], 6);
    assert!(mismatch.contains(&disk().1), "{mismatch}");
    assert!(mismatch.contains("vmfab update"), "{mismatch}");

    // Before anything is asked of the network.
    let connections = newcomer.server.connections();
    let empty = tempfile::tempdir().unwrap();
    let recipe = "image \"x\" { disk { fetch \"https://example.org/x.qcow2\" sha256=\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"; convert from=\"qcow2\" } }\n";
    fs::write(newcomer.folder.path().join("x.kdl"), recipe).unwrap();
    let mut command = newcomer.command(&["build", "x.kdl"]);
    let missing = Ran::of(command.env("PATH", empty.path()))
        .ends_with(5)
        .stderr;
    assert!(missing.contains("qemu-img"), "{missing}");
    assert!(missing.contains("apt-get install"), "{missing}");
    assert!(missing.contains("qemu-utils"), "{missing}");
    assert_eq!(newcomer.server.connections(), connections);
}

#[test]
fn a_download_that_was_cut_goes_on_where_it_was() {
    let newcomer = Newcomer::new();
    let path = format!("{RELEASE}/{DISK}");
    let size = disk().0.len();
    let sum = format!("disk-sha256={}", disk().1);
    let only = format!(
        "mirror \"*\" \"{}\" only=#true\ndownloads retries=0\n",
        newcomer.server.url("/")
    );
    let build = |code| {
        let mut command = newcomer.command(&["build", "alpine", "--set", &sum]);
        fs::write(newcomer.home.path().join("config.kdl"), &only).unwrap();
        Ran::of(command.env_remove("VMFAB_MIRROR")).ends_with(code)
    };
    newcomer.server.next(&path, Fault::Cut(100 << 20));
    build(1);
    build(0);
    let asked = newcomer.server.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked[1].contains("bytes="), "{asked:?}");
    // Nothing came twice, but what was on its way when the connection ended.
    assert!(
        newcomer.server.sent() < size + (4 << 20),
        "{}",
        newcomer.server.sent()
    );
    // What was downloaded is in the store, and nowhere else.
    let left = fs::read_dir(newcomer.home.path().join("cache/downloads"));
    let left: Vec<_> = left
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().ends_with(".partial")),
        "{left:?}"
    );
}

/// The recipe of a role on a disk that somebody else made.
fn role(last: &str) -> String {
    format!(
        "image \"role-on-disk\" {{
    from \"./somebodys.qcow2\"
    kernel \"/vmlinuz\" initrd=\"/initrd.img\"
    boot \"root=LABEL=vmfab-root\"
    run \"echo first > /srv/first\"
    packages \"tree\"
    user \"worker\" sudo=#true
    run \"echo {last} > /srv/last\"
    check \"test -e /srv/last && systemctl is-active ssh\"
}}
"
    )
}

#[test]
fn a_role_on_a_disk_that_somebody_else_made() {
    let recipes = Recipes::new();
    let lab = Lab::get();
    let turn = Machine::turn();
    // A disk of Debian, with its kernel where Debian's links have it.
    recipes.image(
        "somebodys",
        "run \"ln -sf boot/vmlinuz-* /vmlinuz; ln -sf boot/initrd.img-* /initrd.img\"",
    );
    let mut export = lab.command();
    export
        .args(["build", "somebodys.kdl", "--output", "somebodys.qcow2"])
        .current_dir(recipes.directory());
    Ran::of(&mut export).ends_with(0);
    let disk = recipes.path("somebodys.qcow2");
    let before = (
        fs::metadata(&disk).unwrap().modified().unwrap(),
        fs::read(&disk).unwrap().len(),
    );

    let build = |last: &str| {
        recipes.write("role.kdl", &role(last));
        let mut command = lab.command();
        command
            .args(["build", "role.kdl", "--json"])
            .current_dir(recipes.directory());
        Build::of(&mut command).succeeds()
    };
    let first = build("one");
    assert!(
        first
            .ended("built")
            .contains(&"role-on-disk: packages tree")
    );
    let boots = |build: &Build| {
        build
            .events("step-output")
            .filter(|event| {
                event["line"]
                    .as_str()
                    .is_some_and(|line| line.starts_with("boot: ready"))
            })
            .count()
    };
    assert_eq!(boots(&first), 1, "one boot for all steps");

    // Another last step: it alone runs, in a machine with the disk before it.
    let second = build("two");
    assert_eq!(boots(&second), 1);
    let ran = second.started();
    assert!(
        ran.iter()
            .all(|name| !name.contains("packages") && !name.contains("first")),
        "{ran:?}"
    );
    assert!(
        ran.contains(&"role-on-disk: run echo two > /srv/last"),
        "{ran:?}"
    );
    // Nothing changed: nothing runs.
    assert_eq!(build("two").started(), Vec::<&str>::new());
    let after = (
        fs::metadata(&disk).unwrap().modified().unwrap(),
        fs::read(&disk).unwrap().len(),
    );
    assert_eq!(before, after, "the disk of somebody else is as it was");

    // A step that hangs is ended, and its log has what the machine wrote to its console.
    let hanging = role("two").replace("    check", "    run \"echo about to hang; echo said > /dev/console; sleep 1000\" timeout=\"3s\"\n    check");
    recipes.write("role.kdl", &hanging);
    let mut command = lab.command();
    command
        .args(["build", "role.kdl", "--json", "--tag", "hangs"])
        .current_dir(recipes.directory());
    let hung = Build::of(&mut command).ends_with(1);
    assert!(
        hung.stderr.contains("took longer than its limit of 3 s"),
        "{}",
        hung.stderr
    );
    let started = hung.events("step-started").last().unwrap();
    let log = fs::read_to_string(started["log"].as_str().unwrap()).unwrap();
    assert!(
        log.contains("about to hang") && log.contains("said"),
        "{log}"
    );
    assert!(log.contains("console of the machine"), "{log}");

    drop(turn);
    let machine = Machine::boot("role-on-disk", recipes.directory(), ["@role-on-disk"]);
    assert_eq!(
        machine.output("cat /srv/first /srv/last; sudo id -un"),
        "first\ntwo\nroot"
    );
    machine.output("tree --version");
    // An identity of its own, and nothing of the machine that the steps ran in.
    assert_eq!(machine.output("cat /etc/machine-id").len(), 32);
    let keys =
        machine.output("sudo cat /root/.ssh/authorized_keys* | grep -c 'vmfab machine of'; true");
    let own = machine.output(
        "sudo cat /root/.ssh/authorized_keys* | grep -c 'vmfab machine of role-on-disk'; true",
    );
    assert_eq!(keys, own);
}

#[test]
fn a_role_that_cannot_be_built_gives_way_to_its_base_when_asked() {
    let _turn = Machine::turn();
    let newcomer = Newcomer::new();
    let recipe = format!(
        "image \"role\" {{ from \"alpine\" {{ set \"disk-sha256\" \"{}\" }}; copy \"./gone\" \"/gone\" }}\n",
        disk().1
    );
    let folder = newcomer.folder.path();
    fs::write(folder.join("role.kdl"), recipe).unwrap();
    fs::create_dir(folder.join("gone")).unwrap();
    fs::write(folder.join("gone/file"), "x").unwrap();
    // The account of the disk may not become root: the step cannot be done.
    let boot = [
        "boot",
        "role.kdl",
        "--name",
        "role",
        "--accel",
        "tcg",
        "--timeout",
        "300",
    ];
    let failed = newcomer.run(&boot, 1).stderr;
    assert!(failed.contains("neither sudo nor doas"), "{failed}");
    let mut asked = boot.to_vec();
    asked.push("--fallback");
    let booted = newcomer.run(&asked, 0).stderr;
    assert!(booted.contains("role.kdl cannot be built"), "{booted}");
    assert!(booted.contains("booting alpine instead of"), "{booted}");
    assert_eq!(
        newcomer.run(&["ssh", "role", "--", "id -un"], 0).stdout,
        "alpine\n"
    );
    newcomer.run(&["rm", "--force", "role"], 0);
}

#[test]
fn content_without_a_checksum_is_held_to_the_lock() {
    let newcomer = Newcomer::new();
    let folder = newcomer.folder.path();
    let disk = folder.join("disk.raw");
    // With the mark of a boot sector.
    let content = |byte: u8| {
        let mut content = vec![byte; 1 << 20];
        content[510..512].copy_from_slice(&[0x55, 0xaa]);
        content
    };
    fs::write(&disk, content(7)).unwrap();
    let recipe = format!(
        "image \"x\" {{ disk {{ fetch \"file://{}\" }} }}\n",
        disk.display()
    );
    fs::write(folder.join("x.kdl"), recipe).unwrap();
    let unpinned = newcomer.run(&["build", "x.kdl"], 4).stderr;
    assert!(unpinned.contains("vmfab lock"), "{unpinned}");
    newcomer.run(&["lock", "x.kdl"], 0);
    let lock = fs::read_to_string(folder.join("vmfab.lock")).unwrap();
    assert!(lock.contains("size=1048576"), "{lock}");
    newcomer.run(&["build", "x.kdl", "--locked"], 0);
    // What came later is another thing, in an empty home too; the one that was locked is still
    // here.
    fs::write(&disk, content(8)).unwrap();
    newcomer.run(&["build", "x.kdl", "--locked", "--offline"], 0);
    let home = tempfile::tempdir().unwrap();
    let mut command = newcomer.command(&["build", "x.kdl", "--locked"]);
    let elsewhere = Ran::of(command.env("VMFAB_HOME", home.path())).ends_with(6);
    assert!(
        elsewhere.stderr.contains("is not what it should be"),
        "{}",
        elsewhere.stderr
    );
    // And is accepted when that is wanted.
    let updated = newcomer.run(&["update"], 0);
    assert!(updated.stdout.contains("disk.raw"), "{}", updated.stdout);
    newcomer.run(&["build", "x.kdl", "--locked"], 0);
}
