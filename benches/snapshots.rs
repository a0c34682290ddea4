//! Snapshots, clones and exports beside `qemu-img`.

use std::time::Duration;

use crate::lab::{Lab, middle, time, tool};
use crate::table::{Limit, Row};

const ROUNDS: usize = 15;
/// What a process of vmfab may take by itself.
const START: Duration = Duration::from_millis(5);

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    let disk = lab.disk();
    let image = lab.path("snapshots-peer.qcow2");
    let (mut snapshots, mut clones, mut peers) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let name = format!("snap{round}");
        time(lab.vmfab().args(["create", &name, "--from", "@debian-12"]));
        let overlay = lab
            .home()
            .join("machines")
            .join(&name)
            .join("overlay.qcow2");
        time(
            tool("qemu-io", "qemu-utils")
                .args(["-f", "qcow2", "-c", "write -P 7 0 64M"])
                .arg(&overlay),
        );
        let saved = format!("saved{round}");
        snapshots.push(time(lab.vmfab().args([
            "snapshot",
            "create",
            &saved,
            "--machine",
            &name,
        ])));
        let clone = format!("clone{round}");
        clones.push(time(lab.vmfab().args(["clone", &name, &clone])));
        let _ = std::fs::remove_file(&image);
        peers.push(time(
            tool("qemu-img", "qemu-utils")
                .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
                .args([&disk, &image]),
        ));
        time(lab.vmfab().args(["rm", "--force", &name, &clone]));
        time(lab.vmfab().args(["snapshot", "delete", &saved]));
    }
    let most = middle(peers) / 10 + START;
    let (file, converted) = (lab.path("export.tar.gz"), lab.path("converted.qcow2"));
    let (mut exports, mut converts) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        exports.push(time(
            lab.vmfab()
                .args(["snapshot", "export", "@debian-12", "--force", "--output"])
                .arg(&file),
        ));
        let _ = std::fs::remove_file(&converted);
        converts.push(time(
            tool("qemu-img", "qemu-utils")
                .args(["convert", "-c", "-O", "qcow2"])
                .args([&disk, &converted]),
        ));
    }
    let short = |what, took: Vec<Duration>| Row {
        what,
        vmfab: middle(took).into(),
        limit: Limit::Most(most.into()),
    };
    vec![
        short("snapshot of a stopped machine, 64 MiB changed", snapshots),
        short("clone of a stopped machine", clones),
        Row {
            what: "snapshot export of Debian 12",
            vmfab: middle(exports).into(),
            limit: Limit::Ratio {
                peer: "qemu-img convert -c",
                needs: middle(converts).into(),
                most: 0.1,
            },
        },
    ]
}
