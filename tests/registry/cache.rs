//! Build caches: what others built is not built again, and what is wrong with a cache is no error.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use vmfab::registry::Version;

use super::bases::{Bench, Layer, busybox, tar};
use super::home::Home;
use super::shelf::digits;
use super::{User, bytes};
use crate::support::proxy::Proxy;
use crate::support::registry::Registry;
use crate::support::{Build, Ran};

const MIB: usize = 1 << 20;

/// A recipe with a base that has some MiB, and a registry.
pub(super) struct Shop {
    bench: Bench,
    pub(super) registry: Registry,
    pub(super) proxy: Proxy,
}

impl Shop {
    pub(super) fn new() -> Self {
        let bench = Bench::new();
        let sh = fs::read(busybox()).unwrap();
        let layer = tar(&[
            ("bin/busybox", &sh),
            ("bin/sh", &sh),
            ("kept", &bytes(MIB, 1)),
            ("dropped", &bytes(6 * MIB, 2)),
        ]);
        bench.image(&[Layer::new("+gzip", &layer)], json!({}));
        let registry = Registry::start();
        let shop = Self {
            proxy: Proxy::start(registry.port()),
            bench,
            registry,
        };
        shop.recipe("echo last > /last");
        shop
    }

    /// Writes the recipe with this as its last `run`.
    pub(super) fn recipe(&self, last: &str) {
        let text = format!(
            "image \"test\" {{\n    from \"oci:layout:1\"\n    run \"echo one > /one\"\n    \
             run \"busybox rm /dropped\"\n    run \"{last}\"\n    \
             file \"/boot/vmlinuz\" {{ content \"x\" }}\n    disk size=\"64M\"\n}}\n"
        );
        fs::write(self.bench.path("test.kdl"), text).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.bench.path("test.kdl")
    }

    pub(super) fn cache(&self) -> String {
        self.proxy.at("cache")
    }

    /// `vmfab build` with a home, without caches.
    pub(super) fn command(&self, home: &Home) -> Command {
        let mut command = home.command(&["build", "--json"]);
        for name in ["VMFAB_CACHE", "VMFAB_CACHE_PUSH", "VMFAB_CACHE_MODE"] {
            command.env_remove(name);
        }
        command.arg(self.file());
        command
    }

    #[track_caller]
    pub(super) fn build(&self, home: &Home, options: &[&str]) -> Build {
        Build::of(self.command(home).args(options)).succeeds()
    }

    /// Builds with the cache, and pushes nothing.
    #[track_caller]
    pub(super) fn asks(&self, home: &Home) -> Build {
        self.build(home, &["--cache", &self.cache()])
    }

    /// Tags of results, in the order in which the steps that have them were asked for.
    pub(super) fn tags_in_order(&self) -> Vec<String> {
        let mut tags: Vec<String> = Vec::new();
        for seen in self.proxy.seen() {
            if let Some((_, tag)) = seen.path.split_once("/manifests/")
                && tag.starts_with("vmfab-")
                && !tags.iter().any(|other| other == tag)
            {
                tags.push(tag.to_owned());
            }
        }
        tags
    }

    /// Builds and pushes.
    #[track_caller]
    pub(super) fn fills(&self, home: &Home, mode: &str) -> Build {
        self.build(home, &["--cache-push", &self.cache(), "--cache-mode", mode])
    }
}

pub(super) fn warnings(build: &Build) -> Vec<&str> {
    let warnings = build.events("warning");
    warnings
        .map(|event| event["message"].as_str().unwrap())
        .collect()
}

/// The image of a cold home without any cache.
pub(super) fn right(shop: &Shop) -> String {
    shop.build(&Home::new(), &[]).image().to_owned()
}

/// Packs that a cold home gets, and those that are in the cache.
fn packs(shop: &Shop, since: usize) -> (BTreeSet<String>, BTreeSet<String>) {
    let repository = User::new().open(&shop.registry.at("cache"));
    let mut all = BTreeSet::new();
    for tag in repository.tags().unwrap() {
        let fetched = repository.manifest(&Version::tag(&tag).unwrap()).unwrap();
        let manifest: Value = serde_json::from_slice(&fetched.unwrap().bytes).unwrap();
        for layer in manifest["layers"].as_array().unwrap() {
            if layer["mediaType"] == "application/vnd.vmfab.pack.v1" {
                all.insert(digits(layer));
            }
        }
    }
    let seen = shop.proxy.seen();
    let asked = seen[since..].iter().filter_map(|one| {
        let digest = one.path.rsplit(':').next()?;
        all.contains(digest).then(|| digest.to_owned())
    });
    (asked.collect(), all.clone())
}

