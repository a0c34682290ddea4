//! Recipes as users write them: right ones, wrong ones, and those of the reference.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use miette::{GraphicalReportHandler, GraphicalTheme, MietteDiagnostic};
use vmfab::derivation::{Input, Listed, Listing};
use vmfab::digest::{Hasher, ObjectId, ObjectRef};
use vmfab::failure::{Failure, Kind};
use vmfab::image::DiskFormat;
use vmfab::image::{
    BootProfile, CONFIG_VERSION, ContainerConfig, FilesystemRef, Firmware, ImageConfig,
    ImageTemplate, Process, RecipeRef,
};
use vmfab::instruction::Address;
use vmfab::plan::{
    self, BlobPlace, Container, ContainerLayer, LocalFiles, Pinned, Plan, Remote, RemoteDisk,
    World, WorldError,
};
use vmfab::recipe::{self, Fetch, Files, RegistryImage};

/// The files of this machine.
struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        fs::read_to_string(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }
}

/// A world with a few tags. The digest of a local file is made from its path, and files whose
/// recipe is named `unreadable` cannot be read.
struct Fake {
    unreadable: bool,
}

fn object(name: &str) -> ObjectRef {
    let mut hasher = Hasher::new("test");
    ObjectRef {
        id: ObjectId::new(hasher.update(name.as_bytes()).finish()),
        size: 4096,
    }
}

pub(super) fn config(architecture: &str, layers: &[&str]) -> ImageConfig {
    ImageConfig {
        version: CONFIG_VERSION,
        template: ImageTemplate {
            name: "base".parse().unwrap(),
            recipe: RecipeRef {
                name: "base".parse().unwrap(),
                version: None,
                about: vmfab::image::About::default(),
            },
            description: None,
            metadata: BTreeMap::new(),
            requires: vmfab::image::Requires::default(),
            architecture: architecture.parse().unwrap(),
            boot: BootProfile {
                command_line: "root=LABEL=old ro console=ttyS0 quiet".parse().unwrap(),
                firmware: Firmware::Direct,
                uefi: false,
                bios: false,
                seed: vmfab::image::Seed::default(),
                platform: vmfab::image::Platform::default(),
                ignition: None,
            },
            filesystem: Some(FilesystemRef {
                kind: "ext4".parse().unwrap(),
                label: "old".parse().unwrap(),
            }),
            ssh_user: "admin".parse().unwrap(),
            users: [("root", "/root"), ("admin", "/home/admin")]
                .map(|(name, home)| (name.parse().unwrap(), home.parse().unwrap()))
                .into(),
            ports: Vec::new(),
            port_names: BTreeMap::new(),
            health: false,
            volumes: std::collections::BTreeSet::new(),
            shares: Vec::new(),
            env: BTreeMap::from([("BASE".parse().unwrap(), "1".parse().unwrap())]),
            hostname: Some("kept".parse().unwrap()),
            kernel_files: None,
            container: None,
        },
        disk: ObjectRef {
            size: 5 << 30,
            ..object("disk")
        },
        kernel: None,
        initrd: None,
        layers: layers.iter().map(|name| object(name)).collect(),
    }
}

/// A layer of an image in a registry.
fn layer(location: &str, number: usize) -> ContainerLayer {
    let place = BlobPlace {
        name: format!("layer {number} of {location}"),
        repository: location.to_owned(),
        digest: format!("{number:064}").parse().unwrap(),
        size: 1 << 20,
    };
    ContainerLayer {
        diff_id: format!("{number:0<64}").parse().unwrap(),
        place,
    }
}

impl World for Fake {
    fn commit(&self, repository: &Address, reference: &str) -> Result<String, Failure> {
        unreachable!("nobody asks for {reference} of {repository}")
    }

