//! The command line as a program: help, exit codes, output for people and for programs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use vmfab::digest::ObjectId;
use vmfab::image::{
    BootProfile, CONFIG_VERSION, FilesystemRef, Firmware, ImageConfig, ImageTemplate, Port,
    RecipeRef,
};
use vmfab::store::{Store, TagName};

/// A home of its own, and the program with it.
struct Bench {
    home: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
        }
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmfab"));
        command
            .args(arguments)
            .env("VMFAB_HOME", self.home.path())
            .env("LC_ALL", "C.UTF-8")
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR_FORCE")
            .stdin(Stdio::null());
        command
    }

    fn run<const N: usize>(&self, arguments: [&str; N]) -> Ran {
        Ran::from(self.command(arguments).output().unwrap())
    }

    /// Runs a command on a terminal; gives what the terminal got.
    fn on_terminal(&self, line: &str, no_color: Option<&str>) -> String {
        let mut script = Command::new("script");
        script
            .args(["--quiet", "--return", "--command"])
            .arg(format!("{} {line}", env!("CARGO_BIN_EXE_vmfab")))
            .arg("/dev/null")
            .env("VMFAB_HOME", self.home.path())
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdin(Stdio::null());
        if let Some(value) = no_color {
            script.env("NO_COLOR", value);
        }
        let output = script
            .output()
            .expect("script is missing: install the package bsdutils");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Puts an image into the store and tags it.
    fn image(&self, name: &str) -> ObjectId {
        let store = Store::open(self.home.path().join("store")).unwrap();
        let config = ImageConfig {
            version: CONFIG_VERSION,
            template: ImageTemplate {
                name: name.to_owned(),
                recipe: RecipeRef {
                    name: name.to_owned(),
                    version: Some("1.0.0".to_owned()),
                },
                description: Some("An image of a test".to_owned()),
                metadata: BTreeMap::from([("licence".to_owned(), "MIT".to_owned())]),
                architecture: "x86_64".to_owned(),
                boot: BootProfile {
                    command_line: "root=/dev/vda console=ttyS0".to_owned(),
                    firmware: Firmware::Direct,
                    uefi: false,
                },
                filesystem: FilesystemRef {
                    kind: "ext4".to_owned(),
                    label: "root".to_owned(),
                },
                ssh_user: "root".to_owned(),
                users: BTreeMap::from([("root".to_owned(), "/root".to_owned())]),
                ports: vec![Port {
                    guest: 80,
                    host: Some(8080),
                }],
                env: BTreeMap::new(),
            },
            disk: store.put_bytes(&[b'd'; 5000]).unwrap(),
            kernel: Some(store.put_bytes(b"kernel").unwrap()),
            initrd: None,
            layers: vec![
                store.put_bytes(&[b'1'; 2048]).unwrap(),
                store.put_bytes(&[b'2'; 10240]).unwrap(),
            ],
        };
        let image = store.put_bytes(&config.to_bytes()).unwrap().id;
        let tag: TagName = name.parse().unwrap();
        store.put_tag(&tag, &image).unwrap();
        image
    }
}

/// What a run gave.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    #[track_caller]
    fn ends_with(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}stderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }

    fn json_error(&self) -> Value {
        serde_json::from_str(&self.stderr).unwrap()
    }
}

/// What comes behind this in `docs/cli.md` is written by a test.
const REFERENCE: &str = "\n<!-- From here on this file is written by tests/cli.rs. -->\n";

/// The names of a command and of all below it, such as `image tag`.
fn all_commands(command: &clap::Command, before: &[String], found: &mut Vec<Vec<String>>) {
    found.push(before.to_vec());
    for inner in command.get_subcommands() {
        let name = [before, &[inner.get_name().to_owned()]].concat();
        all_commands(inner, &name, found);
    }
}

