//! `vmfab store …` as a program.

mod copies;
mod doctor;
mod files;
mod garbage;
mod stress;
mod trouble;
mod whole;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use vmfab::image::ImageConfig;
use vmfab::store::{Store, TagName};

use crate::cli::{Bench, Ran};

/// Bytes that do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Runs `vmfab store` with arguments of any kind.
fn store(bench: &Bench, arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Ran {
    let mut command = bench.command(["store"]);
    for argument in arguments {
        command.arg(argument.as_ref());
    }
    Ran::from(command.output().unwrap())
}

/// An image with a disk that takes packs of its own, under a tag. Gives the disk's content.
fn large_image(bench: &Bench, name: &str, seed: u64) -> Vec<u8> {
    bench.image(name);
    let store = Store::open(bench.home.path().join("store")).unwrap();
    let tag: TagName = name.parse().unwrap();
    let image = store.tag(&tag).unwrap().unwrap();
    let mut config = ImageConfig::from_bytes(&store.read_object(&image).unwrap()).unwrap();
    let mut disk = noise(seed, 2 << 20);
    disk.extend(vec![0; 1 << 20]);
    config.disk = store.put_bytes(&disk).unwrap();
    let image = store.put_bytes(&config.to_bytes()).unwrap();
    store.put_tag(&tag, &image.id).unwrap();
    disk
}

/// Files in a directory of a store, sorted.
fn list(store: &Path, directory: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(store.join(directory)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The largest pack of a store.
fn largest_pack(store: &Path) -> PathBuf {
    let packs = list(store, "packs").into_iter();
    packs
        .max_by_key(|pack| fs::metadata(pack).unwrap().len())
        .unwrap()
}

/// Changes a byte in the middle of a file.
fn damage(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let at = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap()
}
