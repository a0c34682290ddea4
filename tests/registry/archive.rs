//! Image layouts in tars.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};
use vmfab::registry::{Delivered, RegistryError, Version, media};

use super::local::{
    Place, artifact, blob, check_whole, index, names, open, put, read, skopeo_copy, tag,
};
use crate::sources::noise;
use crate::support::{Ran, tool};

impl Place {
    /// An archive with one artifact under `1`; its manifest.
    fn make(&self, name: &str) -> Vec<u8> {
        let archive = self.open(name);
        let manifest = artifact(&*archive, 1);
        archive
            .put_manifest(&tag("1"), media::MANIFEST, &manifest)
            .unwrap();
        archive.finish().unwrap();
        manifest
    }
}

#[test]
fn what_is_written_is_read_again() {
    let place = Place::new("oci-archive");
    let archive = place.open("a.tar");
    assert_eq!(archive.manifest(&tag("1")).unwrap(), None);
    let error = archive.tags().unwrap_err();
    assert!(matches!(error, RegistryError::Unknown { .. }), "{error}");
    let manifest = artifact(&*archive, 1);
    archive
        .put_manifest(&tag("1"), media::MANIFEST, &manifest)
        .unwrap();
    let all = index(&*archive, 3);
    archive
        .put_manifest(&tag("all"), media::INDEX, &all)
        .unwrap();
    let bytes = noise(1, 300_000);
    assert_eq!(put(&*archive, &bytes).unwrap(), Delivered::Present);
    assert_eq!(read(&*archive, &blob(&bytes), None).unwrap(), bytes);
    assert!(!place.path("a.tar").exists());
    archive.finish().unwrap();
    assert_eq!(names(place.directory.path()), ["a.tar"]);

    for archive in [archive, place.open("a.tar")] {
        assert_eq!(archive.tags().unwrap(), ["1", "all"]);
        let found = archive.manifest(&tag("1")).unwrap().unwrap();
        assert_eq!(found.bytes, manifest);
        check_whole(&*archive, &manifest);
        check_whole(&*archive, &all);
        let part = read(&*archive, &blob(&bytes), Some(1000..1010)).unwrap();
        assert_eq!(part, bytes[1000..1010]);
        let error = archive.only_version().unwrap_err();
        assert!(matches!(error, RegistryError::Several { .. }), "{error}");
        let missing = read(&*archive, &blob(b"no"), None).unwrap_err();
        assert!(
            matches!(missing, RegistryError::Missing { .. }),
            "{missing}"
        );
    }
}

#[test]
fn equal_content_gives_equal_bytes() {
    let place = Place::new("oci-archive");
    place.make("a.tar");
    let archive = place.open("b.tar");
    // In another order, and at another time.
    put(&*archive, &noise(2, 70_001)).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let manifest = artifact(&*archive, 1);
    archive
        .put_manifest(&tag("1"), media::MANIFEST, &manifest)
        .unwrap();
    archive.finish().unwrap();
    let [a, b] = ["a.tar", "b.tar"].map(|name| fs::read(place.path(name)).unwrap());
    assert!(a == b);
    let mut list = tool("tar", "tar");
    let list = Ran::of(list.arg("-tvf").arg(place.path("a.tar"))).ends_with(0);
    assert!(list.stdout.contains("oci-layout"), "{}", list.stdout);
    for line in list.stdout.lines() {
        assert!(
            line.contains(" 0/0 ") && line.contains("1970-01-01"),
            "{line}"
        );
    }
}

