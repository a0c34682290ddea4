//! Pushing images.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use super::bytes;
use super::home::{Home, disk, number, upgraded};
use super::local::skopeo_copy;
use super::shelf::digits;
use crate::support::proxy::Proxy;
use crate::support::registry::{Registry, RegistryOptions};
use crate::support::{Ran, tool};

const MIB: usize = 1 << 20;

/// A manifest or index of a registry, as skopeo sees it.
#[track_caller]
fn inspect(at: &str) -> Value {
    let mut skopeo = tool("skopeo", "skopeo");
    let name = format!("docker://{at}");
    skopeo.args(["inspect", "--raw", "--tls-verify=false", &name]);
    Ran::of(&mut skopeo).ends_with(0).json()
}

#[test]
fn an_image_goes_there_and_back() {
    let (registry, home, other) = (Registry::start(), Home::new(), Home::new());
    let content = disk(1, 3 * MIB);
    let image = home.image("web", &content);
    let to = registry.at("team/web:1.0");
    let pushed = home.push("@web", &to);
    assert_eq!(pushed["image"], image.as_str());
    assert_eq!(pushed["present"], false);
    assert_eq!(pushed["packs"], 1);
    assert!(number(&pushed["sent"]) > 3 * MIB);
    let pulled = other.pull(&to);
    assert_eq!(pulled["image"], image.as_str());
    assert_eq!(pulled["digest"], pushed["digest"]);
    assert_eq!(pulled["tags"], serde_json::json!(["web"]));
    assert!(other.disk("web") == content);
    other.is_clean();
    // Nothing is moved twice.
    assert_eq!(home.push("@web", &to)["present"], true);
    assert_eq!(other.pull(&to)["fetched"], 0);
    let said = home.run(&["push", "@web", &to]).ends_with(0).stdout;
    assert!(said.contains("already"), "{said}");
    // What was pulled can be pushed on.
    let again = other.push("@web", &registry.at("other/web"));
    assert_eq!(again["digest"], pushed["digest"]);
}

#[test]
fn the_same_image_has_the_same_digest_wherever_it_was_made() {
    let (registry, home, other) = (Registry::start(), Home::new(), Home::new());
    let content = disk(1, 5 * MIB);
    // The chunks of the one lie in one pack, those of the other in several, and between others.
    home.image("web", &content);
    other.image("before", &disk(2, 2 * MIB));
    other.image("web-0", &upgraded(&content, 7, 300_000));
    other.image("web", &content);
    let digest = home.push("@web", &registry.at("one:1"))["digest"].clone();
    assert_eq!(other.push("@web", &registry.at("two:1"))["digest"], digest);
    assert_eq!(home.push("@web", "oci:layout:1")["digest"], digest);
    assert_eq!(
        other.push("@web", "oci-archive:web.tar:1")["digest"],
        digest
    );
    // Other versions change it, but not with --full.
    other.push("@web-0", &registry.at("three:0"));
    let with = other.push("@web", &registry.at("three:1"));
    assert_ne!(with["digest"], digest);
    let full = other.json(&["push", "@web", &registry.at("three:1"), "--full"]);
    assert_eq!(full["digest"], digest);
}

