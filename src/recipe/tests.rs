//! The vocabulary, its examples in messages and the reference agree.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::*;

/// One recipe; every other path is a local file.
struct OneRecipe(String);

impl Files for OneRecipe {
    fn read(&self, path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some("test.kdl") => Ok(self.0.clone()),
            _ => Ok("image \"common\" { from \"debian-12\" }".to_owned()),
        }
    }

    fn exists(&self, path: &Path) -> bool {
        path.extension().is_none() || path == Path::new("test.kdl")
    }

    fn is_directory(&self, _: &Path) -> bool {
        false
    }
}

/// The recipe around an example: the nodes that it stands in, and what a recipe needs besides.
fn surround(example: &str, around: &[&str]) -> String {
    let base = "from \"debian-12\"\n";
    match around {
        [] if example.starts_with("image") => example.to_owned(),
        [] => format!("{example}\nimage \"test\" {{ {base} }}"),
        ["image"]
            if ["from", "bootstrap", "layer"]
                .iter()
                .any(|base| example.starts_with(base)) =>
        {
            format!("image \"test\" {{ {example} }}")
        }
        ["image"] => format!("image \"test\" {{\n{base}{example}\n}}"),
        ["image", around @ ("layer" | "disk" | "kernel" | "initrd")] => {
            let fetch = "fetch \"https://example.org/x\" checksums=\"SHA256SUMS\"";
            let before = if example.starts_with("fetch") {
                ""
            } else {
                fetch
            };
            let base = match *around {
                "layer" | "disk" => "",
                _ => base,
            };
            format!("image \"test\" {{\n{base}{around} {{ {before}\n{example} }}\n}}")
        }
        ["image", "file"] if !example.starts_with("content") => {
            let fetch = "fetch \"https://example.org/x\" checksums=\"SHA256SUMS\"";
            let before = if example.starts_with("fetch") {
                ""
            } else {
                fetch
            };
            format!("image \"test\" {{\n{base}file \"/x\" {{ {before}\n{example} }}\n}}")
        }
        ["image", "from"] => format!("image \"test\" {{ from \"debian-12\" {{ {example} }} }}"),
        ["image", "file"] => surround(&format!("file \"/x\" {{ {example} }}"), &["image"]),
        ["image", other] => surround(&format!("{other} \"x\" {{ {example} }}"), &["image"]),
        ["recipe", "param"] => surround(
            &format!("recipe {{ param \"p\" default=\"debian-12\" {{ {example} }} }}"),
            &[],
        ),
        ["recipe"] => surround(&format!("recipe {{ {example} }}"), &[]),
        other => panic!("nothing is known about {other:?}"),
    }
}

#[test]
fn examples_in_messages_are_right() {
    for (around, shape) in shape::all() {
        let text = surround(shape.example, &around);
        let files = OneRecipe(text.clone());
        let loaded = load(Path::new("test.kdl"), &files, &BTreeMap::new());
        if let Err(error) = loaded {
            panic!("{text}\n{:?}", error.problems());
        }
        assert!(shape.example.starts_with(shape.name), "{}", shape.example);
    }
}

#[test]
fn the_reference_has_every_node_property_and_child() {
    let reference = include_str!("../../docs/recipes.md");
    let section = |name: &str| {
        let start = reference.find(&format!("\n### {name}\n"));
        let start = start.unwrap_or_else(|| panic!("no section about {name}"));
        let rest = &reference[start + 4..];
        &rest[..rest.find("\n##").unwrap_or(rest.len())]
    };
    for (around, shape) in shape::all() {
        let has_section = around.is_empty() || around == ["image"] || shape.name == "param";
        let of_content = shape::CONTENT_NODES
            .iter()
            .any(|node| node.name == shape.name);
        let place = if of_content {
            "fetch"
        } else if has_section {
            shape.name
        } else {
            around[around.len() - 1]
        };
        let text = match (shape.name, place) {
            // It takes what `run` takes.
            (_, "check") => format!("{}{}", section("check"), section("run")),
            _ => section(place).to_owned(),
        };
        assert!(text.contains(shape.name), "{} in {place}", shape.name);
        for property in shape.properties.unwrap_or_default() {
            assert!(
                text.contains(&format!("{property}=")),
                "{property} of {} is not in the reference",
                shape.name
            );
        }
    }
    for recipe in catalogue() {
        assert!(reference.contains(&format!("| `{}` | {} |", recipe.name, recipe.description)));
    }
}
