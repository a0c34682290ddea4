//! One `image` node to the model, as far as it can be read without other files.

use std::path::PathBuf;

use super::error::Problem;
use super::model::{
    Boot, Bootstrap, Content, Copy, Disk, File, Firmware, Instruction, Kernel, Limits, Packages,
    Port, Run, Service, User,
};
use super::reader::Reader;
use super::reference::normalise;
use super::source::{Files, Spanned};
use super::value;

/// An image whose base is not resolved yet.
pub(super) struct Draft {
    pub base: Option<DraftBase>,
    pub instructions: Vec<Instruction>,
    pub disk: Disk,
    pub kernel: Option<Kernel>,
    pub boot: Boot,
    pub ports: Vec<Spanned<Port>>,
    pub checks: Vec<Run>,
}

/// What an image says it starts from.
pub(super) enum DraftBase {
    Bootstrap(Bootstrap),
    From {
        reference: Spanned<String>,
        /// Parameters that are set in the base, with their values.
        settings: Vec<(Spanned<String>, String)>,
    },
    /// It says something that is wrong and was reported.
    Wrong,
}

/// Nodes that may be in an image once.
const ONCE: [&str; 6] = ["from", "bootstrap", "hostname", "disk", "kernel", "boot"];
/// Nodes that are not steps, and may come before the base.
const SETTINGS: [&str; 5] = ["disk", "kernel", "boot", "port", "check"];

