//! Homes with images, and the program with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use vmfab::image::ImageConfig;
use vmfab::store::Store;

use super::bytes;
use crate::support::{Ran, command_in};

/// A home in a directory with room for other files.
pub(super) struct Home(TempDir);

impl Home {
    /// An empty one. Faults are tried again twice, soon.
    pub(super) fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.configure("downloads retries=2\n");
        home
    }

    /// Writes the configuration.
    pub(super) fn configure(&self, text: &str) {
        fs::write(self.path("config.kdl"), text).unwrap();
    }

    pub(super) fn directory(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The program, in the directory, without credentials and caches of this host.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = command_in(&self.path("home"));
        command
            .args(words)
            .env("VMFAB_CONFIG", self.path("config.kdl"))
            .env("HOME", self.path("user"))
            .env("XDG_RUNTIME_DIR", self.path("user"))
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("REGISTRY_AUTH_FILE")
            .env_remove("DOCKER_CONFIG")
            .current_dir(self.directory());
        command
    }

    pub(super) fn run(&self, words: &[&str]) -> Ran {
        Ran::of(&mut self.command(words))
    }

    /// The JSON that a command prints, which must succeed.
    #[track_caller]
    pub(super) fn json(&self, words: &[&str]) -> Value {
        let all: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        self.run(&all).ends_with(0).json()
    }

    /// Pushes; gives what is told.
    #[track_caller]
    pub(super) fn push(&self, image: &str, to: &str) -> Value {
        self.json(&["push", image, to])
    }

    /// Pulls one image; gives what is told.
    #[track_caller]
    pub(super) fn pull(&self, from: &str) -> Value {
        let told = self.json(&["pull", from]);
        assert_eq!(told.as_array().unwrap().len(), 1, "{told:#}");
        told[0].clone()
    }

    /// What is said of a command that fails so, as if no line had been broken.
    #[track_caller]
    pub(super) fn refused(&self, words: &[&str], code: i32) -> String {
        let said = self.run(words).ends_with(code).stderr;
        said.replace("\n  │ ", " ")
    }

    pub(super) fn store(&self) -> Store {
        Store::open(self.path("home/store")).unwrap()
    }

    /// Puts an image with this disk into the store, and tags it. Gives its id.
    pub(super) fn image(&self, name: &str, disk: &[u8]) -> String {
        self.image_for(name, disk, "x86_64")
    }

    /// The same for an architecture.
    pub(super) fn image_for(&self, name: &str, disk: &[u8], architecture: &str) -> String {
        let store = self.store();
        let raw = self.path("raw");
        fs::write(&raw, disk).unwrap();
        let disk = store.put_file(&fs::File::open(&raw).unwrap(), &raw);
        let config = json!({
            "version": 1,
            "name": name,
            "recipe": { "name": name, "version": "1.2" },
            "description": "for a test",
            "metadata": { "licenses": "MIT" },
            "architecture": architecture,
            "boot": {
                "command-line": "root=LABEL=/ console=ttyS0",
                "firmware": "bios",
                "uefi": false,
                "bios": true,
            },
            "filesystem": null,
            "ssh-user": "root",
            "users": {},
            "ports": [],
            "env": {},
            "disk": disk.unwrap(),
            "kernel": store.put_bytes(b"a kernel").unwrap(),
            "initrd": null,
            "layers": [],
        });
        let config = ImageConfig::from_bytes(config.to_string().as_bytes()).unwrap();
        let image = store.put_bytes(&config.to_bytes()).unwrap().id;
        store.put_tag(&name.parse().unwrap(), &image).unwrap();
        image.to_string()
    }

    /// Gives an image these layers. Gives its new id.
    pub(super) fn layered(&self, tag: &str, layers: &[&[u8]]) -> String {
        let store = self.store();
        let tag = tag.parse().unwrap();
        let image = store.tag(&tag).unwrap().expect("a tag");
        let mut config: Value =
            serde_json::from_slice(&store.read_object(&image).unwrap()).unwrap();
        let layers = layers.iter().map(|layer| store.put(&mut &**layer).unwrap());
        config["layers"] = json!(layers.collect::<Vec<_>>());
        let config = ImageConfig::from_bytes(config.to_string().as_bytes()).unwrap();
        let image = store.put_bytes(&config.to_bytes()).unwrap().id;
        store.put_tag(&tag, &image).unwrap();
        image.to_string()
    }

    /// The image under a tag.
    pub(super) fn tagged(&self, tag: &str) -> Option<String> {
        let image = self.store().tag(&tag.parse().unwrap()).unwrap();
        image.map(|image| image.to_string())
    }

    /// The disk of the image under a tag.
    #[track_caller]
    pub(super) fn disk(&self, tag: &str) -> Vec<u8> {
        let store = self.store();
        let image = store.tag(&tag.parse().unwrap()).unwrap();
        let config = store.read_object(&image.expect("a tag")).unwrap();
        let config = ImageConfig::from_bytes(&config).unwrap();
        store.read_object(&config.disk.id).unwrap()
    }

    /// Nothing in the store is damaged or half, and nothing lies beside it.
    #[track_caller]
    pub(super) fn is_clean(&self) {
        self.run(&["store", "verify"]).ends_with(0);
        assert_eq!(self.partial(), [""; 0]);
    }

    /// No image was tagged, and the store is clean.
    #[track_caller]
    pub(super) fn has_nothing(&self) {
        let tags = self.store().tags().unwrap();
        assert!(tags.is_empty(), "{tags:?}");
        self.is_clean();
    }

    /// Downloads that are not finished.
    pub(super) fn partial(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut directories = vec![self.path("home")];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let name = entry.file_name().into_string().unwrap();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    directories.push(entry.path());
                } else if name.ends_with(".partial") {
                    files.push(name);
                }
            }
        }
        files
    }
}

/// A disk: a boot sector, and noise between zeros.
pub(super) fn disk(seed: u64, size: usize) -> Vec<u8> {
    let hole = vec![0; 1 << 20];
    let mut disk = [hole.clone(), bytes(size, seed), hole].concat();
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

/// The disk after an upgrade: some bytes in the middle are others.
pub(super) fn upgraded(disk: &[u8], seed: u64, size: usize) -> Vec<u8> {
    let mut next = disk.to_vec();
    let middle = disk.len() / 2;
    next[middle..middle + size].copy_from_slice(&bytes(size, seed));
    next
}

/// What a JSON number says.
#[track_caller]
pub(super) fn number(value: &Value) -> usize {
    let number = value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"));
    usize::try_from(number).unwrap()
}
