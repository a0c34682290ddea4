//! Image layouts in directories.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::{Value, json};
use vmfab::host::Interrupt;
use vmfab::registry::{BlobSource, Delivered, RegistryError, Version, media};

use super::local::{
    Place, artifact, blob, check_whole, index, names, open, open_with, put, read, skopeo_copy, tag,
};
use crate::sources::noise;

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn what_is_put_is_had_again() {
    let place = Place::new("oci");
    let layout = place.open("a/b");
    assert_eq!(layout.manifest(&tag("1")).unwrap(), None);
    let error = layout.tags().unwrap_err();
    assert!(matches!(error, RegistryError::Unknown { .. }), "{error}");
    let bytes = noise(9, 600_000);
    assert!(!layout.has_blob(&blob(&bytes)).unwrap());
    assert!(!place.path("a").exists(), "asking makes nothing");
    let sent = AtomicI64::new(0);
    let progress = |count| {
        sent.fetch_add(count, Ordering::Relaxed);
    };
    let delivered = layout.put_blob(&blob(&bytes), &bytes, &[], &progress);
    assert_eq!(delivered.unwrap(), Delivered::Uploaded);
    assert_eq!(sent.into_inner(), 600_000);
    assert_eq!(put(&*layout, &bytes).unwrap(), Delivered::Present);
    let manifest = artifact(&*layout, 1);
    layout
        .put_manifest(&tag("1"), media::MANIFEST, &manifest)
        .unwrap();

    let layout = place.open("a/b");
    let found = layout.manifest(&tag("1")).unwrap().unwrap();
    assert_eq!(found.bytes, manifest);
    assert_eq!(found.media_type, media::MANIFEST);
    assert_eq!(found.digest, blob(&manifest).digest);
    let by_digest = layout.manifest(&Version::Digest(found.digest)).unwrap();
    assert_eq!(by_digest.unwrap(), found);
    check_whole(&*layout, &manifest);

    let root = place.path("a/b");
    assert_eq!(names(&root), ["blobs", "index.json", "oci-layout"]);
    assert_eq!(
        json_of(&root.join("oci-layout")),
        json!({"imageLayoutVersion": "1.0.0"})
    );
    let index = json_of(&root.join("index.json"));
    assert_eq!(
        index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"],
        "1"
    );
    assert_eq!(
        index["manifests"][0]["artifactType"],
        "application/vnd.example.thing.v1"
    );
}

#[test]
fn parts_of_blobs_are_read() {
    let place = Place::new("oci");
    let layout = place.open("l");
    let bytes = noise(3, 100_000);
    put(&*layout, &bytes).unwrap();
    let part = layout
        .read_blob(&blob(&bytes), Some(70_000..70_010))
        .unwrap();
    assert_eq!(part.start, 70_000);
    for range in [0..1, 70_000..70_010, 99_999..100_000, 5..5] {
        let got = read(&*layout, &blob(&bytes), Some(range.clone())).unwrap();
        let range = range.start as usize..range.end as usize;
        assert_eq!(got, bytes[range]);
    }
    #[expect(clippy::reversed_empty_ranges, reason = "it must be refused")]
    for range in [99_999..100_001, 5..4] {
        let error = read(&*layout, &blob(&bytes), Some(range)).unwrap_err();
        assert!(error.to_string().contains("were asked for"), "{error}");
    }
    let missing = read(&*layout, &blob(b"no"), None).unwrap_err();
    assert!(
        matches!(missing, RegistryError::Missing { .. }),
        "{missing}"
    );
}

#[test]
fn tags_are_replaced_and_children_are_no_tags() {
    let place = Place::new("oci");
    let layout = place.open("l");
    let put = |tag: &Version, media_type, bytes: &[u8]| {
        layout.put_manifest(tag, media_type, bytes).unwrap();
    };
    let [first, second] = [1, 3].map(|seed| artifact(&*layout, seed));
    put(&tag("b"), media::MANIFEST, &first);
    put(&tag("a"), media::MANIFEST, &first);
    put(&tag("b"), media::MANIFEST, &second);
    let platforms = index(&*layout, 5);
    put(&tag("all"), media::INDEX, &platforms);
    assert_eq!(layout.tags().unwrap(), ["a", "all", "b"]);
    let of = |name| layout.manifest(&tag(name)).unwrap().unwrap();
    assert_eq!(of("a").bytes, first);
    assert_eq!(of("b").bytes, second);
    assert_eq!(of("all").bytes, platforms);
    assert_eq!(of("all").media_type, media::INDEX);
    check_whole(&*layout, &platforms);
}

