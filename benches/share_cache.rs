//! A build on a machine that has nothing, from the cache that another one filled.

use crate::lab::{Lab, remove, time, vmfab};
use crate::peers::Registry;
use crate::share_whole::pull_into;
use crate::table::{Limit, Row};

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    lab.ensure_built();
    let registry = Registry::start(&lab.path("registry"));
    let (cache, image) = (registry.at("bench/cache"), registry.at("bench/docker:1"));
    time(lab.docker_build().args(["--cache-push", &cache]));
    time(lab.vmfab().args(["push", "@docker", &image]));
    let home = lab.path("runner");
    remove(&home);
    let mut build = vmfab(&home);
    build.args(["build", "recipes/docker.kdl", "--set", "base=debian-12"]);
    let cached = time(build.args(["--cache", &cache]));
    let pulled = time(&mut pull_into(&home, &image));
    vec![Row {
        what: "build on an empty machine, all in a cache",
        vmfab: cached.into(),
        limit: Limit::None {
            peer: "vmfab pull of the image",
            needs: pulled.into(),
        },
    }]
}
