//! Pulling images: names, several at once, and disks of others.

use serde_json::json;
use vmfab::registry::media;

use super::home::{Home, disk, upgraded};
use super::local;
use super::shelf::{Shelf, descriptor};
use crate::support::proxy::{Fault, Proxy};
use crate::support::registry::{Registry, RegistryOptions};
use crate::support::{Ran, tool};

const MIB: usize = 1 << 20;

#[test]
fn tags_are_the_users_or_the_name_in_the_recipe() {
    let shelf = Shelf::new(1);
    let home = Home::new();
    let at = shelf.at("1");
    let told = home.json(&["pull", &at, "--tag", "@one", "-t", "two"]);
    assert_eq!(told[0]["tags"], json!(["one", "two"]));
    assert_eq!(told[0]["name"], "web");
    assert_eq!(told[0]["reference"], at.as_str());
    assert_eq!(home.tagged("web"), None);
    assert_eq!(home.tagged("one"), home.tagged("two"));
    // A digest is as good as a tag, and goes before it.
    let digest = told[0]["digest"].as_str().unwrap();
    let by_digest = format!("{}@{digest}", shelf.at("nothing"));
    assert_eq!(home.pull(&by_digest)["image"], told[0]["image"]);
    assert_eq!(home.tagged("web"), home.tagged("one"));
    let said = home.run(&["pull", &at]).ends_with(0).stdout;
    assert!(
        said.contains("@web is") && said.contains("nothing to fetch"),
        "{said}"
    );
    let quiet = home.run(&["--quiet", "pull", &at]).ends_with(0);
    assert_eq!(
        (quiet.stdout.as_str(), quiet.stderr.as_str()),
        ("@web\n", "")
    );
    // The tag moves when there is a new version.
    let content = shelf.maker.disk("web");
    shelf.maker.image("web", &upgraded(&content, 3, 1000));
    shelf.maker.push("@web", &at);
    home.pull(&at);
    assert!(home.disk("web") == shelf.maker.disk("web"));
    assert!(home.disk("one") == content);
    let missing = format!("{}@sha256:{}", shelf.at("1"), "0".repeat(64));
    home.refused(&["pull", &missing], 3);
}

#[test]
fn all_tags_of_a_repository() {
    let shelf = Shelf::new(2);
    let proxy = &shelf.proxy;
    let first = shelf.maker.disk("web");
    for version in 2..5 {
        shelf
            .maker
            .image("web", &upgraded(&first, version, 100_000));
        shelf.maker.push("@web", &shelf.at(&version.to_string()));
    }
    let home = Home::new();
    let before = proxy.moved().1;
    let told = home.json(&["pull", &proxy.at("web"), "--all-tags"]);
    let down = proxy.moved().1 - before;
    assert!(down < 4 * MIB, "{down}");
    let tags: Vec<&str> = told
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["tags"][0].as_str().unwrap())
        .collect();
    assert_eq!(tags, ["web-1", "web-2", "web-3", "web-4"]);
    assert!(home.disk("web-1") == first);
    assert!(home.disk("web-4") == shelf.maker.disk("web"));
    home.is_clean();
    home.refused(&["pull", &proxy.at("web"), "--all-tags", "--tag", "@x"], 2);
    let said = home.refused(&["pull", &proxy.at("nothing"), "--all-tags"], 3);
    assert!(said.contains("nothing"), "{said}");
}

/// A container image under a tag.
fn container(shelf: &Shelf, tag: &str) {
    let config = shelf.blob(
        "application/vnd.oci.image.config.v1+json",
        br#"{"architecture":"amd64","os":"linux","config":{"Cmd":["sh"]}}"#,
    );
    let layer = shelf.blob("application/vnd.oci.image.layer.v1.tar+gzip", b"layer");
    shelf.name(
        tag,
        &json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": [layer],
        }),
    );
}

