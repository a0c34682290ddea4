use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, mknodat};

use super::unpack::unpack;
use super::*;
use crate::tarball::{Kind, Member, Reader, Writer};

/// Files that the step made are from then on.
const STARTED: i64 = 1_500_000_000;

fn packed(upper: &Path, epoch: i64) -> Vec<u8> {
    let archive = tempfile::NamedTempFile::new().unwrap();
    pack(upper, archive.path(), STARTED, epoch).unwrap();
    fs::read(archive.path()).unwrap()
}

fn unpacked(archive: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("tar"), archive).unwrap();
    let target = scratch.path().join("tree");
    unpack(&scratch.path().join("tar"), &target, Changes::OnDisk).unwrap();
    (scratch, target)
}

/// What an archive holds, a line for each member.
fn list(archive: &[u8]) -> String {
    let mut tar = Reader::new(archive);
    let mut lines = String::new();
    while let Some(member) = tar.member().unwrap() {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let line = format!(
            "{:?} {} {:o} {} {:?} {:?}\n",
            member.kind,
            member.name(),
            member.mode,
            member.time.seconds,
            text(&member.link),
            member.attributes,
        );
        lines.push_str(&line);
    }
    lines
}

fn attribute(path: &Path, name: &[u8], value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn remove(path: &Path) {
    mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

fn at(seconds: i64) -> Time {
    Time {
        seconds,
        nanoseconds: 0,
    }
}

#[test]
fn a_layer_is_sorted_and_in_the_form_of_images() {
    let scratch = tempfile::tempdir().unwrap();
    let upper = scratch.path().join("upper");
    fs::create_dir_all(upper.join("b/sub")).unwrap();
    fs::create_dir_all(upper.join("a")).unwrap();
    fs::write(upper.join("b/file"), "content").unwrap();
    fs::set_permissions(upper.join("b/file"), Permissions::from_mode(0o4755)).unwrap();
    set_time(&upper.join("b/file"), at(1_000_000)).unwrap();
    fs::hard_link(upper.join("b/file"), upper.join("a/other")).unwrap();
    fs::write(upper.join("b/sub").join("n".repeat(180)), "long name").unwrap();
    symlink("/etc/passwd", upper.join("a/link")).unwrap();
    attribute(&upper.join("a"), OPAQUE_ATTRIBUTE.as_bytes(), b"y");
    attribute(&upper.join("b"), b"user.note", b"kept");
    remove(&upper.join("gone"));
    std::os::unix::net::UnixListener::bind(upper.join("socket")).unwrap();

    insta::assert_snapshot!(list(&packed(&upper, 42)).replace(&"n".repeat(180), "nnn"), @r#"
    Directory a 755 42 "" []
    File a/.wh..wh..opq 0 42 "" []
    Symlink a/link 777 42 "/etc/passwd" []
    File a/other 4755 1000000 "" []
    Directory b 755 42 "" [([117, 115, 101, 114, 46, 110, 111, 116, 101], [107, 101, 112, 116])]
    Link b/file 4755 1000000 "a/other" []
    Directory b/sub 755 42 "" []
    File b/sub/nnn 644 42 "" []
    File .wh.gone 0 42 "" []
    "#);
    assert!(!upper.join("socket").exists());
}

/// Something in a tree.
#[derive(Debug, Clone)]
enum Node {
    File(Vec<(u8, usize)>),
    Directory {
        opaque: bool,
    },
    Symlink(Vec<u8>),
    Fifo,
    Whiteout,
    /// Another name for a file.
    Link(prop::sample::Index),
}

#[derive(Debug, Clone)]
struct Entry {
    parent: prop::sample::Index,
    name: Vec<u8>,
    node: Node,
    mode: u32,
    owner: (u32, u32),
    time: Time,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    capability: Option<[u8; 16]>,
}

fn entries() -> impl Strategy<Value = Entry> {
    let name_bytes = || prop_oneof![4 => b'a'..=b'e', 1 => 1..=b'.', 1 => b'0'..=255];
    let name = (
        prop_oneof![3 => Just(&b""[..]), 1 => Just(&b".wh."[..]), 1 => Just(&b".wh..wh."[..])],
        prop_oneof![
            6 => prop::collection::vec(name_bytes(), 1..6),
            1 => prop::collection::vec(name_bytes(), 90..240),
            1 => Just(b".opq".to_vec()),
        ],
    );
    let name = name.prop_map(|(start, rest)| [start, &rest].concat());
    // Runs of a byte: zeros among them are holes, some of them large.
    let run = (
        prop_oneof![Just(0), any::<u8>()],
        prop_oneof![0..5000_usize, 0..3_000_000_usize],
    );
    let target = prop_oneof![
        prop::collection::vec(1_u8.., 1..150),
        Just(b"/".to_vec()),
        Just(b"foo//bar/./../x/".to_vec()),
    ];
    let node = prop_oneof![
        4 => prop::collection::vec(run, 0..4).prop_map(Node::File),
        4 => any::<bool>().prop_map(|opaque| Node::Directory { opaque }),
        2 => target.prop_map(Node::Symlink),
        1 => Just(Node::Fifo),
        2 => Just(Node::Whiteout),
        2 => any::<prop::sample::Index>().prop_map(Node::Link),
    ];
    let attributes = prop::collection::btree_map(
        prop::collection::vec(1_u8.., 1..12),
        prop::collection::vec(any::<u8>(), 0..60),
        0..3,
    );
    let time = (
        -2_000_000_000..STARTED + 1000,
        prop_oneof![Just(0), 0..1_000_000_000_u32],
    );
    let meta = (0..0o10000_u32, (0..70_000_u32, 0..70_000_u32), time);
    let index = any::<prop::sample::Index>();
    let capability = prop::option::weighted(0.2, any::<[u8; 16]>());
    (index, name, node, meta, attributes, capability).prop_map(
        |(parent, name, node, (mode, owner, time), attributes, capability)| Entry {
            parent,
            name,
            node,
            mode,
            owner,
            time: Time {
                seconds: time.0,
                nanoseconds: time.1,
            },
            attributes,
            capability,
        },
    )
}

/// Makes a tree of entries. Those whose names are taken are left out. What only root can set is set
/// when root tests.
fn plant(upper: &Path, entries: &[Entry]) {
    let root = rustix::process::geteuid().is_root();
    fs::create_dir(upper).unwrap();
    let mut directories = vec![upper.to_owned()];
    let mut files: Vec<PathBuf> = Vec::new();
    let mut made: Vec<(PathBuf, &Entry)> = Vec::new();
    for entry in entries {
        let path = entry
            .parent
            .get(&directories)
            .join(OsStr::from_bytes(&entry.name));
        if fs::symlink_metadata(&path).is_ok() || matches!(&entry.name[..], b"." | b"..") {
            continue;
        }
        match &entry.node {
            Node::File(runs) => {
                let file = File::create_new(&path).unwrap();
                let mut end = 0;
                for (byte, length) in runs {
                    if *byte != 0 {
                        file.write_all_at(&vec![*byte; *length], end).unwrap();
                    }
                    end += *length as u64;
                }
                file.set_len(end).unwrap();
                files.push(path.clone());
            }
            Node::Directory { opaque } => {
                fs::create_dir(&path).unwrap();
                if *opaque {
                    attribute(&path, OPAQUE_ATTRIBUTE.as_bytes(), b"y");
                }
                directories.push(path.clone());
            }
            Node::Symlink(target) => symlink(OsStr::from_bytes(target), &path).unwrap(),
            Node::Fifo => mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
            Node::Whiteout => {
                remove(&path);
                continue;
            }
            Node::Link(other) => {
                if !files.is_empty() {
                    fs::hard_link(other.get(&files), &path).unwrap();
                }
                continue;
            }
        }
        made.push((path, entry));
    }
    for (path, entry) in made.iter().rev() {
        let is_link = matches!(entry.node, Node::Symlink(_));
        if root {
            std::os::unix::fs::lchown(path, Some(entry.owner.0), Some(entry.owner.1)).unwrap();
        }
        if matches!(entry.node, Node::File(_) | Node::Directory { .. }) {
            for (name, value) in &entry.attributes {
                attribute(path, &[b"user.", &name[..]].concat(), value);
            }
        }
        if let (Node::File(_), Some(bits), true) = (&entry.node, entry.capability, root) {
            attribute(
                path,
                b"security.capability",
                &[&[1, 0, 0, 2][..], &bits].concat(),
            );
        }
        if !is_link {
            let mode = if root { entry.mode } else { entry.mode | 0o700 };
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        set_time(path, entry.time).unwrap();
    }
}

/// All that is known of the files of a tree, by their names.
fn seen(tree: &Path) -> BTreeMap<OsString, String> {
    fn look(
        directory: &Path,
        inside: &Path,
        first: &mut HashMap<u64, PathBuf>,
        seen: &mut BTreeMap<OsString, String>,
    ) {
        let mut names: Vec<OsString> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        for name in names {
            let (path, inside) = (directory.join(&name), inside.join(&name));
            let meta = fs::symlink_metadata(&path).unwrap();
            // Whiteouts are names and nothing else.
            let line = match meta.mode() & 0o170000 {
                0o020000 => "whiteout".to_owned(),
                _ => {
                    let mut buffer = vec![0; 65_536];
                    let length = rustix::fs::llistxattr(&path, &mut buffer[..]).unwrap();
                    let mut attributes = Vec::new();
                    for name in buffer[..length].split(|byte| *byte == 0) {
                        let mut value = vec![0; 65_536];
                        if !name.is_empty() {
                            let length =
                                rustix::fs::lgetxattr(&path, name, &mut value[..]).unwrap();
                            attributes.push((name.to_vec(), value[..length].to_vec()));
                        }
                    }
                    attributes.sort();
                    let content = match meta.file_type() {
                        kind if kind.is_file() => {
                            blake3::hash(&fs::read(&path).unwrap()).to_string()
                        }
                        kind if kind.is_symlink() => format!("{:?}", fs::read_link(&path).unwrap()),
                        _ => String::new(),
                    };
                    let first = first.entry(meta.ino()).or_insert_with(|| inside.clone());
                    let place = (meta.mode(), meta.uid(), meta.gid(), meta.nlink(), first);
                    let time = (meta.mtime(), meta.mtime_nsec());
                    format!("{place:?} {time:?} {content} {attributes:?}")
                }
            };
            seen.insert(inside.clone().into_os_string(), line);
            if meta.is_dir() {
                look(&path, &inside, first, seen);
            }
        }
    }
    let mut lines = BTreeMap::new();
    look(tree, Path::new(""), &mut HashMap::new(), &mut lines);
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is in a tree, its layer is that tree.
    #[test]
    fn a_layer_is_the_tree_that_was_packed(entries in prop::collection::vec(entries(), 0..30)) {
        let scratch = tempfile::tempdir().unwrap();
        let upper = scratch.path().join("upper");
        plant(&upper, &entries);
        let before = seen(&upper);
        let archive = packed(&upper, 1_577_836_800);
        let after = seen(&upper);
        prop_assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
        let (_scratch, copy) = unpacked(&archive);
        prop_assert_eq!(seen(&copy), after);
        prop_assert!(packed(&copy, 1_577_836_800) == archive);
    }
}

#[test]
fn entries_that_lead_out_are_refused() {
    let attempts: [&[(Kind, &str, &str)]; 4] = [
        &[(Kind::File, "../evil", "")],
        &[(Kind::File, "/evil", "")],
        // A directory in place of a link is made anew, with nothing of what the link led to.
        &[
            (Kind::Symlink, "way", "/tmp"),
            (Kind::Directory, "way", ""),
            (Kind::File, "way/../../evil", ""),
        ],
        &[
            (Kind::Symlink, "door", "/tmp"),
            (Kind::File, "door/evil", ""),
        ],
    ];
    for attempt in attempts {
        let scratch = tempfile::tempdir().unwrap();
        let archive = scratch.path().join("bad.tar");
        fs::write(&archive, tar(attempt)).unwrap();
        let error = unpack(&archive, &scratch.path().join("tree"), Changes::OnDisk).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    }
}

/// An archive of members with their kinds, names and targets. Their owner is whoever tests.
fn tar(members: &[(Kind, &str, &str)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (kind, path, link) in members {
        let member = Member {
            path: path.as_bytes().to_vec(),
            kind: *kind,
            link: link.as_bytes().to_vec(),
            mode: 0o700,
            uid: rustix::process::getuid().as_raw().into(),
            gid: rustix::process::getgid().as_raw().into(),
            ..Member::default()
        };
        writer.add(&member).unwrap();
    }
    writer.finish().unwrap()
}

fn applied(tree: &Path, form: Form, members: &[(Kind, &str, &str)]) -> io::Result<()> {
    apply(&mut &tar(members)[..], form, tree)
}

#[test]
fn directories_that_an_archive_does_not_name_stay() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path();
    fs::create_dir_all(tree.join("usr/lib")).unwrap();
    symlink("usr/lib", tree.join("lib")).unwrap();
    fs::create_dir(tree.join("tmp")).unwrap();
    fs::set_permissions(tree.join("tmp"), Permissions::from_mode(0o1777)).unwrap();
    let mode = |name: &str| fs::metadata(tree.join(name)).unwrap().mode() & 0o7777;
    let files = [
        (Kind::File, "lib/modules/x.ko", ""),
        (Kind::Directory, "lib", ""),
        (Kind::File, "tmp/.wh.x", ""),
    ];
    applied(tree, Form::Files, &files).unwrap();
    assert!(tree.join("usr/lib/modules/x.ko").is_file());
    assert!(tree.join("lib").is_symlink() && tree.join("tmp/.wh.x").is_file());
    assert_eq!((mode("tmp"), mode("usr/lib/modules")), (0o1777, 0o755));
    // What is named gets what the archive says.
    applied(tree, Form::Files, &[(Kind::Directory, "tmp", "")]).unwrap();
    assert_eq!(mode("tmp"), 0o700);
    // A layer of an image replaces the link.
    applied(tree, Form::Layer, &[(Kind::Directory, "lib", "")]).unwrap();
    assert!(!tree.join("lib").is_symlink());
}

#[test]
fn links_to_devices_go_with_them() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path();
    let members = [
        (Kind::CharDevice, "dev/null", ""),
        (Kind::Link, "dev/zero", "./dev/null"),
        (Kind::Link, "dev/full", "dev/zero"),
        (Kind::File, "file", ""),
        (Kind::Link, "file", "file"),
        (Kind::Link, "other", "/file"),
    ];
    applied(tree, Form::Layer, &members).unwrap();
    assert_eq!(fs::read_dir(tree.join("dev")).unwrap().count(), 0);
    assert_eq!(fs::metadata(tree.join("file")).unwrap().nlink(), 2);
    // What takes the place of a device can be linked to.
    let members = [
        (Kind::CharDevice, "null", ""),
        (Kind::File, "null", ""),
        (Kind::Link, "zero", "null"),
    ];
    applied(tree, Form::Layer, &members).unwrap();
    assert!(tree.join("zero").is_file());
    let error = applied(tree, Form::Layer, &[(Kind::Link, "x", "nowhere")]).unwrap_err();
    assert!(error.to_string().contains("what is not there"), "{error}");
}

#[test]
fn attributes_that_are_left_out_are_counted() {
    let mut left_out = AttributesLeftOut::default();
    for path in ["a", "b", "c"] {
        let attribute = |name: &str| (name.as_bytes().to_vec(), b"x".to_vec());
        let mut member = Member {
            path: path.into(),
            attributes: vec![attribute("trusted.t"), attribute("user.kept")],
            ..Member::default()
        };
        if path == "b" {
            member.attributes.push(attribute("SCHILY.acl.access"));
        }
        left_out.take_from(&mut member);
        assert_eq!(member.attributes, [attribute("user.kept")]);
    }
    let lines: Vec<String> = left_out.lines().collect();
    assert_eq!(
        lines,
        [
            "left out of the layer: attribute SCHILY.acl.access of b",
            "left out of the layer: attribute trusted.t of a and 2 more files",
        ]
    );
}
