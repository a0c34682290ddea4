//! The vocabulary, its examples in messages and the reference agree.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::*;
use crate::failure::Failure;
use crate::template::TemplateRef;

/// One recipe; every other path is a local file.
struct OneRecipe(String);

impl Files for OneRecipe {
    fn read(&self, path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some("test.kdl") => Ok(self.0.clone()),
            _ => Ok("recipe { param \"size\" default=\"8G\"; }\n\
                     image \"common\" { from \"debian-12\" }"
                .to_owned()),
        }
    }

    fn template(&self, _: &TemplateRef, _: &Path) -> Result<TemplateRecipe, Failure> {
        Ok(TemplateRecipe::File("common.kdl".into()))
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
            if ["from", "dockerfile", "bootc", "bootstrap", "layer"]
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
        ["image", "bootc"] => {
            format!("image \"test\" {{ bootc \"./Containerfile\" {{ {example} }} }}")
        }
        ["image", "copy"] => {
            format!("image \"test\" {{ from \"debian-12\"\ncopy \"x\" \"/x\" {{ {example} }} }}")
        }
        ["image", "dockerfile"] if example.starts_with("content") => {
            format!("image \"test\" {{ dockerfile {{ {example} }} }}")
        }
        ["image", "dockerfile"] => {
            format!("image \"test\" {{ dockerfile \"./Dockerfile\" {{ {example} }} }}")
        }
        ["image", manager @ ("python" | "npm" | "cargo")] => surround(
            &format!("{manager} {{ packages \"x\"\n{example} }}"),
            &["image"],
        ),
        ["image", "use"] => surround(&format!("use \"common@1\" {{ {example} }}"), &["image"]),
        ["image", other] => surround(&format!("{other} \"x\" {{ {example} }}"), &["image"]),
        ["recipe", "param"] => surround(
            &format!("recipe {{ param \"p\" default=\"debian-12\" {{ {example} }} }}"),
            &[],
        ),
        ["machine"] => surround(
            &format!(
                "machine \"test\" image=\"debian-12\" {{ {example} }}\n\
                 machine \"control\" image=\"debian-12\""
            ),
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

/// The machines of a file, or every mistake in it: place, message, label and help.
fn machines(text: &str) -> String {
    use miette::Diagnostic;
    let files = OneRecipe(text.to_owned());
    match load(Path::new("test.kdl"), &files, &BTreeMap::new()) {
        Ok(loaded) => format!("{:#?}", loaded.machines),
        Err(error) => {
            let mut lines = String::new();
            for problem in error.problems() {
                for label in problem.labels().into_iter().flatten() {
                    let (start, end) = (label.offset(), label.offset() + label.len());
                    let line = text[..start].matches('\n').count() + 1;
                    let what = label.label().unwrap_or_default();
                    lines += &format!("{line}: `{}`: {problem} ({what})\n", &text[start..end]);
                }
                let help = problem.help().map(|help| help.to_string());
                lines += &format!("   {}\n", help.unwrap_or_default());
            }
            lines
        }
    }
}

#[test]
fn machines_with_all_that_they_take() {
    let text = r#"
recipe "shop" { param "ram" default="2G" }
image "web" { from "debian-12" }
machine "control" image="web" memory="${ram}" cpus=2 accel="tcg" firmware="uefi" {
    port 80 host=8080
    disk size="20G"
}
machine "worker" image="debian-12" count=2 {
    set "size" "20G"
    depends-on "control" "cache"
}
machine "cache" image="@redis"
machine "other" image="./other.kdl#common"
"#;
    let files = OneRecipe(text.to_owned());
    let loaded = load(Path::new("test.kdl"), &files, &BTreeMap::new()).unwrap();
    let shown = loaded.machines.iter().map(|machine| {
        let ports: Vec<_> = machine.ports.iter().map(|port| port.value).collect();
        let after: Vec<_> = machine.depends_on.iter().map(|on| &on.name.value).collect();
        format!(
            "{:?}: {:?} memory {:?} cpus {:?} disk {:?} {:?} {:?} {ports:?} {:?} after {after:?}\n",
            machine.names(),
            machine.image.as_ref().unwrap(),
            machine.hardware.memory_mib,
            machine.hardware.cpus,
            machine.hardware.disk_size,
            machine.accel,
            machine.hardware.firmware,
            machine.settings,
        )
    });
    insta::assert_snapshot!(shown.collect::<String>(), @r##"
    ["control"]: Own("web") memory Some(2048) cpus Some(2) disk Some(21474836480) Some(Tcg) Some(Uefi) [Port { guest: 80, host: Some(8080), protocol: Tcp, address: None }] {} after []
    ["worker-1", "worker-2"]: Recipe { recipe: "debian-12", image: None } memory None cpus None disk None None None [] {"size": "20G"} after ["control", "cache"]
    ["cache"]: Tag("redis") memory None cpus None disk None None None [] {} after []
    ["other"]: Recipe { recipe: "other.kdl", image: Some("common") } memory None cpus None disk None None None [] {} after []
    "##);
}

#[test]
fn the_users_settings_reach_recipes_that_have_them() {
    let text = "machine \"a\" image=\"debian-12\"\n\
                machine \"b\" image=\"debian-12\" { set \"size\" \"8G\" }\n\
                machine \"c\" image=\"@tag\"";
    let given = BTreeMap::from([("size".to_owned(), "30G".to_owned())]);
    let loaded = load(Path::new("test.kdl"), &OneRecipe(text.to_owned()), &given).unwrap();
    let sizes = loaded.machines.iter().map(|m| m.settings.get("size"));
    let sizes: Vec<_> = sizes.map(|size| size.map(String::as_str)).collect();
    assert_eq!(sizes, [Some("30G"), Some("8G"), None]);
}

#[test]
fn mistakes_in_machines() {
    let wrong = machines(
        r#"
machine "a b" image="debian-12"
machine "bare"
machine "small" image="debian-12" memory="16M" cpus=0 count=65 accel="kwm" disk="1G"
machine "lost" image="debian-21"
machine "part" image="debian-12#web"
machine "tagged" image="@x" { set "size" "1G" }
machine "set" image="debian-12" { set "sise" "1G" }
machine "typo" image="debian-12" { prot 80 host=8080 }
machine "port" image="debian-12" { port 80 }
machine "ports" image="debian-12" count=2 { port 80 host=8080 }
"#,
    );
    insta::assert_snapshot!(wrong, @r##"
    2: `"a b"`: "a b" is not the name of a machine (wrong value)
       use letters, digits, ".", "_" and "-", beginning with a letter or digit, at most 63 with the number
    3: `machine`: "machine" needs image (image is missing)
       for example: machine "web" image="debian-12"
    4: `memory="16M"`: "16M" is not a valid size of a machine's memory (wrong value)
       a machine needs at least 32M of memory, in whole M
    4: `cpus=0`: 0 is not a number of processors (wrong value)
       write a number from 1 to 255
    4: `count=65`: 65 is not a number of machines (wrong value)
       write a number from 1 to 64
    4: `accel="kwm"`: "kwm" is not a valid value for "accel" (unknown value)
       this version knows auto, kvm, hvf and tcg
    4: `disk`: "machine" has no property "disk" (unknown property)
       write it as a node between braces: { disk size="20G" }
    5: `image="debian-21"`: no image or recipe "debian-21" found (not found)
       did you mean "debian-12"?
    6: `image="debian-12#web"`: debian-12.kdl (built in) has no image "web" (unknown image)
       its images are debian-12
    7: `"size"`: a tag has no parameters to set (no recipe takes this)
       "set" is for the parameters of another recipe
    8: `"sise"`: the recipe has no parameter "sise" (unknown parameter)
       did you mean "size"?
    9: `prot`: unknown node "prot" in "machine" (unknown node)
       did you mean "port"?
    10: `port`: "port" needs host (host is missing)
       for example: port 80 host=8080
    11: `host=8080`: several machines cannot have port 8080 of the host (only one can listen there)
       leave out "count" and write a node for each machine, with different ports
    "##);
}

#[test]
fn machines_that_do_not_go_together() {
    let wrong = machines(
        r#"
machine "web" image="debian-12" count=2 { depends-on "db" }
machine "web-2" image="debian-12"
machine "db" image="debian-12" { port 80 host=8080; depends-on "cashe"; depends-on "db" }
machine "cache" image="debian-12" { port 81 host=8080 }
"#,
    );
    insta::assert_snapshot!(wrong, @r##"
    3: `"web-2"`: there are two machines "web-2" (the second one)
    2: `"web"`: there are two machines "web-2" (the first one)
       give one of them another name
    4: `"cashe"`: no machine "cashe" found (unknown machine)
       did you mean "cache"?
    5: `host=8080`: port 8080 of the host is given twice (machine "db" has it)
    4: `host=8080`: port 8080 of the host is given twice (the first time)
       use another port of the host
    "##);
    let round = r#"
machine "a" image="debian-12" { depends-on "b" }
machine "b" image="debian-12" { depends-on "c" }
machine "c" image="debian-12" { depends-on "b" }
"#;
    insta::assert_snapshot!(machines(round), @r##"
    4: `"b"`: machine "b" depends on itself (this closes the loop)
       the loop is b → c → b
    "##);
    let own = r#"machine "a" image="debian-12" { depends-on "a" }"#;
    insta::assert_snapshot!(machines(own), @r##"
    1: `"a"`: machine "a" depends on itself (this closes the loop)
       the loop is a → a
    "##);
}
