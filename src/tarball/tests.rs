use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

/// What an archive holds: members and their content.
fn read(bytes: &[u8]) -> io::Result<Vec<(Member, Vec<u8>)>> {
    let mut reader = Reader::new(bytes);
    let mut found = Vec::new();
    while let Some(member) = reader.member()? {
        let mut content = Vec::new();
        (&mut reader).take(1 << 20).read_to_end(&mut content)?;
        found.push((member, content));
    }
    Ok(found)
}

fn refused(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

/// A member as its header and content alone say it.
fn raw(kind: u8, path: &str, content: &[u8]) -> Vec<u8> {
    let mut header = header::Header::ustar(kind);
    assert!(header.set_path(path.as_bytes()));
    header.set_size(content.len() as u64);
    let mut bytes = header.finish().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A header with bytes of its own at a place.
fn patched(kind: u8, path: &str, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut header = header::Header::ustar(kind);
    header.set_path(path.as_bytes());
    header.0[at..at + bytes.len()].copy_from_slice(bytes);
    header.finish().to_vec()
}

fn extended(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut content = Vec::new();
    for (key, value) in records {
        pax::add(&mut content, key.as_bytes(), value);
    }
    raw(b'x', "", &content)
}

fn members() -> impl Strategy<Value = (Member, Vec<u8>)> {
    let bytes = |length| prop::collection::vec(1_u8.., length);
    let name = prop_oneof![
        "[a-z/.=%]{1,12}[a-z]".prop_map(String::into_bytes),
        bytes(1..250_usize).prop_map(|mut name| {
            name.push(b'x');
            name
        }),
    ];
    let kind = prop_oneof![
        4 => Just(Kind::File),
        1 => Just(Kind::Directory),
        1 => Just(Kind::Symlink),
        1 => Just(Kind::Link),
        1 => Just(Kind::Fifo),
    ];
    let attributes =
        prop::collection::btree_map(bytes(1..6), prop::collection::vec(any::<u8>(), 0..40), 0..3);
    let time = (any::<i32>(), prop_oneof![Just(0), 0..1_000_000_000_u32]);
    let numbers = (0..0o10000_u32, any::<u32>(), any::<u32>());
    let content = prop::collection::vec(any::<u8>(), 0..1500);
    (
        name,
        kind,
        bytes(1..150),
        attributes,
        time,
        numbers,
        content,
        any::<bool>(),
    )
        .prop_map(
            |(path, kind, link, attributes, time, (mode, uid, gid), content, noted)| {
                let is_file = kind == Kind::File;
                let content = if is_file { content } else { Vec::new() };
                let member = Member {
                    path,
                    kind,
                    link: match kind {
                        Kind::Symlink | Kind::Link => link,
                        _ => Vec::new(),
                    },
                    mode,
                    uid: u64::from(uid),
                    gid: u64::from(gid),
                    user: Vec::new(),
                    group: b"wheel".to_vec(),
                    time: Time {
                        seconds: i64::from(time.0),
                        nanoseconds: time.1,
                    },
                    size: content.len() as u64,
                    data: None,
                    attributes: attributes.into_iter().collect(),
                    note: if noted {
                        b"literal".to_vec()
                    } else {
                        Vec::new()
                    },
                };
                (member, content)
            },
        )
}

fn write(members: &[(Member, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (member, content) in members {
        writer.add_file(member, &mut &content[..]).unwrap();
    }
    writer.finish().unwrap()
}

proptest! {
    #[test]
    fn what_is_written_is_read(members in prop::collection::vec(members(), 0..6)) {
        prop_assert_eq!(read(&write(&members)).unwrap(), members);
    }

    /// Whatever is in an archive, reading it ends.
    #[test]
    fn damage_is_an_error_or_harmless(
        members in prop::collection::vec(members(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        kept in any::<prop::sample::Index>(),
    ) {
        let mut bytes = write(&members);
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
            // The damage is not caught by the checksum.
            let start = place - place % 512;
            let header = <[u8; 512]>::try_from(&bytes[start..start + 512]).unwrap();
            bytes[start..start + 512].copy_from_slice(&header::Header(header).finish());
        }
        bytes.truncate(kept.index(bytes.len()) + 1);
        let _ = read(&bytes);
    }
}

#[test]
fn records_are_read_by_their_length() {
    // What looks like a record is a part of a value.
    let smuggled = b"v\n21 linkpath=etc/evil\n";
    let mut bytes = extended(&[
        ("comment", smuggled),
        ("SCHILY.xattr.user.a%3Db\n", b"\n\0=\n"),
    ]);
    bytes.extend(patched(b'1', "hl", 157, b"etc/good"));
    let (member, _) = read(&bytes).unwrap().remove(0);
    assert_eq!(member.link, b"etc/good");
    assert_eq!(
        member.attributes,
        [(b"user.a=b\n".to_vec(), b"\n\0=\n".to_vec())]
    );
    for damaged in [
        &b"5 a=b\n"[..],
        b"99 a=b\n",
        b"x a=b\n",
        b"7 path\n",
        b"6 a=bX",
    ] {
        let mut bytes = raw(b'x', "", damaged);
        bytes.extend(raw(b'0', "file", b""));
        assert!(refused(&bytes).contains("extended header"), "{damaged:?}");
    }
}

#[test]
fn access_control_lists_of_gnu_tar_become_attributes() {
    const NONE: u32 = u32::MAX;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "x").unwrap();
    let mut entries: [(u16, u16, u32); 7] = [
        (0x01, 6, NONE),
        (0x02, 4, 0),
        (0x02, 5, 1_234_567),
        (0x04, 4, NONE),
        (0x08, 6, 77_777),
        (0x10, 6, NONE),
        (0x20, 0, NONE),
    ];
    let name = "system.posix_acl_access";
    let packed = |entries: &[(u16, u16, u32)]| {
        let mut list = vec![2, 0, 0, 0];
        for (tag, bits, id) in entries {
            list.extend([tag.to_le_bytes(), bits.to_le_bytes()].concat());
            list.extend(id.to_le_bytes());
        }
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&path, name, &list, flags).unwrap();
        let mut tar = Command::new("tar");
        let tar = tar.current_dir(&directory);
        let output = tar.args(["--acls", "-cf", "-", "file"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        (list, read(&output.stdout).unwrap().remove(0).0.attributes)
    };
    let (list, attributes) = packed(&entries);
    assert_eq!(attributes, [(name.as_bytes().to_vec(), list)]);
    // Whoever "daemon" is where the archive goes.
    entries[1].2 = 1;
    let (_, attributes) = packed(&entries);
    let [(name, text)] = &attributes[..] else {
        panic!("one attribute is expected");
    };
    assert_eq!(name, b"SCHILY.acl.access");
    assert!(text.windows(8).any(|part| part == b":daemon:"), "{text:?}");
}

#[test]
fn an_archive_may_begin_with_an_extended_header() {
    let member = Member {
        path: b"file".to_vec(),
        attributes: vec![(b"user.a".to_vec(), b"1".to_vec())],
        ..Member::default()
    };
    for attributes in [0, 1] {
        let mut member = member.clone();
        member.attributes.truncate(attributes);
        let archive = write(&[(member, Vec::new())]);
        assert!(is_header(&archive), "{attributes}");
    }
    assert!(!is_header(&[0; 512]));
}

#[test]
fn texts_of_access_control_lists() {
    let short = acl::bytes(b"user::rwx,group::r-x,other:r--").unwrap();
    assert_eq!(short.len(), 4 + 3 * 8);
    let mask = "group::---,mask::rw-,other::---";
    let named = acl::bytes(format!("user:joe:rw-:1000,user::rwx,{mask}").as_bytes());
    assert_eq!(
        named,
        acl::bytes(format!("user::rwx\nuser:1000:rw-\n{mask}").as_bytes())
    );
    assert_eq!(named.unwrap()[12..20], [2, 0, 6, 0, 0xe8, 3, 0, 0]);
    for wrong in [
        "",
        "user::rwx,group::r-x",
        "user::rwx,user:1:r--,group::r-x,other::r--",
        "user::rwx,user::rwx,group::r-x,other::r--",
        "user::rwx,user:joe:r--,group::r-x,mask::r--,other::r--",
        "user::rwx,user:4294967295:r--,group::r-x,mask::r--,other::r--",
        "user::rwz,group::r-x,other::r--",
        "owner@:rwx::allow",
    ] {
        assert_eq!(acl::bytes(wrong.as_bytes()), None, "{wrong}");
    }
}

#[test]
fn the_last_of_equal_records_counts_and_empty_ones_do_not() {
    let mut bytes = extended(&[
        ("path", b"first"),
        ("path", b"second"),
        ("uid", b"7"),
        ("linkpath", b"away"),
        ("linkpath", b""),
        ("mtime", b"-1.25"),
        ("SCHILY.xattr.user.a", b"1"),
        ("SCHILY.xattr.user.a", b"2"),
    ]);
    bytes.extend(patched(b'2', "name", 157, b"target"));
    let (member, _) = read(&bytes).unwrap().remove(0);
    assert_eq!(
        (member.name().as_str(), &member.link[..]),
        ("second", &b"target"[..])
    );
    assert_eq!(member.uid, 7);
    assert_eq!(member.attributes, [(b"user.a".to_vec(), b"2".to_vec())]);
    let time = Time {
        seconds: -2,
        nanoseconds: 750_000_000,
    };
    assert_eq!(member.time, time);
    assert_eq!(pax::format_time(time), "-1.25");
}

#[test]
fn what_programs_read_differently_is_refused() {
    let path = |path: &[u8]| extended(&[("path", path)]);
    let file = raw(b'0', "file", b"");
    let long = raw(b'L', "././@LongLink", b"long\0");
    for (parts, why) in [
        (
            [path(b"one"), path(b"two"), file.clone()],
            "two extended headers",
        ),
        ([path(b"one"), long, file.clone()], "two names"),
        ([path(b"one"), Vec::new(), Vec::new()], "before the member"),
        ([path(b"a\0b"), file.clone(), Vec::new()], "zero byte"),
        (
            [raw(b'g', "", b"10 path=x\n"), file, Vec::new()],
            "to all its members",
        ),
    ] {
        assert!(refused(&parts.concat()).contains(why), "{why}");
    }
    // Only the claim of a name that would fill the memory.
    let endless = patched(b'L', "././@LongLink", 124, b"77777777777\0");
    assert!(
        refused(&endless).contains("at most"),
        "{}",
        refused(&endless)
    );
    assert_eq!(refused(&[7; 1024]), "it is no tar");
    assert!(refused(&raw(b'0', "file", b"content")[..600]).contains("cut off"));
}

#[test]
fn headers_of_old_programs() {
    let global = raw(b'g', "pax_global_header", b"16 comment=abcd\n10 uid=42\n");
    let owner = |bytes: &[u8]| read(bytes).unwrap().remove(0).0;
    let bytes = [
        global,
        raw(b'V', "label", b""),
        raw(b'0', "directory/", b""),
    ]
    .concat();
    let member = owner(&bytes);
    assert_eq!(
        (member.kind, member.uid, member.name()),
        (Kind::Directory, 42, "directory".into())
    );
    // Blank numbers, numbers in base 256, and digits without an end.
    assert_eq!(owner(&patched(b'0', "f", 108, &[b' '; 16])).uid, 0);
    let member = owner(&patched(b'0', "f", 108, b"\x80\0\0\0\x70\0\0\x01  12345 "));
    assert_eq!((member.uid, member.gid), (0x7000_0001, 0o12345));
    let member = owner(&patched(b'0', "f", 136, &[0xff; 12]));
    assert_eq!(member.time.seconds, -1);
    assert!(refused(&patched(b'0', "f", 124, b"9")).contains("size"));
    // A prefix is one of POSIX only.
    assert_eq!(
        owner(&patched(b'0', "f", 345, b"some/where")).name(),
        "some/where/f"
    );
    let mut gnu = header::Header::gnu(b'0');
    gnu.set_path(b"f");
    gnu.0[345] = b'7';
    assert_eq!(owner(&gnu.finish()).name(), "f");
    // A checksum of signed bytes.
    let mut header = header::Header::ustar(b'0');
    header.set_path(&[0xe9]);
    let mut bytes = header.finish();
    let sum = bytes[..148].iter().chain(&bytes[156..]);
    let sum: i32 = sum.map(|byte| i32::from(byte.cast_signed())).sum::<i32>() + 256;
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(owner(&bytes).path, [0xe9]);
}

/// A file with data at its start, in its middle and at its end, and holes between them; or with a
/// hole at its end.
fn holey(directory: &Path, name: &str, with_end: bool) -> Vec<u8> {
    let mut content = vec![0; 3 << 20];
    content[..5].copy_from_slice(b"start");
    content[(2 << 20) + 700..][..6].copy_from_slice(b"middle");
    if with_end {
        content.truncate((3 << 20) - 1000);
        content.extend_from_slice(b"end");
    }
    let file = File::create_new(directory.join(name)).unwrap();
    sparse::write_data(&file, &content, 0).unwrap();
    file.set_len(content.len() as u64).unwrap();
    content
}

fn run(program: &str, words: &[&str], input: &[u8], directory: &Path) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(words)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("install {program}: {error}"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {words:?}");
    output.stdout
}

#[test]
fn holes_of_every_form_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let contents = [
        holey(directory.path(), "one", true),
        holey(directory.path(), "two", false),
    ];
    File::create(directory.path().join("void"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    for form in [
        "gnu",
        "pax --sparse-version=0.0",
        "pax --sparse-version=0.1",
        "pax --sparse-version=1.0",
    ] {
        let mut words = vec!["-cf", "-", "--sparse"];
        let form = format!("--format={form}");
        words.extend(form.split(' '));
        words.extend(["one", "two", "void"]);
        let archive = run("tar", &words, b"", directory.path());
        assert!(archive.len() < 100_000, "{form}");
        let mut reader = Reader::new(&archive[..]);
        for (name, content) in ["one", "two"].iter().zip(&contents) {
            let member = reader.member().unwrap().unwrap();
            assert_eq!(
                (member.name().as_str(), member.size),
                (*name, content.len() as u64)
            );
            let mut file = tempfile::tempfile().unwrap();
            reader.write_to(&file).unwrap();
            let mut found = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut found).unwrap();
            assert!(found == *content, "{name} {form}");
        }
        let void = reader.member().unwrap().unwrap();
        assert_eq!((void.name().as_str(), void.size), ("void", 1 << 40));
        assert_eq!((reader.hole(), reader.hole()), (1 << 40, 0));
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        assert_eq!(reader.member().unwrap(), None);
    }
}

#[test]
fn holes_are_written_so_that_others_read_them() {
    let directory = tempfile::tempdir().unwrap();
    let contents = [
        holey(directory.path(), "one", true),
        holey(directory.path(), "two", false),
        vec![0; 2 << 20],
    ];
    fs::write(directory.path().join("three"), &contents[2]).unwrap();
    let mut writer = Writer::new(Vec::new());
    for name in ["one", "two", "three"] {
        let file = File::open(directory.path().join(name)).unwrap();
        let size = file.metadata().unwrap().len();
        let data = data_of(&file, size).unwrap();
        let parts = data.as_ref().unwrap();
        assert!(parts.iter().all(|part| part.start % 4096 == 0));
        let mut stored = Vec::new();
        for part in parts {
            let mut file = &file;
            file.seek(io::SeekFrom::Start(part.start)).unwrap();
            file.take(part.end - part.start)
                .read_to_end(&mut stored)
                .unwrap();
        }
        let member = Member {
            path: name.into(),
            mode: 0o644,
            size,
            data,
            ..Member::default()
        };
        writer.add_file(&member, &mut &stored[..]).unwrap();
    }
    let archive = writer.finish().unwrap();
    assert!(archive.len() < 32_000, "{}", archive.len());
    let with = |program: &str, words: &[&str]| {
        let target = tempfile::tempdir().unwrap();
        run(program, words, &archive, target.path());
        for (name, content) in ["one", "two", "three"].iter().zip(&contents) {
            let found = fs::read(target.path().join(name)).unwrap();
            assert!(found == *content, "{name} by {program}");
        }
    };
    with("tar", &["-xf", "-"]);
    let script =
        "import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall()";
    with("python3", &["-c", script]);
}

#[test]
fn blocks_of_zeros_become_holes() {
    let content = [
        vec![7; 5000],
        vec![0; 1 << 20],
        vec![7; 5000],
        vec![0; 9000],
    ]
    .concat();
    let member = Member {
        path: b"file".to_vec(),
        size: content.len() as u64,
        ..Member::default()
    };
    let archive = write(&[(member, content.clone())]);
    let mut reader = Reader::new(&archive[..]);
    reader.member().unwrap().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    reader.write_to(&file).unwrap();
    let kept = std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512;
    assert!(kept < 100_000, "{kept}");
    let mut found = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut found).unwrap();
    assert!(found == content);
    // The same for what comes in pieces of any length.
    for length in [1000, 4096, 70_001, content.len()] {
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = FileWithHoles::new(&file);
        for piece in content.chunks(length) {
            writer.write_all(piece).unwrap();
        }
        writer.finish().unwrap();
        let kept = std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512;
        assert!(kept < 100_000, "{kept}");
        found.clear();
        file.read_to_end(&mut found).unwrap();
        assert!(found == content);
    }
}

#[test]
fn too_many_parts_are_joined() {
    let file = tempfile::tempfile().unwrap();
    let count = 40_000;
    for number in 0..count {
        std::os::unix::fs::FileExt::write_all_at(&file, b"x", number * 3 * 4096).unwrap();
    }
    let size = (count + 1000) * 3 * 4096;
    file.set_len(size).unwrap();
    let parts = data_of(&file, size).unwrap().unwrap();
    // Gaps of two blocks are closed, all of them.
    assert_eq!(parts.len(), 1);
    assert_eq!(parts[0], 0..((count - 1) * 3 + 1) * 4096);
}
