//! One `image` node to the model, as far as it can be read without other files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::dockerfile::{self, DraftDockerfile};
use super::error::Problem;
use super::fetched;
use super::instruction;
use super::manager;
use super::model::{Boot, Bootstrap, Disk, Fetched, Instruction, Kernel, Test, Transform};
use super::reader::Reader;
use super::source::{Files, Span, Spanned};
use super::test;
use super::value;
use crate::checked::{MountPoint, Name};
use crate::image::{
    AskedShare, DiskBus, DiskFormat, Firmware, Nic, Platform, Port, Protocol, Seed,
};
use crate::instruction::{BootcFilesystem, BootcInstall, Bootloader, Run, TargetTransport};

/// An image whose base is not resolved yet.
#[derive(Default)]
pub(super) struct Draft {
    pub base: Option<DraftBase>,
    pub instructions: Vec<DraftInstruction>,
    pub disk: Disk,
    pub kernel: Option<Kernel>,
    pub initrd: Option<Fetched>,
    pub boot: Boot,
    pub ports: Vec<Spanned<Port>>,
    pub shares: Vec<AskedShare>,
    pub checks: Vec<Run>,
    pub tests: Vec<Test>,
    pub port_names: BTreeMap<u16, Name>,
    /// Files of this host whose text is in its instructions.
    pub read: Vec<PathBuf>,
}

/// An instruction, as far as it can be read without other images.
pub(super) enum DraftInstruction {
    Whole(Instruction),
    CopyFrom(DraftCopyFrom),
    Use(DraftUse),
}

/// A mix-in that is not resolved yet.
pub(super) struct DraftUse {
    pub reference: Spanned<String>,
    /// Parameters that are set in it, with their values.
    pub settings: Vec<(Spanned<String>, String)>,
}

/// A copy from an image that is not resolved yet.
pub(super) struct DraftCopyFrom {
    pub reference: Spanned<String>,
    pub path: String,
    pub destination: String,
    pub owner: Option<String>,
}

/// What an image says it starts from.
pub(super) enum DraftBase {
    Bootstrap(Bootstrap),
    Disk(Fetched),
    Layer(Fetched),
    From {
        reference: Spanned<String>,
        /// The format of a disk file.
        format: Option<Spanned<DiskFormat>>,
        /// Whether the process of a container image runs as a service.
        service: Option<Spanned<bool>>,
        /// Parameters that are set in the base, with their values.
        settings: Vec<(Spanned<String>, String)>,
    },
    Dockerfile(DraftDockerfile),
    Bootc {
        reference: Spanned<String>,
        install: Option<BootcInstall>,
        /// The path of a configuration for Ignition.
        ignition: Option<Spanned<String>>,
        /// Build arguments of a Dockerfile, or parameters of a recipe.
        settings: Vec<(Spanned<String>, String)>,
    },
    /// It says something that is wrong and was reported.
    Wrong,
}

/// Nodes that may be in an image once.
const ONCE: [&str; 9] = [
    "from",
    "dockerfile",
    "bootc",
    "bootstrap",
    "hostname",
    "disk",
    "kernel",
    "initrd",
    "boot",
];
/// Nodes that are not steps, and may come before the base.
const SETTINGS: [&str; 8] = [
    "disk", "kernel", "initrd", "boot", "port", "share", "check", "test",
];

/// Reads the body of an `image` node.
pub(super) fn read(image: &Reader<'_>, files: &dyn Files) -> Draft {
    let mut draft = Draft::default();
    let mut seen: Vec<(&str, Span)> = Vec::new();
    for node in image.children() {
        let name = node.shape.name;
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == name) {
            if ONCE.contains(&name) {
                node.scope.report(
                    Problem::new(
                        &node.span(),
                        format!("an image has one \"{name}\" node"),
                        "the second one",
                    )
                    .with_other(first, "the first one")
                    .with_help("remove one of them, or merge them into one"),
                );
                continue;
            }
        } else {
            seen.push((name, node.span()));
        }
        let fetched_disk = name == "disk" && node.children().next().is_some();
        let first_layer = name == "layer" && draft.base.is_none();
        if matches!(name, "from" | "dockerfile" | "bootc" | "bootstrap")
            || first_layer
            || fetched_disk
        {
            base(&node, &mut draft, &seen);
        } else {
            body(&node, &mut draft, files);
        }
    }
    if draft.base.is_none() {
        image.scope.report(
            Problem::new(
                &image.span(),
                "an image needs a base",
                "it has neither \"from\", \"dockerfile\", \"bootc\", \"bootstrap\", \
                 \"layer\" nor a fetched disk",
            )
            .with_help(
                "add from \"debian-12\" (a built-in recipe), or bootstrap \"debian\" \
                 suite=\"bookworm\"",
            ),
        );
        draft.base = Some(DraftBase::Wrong);
    }
    draft
}

