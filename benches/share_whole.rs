//! A whole image to a registry on this host and back: Debian with Docker.
//!
//! The peer moves the same disk as one blob that is compressed already, and neither compresses nor
//! unpacks it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::lab::{Lab, middle, peak_memory, remove, time, vmfab};
use crate::peers::{DiskLayout, Registry, skopeo_pull};
use crate::table::{Limit, Quantity, Row};

const RUNS: usize = 5;

/// What one direction takes.
#[derive(Clone, Copy)]
struct Cost {
    time: Quantity,
    memory: Quantity,
}

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    lab.ensure_built();
    let disk = lab.path("docker.raw");
    time(
        lab.docker_build()
            .args(["--format=raw", "--output"])
            .arg(&disk),
    );
    let layout = DiskLayout::make(&disk, &lab.path("docker-layout"));
    let directory = lab.path("registry");

    let to_registry = |command: &dyn Fn(&str) -> Command| {
        cost(|| {
            let registry = Registry::start(&directory);
            let command = command(&registry.direct("bench/docker:1"));
            (command, registry)
        })
    };
    let push = to_registry(&|to| {
        let mut command = lab.vmfab();
        command.args(["push", "@docker", to]);
        command
    });
    let peer_push = to_registry(&|to| layout.push(to));

    let registry = Registry::start(&directory);
    let (ours, theirs) = (
        registry.direct("bench/docker:1"),
        registry.direct("bench/disk:1"),
    );
    time(lab.vmfab().args(["push", "@docker", &ours]));
    time(&mut layout.push(&theirs));
    let home = lab.path("pulled");
    let pull = cost(|| (pull_into(&home, &ours), ()));
    let copied = lab.path("copied");
    let peer_pull = cost(|| (skopeo_pull(&theirs, &copied), ()));

    [
        ("push of Debian with Docker", push, peer_push),
        ("pull of Debian with Docker", pull, peer_pull),
    ]
    .into_iter()
    .zip([
        "memory of push of Debian with Docker",
        "memory of pull of Debian with Docker",
    ])
    .flat_map(|((what, own, peer), what_memory)| {
        let row = |what, vmfab, limit| Row { what, vmfab, limit };
        let peer_is = "skopeo copy, one layer";
        [
            row(
                what,
                own.time,
                Limit::Ratio {
                    peer: peer_is,
                    needs: peer.time,
                    most: 0.5,
                },
            ),
            row(
                what_memory,
                own.memory,
                Limit::Most(Quantity::Bytes(96 << 20)),
            ),
        ]
    })
    .collect()
}

/// `vmfab pull` into an empty home.
pub(crate) fn pull_into(home: &Path, from: &str) -> Command {
    remove(home);
    let mut command = vmfab(home);
    command.args(["pull", from]);
    command
}

/// Runs what is prepared anew each time; what it needs lives as long as it runs.
fn cost<T>(mut prepare: impl FnMut() -> (Command, T)) -> Cost {
    let times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let (mut command, _needed) = prepare();
            time(&mut command)
        })
        .collect();
    let (command, _needed) = prepare();
    Cost {
        time: middle(times).into(),
        memory: Quantity::Bytes(peak_memory(&command)),
    }
}