    fn remote(&self, image: &RegistryImage, architecture: &str) -> Result<Remote, Failure> {
        let location = &image.location;
        let failed = |kind, message: &str, help: &str| Failure::new(kind, message).with_help(help);
        let name = location.split([':', '@']).next().unwrap_or_default();
        Ok(match name.rsplit('/').next().unwrap_or_default() {
            "own" => Remote::Image(
                layer(location, 7).place,
                Box::new(config("x86_64", &["one", "two"])),
            ),
            "arm" => Remote::Image(
                layer(location, 7).place,
                Box::new(config("aarch64", &["one"])),
            ),
            "disk" => Remote::Disk(RemoteDisk::Blob(layer(location, 1).place)),
            "containerdisk" => Remote::Disk(RemoteDisk::Containerdisk(layer(location, 1))),
            "missing" => {
                let message = format!("{name} has no tag");
                return Err(failed(
                    Kind::Recipe,
                    &message,
                    "\"vmfab tags\" lists what is there",
                ));
            }
            "down" => {
                let message = format!("cannot ask {name} for linux/{architecture}");
                return Err(failed(Kind::Unavailable, &message, "look at the network"));
            }
            name => Remote::Container(Container {
                layers: (1..=2).map(|number| layer(location, number)).collect(),
                config: Box::new(ContainerConfig {
                    env: vec![("LANG".to_owned(), "C.UTF-8".to_owned())],
                    labels: match name {
                        "bootable" | "centos-bootc" => {
                            [("containers.bootc".to_owned(), "1".to_owned())].into()
                        }
                        _ => [("org.example.of".to_owned(), location.to_owned())].into(),
                    },
                    ..ContainerConfig::default()
                }),
                author: None,
                history: Vec::new(),
                digest: Some(format!("{:064}", 7).parse().unwrap()),
            }),
        })
    }

    fn local(&self, files: &LocalFiles) -> Result<Listing, WorldError> {
        if self.unreadable {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied).into());
        }
        let mut listing = Listing::new(None);
        listing.add(&files.path, &Listed::Directory(0o755));
        Ok(listing)
    }

    fn tag(&self, name: &str) -> Result<Option<(ObjectId, ImageConfig)>, WorldError> {
        let config = match name {
            "base" => config("x86_64", &["one", "two"]),
            "arm" => config("aarch64", &["one"]),
            "disk-only" => config("x86_64", &[]),
            _ => return Ok(None),
        };
        Ok(Some((object(name).id, config)))
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

    fn pin(&self, fetch: &Fetch) -> Result<Pinned, Failure> {
        match fetch.pin {
            Some(_) => Ok(Pinned {
                checksum: format!("sha256:{}", "0".repeat(64)).parse().unwrap(),
                size: None,
            }),
            None => Err(Failure::new(Kind::Recipe, "nothing is pinned")),
        }
    }
}

/// What the first lines of a fixture ask for: `// --set name=value`, `// image: name`.
fn asked(text: &str) -> (BTreeMap<String, String>, Option<String>) {
    let comments = || text.lines().filter_map(|line| line.strip_prefix("// "));
    let settings = comments()
        .filter_map(|line| line.strip_prefix("--set ")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let image = comments().find_map(|line| line.strip_prefix("image: "));
    (settings, image.map(str::to_owned))
}

fn load_and_plan(path: &Path) -> Result<Plan, String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let (settings, image) = asked(&text);
    let world = Fake {
        unreadable: path.to_string_lossy().contains("unreadable"),
    };
    let loaded = recipe::load(path, &Disk, &settings).map_err(|error| show(&error))?;
    plan::plan(
        &loaded,
        image.as_deref(),
        &world,
        "x86_64",
        &Process::default(),
    )
    .map_err(|error| show_failure(&error))
}