#[test]
fn an_archive_that_is_there_is_not_changed() {
    let place = Place::new("oci-archive");
    place.make("a.tar");
    let before = fs::read(place.path("a.tar")).unwrap();
    let archive = place.open("a.tar");
    let error = put(&*archive, b"new").unwrap_err();
    assert!(matches!(error, RegistryError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("already exists"), "{error}");
    archive.finish().unwrap();
    // One that appears meanwhile, neither.
    let late = place.open("b.tar");
    put(&*late, b"new").unwrap();
    fs::write(place.path("b.tar"), "mine").unwrap();
    let error = late.finish().unwrap_err().to_string();
    assert!(error.contains("already exists"), "{error}");
    assert_eq!(fs::read(place.path("a.tar")).unwrap(), before);
    assert_eq!(fs::read(place.path("b.tar")).unwrap(), b"mine");
    // What is not finished leaves nothing.
    let dropped = place.open("c.tar");
    put(&*dropped, b"new").unwrap();
    drop(dropped);
    drop(late);
    assert_eq!(names(place.directory.path()), ["a.tar", "b.tar"]);
}

#[test]
fn skopeo_reads_what_is_written_and_the_other_way_round() {
    let place = Place::new("oci-archive");
    for (name, media_type) in [("one", media::MANIFEST), ("all", media::INDEX)] {
        let archive = place.open(name);
        let manifest = match name {
            "one" => artifact(&*archive, 1),
            _ => index(&*archive, 1),
        };
        archive
            .put_manifest(&tag("x"), media_type, &manifest)
            .unwrap();
        archive.finish().unwrap();
        let path = |kind: &str| place.path(&format!("{name}-{kind}"));
        let layout = format!("oci:{}:x", path("layout").display());
        skopeo_copy(&format!("{}:x", place.location(name)), &layout);
        let dir = format!("dir:{}", path("dir").display());
        skopeo_copy(&layout, &dir);
        let back = format!("oci-archive:{}", path("back").display());
        skopeo_copy(&dir, &format!("{back}:y"));
        let back = open(&back);
        assert_eq!(back.tags().unwrap(), ["y"]);
        let found = back.manifest(&tag("y")).unwrap().unwrap();
        assert_eq!(found.bytes, manifest);
        check_whole(&*back, &manifest);
        let only = back.only_version().unwrap();
        assert_eq!(only, Version::Digest(blob(&manifest).digest));
    }
}

#[test]
fn tars_of_other_programs_are_read() {
    let place = Place::new("oci-archive");
    let manifest = place.make("a.tar");
    fs::create_dir(place.path("d")).unwrap();
    let mut unpack = tool("tar", "tar");
    let unpack = unpack.arg("-xf").arg(place.path("a.tar"));
    Ran::of(unpack.arg("-C").arg(place.path("d"))).ends_with(0);
    // A directory of any length of name makes GNU's and POSIX's extensions appear.
    let long = place.path("d").join("n".repeat(120));
    fs::create_dir(&long).unwrap();
    fs::write(long.join("file"), "x").unwrap();
    for format in ["gnu", "pax", "posix"] {
        let file = place.path(format);
        let mut pack = tool("tar", "tar");
        pack.arg(format!("--format={format}")).arg("-cf").arg(&file);
        Ran::of(pack.arg("-C").arg(place.path("d")).arg(".")).ends_with(0);
        let archive = place.open(format);
        assert_eq!(archive.tags().unwrap(), ["1"], "{format}");
        check_whole(&*archive, &manifest);
    }
    for (program, package) in [("gzip", "gzip"), ("zstd", "zstd"), ("xz", "xz-utils")] {
        let mut compress = tool(program, package);
        let compress = compress.args(["-k", "-q"]).arg(place.path("a.tar"));
        Ran::of(compress).ends_with(0);
    }
    for name in ["a.tar.gz", "a.tar.zst", "a.tar.xz"] {
        let error = place.open(name).tags().unwrap_err().to_string();
        assert!(error.contains("is compressed"), "{error}");
    }
}

/// Appends a member to the content of an archive that is right.
fn with_member(
    original: &[u8],
    kind: EntryType,
    name: &[u8],
    content: &[u8],
    then: Option<&[u8]>,
) -> Vec<u8> {
    let mut tar = Builder::new(without_end(original));
    let mut append = |kind, name: &[u8], content: &[u8]| {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content).unwrap();
    };
    append(kind, name, content);
    if let Some(name) = then {
        append(EntryType::Regular, name, b"x");
    }
    tar.into_inner().unwrap()
}

/// Without the blocks of zeros at its end.
fn without_end(tar: &[u8]) -> Vec<u8> {
    let last = tar.iter().rposition(|byte| *byte != 0).unwrap();
    tar[..(last + 1).next_multiple_of(512)].to_vec()
}