#[test]
fn without_a_tag_there_must_be_only_one() {
    let place = Place::new("oci");
    let layout = place.open("l");
    let error = layout.only_version().unwrap_err();
    assert!(matches!(error, RegistryError::Missing { .. }), "{error}");
    let [first, second] = [1, 3].map(|seed| artifact(&*layout, seed));
    layout.put_unnamed(media::MANIFEST, &first).unwrap();
    layout.put_unnamed(media::MANIFEST, &second).unwrap();
    let only = layout.only_version().unwrap();
    assert_eq!(only, Version::Digest(blob(&second).digest));
    assert!(layout.tags().unwrap().is_empty());
    layout
        .put_manifest(&tag("x"), media::MANIFEST, &first)
        .unwrap();
    layout
        .put_manifest(&tag("y"), media::MANIFEST, &first)
        .unwrap();
    let error = layout.only_version().unwrap_err();
    let message = error.to_string();
    assert!(message.contains("there are x, y"), "{message}");
    let remedy = error.remedy().unwrap();
    assert_eq!(
        remedy,
        format!("say which, as in {}:x", place.location("l"))
    );
}

#[test]
fn a_manifest_that_names_what_is_not_there_is_refused() {
    let place = Place::new("oci");
    let manifest = artifact(&*place.open("other"), 1);
    let layout = place.open("l");
    let put =
        |version: &Version, bytes: &[u8]| layout.put_manifest(version, media::MANIFEST, bytes);
    let error = put(&tag("1"), &manifest).unwrap_err().to_string();
    assert!(error.contains("is not there"), "{error}");
    assert!(put(&tag("1"), b"{}").is_err());
    artifact(&*layout, 1);
    let error = put(&Version::Digest(blob(b"x").digest), &manifest).unwrap_err();
    assert!(matches!(error, RegistryError::Refused { .. }), "{error}");
    put(&tag("1"), &manifest).unwrap();
}

#[test]
fn content_that_is_not_the_blob_leaves_nothing() {
    struct Broken;
    impl BlobSource for Broken {
        fn open(&self, _offset: u64) -> io::Result<Box<dyn Read + Send>> {
            let cut = io::Cursor::new(b"half".to_vec()).chain(Failing);
            Ok(Box::new(cut))
        }
    }
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }
    let place = Place::new("oci");
    let layout = place.open("l");
    let expected = blob(b"what is expected");
    for other in ["what is expectet", "what is", "what is expected!"] {
        let source = other.as_bytes().to_vec();
        let error = layout
            .put_blob(&expected, &source, &[], &|_| ())
            .unwrap_err();
        assert!(matches!(error, RegistryError::Invalid { .. }), "{error}");
    }
    let error = layout
        .put_blob(&expected, &Broken, &[], &|_| ())
        .unwrap_err();
    assert!(matches!(error, RegistryError::Source(_)), "{error}");
    let interrupt = Interrupt::new().unwrap();
    let interrupted = open_with(&place.location("l"), &interrupt);
    interrupt.request();
    let error = put(&*interrupted, b"what is expected").unwrap_err();
    assert!(matches!(error, RegistryError::Interrupted), "{error}");
    assert!(names(&place.path("l/blobs/sha256")).is_empty());
    assert_eq!(
        names(&place.path("l")),
        ["blobs", "index.json", "oci-layout"]
    );
}

#[test]
fn what_a_killed_process_left_is_swept_and_does_not_count() {
    let place = Place::new("oci");
    fs::create_dir(place.path("l")).unwrap();
    fs::write(place.path("l/.vmfab-x"), "half").unwrap();
    put(&*place.open("l"), b"x").unwrap();
    assert_eq!(
        names(&place.path("l")),
        ["blobs", "index.json", "oci-layout"]
    );
}

#[test]
fn many_that_push_into_one_layout_keep_each_others_tags() {
    let place = Place::new("oci");
    let location = place.location("l");
    std::thread::scope(|scope| {
        for writer in 0..6_u8 {
            let location = &location;
            scope.spawn(move || {
                for number in 0..6_u8 {
                    // Each with handles of its own: locks are between these, as between processes.
                    let layout = open(location);
                    let manifest = artifact(&*layout, writer * 2);
                    let version = tag(&format!("w{writer}-{number}"));
                    layout
                        .put_manifest(&version, media::MANIFEST, &manifest)
                        .unwrap();
                }
            });
        }
    });
    let layout = open(&location);
    assert_eq!(layout.tags().unwrap().len(), 36);
    for tag in layout.tags().unwrap() {
        let manifest = layout.manifest(&Version::Tag(tag)).unwrap().unwrap();
        check_whole(&*layout, &manifest.bytes);
    }
}

