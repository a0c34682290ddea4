//! Build caches that are down, or lie: there is a warning, and what they would have given is built.

use std::fs;
use std::sync::Arc;

use serde_json::{Value, json};
use vmfab::registry::{Described, Descriptor, Repository, Version, media};

use super::cache::{Shop, right, warnings};
use super::home::Home;
use super::shelf::{descriptor, digits};
use super::{User, bytes};
use crate::support::proxy::Fault;

/// Builds in a cold home with the cache: one warning with this part, and the right image. Tells how
/// many steps ran.
#[track_caller]
fn warns(shop: &Shop, expected: &str, part: &str) -> usize {
    let home = Home::new();
    let built = shop.asks(&home);
    let warnings = warnings(&built);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(part), "{warnings:?}");
    assert_eq!(built.image(), expected);
    home.is_clean();
    // The next build has nothing to do.
    assert_eq!(shop.build(&home, &[]).started(), [""; 0]);
    built.started().len()
}

/// A cache with the results of all steps, and the image that they are for.
fn filled() -> (Shop, String) {
    let shop = Shop::new();
    let right = right(&shop);
    shop.fills(&Home::new(), "max");
    (shop, right)
}

/// The same, with the repository of the cache, and the tags in it in the order in which a build
/// asks for them.
fn known() -> (Shop, String, Arc<dyn Repository>, Vec<String>) {
    let (shop, right) = filled();
    shop.asks(&Home::new());
    let tags = shop.tags_in_order();
    let repository = User::new().open(&shop.registry.at("cache"));
    (shop, right, repository, tags)
}

#[test]
fn a_cache_that_is_down_is_left_out() {
    let (shop, right) = filled();
    for fault in [
        Fault::Status(500, None),
        Fault::Status(403, None),
        Fault::LoseAnswer,
        Fault::Cut(0),
    ] {
        shop.proxy.no_faults();
        shop.proxy.always("GET", "/manifests/", fault);
        let before = shop.proxy.seen().len();
        assert_eq!(warns(&shop, &right, "skipping the cache"), 9);
        // It is not asked for every step.
        let requests = shop.proxy.seen().len() - before;
        assert!(requests <= 4, "{requests}");
    }
    // One that answers nonsense is asked on: it may be one answer.
    shop.proxy.no_faults();
    let nonsense = Fault::Answer("200 X\r\ncontent-length: 4", b"what", Some(1));
    shop.proxy.always("GET", "/manifests/", nonsense);
    assert_eq!(warns(&shop, &right, "is wrong"), 9);
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("{}/cache", listener.local_addr().unwrap())
    };
    let home = Home::new();
    let options = ["--cache", &nobody, "--cache-push", &nobody];
    let built = shop.build(&home, &options);
    assert_eq!(warnings(&built).len(), 2, "{:?}", warnings(&built));
    assert_eq!(built.image(), right);
}

#[test]
fn a_cache_that_says_nothing_is_left_out() {
    let (shop, right) = filled();
    shop.proxy.always("GET", "/manifests/", Fault::Stall(0));
    let before = shop.proxy.seen().len();
    assert_eq!(warns(&shop, &right, "skipping the cache"), 9);
    let requests = shop.proxy.seen().len() - before;
    assert!(requests <= 4, "{requests}");
}

#[test]
fn a_cache_that_does_not_give_content_is_left_out() {
    let (shop, right) = filled();
    for fault in [Fault::Status(500, None), Fault::Cut(0), Fault::LoseAnswer] {
        shop.proxy.no_faults();
        shop.proxy.always("GET", "/blobs/", fault);
        let before = shop.proxy.count("GET", "/blobs/");
        assert_eq!(
            warns(&shop, &right, "building the steps that are needed"),
            9
        );
        // Twice for each of the blobs that are moved at once.
        let requests = shop.proxy.count("GET", "/blobs/") - before;
        assert!(requests <= 8, "{requests}");
    }
}

#[test]
fn a_cache_that_garbles_content_is_built_around() {
    let (shop, right) = filled();
    // In the end, and in what the last steps need: all packs.
    let repository = User::new().open(&shop.registry.at("cache"));
    let mut files = Vec::new();
    for tag in repository.tags().unwrap() {
        let fetched = repository.manifest(&Version::tag(&tag).unwrap()).unwrap();
        let manifest: Value = serde_json::from_slice(&fetched.unwrap().bytes).unwrap();
        let layers = manifest["layers"].as_array().unwrap().iter();
        files.extend(layers.map(|layer| shop.registry.blob_file(&digits(layer))));
    }
    files.sort();
    files.dedup();
    let right_bytes: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    for (file, bytes) in files.iter().zip(&right_bytes) {
        let mut wrong = bytes.clone();
        let middle = wrong.len() / 2;
        wrong[middle] ^= 1;
        fs::write(file, wrong).unwrap();
    }
    assert_eq!(
        warns(&shop, &right, "building the steps with missing content"),
        9
    );
    for file in &files {
        fs::remove_file(file).unwrap();
    }
    assert_eq!(
        warns(&shop, &right, "building the steps with missing content"),
        9
    );
    // A runner that meets it and pushes mends it.
    let cache = shop.cache();
    let options = ["--cache", &cache, "--cache-push", &cache];
    shop.build(&Home::new(), &options);
    let home = Home::new();
    let mended = shop.asks(&home);
    assert_eq!(mended.started(), [""; 0], "{:?}", warnings(&mended));
    assert_eq!(mended.image(), right);
}