fn commands() -> Vec<Vec<String>> {
    let mut found = Vec::new();
    all_commands(&vmfab::cli::command(), &[], &mut found);
    assert!(found.len() > 8, "{found:?}");
    found
}

/// The second part of `docs/cli.md` is the help text of every command; with `UPDATE_DOCS=1` in the
/// environment this test writes it.
#[test]
fn the_reference_is_current() {
    let bench = Bench::new();
    let mut text = String::new();
    for name in commands() {
        let ran = Ran::from(bench.command(&name).arg("--help").output().unwrap()).ends_with(0);
        assert_eq!(ran.stderr, "");
        let (before, after) = ran
            .stdout
            .split_once("\nGlobal options:\n")
            .unwrap_or((&ran.stdout, ""));
        let after = match (name.is_empty(), after.split_once("\n\n")) {
            (true, _) => format!("\nGlobal options:\n{after}"),
            (false, Some((_, rest))) if rest.starts_with(char::is_uppercase) => format!("\n{rest}"),
            (false, _) => {
                let examples = after.find("\nExamples:\n").or(after.find("\nInstall:\n"));
                examples.map_or_else(String::new, |at| after[at..].to_owned())
            }
        };
        let title = ["vmfab".to_owned()]
            .iter()
            .chain(&name)
            .cloned()
            .collect::<Vec<_>>();
        text += &format!(
            "\n## {}\n\n```text\n{}\n```\n",
            title.join(" "),
            format!("{before}{after}").trim_end()
        );
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let found = std::fs::read_to_string(&path).unwrap();
    let (by_hand, reference) = found
        .split_once(REFERENCE)
        .expect("docs/cli.md has a part that this test writes");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{by_hand}{REFERENCE}{text}")).unwrap();
        return;
    }
    assert!(
        reference == text,
        "docs/cli.md is not what --help says: run UPDATE_DOCS=1 cargo test the_reference_is_current"
    );
}

#[test]
fn every_command_has_an_example_and_a_short_description() {
    for name in commands() {
        let root = vmfab::cli::command();
        let command = name.iter().fold(&root, |command, name| {
            command.find_subcommand(name).unwrap()
        });
        let examples = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(
            examples.contains("  vmfab ") || examples.contains("  bash "),
            "vmfab {} has no example",
            name.join(" ")
        );
        let about = command
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(
            !about.is_empty() && about.len() < 75 && !about.contains('\n'),
            "{name:?}: {about}"
        );
    }
}

#[test]
fn every_command_is_in_one_group_of_the_help() {
    let help = Bench::new().run(["--help"]).ends_with(0).stdout;
    for command in vmfab::cli::command().get_subcommands() {
        let line = format!("\n  {} ", command.get_name());
        assert_eq!(
            help.matches(&line).count(),
            1,
            "{} in:\n{help}",
            command.get_name()
        );
    }
}

