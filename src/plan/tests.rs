//! Properties of plans.

use std::collections::BTreeMap;
use std::io;

use proptest::prelude::*;

use super::*;
use crate::derivation::{ResolvedInput, action_key};
use crate::digest::{Hasher, ObjectRef};
use crate::recipe::Files;

struct OneFile(String);

impl Files for OneFile {
    fn read(&self, path: &Path) -> io::Result<String> {
        if path == Path::new("test.kdl") {
            Ok(self.0.clone())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn exists(&self, path: &Path) -> bool {
        path == Path::new("test.kdl") || path.starts_with("data")
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.starts_with("data")
    }
}

struct NoTags;

impl World for NoTags {
    fn local(&self, path: &Path) -> Result<Digest, WorldError> {
        let path = path.display().to_string();
        Ok(Hasher::new("test").update(path.as_bytes()).finish())
    }

    fn tag(&self, _: &str) -> Result<Option<(ObjectId, ImageConfig)>, WorldError> {
        Ok(None)
    }
}

fn planned(text: &str) -> Plan {
    let files = OneFile(text.to_owned());
    let loaded = recipe::load(Path::new("test.kdl"), &files, &BTreeMap::new()).unwrap();
    plan(&loaded, None, &NoTags, "x86_64").unwrap()
}

/// The action keys of a graph in which every output is made from the key of its step.
fn keys(graph: &Graph) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for node in graph.nodes() {
        let inputs: Vec<ResolvedInput> = node
            .inputs
            .iter()
            .map(|input| {
                let text = format!("{} {}", keys[input.node.index()], input.output);
                let id = ObjectId::new(Hasher::new("test").update(text.as_bytes()).finish());
                ResolvedInput {
                    role: input.role.clone(),
                    object: ObjectRef { id, size: 0 },
                }
            })
            .collect();
        keys.push(action_key(node, &inputs).to_string());
    }
    keys
}

/// A recipe of these instructions, each on a line.
fn recipe_of(instructions: &[String]) -> String {
    format!(
        "image \"test\" {{\n    bootstrap \"debian\" suite=\"bookworm\"\n    {}\n    check \"true\"\n}}\n",
        instructions.join("\n    ")
    )
}

fn instruction() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}".prop_map(|word| format!("run \"echo {word}\"")),
        "[a-z]{2,8}".prop_map(|name| format!("packages \"{name}\"")),
        "[a-z]{1,8}".prop_map(|name| format!("file \"/etc/{name}\" {{ content \"{name}\" }}")),
        "[a-z]{1,8}".prop_map(|name| format!("user \"{name}\"")),
        "[a-z]{1,8}".prop_map(|name| format!("copy \"data/{name}\" \"/srv/{name}\"")),
        "[a-z]{1,8}".prop_map(|name| format!("env NAME=\"{name}\"")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_same_recipe_makes_the_same_plan(instructions in prop::collection::vec(instruction(), 0..8)) {
        let text = recipe_of(&instructions);
        let plan = planned(&text);
        prop_assert_eq!(&plan, &planned(&text));
        for (index, node) in plan.graph.nodes().iter().enumerate() {
            prop_assert!(node.inputs.iter().all(|input| input.node.index() < index));
        }
        prop_assert_eq!(plan.image.index() + 1, plan.graph.len());
    }

    #[test]
    fn a_changed_run_changes_itself_and_what_follows(
        before in prop::collection::vec(instruction(), 0..5),
        after in prop::collection::vec(instruction(), 0..5),
    ) {
        let with = |script: &str| {
            let run = format!("run \"{script}\"");
            let all: Vec<String> = before.iter().cloned().chain([run]).chain(after.iter().cloned()).collect();
            planned(&recipe_of(&all)).graph
        };
        let (old, new) = (with("changed one"), with("changed two"));
        let changed = old
            .nodes()
            .iter()
            .position(|node| node.params["command"] == "changed one")
            .unwrap();
        let (old_keys, new_keys) = (keys(&old), keys(&new));
        prop_assert_eq!(old.len(), new.len());
        for (index, node) in old.nodes().iter().enumerate() {
            // Local files read nothing: they are the same wherever they stand.
            let same = index < changed || node.builder == "local";
            prop_assert_eq!(same, old_keys[index] == new_keys[index], "{}", node.name);
        }
    }
}

#[test]
fn names_of_images_do_not_count() {
    let text = |name: &str| {
        format!(
            "image \"{name}\" {{\nbootstrap \"debian\" suite=\"bookworm\"\nhostname \"h\"\nrun \"true\"\ncheck \"true\"\n}}"
        )
    };
    let (a, b) = (planned(&text("a")), planned(&text("b")));
    let last = a.image.index();
    assert_eq!(keys(&a.graph)[..last], keys(&b.graph)[..last]);
    assert_ne!(a.graph.nodes()[1].name, b.graph.nodes()[1].name);
    assert_ne!(
        keys(&a.graph)[last],
        keys(&b.graph)[last],
        "the image's config has its name"
    );
}

#[test]
fn checks_change_no_layer_and_no_disk() {
    let with = |check: &str| planned(&recipe_of(&[check.to_owned()])).graph;
    let (one, two) = (with(""), with("check \"false\""));
    let disk = one
        .nodes()
        .iter()
        .position(|node| node.builder == "disk")
        .unwrap();
    assert_eq!(keys(&one)[..=disk], keys(&two)[..=disk]);
}

#[test]
fn unknown_architectures_are_refused() {
    let files = OneFile(recipe_of(&[]));
    let loaded = recipe::load(Path::new("test.kdl"), &files, &BTreeMap::new()).unwrap();
    let error = plan(&loaded, None, &NoTags, "riscv64").unwrap_err();
    assert!(matches!(error, PlanError::Architecture(_)), "{error}");
}
