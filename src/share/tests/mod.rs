mod memorised;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;

use memorised::Memorised;
use tempfile::TempDir;

use super::*;
use crate::digest::ObjectRef;
use crate::event::Silent;
use crate::registry::{
    Blob, Described, Parsed, Platform, Repository, Version, media, parse_manifest,
};

/// A home with a store.
struct Home {
    directory: TempDir,
    store: Store,
    interrupt: Interrupt,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            store: Store::open(directory.path().join("store")).unwrap(),
            interrupt: Interrupt::new().unwrap(),
            directory,
        }
    }

    fn sharing(&self) -> Sharing<'_> {
        Sharing {
            store: &self.store,
            downloads: self.directory.path().join("downloads"),
            memory: Memory::new(self.directory.path().join("registries")),
            sink: &Silent,
            interrupt: &self.interrupt,
            parallel: 4,
        }
    }

    fn put(&self, content: &[u8]) -> ObjectRef {
        self.store.put(&mut &content[..]).unwrap()
    }

    fn push(&self, repository: &Memorised, tag: &str, contents: &[Vec<u8>]) -> Pushed {
        self.push_as(repository, tag, contents, false)
    }

    fn push_as(
        &self,
        repository: &Memorised,
        tag: &str,
        contents: &[Vec<u8>],
        full: bool,
    ) -> Pushed {
        let objects: Vec<ObjectRef> = contents.iter().map(|content| self.put(content)).collect();
        let bundle = Bundle {
            kind: IMAGE,
            config: format!("{objects:?}").into_bytes(),
            objects,
            boot_order: None,
            annotations: BTreeMap::new(),
        };
        let options = PushOptions {
            target: Target::Tag(tag.to_owned()),
            full,
            index: None,
            name: "an image".to_owned(),
        };
        self.sharing().push(repository, &bundle, &options).unwrap()
    }

    fn try_pull(&self, repository: &Memorised, tag: &str) -> Result<Pulled, ShareError> {
        let (sharing, version) = (self.sharing(), Version::Tag(tag.to_owned()));
        let found = sharing.find(repository, &version, &platform("amd64"))?;
        let artifact = found.unwrap().artifact.unwrap();
        sharing.pull(repository, &artifact, None, "it")
    }

    #[track_caller]
    fn pulls(&self, repository: &Memorised, tag: &str, contents: &[Vec<u8>]) -> Pulled {
        let pulled = self.try_pull(repository, tag).unwrap();
        assert_eq!(pulled.objects.len(), contents.len());
        for (object, content) in pulled.objects.iter().zip(contents) {
            assert!(self.store.read_object(&object.id).unwrap() == *content);
        }
        let watch = crate::store::Watch::new(&self.interrupt, &|_, _| {});
        assert!(self.store.verify(false, &watch).unwrap().is_whole());
        pulled
    }
}

fn platform(architecture: &str) -> Platform {
    Platform {
        architecture: architecture.to_owned(),
        os: "linux".to_owned(),
        variant: None,
    }
}

/// Bytes that do not repeat.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// A disk, and a kernel that is also on it.
fn version(change: Option<u64>) -> Vec<Vec<u8>> {
    let kernel = noise(1, 500_000);
    let mut disk = [noise(2, 3 << 20), vec![0; 1 << 20], kernel.clone()].concat();
    if let Some(seed) = change {
        disk[1_000_000..1_050_000].copy_from_slice(&noise(seed, 50_000));
    }
    vec![disk, kernel, b"small".to_vec()]
}

#[test]
fn what_was_pushed_is_pulled() {
    let (one, other, repository) = (Home::new(), Home::new(), Memorised::default());
    let pushed = one.push(&repository, "1", &version(None));
    assert!(!pushed.present);
    let sent = repository.sent();
    assert!(sent < 4_000_000, "{sent} bytes: chunks are sent twice");
    let pulled = other.pulls(&repository, "1", &version(None));
    assert_eq!(
        pulled.config,
        one.sharing()
            .config(&repository, &artifact(&repository))
            .unwrap()
    );
    repository.given();
    // Nothing is moved again.
    assert_eq!(other.pulls(&repository, "1", &version(None)).fetched, 0);
    assert!(repository.given() < 2000);
    assert!(one.push(&repository, "1", &version(None)).present);
    assert_eq!(repository.sent(), 0);
    // Under another tag it is the same manifest.
    let again = one.push(&repository, "2", &version(None));
    assert_eq!(again.digest(), pushed.digest());
    assert_eq!(repository.sent(), 0);
}

fn artifact(repository: &Memorised) -> Artifact {
    let manifest = repository.manifest_of("1");
    Artifact::of_manifest(&manifest).unwrap().unwrap()
}