/// Reads the body of an `image` node.
pub(super) fn read(image: &Reader<'_>, files: &dyn Files) -> Draft {
    let mut draft = Draft {
        base: None,
        instructions: Vec::new(),
        disk: Disk::default(),
        kernel: None,
        boot: Boot::default(),
        ports: Vec::new(),
        checks: Vec::new(),
    };
    let mut seen: Vec<&str> = Vec::new();
    for node in image.children() {
        let name = node.shape.name;
        if ONCE.contains(&name) && seen.contains(&name) {
            node.scope.report(
                Problem::new(
                    &node.span(),
                    format!("an image has one \"{name}\" node"),
                    "the second one",
                )
                .with_help("remove one of them, or write both as one"),
            );
            continue;
        }
        seen.push(name);
        if matches!(name, "from" | "bootstrap") {
            base(&node, &mut draft, &seen);
        } else {
            body(&node, &mut draft, files);
        }
    }
    if draft.base.is_none() && image.has_unsupported() {
        draft.base = Some(DraftBase::Wrong);
    } else if draft.base.is_none() {
        image.scope.report(
            Problem::new(
                &image.span(),
                "an image needs something to start from",
                "neither \"from\" nor \"bootstrap\" in it",
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

fn base(node: &Reader<'_>, draft: &mut Draft, seen: &[&str]) {
    let name = node.shape.name;
    if draft.base.is_some() {
        node.scope.report(
            Problem::new(
                &node.span(),
                "an image starts from one thing",
                "the second start",
            )
            .with_help("keep either \"from\" or \"bootstrap\""),
        );
        return;
    }
    let step = seen
        .iter()
        .find(|other| !SETTINGS.contains(*other) && **other != name);
    if let Some(step) = step {
        node.scope.report(
            Problem::new(
                &node.span(),
                format!("\"{name}\" comes after \"{step}\""),
                "steps come before what they are done to",
            )
            .with_help(format!("move \"{name}\" to the top of the image")),
        );
    }
    draft.base = Some(match name {
        "from" => from(node),
        _ => bootstrap(node).map_or(DraftBase::Wrong, DraftBase::Bootstrap),
    });
}

fn from(node: &Reader<'_>) -> DraftBase {
    let settings = node
        .children()
        .filter_map(|set| Some((set.argument(0)?, set.argument(1)?.value)))
        .collect();
    match node.argument(0) {
        Some(reference) => DraftBase::From {
            reference,
            settings,
        },
        None => DraftBase::Wrong,
    }
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
        "packages" => packages(node).map(Instruction::Packages),
        "run" => run(node).map(Instruction::Run),
        "file" => file(node, files).map(Instruction::File),
        "copy" => copy(node, files).map(Instruction::Copy),
        "user" => user(node).map(Instruction::User),
        "env" => Some(Instruction::Env(node.map(value::variable))),
        "hostname" => node
            .parsed_argument(0, value::hostname)
            .map(Instruction::Hostname),
        "service" => service(node).map(Instruction::Service),
        "disk" => {
            draft.disk = disk(node);
            None
        }
        "kernel" => {
            let initrd = node.parsed("initrd", value::image_file);
            draft.kernel = node
                .parsed_argument(0, value::image_file)
                .map(|path| Kernel {
                    path: path.value,
                    initrd: initrd.map(|initrd| initrd.value),
                });
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
        // The only one left in the shape of an image: "check".
        _ => {
            draft.checks.extend(run(node));
            None
        }
    };
    draft.instructions.extend(instruction);
}

fn packages(node: &Reader<'_>) -> Option<Packages> {
    let names = node.arguments(value::package);
    let recommends = node.flag("recommends").is_some_and(|flag| flag.value);
    let limits = limits(node);
    (!names.is_empty()).then_some(Packages {
        names,
        recommends,
        limits,
    })
}

fn run(node: &Reader<'_>) -> Option<Run> {
    let command = node.argument(0);
    if let Some(command) = command.as_ref().filter(|command| command.trim().is_empty()) {
        node.scope.report(
            Problem::new(&command.span, "the script is empty", "nothing to run")
                .with_help(format!("for example: {}", node.shape.example)),
        );
    }
    let shell = node.parsed("shell", value::shell);
    let workdir = node.parsed("workdir", value::image_path);
    let network = node.flag("network").is_some_and(|flag| flag.value);
    let limits = limits(node);
    let env = node
        .children()
        .flat_map(|env| env.map(value::variable))
        .collect();
    Some(Run {
        command: command?,
        shell: match shell {
            Some(shell) => shell.value,
            None => vec!["/bin/sh".to_owned(), "-ec".to_owned()],
        },
        env,
        workdir: workdir.map(|workdir| workdir.value),
        network,
        limits,
    })
}

fn limits(node: &Reader<'_>) -> Limits {
    let processes = node.number("processes", |text| {
        text.parse::<u64>()
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| value::Wrong {
                message: format!("{text} is not a number of processes"),
                help: "write a number from 1 on",
            })
    });
    Limits {
        seconds: node
            .parsed("timeout", value::duration)
            .map(|limit| limit.value),
        memory: node.parsed("memory", value::size).map(|limit| limit.value),
        processes: processes.map(|limit| limit.value),
    }
}

fn file(node: &Reader<'_>, files: &dyn Files) -> Option<File> {
    let path = node.parsed_argument(0, value::image_file);
    let mode = mode(node);
    let owner = node.parsed("owner", value::owner);
    let contents: Vec<_> = node.children().collect();
    let local = match node.text("source") {
        Some(source) => Some(local_path(node, source, files)?),
        None => None,
    };
    if let Some(local) = local
        .as_ref()
        .filter(|local| files.is_directory(&local.value))
    {
        node.scope.report(
            Problem::new(
                &local.span,
                format!("{} is a directory", local.value.display()),
                "\"file\" takes one file",
            )
            .with_help("use \"copy\" for directories: copy \"./site\" \"/srv/www\""),
        );
        return None;
    }
    let content = match (local, contents.as_slice()) {
        (Some(local), []) => Content::Local(local),
        (None, [content]) => Content::Inline(content.argument(0)?.value),
        (None, []) => {
            if !node.has("source") && !node.has("content") {
                node.lacks("content");
            }
            return None;
        }
        (_, [.., last]) => {
            node.scope.report(
                Problem::new(&last.span(), "a file has one content", "the second content")
                    .with_help("keep either \"source\" or one \"content\""),
            );
            return None;
        }
    };
    Some(File {
        path: path?.value,
        content,
        mode,
        owner: owner.map(|owner| owner.value),
    })
}

fn mode(node: &Reader<'_>) -> Option<u32> {
    node.parsed("mode", value::mode).map(|mode| mode.value)
}

fn copy(node: &Reader<'_>, files: &dyn Files) -> Option<Copy> {
    let source = node
        .argument(0)
        .and_then(|source| local_path(node, source, files));
    let destination = node.parsed_argument(1, value::image_path);
    let mode = mode(node);
    let owner = node.parsed("owner", value::owner);
    let (source, destination) = (source?, destination?.value);
    let is_directory = files.is_directory(&source.value);
    let destination = match (destination.strip_suffix('/'), source.value.file_name()) {
        (Some(directory), Some(name)) if !is_directory => {
            format!("{directory}/{}", name.to_string_lossy())
        }
        (Some(""), _) => "/".to_owned(),
        (Some(directory), _) => directory.to_owned(),
        (None, _) => destination,
    };
    Some(Copy {
        source,
        destination,
        mode,
        owner: owner.map(|owner| owner.value),
    })
}

/// A local path, relative to the recipe's directory; reports it when nothing is there.
fn local_path(
    node: &Reader<'_>,
    text: Spanned<String>,
    files: &dyn Files,
) -> Option<Spanned<PathBuf>> {
    let Some(directory) = &node.scope.directory else {
        node.scope.report(
            Problem::new(
                &text.span,
                "a built-in recipe has no local files",
                "there is no directory that this could be in",
            )
            .with_help("write the recipe to a file of your own"),
        );
        return None;
    };
    let path = directory.join(&text.value);
    let path = normalise(&path);
    if text.value.is_empty() || !files.exists(&path) {
        node.scope.report(
            Problem::new(
                &text.span,
                format!("there is no file {}", path.display()),
                "not found",
            )
            .with_help("paths count from the directory of the recipe file"),
        );
        return None;
    }
    Some(text.map(|_| path))
}

fn user(node: &Reader<'_>) -> Option<User> {
    let name = node.parsed_argument(0, value::account);
    let mut groups = node.words("groups", value::account);
    let sudo = node.flag("sudo").is_some_and(|flag| flag.value);
    let uid = node.number("uid", |text| {
        text.parse::<u32>()
            .ok()
            .filter(|uid| *uid < u32::MAX)
            .ok_or_else(|| value::Wrong {
                message: format!("{text} is not a user id"),
                help: "a user id is a number from 0 to 4294967294; people's begin at 1000",
            })
    });
    let shell = node.parsed("shell", value::image_file);
    let password_hash = node.parsed("password-hash", value::password_hash);
    let mut authorized_keys = Vec::new();
    for child in node.children() {
        match child.shape.name {
            "groups" => groups.extend(child.arguments(value::account)),
            _ => authorized_keys.extend(child.arguments(value::authorized_key)),
        }
    }
    Some(User {
        name: name?.value,
        groups,
        sudo,
        uid: uid.map(|uid| uid.value),
        shell: shell.map(|shell| shell.value),
        password_hash: password_hash.map(|hash| hash.value),
        authorized_keys,
    })
}

fn service(node: &Reader<'_>) -> Option<Service> {
    let name = node.parsed_argument(0, value::service);
    let enable = node.flag("enable");
    Some(Service {
        name: name?.value,
        enable: enable.is_none_or(|flag| flag.value),
    })
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
                    message: "a command line is one line".to_owned(),
                    help: "write the arguments with spaces between them",
                });
            }
            Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
        }),
        firmware: node.choice(
            "firmware",
            &[("direct", Firmware::Direct), ("uefi", Firmware::Uefi)],
        ),
    }
}

fn port(node: &Reader<'_>, draft: &mut Draft) {
    let host = node.number("host", value::port);
    let Some(guest) = node.number_argument(0, value::port) else {
        return;
    };
    let port = Port {
        guest: guest.value,
        host: host.map(|host| host.value),
    };
    let taken = draft
        .ports
        .iter()
        .any(|other| other.guest == port.guest || (port.host.is_some() && other.host == port.host));
    if taken {
        node.scope.report(
            Problem::new(
                &node.span(),
                format!("port {} is given twice", port.guest),
                "a node before has the same port",
            )
            .with_help("give each port of guest and host once"),
        );
        return;
    }
    draft.ports.push(Spanned::new(port, guest.span));
}
