//! A machine to develop in: a Dockerfile with tools on a base in a registry, with OpenRC as its
//! init.

use std::fs::File;

use serde_json::json;

use super::machines::get;
use super::{Bench, Layer};
use crate::support::debian::debian;
use crate::support::registry::Registry;
use crate::support::{Machine, Recipes, free_port};

#[test]
fn a_dockerfile_with_tools_is_worked_in_over_ssh() {
    let bench = Bench::new();
    let registry = Registry::start();
    bench.image(
        &[Layer::new("+zstd", debian())],
        json!({ "Env": ["PATH=/usr/bin:/bin:/usr/sbin:/sbin"] }),
    );
    bench.push(&registry);
    let recipes = Recipes::new();
    let port = free_port();
    recipes.write(
        "Dockerfile.vibe",
        &format!(
            r#"ARG BASE
FROM $BASE AS tools
ENV DEBIAN_FRONTEND=noninteractive
RUN --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    apt-get update && apt-get install --yes --no-install-recommends git make openrc sysvinit-core
FROM tools AS page
RUN mkdir /out && echo "made with $(git --version)" >/out/index.html && date >/out.log
FROM tools
COPY --from=page /out /srv/www
COPY <<EOF /src/Makefile
greeting: ; @echo hello from \$(shell git -C /src log --format=%an)
EOF
ENV LANG=C.UTF-8 EDITOR=ed
WORKDIR /srv/www
USER 1234:7
EXPOSE {port}
STOPSIGNAL SIGINT
CMD ["busybox", "httpd", "-f", "-vv", "-p", "{port}"]
"#
        ),
    );
    let base = format!("BASE={}", registry.at("team/base:1"));
    recipes.write("password", "correct horse\n");
    let password = File::open(recipes.path("password")).unwrap();
    let machine = Machine::boot_with(
        "vibe",
        recipes.directory(),
        [
            "./Dockerfile.vibe",
            "--build-arg",
            &base,
            "--memory",
            "512M",
            "--password-stdin",
        ],
        password,
    );
    let enter = "echo correct horse | su root -c 'id -un'";
    let nobody = format!("su -s /bin/sh nobody -c \"{enter}\"");
    assert_eq!(machine.output(&nobody), "root");

    let worked = machine.output(
        "cd /src && git init --quiet . && git add . &&
         git -c user.name=somebody -c user.email=a@b.c commit --quiet --message=one && make greeting",
    );
    assert_eq!(worked, "hello from somebody");
    assert_eq!(
        machine.output("echo $EDITOR; test -e /out.log || echo none"),
        "ed\nnone"
    );

    // Its process serves, as the user that it has, and OpenRC keeps it.
    let url = format!("http://127.0.0.1:{port}/index.html");
    machine.output(&format!(
        "until busybox wget -q -O /dev/null {url}; do sleep 0.2; done"
    ));
    let served = get(port, "index.html").unwrap();
    assert!(served.starts_with("made with git version"), "{served}");
    let process = "pidof busybox";
    let owner = format!("stat -c %u:%g /proc/$({process})");
    assert_eq!(machine.output(&owner), "1234:7");
    let log = machine.output("cat /var/log/container.log");
    assert!(log.contains("200"), "{log}");
    machine.output(&format!(
        "before=$({process}) && kill -KILL $before &&
         until now=$({process}) && test \"$now\" != \"$before\"; do sleep 0.2; done"
    ));
    machine.output("rc-service container stop");
    assert_eq!(machine.ssh(process).code, Some(1));
    assert_eq!(machine.stop()[0]["by"], "guest");
}