#[test]
fn of_all_tags_those_of_other_things_are_passed_over() {
    let shelf = Shelf::new(1);
    let at = shelf.proxy.at("web");
    // The order is that of the names: what is no image comes before the one that is, and after it.
    container(&shelf, "0");
    container(&shelf, "2");
    let mut elsewhere = shelf.name("1-arm", &shelf.manifest("1"));
    elsewhere["platform"] = json!({ "os": "linux", "architecture": "riscv64" });
    shelf.name(
        "1-arm",
        &json!({ "schemaVersion": 2, "manifests": [elsewhere] }),
    );
    let home = Home::new();
    let ran = home.run(&["pull", &at, "--all-tags"]).ends_with(0);
    let said = ran.stderr;
    for (tag, why) in [
        ("0", "is not a vmfab image: it is a container image"),
        ("2", "is not a vmfab image: it is a container image"),
        ("1-arm", "it has linux/riscv64"),
    ] {
        let line = said
            .lines()
            .find(|line| line.contains(&format!("skipped: {at}:{tag} ")) && line.contains(why));
        assert!(line.is_some(), "{tag}: {said}");
    }
    assert!(ran.stdout.starts_with("@web-1 is "), "{}", ran.stdout);
    assert_eq!(ran.stdout.lines().count(), 1);
    let told = Home::new().json(&["pull", &at, "--all-tags"]);
    assert_eq!(told.as_array().unwrap().len(), 1, "{told:#}");
}

#[test]
fn of_all_tags_one_that_fails_keeps_no_other() {
    let shelf = Shelf::new(1);
    let at = shelf.proxy.at("web");
    // Two that name a config which is something else, and an image behind them.
    for (tag, content) in [("0", b"one"), ("00", b"two")] {
        let config = shelf.blob("x", content);
        shelf.changed(tag, |manifest| {
            for field in ["digest", "size"] {
                manifest["config"][field] = config[field].clone();
            }
            manifest["config"].as_object_mut().unwrap().remove("data");
        });
    }
    container(&shelf, "2");
    let home = Home::new();
    let ran = home
        .run(&["pull", &at, "--all-tags", "--json"])
        .ends_with(6);
    let pulled: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(pulled.as_array().unwrap().len(), 1, "{pulled:#}");
    assert_eq!(pulled[0]["tags"], json!(["web-1"]));
    assert!(home.disk("web-1") == shelf.maker.disk("web"));
    let said = home.refused(&["pull", &at, "--all-tags"], 6);
    assert!(said.contains("2 images could not be pulled"), "{said}");
    assert!(said.contains(&format!("{at}:0: its config is")), "{said}");
    assert!(said.contains(&format!("{at}:00: its config is")), "{said}");
    home.is_clean();
    // Where nothing is an image, there is nothing to pull.
    container(&shelf, "1");
    container(&shelf, "0");
    container(&shelf, "00");
    let said = Home::new().refused(&["pull", &at, "--all-tags"], 3);
    assert!(said.contains("no image under any tag"), "{said}");
}

#[test]
fn what_would_fail_for_all_tags_is_tried_once() {
    let shelf = Shelf::new(1);
    let at = shelf.proxy.at("web");
    for tag in ["2", "3", "4"] {
        shelf.changed(tag, |_| {});
    }
    let denied = Fault::Status(403, None);
    shelf.proxy.always("GET", "web/manifests/2", denied);
    let home = Home::new();
    let ran = home.run(&["pull", &at, "--all-tags"]).ends_with(1);
    assert!(ran.stdout.starts_with("@web-1 is "), "{}", ran.stdout);
    assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
    for part in ["refuses access", &format!("2 more tags of {at} not tried")] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    assert_eq!(shelf.proxy.count("GET", "web/manifests/3"), 0);
    // What fails for one is not that of the others.
    shelf.proxy.no_faults();
    let cut = Fault::Status(500, None);
    shelf.proxy.always("GET", "web/manifests/2", cut);
    let ran = home.run(&["pull", &at, "--all-tags"]).ends_with(1);
    assert_eq!(ran.stdout.lines().count(), 3, "{}", ran.stdout);
    assert!(!ran.stderr.contains("not tried"), "{}", ran.stderr);
}