#[test]
fn skopeo_copies_it_between_registries_layouts_and_archives() {
    let (registry, second, home) = (Registry::start(), Registry::start(), Home::new());
    let content = disk(1, 2 * MIB);
    let image = home.image("web", &content);
    let pushed = home.push("@web", &registry.at("team/web:1"));
    let docker = |at: &str| format!("docker://{at}");
    let layout = format!("oci:{}:1", home.path("layout").display());
    let archive = format!("oci-archive:{}:1", home.path("web.tar").display());
    let copy = |from: &str, to: &str| {
        let mut skopeo = tool("skopeo", "skopeo");
        skopeo.args(["--insecure-policy", "copy", "--preserve-digests", "--quiet"]);
        skopeo.args([
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            from,
            to,
        ]);
        Ran::of(&mut skopeo).ends_with(0);
    };
    copy(&docker(&registry.at("team/web:1")), &layout);
    copy(&layout, &docker(&second.at("copy/web:2")));
    copy(&docker(&second.at("copy/web:2")), &archive);
    for from in [&layout, &archive, &second.at("copy/web:2")] {
        let other = Home::new();
        let pulled = other.pull(from);
        assert_eq!(pulled["digest"], pushed["digest"], "{from}");
        assert_eq!(pulled["image"], image.as_str());
        assert!(other.disk("web") == content);
        other.is_clean();
    }
    // What vmfab writes, skopeo reads.
    home.push("@web", "oci:own:1");
    let own = format!("oci:{}:1", home.path("own").display());
    skopeo_copy(&own, &format!("oci:{}:1", home.path("copied").display()));
    assert_eq!(
        Home::new().pull(&format!("oci:{}:1", home.path("copied").display()))["digest"],
        pushed["digest"]
    );
}

#[test]
fn a_new_version_costs_what_is_new() {
    let (registry, home) = (Registry::start(), Home::new());
    let proxy = Proxy::start(registry.port());
    let first = disk(1, 8 * MIB);
    let second = upgraded(&first, 2, 300_000);
    home.image("web", &first);
    home.push("@web", &proxy.at("web:1"));
    let other = Home::new();
    other.pull(&proxy.at("web:1"));
    let third = Home::new();
    third.image("own", &first);
    home.image("web", &second);
    let cost = |work: &dyn Fn() -> Value| {
        let before = proxy.moved();
        let told = work();
        let now = proxy.moved();
        (now.0 - before.0, now.1 - before.1, told)
    };
    let (up, _, told) = cost(&|| home.push("@web", &proxy.at("web:2")));
    assert!(up < MIB, "{up}: {told:#}");
    assert!(up >= number(&told["sent"]), "{up}: {told:#}");
    // From the one that pulled the first version, and from the one that made it itself.
    for home in [&other, &third] {
        let (_, down, told) = cost(&|| home.pull(&proxy.at("web:2")));
        assert!(down < MIB, "{down}: {told:#}");
        assert!(down >= number(&told["fetched"]), "{down}: {told:#}");
        assert!(home.disk("web") == second);
        home.is_clean();
    }
    // From nothing: not more than all, with a little that is not needed.
    let empty = Home::new();
    let (_, down, told) = cost(&|| empty.pull(&proxy.at("web:2")));
    assert!(
        (8 * MIB..9 * MIB + MIB / 2).contains(&down),
        "{down}: {told:#}"
    );
    assert!(empty.disk("web") == second);
    // Somebody else's home pushes the next one as cheaply: what is there is asked.
    empty.image("web", &upgraded(&second, 3, 200_000));
    let (up, _, told) = cost(&|| empty.push("@web", &proxy.at("web:3")));
    assert!(up < MIB, "{up}: {told:#}");
    let stranger = Home::new();
    stranger.image("web", &upgraded(&second, 4, 200_000));
    let (up, _, told) = cost(&|| stranger.push("@web", &proxy.at("web:4")));
    assert!(up < MIB, "{up}: {told:#}");
}

#[test]
fn another_repository_of_the_registry_gets_links() {
    let (registry, home) = (Registry::start(), Home::new());
    let proxy = Proxy::start(registry.port());
    home.image("web", &disk(1, 4 * MIB));
    home.push("@web", &proxy.at("one/web:1"));
    let before = proxy.moved().0;
    let told = home.push("@web", &proxy.at("two/web:1"));
    assert_eq!(told["mounted_packs"], 1, "{told:#}");
    let up = proxy.moved().0 - before;
    assert!(up < 50_000, "{up}");
    let other = Home::new();
    other.pull(&proxy.at("two/web:1"));
    assert!(other.disk("web") == home.disk("web"));
    // The text says so, too.
    let said = home.run(&["push", "@web", &proxy.at("three/web:1")]);
    assert!(said.ends_with(0).stdout.contains("linked"));
}

