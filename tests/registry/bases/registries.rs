//! What only a registry can do: tags that move, digests, faults.

use std::fs;

use serde_json::json;

use super::{Bench, Layer, busybox, sha256, tar};
use crate::support::proxy::{Fault, Proxy};
use crate::support::registry::{Registry, RegistryOptions};
use crate::support::{Ran, tool};

impl Bench {
    /// Brings what the layout has under `1` to a registry, as `team/base:1`.
    pub(super) fn push(&self, registry: &Registry) {
        let mut skopeo = tool("skopeo", "skopeo");
        let to = format!("docker://{}", registry.at("team/base:1"));
        skopeo
            .args(["copy", "--quiet", "--all", "--dest-tls-verify=false"])
            .args(["--preserve-digests", "oci:layout:1", &to])
            .current_dir(self.path(""));
        Ran::of(&mut skopeo).ends_with(0);
    }

    /// An image whose tree says which version it is, in the registry.
    fn publish(&self, registry: &Registry, version: &str) {
        let sh = fs::read(busybox()).unwrap();
        let layers = [
            Layer::new("+gzip", &tar(&[("bin/busybox", &sh), ("bin/sh", &sh)])),
            Layer::new("+gzip", &tar(&[("version", version.as_bytes())])),
        ];
        self.image(&layers, json!({ "Env": ["FROM=registry"] }));
        self.push(registry);
    }

    /// A recipe that starts from a name, and prints the version of its base.
    fn recipe_from(&self, name: &str) {
        let text = format!(
            "image \"test\" {{\n    from \"{name}\"\n    run \"echo version $(busybox cat /version) $FROM\"\n    \
             file \"/boot/vmlinuz\" {{ content \"x\" }}\n}}\n"
        );
        fs::write(self.path("test.kdl"), text).unwrap();
    }

    /// What the recipe's base is, by a build from nothing.
    #[track_caller]
    fn version(&self) -> String {
        let built = self.build().succeeds();
        let output = built.output();
        let line = output.iter().find(|line| line.starts_with("version"));
        line.map_or_else(String::new, |line| (*line).to_owned())
    }

    /// The digest of the tag's manifest, as skopeo sees it.
    fn digest(&self, registry: &Registry) -> String {
        let mut skopeo = tool("skopeo", "skopeo");
        let name = format!("docker://{}", registry.at("team/base:1"));
        skopeo.args([
            "inspect",
            "--tls-verify=false",
            "--format={{.Digest}}",
            &name,
        ]);
        Ran::of(&mut skopeo).ends_with(0).stdout.trim().to_owned()
    }
}

#[test]
fn a_tag_stands_for_one_image_until_it_is_updated() {
    let bench = Bench::new();
    let registry = Registry::start();
    bench.publish(&registry, "1");
    let first = bench.digest(&registry);
    bench.recipe_from(&format!("oci://{}", registry.at("team/base:1")));
    assert_eq!(bench.version(), "version 1 registry");
    let plan = bench.run(&["plan", "test.kdl"]).ends_with(0).stdout;
    assert!(plan.contains("layer 2 of 2 of 127.0.0.1"), "{plan}");

    // The tag moves, and nobody looks.
    bench.publish(&registry, "2");
    assert!(bench.build().succeeds().started().is_empty());

    // A lock looks, and holds.
    let locked = bench.run(&["lock", "test.kdl"]).ends_with(0);
    let second = bench.digest(&registry);
    assert_ne!(first, second);
    let lock = fs::read_to_string(bench.path("vmfab.lock")).unwrap();
    let line = format!(
        "source \"oci://{}\" checksum=\"{second}\" resolved=",
        registry.at("team/base:1")
    );
    assert!(lock.contains(&line), "{lock}");
    assert!(locked.stdout.contains("team/base:1"), "{}", locked.stdout);
    bench.run(&["lock", "--check", "test.kdl"]).ends_with(0);
    assert_eq!(bench.version(), "version 2 registry");
    bench.publish(&registry, "3");
    bench.run(&["build", "--locked", "test.kdl"]).ends_with(0);
    assert_eq!(fs::read_to_string(bench.path("vmfab.lock")).unwrap(), lock);

    // An update tells both digests.
    let dry = bench.run(&["update", "--dry-run"]).ends_with(0).stdout;
    let third = bench.digest(&registry);
    assert!(dry.contains(&format!("{second} → {third}")), "{dry}");
    bench.run(&["update", "base:1"]).ends_with(0);
    assert_eq!(bench.version(), "version 3 registry");

    // Another tag is not in the lock.
    bench.recipe_from(&registry.at("team/base"));
    let refused = bench.run(&["build", "--locked", "test.kdl"]);
    assert!(refused.stderr.contains("latest"), "{}", refused.stderr);
    let refused = bench.run(&["lock", "--check", "test.kdl"]);
    assert_ne!(refused.code, Some(0));
    assert!(
        refused.stderr.contains("is not locked"),
        "{}",
        refused.stderr
    );
}