#[test]
fn layouts_with_one_manifest_need_no_tag_and_those_with_several_do() {
    let home = Home::new();
    home.image("web", &disk(1, MIB));
    home.image("db", &disk(2, MIB));
    home.push("@web", "oci:layout:web");
    let other = Home::new();
    let layout = format!("oci:{}", home.path("layout").display());
    assert_eq!(other.pull(&layout)["name"], "web");
    home.push("@db", "oci:layout:db");
    let said = other.refused(&["pull", &layout], 1);
    assert!(
        said.contains("several manifests") && said.contains(":db"),
        "{said}"
    );
    assert_eq!(other.pull(&format!("{layout}:db"))["name"], "db");
    let all = other.json(&["pull", &layout, "--all-tags"]);
    assert_eq!(all.as_array().unwrap().len(), 2, "{all:#}");
    let nowhere = format!("oci:{}", home.path("nowhere").display());
    other.refused(&["pull", &nowhere], 3);
    other.refused(&["pull", "oci-archive:nowhere.tar"], 3);
    std::fs::write(other.path("text.tar"), "no archive").unwrap();
    other.refused(&["pull", "oci-archive:text.tar"], 6);
    other.is_clean();
}

#[test]
fn a_disk_that_was_pushed_with_oras_is_an_image() {
    let shelf = Shelf::new(1);
    let content = disk(5, MIB);
    let home = Home::new();
    std::fs::write(home.path("disk.raw"), &content).unwrap();
    let mut convert = tool("qemu-img", "qemu-utils");
    convert.args([
        "convert",
        "-f",
        "raw",
        "-O",
        "qcow2",
        "disk.raw",
        "disk.qcow2",
    ]);
    Ran::of(convert.current_dir(home.directory())).ends_with(0);
    let qcow2 = std::fs::read(home.path("disk.qcow2")).unwrap();
    let compressed = zstd::encode_all(&*qcow2, 1).unwrap();
    let mut layer = shelf.blob("application/zstd", &compressed);
    layer["annotations"] = json!({ "org.opencontainers.image.title": "machine.qcow2.zst" });
    let config = shelf.blob("application/vnd.oci.empty.v1+json", b"{}");
    let mut descriptor = shelf.name(
        "machine",
        &json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.example.machine",
            "config": config, "layers": [layer],
        }),
    );
    let pulled = home.pull(&shelf.at("machine"));
    assert_eq!(pulled["tags"], json!(["web"]));
    assert!(home.disk("web") == content);
    let tagged = home.json(&["pull", &shelf.at("machine"), "--tag", "@mine"]);
    assert_eq!(tagged[0]["image"], pulled["image"]);
    // As podman's: an index of machines for several monitors.
    descriptor["platform"] = json!({ "os": "linux", "architecture": std::env::consts::ARCH });
    descriptor["annotations"] = json!({ "disktype": "qemu" });
    let mut wrong = descriptor.clone();
    wrong["annotations"] = json!({ "disktype": "hyperv" });
    shelf.name(
        "podman",
        &json!({ "schemaVersion": 2, "manifests": [wrong, descriptor] }),
    );
    let other = Home::new();
    other.pull(&shelf.at("podman"));
    assert!(other.disk("web") == content);
    // All tags: vmfab's own, and this one.
    let all = Home::new().json(&["pull", &shelf.proxy.at("web"), "--all-tags"]);
    assert_eq!(all.as_array().unwrap().len(), 3, "{all:#}");
}

/// Puts a disk into a repository, as `oras push` does; gives what names its manifest.
#[track_caller]
pub(super) fn oras(place: &str, tag: &str, disk: &[u8]) -> serde_json::Value {
    let repository = local::open(place);
    local::put(&*repository, b"{}").unwrap();
    local::put(&*repository, disk).unwrap();
    let mut layer = descriptor("application/octet-stream", disk);
    layer["annotations"] = json!({ "org.opencontainers.image.title": "disk.raw" });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media::MANIFEST,
        "artifactType": "application/vnd.example.machine",
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [layer],
    });
    let manifest = manifest.to_string().into_bytes();
    let version = local::tag(tag);
    repository
        .put_manifest(&version, media::MANIFEST, &manifest)
        .unwrap();
    repository.finish().unwrap();
    descriptor(media::MANIFEST, &manifest)
}

