use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use super::content::Changed;
use super::{Index, Source};
use crate::derivation::{Listed, Listing};
use crate::digest::ContentHasher;
use crate::tarball::{Kind, Member, Writer};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// A tar with these members: path, kind, target or content.
fn archive(members: &[(&str, Kind, &str)]) -> (tempfile::NamedTempFile, Source) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut writer = Writer::new(Vec::new());
    for (path, kind, text) in members {
        let mut member = Member {
            path: path.as_bytes().to_vec(),
            kind: *kind,
            mode: 0o640,
            ..Member::default()
        };
        if *kind == Kind::File {
            member.size = text.len() as u64;
            writer.add_file(&member, &mut text.as_bytes()).unwrap();
        } else {
            member.link = text.as_bytes().to_vec();
            writer.add(&member).unwrap();
        }
    }
    std::fs::write(file.path(), writer.finish().unwrap()).unwrap();
    let source = Source::Index(Index::of_tar(file.path()).unwrap());
    (file, source)
}

fn content(source: &Source, path: &str) -> String {
    let mut text = String::new();
    let mut stream = source.read(Path::new(path)).unwrap();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn members_of_an_archive_are_found_by_their_paths() {
    let long = "n".repeat(150);
    let (_file, source) = archive(&[
        (".", Kind::Directory, ""),
        ("./a", Kind::File, "first"),
        ("d/e/f", Kind::File, "deep"),
        (&long, Kind::File, "long"),
        ("same", Kind::Link, "d/e/f"),
        ("dangling", Kind::Link, "none"),
    ]);
    for (path, text) in [
        ("a", "first"),
        ("d/e/f", "deep"),
        (&long, "long"),
        ("same", "deep"),
    ] {
        assert_eq!(content(&source, path), text, "{path}");
    }
    let names = |path: &str| source.names(Path::new(path)).unwrap();
    assert_eq!(names("d/e"), ["f"]);
    assert_eq!(names(""), ["a", "d", &long, "same"]);
    assert_eq!(names("a"), [""; 0]);
    // A directory that no member names.
    let directory = source.member(Path::new("d/e")).unwrap().unwrap();
    assert_eq!((directory.kind, directory.mode), (Kind::Directory, 0o755));
    assert_eq!(source.member(Path::new("none")).unwrap(), None);
}

#[test]
fn links_of_an_archive_lead_nowhere_else() {
    let (_file, source) = archive(&[
        ("d/file", Kind::File, "x"),
        ("abs", Kind::Symlink, "/d"),
        ("d/up", Kind::Symlink, "../../../../d/file"),
        ("chain", Kind::Symlink, "abs/up"),
        ("loop", Kind::Symlink, "loop"),
        ("out", Kind::Symlink, "/etc/passwd"),
    ]);
    let resolved = |path: &str| source.resolve(Path::new(path));
    let file = Some(PathBuf::from("d/file"));
    for path in ["d/file", "abs/file", "chain", "../abs/./up", "d/../d/file"] {
        assert_eq!(resolved(path).unwrap(), file, "{path}");
    }
    assert_eq!(resolved("").unwrap(), Some(PathBuf::new()));
    for path in ["out", "none", "d/file/x"] {
        assert_eq!(resolved(path).unwrap(), None, "{path}");
    }
    assert!(resolved("loop").is_err());
}

#[test]
fn local_files_count_only_as_the_list_has_them() {
    let directory = tempfile::tempdir().unwrap();
    let place = |path: &str| directory.path().join(path);
    fs::create_dir(place("d")).unwrap();
    fs::write(place("d/file"), "content").unwrap();
    fs::write(place("unlisted"), "").unwrap();
    let sparse = File::create(place("sparse")).unwrap();
    sparse.set_len(1 << 33).unwrap();
    sparse.write_all_at(b"data", 1 << 32).unwrap();
    let mut holes = ContentHasher::default();
    holes.add_zeros(1 << 32);
    holes.update(b"data");
    holes.add_zeros((1 << 32) - 4);
    let content = *blake3::hash(b"content").as_bytes();
    let mut listing = Listing::new(Some(7));
    listing.add(Path::new("."), &Listed::Directory(0o750));
    listing.add(Path::new("d"), &Listed::Directory(0o700));
    listing.add(Path::new("d/file"), &Listed::File(0o4711, content));
    listing.add(Path::new("link"), &Listed::Link("d/../d".into()));
    listing.add(Path::new("sparse"), &Listed::File(0o644, holes.finish()));
    let list = tempfile::NamedTempFile::new().unwrap();
    fs::write(list.path(), listing.as_bytes()).unwrap();
    let source = Source::Index(Index::of_local(list.path(), directory.path()).unwrap());

    let path = Path::new("d/file");
    let member = source.member(path).unwrap().unwrap();
    assert_eq!((member.mode, member.time.seconds), (0o4711, 7));
    assert_eq!(
        source.names(Path::new("")).unwrap(),
        ["d", "link", "sparse"]
    );
    let resolved = source.resolve(Path::new("link/file")).unwrap();
    assert_eq!(resolved.as_deref(), Some(path));
    let read = || {
        let mut content = source.read(path)?;
        let mut text = String::new();
        content.read_to_string(&mut text)?;
        content.finish().map(|()| text)
    };
    assert_eq!(read().unwrap(), "content");
    // What its reader did not want counts, too.
    source.read(path).unwrap().finish().unwrap();
    let copy = tempfile::tempfile().unwrap();
    source.write_to(Path::new("sparse"), &copy).unwrap();
    let meta = copy.metadata().unwrap();
    assert_eq!(meta.len(), 1 << 33);
    assert!(meta.blocks() * 512 < 1 << 20, "{}", meta.blocks());

    let changed = |error: io::Error| assert!(Changed::is(&error), "{error}");
    let write = || source.write_to(path, &tempfile::tempfile().unwrap());
    fs::write(place("d/file"), "CONTENT").unwrap();
    changed(read().unwrap_err());
    changed(write().unwrap_err());
    fs::remove_file(place("d/file")).unwrap();
    changed(write().unwrap_err());
    mknodat(
        CWD,
        place("d/file"),
        FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .unwrap();
    changed(read().unwrap_err());
    fs::remove_file(place("d/file")).unwrap();
    symlink("/etc/passwd", place("d/file")).unwrap();
    changed(write().unwrap_err());
}
