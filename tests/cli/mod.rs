//! The command line as a program: help, exit codes, output for people and for programs.

mod audit;
mod caches;
pub(crate) mod contents;
mod dockerfiles;
mod errors;
mod fmt;
mod help;
mod home;
mod images;
mod lint;
mod recipes;
mod sbom;
mod streams;
mod template;

use std::collections::BTreeMap;
use std::ffi::OsStr;
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
pub(crate) struct Bench {
    pub(crate) home: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
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

    pub(crate) fn run<const N: usize>(&self, arguments: [&str; N]) -> Ran {
        Ran::from(self.command(arguments).output().unwrap())
    }

    /// Runs a command on a terminal; gives what the terminal got.
    pub(crate) fn on_terminal(&self, line: &str, no_color: Option<&str>) -> String {
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
    pub(crate) fn image(&self, name: &str) -> ObjectId {
        self.image_in(&Store::open(self.home.path().join("store")).unwrap(), name)
    }

    /// The same in another store.
    fn image_in(&self, store: &Store, name: &str) -> ObjectId {
        self.image_of(store, name, &[b'd'; 5000], &[&[b'1'; 2048], &[b'2'; 10240]])
    }

    /// The same with this disk and these layers.
    fn image_of(&self, store: &Store, name: &str, disk: &[u8], layers: &[&[u8]]) -> ObjectId {
        let config = ImageConfig {
            version: CONFIG_VERSION,
            template: ImageTemplate {
                name: name.parse().unwrap(),
                recipe: RecipeRef {
                    name: name.parse().unwrap(),
                    version: Some("1.0.0".parse().unwrap()),
                    about: vmfab::image::About::default(),
                },
                description: Some("An image of a test".parse().unwrap()),
                metadata: BTreeMap::from([("licence".parse().unwrap(), "MIT".parse().unwrap())]),
                requires: vmfab::image::Requires::default(),
                architecture: "x86_64".parse().unwrap(),
                boot: BootProfile {
                    command_line: "root=/dev/vda console=ttyS0".parse().unwrap(),
                    firmware: Firmware::Direct,
                    uefi: false,
                    bios: false,
                    seed: vmfab::image::Seed::default(),
                    platform: vmfab::image::Platform::default(),
                    ignition: None,
                },
                filesystem: Some(FilesystemRef {
                    kind: "ext4".parse().unwrap(),
                    label: "root".parse().unwrap(),
                }),
                ssh_user: "root".parse().unwrap(),
                users: BTreeMap::from([("root".parse().unwrap(), "/root".parse().unwrap())]),
                port_names: BTreeMap::new(),
                health: false,
                volumes: std::collections::BTreeSet::new(),
                shares: Vec::new(),
                ports: vec![Port {
                    guest: 80,
                    host: Some(8080),
                    protocol: Default::default(),
                    address: None,
                }],
                env: BTreeMap::new(),
                hostname: None,
                kernel_files: None,
                container: None,
            },
            disk: store.put_bytes(disk).unwrap(),
            kernel: Some(store.put_bytes(b"kernel").unwrap()),
            initrd: None,
            layers: layers
                .iter()
                .map(|layer| store.put_bytes(layer).unwrap())
                .collect(),
        };
        let image = store.put_bytes(&config.to_bytes()).unwrap().id;
        let tag: TagName = name.parse().unwrap();
        store.put_tag(&tag, &image).unwrap();
        image
    }
}

/// What a run gave.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
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
    pub(crate) fn ends_with(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}stderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }

    pub(crate) fn json_error(&self) -> Value {
        serde_json::from_str(&self.stderr).unwrap()
    }
}
