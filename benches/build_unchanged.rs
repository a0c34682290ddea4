//! A build when nothing changed, as a process: what one waits for most often.

use std::fs;
use std::time::Duration;

use crate::lab::{Lab, median, time, tool};
use crate::table::{Limit, Row};

const RUNS: usize = 21;

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    lab.ensure_built();
    let vmfab = median(RUNS, || time(&mut lab.docker_build()));

    // The same steps for BuildKit: a Debian tree, a command in it, a file, a user.
    let context = lab.path("context");
    fs::create_dir(&context).unwrap();
    time(
        tool("mmdebstrap", "mmdebstrap")
            .args(["--variant=minbase", "bookworm"])
            .arg(context.join("base.tar")),
    );
    fs::write(context.join("daemon.json"), "{}\n").unwrap();
    fs::write(
        context.join("Dockerfile"),
        "FROM scratch\n\
         ADD base.tar /\n\
         RUN mkdir -p /etc/docker\n\
         COPY daemon.json /etc/docker/\n\
         RUN useradd -m vm\n",
    )
    .unwrap();
    let docker = lab.docker();
    let peer = median(RUNS, || docker.build(&context));
    vec![
        Row {
            what: "build, nothing changed",
            vmfab: vmfab.into(),
            limit: Limit::Most(Duration::from_millis(10).into()),
        },
        Row {
            what: "build, nothing changed",
            vmfab: vmfab.into(),
            limit: Limit::Ratio {
                peer: "docker build (BuildKit)",
                needs: peer.into(),
                most: 0.15,
            },
        },
    ]
}