#[test]
fn all_tags_of_layouts_with_disks_of_others() {
    let home = Home::new();
    for (name, own) in [("theirs", "theirs"), ("Their Disks", "theirdisks")] {
        let place = format!("oci:{}", home.path(name).display());
        let disks = [disk(1, MIB), disk(2, MIB)];
        for (tag, disk) in ["1.0", "second"].into_iter().zip(&disks) {
            oras(&place, tag, disk);
        }
        let told = home.json(&["pull", &place, "--all-tags"]);
        let all = told.as_array().unwrap();
        assert_eq!(all.len(), 2, "{told:#}");
        for ((one, tag), disk) in all.iter().zip(["1.0", "second"]).zip(&disks) {
            assert_eq!(one["tags"], json!([format!("{own}-{tag}")]));
            assert_eq!(one["reference"], format!("{place}:{tag}"));
            assert!(home.disk(&format!("{own}-{tag}")) == *disk);
        }
    }
    home.is_clean();
}

#[test]
fn disks_of_others_lie_where_they_lie() {
    let home = Home::new();
    for (number, (directory, own)) in [
        ("a \"b\" \\c", "abc"),
        ("$HOME ${x} $$", "homex"),
        ("#{y}//*z", "z"),
        ("_Überall", "berall"),
        ("\u{202e}\u{2028}", "image"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = home.path(directory);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let place = format!("oci:{}:1", path.display());
        let content = disk(number as u64, MIB);
        oras(place.trim_end_matches(":1"), "1", &content);
        let pulled = home.pull(&place);
        assert_eq!(pulled["tags"], json!([own]), "{directory:?}");
        assert!(home.disk(own) == content, "{directory:?}");
    }
    let place = format!("oci:{}", home.path("a\nb").display());
    oras(&place, "1", &disk(1, 1000));
    let said = home.refused(&["pull", &place], 2);
    assert!(said.contains("cannot be written into a recipe"), "{said}");
    assert!(said.contains("rename it"), "{said}");
    home.is_clean();
}

#[test]
fn a_tag_that_moves_to_another_image_is_told() {
    let shelf = Shelf::new(1);
    let (home, first) = (Home::new(), shelf.maker.tagged("web").unwrap());
    let second = shelf.maker.image("web", &disk(2, MIB));
    shelf.maker.push("@web", &shelf.at("2"));
    let said = |words: &[&str]| {
        let all = [&["pull"], words].concat();
        home.run(&all).ends_with(0).stderr.replace("\n  │ ", " ")
    };
    let moved = |tag: &str, from: &str, to: &str| {
        format!("@{tag} named {}, and names {} now", &from[..12], &to[..12])
    };
    for new in [&[][..], &["--tag", "@mine"]] {
        let said = said(&[&[shelf.at("1").as_str()], new].concat());
        assert!(!said.contains("named"), "{said}");
    }
    let at = shelf.at("2");
    let text = said(&[&at, "-t", "@web", "-t", "new"]);
    assert!(text.contains(&moved("web", &first, &second)), "{text}");
    assert_eq!(text.matches("named").count(), 1, "{text}");
    assert!(!said(&[&at]).contains("named"), "it names it already");
    assert_eq!(home.tagged("mine"), Some(first));
    // A disk of others, too.
    let place = format!("oci:{}", home.path("web").display());
    oras(&place, "1", &disk(3, MIB));
    let text = said(&[&place]);
    let third = home.tagged("web").unwrap();
    assert!(text.contains(&moved("web", &second, &third)), "{text}");
    assert!(!said(&[&place]).contains("named"));
}

#[test]
fn accounts_are_needed_where_a_registry_wants_them() {
    let registry = Registry::with(&RegistryOptions {
        users: vec![("anna", "secret")],
        ..RegistryOptions::default()
    });
    let home = Home::new();
    let image = home.image("web", &disk(1, MIB));
    let at = registry.at("web:1");
    let with = |home: &Home, words: &[&str], password: &str| {
        let mut command = home.command(words);
        command
            .env("VMFAB_REGISTRY", registry.address())
            .env("VMFAB_REGISTRY_USER", "anna")
            .env("VMFAB_REGISTRY_PASSWORD", password);
        Ran::of(&mut command)
    };
    with(&home, &["push", "@web", &at], "secret").ends_with(0);
    let other = Home::new();
    let said = with(&other, &["pull", &at], "wrong").ends_with(1).stderr;
    assert!(
        said.contains("check that the account may do that"),
        "{said}"
    );
    assert!(!said.contains("wrong"), "{said}");
    let said = other.refused(&["pull", &at], 1);
    assert!(
        said.contains(&format!("vmfab login {}", registry.address())),
        "{said}"
    );
    other.has_nothing();
    with(&other, &["pull", &at], "secret").ends_with(0);
    assert_eq!(other.tagged("web"), Some(image));
}

#[test]
fn offline_takes_what_is_local_and_refuses_registries() {
    let shelf = Shelf::new(1);
    shelf.maker.push("@web", "oci-archive:web.tar:1");
    let home = Home::new();
    let before = shelf.proxy.seen().len();
    let said = home.refused(&["--offline", "pull", &shelf.at("1")], 1);
    assert!(
        said.contains("offline") && said.contains("without --offline"),
        "{said}"
    );
    assert_eq!(shelf.proxy.seen().len(), before);
    let archive = format!("oci-archive:{}", shelf.maker.path("web.tar").display());
    home.run(&["--offline", "pull", &archive]).ends_with(0);
    assert!(home.disk("web") == shelf.maker.disk("web"));
}

#[test]
fn a_registry_in_front_of_nothing_is_told() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let home = Home::new();
    let said = home.refused(&["pull", &format!("127.0.0.1:{port}/web:1")], 1);
    assert!(said.contains(&port.to_string()), "{said}");
    // One that takes connections and ends them.
    let proxy = Proxy::start(port);
    let said = home.refused(&["pull", &proxy.at("web:1")], 1);
    assert!(said.contains("try again"), "{said}");
    home.has_nothing();
}

