//! Trees of Dockerfiles as ordinary container images.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::Kitchen;
use crate::support::{Ran, tool};

/// What a container is told, and a tree that needs all that layers can say.
pub(crate) const CONTAINER: &str = r#"
LABEL org.example.label="a b"
ENV GREETING=hello PATH=/bin
RUN mkdir -p /srv/gone /srv/kept && echo 1 >/srv/gone/file && echo 2 >/srv/kept/file && \
    ln /srv/kept/file /srv/kept/other && ln -s kept /srv/link && chown 1000:1001 /srv/kept
RUN rm -r /srv/gone && rm -r /srv/kept && mkdir /srv/kept && echo 3 >/srv/kept/new
COPY --chown=node list /
WORKDIR /work
VOLUME /data
EXPOSE 80 53/udp
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=5s CMD true
USER node
ENTRYPOINT ["/bin/sh", "-c", "echo \"$GREETING $(id -un) $(pwd) $1\"; /list /srv", "-"]
CMD ["world"]
"#;

/// What is under the only name of a layout.
fn blob(layout: &Path, descriptor: &Value) -> Value {
    let digest = descriptor["digest"].as_str().unwrap();
    let digits = digest.strip_prefix("sha256:").unwrap();
    let bytes = fs::read(layout.join("blobs/sha256").join(digits)).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn push(kitchen: &Kitchen, to: &str) -> Value {
    let words = ["push", "@web", to, "--layout", "container", "--json"];
    let pushed = kitchen.run(&words).ends_with(0);
    serde_json::from_str(&pushed.stdout).unwrap()
}

#[test]
fn others_read_what_a_dockerfile_says() {
    let kitchen = Kitchen::new(CONTAINER);
    kitchen
        .run(&["build", "test.kdl", "--tag", "@web"])
        .ends_with(0);
    let first = push(&kitchen, "oci:out:1");
    assert_eq!(first["present"], false);
    let layout = kitchen.path("out");
    let index: Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let manifest = blob(&layout, &index["manifests"][0]);
    let config = blob(&layout, &manifest["config"]);
    let told = serde_json::to_string_pretty(&config["config"]).unwrap();
    insta::assert_snapshot!(told, @r#"
    {
      "Cmd": [
        "world"
      ],
      "Entrypoint": [
        "/bin/sh",
        "-c",
        "echo \"$GREETING $(id -un) $(pwd) $1\"; /list /srv",
        "-"
      ],
      "Env": [
        "PATH=/bin",
        "GREETING=hello"
      ],
      "ExposedPorts": {
        "53/udp": {},
        "80/tcp": {}
      },
      "Healthcheck": {
        "Interval": 5000000000,
        "Test": [
          "CMD-SHELL",
          "true"
        ]
      },
      "Labels": {
        "org.example.label": "a b"
      },
      "StopSignal": "SIGQUIT",
      "User": "node",
      "Volumes": {
        "/data": {}
      },
      "WorkingDir": "/work"
    }
    "#);
    let history = config["history"].as_array().unwrap().iter();
    let lines: Vec<String> = history
        .map(|entry| {
            let mark = if entry["empty_layer"] == true {
                "-"
            } else {
                "+"
            };
            let text = entry["created_by"].as_str().unwrap();
            format!("{mark} {}", text.chars().take(60).collect::<String>())
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    + COPY busybox /bin/
    + RUN ["/bin/busybox", "sh", "-ec", "/bin/busybox --install -s
    + COPY --chmod=755 base.sh /
    + RUN /base.sh && rm /base.sh
    - LABEL org.example.label="a b"
    - ENV GREETING=hello PATH=/bin
    + RUN mkdir -p /srv/gone /srv/kept && echo 1 >/srv/gone/file &
    + RUN rm -r /srv/gone && rm -r /srv/kept && mkdir /srv/kept &&
    + COPY --chown=node list /
    + WORKDIR /work
    - VOLUME /data
    - EXPOSE 80 53/udp
    - STOPSIGNAL SIGQUIT
    - HEALTHCHECK --interval=5s CMD true
    - USER node
    - ENTRYPOINT ["/bin/sh", "-c", "echo \"$GREETING $(id -un) $(p
    - CMD ["world"]
    "#);
    let layers = lines.iter().filter(|line| line.starts_with('+')).count();
    assert_eq!(manifest["layers"].as_array().unwrap().len(), layers);

    // The same bytes wherever they go; nothing goes twice.
    let again = push(&kitchen, "oci:out:1");
    assert_eq!(
        (&again["present"], &again["sent"]),
        (&true.into(), &0.into())
    );
    assert_eq!(push(&kitchen, "oci:other:2")["digest"], first["digest"]);
    let mut skopeo = tool("skopeo", "skopeo");
    skopeo.args([
        "copy",
        "--quiet",
        "oci:out:1",
        "docker-archive:web.tar:web:1",
    ]);
    Ran::of(skopeo.current_dir(kitchen.path(""))).ends_with(0);

    // It is a base as others are: with its files, and what it says.
    let layout = kitchen.path("context/out");
    let mut copy = tool("cp", "coreutils");
    copy.arg("-r").args([kitchen.path("out"), layout]);
    Ran::of(&mut copy).ends_with(0);
    kitchen.write("FROM oci:out:1\nUSER root\nRUN echo \"$GREETING $(pwd)\"; /list /srv\n");
    let output = kitchen.output();
    let of_run = output
        .lines()
        .filter(|line| !line.starts_with("a tar archive"));
    insta::assert_snapshot!(of_run.collect::<Vec<_>>().join("\n"), @"
    hello /work
    d 755 0:0 /srv
    d 755 0:0 /srv/kept
    f 644 0:0 /srv/kept/new 3
    l 777 0:0 /srv/link kept
    ");

    // So is the image under its tag.
    kitchen.write("FROM @web\nRUN echo \"$GREETING $(pwd) $(id -un)\"\n");
    assert_eq!(kitchen.output(), "hello /work node");
    let words = ["push", "@test", "oci:again:1", "--layout", "container"];
    kitchen.run(&words).ends_with(0);
    let mut skopeo = tool("skopeo", "skopeo");
    let said = Ran::of(
        skopeo
            .args(["inspect", "--config", "--raw", "oci:again:1"])
            .current_dir(kitchen.path("")),
    );
    assert_eq!(said.ends_with(0).json()["config"], config["config"]);

    // Layouts beyond the context need a name that the user gives.
    std::os::unix::fs::symlink("../out", kitchen.path("context/link")).unwrap();
    for base in ["../out", "link", kitchen.path("out").to_str().unwrap()] {
        for instructions in [
            format!("FROM oci:{base}:1\n"),
            format!("COPY --from=oci:{base}:1 /srv /srv\n"),
        ] {
            kitchen.write(&instructions);
            let said = kitchen.fails(4);
            assert!(said.contains("outside of the build context"), "{said}");
        }
    }
}

#[test]
fn images_that_are_only_disks_are_no_containers() {
    let kitchen = Kitchen::new("");
    fs::write(kitchen.path("disk.raw"), vec![0; 1 << 20]).unwrap();
    let recipe = "image \"test\" { from \"./disk.raw\" }\n";
    fs::write(kitchen.path("test.kdl"), recipe).unwrap();
    kitchen
        .run(&["build", "test.kdl", "--tag", "@web"])
        .ends_with(0);
    let words = ["push", "@web", "oci:out:1", "--layout", "container"];
    let said = kitchen.run(&words).ends_with(1).stderr;
    assert!(said.contains("it has no layers"), "{said}");
    let words = [&words[..], &["--full"]].concat();
    kitchen.run(&words).ends_with(2);
}
