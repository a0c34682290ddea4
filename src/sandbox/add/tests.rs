use std::io::Read;
use std::path::{Path, PathBuf};

use super::source::{Archive, Source};
use crate::tarball::{Kind, Member, Writer};

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
    let source = Source::Archive(Archive::new(file.path()).unwrap());
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