fn base(node: &Reader<'_>, draft: &mut Draft, seen: &[(&str, Span)]) {
    let name = node.shape.name;
    if draft.base.is_some() {
        node.scope.report(
            Problem::new(&node.span(), "an image has one base", "the second base").with_help(
                "keep one of \"from\", \"dockerfile\", \"bootc\", \"bootstrap\", \"layer\" \
                 and a fetched disk",
            ),
        );
        return;
    }
    let step = seen
        .iter()
        .find(|(other, _)| !SETTINGS.contains(other) && *other != name);
    if let Some((step, _)) = step {
        node.scope.report(
            Problem::new(
                &node.span(),
                format!("\"{name}\" comes after \"{step}\""),
                "the base must come before the steps",
            )
            .with_help(format!("move \"{name}\" to the top of the image")),
        );
    }
    draft.base = Some(match name {
        "from" => from(node),
        "dockerfile" => dockerfile::read(node).map_or(DraftBase::Wrong, DraftBase::Dockerfile),
        "bootc" => bootc(node),
        "disk" => {
            draft.disk = disk(node);
            fetched::read(node).map_or(DraftBase::Wrong, DraftBase::Disk)
        }
        "layer" => layer(node).map_or(DraftBase::Wrong, DraftBase::Layer),
        _ => bootstrap(node).map_or(DraftBase::Wrong, DraftBase::Bootstrap),
    });
}

/// The values that `set` nodes give parameters.
fn settings(node: &Reader<'_>) -> Vec<(Spanned<String>, String)> {
    let children = node.children().filter(|child| child.shape.name == "set");
    children
        .filter_map(|set| Some((set.argument(0)?, set.argument(1)?.value)))
        .collect()
}

fn bootc(node: &Reader<'_>) -> DraftBase {
    let value = |spanned: Option<Spanned<String>>| spanned.map(|spanned| spanned.value);
    let children = |name| {
        node.children()
            .filter(move |child| child.shape.name == name)
    };
    let install = BootcInstall {
        filesystem: node
            .choice("filesystem", BootcFilesystem::NAMES)
            .map(|filesystem| filesystem.value),
        root_size: node
            .parsed("root-size", value::disk_size)
            .map(|size| size.value),
        kernel_arguments: children("karg")
            .flat_map(|karg| karg.arguments(value::kernel_argument))
            .collect(),
        bootloader: node
            .choice("bootloader", Bootloader::NAMES)
            .map(|loader| loader.value),
        composefs: node.flag("composefs").is_some_and(|flag| flag.value),
        target: value(node.parsed("target", value::word)),
        target_transport: node
            .choice("target-transport", TargetTransport::NAMES)
            .map(|transport| transport.value),
        root_keys: children("authorized-keys")
            .flat_map(|keys| keys.arguments(value::authorized_key))
            .collect(),
    };
    let without = node.flag("install").filter(|flag| !flag.value);
    if let Some(without) = &without
        && install != BootcInstall::default()
    {
        node.scope.report(
            Problem::new(
                &without.span,
                "options of an installation without an installation",
                "nothing is installed",
            )
            .with_help("leave out install=#false, or all other properties, \"karg\" and \"authorized-keys\""),
        );
    }
    match node.argument(0) {
        Some(reference) => DraftBase::Bootc {
            reference,
            install: without.is_none().then_some(install),
            ignition: node.text("ignition"),
            settings: settings(node),
        },
        None => DraftBase::Wrong,
    }
}

fn from(node: &Reader<'_>) -> DraftBase {
    let settings = settings(node);
    match node.argument(0) {
        Some(reference) => DraftBase::From {
            reference,
            format: node.choice("format", &DiskFormat::NAMES),
            service: node.flag("service"),
            settings,
        },
        None => DraftBase::Wrong,
    }
}

