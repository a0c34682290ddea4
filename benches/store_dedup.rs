//! What one upgraded package adds to a store that has the disk from before.
//!
//! The file system is made anew. A file that takes another number of blocks than before moves all
//! that come after it by as many: fixed chunks are then new from there on.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::extents::for_each_block;
use crate::lab::{Lab, time};
use crate::peers::{Borg, Casync, Restic};
use crate::store::Store;
use crate::table::{Limit, Quantity, Row};
use crate::upgrade::Upgrade;

/// The recipe of the repository's Debian 12, with a package in a given version.
const RECIPE: &str = r#"recipe "upgrade" {
    param "package"
}
image "upgrade" {
    bootstrap "debian" suite="bookworm"
    packages "linux-image-cloud-amd64" "systemd-sysv" "systemd-resolved" "systemd-boot-efi" "dbus" "udev" \
        "libpam-systemd" "openssh-server" "sudo" "iproute2" "ca-certificates" "${package}"
    user "vm" sudo=#true shell="/bin/bash"
    disk size="2G"
}
"#;
const CHUNK: u64 = 64 << 10;
const LEVEL: i32 = 3;

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    let (upgrade, disks) = build_versions(lab, &mut |_, _| ());
    let [before, after] = &disks;

    let store = Store::new(&lab.path("dedup"));
    let vmfab = Quantity::Bytes(growth(
        [before, after],
        |disk| _ = store.add(disk),
        || store.stored(),
    ));
    let restic = Restic::init(&lab.path("dedup-restic"));
    let borg = Borg::init(&lab.path("dedup-borg"));
    let casync = Casync::new(&lab.path("dedup-casync"));
    let row = |limit| Row {
        what: "store add, one package upgraded: new bytes",
        vmfab,
        limit,
    };
    let ratio = |peer, needs, most| Limit::Ratio {
        peer,
        needs: Quantity::Bytes(needs),
        most,
    };
    let information = |peer, needs| Limit::None {
        peer,
        needs: Quantity::Bytes(needs),
    };
    vec![
        row(ratio("the .deb", upgrade.size, 1.6)),
        row(ratio("chunks of 64 KiB", fixed_chunks(before, after), 0.1)),
        row(information(
            "casync",
            growth(
                [before, after],
                |disk| casync.make(&name(disk), disk),
                || casync.stored(),
            ),
        )),
        row(information(
            "borg",
            growth(
                [before, after],
                |disk| borg.create(&name(disk), disk),
                || borg.stored(),
            ),
        )),
        row(information(
            "restic",
            growth(
                [before, after],
                |disk| _ = restic.backup(disk),
                || restic.stored(),
            ),
        )),
    ]
}

/// The recipe's image with both versions of a package, as raw disks. `built` is told of each when
/// it has the tag.
pub(crate) fn build_versions(
    lab: &Lab,
    built: &mut dyn FnMut(&Lab, usize),
) -> (Upgrade, [PathBuf; 2]) {
    let upgrade = Upgrade::find(&lab.path("apt"));
    eprintln!(
        "  {} from {} to {}, {} bytes",
        upgrade.package, upgrade.before, upgrade.after, upgrade.size
    );
    let recipe = lab.path("upgrade.kdl");
    fs::write(&recipe, RECIPE).unwrap();
    let versions = [(0, "before", &upgrade.before), (1, "after", &upgrade.after)];
    let disks = versions.map(|(number, name, version)| {
        let package = format!("{}={version}", upgrade.package);
        let disk = build(lab, &recipe, &package, &lab.path(&format!("{name}.raw")));
        built(lab, number);
        disk
    });
    (upgrade, disks)
}

fn build(lab: &Lab, recipe: &Path, package: &str, output: &Path) -> PathBuf {
    time(
        lab.vmfab()
            // Another measurement may have made it.
            .args(["build", "--format=raw", "--force", "--set"])
            .arg(format!("package={package}"))
            .arg("--output")
            .args([output, recipe]),
    );
    output.to_owned()
}

fn name(disk: &Path) -> String {
    disk.file_stem().unwrap().to_str().unwrap().to_owned()
}

/// By how many bytes the second disk makes something grow.
pub(crate) fn growth(
    disks: [&PathBuf; 2],
    mut add: impl FnMut(&Path),
    stored: impl Fn() -> u64,
) -> u64 {
    add(disks[0]);
    let before = stored();
    add(disks[1]);
    stored() - before
}

/// The same with chunks of a fixed size, each compressed for itself.
fn fixed_chunks(before: &Path, after: &Path) -> u64 {
    let mut known = HashSet::new();
    for_each_block(before, CHUNK, |chunk| {
        known.insert(blake3::hash(chunk));
    });
    let mut new = 0;
    for_each_block(after, CHUNK, |chunk| {
        if known.insert(blake3::hash(chunk)) {
            new += zstd::bulk::compress(chunk, LEVEL).unwrap().len() as u64;
        }
    });
    new
}