pub(super) fn show(diagnostic: &dyn miette::Diagnostic) -> String {
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .with_links(false);
    let mut text = String::new();
    handler.render_report(&mut text, diagnostic).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// A failure with the line underlined that it is about, if there is one.
fn show_failure(failure: &Failure) -> String {
    match failure.diagnostic() {
        Some(diagnostic) => show(diagnostic),
        None => {
            let help = failure.help().join("; ");
            show(&MietteDiagnostic::new(failure.message()).with_help(help))
        }
    }
}

/// One line for each step: its number, its kind, its label, the numbers of the steps that it
/// reads. With `parameters`, the parameters of each step below its line.
fn render(plan: &Plan, parameters: bool) -> String {
    let nodes = plan.graph.nodes();
    let digits = nodes.len().saturating_sub(1).to_string().len();
    let kinds = nodes.iter().map(|node| node.builder.len()).max();
    let kinds = kinds.unwrap_or_default();
    let labels = nodes.iter().map(|node| node.name.chars().count()).max();
    let labels = labels.unwrap_or_default();
    let mut text = format!(
        "image {} for {}, {} steps\n",
        plan.image_name,
        plan.template.architecture,
        nodes.len()
    );
    for (index, node) in nodes.iter().enumerate() {
        let inputs = inputs(&node.inputs);
        let mut line = format!("{index:digits$}  {:kinds$}  {}", node.builder, node.name);
        if !inputs.is_empty() {
            let pad = labels - node.name.chars().count();
            let _ = write!(line, "{:pad$}  ← {inputs}", "");
        }
        let _ = writeln!(text, "{line}");
        if parameters {
            let _ = writeln!(text, "{:digits$}  {}", "", node.params);
        }
    }
    text
}

/// `0-3, source 4`: layers are not named, as nearly all inputs are.
fn inputs(inputs: &[Input]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut rest = inputs;
    while let Some(first) = rest.first() {
        let run = rest
            .iter()
            .enumerate()
            .take_while(|(offset, input)| {
                input.role == first.role && input.node.index() == first.node.index() + offset
            })
            .count();
        let role = match first.role.as_str() {
            "layer" => String::new(),
            role => format!("{role} "),
        };
        let last = rest[run - 1].node.0;
        parts.push(if run > 1 {
            format!("{role}{}-{last}", first.node.0)
        } else {
            format!("{role}{last}")
        });
        rest = &rest[run..];
    }
    parts.join(", ")
}

fn recipes_in(directory: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "kdl"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn every_wrong_recipe_is_explained() {
    let paths = recipes_in("fixtures/recipes/wrong");
    assert!(paths.len() > 40, "found only {} fixtures", paths.len());
    for path in paths {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let Err(message) = load_and_plan(&path) else {
            panic!("{name} passes");
        };
        assert!(message.contains("help:"), "{name} has no help:\n{message}");
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true,
            snapshot_path => "../fixtures/recipes/wrong/snapshots" }, {
            insta::assert_snapshot!(name, message);
        });
    }
}

#[test]
fn right_recipes_make_these_plans() {
    let paths = recipes_in("fixtures/recipes/right");
    assert!(!paths.is_empty());
    for path in paths {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let plan = load_and_plan(&path).unwrap_or_else(|message| panic!("{name}:\n{message}"));
        let template = serde_json::to_string_pretty(&plan.template).unwrap();
        let text = format!("{}\n{template}\n{:?}", render(&plan, true), plan.programs);
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true,
            snapshot_path => "../fixtures/recipes/right/snapshots" }, {
            insta::assert_snapshot!(name, text);
        });
    }
}

fn planned(recipe: &str, settings: &[(&str, &str)]) -> Plan {
    let settings = settings
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let loaded = recipe::load(Path::new(recipe), &Disk, &settings)
        .unwrap_or_else(|error| panic!("{}", show(&error)));
    plan::plan(
        &loaded,
        None,
        &Fake { unreadable: false },
        "x86_64",
        &Process::default(),
    )
    .unwrap_or_else(|error| panic!("{}", show_failure(&error)))
}

#[test]
fn docker_on_debian() {
    let plan = planned("docker", &[("base", "debian-12"), ("size", "6G")]);
    insta::assert_snapshot!(render(&plan, false));
}

