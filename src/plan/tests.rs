//! Properties of plans.

use std::collections::BTreeMap;
use std::io;

use proptest::prelude::*;

use super::*;
use crate::derivation::{Listed, Listing, ResolvedInput, action_key};
use crate::digest::{Hasher, ObjectRef, Sha256};
use crate::failure::{Failure, Kind};
use crate::image::{ContainerConfig, Process};
use crate::recipe::Files;

pub(super) struct OneFile(pub(super) String);

impl Files for OneFile {
    fn read(&self, path: &Path) -> io::Result<String> {
        if path == Path::new("test.kdl") {
            Ok(self.0.clone())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn exists(&self, path: &Path) -> bool {
        path == Path::new("test.kdl") || path.starts_with("data") || path.starts_with("disks")
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.starts_with("data")
    }
}

pub(super) struct NoTags;

impl World for NoTags {
    fn local(&self, files: &LocalFiles) -> Result<Listing, WorldError> {
        let mut listing = Listing::new(None);
        listing.add(&files.path, &Listed::Directory(0o755));
        Ok(listing)
    }

    fn tag(&self, _: &str) -> Result<Option<(ObjectId, ImageConfig)>, WorldError> {
        Ok(None)
    }

    fn disk(
        &self,
        path: &Path,
        _: Option<DiskFormat>,
    ) -> Result<(ObjectRef, DiskFormat), WorldError> {
        let path = path.display().to_string();
        let id = ObjectId::new(Hasher::new("test").update(path.as_bytes()).finish());
        Ok((ObjectRef { id, size: 1 << 30 }, DiskFormat::Qcow2))
    }

    fn pin(&self, _: &Fetch) -> Result<Pinned, Failure> {
        Err(Failure::new(Kind::Recipe, "nothing is pinned"))
    }

    fn commit(&self, repository: &Address, reference: &str) -> Result<String, Failure> {
        unreachable!("nobody asks for {reference} of {repository}")
    }

    fn remote(&self, image: &RegistryImage, _: &str) -> Result<Remote, Failure> {
        let layer = |number: usize| {
            // The second and the third layer are the same.
            let digit = if number == 1 { 0x11 } else { 0x22 };
            let diff_id = Sha256::from_bytes([digit; 32]);
            let place = BlobPlace {
                name: format!("layer {number}"),
                repository: image.location.clone(),
                digest: diff_id,
                size: 1,
            };
            ContainerLayer { diff_id, place }
        };
        Ok(Remote::Container(Container {
            layers: (1..=3).map(layer).collect(),
            config: Box::new(ContainerConfig {
                env: vec![("A".to_owned(), "1".to_owned())],
                ..ContainerConfig::default()
            }),
            ..Container::default()
        }))
    }
}

fn planned(text: &str) -> Plan {
    let files = OneFile(text.to_owned());
    let loaded = recipe::load(Path::new("test.kdl"), &files, &BTreeMap::new()).unwrap();
    plan(&loaded, None, &NoTags, "x86_64", &Process::default()).unwrap()
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
fn where_a_layer_is_does_not_count() {
    let text = |name: &str| format!("image \"test\" {{\nfrom \"{name}\"\nrun \"true\"\n}}");
    let (one, two) = (
        planned(&text("debian:12")),
        planned(&text("mirror.example/debian:12")),
    );
    assert_eq!(keys(&one.graph), keys(&two.graph));
    assert_ne!(one.blobs, two.blobs);
    let kinds = |kind: &str| {
        let nodes = one.graph.nodes().iter();
        nodes.filter(|node| node.builder == kind).count()
    };
    assert_eq!((kinds("oci-layer"), kinds("transform")), (2, 3));
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
    let error = plan(&loaded, None, &NoTags, "riscv64", &Process::default()).unwrap_err();
    assert!(error.message().contains("riscv64"), "{error}");
}

/// The steps of a plan with their inputs, a line each.
fn lines(plan: &Plan) -> String {
    let mut text = String::new();
    for (index, node) in plan.graph.nodes().iter().enumerate() {
        let inputs: Vec<String> = node
            .inputs
            .iter()
            .map(|input| format!("{}={}.{}", input.role, input.node.index(), input.output))
            .collect();
        text.push_str(&format!("{index} {} [{}]\n", node.name, inputs.join(" ")));
    }
    text
}

const SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn a_disk_from_outside_and_its_kernel() {
    let text = format!(
        r#"image "alpine" {{
            disk size="2G" {{ fetch "https://example.org/a/disk.vhd" sha256="{SUM}" size=7; strip-vhd-footer }}
            kernel {{ fetch "https://example.org/vmlinuz?x=1" blake3="{SUM}" }}
            boot "root=LABEL=/" seed="ec2" user="alpine"
        }}"#
    );
    let plan = planned(&text);
    insta::assert_snapshot!(lines(&plan), @"
    0 alpine: fetch disk.vhd []
    1 alpine: strip VHD footer [blob=0.blob]
    2 kernel: fetch vmlinuz []
    3 grow to 2G [blob=1.blob]
    4 alpine: image [disk=3.blob kernel=2.blob]
    ");
    assert_eq!(plan.places.len(), 2);
    let place = &plan.places[&format!("sha256:{SUM}").parse().unwrap()];
    assert_eq!((place.name(), place.size), ("disk.vhd", Some(7)));
    assert_eq!(plan.template.ssh_user, "alpine");
    assert!(plan.programs.is_empty());
}

#[test]
fn the_own_user_with_sudo_is_entered_before_that_of_a_base() {
    let entered = |own: &str| {
        let text = format!(
            r#"image "base" {{ from "debian-12"; user "old" sudo=#true; user "older" sudo=#true }}
            image "test" {{ from "base"; {own} }}"#
        );
        planned(&text).template.ssh_user.to_string()
    };
    assert_eq!(entered(r#"user "own" sudo=#true"#), "own");
    assert_eq!(entered(r#"user "older" sudo=#true"#), "older");
    // Without sudo it is one account among others.
    assert_eq!(entered(r#"user "own""#), "old");
}

#[test]
fn steps_on_a_local_disk_run_in_a_machine() {
    let text = format!(
        r#"image "web" {{
            from "./disks/web.qcow2"
            packages "nginx" {{ on "alpine" "nginx-mod" }}
            file "/usr/bin/tool" mode="0755" {{ fetch "https://example.org/t.tar.gz" sha256="{SUM}"; extract "bin/tool" }}
            check "nginx -t"
            check "tool"
            boot firmware="uefi" seed="nocloud"
        }}"#
    );
    // An account that a step makes cannot be entered before.
    let with_user = text.replace("check \"tool\"", "check \"tool\"; user \"joe\" sudo=#true");
    let plan = planned(&with_user);
    let entered = |plan: &Plan| plan.graph.nodes()[2].params["access"]["ssh-user"].clone();
    assert_eq!(
        (entered(&plan), &*plan.template.ssh_user),
        ("root".into(), "joe")
    );
    let plan = planned(&text);
    insta::assert_snapshot!(lines(&plan), @"
    0 web: disks/web.qcow2 []
    1 web: convert from qcow2 [blob=0.object]
    2 web: packages nginx [disk=1.blob]
    3 web: fetch t.tar.gz []
    4 web: extract bin/tool [blob=3.blob]
    5 web: pack [blob=4.blob]
    6 web: file /usr/bin/tool [disk=2.disk source=5.blob]
    7 web: check nginx -t [disk=6.disk]
    8 web: check tool [disk=6.disk check=7.ok]
    9 web: finish [disk=6.disk check=7.ok check=8.ok]
    10 web: image [disk=9.disk check=7.ok check=8.ok]
    ");
    let programs: Vec<_> = plan
        .programs
        .iter()
        .map(|program| program.file_name())
        .collect();
    assert_eq!(programs, ["bwrap", "qemu-img", "qemu-system-x86_64", "ssh"]);
}

#[test]
fn a_tar_is_a_base_too() {
    let text = format!(
        r#"image "tree" {{
            layer {{ fetch "https://example.org/rootfs.tar.xz" sha512="{SUM}{SUM}" }}
            run "true"
        }}"#
    );
    insta::assert_snapshot!(lines(&planned(&text)), @"
    0 tree: fetch rootfs.tar.xz []
    1 tree: unpack [blob=0.blob]
    2 tree: run true [layer=1.layer]
    3 tree: system [layer=1.layer layer=2.layer]
    4 tree: disk 10G [layer=1.layer layer=2.layer layer=3.layer]
    5 tree: image [layer=1.layer layer=2.layer layer=3.layer disk=4.disk kernel=4.kernel initrd=4.initrd]
    ");
}

#[test]
fn what_cannot_be_planned_says_why() {
    let error = |text: &str| {
        let files = OneFile(text.to_owned());
        match recipe::load(Path::new("test.kdl"), &files, &BTreeMap::new()) {
            Ok(loaded) => plan(&loaded, None, &NoTags, "x86_64", &Process::default())
                .unwrap_err()
                .to_string(),
            Err(error) => error
                .problems()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; "),
        }
    };
    let disk = format!(r#"disk {{ fetch "https://example.org/d" sha256="{SUM}" }}"#);
    let texts = [
        r#"disk { fetch "https://example.org/d" }"#.to_owned(),
        r#"disk { fetch "ftp://example.org/d" sha256="12" }"#.to_owned(),
        format!(r#"disk {{ convert; fetch "https://example.org/d" sha256="{SUM}" }}"#),
        format!(r#"disk {{ fetch "https://example.org/d" sha256="{SUM}" blake3="{SUM}" }}"#),
        format!(r#"{disk}; kernel {{ fetch "https://example.org/k" sha256="{SUM}" }}"#),
        format!(r#"{disk}; kernel "/boot/vmlinuz""#),
        format!(r#"{disk}; from "debian-12""#),
        format!(r#"from "debian-12"; initrd {{ fetch "https://example.org/k" sha256="{SUM}" }}"#),
        r#"bootstrap "debian" suite="bookworm"; boot firmware="bios""#.to_owned(),
        format!(r#"layer {{ fetch "https://example.org/d" sha256="{SUM}"; unpack; extract "a" }}"#),
        r#"from "./data""#.to_owned(),
    ];
    let errors: Vec<String> = texts
        .iter()
        .map(|text| error(&format!("image \"test\" {{ {text} }}")))
        .collect();
    insta::assert_snapshot!(errors.join("\n"), @r#"
    cannot find out which content https://example.org/d has: nothing is pinned
    "ftp://example.org/d" is not an address; this is not a checksum of 64 hexadecimal digits but has 2
    "convert" comes before "fetch"
    content has one checksum
    a kernel for a disk made elsewhere needs its root file system
    a kernel for a disk made elsewhere needs its root file system
    an image has one base
    an image made from a tree needs its kernel in the tree
    a disk made from a tree has no boot loader for a BIOS
    unpack must be the last node
    data is a directory, not a disk
    "#);
}

/// A world with one tag, `@base`.
struct Base(ImageConfig);

impl World for Base {
    fn local(&self, files: &LocalFiles) -> Result<Listing, WorldError> {
        NoTags.local(files)
    }

    fn tag(&self, _: &str) -> Result<Option<(ObjectId, ImageConfig)>, WorldError> {
        // As it is stored.
        let config = ImageConfig::from_bytes(&self.0.to_bytes()).unwrap();
        let id = ObjectId::new(Hasher::new("test").update(b"base").finish());
        Ok(Some((id, config)))
    }

    fn disk(
        &self,
        path: &Path,
        format: Option<DiskFormat>,
    ) -> Result<(ObjectRef, DiskFormat), WorldError> {
        NoTags.disk(path, format)
    }

    fn pin(&self, fetch: &Fetch) -> Result<Pinned, Failure> {
        NoTags.pin(fetch)
    }

    fn commit(&self, repository: &Address, reference: &str) -> Result<String, Failure> {
        unreachable!("nobody asks for {reference} of {repository}")
    }

    fn remote(&self, image: &RegistryImage, architecture: &str) -> Result<Remote, Failure> {
        NoTags.remote(image, architecture)
    }
}

#[test]
fn an_image_on_a_stored_one_has_the_kernel_that_its_base_names() {
    let object = |text: &str| ObjectRef {
        id: ObjectId::new(Hasher::new("test").update(text.as_bytes()).finish()),
        size: 1 << 30,
    };
    // What a recipe gives, as the builder of the image step puts it together.
    let base = |text: &str, initrd: Option<&str>, layers: &[&str]| ImageConfig {
        version: 1,
        template: planned(text).template,
        disk: object("disk"),
        kernel: Some(object("kernel")),
        initrd: initrd.map(object),
        layers: layers.iter().map(|layer| object(layer)).collect(),
    };
    let on = |base: ImageConfig, text: &str| {
        let files = OneFile(text.to_owned());
        let loaded = recipe::load(Path::new("test.kdl"), &files, &BTreeMap::new()).unwrap();
        plan(&loaded, None, &Base(base), "x86_64", &Process::default()).unwrap()
    };
    let derived = r#"image "derived" { from "@base"; run "true" }"#;
    let tree = format!(
        r#"image "tree" {{
            layer {{ fetch "https://example.org/rootfs.tar.xz" sha256="{SUM}" }}
            kernel "/boot/own"
        }}"#
    );
    let made = on(base(&tree, Some("initrd"), &["one"]), derived);
    let disk = made
        .graph
        .nodes()
        .iter()
        .find(|n| n.name.contains(": disk "));
    assert_eq!(disk.unwrap().params["kernel"], "/boot/own");
    assert_eq!(
        made.template.kernel_files.as_ref().unwrap().path,
        "/boot/own"
    );
    // On its disk alone nobody finds the initrd for a kernel: both stay those of the base.
    let made = on(base(&tree, Some("initrd"), &[]), derived);
    let names: Vec<_> = made.graph.nodes().iter().map(|n| n.name.as_str()).collect();
    assert!(names.contains(&"@base: initrd"), "{names:?}");
    assert!(!names.contains(&"kernel /boot/own"), "{names:?}");
    // A kernel from elsewhere does not boot with the initrd of the base's.
    let other = format!(
        r#"image "derived" {{
            from "@base"
            kernel {{ fetch "https://example.org/k" sha256="{SUM}" }}
            run "true"
        }}"#
    );
    let made = on(base(&tree, Some("initrd"), &[]), &other);
    let last = made.graph.get(made.image);
    let roles: Vec<_> = last
        .inputs
        .iter()
        .map(|input| input.role.as_str())
        .collect();
    assert_eq!(roles, ["disk", "kernel"]);
    // One that is read out of a disk is read again after the steps.
    let alpine = format!(
        r#"image "alpine" {{
            disk {{ fetch "https://example.org/disk.qcow2" sha256="{SUM}" }}
            kernel "/boot/vmlinuz-virt" initrd="/boot/initramfs-virt"
            boot "root=LABEL=/"
        }}"#
    );
    let made = on(base(&alpine, Some("initrd"), &[]), derived);
    let last = made.graph.get(made.image);
    for (role, name) in [
        ("kernel", "kernel /boot/vmlinuz-virt"),
        ("initrd", "initrd /boot/initramfs-virt"),
    ] {
        let input = last.inputs.iter().find(|input| input.role == role).unwrap();
        let read = made.graph.get(input.node);
        assert_eq!(read.name, name);
        let disk = last.inputs.iter().find(|input| input.role == "disk");
        assert_eq!(read.inputs[0].node, disk.unwrap().node);
    }
}

#[test]
fn copies_from_images_that_have_none_are_refused() {
    for (base, copy, expected) in [
        (
            "bootstrap \"debian\" suite=\"bookworm\"",
            "copy \"/a\" \"/b\" from=\"./disks/a.qcow2\"",
            "only a disk cannot be copied",
        ),
        (
            "from \"./disks/a.qcow2\"",
            "copy \"/a\" \"/b\" from=\"other\"",
            "starts from a disk cannot read",
        ),
        (
            "from \"debian-12\"",
            "copy \"/a\" \"/b\" from=\"other\" mode=\"0644\"",
            "a copy from another image has no",
        ),
        (
            "from \"debian-12\"",
            "copy \"a\" \"/b\" from=\"other\"",
            "a path in the image",
        ),
    ] {
        let text = format!(
            "image \"test\" {{\n{base}\n{copy}\n}}\nimage \"other\" {{ from \"debian-12\" }}"
        );
        let error =
            match crate::recipe::load(Path::new("test.kdl"), &OneFile(text), &BTreeMap::new()) {
                Err(error) => format!("{:?}", error.problems()),
                Ok(loaded) => {
                    let plan = plan(
                        &loaded,
                        Some("test"),
                        &NoTags,
                        "x86_64",
                        &Process::default(),
                    );
                    format!("{:?}", plan.err())
                }
            };
        assert!(error.contains(expected), "{copy}:\n{error}");
    }
}