#[test]
fn a_config_with_a_hostile_value_is_refused() {
    let shelf = Shelf::new(1);
    let manifest = shelf.manifest("1");
    let kind = manifest["config"]["mediaType"].as_str().unwrap().to_owned();
    let image = shelf.maker.tagged("web").unwrap();
    let config = shelf.maker.store().read_object(&image.parse().unwrap());
    let config: serde_json::Value = serde_json::from_slice(&config.unwrap()).unwrap();
    let home = Home::new();
    let option = "-oProxyCommand=touch /tmp/vmfab-was-here";
    for (number, (pointer, value)) in [
        ("/ssh-user", json!(option)),
        ("/ssh-user", json!("root\nroot")),
        ("/users", json!({ option: "/root" })),
        ("/users", json!({ "root": "/root\"\nf /etc/x" })),
        ("/users", json!({ "root": "../root" })),
        ("/name", json!("--help")),
        ("/name", json!("\u{1b}]0;x\u{7}")),
        ("/architecture", json!("x86_64,accel=x")),
        ("/boot/command-line", json!("root=/dev/vda\nlinux /evil\n")),
        ("/hostname", json!("a\nb")),
        ("/env", json!({ "A\nB": "1" })),
        ("/env", json!({ "A": "1\u{0}" })),
        ("/ports", json!([{ "guest": 0, "host": null }])),
        (
            "/ports",
            json!([{ "guest": "22,hostfwd=tcp::1-:1", "host": null }]),
        ),
        (
            "/kernel-files",
            json!({ "path": "/../etc/shadow", "initrd": null }),
        ),
        ("/filesystem", json!({ "type": "ext4", "label": "-x y" })),
        ("/recipe/version", json!("\u{9b}2J")),
        ("/description", json!("\u{1b}[2J")),
        ("/metadata", json!({ "a": "\u{1b}[2J" })),
    ]
    .into_iter()
    .enumerate()
    {
        let mut config = config.clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[field] = value.clone();
        let blob = shelf.blob(&kind, config.to_string().as_bytes());
        let tag = format!("hostile-{number}");
        shelf.changed(&tag, |manifest| manifest["config"] = blob);
        let said = home.refused(&["pull", &shelf.at(&tag)], 6);
        assert!(said.contains("not an image config"), "{value}: {said}");
        let is_harmful = |c: char| c.is_control() && c != '\n';
        assert!(!said.contains(is_harmful), "{value}: {said:?}");
        // It is not pulled on the way to a machine either.
        if number == 0 {
            home.refused(&["boot", &shelf.at(&tag)], 6);
        }
    }
    home.has_nothing();
}