#[test]
fn an_index_has_an_image_for_each_architecture() {
    let (registry, home) = (Registry::start(), Home::new());
    let at = registry.at("web:1");
    let amd = home.image_for("web-amd", &disk(1, MIB), "x86_64");
    let arm = home.image_for("web-arm", &disk(2, MIB), "aarch64");
    let one = home.json(&["push", "@web-amd", &at, "--index"]);
    assert_ne!(one["digest"], one["manifest"]);
    // It is an index now, whether that is said or not.
    let two = home.push("@web-arm", &at);
    assert_ne!(two["digest"], two["manifest"]);
    let index = inspect(&at);
    let architectures: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["platform"]["architecture"].as_str().unwrap())
        .collect();
    assert_eq!(architectures, ["amd64", "arm64"]);
    let other = Home::new();
    for (platform, image) in [("linux/amd64", &amd), ("arm64", &arm), ("aarch64", &arm)] {
        let pulled = other.json(&["pull", &at, "--platform", platform]);
        assert_eq!(pulled[0]["image"], image.as_str());
    }
    let said = other.refused(&["pull", &at, "--platform", "linux/riscv64"], 1);
    assert!(said.contains("linux/amd64, linux/arm64"), "{said}");
    assert!(said.contains("--platform"), "{said}");
    other.refused(&["pull", &at, "--platform", "a/b/c/d"], 2);
    // The same again changes nothing; a new version takes the place of the old one.
    assert_eq!(home.push("@web-arm", &at)["digest"], two["digest"]);
    home.image_for("web-arm", &disk(3, MIB), "aarch64");
    home.push("@web-arm", &at);
    let index = inspect(&at);
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2, "{index:#}");
    // An index in a layout, and no index without a tag.
    home.json(&["push", "@web-amd", "oci:layout:1", "--index"]);
    home.refused(&["push", "@web-amd", "oci:layout", "--index"], 2);
}

#[test]
fn the_config_is_pushed_as_it_was_written() {
    let (registry, home) = (Registry::start(), Home::new());
    let image = home.image("web", &disk(1, MIB));
    let store = home.store();
    let own = store.read_object(&image.parse().unwrap()).unwrap();
    // As another program would write it, with what this one does not know.
    let mut config: Value = serde_json::from_slice(&own).unwrap();
    config["of-another-program"] = "kept".into();
    let other = serde_json::to_vec_pretty(&config).unwrap();
    let written = store.put_bytes(&other).unwrap().id;
    store.put_tag(&"other".parse().unwrap(), &written).unwrap();
    for (tag, bytes) in [("@web", own), ("@other", other)] {
        let at = registry.at("web:1");
        let pushed = home.push(tag, &at);
        let config = inspect(&at)["config"].clone();
        assert_eq!(config["size"], bytes.len());
        let there = std::fs::read(registry.blob_file(&digits(&config))).unwrap();
        assert!(there == bytes, "{tag}: {}", String::from_utf8_lossy(&there));
        // So the image is the same elsewhere.
        assert_eq!(Home::new().pull(&at)["image"], pushed["image"]);
    }
}