#[test]
fn the_manifest_depends_on_the_image_only() {
    let one = Home::new();
    let first = one.push(&Memorised::default(), "1", &version(None));
    // Another history, other packs.
    let other = Home::new();
    for content in version(Some(7)).iter().rev() {
        other.put(content);
    }
    let repository = Memorised::default();
    let second = other.push(&repository, "x", &version(None));
    assert_eq!(first.digest(), second.digest());
    // Who pulled it pushes the same.
    let third = Home::new();
    third.pulls(&repository, "x", &version(None));
    let pushed = third.push(&Memorised::default(), "1", &version(None));
    assert_eq!(pushed.digest(), first.digest());
}

#[test]
fn a_new_version_costs_what_is_new() {
    let (one, repository) = (Home::new(), Memorised::default());
    one.push(&repository, "1", &version(None));
    let pulled_before = Home::new();
    pulled_before.pulls(&repository, "1", &version(None));
    let built_before = Home::new();
    for content in version(None) {
        built_before.put(&content);
    }
    repository.sent();

    let pushed = one.push(&repository, "2", &version(Some(3)));
    assert_eq!(pushed.new, 1);
    let sent = repository.sent();
    assert!((50_000..250_000).contains(&sent), "{sent} bytes sent");
    for home in [&pulled_before, &built_before] {
        repository.given();
        home.pulls(&repository, "2", &version(Some(3)));
        let given = repository.given();
        assert!(given < sent + 10_000, "{given} bytes given");
    }
    // From scratch it is had from both packs, and only what is needed of the old one.
    let fresh = Home::new();
    fresh.pulls(&repository, "2", &version(Some(3)));

    // Where it stands alone, it is made anew.
    let full = one.push_as(&repository, "3", &version(Some(3)), true);
    let alone = one.push(&Memorised::default(), "1", &version(Some(3)));
    assert_eq!(full.digest(), alone.digest());
    assert_ne!(full.digest(), pushed.digest());
}

#[test]
fn where_ranges_are_refused_whole_packs_are_had() {
    let (one, other, repository) = (Home::new(), Home::new(), Memorised::default());
    one.push(&repository, "1", &version(None));
    one.push(&repository, "2", &version(Some(3)));
    repository.refuses_ranges.store(true, Ordering::Relaxed);
    for content in version(None) {
        other.put(&content);
    }
    other.pulls(&repository, "2", &version(Some(3)));
    // And a push that cannot look into packs sends everything.
    let third = Home::new();
    assert_eq!(third.push(&repository, "9", &version(Some(4))).new, 1);
}

#[test]
fn what_is_garbled_is_refused_and_what_was_fetched_stays() {
    let (one, other, repository) = (Home::new(), Home::new(), Memorised::default());
    one.push(&repository, "1", &version(None));
    let right = repository.blobs.lock().unwrap().clone();
    for (digest, bytes) in &right {
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            repository.blobs.lock().unwrap().insert(*digest, wrong);
            let home = Home::new();
            if let Ok(pulled) = home.try_pull(&repository, "1") {
                // The config is in the manifest, too.
                assert_eq!(*digest, artifact(&repository).config.digest);
                assert_eq!(pulled.objects.len(), 3);
            } else {
                let watch = crate::store::Watch::new(&home.interrupt, &|_, _| {});
                assert!(home.store.verify(false, &watch).unwrap().is_whole());
            }
        }
        repository
            .blobs
            .lock()
            .unwrap()
            .insert(*digest, bytes.clone());
    }
    let pack = artifact(&repository).packs[0].blob.digest;
    repository.blobs.lock().unwrap().remove(&pack);
    let error = other.try_pull(&repository, "1").unwrap_err();
    assert!(error.to_string().contains("is not there"), "{error}");
    repository.blobs.lock().unwrap().clone_from(&right);
    other.pulls(&repository, "1", &version(None));
}

#[test]
fn an_artifact_that_lies_about_chunks_harms_no_other() {
    let (one, repository) = (Home::new(), Memorised::default());
    let (first, second) = (version(None).remove(0), version(Some(3)).remove(0));
    one.push(&repository, "1", std::slice::from_ref(&first));
    one.push(&repository, "2", std::slice::from_ref(&second));
    let honest = artifact(&repository);
    assert_eq!(honest.packs.len(), 1);
    // Somebody has put something else into its pack, and names the digest of that.
    let mut lying = honest.clone();
    let bytes = repository.blobs.lock().unwrap()[&honest.packs[0].blob.digest].clone();
    let (offset, size) = (honest.packs[0].table_offset, honest.packs[0].blob.size);
    let table = &bytes[offset as usize..];
    let chunks = crate::store::chunks_of_table(table, offset, size).unwrap();
    let (lie, table_offset) = crate::store::lying(&bytes, &chunks, |_| true);
    lying.packs[0].blob = Blob::of(&lie);
    lying.packs[0].table_offset = table_offset;
    let place = lying.packs[0].blob.digest;
    repository.blobs.lock().unwrap().insert(place, lie);

    let home = Home::new();
    let pulled = home.sharing().pull(&repository, &lying, None, "it");
    let object = pulled.unwrap().objects[0];
    let error = home.store.read_object(&object.id).unwrap_err().to_string();
    assert!(error.contains("does not match its key"), "{error}");
    // Another image that has the same chunks gets the right ones.
    let pulled = home.try_pull(&repository, "2").unwrap();
    assert!(pulled.fetched > 3 << 20, "{} bytes", pulled.fetched);
    let read = home.store.read_object(&pulled.objects[0].id).unwrap();
    assert!(read == second);
    // So does who has the content.
    assert_eq!(home.put(&first), object);
    assert!(home.store.read_object(&object.id).unwrap() == first);
}