#[test]
fn what_is_known_by_its_digest_needs_nobody() {
    let bench = Bench::new();
    let registry = Registry::start();
    bench.publish(&registry, "1");
    let digest = bench.digest(&registry);
    let address = registry.at("team/base");
    bench.recipe_from(&format!("{address}@{digest}"));
    let offline = bench.run(&["--offline", "build", "test.kdl"]);
    assert!(offline.stderr.contains("offline"), "{}", offline.stderr);
    assert_ne!(offline.code, Some(0));
    bench.run(&["plan", "test.kdl"]).ends_with(0);
    // Manifest and config are here, layers are not.
    let offline = bench.run(&["--offline", "build", "test.kdl"]).ends_with(1);
    let said = &offline.stderr;
    assert!(
        said.contains("2 steps need content that is not in the store"),
        "{said}"
    );
    assert!(
        said.contains("fetch layer 1 of 2") && said.contains("MiB)"),
        "{said}"
    );
    assert!(said.contains(&format!("oci://{address}@sha256:")), "{said}");
    assert_eq!(bench.version(), "version 1 registry");
    drop(registry);
    bench.recipe_from(&format!("{address}:any@{digest}"));
    assert!(bench.build().succeeds().ended("failed").is_empty());
    bench.run(&["--offline", "build", "test.kdl", "--check"]);
    bench.run(&["explain", "test.kdl"]).ends_with(0);
}

#[test]
fn registries_that_refuse() {
    let bench = Bench::new();
    let registry = Registry::start();
    bench.publish(&registry, "1");
    let said = |name: &str, code: i32| {
        bench.recipe_from(name);
        let said = bench.run(&["build", "test.kdl"]).ends_with(code).stderr;
        said.replace("\n  │ ", " ")
    };
    let unknown = said(&registry.at("team/base:none"), 4);
    assert!(unknown.contains("has no tag \"none\""), "{unknown}");
    assert!(unknown.contains("vmfab tags"), "{unknown}");
    assert!(unknown.contains("─┬─"), "{unknown}");
    let digest = format!("{}@sha256:{}", registry.at("team/base"), "0".repeat(64));
    let unknown = said(&digest, 4);
    assert!(unknown.contains("manifest sha256:000"), "{unknown}");
    let capital = said("ghcr.io/Me/vm", 4);
    assert!(capital.contains("capital letters"), "{capital}");
    let closed = Registry::with(&RegistryOptions {
        users: vec![("me", "secret")],
        ..RegistryOptions::default()
    });
    let denied = said(&closed.at("team/base:1"), 1);
    assert!(denied.contains("refuses access"), "{denied}");
    assert!(denied.contains("vmfab login"), "{denied}");
}

#[test]
fn a_damaged_blob_of_a_registry_is_not_built_from() {
    let bench = Bench::new();
    let registry = Registry::start();
    bench.publish(&registry, "1");
    let layer = Layer::new("+gzip", &tar(&[("version", b"1")]));
    let file = registry.blob_file(&sha256(&layer.blob));
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    bench.recipe_from(&registry.at("team/base:1"));
    let said = bench.run(&["build", "test.kdl"]).ends_with(6).stderr;
    assert!(said.contains("is not what it should be"), "{said}");
    // Nothing of it was kept.
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    assert_eq!(bench.version(), "version 1 registry");
}

#[test]
fn downloads_of_layers_are_told_of() {
    let bench = Bench::new();
    let registry = Registry::start();
    bench.publish(&registry, "1");
    bench.recipe_from(&registry.at("team/base:1"));
    let built = bench.build().succeeds();
    for kind in ["download-started", "download-finished"] {
        let mut names: Vec<&str> = built
            .events(kind)
            .map(|event| event["name"].as_str().unwrap())
            .collect();
        names.sort_unstable();
        let expected =
            [1, 2].map(|number| format!("layer {number} of {}", registry.at("team/base:1")));
        assert_eq!(names, expected, "{kind}");
    }
    let downloads = bench.path("home/cache/downloads");
    assert_eq!(fs::read_dir(downloads).unwrap().count(), 0);
}

#[test]
fn a_layer_goes_on_after_a_cut_and_in_the_next_run() {
    let bench = Bench::new();
    let registry = Registry::start();
    bench.publish(&registry, "1");
    let proxy = Proxy::start(registry.port());
    bench.recipe_from(&proxy.at("team/base:1"));
    fs::write(bench.path("config.kdl"), "downloads retries=0\n").unwrap();
    let sh = fs::read(busybox()).unwrap();
    let layer = Layer::new("+gzip", &tar(&[("bin/busybox", &sh), ("bin/sh", &sh)]));
    let digest = sha256(&layer.blob);
    proxy.next("GET", &digest, Fault::Cut(700_000));
    let mut command = bench.command(&["build", "test.kdl"]);
    let said = Ran::of(command.env("VMFAB_CONFIG", bench.path("config.kdl")))
        .ends_with(1)
        .stderr;
    assert!(said.contains("layer 1 of 2"), "{said}");
    proxy.next("GET", &digest, Fault::Cut(400_000));
    assert_eq!(bench.version(), "version 1 registry");
    let seen = proxy.seen();
    let ranges: Vec<&str> = seen
        .iter()
        .filter(|seen| seen.path.contains(&digest) && seen.method == "GET")
        .map(|seen| seen.header("range"))
        // The look at the beginning is another thing.
        .filter(|range| !range.starts_with("bytes=0-"))
        .collect();
    let [first, second, third] = ranges.as_slice() else {
        panic!("{ranges:?}");
    };
    assert_eq!(*first, "");
    let start = |range: &str| {
        let digits = range
            .trim_start_matches("bytes=")
            .split('-')
            .next()
            .unwrap()
            .to_owned();
        digits
            .parse::<usize>()
            .unwrap_or_else(|error| panic!("{range}: {error}"))
    };
    assert!(start(second) > 0 && start(second) <= 700_000, "{ranges:?}");
    assert!(start(third) > start(second), "{ranges:?}");
}