#[test]
fn layers_that_are_there_stay_when_the_image_is_pushed_without() {
    let (registry, home) = (Registry::start(), Home::new());
    let proxy = Proxy::start(registry.port());
    let at = proxy.at("web:1");
    home.image("web", &disk(1, MIB));
    let layers = [bytes(300_000, 7), bytes(200_000, 8)];
    home.layered("web", &[&layers[0], &layers[1]]);
    let has_layers = || inspect(&at)["annotations"]["org.vmfab.layers"] == "true";
    let writes = || {
        let seen = proxy.seen();
        seen.iter()
            .filter(|seen| !["GET", "HEAD"].contains(&seen.method.as_str()))
            .count()
    };

    let without = home.push("@web", &at);
    assert!(!has_layers());
    // Now they are missing: they are sent, and nothing else.
    let with = home.json(&["push", "@web", &at, "--layers"]);
    assert!(has_layers());
    assert_ne!(with["digest"], without["digest"]);
    let sent = number(&with["sent"]);
    assert!((500_000..600_000).contains(&sent), "{sent}");

    let before = writes();
    let again = home.push("@web", &at);
    assert_eq!(
        (&again["digest"], &again["present"], &again["sent"]),
        (&with["digest"], &true.into(), &0.into())
    );
    let said = home.run(&["push", "@web", &at]).ends_with(0).stdout;
    assert!(said.contains("already"), "{said}");
    assert_eq!(writes(), before);
    let other = Home::new();
    let pulled = other.pull(&at);
    assert_eq!(pulled["image"], with["image"]);
    let image = other
        .store()
        .read_object(&pulled["image"].as_str().unwrap().parse().unwrap());
    let config = vmfab::image::ImageConfig::from_bytes(&image.unwrap()).unwrap();
    for (layer, content) in config.layers.iter().zip(&layers) {
        assert!(other.store().read_object(&layer.id).unwrap() == *content);
    }
    other.is_clean();

    // Another image is there without its layers, as it is said.
    home.image("web", &disk(2, MIB));
    home.layered("web", &[&layers[0]]);
    assert_eq!(home.push("@web", &at)["present"], false);
    assert!(!has_layers());
    // Who pulls it is told so, and not that something is lost.
    let bare = Home::new();
    bare.pull(&at);
    let usage = &bare.json(&["store", "stat"])["images"][0];
    assert_eq!(
        (number(&usage["missing"]), number(&usage["without_layers"])),
        (0, 1)
    );
    let shown = bare.run(&["store", "stat"]).ends_with(0).stdout;
    assert!(shown.contains("without 1 layer"), "{shown}");
}

#[test]
fn annotations_are_those_of_the_recipe_and_of_the_user() {
    let (registry, home) = (Registry::start(), Home::new());
    let at = registry.at("web:1");
    home.image("web", &disk(1, MIB));
    let own = "org.example.build=7=8";
    let options = [
        "--annotation",
        own,
        "--annotation",
        "org.opencontainers.image.title=x",
    ];
    let words = [&["push", "@web", &at][..], &options].concat();
    home.run(&words).ends_with(0);
    let annotations = inspect(&at)["annotations"].clone();
    assert_eq!(annotations["org.example.build"], "7=8");
    assert_eq!(annotations["org.opencontainers.image.title"], "x");
    assert_eq!(annotations["org.opencontainers.image.version"], "1.2");
    assert_eq!(annotations["org.opencontainers.image.licenses"], "MIT");
    // Other annotations are another manifest, and nothing else.
    let told = home.push("@web", &at);
    assert_eq!(told["present"], false);
    assert!(number(&told["sent"]) < 50_000, "{told:#}");
    home.refused(&["push", "@web", &at, "--annotation", "nothing"], 2);
    let quiet = home.run(&["--quiet", "push", "@web", &at]).ends_with(0);
    assert_eq!(
        quiet.stdout,
        format!("{}\n", told["digest"].as_str().unwrap())
    );
}