/// Makes something else of a layout.
type Spoil = fn(&Path);

/// Each is refused for reading and for writing, and stays as it is.
#[test]
fn what_is_something_else_is_refused_and_not_touched() {
    let cases: [(&str, Spoil); 13] = [
        ("is no directory", |path| fs::write(path, "mine").unwrap()),
        ("is no OCI layout", |path| {
            fs::create_dir(path).unwrap();
            fs::write(path.join("thesis"), "mine").unwrap();
        }),
        ("says version \"2.0.0\"", |path| {
            replace(path, "oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#);
        }),
        ("has no version in it", |path| {
            replace(path, "oci-layout", b"{}");
        }),
        ("is too large", |path| {
            replace(path, "oci-layout", &[b' '; 5000]);
        }),
        ("is no index", |path| {
            replace(path, "index.json", b"\xff garbage");
        }),
        ("is too large", |path| {
            replace(path, "index.json", &vec![b' '; (4 << 20) + 1]);
        }),
        ("is a link", |path| {
            fs::rename(path.join("index.json"), path.with_extension("away")).unwrap();
            link(&path.with_extension("away"), &path.join("index.json"));
        }),
        ("is a link that leads out of the layout", |path| {
            fs::rename(path.join("blobs"), path.with_extension("away")).unwrap();
            link(&path.with_extension("away"), &path.join("blobs"));
        }),
        ("is a link", |path| {
            let manifest = only_manifest(path);
            fs::rename(&manifest, path.with_extension("away")).unwrap();
            link(&path.with_extension("away"), &manifest);
        }),
        ("is damaged", |path| {
            let manifest = only_manifest(path);
            let mut bytes = fs::read(&manifest).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(manifest, bytes).unwrap();
        }),
        ("is not there", |path| {
            fs::remove_file(only_manifest(path)).unwrap();
        }),
        ("is no regular file", |path| {
            let manifest = only_manifest(path);
            fs::remove_file(&manifest).unwrap();
            fs::create_dir(manifest).unwrap();
        }),
    ];
    for (number, (message, spoil)) in cases.into_iter().enumerate() {
        let place = Place::new("oci");
        let path = place.path("l");
        if number > 1 {
            let layout = place.open("l");
            let manifest = artifact(&*layout, 1);
            layout
                .put_manifest(&tag("1"), media::MANIFEST, &manifest)
                .unwrap();
        }
        spoil(&path);
        let before = listing(place.directory.path());
        let layout = place.open("l");
        let error = layout.manifest(&tag("1")).unwrap_err().to_string();
        assert!(error.contains(message), "{number}: {error}");
        assert!(error.contains(&path.display().to_string()), "{error}");
        // What is wrong with a manifest of another tag does not matter for writing.
        if number < 9 {
            let written = put(&*layout, b"new").map(drop);
            let manifest = br#"{"schemaVersion":2,"manifests":[]}"#;
            let written = written.and(layout.put_manifest(&tag("2"), media::INDEX, manifest));
            assert!(written.is_err(), "{number}");
            let mut after = listing(place.directory.path());
            // Blobs that nothing names are no harm.
            after.retain(|(path, _)| {
                before.iter().any(|(known, _)| known == path)
                    || !path.parent().unwrap().ends_with("blobs/sha256")
            });
            assert_eq!(after, before, "{number}");
        }
    }
}

/// Publishers make blobs links to other files of the layout.
#[test]
fn links_below_the_layout_are_followed() {
    let place = Place::new("oci");
    let path = place.path("l");
    let manifest = artifact(&*place.open("l"), 1);
    let layout = place.open("l");
    layout
        .put_manifest(&tag("1"), media::MANIFEST, &manifest)
        .unwrap();
    let files = path.join("files");
    fs::create_dir(&files).unwrap();
    for entry in fs::read_dir(path.join("blobs/sha256")).unwrap() {
        let blob = entry.unwrap().path();
        let name = blob.file_name().unwrap();
        fs::rename(&blob, files.join(name)).unwrap();
        link(&Path::new("../../files").join(name), &blob);
    }
    fs::rename(path.join("index.json"), files.join("names")).unwrap();
    link(Path::new("files/names"), &path.join("index.json"));
    let layout = place.open("l");
    let found = layout.manifest(&tag("1")).unwrap().unwrap();
    assert_eq!(found.bytes, manifest);
    check_whole(&*layout, &found.bytes);
    // One step more, and it is the directory around the layout.
    let blob = only_manifest(&path);
    fs::write(path.with_extension("away"), &manifest).unwrap();
    for (to, message) in [
        ("../../../l.away", "is a link that leads out of the layout"),
        (
            "../../../../../../../../etc/passwd",
            "is a link that leads out of the layout",
        ),
        ("/etc/passwd", "is a link that leads out of the layout"),
        ("/proc/self/fd/0", "is a link that leads out of the layout"),
        (
            blob.file_name().unwrap().to_str().unwrap(),
            "is a link that leads nowhere",
        ),
    ] {
        fs::remove_file(&blob).unwrap();
        link(Path::new(to), &blob);
        let error = layout.manifest(&tag("1")).unwrap_err().to_string();
        assert!(error.contains(message), "{to}: {error}");
    }
}

fn replace(path: &Path, name: &str, bytes: &[u8]) {
    fs::write(path.join(name), bytes).unwrap();
}

fn link(to: &Path, at: &Path) {
    std::os::unix::fs::symlink(to, at).unwrap();
}

fn only_manifest(path: &Path) -> PathBuf {
    let index = json_of(&path.join("index.json"));
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    path.join("blobs/sha256")
        .join(digest.strip_prefix("sha256:").unwrap())
}

/// All files below a directory with their content.
fn listing(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for name in names(root) {
        let path = root.join(name);
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            found.extend(listing(&path));
        } else if kind.is_symlink() {
            found.push((path, Vec::new()));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found
}

#[test]
fn blobs_of_another_length_are_refused() {
    let place = Place::new("oci");
    let layout = place.open("l");
    let bytes = noise(1, 1000);
    put(&*layout, &bytes).unwrap();
    let path = place
        .path("l/blobs/sha256")
        .join(blob(&bytes).digest.to_string());
    fs::write(&path, &bytes[..999]).unwrap();
    let has = layout.has_blob(&blob(&bytes)).map(drop);
    let read = read(&*layout, &blob(&bytes), None).map(drop);
    let put = put(&*layout, &bytes).map(drop);
    for result in [has, read, put] {
        let error = result.unwrap_err().to_string();
        assert!(
            error.contains("has 999 bytes, and should have 1000"),
            "{error}"
        );
    }
    assert_eq!(fs::read(&path).unwrap().len(), 999);
}

#[test]
fn a_pipe_in_a_layout_is_not_waited_for() {
    let place = Place::new("oci");
    let layout = place.open("l");
    put(&*layout, b"x").unwrap();
    let index = place.path("l/index.json");
    fs::remove_file(&index).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &index, mode).unwrap();
    let error = layout.tags().unwrap_err().to_string();
    assert!(error.contains("is no regular file"), "{error}");
}

#[test]
fn skopeo_reads_what_is_written_and_the_other_way_round() {
    let place = Place::new("oci");
    let layout = place.open("ours");
    let one = artifact(&*layout, 1);
    layout
        .put_manifest(&tag("one"), media::MANIFEST, &one)
        .unwrap();
    let all = index(&*layout, 3);
    layout
        .put_manifest(&tag("all"), media::INDEX, &all)
        .unwrap();
    let [ours, theirs] = ["ours", "theirs"].map(|name| place.location(name));
    let dir = |name: &str| format!("dir:{}", place.path(name).display());
    for (name, manifest) in [("one", &one), ("all", &all)] {
        let through = dir(&format!("through-{name}"));
        skopeo_copy(&format!("{ours}:{name}"), &through);
        skopeo_copy(&through, &format!("{theirs}:{name}"));
        let found = place.open("theirs").manifest(&tag(name)).unwrap().unwrap();
        assert_eq!(&found.bytes, manifest);
        check_whole(&*place.open("theirs"), manifest);
    }
    let theirs = place.open("theirs");
    assert_eq!(theirs.tags().unwrap(), ["all", "one"]);
    // Into a layout of skopeo's, whose other tags stay.
    let new = artifact(&*theirs, 11);
    theirs
        .put_manifest(&tag("new"), media::MANIFEST, &new)
        .unwrap();
    for name in ["one", "all", "new"] {
        let from = format!("{}:{name}", place.location("theirs"));
        skopeo_copy(&from, &dir(&format!("again-{name}")));
    }
    // Without a tag.
    let unnamed = place.open("unnamed");
    let manifest = artifact(&*unnamed, 1);
    unnamed.put_unnamed(media::MANIFEST, &manifest).unwrap();
    skopeo_copy(&place.location("unnamed"), &place.location("copied"));
    let copied = place.open("copied");
    let only = copied.only_version().unwrap();
    assert_eq!(copied.manifest(&only).unwrap().unwrap().bytes, manifest);
}
