//! Dockerfiles, beside BuildKit with the same files. The peer ends with a container image in its
//! store. vmfab has the same then, the layers of the last stage, and goes on to a disk that boots:
//! the rows say both times, and what is compared under a limit is the one of equal ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lab::{Lab, median, middle, remove, time, tool};
use crate::table::{Limit, Row};

const RUNS: usize = 3;
const UNCHANGED_RUNS: usize = 11;
const SMALL_FILES: usize = 50_000;
/// All files of the context together, with the tree of the base.
const CONTEXT: u64 = 371 << 20;

/// Ten instructions; the second and the third stage need nothing of each other.
const DOCKERFILE: &str = "\
FROM scratch AS base
ADD base.tar /
FROM base AS one
RUN seq 400000 | sort -R | sort -n | gzip > /one
RUN gzip -dc /one | md5sum > /one.sum
FROM base AS two
RUN seq 400000 | sort -R | sort -n | gzip > /two
RUN gzip -dc /two | md5sum > /two.sum
FROM base
COPY --from=one /one /one.sum /srv/
COPY --from=two /two /two.sum /srv/
COPY big /srv/big
RUN cat /srv/*.sum > /srv/sums
COPY last /srv/last
";

const SMALL: &str = "\
FROM scratch
ADD base.tar /
COPY small /srv/small
RUN ls /srv/small > /srv/list
";

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    let (large, small) = (lab.path("dockerfile"), lab.path("dockerfile-small"));
    for directory in [&large, &small.join("small")] {
        fs::create_dir_all(directory).unwrap();
    }
    base(&large.join("base.tar"));
    fs::copy(large.join("base.tar"), small.join("base.tar")).unwrap();
    let rest = CONTEXT.saturating_sub(large.join("base.tar").metadata().unwrap().len());
    let rest = usize::try_from(rest).unwrap().max(1 << 20);
    let mut big = vec![0; rest];
    blake3::Hasher::new().finalize_xof().fill(&mut big);
    fs::write(large.join("big"), big).unwrap();
    fs::write(large.join("last"), "0").unwrap();
    fs::write(large.join("Dockerfile"), DOCKERFILE).unwrap();
    fs::write(small.join("Dockerfile"), SMALL).unwrap();
    for number in 0..SMALL_FILES {
        fs::write(small.join(format!("small/{number:05}")), number.to_string()).unwrap();
    }

    let cold = both((0..RUNS).map(|_| {
        lab.forget();
        let ours = build(lab, &large);
        (ours, lab.docker().build_with(&large, &["--no-cache"]))
    }));
    let docker = |lab: &mut Lab, context: &Path| lab.docker().build(context);
    docker(lab, &large);
    let unchanged = (
        median(UNCHANGED_RUNS, || build(lab, &large).disk),
        median(UNCHANGED_RUNS, || docker(lab, &large)),
    );
    let changed = changes(lab, &large, &large.join("last"));
    build(lab, &small);
    docker(lab, &small);
    let one_of_many = changes(lab, &small, &small.join("small/25000"));

    const PEER: &str = "docker build (BuildKit)";
    let limited = |what, vmfab: Duration, needs: Duration, most| Row {
        what,
        vmfab: vmfab.into(),
        limit: Limit::Ratio {
            peer: PEER,
            needs: needs.into(),
            most,
        },
    };
    let mut rows = vec![limited(
        "Dockerfile, context of 371 MB, nothing changed",
        unchanged.0,
        unchanged.1,
        0.15,
    )];
    for (to_layers, to_disk, (ours, peer), most) in [
        (
            "Dockerfile, ten steps in stages, cold: layers",
            "Dockerfile, ten steps in stages, cold: disk",
            cold,
            0.8,
        ),
        (
            "Dockerfile, last step changed: layers",
            "Dockerfile, last step changed: disk",
            changed,
            0.5,
        ),
        (
            "Dockerfile, one of 50,000 files changed: layers",
            "Dockerfile, one of 50,000 files changed: disk",
            one_of_many,
            0.5,
        ),
    ] {
        rows.push(limited(to_layers, ours.layers, peer, most));
        rows.push(Row {
            what: to_disk,
            vmfab: ours.disk.into(),
            limit: Limit::None {
                peer: PEER,
                needs: peer.into(),
            },
        });
    }
    rows
}

/// How long a build takes until the layers of the Dockerfile are there, and until the disk is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Took {
    layers: Duration,
    disk: Duration,
}

fn build(lab: &Lab, context: &Path) -> Took {
    let log = lab.path("dockerfile-events");
    remove(&log);
    let mut command = lab.vmfab();
    command
        .arg("--log")
        .arg(&log)
        .arg("--quiet")
        .arg("build")
        .arg(context);
    let disk = time(&mut command);
    let text = fs::read_to_string(&log).unwrap();
    let events: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // What comes after the layers begins with this step.
    let name = context.file_name().unwrap().to_string_lossy();
    let bootable = events
        .iter()
        .find(|event| event["name"] == format!("{name}: bootable"));
    let after = match bootable {
        Some(step) => of_day(events.last().unwrap()).saturating_sub(of_day(step)),
        None => panic!("no step makes {name} bootable:\n{text}"),
    };
    Took {
        layers: disk.saturating_sub(after),
        disk,
    }
}

/// The time of an event, since midnight.
fn of_day(event: &serde_json::Value) -> Duration {
    let time = event["time"].as_str().unwrap();
    let (_, time) = time.trim_end_matches('Z').split_once('T').unwrap();
    let parts: Vec<f64> = time.split(':').map(|part| part.parse().unwrap()).collect();
    Duration::from_secs_f64(parts[0] * 3600.0 + parts[1] * 60.0 + parts[2])
}

/// Builds after a file of the context got another content each time.
fn changes(lab: &mut Lab, context: &Path, file: &PathBuf) -> (Took, Duration) {
    both((0..RUNS).map(|run| {
        fs::write(file, format!("changed {run}")).unwrap();
        (build(lab, context), lab.docker().build(context))
    }))
}

/// The middle ones of what vmfab and its peer took.
fn both(runs: impl Iterator<Item = (Took, Duration)>) -> (Took, Duration) {
    let (ours, peers): (Vec<Took>, Vec<Duration>) = runs.unzip();
    let took = Took {
        layers: middle(ours.iter().map(|took| took.layers).collect()),
        disk: middle(ours.iter().map(|took| took.disk).collect()),
    };
    (took, middle(peers))
}

/// A Debian that has what a machine needs, so that nothing is downloaded while the time is taken.
fn base(tar: &Path) {
    let packages = "linux-image-cloud-amd64,openssh-server,systemd-sysv,systemd-resolved,dbus,udev";
    time(
        tool("mmdebstrap", "mmdebstrap")
            .args(["--variant=minbase", "--include", packages, "bookworm"])
            .arg(tar),
    );
}
