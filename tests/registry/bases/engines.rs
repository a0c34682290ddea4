//! What container engines have: archives of docker, and the storage of podman.

use std::fs;
use std::process::Command;

use serde_json::json;

use super::{Bench, Layer, busybox, sha256, tar};
use crate::support::{Build, Ran, tool};

impl Bench {
    /// An image in the layout whose tree says which version it is.
    fn engine_image(&self, version: &str) {
        let sh = fs::read(busybox()).unwrap();
        let layers = [
            Layer::new("+gzip", &tar(&[("bin/busybox", &sh), ("bin/sh", &sh)])),
            Layer::new("", &tar(&[("version", version.as_bytes())])),
        ];
        self.image(&layers, json!({ "Env": ["FROM=engine"] }));
    }

    /// Writes what the layout has to an archive of docker.
    fn docker_archive(&self, file: &str, name: &str) {
        let mut skopeo = tool("skopeo", "skopeo");
        let to = format!("docker-archive:{file}:{name}");
        skopeo.args(["copy", "--quiet", "oci:layout:1", &to]);
        Ran::of(skopeo.current_dir(self.path(""))).ends_with(0);
    }

    /// A build of an image that starts from `base`, by this command.
    fn build_from(&self, base: &str, command: &mut Command) -> Build {
        self.write_from(base);
        Build::of(command)
    }

    fn write_from(&self, base: &str) {
        let text = format!(
            "image \"test\" {{\n    from \"{base}\"\n    run \"echo version $(busybox cat /version) $FROM\"\n    \
             file \"/boot/vmlinuz\" {{ content \"x\" }}\n}}\n"
        );
        fs::write(self.path("test.kdl"), text).unwrap();
    }

    fn vmfab(&self) -> Command {
        self.command(&["build", "test.kdl", "--json"])
    }
}

#[track_caller]
fn says(build: &Build, line: &str) {
    let output = build.output();
    assert!(output.contains(&line), "{output:?}");
}

#[test]
fn archives_of_docker_are_layouts() {
    let bench = Bench::new();
    bench.engine_image("1");
    bench.docker_archive("one.tar", "localhost/os:1");
    let built = bench
        .build_from("docker-archive:one.tar", &mut bench.vmfab())
        .succeeds();
    says(&built, "version 1 engine");
    // It is the same image by its name in it.
    let named = "docker-archive:one.tar:localhost/os:1";
    let again = bench.build_from(named, &mut bench.vmfab()).succeeds();
    assert_eq!(again.started(), Vec::<&str>::new());
    assert_eq!(again.image(), built.image());
    bench.write_from("docker-archive:one.tar:localhost/os:2");
    let said = bench.fails(4);
    assert!(said.contains("has no tag \"localhost/os:2\""), "{said}");
    bench.write_from("docker-archive:test.kdl");
    let said = bench.fails(6);
    assert!(said.contains("docker-archive:"), "{said}");
    let refused = bench.run(&[
        "push",
        "@test",
        "docker-archive:two.tar",
        "--layout",
        "container",
    ]);
    assert_ne!(refused.code, Some(0));
    assert!(
        refused.stderr.contains("write an oci-archive:"),
        "{}",
        refused.stderr
    );
}

/// As docker wrote them before version 25: a layer that two images share is a link in one of them.
#[test]
fn layers_of_older_archives_are_links() {
    let bench = Bench::new();
    let sh = fs::read(busybox()).unwrap();
    let tree = tar(&[("bin/busybox", &sh), ("bin/sh", &sh), ("version", b"old")]);
    let empty = tar(&[("empty", b"")]);
    let diff_ids = [&tree, &empty, &empty].map(|tar| format!("sha256:{}", sha256(tar)));
    let config = json!({
        "architecture": super::architecture(),
        "os": "linux",
        "config": { "Env": ["FROM=docker"] },
        "rootfs": {
            "type": "layers",
            "diff_ids": diff_ids,
        },
    });
    let manifest = json!([{
        "Config": "config.json",
        "RepoTags": ["os:1", "other:2"],
        "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"],
    }]);
    let archive = |link: &str| {
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |name: &str, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, content).unwrap();
        };
        add("a/layer.tar", &tree);
        add("b/layer.tar", &empty);
        add("config.json", config.to_string().as_bytes());
        add("manifest.json", manifest.to_string().as_bytes());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive
            .append_link(&mut header, "c/layer.tar", link)
            .unwrap();
        fs::write(bench.path("old.tar"), archive.into_inner().unwrap()).unwrap();
    };
    archive("../b/layer.tar");
    let from = "docker-archive:old.tar:other:2";
    let built = bench.build_from(from, &mut bench.vmfab()).succeeds();
    says(&built, "version old docker");
    for outside in ["../../../etc/passwd", "/etc/passwd", "../c/layer.tar"] {
        archive(outside);
        bench.write_from(from);
        let said = bench.fails(6);
        assert!(
            said.contains("has no \"c/layer.tar\" in it"),
            "{outside}: {said}"
        );
    }
}

#[test]
fn images_in_the_storage_of_podman() {
    let bench = Bench::new();
    let storage = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = {:?}\nrunroot = {:?}\n",
        bench.path("graph"),
        bench.path("run"),
    );
    fs::write(bench.path("storage.conf"), storage).unwrap();
    let with_storage = |command: &mut Command| {
        command.env("CONTAINERS_STORAGE_CONF", bench.path("storage.conf"));
    };
    let load = |version: &str| {
        bench.engine_image(version);
        let file = format!("{version}.tar");
        bench.docker_archive(&file, "localhost/os:1");
        let mut podman = tool("podman", "podman");
        with_storage(
            podman
                .args(["load", "--quiet", "--input"])
                .arg(bench.path(&file)),
        );
        Ran::of(&mut podman).ends_with(0);
    };
    let from = "containers-storage:localhost/os:1";
    let build = || {
        let mut command = bench.vmfab();
        with_storage(&mut command);
        bench.build_from(from, &mut command).succeeds()
    };
    let reads = |build: &Build| {
        let mut notes = build.events("note");
        notes.any(|note| {
            note["message"]
                .as_str()
                .unwrap()
                .contains("reading the image")
        })
    };
    load("1");
    let first = build();
    says(&first, "version 1 engine");
    assert!(reads(&first));
    let second = build();
    assert_eq!(second.started(), Vec::<&str>::new());
    assert!(!reads(&second));
    // The name is that of another image now.
    load("2");
    says(&build(), "version 2 engine");
    let left = fs::read_dir(bench.path("home/cache/downloads")).unwrap();
    assert_eq!(left.count(), 0, "archives stay");

    let said = |base: &str, code: i32, path: Option<&str>| {
        bench.write_from(base);
        let mut command = bench.command(&["build", "test.kdl"]);
        with_storage(&mut command);
        if let Some(path) = path {
            command.env("PATH", path);
        }
        let said = Ran::of(&mut command).ends_with(code).stderr;
        said.replace("\n  │ ", " ")
    };
    let unknown = said("containers-storage:localhost/none:1", 4, None);
    assert!(unknown.contains("there is no image"), "{unknown}");
    let missing = said(from, 5, Some("/nonexistent"));
    assert!(missing.contains("podman is not installed"), "{missing}");
    assert!(missing.contains("apt-get install podman"), "{missing}");
    let inside = "FROM containers-storage:localhost/os:1\n";
    fs::write(bench.path("Containerfile"), inside).unwrap();
    let refused = said("./Containerfile", 4, None);
    assert!(
        refused.contains("cannot read the storage of podman"),
        "{refused}"
    );
}