/// A tar from outside: unpacking is what a layer is there for, so that it need not be said.
fn layer(node: &Reader<'_>) -> Option<Fetched> {
    let mut fetched = fetched::read(node)?;
    let mut before_last = fetched.transforms.iter().rev().skip(1);
    if let Some(early) = before_last.find(|transform| transform.value == Transform::Unpack) {
        node.scope.report(
            Problem::new(&early.span, "unpack must be the last node", "not the last")
                .with_help("write unpack last, or leave it out"),
        );
        return None;
    }
    let last = fetched.transforms.last();
    if last.is_none_or(|transform| transform.value != Transform::Unpack) {
        fetched
            .transforms
            .push(Spanned::new(Transform::Unpack, node.span()));
    }
    Some(fetched)
}

fn bootstrap(node: &Reader<'_>) -> Option<Bootstrap> {
    let known = [("debian", "debian"), ("ubuntu", "ubuntu")];
    let distribution = node.argument_choice(0, &known);
    let suite = node.parsed("suite", value::word);
    if !node.has("suite") {
        node.lacks("suite");
    }
    let mut components = node.words("components", value::word);
    let mirror = node.parsed("mirror", value::word);
    let keyring = node.parsed("keyring", value::host_path);
    if let Some(mirror) = &mirror
        && !node.scope.may_fetch(&mirror.value, &mirror.span)
    {
        return None;
    }
    let distribution = distribution?.value;
    if components.is_empty() {
        let usual: &[&str] = match distribution {
            "ubuntu" => &["main", "universe"],
            _ => &["main"],
        };
        components = usual.iter().map(|&name| name.to_owned()).collect();
    }
    Some(Bootstrap {
        span: node.span(),
        distribution: distribution.to_owned(),
        suite: suite?.value,
        components,
        mirror: mirror.map(|mirror| mirror.value),
        keyring: keyring.map(|keyring| keyring.value),
    })
}

fn body(node: &Reader<'_>, draft: &mut Draft, files: &dyn Files) {
    let instruction = match node.shape.name {
        "packages" => instruction::packages(node).map(Instruction::Packages),
        "run" => instruction::run(node).map(Instruction::Run),
        "python" | "npm" | "cargo" => {
            manager::read(node, files, &mut draft.read).map(Instruction::Run)
        }
        "file" => instruction::file(node, files).map(Instruction::File),
        "use" => {
            let draft_use = node.argument(0).map(|reference| DraftUse {
                reference,
                settings: settings(node),
            });
            let draft_use = draft_use.map(DraftInstruction::Use);
            draft.instructions.extend(draft_use);
            None
        }
        "copy" if node.has("from") => {
            let copy = instruction::copy_from(node).map(DraftInstruction::CopyFrom);
            draft.instructions.extend(copy);
            None
        }
        "copy" => instruction::copy(node, files).map(Instruction::Copy),
        "user" => instruction::user(node).map(Instruction::User),
        "env" => Some(Instruction::Env(
            node.map(value::variable, value::login_value),
        )),
        "hostname" => node
            .parsed_argument(0, value::hostname)
            .map(Instruction::Hostname),
        "service" => instruction::service(node).map(Instruction::Service),
        "layer" => layer(node).map(|fetched| Instruction::Layer(Box::new(fetched))),
        "disk" => {
            draft.disk = disk(node);
            None
        }
        "kernel" => {
            draft.kernel = kernel(node);
            None
        }
        "initrd" => {
            draft.initrd = fetched::read(node);
            if draft.initrd.is_none() && node.children().next().is_none() {
                node.lacks("fetch");
            }
            None
        }
        "boot" => {
            draft.boot = boot(node);
            None
        }
        "port" => {
            port(node, draft);
            None
        }
        "share" => {
            asked_share(node, draft);
            None
        }
        "test" => {
            draft.tests.extend(test::read(node));
            None
        }
        // The only one left in the shape of an image: "check".
        _ => {
            draft.checks.extend(instruction::run(node));
            None
        }
    };
    draft
        .instructions
        .extend(instruction.map(DraftInstruction::Whole));
}