#[test]
fn a_cold_home_gets_the_image_and_nothing_else() {
    let shop = Shop::new();
    let built = shop.fills(&Home::new(), "max");
    assert_eq!(built.started().len(), 9, "{:?}", built.started());
    let (home, since) = (Home::new(), shop.proxy.seen().len());
    let taken = shop.asks(&home);
    assert_eq!(taken.started(), [""; 0]);
    assert_eq!(
        taken.result()["steps"],
        json!({ "built": 0, "cached": 0, "remote": 9 })
    );
    assert_eq!(taken.image(), built.image());
    assert_eq!(warnings(&taken), [""; 0]);
    let (asked, all) = packs(&shop, since);
    assert!(asked.len() < all.len(), "{asked:?} of {all:?}");
    home.is_clean();
    // Now it is known here that there is nothing to do, whether the cache is there or not.
    let count = shop.proxy.seen().len();
    for options in [&[][..], &["--offline"], &["--cache", "127.0.0.1:1/cache"]] {
        let again = shop.build(&home, options);
        assert_eq!(
            again.result()["steps"],
            json!({ "built": 0, "cached": 9, "remote": 0 })
        );
        assert_eq!(warnings(&again), [""; 0]);
    }
    assert_eq!(shop.proxy.seen().len(), count);
    // The text tells it, too.
    let other = Home::new();
    let mut command = other.command(&["build", "--cache", &shop.cache()]);
    let said = Ran::of(command.arg(shop.file())).ends_with(0).stdout;
    assert!(said.contains("9 steps from the cache"), "{said}");
}

#[test]
fn plan_and_explain_say_what_a_cache_has() {
    let shop = Shop::new();
    let cache = shop.cache();
    let filler = Home::new();
    shop.fills(&filler, "max");
    let file = shop.file().display().to_string();
    let says = |home: &Home, command: &str, cache: &str| {
        let ran = home.run(&[command, &file, "--cache", cache]);
        ran.ends_with(0).stdout
    };
    let states = |home: &Home, cache: &str| -> Vec<(Value, Value)> {
        let plan = home.json(&["plan", &file, "--cache", cache]);
        let steps = plan["steps"].as_array().unwrap().iter();
        steps
            .map(|step| (step["state"].clone(), step["from"].clone()))
            .collect()
    };
    let home = Home::new();
    assert_eq!(
        states(&home, &cache),
        vec![(json!("remote"), json!(cache)); 9]
    );
    let plan = says(&home, "plan", &cache);
    assert!(
        plan.contains("9 steps, 0 cached, 9 remote, 0 to build"),
        "{plan}"
    );
    assert!(plan.contains("  remote  "), "{plan}");
    assert_eq!(
        says(&home, "explain", &cache),
        "test: 9 steps, 0 cached, 9 remote; nothing would run\n"
    );
    // What the home has itself is not remote, whatever a cache has.
    assert_eq!(
        states(&filler, &cache),
        vec![(json!("cached"), Value::Null); 9]
    );
    assert_eq!(
        says(&filler, "explain", &cache),
        "test: 9 steps, all cached; nothing would run\n"
    );
    // The words are those of the build, of which nothing but the image was brought.
    let taken = shop.asks(&home);
    assert_eq!(taken.result()["steps"]["remote"], 9);
    assert_eq!(
        states(&home, "none"),
        vec![(json!("cached"), Value::Null); 9]
    );
    // A step that changed is built on what it reads, and that is still only in the cache.
    shop.recipe("echo changed > /last");
    let mut changed = states(&home, &cache);
    changed.retain(|(state, _)| state == "remote");
    assert!(!changed.is_empty());
    let plan = says(&home, "plan", &cache);
    let told = format!(" {} remote, ", changed.len());
    assert!(plan.contains(&told), "{plan}");
}

#[test]
fn a_changed_step_is_built_on_what_the_cache_has() {
    let shop = Shop::new();
    shop.fills(&Home::new(), "max");
    shop.recipe("echo changed > /last");
    let home = Home::new();
    let built = shop.asks(&home);
    let started = built.started();
    assert_eq!(started[0], "test: run echo changed > /last");
    assert_eq!(built.result()["steps"]["remote"], 4);
    assert_eq!(warnings(&built), [""; 0]);
    assert_eq!(built.image(), right(&shop));
    home.is_clean();
    // One that is built afresh is not taken from a cache.
    let rebuilt = shop.build(&Home::new(), &["--rebuild", "--cache", &shop.cache()]);
    assert_eq!(rebuilt.started().len(), 9);
}

