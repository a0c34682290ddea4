//! Recipes that start from images that others pushed, and machines of these.

use std::fs;

use serde_json::json;

use super::bases::{Bench, Layer, busybox, tar};
use super::bytes;
use super::home::Home;
use super::shelf::Shelf;
use crate::support::proxy::Proxy;
use crate::support::registry::Registry;
use crate::support::{Build, Lab, Machine, base};

const MIB: usize = 1 << 20;

impl Home {
    /// Writes `NAME.kdl` and builds it.
    fn recipe(&self, name: &str, from: &str, steps: &str) {
        let text = format!("image \"{name}\" {{\n    from \"{from}\"\n{steps}\n}}\n");
        fs::write(self.path(&format!("{name}.kdl")), text).unwrap();
    }

    fn build(&self, name: &str, options: &[&str]) -> Build {
        let file = format!("{name}.kdl");
        let words = [&["build", "--json", &file][..], options].concat();
        Build::of(&mut self.command(&words))
    }
}

/// An image with a tree, in a registry as `team/base:1`.
fn publish(registry: &Registry, version: &str) {
    let bench = Bench::new();
    let sh = fs::read(busybox()).unwrap();
    let layer = tar(&[
        ("bin/busybox", &sh),
        ("bin/sh", &sh),
        ("data", &bytes(2 * MIB, 1)),
    ]);
    bench.image(&[Layer::new("+gzip", &layer)], json!({}));
    let maker = Home::new();
    let layout = format!("oci:{}:1", bench.path("layout").display());
    let steps = format!(
        "    run \"echo {version} > /version\"\n    file \"/boot/vmlinuz\" {{ content \"x\" }}\n    disk size=\"64M\""
    );
    maker.recipe("base", &layout, &steps);
    maker.build("base", &[]).succeeds();
    let to = registry.at("team/base:1");
    maker.run(&["push", "@base", &to, "--layers"]).ends_with(0);
}

#[test]
fn a_recipe_starts_from_an_image_that_another_home_pushed() {
    let registry = Registry::start();
    let proxy = Proxy::start(registry.port());
    publish(&registry, "first");
    let home = Home::new();
    let from = format!("oci://{}", proxy.at("team/base:1"));
    let steps =
        "    run \"echo version $(busybox cat /version)\"\n    file \"/own\" { content \"mine\" }";
    home.recipe("web", &from, steps);
    // To plan, a manifest is enough.
    let plan = home.run(&["plan", "web.kdl"]).ends_with(0).stdout;
    assert!(plan.contains("file /own"), "{plan}");
    assert_eq!(proxy.count("GET", "/blobs/"), 0);
    let built = home.build("web", &[]).succeeds();
    assert!(
        built.output().contains(&"version first"),
        "{:?}",
        built.output()
    );
    assert!(proxy.count("GET", "/blobs/") > 0);
    home.is_clean();
    // Nothing is asked for again, not even the tag.
    let count = proxy.seen().len();
    assert_eq!(home.build("web", &[]).succeeds().started(), [""; 0]);
    assert_eq!(
        home.build("web", &["--offline"]).succeeds().started(),
        [""; 0]
    );
    home.recipe(
        "web",
        &from,
        &format!("{steps}\n    run \"echo more > /more\""),
    );
    home.build("web", &["--offline"]).succeeds();
    assert_eq!(proxy.seen().len(), count);
    // The tag moves: who updates gets the new one, others do not.
    home.run(&["lock", "web.kdl"]).ends_with(0);
    publish(&registry, "second");
    home.recipe("web", &from, steps);
    assert_eq!(home.build("web", &[]).succeeds().started(), [""; 0]);
    home.run(&["update"]).ends_with(0);
    let built = home.build("web", &[]).succeeds();
    assert!(
        built.output().contains(&"version second"),
        "{:?}",
        built.output()
    );
}

#[test]
fn a_cold_home_is_told_that_it_needs_the_registry() {
    let registry = Registry::start();
    publish(&registry, "first");
    let home = Home::new();
    let from = format!("oci://{}", registry.at("team/base:1"));
    home.recipe("web", &from, "    run \"true\"");
    let said = home.refused(&["--offline", "build", "web.kdl"], 1);
    assert!(said.contains("offline"), "{said}");
    home.recipe(
        "gone",
        &format!("oci://{}", registry.at("team/base:gone")),
        "",
    );
    let said = home.run(&["build", "gone.kdl"]);
    assert!(said.code == Some(4) || said.code == Some(3), "{said:?}");
    assert!(said.stderr.contains("team/base:gone"), "{}", said.stderr);
}

