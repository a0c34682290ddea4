//! A bill of materials of Debian with Docker, beside that of syft, which reads the same tree as a
//! directory.

use std::path::Path;

use crate::lab::{Lab, median, remove, time, tool};
use crate::peers::syft;
use crate::table::{Limit, Row};

const ROUNDS: usize = 5;

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    lab.ensure_built();
    let (disk, tree) = (lab.path("bill.raw"), lab.path("bill-tree"));
    time(
        lab.docker_build()
            .args(["--format=raw", "--force", "--output"])
            .arg(&disk),
    );
    unpack(&disk, &tree);
    let (own, theirs) = (lab.path("bill.json"), lab.path("syft.json"));
    let vmfab = median(ROUNDS, || {
        remove(&own);
        let mut command = lab.vmfab();
        command.args(["image", "sbom", "@docker", "--format=spdx", "--output"]);
        time(command.arg(&own))
    });
    let peer = median(ROUNDS, || time(&mut syft(&tree, &theirs)));
    vec![Row {
        what: "bill of materials of Debian with Docker",
        vmfab: vmfab.into(),
        limit: Limit::Ratio {
            peer: "syft, of the unpacked tree",
            needs: peer.into(),
            most: 0.5,
        },
    }]
}

/// Copies the files of a disk without partitions to a directory.
fn unpack(disk: &Path, tree: &Path) {
    remove(tree);
    std::fs::create_dir(tree).unwrap();
    time(
        tool("debugfs", "e2fsprogs")
            .arg("-R")
            .arg(format!("rdump / {}", tree.display()))
            .arg(disk),
    );
    assert!(tree.join("var/lib/dpkg/status").exists(), "no tree came");
}