#[test]
fn docker_on_ubuntu() {
    let plan = planned("recipes/docker.kdl", &[]);
    insta::assert_snapshot!(render(&plan, true));
}

#[test]
fn built_in_recipes_are_formatted_and_say_what_they_are() {
    for built_in in recipe::catalogue() {
        assert_eq!(
            recipe::format(built_in.name, built_in.text).unwrap(),
            built_in.text
        );
        let plan = planned(built_in.name, &[]);
        assert_eq!(plan.image_name, built_in.name);
        assert_eq!(
            plan.template.description.as_deref(),
            Some(built_in.description)
        );
    }
}

/// The examples of the reference: recipes by name, and every other local path is a file.
struct Examples(BTreeMap<PathBuf, String>);

impl Files for Examples {
    fn read(&self, path: &Path) -> io::Result<String> {
        if path.ends_with("Dockerfile.dev") {
            let text = "ARG NODE\nFROM base AS dev\nCOPY --from=assets logo /srv/\n";
            return Ok(text.to_owned());
        }
        if path.ends_with("requirements.txt") {
            return Ok("flask==3.0.3\n".to_owned());
        }
        let text = self.0.get(path).cloned();
        text.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn exists(&self, path: &Path) -> bool {
        let is_recipe = path.extension().is_some_and(|extension| extension == "kdl");
        let is_ignore_file = path.to_string_lossy().ends_with(".dockerignore");
        (!is_recipe && !is_ignore_file) || self.0.contains_key(path)
    }

    fn is_directory(&self, path: &Path) -> bool {
        ["site", ".", "../assets"]
            .iter()
            .any(|name| path.ends_with(name))
    }
}

#[test]
fn every_example_of_the_reference_makes_a_plan() {
    let reference = fs::read_to_string("docs/recipes.md").unwrap();
    let mut files = BTreeMap::new();
    for (index, part) in reference.split("```kdl\n").skip(1).enumerate() {
        let (block, _) = part.split_once("```").expect("the block has an end");
        assert_eq!(recipe::format("example", block).unwrap(), block);
        let first = block.split([' ', '\n']).next().unwrap_or_default();
        let text = match first {
            "recipe" | "include" | "image" | "//" => block.to_owned(),
            "machine" => format!("{block}image \"example\" {{ from \"debian-12\" }}\n"),
            "from" | "dockerfile" | "bootstrap" | "layer" => {
                format!("image \"example\" {{\n{block}}}\n")
            }
            "initrd" | "kernel" if block.contains("fetch") || block.contains("virt") => format!(
                "image \"example\" {{\nfrom \"./disk.raw\"\nboot \"root=/dev/vda1\"\n{block}}}\n"
            ),
            _ if block.contains("disk {\n") || block.contains("convert") => {
                format!("image \"example\" {{\n{block}}}\n")
            }
            _ => format!("image \"example\" {{\nfrom \"debian-12\"\n{block}}}\n"),
        };
        let name = block
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("// "));
        let name = name.map_or_else(|| format!("example-{index}.kdl"), str::to_owned);
        files.insert(PathBuf::from(name), text);
    }
    assert!(files.len() > 20, "found only {} examples", files.len());
    let files = Examples(files);
    for (path, text) in &files.0 {
        let settings = match text.contains("param \"domain\"") {
            true => BTreeMap::from([("domain".to_owned(), "example.org".to_owned())]),
            false => BTreeMap::new(),
        };
        let loaded = recipe::load(path, &files, &settings)
            .unwrap_or_else(|error| panic!("{text}\n{}", show(&error)));
        let world = Fake { unreadable: false };
        for image in &loaded.images {
            plan::plan(
                &loaded,
                Some(&image.name),
                &world,
                "x86_64",
                &Process::default(),
            )
            .unwrap_or_else(|error| panic!("{text}\n{}", show_failure(&error)));
        }
    }
}