#[test]
fn results_of_other_actions_are_not_taken() {
    let (shop, right, repository, tags) = known();
    let version = |number: usize| Version::tag(&tags[number]).unwrap();
    let first = repository.manifest(&version(0)).unwrap().unwrap();
    let third = repository.manifest(&version(2)).unwrap().unwrap();
    let put = |number: usize, bytes: &[u8]| {
        let put = repository.put_manifest(&version(number), media::MANIFEST, bytes);
        put.unwrap();
    };
    put(2, &first.bytes);
    warns(&shop, &right, "is the result of another action");
    // An image is no result.
    let home = Home::new();
    home.image("web", &super::home::disk(1, 1000));
    home.push("@web", &shop.registry.at("cache:web"));
    let image = repository.manifest(&Version::tag("web").unwrap());
    put(2, &image.unwrap().unwrap().bytes);
    warns(&shop, &right, "is no result");
    put(2, &third.bytes);
    assert_eq!(shop.asks(&Home::new()).started(), [""; 0]);
}

/// What a result says.
#[track_caller]
fn told(repository: &dyn Repository, manifest: &Value) -> Value {
    let config: Descriptor = serde_json::from_value(manifest["config"].clone()).unwrap();
    let reader = repository.read_blob(&config.blob().unwrap(), None);
    serde_json::from_slice(&super::read(reader.unwrap()).unwrap()).unwrap()
}

/// Lets a result say something else.
#[track_caller]
fn tell(repository: &dyn Repository, version: &Version, manifest: &Value, config: &[u8]) {
    super::put(repository, config).unwrap();
    let mut changed = manifest.clone();
    changed["config"] = descriptor("application/vnd.vmfab.result.config.v1+json", config);
    let bytes = changed.to_string().into_bytes();
    repository
        .put_manifest(version, media::MANIFEST, &bytes)
        .unwrap();
}

#[test]
fn results_that_say_nothing_are_built() {
    let (shop, right, repository, tags) = known();
    let version = Version::tag(&tags[2]).unwrap();
    let fetched = repository.manifest(&version).unwrap().unwrap();
    let manifest: Value = serde_json::from_slice(&fetched.bytes).unwrap();
    let told = told(&*repository, &manifest);
    let with = |name: &str, value: Value| {
        let mut changed = told.clone();
        changed[name] = value;
        changed.to_string().into_bytes()
    };
    for (config, part) in [
        (with("outputs", json!({})), "is a result without outputs"),
        (with("outputs", Value::Null), "is no result: "),
        (with("outputs", json!({ "layer": 7 })), "is no result: "),
        (with("action", json!("../key")), "is no result: "),
        (b"no JSON".to_vec(), "is no result: "),
        (Vec::new(), "is no result: "),
        (bytes(3000, 1), "is no result: "),
    ] {
        tell(&*repository, &version, &manifest, &config);
        let built = warns(&shop, &right, part);
        assert!((1..9).contains(&built), "{built} steps");
    }
    // One of a later version is nobody's fault.
    tell(
        &*repository,
        &version,
        &manifest,
        &with("version", json!(2)),
    );
    let home = Home::new();
    let built = shop.asks(&home);
    assert_eq!(warnings(&built), [""; 0]);
    assert_eq!(built.image(), right);
}

#[test]
fn outputs_that_nobody_has_are_built() {
    let (shop, right, repository, tags) = known();
    for number in [1, 4, tags.len() - 1] {
        let version = Version::tag(&tags[number]).unwrap();
        let fetched = repository.manifest(&version).unwrap().unwrap();
        let manifest: Value = serde_json::from_slice(&fetched.bytes).unwrap();
        let told = told(&*repository, &manifest);
        for content in [true, false] {
            let mut lie = told.clone();
            for output in lie["outputs"].as_object_mut().unwrap().values_mut() {
                output["id"] = format!("{:064x}", 77 + number).into();
                output["content"] = content.into();
            }
            tell(
                &*repository,
                &version,
                &manifest,
                lie.to_string().as_bytes(),
            );
            let home = Home::new();
            let built = shop.asks(&home);
            assert_eq!(built.image(), right, "{number} {content}");
            assert_eq!(
                warnings(&built).len(),
                usize::from(content),
                "{:?}",
                warnings(&built)
            );
            assert!(!built.started().is_empty());
            home.is_clean();
        }
        let put = repository.put_manifest(&version, media::MANIFEST, &fetched.bytes);
        put.unwrap();
    }
}

#[test]
fn a_cache_that_takes_nothing_is_a_warning() {
    let shop = Shop::new();
    let faults = [
        ("POST", "/uploads/", Fault::Status(403, None)),
        ("POST", "/uploads/", Fault::Status(405, None)),
        ("PUT", "/manifests/", Fault::Status(403, None)),
        ("POST", "/uploads/", Fault::Status(500, None)),
    ];
    for (number, (method, part, fault)) in faults.into_iter().enumerate() {
        shop.proxy.no_faults();
        shop.proxy.always(method, part, fault);
        let before = shop.proxy.count("GET", "/manifests/");
        let cache = shop.proxy.at(&format!("cache-{number}"));
        let built = shop.build(&Home::new(), &["--cache-push", &cache]);
        let warnings = warnings(&built);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("skipping the cache"), "{warnings:?}");
        // It is left out from the first step on.
        assert!(shop.proxy.count("GET", "/manifests/") - before <= 3);
    }
    shop.proxy.no_faults();
    assert_eq!(
        shop.fills(&Home::new(), "max").result()["steps"]["built"],
        json!(9)
    );
    assert_eq!(shop.asks(&Home::new()).started(), [""; 0]);
}
