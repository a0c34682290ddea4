//! Images without an init system: vmfab brings one of its own.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::machines::{get, tree};
use super::{Bench, Layer};
use crate::support::registry::Registry;
use crate::support::{Build, Lab, Machine, Ran, Recipes, free_port};

/// Boots the image once more.
fn boot_beside(mut command: Command, directory: &Path, arguments: &[&str]) -> Build {
    command
        .args(["boot", "bare.kdl", "--json", "--memory", "256M"])
        .args(["--name", "beside", "--timeout", "900"])
        .args(arguments)
        .current_dir(directory);
    Build::of(&mut command)
}

/// What a volume has, and the size of its file system in KiB.
fn kept(port: u16) -> (String, u64) {
    // The server may come up a moment after its machine.
    let mut tries = (0..600).map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        get(port, "cgi-bin/keep")
    });
    let said = tries.find_map(|said| said).unwrap();
    let mut lines: Vec<&str> = said.split_inclusive('\n').collect();
    let size = lines.remove(1).trim().parse().unwrap();
    (lines.concat(), size)
}

/// A kernel with its initramfs and modules, as the layer of an image.
fn kernel() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let packages = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
    let mut script = Command::new("bash");
    script
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/support/kernel.sh"
        ))
        .arg(packages)
        .arg(directory.path());
    Ran::of(&mut script).ends_with(0);
    let mut tar = tar::Builder::new(Vec::new());
    tar.follow_symlinks(false);
    tar.append_dir_all("", directory.path()).unwrap();
    tar.into_inner().unwrap()
}

/// What the process is, told by a program that the server runs.
const WHO: &str = "#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
echo \"$(id -u) $(id -G) $GREETING $HOME $HOSTNAME\"
cat /proc/sys/kernel/hostname /proc/1/comm /etc/resolv.conf
";
/// Kills the server, which is the parent of this program's parent.
const KILL: &str = "#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
echo killed
server=$(cut -d' ' -f4 /proc/$PPID/stat)
(sleep 1; kill -KILL $server) >/dev/null 2>&1 &
";
/// The machines that it knows by name.
const HOSTS: &str = "#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
cat /etc/hosts
";
/// Writes a file of the volume, and shows what was in it.
const KEEP: &str = "#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
grep -c ' /srv/data ext4 rw' /proc/mounts
df -P -k /srv/data | tail -n 1 | tr -s ' ' | cut -d' ' -f2
cat /srv/data/kept 2>/dev/null
echo kept >/srv/data/kept
";
/// What it has instead of devices of virtio.
const HARDWARE: &str = "#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
for disk in /sys/block/[nsv]*; do grep -q 0 $disk/hidden && echo $disk; done
cd -P /sys/class/net/eth0/device/driver && pwd
";
/// What a directory of the host is to the guest.
const SHARED: &str = "#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
grep -o ' /srv/shared [a-z0-9]* r[ow]' /proc/mounts
cat /srv/shared/file
echo from the guest >/srv/shared/written
";
const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n";
const GROUP: &str = "root:x:0:\nweb:x:34:\nmedia:x:44:web\n";

