//! A build on a machine that has nothing, from the cache that another one filled.

use std::time::Duration;

use crate::lab::{Lab, middle, remove, time, vmfab};
use crate::peers::Registry;
use crate::share_whole::pull_into;
use crate::table::{Limit, Row};

const RUNS: usize = 5;

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    lab.ensure_built();
    let registry = Registry::start(&lab.path("registry"));
    let (cache, image) = (
        registry.direct("bench/cache"),
        registry.direct("bench/docker:1"),
    );
    time(lab.docker_build().args(["--cache-push", &cache]));
    time(lab.vmfab().args(["push", "@docker", &image]));
    let home = lab.path("runner");
    remove(&home);
    let mut build = vmfab(&home);
    build.args(["build", "recipes/docker.kdl", "--set", "base=debian-12"]);
    build.args(["--cache", &cache]);
    let runs = |run: &mut dyn FnMut() -> Duration| middle((0..RUNS).map(|_| run()).collect());
    let cached = runs(&mut || {
        remove(&home);
        time(&mut build)
    });
    let pulled = runs(&mut || time(&mut pull_into(&home, &image)));
    vec![Row {
        what: "build on an empty machine, all in a cache",
        vmfab: cached.into(),
        limit: Limit::Ratio {
            peer: "vmfab pull of the image",
            needs: pulled.into(),
            most: 1.1,
        },
    }]
}