fn kernel(node: &Reader<'_>) -> Option<Kernel> {
    let initrd = node.parsed("initrd", value::image_file);
    let path = node.parsed_argument(0, value::image_file);
    let outside = node.children().next().is_some();
    match (path, outside) {
        (Some(path), false) => Some(Kernel::Tree {
            path: path.value,
            initrd: initrd.map(|initrd| initrd.value),
        }),
        (None, true) => fetched::read(node).map(|fetched| Kernel::Fetched(Box::new(fetched))),
        (Some(path), true) => {
            node.scope.report(
                Problem::new(
                    &path.span,
                    "a kernel is either in the image or from outside",
                    "both are given",
                )
                .with_help("keep either the path in the image or \"fetch\""),
            );
            None
        }
        (None, false) => {
            if node.positional().next().is_none() {
                node.lacks("the path in the image");
            }
            None
        }
    }
}

fn disk(node: &Reader<'_>) -> Disk {
    Disk {
        size: node.parsed("size", value::disk_size),
        filesystem: node
            .choice("filesystem", &[("ext4", "ext4")])
            .map(|name| name.map(str::to_owned)),
        label: node.parsed("label", value::label),
        uefi: node.choice("firmware", &[("uefi", true), ("none", false)]),
    }
}

fn boot(node: &Reader<'_>) -> Boot {
    Boot {
        command_line: node.parsed_argument(0, |text| {
            if text.chars().any(char::is_control) {
                return Err(value::Wrong {
                    message: "a command line must be one line".to_owned(),
                    help: "write the arguments with spaces between them",
                });
            }
            Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
        }),
        firmware: node.choice("firmware", &Firmware::NAMES),
        seed: node.choice("seed", &Seed::NAMES),
        user: node.parsed("user", value::account),
        platform: platform(node),
    }
}

/// The hardware of a `boot` or `machine` node.
pub(super) fn platform(node: &Reader<'_>) -> Platform {
    let machine_type = node.parsed("machine-type", value::fitting("a type of machine"));
    let disk_bus = node.choice("disk-bus", &DiskBus::NAMES);
    let nic = node.choice("nic", &Nic::NAMES);
    Platform {
        machine_type: machine_type.map(|kind| kind.value),
        disk_bus: disk_bus.map(|bus| bus.value),
        nic: nic.map(|nic| nic.value),
    }
}

fn asked_share(node: &Reader<'_>, draft: &mut Draft) {
    let host = value::fitting("a directory that an image can ask for");
    let Some((host, at, read_only)) = share(node, host) else {
        return;
    };
    if draft.shares.iter().any(|other| other.at == at.value) {
        node.scope.report(
            Problem::new(
                &at.span,
                format!("the image asks for two directories at {}", at.value),
                "the second one",
            )
            .with_help("give one of them another path"),
        );
    }
    draft.shares.push(AskedShare {
        host,
        at: at.value,
        read_only,
    });
}

/// The properties of a `share` node: the directory, where it is mounted, and whether read-only.
pub(super) fn share<T>(
    node: &Reader<'_>,
    host: impl Fn(&str) -> value::Parsed<T>,
) -> Option<(T, Spanned<MountPoint>, bool)> {
    for name in ["host", "guest"] {
        if !node.has(name) {
            node.lacks(name);
        }
    }
    let host = node.parsed("host", host);
    let at = node.parsed("guest", value::fitting("a path to mount something at"));
    let read_only = node.flag("read-only").is_some_and(|flag| flag.value);
    Some((host?.value, at?, read_only))
}

fn port(node: &Reader<'_>, draft: &mut Draft) {
    let name = node.parsed("name", value::fitting::<Name>("a name"));
    let host = node.number("host", value::port);
    let Some(guest) = node.number_argument(0, value::port) else {
        return;
    };
    let host_span = host.as_ref().map(|host| host.span.clone());
    let port = Port {
        guest: guest.value,
        host: host.map(|host| host.value),
        protocol: Protocol::Tcp,
        address: None,
    };
    let twin = |other: &&Spanned<Port>| {
        other.guest == port.guest || (port.host.is_some() && other.host == port.host)
    };
    if let Some(first) = draft.ports.iter().find(twin) {
        let (message, span) = match (port.host, host_span) {
            (Some(host), Some(span)) if first.guest != port.guest => {
                (format!("port {host} of the host is given twice"), span)
            }
            _ => (format!("port {} is given twice", port.guest), guest.span),
        };
        node.scope.report(
            Problem::new(&span, message, "the second time")
                .with_other(&first.span, "the first time")
                .with_help("give each port of guest and host once"),
        );
        return;
    }
    draft
        .port_names
        .extend(name.map(|name| (port.guest, name.value)));
    draft.ports.push(Spanned::new(port, node.span_of_all()));
}