#[test]
fn an_image_without_an_init_system_serves() {
    let bench = Bench::new();
    let registry = Registry::start();
    let port = free_port();
    let files = tree(&[
        ("bin/httpd", ""),
        ("bin/wget", ""),
        ("bin/cut", ""),
        ("bin/df", ""),
        ("bin/tail", ""),
        ("bin/tr", ""),
        ("bin/sleep", ""),
        ("bin/kill", ""),
        ("etc/passwd", PASSWD),
        ("etc/group", GROUP),
        ("srv/hello", "hello from PID 2\n"),
        ("srv/cgi-bin/who", WHO),
        ("srv/cgi-bin/kill", KILL),
        ("srv/cgi-bin/hosts", HOSTS),
        ("etc/hosts", "127.0.0.1 localhost"),
        ("srv/cgi-bin/keep", KEEP),
        ("srv/cgi-bin/hardware", HARDWARE),
        ("srv/cgi-bin/shared", SHARED),
        ("srv/data/", ""),
    ]);
    // Nothing needs a shell to start: as distroless images.
    let port_text = port.to_string();
    let url = format!("http://127.0.0.1:{port}/hello");
    let settings = json!({
        "Entrypoint": ["httpd", "-f", "-p", port_text, "-h", "/srv"],
        "Env": ["PATH=/bin", "GREETING=good day"],
        "User": "web",
        "WorkingDir": "/srv/work",
        "ExposedPorts": { format!("{port}/tcp"): {} },
        "Healthcheck": { "Test": ["CMD", "wget", "-q", "-O", "/dev/null", url] },
    });
    bench.image(
        &[Layer::new("", &kernel()), Layer::new("+gzip", &files)],
        settings,
    );
    bench.push(&registry);
    let recipes = Recipes::new();
    let base = registry.at("team/base:1");
    let recipe = format!(
        "image \"bare\" {{\n    from \"oci://{base}\" service=#true\n    \
         kernel \"/boot/vmlinuz-virt\"\n    disk size=\"128M\"\n    \
         boot disk-bus=\"sata\" nic=\"e1000\"\n}}\n"
    );
    recipes.write("bare.kdl", &recipe);
    let arguments = ["bare.kdl", "--memory", "256M"];
    let machine = Machine::boot("bare", recipes.directory(), arguments);

    // Nobody logs in, and it answers: `boot` waited for the health check.
    assert_eq!(get(port, "hello").unwrap(), "hello from PID 2\n");
    let who = get(port, "cgi-bin/who").unwrap();
    let expected = "33 34 44 good day /srv bare\nbare\ninit\nnameserver 10.0.2.3\n";
    assert_eq!(who, expected);

    // The image has no drivers of virtio, as far as it says.
    let hardware = |port| get(port, "cgi-bin/hardware").unwrap();
    assert_eq!(
        hardware(port),
        "/sys/block/sda\n/sys/bus/pci/drivers/e1000\n"
    );

    // It is started again when it was killed.
    assert_eq!(get(port, "cgi-bin/kill").unwrap(), "killed\n");
    let log = || Lab::get().run(["logs", "bare"]).stdout;
    let patience = Instant::now() + Duration::from_secs(300);
    while !log().contains("vmfab-init: the image's process failed; it is started again") {
        assert!(Instant::now() < patience, "{}", log());
        std::thread::sleep(Duration::from_millis(100));
    }
    while get(port, "hello").is_none() {
        assert!(Instant::now() < patience, "{}", log());
        std::thread::sleep(Duration::from_millis(100));
    }

    // A second machine of the image has another port of the host, as the first one has that.
    let shared = recipes.directory().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, Permissions::from_mode(0o777)).unwrap();
    fs::write(shared.join("file"), "from the host\n").unwrap();
    let share = "./shared:/srv/shared";
    let own = [
        "--disk-bus",
        "nvme",
        "--nic",
        "virtio",
        "--volume",
        share,
        "--network",
        "group",
        "--volume",
        "bare-data:/srv/data",
    ];
    // Without virtiofsd, QEMU serves the directory.
    let mut without = Lab::get().command();
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::split_paths(&path).filter(|path| !path.join("virtiofsd").exists());
    without.env("PATH", std::env::join_paths(path).unwrap());
    let second = boot_beside(without, recipes.directory(), &own);
    let other = second.succeeds().result()["ports"][0]["host"]
        .as_u64()
        .unwrap();
    assert_ne!(other, u64::from(port));
    let other = u16::try_from(other).unwrap();
    assert_eq!(get(other, "hello").unwrap(), "hello from PID 2\n");
    let virtio = "/sys/bus/virtio/drivers/virtio_net\n";
    let devices = hardware(other);
    assert_eq!(
        devices,
        format!("/sys/block/nvme0n1\n/sys/block/nvme1n1\n{virtio}")
    );
    let exchange = |port, kind: &str| {
        let seen = get(port, "cgi-bin/shared").unwrap();
        assert_eq!(seen, format!(" /srv/shared {kind}\nfrom the host\n"));
        fs::read_to_string(shared.join("written")).unwrap_or_default()
    };
    assert_eq!(exchange(other, "9p rw"), "from the guest\n");
    fs::remove_file(shared.join("written")).unwrap();
    // It has a place in the private network, too.
    let hosts = get(other, "cgi-bin/hosts").unwrap();
    assert!(hosts.starts_with("127.0.0.1 localhost\n"), "{hosts}");
    let line = hosts
        .lines()
        .find_map(|line| line.strip_suffix(" beside # vmfab"));
    let address = line.unwrap_or_else(|| panic!("{hosts}"));
    let said = Lab::get().run(["logs", "beside"]).stdout;
    assert!(
        said.contains(&format!("eth1 has the address {address}")),
        "{said}"
    );
    // A port that the user asks for is that one or none.
    // Its volume outlives it, and belongs to whom its directory in the image belongs to.
    let first = kept(other);
    assert_eq!(first.0, "1\n");
    Lab::get().run(["stop", "beside"]).ends_with(0);
    Lab::get().run(["rm", "beside"]).ends_with(0);
    Lab::get()
        .run(["volume", "resize", "bare-data", "12G"])
        .ends_with(0);
    let third = boot_beside(
        Lab::get().command(),
        recipes.directory(),
        &[
            "--machine-type",
            "pc",
            "--volume",
            "bare-data:/srv/data",
            "--volume",
            "./shared:/srv/shared:ro",
        ],
    );
    let other = third.succeeds().result()["ports"][0]["host"]
        .as_u64()
        .unwrap();
    let other = u16::try_from(other).unwrap();
    let later = kept(other);
    assert_eq!(later.0, "1\nkept\n");
    assert!(later.1 > first.1 + (1 << 20), "{first:?} {later:?}");
    assert_eq!(
        hardware(other),
        "/sys/block/sda\n/sys/block/sdb\n/sys/bus/pci/drivers/e1000\n"
    );
    assert_eq!(exchange(other, "virtiofs ro"), "");
    Lab::get().run(["rm", "--force", "beside"]).ends_with(0);
    let asked = format!("{port}:{port}");
    let refused = boot_beside(Lab::get().command(), recipes.directory(), &["-p", &asked]);
    let said = refused.ends_with(1).error().to_string();
    assert!(said.contains("bare") && said.contains("has it"), "{said}");

    // Nobody can log in, and that is said at once.
    let said = machine.ssh("true").ends_with(1).stderr;
    assert!(said.contains("its image has no SSH server"), "{said}");

    assert_eq!(machine.stop()[0]["by"], "guest");
    let said = log();
    assert!(said.contains("vmfab-init: stopping"), "{said}");

    // It has no identity that would have to go: neither from an image of it nor from a clone.
    let run = |words: &[&str]| {
        let mut command = Lab::get().command();
        Ran::of(command.args(words)).ends_with(0)
    };
    run(&["commit", "bare", "@bare-on"]);
    run(&["create", "bare-on", "--from", "@bare-on"]);
    run(&["commit", "bare-on", "@bare-on", "--quiet"]);
    run(&["rm", "bare-on"]);
    run(&["clone", "bare", "bare-too"]);
    let started = run(&["start", "bare-too", "--timeout", "900"]);
    assert!(!started.stderr.contains("two boots"), "{started:?}");
    run(&["rm", "--force", "bare-too"]);
}
