//! Bootable containers: the image of `fixtures/bootc`, whose `bootc` is a stand-in. Machines of it
//! beside QEMU with the very arguments that vmfab gave it, its installation beside the same `bootc`
//! by hand, and what a new version of it adds to the store.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::boot_first_byte::command_line_of_qemu;
use crate::lab::{Lab, copy_tree, middle, remove, time, tool};
use crate::store::Store;
use crate::store_dedup::growth;
use crate::table::{Limit, Quantity, Row};
use crate::up_warm::by_hand;
use crate::upgrade::Upgrade;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/bootc");
const ROUNDS: usize = 3;
const NAME: &str = "bench-bootc";
/// A limit for waiting, in seconds.
const PATIENCE: &str = "--timeout=900";

/// A directory with the files of the fixture, and a container of them in a layout beside it.
fn fixture(lab: &Lab) -> PathBuf {
    let directory = lab.path("bootc");
    if directory.join("Containerfile").exists() {
        return directory;
    }
    fs::create_dir_all(directory.join("plain")).unwrap();
    let read = |name: &str| fs::read_to_string(Path::new(FIXTURES).join(name)).unwrap();
    for name in ["bootc", "host-keys.service", "os.kdl", "Containerfile"] {
        fs::write(directory.join("plain").join(name), read(name)).unwrap();
    }
    // As an ordinary container it is pushed, and boots its own kernel.
    let plain = read("Containerfile")
        .replace("LABEL containers.bootc=1\n", "")
        .replace("rm /boot/*", "true");
    fs::write(directory.join("plain/Containerfile"), plain).unwrap();
    let base = read("os.kdl");
    let (_, base) = base.split_once("image \"base\"").unwrap();
    let recipe = format!(
        "image \"plain\" {{ dockerfile \"./Containerfile\" {{ context \"base\" \"base\" }} }}\n\
         image \"base\"{base}"
    );
    fs::write(directory.join("plain/plain.kdl"), recipe).unwrap();
    let vmfab = |arguments: &[&str]| {
        time(
            lab.vmfab()
                .args(arguments)
                .current_dir(directory.join("plain")),
        );
    };
    vmfab(&["build", "plain.kdl"]);
    vmfab(&["push", "@plain", "oci:../layout:1", "--layout", "container"]);
    let labelled = "FROM oci:layout:1\nLABEL containers.bootc=1\n";
    fs::write(directory.join("Containerfile"), labelled).unwrap();
    directory
}

/// A machine that is removed whatever happens.
struct Machine<'a> {
    lab: &'a Lab,
    directory: PathBuf,
}

impl<'a> Machine<'a> {
    fn of(lab: &'a Lab, fixture: &Path) -> Self {
        Self {
            lab,
            directory: fixture.to_owned(),
        }
    }

    fn vmfab(&self, arguments: &[&str]) -> Command {
        let mut command = self.lab.vmfab();
        command.args(arguments).current_dir(&self.directory);
        command
    }

    /// How long it takes until a first command over SSH succeeded, and for QEMU by hand.
    fn measure(&self, start: &[&str]) -> (Duration, Duration) {
        let started = Instant::now();
        time(&mut self.vmfab(start));
        // In the background it is only started.
        if start.contains(&"-B") {
            time(&mut self.vmfab(&["wait", PATIENCE, NAME]));
        }
        let ours = started.elapsed();
        let machine = self.lab.home().join("machines").join(NAME);
        let arguments = command_line_of_qemu(&machine);
        // `rm` of a machine that goes when it is stopped would take the directory, too.
        let kept = self.lab.path("bootc-by-hand");
        copy_tree(&machine, &kept);
        drop(self.vmfab(&["rm", "--force", NAME]).output());
        fs::rename(&kept, &machine).unwrap();
        let by_hand = by_hand(&machine, &arguments, "root");
        remove(&machine);
        (ours, by_hand)
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        drop(self.vmfab(&["rm", "--force", NAME]).output());
    }
}

/// `pb run` of an image that is installed, and `ephemeral run`, until SSH.
pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    let directory = fixture(lab);
    let rows = [
        (
            "second pb run of an installed bootc image, until SSH",
            &[
                "pb",
                "run",
                "-B",
                "./Containerfile",
                "--name",
                NAME,
                PATIENCE,
            ][..],
            1.05,
        ),
        (
            "ephemeral run of a bootc image, until SSH",
            &[
                "ephemeral",
                "run",
                "./Containerfile",
                "--name",
                NAME,
                PATIENCE,
            ][..],
            1.05,
        ),
    ];
    let lab = &*lab;
    rows.map(|(what, start, most)| {
        let machine = Machine::of(lab, &directory);
        // Builds and installs what the others find.
        time(&mut machine.vmfab(start));
        drop(machine);
        let machine = Machine::of(lab, &directory);
        let (ours, peers) = (0..ROUNDS).map(|_| machine.measure(start)).unzip();
        Row {
            what,
            vmfab: middle(ours).into(),
            limit: Limit::Ratio {
                peer: "QEMU and ssh, same arguments",
                needs: middle(peers).into(),
                most,
            },
        }
    })
    .into()
}

