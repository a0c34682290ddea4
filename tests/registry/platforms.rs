//! Pulling what is for one of several platforms.

use serde_json::{Value, json};
use vmfab::registry::{Platform, media};

use super::home::{Home, disk};
use super::local;
use super::pull::oras;
use super::shelf::descriptor;
use crate::support::proxy::Proxy;
use crate::support::registry::Registry;

const MIB: usize = 1 << 20;

#[test]
fn an_image_of_another_architecture_is_taken_when_it_is_the_only_one() {
    let (registry, home) = (Registry::start(), Home::new());
    let image = home.image_for("web", &disk(1, MIB), "riscv64");
    home.push("@web", &registry.at("web:1"));
    assert_eq!(
        Home::new().pull(&registry.at("web:1"))["image"],
        image.as_str()
    );
}

#[test]
fn a_platform_that_no_index_tells_is_that_of_the_image() {
    let registry = Registry::start();
    let proxy = Proxy::start(registry.port());
    let maker = Home::new();
    let image = maker.image_for("web", &disk(1, 2 * MIB), "aarch64");
    let at = proxy.at("web:1");
    maker.push("@web", &at);
    let home = Home::new();
    let before = proxy.moved().1;
    for wrong in ["linux/amd64", "x86_64", "riscv64", "freebsd/arm64"] {
        let said = home.refused(&["pull", &at, "--platform", wrong], 1);
        assert!(said.contains("linux/arm64"), "{wrong}: {said}");
        assert!(said.contains("--platform"), "{wrong}: {said}");
    }
    home.has_nothing();
    let down = proxy.moved().1 - before;
    assert!(down < MIB, "{down} bytes of an image that is not wanted");
    for right in ["linux/arm64", "aarch64", "linux/arm64/v8"] {
        let pulled = home.json(&["pull", &at, "--platform", right]);
        assert_eq!(pulled[0]["image"], image.as_str(), "{right}");
    }
}

#[test]
fn a_platform_of_a_containerdisk_is_that_of_its_config() {
    let (registry, maker, home) = (Registry::start(), Home::new(), Home::new());
    let at = registry.at("web:1");
    maker.image("web", &disk(1, MIB));
    let words = ["push", "@web", &at, "--layout", "containerdisk"];
    maker.run(&words).ends_with(0);
    let said = home.refused(&["pull", &at, "--platform", "arm64"], 1);
    assert!(said.contains("linux/amd64"), "{said}");
    home.has_nothing();
    home.json(&["pull", &at, "--platform", "amd64"]);
}

#[test]
fn a_config_may_tell_only_the_architecture() {
    let (registry, maker, home) = (Registry::start(), Home::new(), Home::new());
    let at = registry.at("web");
    maker.image("web", &disk(1, MIB));
    let tagged = format!("{at}:1");
    let words = ["push", "@web", &tagged, "--layout", "containerdisk"];
    maker.run(&words).ends_with(0);
    let repository = local::open(&at);
    let fetched = repository.manifest(&local::tag("1")).unwrap().unwrap();
    let mut manifest: Value = serde_json::from_slice(&fetched.bytes).unwrap();
    let layers = &manifest["layers"];
    let config = json!({
        "architecture": "s390x",
        "rootfs": { "type": "layers", "diff_ids": [layers[0]["digest"]] },
    });
    let config = config.to_string().into_bytes();
    local::put(&*repository, &config).unwrap();
    manifest["config"] = descriptor(media::CONFIG, &config);
    let bytes = manifest.to_string().into_bytes();
    repository
        .put_manifest(&local::tag("2"), media::MANIFEST, &bytes)
        .unwrap();
    let own = Platform::host().to_string();
    let said = home.refused(&["pull", &format!("{at}:2"), "--platform", &own], 1);
    let part = format!("has no image for {own}: it has s390x");
    assert!(said.contains(&part), "{said}");
    home.has_nothing();
}

#[test]
fn disks_of_others_are_taken_for_this_host() {
    let (registry, elsewhere) = (Registry::start(), tempfile::tempdir().unwrap());
    let own = Platform::host().to_string();
    let other = match own.as_str() {
        "linux/amd64" => "linux/arm64",
        _ => "linux/amd64",
    };
    let special = format!("{own}/v9");
    let layout = format!("oci:{}", elsewhere.path().join("layout").display());
    for (place, chooses_again) in [(registry.at("web"), false), (layout, true)] {
        let disks = [disk(1, MIB), disk(2, MIB), disk(3, MIB)];
        let platforms = [other, &special, &own];
        let manifests = platforms.into_iter().zip(&disks).zip(["a", "b", "c"]);
        let manifests = manifests.map(|((platform, disk), tag)| {
            let parts: Vec<&str> = platform.split('/').collect();
            let mut named = oras(&place, tag, disk);
            named["platform"] = json!({ "os": parts[0], "architecture": parts[1] });
            if let Some(variant) = parts.get(2) {
                named["platform"]["variant"] = json!(variant);
            }
            named
        });
        let manifests: Vec<Value> = manifests.collect();
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        let repository = local::open(&place);
        let index = index.to_string().into_bytes();
        repository
            .put_manifest(&local::tag("1"), media::INDEX, &index)
            .unwrap();
        repository.finish().unwrap();

        let home = Home::new();
        let at = format!("{place}:1");
        // In the index, and alone without a word of what it is for.
        for at in [&at, &format!("{place}:a")] {
            let said = home.refused(&["pull", at, "--platform", other], 2);
            let part = format!("this host's architecture only, {own}, and not for {other}");
            assert!(said.contains(&part), "{said}");
        }
        let said = home.refused(&["pull", &place, "--all-tags", "--platform", other], 3);
        assert_eq!(said.matches("skipped").count(), 4, "{said}");
        home.has_nothing();
        let pull = |platform: &str, disk: &[u8]| {
            home.json(&["pull", &at, "--platform", platform, "--tag", "@it"]);
            assert!(home.disk("it") == disk, "{platform}");
        };
        pull(&own, &disks[2]);
        // A recipe names it by its digest, and cannot in a layout.
        match chooses_again {
            false => pull(&special, &disks[1]),
            true => {
                let said = home.refused(&["pull", &at, "--platform", &special], 2);
                assert!(said.contains("this host's architecture only"), "{said}");
            }
        }
    }
}