#[test]
fn a_small_cache_has_the_image_and_the_results() {
    let shop = Shop::new();
    let built = shop.fills(&Home::new(), "min");
    let home = Home::new();
    let taken = shop.asks(&home);
    assert_eq!(taken.started(), [""; 0]);
    assert_eq!(taken.image(), built.image());
    // What is changed is built with all that it stands on, and that is no reason to warn.
    shop.recipe("echo changed > /last");
    let cold = Home::new();
    let changed = shop.asks(&cold);
    assert_eq!(warnings(&changed), [""; 0]);
    assert_eq!(changed.started().len(), 9, "{:?}", changed.started());
    assert_eq!(changed.image(), right(&shop));
    cold.is_clean();
    // Content comes with the next one who has it.
    shop.fills(&cold, "max");
    shop.recipe("echo changed again > /last");
    assert_eq!(shop.asks(&Home::new()).result()["steps"]["remote"], 4);
}

#[test]
fn several_caches_are_asked_in_order() {
    let shop = Shop::new();
    shop.fills(&Home::new(), "max");
    let empty = shop.proxy.at("empty");
    let (home, cache) = (Home::new(), shop.cache());
    let options = ["--cache", &empty, "--cache", &cache, "--cache-push", &empty];
    let taken = shop.build(&home, &options);
    assert_eq!(taken.started(), [""; 0]);
    let found = taken.events("step-found").next().unwrap();
    assert_eq!(found["from"], cache.as_str());
    // What came from the one went to the other, as far as it came.
    let again = shop.build(&Home::new(), &["--cache", &empty]);
    assert_eq!(again.image(), taken.image());
}

#[test]
fn where_caches_are_set() {
    let shop = Shop::new();
    let cache = shop.cache();
    let filler = Home::new();
    let mut command = shop.command(&filler);
    command
        .env("VMFAB_CACHE_PUSH", &cache)
        .env("VMFAB_CACHE_MODE", "min");
    Build::of(&mut command).succeeds();
    let remote = |home: &Home, variable: &str, options: &[&str]| {
        let mut command = shop.command(home);
        command.env("VMFAB_CACHE", variable).args(options);
        Build::of(&mut command).succeeds().result()["steps"]["remote"].clone()
    };
    assert_eq!(remote(&Home::new(), &cache, &[]), 9);
    assert_eq!(remote(&Home::new(), &cache, &["--cache", "none"]), 0);
    let configured = || {
        let home = Home::new();
        home.configure(&format!(
            "cache \"{cache}\" push=#true\ndownloads retries=2\n"
        ));
        home
    };
    assert_eq!(remote(&configured(), "", &[]), 9);
    assert_eq!(remote(&configured(), "none", &[]), 0);
    let posts = shop.proxy.count("POST", "");
    remote(&configured(), "", &["--rebuild", "--cache-push", "none"]);
    assert_eq!(shop.proxy.count("POST", ""), posts);
}

#[test]
fn two_runners_fill_a_cache_at_once() {
    let shop = Shop::new();
    let homes = [Home::new(), Home::new()];
    let built: Vec<Build> = std::thread::scope(|scope| {
        let shop = &shop;
        let fill = |home| scope.spawn(move || shop.fills(home, "max"));
        let running: Vec<_> = homes.iter().map(fill).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(built[0].image(), built[1].image());
    // Debian's registry may say of a blob that two bring at once that it does not have it.
    for warnings in built.iter().map(warnings) {
        assert!(warnings.len() <= 1, "{warnings:?}");
        assert!(
            warnings
                .iter()
                .all(|one| one.contains("skipping the cache")),
            "{warnings:?}"
        );
    }
    for home in &homes {
        assert_eq!(warnings(&shop.fills(home, "max")), [""; 0]);
    }
    let taken = shop.asks(&Home::new());
    assert_eq!(taken.started(), [""; 0]);
    assert_eq!(taken.image(), built[0].image());
}

#[test]
fn results_are_no_images() {
    let shop = Shop::new();
    let home = Home::new();
    shop.fills(&home, "max");
    let cache = shop.cache();
    let told = home.json(&["tags", &cache]);
    assert_eq!(told["tags"], json!([]));
    assert_eq!(told["results"], 9);
    home.refused(&["pull", &cache, "--all-tags"], 3);
    // Images can lie beside them.
    home.push("@test", &format!("{cache}:1"));
    assert_eq!(home.run(&["tags", &cache]).ends_with(0).stdout, "1\n");
    let other = Home::new();
    let pulled = other.json(&["pull", &cache, "--all-tags"]);
    assert_eq!(pulled.as_array().unwrap().len(), 1);
    assert_eq!(pulled[0]["tags"], json!(["test-1"]));
    let result = shop.tags_in_order()[0].clone();
    let said = other.refused(&["pull", &format!("{cache}:{result}")], 1);
    assert!(said.contains("application/vnd.vmfab.result.v1"), "{said}");
}