#[test]
fn an_image_that_is_a_disk_only_is_a_disk_to_start_from() {
    let shelf = Shelf::new(1);
    let home = Home::new();
    home.recipe("web", &format!("oci://{}", shelf.at("1")), "");
    let built = home.build("web", &[]);
    assert_eq!(built.code, Some(0), "{}", built.stderr);
    assert!(home.disk("web") == shelf.maker.disk("web"));
}

/// What makes each step of an image that starts so, by its plan.
#[track_caller]
fn planned(home: &Home, from: &str) -> Vec<String> {
    home.recipe("web", from, "    run \"true\"");
    let plan = home.json(&["plan", "web.kdl"]);
    let steps = plan["steps"].as_array().unwrap().iter();
    steps
        .map(|step| {
            format!(
                "{}: {}",
                step["builder"].as_str().unwrap(),
                step["name"].as_str().unwrap()
            )
        })
        .collect()
}

#[test]
fn an_image_without_its_layers_is_a_disk_to_start_from() {
    let registry = Registry::start();
    publish(&registry, "first");
    let (with, without) = (registry.at("team/base:1"), registry.at("team/bare:1"));
    let layered = Home::new();
    layered.pull(&with);
    layered.run(&["push", "@base", &without]).ends_with(0);
    let bare = Home::new();
    bare.pull(&without);
    assert_eq!(bare.tagged("base"), layered.tagged("base"), "one image");
    let oci = |at: &str| format!("oci://{at}");
    for (home, from) in [(&layered, "@base"), (&Home::new(), &oci(&with))] {
        let steps = planned(home, from);
        assert!(
            steps.contains(&"run: web: run true".to_owned()),
            "{from}: {steps:?}"
        );
    }
    // Then its steps need a machine that is booted from it.
    for (home, from) in [(&bare, "@base"), (&Home::new(), &oci(&without))] {
        let steps = planned(home, from);
        assert!(
            steps.contains(&"guest: web: run true".to_owned()),
            "{from}: {steps:?}"
        );
        assert!(
            !steps.iter().any(|step| step.contains("layer")),
            "{from}: {steps:?}"
        );
        assert!(
            steps[0].starts_with("object: ") && steps[0].ends_with(": disk"),
            "{steps:?}"
        );
    }
    // When the layers come it is a tree.
    bare.pull(&with);
    assert!(planned(&bare, "@base").contains(&"run: web: run true".to_owned()));
}

#[test]
fn a_base_whose_packs_are_garbled_is_refused() {
    let registry = Registry::start();
    publish(&registry, "first");
    let repository = super::User::new().open(&registry.at("team/base"));
    let fetched = repository.manifest(&vmfab::registry::Version::tag("1").unwrap());
    let manifest: serde_json::Value =
        serde_json::from_slice(&fetched.unwrap().unwrap().bytes).unwrap();
    let file = registry.blob_file(&super::shelf::digits(&manifest["layers"][1]));
    let right = fs::read(&file).unwrap();
    let mut wrong = right.clone();
    wrong[right.len() / 2] ^= 1;
    fs::write(&file, wrong).unwrap();
    let home = Home::new();
    let from = format!("oci://{}", registry.at("team/base:1"));
    home.recipe("web", &from, "    run \"true\"");
    let built = home.build("web", &[]).ends_with(6);
    assert!(built.stderr.contains("pack"), "{}", built.stderr);
    home.run(&["store", "verify"]).ends_with(0);
    fs::write(&file, right).unwrap();
    home.build("web", &[]).succeeds();
    home.is_clean();
}

/// A machine of a home, removed in the end.
struct Guest<'a>(&'a Home, &'a str);

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        self.0.run(&["rm", "--force", self.1]);
    }
}

