//! Dockerfiles, beside BuildKit with the same files. The peer ends with a container image, vmfab
//! with a disk that boots.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::lab::{Lab, median, middle, time, tool};
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

    let cold: (Vec<_>, Vec<_>) = (0..RUNS)
        .map(|_| {
            lab.forget();
            let ours = time(&mut build(lab, &large));
            (ours, lab.docker().build_with(&large, &["--no-cache"]))
        })
        .unzip();
    let docker = |lab: &mut Lab, context: &Path| lab.docker().build(context);
    docker(lab, &large);
    let unchanged = (
        median(UNCHANGED_RUNS, || time(&mut build(lab, &large))),
        median(UNCHANGED_RUNS, || docker(lab, &large)),
    );
    let changed = changes(lab, &large, &large.join("last"));
    time(&mut build(lab, &small));
    docker(lab, &small);
    let one_of_many = changes(lab, &small, &small.join("small/25000"));

    let row = |what, (vmfab, peer): (Duration, Duration), most| Row {
        what,
        vmfab: vmfab.into(),
        limit: Limit::Ratio {
            peer: "docker build (BuildKit)",
            needs: peer.into(),
            most,
        },
    };
    vec![
        row(
            "Dockerfile, ten steps in stages, cold",
            (middle(cold.0), middle(cold.1)),
            0.8,
        ),
        row(
            "Dockerfile, context of 371 MB, nothing changed",
            unchanged,
            0.15,
        ),
        row("Dockerfile, last step changed", changed, 0.5),
        row("Dockerfile, one of 50,000 files changed", one_of_many, 0.5),
    ]
}

fn build(lab: &Lab, context: &Path) -> Command {
    let mut command = lab.vmfab();
    command.arg("build").arg(context);
    command
}

/// Builds after a file of the context got another content each time.
fn changes(lab: &mut Lab, context: &Path, file: &PathBuf) -> (Duration, Duration) {
    let both = (0..RUNS).map(|run| {
        fs::write(file, format!("changed {run}")).unwrap();
        (time(&mut build(lab, context)), lab.docker().build(context))
    });
    let (ours, peers) = both.unzip();
    (middle(ours), middle(peers))
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