#[test]
fn usage_errors() {
    let bench = Bench::new();
    let ran = bench.run(["biuld"]).ends_with(2);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: unrecognized subcommand 'biuld'

      tip: a similar subcommand exists: 'build'

    Usage: vmfab [OPTIONS] <COMMAND>

    For more information, try '--help'.
    "#);
    assert_eq!(ran.stdout, "");
    let ran = bench.run(["build"]).ends_with(2);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: the following required arguments were not provided:
      <RECIPE>

    Usage: vmfab build <RECIPE> [IMAGE]

    For more information, try '--help'.
    "#);
    let ran = bench.run(["build", "x.kdl", "--jobs", "0"]).ends_with(2);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: invalid value '0' for '--jobs <N>': 0 is not in 1..=65535

    For more information, try '--help'.
    "#);
    let ran = bench.run(["build", "x.kdl", "--set", "base"]).ends_with(2);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: invalid value 'base' for '--set <NAME=VALUE>': write NAME=VALUE

    For more information, try '--help'.
    "#);
    let ran = bench.run(["build", "x.kdl", "--tag", "a/b"]).ends_with(2);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: invalid value 'a/b' for '--tag <@TAG>': "a/b" cannot be a tag: use letters, digits, ".", "_" and "-", at most 128

    For more information, try '--help'.
    "#);
    let ran = bench
        .run(["build", "debian-12", "--output", "disk"])
        .ends_with(2);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: the name disk does not say which format the disk is to have
      help: add --format qcow2, raw, vmdk or vhdx
    "#);
    let ran = bench
        .run(["build", "x.kdl", "-s", "a=1", "-s", "a=2"])
        .ends_with(2);
    insta::assert_snapshot!(ran.stderr, @r#"error: parameter a is set to both "1" and "2""#);
    bench.run([]).ends_with(2);
    bench.run(["images", "--quiet", "--verbose"]).ends_with(2);
}

#[test]
fn usage_errors_as_json() {
    let ran = Bench::new().run(["biuld", "--json"]).ends_with(2);
    insta::assert_json_snapshot!(ran.json_error(), @r#"
    {
      "exit_code": 2,
      "help": [
        "a similar subcommand exists: 'build'"
      ],
      "kind": "usage",
      "message": "unrecognized subcommand 'biuld'"
    }
    "#);
}

#[test]
fn what_is_not_there() {
    let bench = Bench::new();
    bench.image("docker");
    let ran = bench.run(["image", "inspect", "@dokcer"]).ends_with(3);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: there is no image "dokcer"
      help: did you mean "docker"?
    "#);
    let ran = bench.run(["image", "rm", "x", "--json"]).ends_with(3);
    insta::assert_json_snapshot!(ran.json_error(), @r#"
    {
      "exit_code": 3,
      "help": [],
      "kind": "not-found",
      "message": "there is no tag \"x\""
    }
    "#);
}

#[test]
fn a_host_with_nothing_is_told_what_to_install() {
    let bench = Bench::new();
    let empty = tempfile::tempdir().unwrap();
    let doctor = |json: &[&str]| {
        let mut command = bench.command(["doctor"]);
        Ran::from(
            command
                .args(json)
                .env("PATH", empty.path())
                .output()
                .unwrap(),
        )
        .ends_with(5)
    };
    let report = doctor(&["--json"]).json();
    assert_eq!(report["ok"], false);
    let missing = |name: &str| {
        let checks = report["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == name).unwrap();
        check["state"] == "missing"
    };
    for name in ["mmdebstrap", "bwrap", "qemu-img", "ssh", "ssh-keygen"] {
        assert!(missing(name), "{name} in {report:#}");
    }
    let packages: Vec<_> = report["packages"].as_array().unwrap().iter().collect();
    for package in ["bubblewrap", "mmdebstrap", "openssh-client", "qemu-utils"] {
        assert!(
            packages.iter().any(|found| *found == package),
            "{package} in {packages:?}"
        );
    }
    let text = doctor(&[]).stdout;
    assert!(
        text.contains("sudo apt-get install bubblewrap mmdebstrap"),
        "{text}"
    );
}

#[test]
fn an_empty_store_has_no_images() {
    let bench = Bench::new();
    let ran = bench.run(["images"]).ends_with(0);
    insta::assert_snapshot!(ran.stdout, @"TAG   IMAGE   NAME   ARCHITECTURE   DISK   SIZE");
    insta::assert_snapshot!(ran.stderr, @"note: there are no images yet: vmfab images --available lists what can be built");
    let ran = bench.run(["images", "--json"]).ends_with(0);
    assert_eq!(ran.stdout, "[]\n");
    let ran = bench.run(["images", "--quiet"]).ends_with(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
}

#[test]
fn images_are_listed() {
    let bench = Bench::new();
    bench.image("docker");
    bench.image("debian-12");
    let ran = bench.run(["images"]).ends_with(0);
    // The last column depends on the block size of the file system.
    let end = ran.stdout.find("DISK").unwrap() + "DISK".len();
    let columns: Vec<_> = ran.stdout.lines().map(|line| &line[..end]).collect();
    insta::assert_snapshot!(columns.join("\n"), @r#"
    TAG          IMAGE          NAME        ARCHITECTURE      DISK
    @debian-12   c5881892f14a   debian-12   x86_64         4.9 KiB
    @docker      5d55f17a9bfb   docker      x86_64         4.9 KiB
    "#);
    let list = bench.run(["images", "--json"]).ends_with(0).json();
    assert_eq!(list[1]["tag"], "docker");
    assert_eq!(list[1]["disk_size"], 5000);
    let ran = bench.run(["images", "-q"]).ends_with(0);
    assert_eq!(ran.stdout, "@debian-12\n@docker\n");
}

#[test]
fn recipes_that_come_with_the_program_are_listed() {
    let bench = Bench::new();
    let list = bench
        .run(["images", "--available", "--json"])
        .ends_with(0)
        .json();
    let names: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert!(names.iter().any(|name| *name == "docker"), "{names:?}");
    let table = bench.run(["images", "--available"]).ends_with(0).stdout;
    assert!(table.starts_with("RECIPE"), "{table}");
    assert!(
        !bench.home.path().join("store").exists(),
        "listing recipes needs no store"
    );
}

/// `fmt` and what it does with files, on input that is formatted, not formatted, and wrong.
#[test]
fn recipes_are_formatted() {
    let bench = Bench::new();
    let directory = bench.home.path().join("project");
    std::fs::create_dir_all(directory.join("recipes")).unwrap();
    let ugly = "image   \"a\" {\nfrom \"debian-12\"; packages \"x\"\n}\n";
    let neat = "image \"a\" {\n    from \"debian-12\"\n    packages \"x\"\n}\n";
    let fmt = |arguments: &[&str]| {
        let mut command = bench.command(["fmt"]);
        Ran::from(
            command
                .args(arguments)
                .current_dir(&directory)
                .output()
                .unwrap(),
        )
    };
    std::fs::write(directory.join("a.kdl"), ugly).unwrap();
    std::fs::write(directory.join("recipes/b.kdl"), ugly).unwrap();
    let ran = fmt(&["--check"]).ends_with(1);
    assert_eq!(
        ran.stdout,
        "not formatted: a.kdl\nnot formatted: recipes/b.kdl\n"
    );
    assert_eq!(fmt(&["--stdout", "a.kdl"]).ends_with(0).stdout, neat);
    assert_eq!(
        fmt(&[]).ends_with(0).stdout,
        "formatted a.kdl\nformatted recipes/b.kdl\n"
    );
    assert_eq!(
        std::fs::read_to_string(directory.join("a.kdl")).unwrap(),
        neat
    );
    assert_eq!(fmt(&[]).ends_with(0).stdout, "");
    fmt(&["--check"]).ends_with(0);

    std::fs::write(directory.join("a.kdl"), ugly).unwrap();
    std::fs::write(directory.join("wrong.kdl"), "image \"a").unwrap();
    let ran = fmt(&[]).ends_with(4);
    assert!(ran.stderr.contains("wrong.kdl:1:7"), "{}", ran.stderr);
    assert_eq!(
        ran.stdout, "formatted a.kdl\n",
        "a wrong file does not stop the others"
    );
    let error = fmt(&["wrong.kdl", "--json"]).ends_with(4).json_error();
    assert_eq!(
        (&error["line"], &error["file"]),
        (&1.into(), &"wrong.kdl".into())
    );
    fmt(&["none.kdl"]).ends_with(3);
}

#[test]
fn standard_input_is_formatted_to_standard_output() {
    let bench = Bench::new();
    let input = bench.home.path().join("input");
    std::fs::write(&input, "image   \"a\" {\n}\n").unwrap();
    let fmt = |arguments: &[&str]| {
        let mut command = bench.command(["fmt", "-"]);
        command
            .args(arguments)
            .stdin(std::fs::File::open(&input).unwrap());
        Ran::from(command.output().unwrap())
    };
    assert!(fmt(&[]).ends_with(0).stdout.starts_with("image \"a\" {"));
    fmt(&["--check"]).ends_with(1);
}

#[test]
fn an_image_is_inspected_by_tag_or_id() {
    let bench = Bench::new();
    let image = bench.image("docker").to_string();
    let ran = bench.run(["image", "inspect", "@docker"]).ends_with(0);
    let lines: Vec<_> = ran
        .stdout
        .lines()
        .filter(|line| !line.starts_with("on this host:"))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    image:        5d55f17a9bfb423b33076feab1c7de3490f4165c9ceda74e39b397c90a68581e
    tags:         @docker
    name:         docker
    recipe:       docker 1.0.0
    description:  An image of a test
    metadata:     licence: MIT
    architecture: x86_64
    boots:        kernel directly
    command line: root=/dev/vda console=ttyS0
    disk:         4.9 KiB ext4 "root", a89be03ccb6f
    layers:       2
    user:         root
    port:         80 (127.0.0.1:8080)
    "#);
    for name in ["docker", &image[..4], &image] {
        let found = bench
            .run(["image", "inspect", name, "--json"])
            .ends_with(0)
            .json();
        assert_eq!(found["image"], image.as_str());
        assert_eq!(found["config"]["boot"]["firmware"], "direct");
    }
    bench.run(["image", "inspect", &image[..3]]).ends_with(3);
    bench
        .run(["image", "inspect", &format!("@{}", &image[..12])])
        .ends_with(3);
    let ran = bench.run(["image", "history", "@docker"]).ends_with(0);
    insta::assert_snapshot!(ran.stdout, @r#"
    LAYER             SIZE
    11d08f55ef04    10 KiB
    a6017cc0fcec   2.0 KiB
    "#);
}

#[test]
fn tags_come_and_go() {
    let bench = Bench::new();
    bench.image("docker");
    bench
        .run(["image", "tag", "@docker", "@stable", "old"])
        .ends_with(0);
    let ran = bench.run(["images", "-q"]).ends_with(0);
    assert_eq!(ran.stdout, "@docker\n@old\n@stable\n");
    bench.run(["image", "rm", "@old", "@none"]).ends_with(3);
    bench.run(["image", "rm", "@old", "@docker"]).ends_with(0);
    let ran = bench.run(["images", "-q"]).ends_with(0);
    assert_eq!(ran.stdout, "@stable\n");
}

#[test]
fn colours_are_for_terminals_and_for_those_who_ask() {
    let bench = Bench::new();
    let escape = '\u{1b}';
    for arguments in ["biuld", "image inspect none", "help build", "doctor"] {
        let colored = |extra: &str, no_color| {
            bench
                .on_terminal(&format!("{arguments} {extra}"), no_color)
                .contains(escape)
        };
        assert!(colored("", None), "{arguments}");
        assert!(!colored("", Some("1")), "NO_COLOR=1 {arguments}");
        assert!(
            colored("", Some("")),
            "an empty NO_COLOR counts as not set: {arguments}"
        );
    }
    let plain = bench.run(["image", "inspect", "none"]).ends_with(3);
    assert!(!plain.stderr.contains(escape));
    let always = bench
        .run(["image", "inspect", "none", "--color", "always"])
        .ends_with(3);
    assert!(always.stderr.contains(escape));
    let always = bench.run(["--color=always", "biuld"]).ends_with(2);
    assert!(always.stderr.contains(escape));
    let never = bench.on_terminal("image inspect none --color never", None);
    assert!(!never.contains(escape), "{never:?}");
}

#[test]
fn a_reader_who_has_enough_is_no_error() {
    let bench = Bench::new();
    bench.image("docker");
    for arguments in [
        &["--help"][..],
        &["images"],
        &["images", "--json"],
        &["image", "inspect", "@docker"],
        &["completions", "bash"],
        &["man"],
    ] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output = bench.command(arguments).stdout(writer).output().unwrap();
        let ran = Ran::from(output).ends_with(0);
        assert_eq!(ran.stderr, "", "{arguments:?}");
    }
}

#[test]
fn a_full_standard_output_is_an_error() {
    let bench = Bench::new();
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let ran = Ran::from(bench.command(["man"]).stdout(full).output().unwrap()).ends_with(1);
    assert!(
        ran.stderr.contains("standard output cannot be written"),
        "{}",
        ran.stderr
    );
}

#[test]
fn completions_are_scripts_of_their_shells() {
    let bench = Bench::new();
    for (shell, mark) in [
        ("bash", "complete -F _vmfab"),
        ("zsh", "#compdef vmfab"),
        ("fish", "complete -c vmfab"),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let ran = bench.run(["completions", shell]).ends_with(0);
        assert!(ran.stdout.contains(mark), "{shell}");
        assert!(ran.stdout.contains("keep-going"), "{shell}");
    }
    let file = bench.home.path().join("completion.bash");
    std::fs::write(&file, bench.run(["completions", "bash"]).stdout).unwrap();
    let parsed = Command::new("bash").arg("-n").arg(&file).output().unwrap();
    assert!(
        parsed.status.success(),
        "{}",
        String::from_utf8_lossy(&parsed.stderr)
    );
    bench.run(["completions", "cmd.exe"]).ends_with(2);
}

#[test]
fn manual_pages() {
    let bench = Bench::new();
    let page = bench.run(["man"]).ends_with(0).stdout;
    assert!(page.contains(".TH vmfab 1"), "{page}");
    let directory = bench.home.path().join("man1");
    bench
        .run(["man", "--output", directory.to_str().unwrap()])
        .ends_with(0);
    for name in commands() {
        let parts = ["vmfab".to_owned()]
            .iter()
            .chain(&name)
            .cloned()
            .collect::<Vec<_>>();
        let path = directory.join(format!("{}.1", parts.join("-")));
        assert!(path.is_file(), "{}", path.display());
    }
}

#[test]
fn the_log_has_the_time_and_the_end() {
    let bench = Bench::new();
    let log = bench.home.path().join("events.jsonl");
    let log_argument = log.to_str().unwrap();
    bench.run(["images", "--log", log_argument]).ends_with(0);
    bench
        .run(["image", "rm", "@x", "--log", log_argument])
        .ends_with(3);
    let lines: Vec<Value> = std::fs::read_to_string(&log)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let events: Vec<_> = lines
        .iter()
        .map(|line| line["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        events,
        [
            "command-started",
            "note",
            "command-finished",
            "command-started",
            "command-finished"
        ]
    );
    assert!(
        lines
            .iter()
            .all(|line| line["time"].as_str().unwrap().ends_with('Z'))
    );
    assert_eq!(lines[2]["exit_code"], 0);
    assert_eq!(lines[4]["exit_code"], 3);
    assert_eq!(lines[4]["kind"], "not-found");
    let ran = bench
        .run(["images", "--log", "/no/such/directory/log"])
        .ends_with(1);
    assert!(
        ran.stderr.contains("/no/such/directory/log"),
        "{}",
        ran.stderr
    );
}

#[test]
fn without_any_home_there_is_a_hint() {
    let mut command = Bench::new().command(["images"]);
    command
        .env_remove("VMFAB_HOME")
        .env_remove("XDG_DATA_HOME")
        .env_remove("HOME");
    let ran = Ran::from(command.output().unwrap()).ends_with(5);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: neither VMFAB_HOME, XDG_DATA_HOME nor HOME is set
      help: set VMFAB_HOME to the directory where vmfab may keep its files
    "#);
}