#[test]
fn a_machine_of_an_image_that_another_home_pushed() {
    let lab = Lab::get();
    let registry = Registry::start();
    let at = registry.at("team/debian:1");
    let pushed = lab.run(["push", &format!("@{}", base()), &at, "--json"]);
    let pushed = pushed.ends_with(0).json();
    // Nobody else boots a machine meanwhile.
    let _turn = Machine::turn();
    let home = Home::new();
    let guest = Guest(&home, "pulled");
    let words = ["boot", &at, "--json", "--timeout", "900", "--name", guest.1];
    let booted = Build::of(&mut home.command(&words));
    if booted.code != Some(0) {
        let console = home.run(&["logs", guest.1]).stdout;
        panic!("{}\nconsole:\n{console}", booted.stderr);
    }
    let said = home.run(&["ssh", guest.1, "--", "cat /etc/debian_version"]);
    assert!(said.ends_with(0).stdout.starts_with("12"));
    // It is an image like any other once all of it is here.
    super::lazy::wait_until("all of it is here", || home.tagged(&base()).is_some());
    let tag = home.tagged(&base());
    assert_eq!(tag.as_deref(), pushed["image"].as_str());
    home.run(&["rm", "--force", guest.1]).ends_with(0);
    home.is_clean();
}

#[test]
fn offline_a_reference_is_the_image_that_was_pulled_from_it() {
    let shelf = Shelf::new(1);
    let home = Home::new();
    let at = shelf.at("1");
    let boot = |words: &[&str]| {
        let words = [&["boot", "--firmware", "uefi"], words].concat();
        home.run(&words).ends_with(1).stderr
    };
    let said = boot(&["--offline", &at]);
    assert!(said.contains("vmfab has not pulled it before"), "{said}");
    assert!(said.contains(&format!("vmfab pull {at}")), "{said}");
    let pulled = home.json(&["pull", &at, "--tag", "@mine"]);
    let digest = pulled[0]["digest"].as_str().unwrap();
    let asked = shelf.proxy.seen().len();
    // It has nothing that boots, which is told when it was found.
    let found = "has no boot loader for UEFI";
    for reference in [
        at.clone(),
        format!("{at}@{digest}"),
        format!("{}@{digest}", shelf.proxy.at("web")),
    ] {
        let said = boot(&["--offline", &reference]);
        assert!(said.contains(found), "{reference}: {said}");
    }
    for other in [
        shelf.at("2"),
        shelf.proxy.at("web"),
        shelf.proxy.at("other:1"),
    ] {
        let said = boot(&["--offline", &other]);
        assert!(said.contains("has not pulled it before"), "{other}: {said}");
    }
    assert_eq!(shelf.proxy.seen().len(), asked);
    // What was pulled last counts, whoever pulled it.
    shelf.maker.image("web", &super::home::disk(9, 1 << 20));
    shelf.maker.push("@web", &at);
    assert!(boot(&["--eager", &at]).contains(found));
    let newer = home.tagged("web").unwrap();
    let ran = home.run(&["--offline", "boot", "--firmware", "uefi", &at]);
    let ran = ran.ends_with(1);
    let is = format!("is image {}", &newer[..12]);
    assert!(ran.stderr.contains(&is), "{}", ran.stderr);
    // A store that fails is not one without the image.
    let tag = home.path("home/store/tags/other");
    std::fs::write(&tag, "garbage").unwrap();
    let said = home.refused(&["boot", "--offline", &at], 6);
    assert!(said.contains("does not hold an object id"), "{said}");
    std::fs::remove_file(&tag).unwrap();
    // What is here no more is said to be so.
    home.run(&["image", "rm", "@web"]).ends_with(0);
    let all = ["store", "gc", "--older-than", "0s", "--keep-last", "0"];
    home.run(&all).ends_with(0);
    let said = boot(&["--offline", &at]);
    assert!(said.contains("is no longer in the store"), "{said}");
    home.is_clean();
}

#[test]
fn offline_an_image_that_is_damaged_is_not_one_that_is_gone() {
    let shelf = Shelf::new(1);
    let (home, at) = (Home::new(), shelf.at("1"));
    home.pull(&at);
    home.run(&["image", "rm", "@web"]).ends_with(0);
    for kind in ["packs", "journals"] {
        let files = std::fs::read_dir(home.path("home/store").join(kind));
        for file in files.into_iter().flatten() {
            std::fs::write(file.unwrap().path(), "garbage").unwrap();
        }
    }
    let said = home.refused(&["boot", "--offline", &at], 6);
    assert!(said.contains("is damaged"), "{said}");
}

#[test]
fn a_machine_of_a_reference_that_is_wrong() {
    let shelf = Shelf::new(1);
    let home = Home::new();
    let said = home.refused(&["boot", &shelf.at("nothing")], 3);
    assert!(said.contains("web:nothing"), "{said}");
    home.refused(&["--offline", "boot", &shelf.at("1")], 1);
    assert_eq!(home.run(&["list"]).ends_with(0).stdout, "");
    home.has_nothing();
}