/// The installation, and the same `bootc` by hand in a machine of the same tree.
pub(crate) fn install(lab: &mut Lab) -> Vec<Row> {
    let directory = fixture(lab);
    let lab = &*lab;
    let layout = layout_disk(lab, &directory);
    let machine = Machine::of(lab, &directory);
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let karg = format!("round={round}");
        let output = lab.path("bootc-installed.raw");
        let to_disk = ["to-disk", "./Containerfile", output.to_str().unwrap()];
        // What is written to a file counts for nobody: the disk is in the store already.
        let install = [&to_disk[..], &["--disk-size=4G", "--karg", &karg]].concat();
        let started = Instant::now();
        time(&mut machine.vmfab(&install));
        let whole = started.elapsed();
        remove(&output);
        let written = time(&mut machine.vmfab(&install));
        remove(&output);
        ours.push(whole.saturating_sub(written));

        let started = Instant::now();
        let disk = layout.to_str().unwrap();
        let boot = [
            "ephemeral",
            "run",
            "./Containerfile",
            "--name",
            NAME,
            PATIENCE,
        ];
        let memory = ["--memory=2G", "--disk", "4G", "--disk", disk];
        time(&mut machine.vmfab(&[&boot[..], &memory].concat()));
        let script = "mkdir -p /run/vmfab && mount -r LABEL=by-hand /run/vmfab && bootc install \
                      to-disk --generic-image --skip-fetch-check --source-imgref \
                      oci:/run/vmfab /dev/vdb && sync";
        time(&mut machine.vmfab(&["ssh", NAME, "--", script]));
        peers.push(started.elapsed());
        time(&mut machine.vmfab(&["rm", "--force", NAME]));
    }
    vec![Row {
        what: "bootc install to-disk",
        vmfab: middle(ours).into(),
        limit: Limit::Ratio {
            peer: "the same bootc by hand in a machine of the same tree",
            needs: middle(peers).into(),
            most: 1.2,
        },
    }]
}

/// A disk with the image as an OCI layout, whose layers are bare tars as in vmfab's.
fn layout_disk(lab: &Lab, directory: &Path) -> PathBuf {
    let disk = lab.path("bootc-layout.raw");
    let copy = |options: &[&str], from: &str, to: &str| {
        let mut skopeo = tool("skopeo", "skopeo");
        skopeo
            .args(["copy", "--quiet"])
            .args(options)
            .args([from, to]);
        time(skopeo.current_dir(directory));
    };
    copy(&[], "oci:layout:1", "docker-archive:plain.tar:plain:1");
    let bare = ["--dest-oci-accept-uncompressed-layers"];
    copy(&bare, "docker-archive:plain.tar", "oci:bare");
    time(
        tool("mke2fs", "e2fsprogs")
            .args(["-q", "-t", "ext4", "-L", "by-hand", "-d", "bare"])
            .arg(&disk)
            .arg("3G")
            .current_dir(directory),
    );
    disk
}

/// What a new version with one changed package adds to the store, for each file system.
pub(crate) fn upgrade(lab: &mut Lab) -> Vec<Row> {
    let directory = fixture(lab).join("plain");
    let upgrade = Upgrade::find(&lab.path("apt"));
    eprintln!(
        "  {} from {} to {}, {} bytes",
        upgrade.package, upgrade.before, upgrade.after, upgrade.size
    );
    let containerfile = fs::read_to_string(Path::new(FIXTURES).join("Containerfile")).unwrap();
    let lab = &*lab;
    let rows = [
        (
            "ext4",
            "bootc image on ext4, one package upgraded: new bytes",
        ),
        ("xfs", "bootc image on xfs, one package upgraded: new bytes"),
    ];
    rows.map(|(filesystem, what)| {
        let versions = [&upgrade.before, &upgrade.after];
        let disks = versions.map(|version| {
            // One layer more, as people write it.
            let more = format!(
                "RUN apt-get update -q && apt-get install -qy --no-install-recommends \
                 --allow-downgrades {}={version} && rm -rf /var/lib/apt/lists/*\nLABEL",
                upgrade.package
            );
            let text = containerfile.replace("LABEL", &more);
            fs::write(directory.join("Containerfile.versions"), text).unwrap();
            let recipe = format!(
                "include \"./os.kdl\"\nimage \"versions\" {{\n    bootc \"versioned\" \
                 filesystem=\"{filesystem}\"\n    disk size=\"4G\"\n}}\nimage \"versioned\" {{\n    \
                 dockerfile \"./Containerfile.versions\" {{ context \"base\" \"base\" }}\n}}\n"
            );
            fs::write(directory.join("versions.kdl"), recipe).unwrap();
            let output = lab.path(&format!("bootc-{filesystem}-{version}.raw"));
            time(
                lab.vmfab()
                    .args(["build", "versions.kdl", "--format=raw", "--force", "--output"])
                    .arg(&output)
                    .current_dir(&directory),
            );
            output
        });
        let store = Store::new(&lab.path("bootc-store"));
        let [before, after] = &disks;
        let grown = growth([before, after], |disk| _ = store.add(disk), || store.stored());
        Row {
            what,
            vmfab: Quantity::Bytes(grown),
            limit: Limit::Ratio {
                peer: "the .deb",
                needs: Quantity::Bytes(upgrade.size),
                most: 3.0,
            },
        }
    })
    .into()
}