#[test]
fn only_what_is_wanted_is_fetched() {
    let (one, other, repository) = (Home::new(), Home::new(), Memorised::default());
    one.push(&repository, "1", &version(None));
    repository.given();
    let kernel = one.put(&version(None)[1]);
    let wanted = HashSet::from([kernel.id]);
    let sharing = other.sharing();
    let artifact = artifact(&repository);
    let pulled = sharing
        .pull(&repository, &artifact, Some(&wanted), "it")
        .unwrap();
    assert_eq!(pulled.objects, [kernel]);
    let given = repository.given();
    assert!(given < 700_000, "{given} bytes given");
    assert!(other.store.has_object(&kernel));
}

#[test]
fn pulls_at_the_same_time_share_what_they_fetch() {
    let (one, repository) = (Home::new(), Memorised::default());
    one.push(&repository, "1", &version(None));
    one.push(&repository, "2", &version(Some(3)));
    let home = Home::new();
    std::thread::scope(|scope| {
        for tag in ["1", "2", "1", "2"] {
            let (home, repository) = (&home, &repository);
            scope.spawn(move || home.try_pull(repository, tag).unwrap());
        }
    });
    home.pulls(&repository, "1", &version(None));
    home.pulls(&repository, "2", &version(Some(3)));
}

#[test]
fn an_index_has_an_image_for_each_platform() {
    let (one, repository) = (Home::new(), Memorised::default());
    let tag = Version::Tag("multi".to_owned());
    let add = |name: &str, seed| {
        let pushed = one.push(&repository, name, &[noise(seed, 300_000)]);
        let mut descriptor = crate::registry::descriptor(media::MANIFEST, &pushed.manifest);
        descriptor.set_for(&platform(name));
        one.sharing().index(&repository, &tag, descriptor).unwrap();
        pushed.digest()
    };
    let (arm, amd) = (add("arm64", 1), add("amd64", 2));
    let found = |name: &str| one.sharing().find(&repository, &tag, &platform(name));
    assert_eq!(found("arm64").unwrap().unwrap().digest, arm);
    assert_eq!(found("amd64").unwrap().unwrap().digest, amd);
    let error = found("riscv64").unwrap_err().to_string();
    assert!(error.contains("linux/amd64, linux/arm64"), "{error}");
    let newer = add("amd64", 3);
    assert_eq!(found("amd64").unwrap().unwrap().digest, newer);
    assert_eq!(found("arm64").unwrap().unwrap().digest, arm);
}

#[test]
fn an_index_that_two_write_at_once_has_the_images_of_both() {
    let (one, repository) = (Home::new(), Memorised::default());
    let tag = Version::Tag("multi".to_owned());
    let descriptor = |name: &str, seed| {
        let pushed = one.push(&repository, name, &[noise(seed, 300_000)]);
        let mut descriptor = crate::registry::descriptor(media::MANIFEST, &pushed.manifest);
        descriptor.set_for(&platform(name));
        descriptor
    };
    let (amd, arm) = (descriptor("amd64", 1), descriptor("arm64", 2));
    // The other one looked before this one wrote, and writes after it.
    let others = serde_json::json!({
        "schemaVersion": 2, "mediaType": media::INDEX, "manifests": [arm],
    });
    let others = others.to_string().into_bytes();
    repository.others.lock().unwrap().push(others.clone());
    let told = one.sharing().index(&repository, &tag, amd.clone()).unwrap();
    let there = repository.manifest(&tag).unwrap().unwrap();
    assert_eq!(there.digest, told.digest);
    let Parsed::Index(index) = parse_manifest(&there.bytes, media::INDEX).unwrap() else {
        panic!("a manifest");
    };
    assert_eq!(index.manifests()[..], [amd.clone(), arm]);
    // The other one writes after this one has seen that its own is there.
    let tag = Version::Tag("late".to_owned());
    repository.late.lock().unwrap().push(others.clone());
    let told = one.sharing().index(&repository, &tag, amd.clone()).unwrap();
    let there = repository.manifest(&tag).unwrap().unwrap();
    assert_eq!(there.digest, told.digest);
    assert!(repository.late.lock().unwrap().is_empty());
    // Somebody who never ends.
    *repository.others.lock().unwrap() = vec![others; 100];
    let error = one.sharing().index(&repository, &tag, amd).unwrap_err();
    assert!(error.to_string().contains("push again"), "{error}");
    assert!(repository.others.lock().unwrap().len() > 90);
}