#[test]
fn what_cannot_be_pushed_is_told_with_what_to_do() {
    let (registry, home) = (Registry::start(), Home::new());
    home.image("web", &disk(1, MIB));
    let at = registry.at("web:1");
    let said = home.refused(&["push", "@nothing", &at], 3);
    assert!(said.contains("no image \"nothing\""), "{said}");
    let digest = format!("{}@sha256:{}", registry.at("web"), "0".repeat(64));
    let said = home.refused(&["push", "@web", &digest], 2);
    assert!(said.contains("names a digest"), "{said}");
    for wrong in ["", "https://localhost/web", "localhost/Web", "oci:"] {
        home.refused(&["push", "@web", wrong], 2);
    }
    let said = home.refused(&["--offline", "push", "@web", &at], 1);
    assert!(said.contains("offline"), "{said}");
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let said = home.refused(&["push", "@web", &format!("{nobody}/web")], 1);
    assert!(said.contains(&nobody.to_string()), "{said}");
    let locked = Registry::with(&RegistryOptions {
        users: vec![("anna", "secret")],
        ..RegistryOptions::default()
    });
    for words in [
        ["push", "@web", &locked.at("web")],
        ["pull", &locked.at("web"), "--quiet"],
    ] {
        let said = home.refused(&words, 1);
        assert!(said.contains("vmfab login"), "{said}");
    }
    // What is only in part here is not pushed: this one's disk is in another home.
    let other = Home::new();
    let image = other.image("half", &disk(5, MIB));
    let config = other.store().read_object(&image.parse().unwrap()).unwrap();
    let half = home.store().put_bytes(&config).unwrap().id;
    home.store()
        .put_tag(&"half".parse().unwrap(), &half)
        .unwrap();
    let said = home.refused(&["push", "@half", &at], 1);
    assert!(said.contains("1 of the objects of image"), "{said}");
    assert!(said.contains("build it again, or pull it"), "{said}");
    let said = home.refused(&["pull", &at], 3);
    assert!(said.contains("vmfab tags"), "{said}");
}

#[test]
fn a_containerdisk_is_an_image_for_skopeo_and_a_disk_for_vmfab() {
    let (registry, home) = (Registry::start(), Home::new());
    let at = registry.at("team/web:1");
    let content = disk(1, MIB);
    home.image("web", &content);
    let told = home.json(&["push", "@web", &at, "--layout", "containerdisk"]);
    let mut skopeo = tool("skopeo", "skopeo");
    let name = format!("docker://{at}");
    skopeo.args(["inspect", "--tls-verify=false", &name]);
    let seen = Ran::of(&mut skopeo).ends_with(0).json();
    assert_eq!(seen["Digest"], told["digest"]);
    assert_eq!(seen["Architecture"], "amd64");
    assert_eq!(seen["Layers"].as_array().unwrap().len(), 1);
    let other = Home::new();
    let pulled = other.pull(&at);
    assert_eq!(pulled["tags"], serde_json::json!(["web"]));
    assert!(other.disk("web") == content);
    other.is_clean();
    let again = home.json(&["push", "@web", &at, "--layout", "containerdisk"]);
    assert_eq!(again["digest"], told["digest"]);
    assert_eq!(again["present"], true, "{again:#}");
    for option in ["--full", "--index"] {
        home.refused(
            &["push", "@web", &at, "--layout", "containerdisk", option],
            2,
        );
    }
}

/// The most memory that a command has taken, in bytes; it must succeed.
#[track_caller]
fn peak(home: &Home, words: &[&str]) -> usize {
    let mut child = home
        .command(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    // The kernel keeps the highest value: the last that is seen counts.
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
        peak = peak.max(kib.unwrap_or(0) << 10);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    peak
}

#[test]
fn large_images_take_little_memory() {
    let (registry, home, other) = (Registry::start(), Home::new(), Home::new());
    let at = registry.at("web:1");
    home.image("web", &disk(1, 300 * MIB));
    let (up, down) = (
        peak(&home, &["push", "@web", &at]),
        peak(&other, &["pull", &at]),
    );
    assert!(
        up < 96 * MIB && down < 96 * MIB,
        "{up} to push, {down} to pull"
    );
    assert!(up > MIB && down > MIB, "{up} to push, {down} to pull");
    assert_eq!(other.tagged("web"), home.tagged("web"));
}