#[test]
fn tars_that_could_be_read_in_several_ways_are_refused() {
    let place = Place::new("oci-archive");
    place.make("a.tar");
    let good = fs::read(place.path("a.tar")).unwrap();
    let first_blob = {
        let mut archive = tar::Archive::new(&good[..]);
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let names = entries
            .by_ref()
            .map(|entry| entry.path_bytes().into_owned());
        names.last().unwrap()
    };
    let member = |kind, name: &[u8], content: &[u8], then: Option<&[u8]>| {
        with_member(&good, kind, name, content, then)
    };
    let regular = EntryType::Regular;
    let sparse = b"22 GNU.sparse.map=0,1\n22 GNU.sparse.size=99\n";
    let huge = vec![b'x'; (1 << 20) + 1];
    let cases: [(&str, Vec<u8>); 18] = [
        (
            "leads out of it",
            member(regular, b"/etc/passwd", b"x", None),
        ),
        (
            "leads out of it",
            member(regular, b"blobs/../../x", b"x", None),
        ),
        (
            "leads out of it",
            member(EntryType::Directory, b"../x", b"", None),
        ),
        ("two members", member(regular, b"index.json", b"{}", None)),
        (
            "two members",
            member(regular, b".//./index.json", b"{}", None),
        ),
        ("two members", member(regular, &first_blob, b"x", None)),
        ("is a link", member(EntryType::Symlink, b"x", b"", None)),
        ("is a link", member(EntryType::Link, b"x", b"", None)),
        ("is a link", member(EntryType::Fifo, b"x", b"", None)),
        ("with holes", member(EntryType::GNUSparse, b"x", b"", None)),
        (
            "with holes",
            member(EntryType::XHeader, b"x", sparse, Some(b"y")),
        ),
        (
            "leads out",
            member(EntryType::XHeader, b"x", b"12 path=/xy\n", Some(b"y")),
        ),
        (
            "leads out",
            member(EntryType::GNULongName, b"x", b"../y\0", Some(b"z")),
        ),
        (
            "two members",
            member(EntryType::GNULongName, b"x", b"index.json\0", Some(b"z")),
        ),
        (
            "cut off",
            member(EntryType::XHeader, b"x", b"15 size=999999\n", Some(b"y")),
        ),
        (
            "no number",
            member(EntryType::XHeader, b"x", b"10 size=y\n", Some(b"y")),
        ),
        (
            "to all its members",
            member(EntryType::XGlobalHeader, b"x", b"10 size=5\n", None),
        ),
        (
            "a header has 1048577 bytes",
            member(EntryType::XHeader, b"x", &huge, None),
        ),
    ];
    for (number, (message, bytes)) in cases.into_iter().enumerate() {
        let name = number.to_string();
        fs::write(place.path(&name), bytes).unwrap();
        let error = place.open(&name).manifest(&tag("1")).unwrap_err();
        assert!(error.to_string().contains(message), "{number}: {error}");
    }
    // What is only more is none of our business.
    fs::write(
        place.path("more"),
        member(regular, b"notes.txt", b"x", None),
    )
    .unwrap();
    assert!(place.open("more").manifest(&tag("1")).unwrap().is_some());
}

#[test]
fn a_record_in_a_value_of_another_is_none() {
    let place = Place::new("oci-archive");
    let manifest = place.make("a.tar");
    let good = fs::read(place.path("a.tar")).unwrap();
    // Read by lines, each of these would hide the index, or say that the archive is cut off.
    for smuggled in [
        "19 path=index.json\n",
        "15 size=999999\n",
        "22 GNU.sparse.map=0,9\n",
    ] {
        let value = format!("comment=v\n{smuggled}\n");
        let record = format!("{} {value}", value.len() + 3);
        let header = EntryType::XHeader;
        let bytes = with_member(&good, header, b"x", record.as_bytes(), Some(b"notes.txt"));
        fs::write(place.path("x"), bytes).unwrap();
        let mut list = tool("tar", "tar");
        let list = Ran::of(list.arg("-tf").arg(place.path("x"))).ends_with(0);
        assert!(list.stdout.ends_with("\nnotes.txt\n"), "{}", list.stdout);
        let archive = place.open("x");
        let found = archive.manifest(&tag("1")).unwrap().unwrap();
        assert_eq!(found.bytes, manifest, "{smuggled}");
        check_whole(&*archive, &manifest);
    }
}

#[test]
fn what_is_no_archive_is_told() {
    let place = Place::new("oci-archive");
    place.make("a.tar");
    let good = fs::read(place.path("a.tar")).unwrap();
    let bare = |tar: &[u8]| tar.to_vec();
    let mut other = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(1);
    other.append_data(&mut header, "x", &b"y"[..]).unwrap();
    for (message, bytes) in [
        ("is cut off", bare(b"a text")),
        ("is no tar", bare(&[b'x'; 2000])),
        ("is cut off", bare(&good[..good.len() / 2])),
        ("has no oci-layout", other.into_inner().unwrap()),
        ("has no oci-layout", Vec::new()),
    ] {
        fs::write(place.path("x"), bytes).unwrap();
        let error = place.open("x").tags().unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    fs::create_dir(place.path("d")).unwrap();
    let error = place.open("d").tags().unwrap_err().to_string();
    assert!(error.contains("is no regular file"), "{error}");
}

fn small_archive(path: &Path) -> Vec<u8> {
    let archive = open(&format!("oci-archive:{}", path.display()));
    put(&*archive, b"{}").unwrap();
    let manifest = br#"{"schemaVersion":2,"manifests":[]}"#;
    archive
        .put_manifest(&tag("1"), media::INDEX, manifest)
        .unwrap();
    archive.finish().unwrap();
    fs::read(path).unwrap()
}

#[test]
fn damage_anywhere_is_refused_or_does_no_harm() {
    let place = Place::new("oci-archive");
    let good = small_archive(&place.path("good"));
    let path = place.path("bad");
    let location = place.location("bad");
    let changes = (0..good.len(), any::<u8>(), 0..good.len() * 2);
    proptest!(ProptestConfig::with_cases(500), |((at, byte, cut) in changes)| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes.truncate(cut);
        fs::write(&path, &bytes).unwrap();
        let archive = open(&location);
        let _ = archive.tags();
        if let Ok(Some(found)) = archive.manifest(&tag("1")) {
            prop_assert_eq!(blob(&found.bytes).digest, found.digest);
        }
    });
}
