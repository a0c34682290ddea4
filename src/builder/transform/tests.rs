//! Transforms of what other programs wrote. Those that need a worker are in `tests/transforms.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::*;
use crate::builder::local;
use crate::derivation::action_key;
use crate::derivation::graph::Graph;
use crate::failure::{self, Failure};
use crate::host::{Home, Interrupt};

struct Bench {
    directory: tempfile::TempDir,
    transform: Transform,
    interrupt: Interrupt,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let store = Store::open(home.store()).unwrap();
        let transform = Transform {
            sandbox: Sandbox::new(&home, store.clone()),
            store,
            image_size: 1 << 20,
        };
        Self {
            directory,
            transform,
            interrupt: Interrupt::new().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn put(&self, content: &[u8]) -> ObjectRef {
        self.transform.store.put_bytes(content).unwrap()
    }

    fn read(&self, object: &ObjectRef) -> Vec<u8> {
        self.transform.store.read_object(&object.id).unwrap()
    }

    fn build(&self, kind: Kind, blob: ObjectRef) -> Result<ObjectRef, Failure> {
        let mut graph = Graph::default();
        let step = Step::Transform(kind);
        let node = graph
            .add_step("test".to_owned(), &step, Vec::new())
            .unwrap();
        let derivation = graph.get(node);
        let inputs = [crate::derivation::ResolvedInput {
            role: "blob".to_owned(),
            object: blob,
        }];
        let request = BuildRequest {
            key: action_key(derivation, &inputs),
            derivation,
            inputs: &inputs,
            log_limit: 1 << 20,
            log: &self.path("log"),
            output: &|_| {},
            interrupt: &self.interrupt,
        };
        let outputs = self.transform.build(&request)?;
        Ok(outputs["blob"])
    }

    fn decompress(&self, format: Option<&str>, content: &[u8]) -> Result<Vec<u8>, Failure> {
        let format = format.map(str::to_owned);
        let object = self.build(Kind::Decompress { format }, self.put(content))?;
        Ok(self.read(&object))
    }

    fn extract(&self, member: &str, archive: &[u8]) -> Result<Vec<u8>, Failure> {
        let member = member.to_owned();
        let object = self.build(Kind::Extract { member }, self.put(archive))?;
        Ok(self.read(&object))
    }
}

/// An error with its help, as the user reads it.
fn text(error: Failure) -> String {
    match error.help() {
        [help] => format!(
            "{error}
{help}"
        ),
        _ => format!("{error:?}"),
    }
}

/// What a program of the host makes of its input.
fn filter(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; make packages installs it"));
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{program}");
    output.stdout
}

fn run(directory: &Path, program: &str, arguments: &[&str]) {
    let status = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdout(Stdio::null())
        .status()
        .unwrap_or_else(|error| panic!("{program}: {error}; make packages installs it"));
    assert!(status.success(), "{program} {arguments:?}");
}

/// Text that repeats a little, with a run of zeros in it.
fn content() -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0_u32..60_000 {
        bytes.extend_from_slice(number.wrapping_mul(2_654_435_761).to_string().as_bytes());
    }
    bytes.resize(bytes.len() + (300 << 10), 0);
    bytes.extend_from_slice(b"the end");
    bytes
}

const COMPRESSORS: [(&str, &str); 4] = [
    ("gz", "gzip"),
    ("xz", "xz"),
    ("zst", "zstd"),
    ("bz2", "bzip2"),
];

#[test]
fn what_the_usual_programs_compressed() {
    let bench = Bench::new();
    let content = content();
    let half = content.len() / 2;
    for (format, program) in COMPRESSORS {
        let whole = filter(program, &["-c"], &content);
        assert!(
            bench.decompress(None, &whole).unwrap() == content,
            "{format}"
        );
        assert!(bench.decompress(Some(format), &whole).unwrap() == content);
        // Two files, one behind the other, are one.
        let mut two = filter(program, &["-c"], &content[..half]);
        two.extend(filter(program, &["-c"], &content[half..]));
        assert!(
            bench.decompress(None, &two).unwrap() == content,
            "{format} twice"
        );
        let empty = filter(program, &["-c"], b"");
        assert!(
            bench.decompress(None, &empty).unwrap().is_empty(),
            "{format} empty"
        );
        if format == "gz" || format == "xz" {
            two.extend([0; 512]);
            assert!(
                bench.decompress(None, &two).unwrap() == content,
                "{format} padded"
            );
        }
    }
    let threads = filter("xz", &["-c", "-T2", "--block-size=100KiB", "-6"], &content);
    assert!(bench.decompress(None, &threads).unwrap() == content);
}

#[test]
fn what_is_not_whole_is_an_error() {
    let bench = Bench::new();
    let content = content();
    for (format, program) in COMPRESSORS {
        let whole = filter(program, &["-c"], &content);
        for length in [whole.len() - 1, whole.len() - 8, whole.len() / 2, 12] {
            let error = bench.decompress(None, &whole[..length]).unwrap_err();
            let text = text(error);
            let start = format!("the {format} data is damaged: ");
            assert!(text.starts_with(&start), "{format} at {length}: {text}");
        }
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 0x55;
        assert!(bench.decompress(None, &damaged).is_err(), "{format}");
        let mut trailing = whole.clone();
        trailing.extend_from_slice(b"something else");
        assert!(bench.decompress(None, &trailing).is_err(), "{format}");
    }
    let whole = filter("gzip", &["-c"], &content);
    let error = bench
        .decompress(None, &whole[..whole.len() / 2])
        .unwrap_err();
    insta::assert_snapshot!(text(error), @"
    the gz data is damaged: it ends in the middle
    check whether the file is complete at its origin; a checksum in the recipe verifies it
    ");
}

#[test]
fn the_wrong_format_is_named() {
    let bench = Bench::new();
    let xz = filter("xz", &["-c"], b"text");
    insta::assert_snapshot!(text(bench.decompress(Some("gz"), &xz).unwrap_err()), @"
    it is not gz data: it looks like xz data
    leave out the format so that vmfab recognises it, or check the address
    ");
    insta::assert_snapshot!(text(bench.decompress(None, b"<!DOCTYPE html><p>Not found").unwrap_err()), @"
    it has an unknown compression: it looks like an HTML page
    vmfab supports gz, xz, zst and bz2; leave out `decompress` if it is not compressed
    ");
    insta::assert_snapshot!(text(bench.decompress(None, b"").unwrap_err()), @"
    it has an unknown compression: it looks like an empty file
    vmfab supports gz, xz, zst and bz2; leave out `decompress` if it is not compressed
    ");
}

#[test]
fn zeros_become_holes() {
    let bench = Bench::new();
    let zeros = filter("sh", &["-c", "head -c 64M /dev/zero | gzip -1"], b"");
    let object = bench
        .build(Kind::Decompress { format: None }, bench.put(&zeros))
        .unwrap();
    assert_eq!(object.size, 64 << 20);
    assert!(bench.transform.store.stored_size(&object.id).unwrap() < 1000);
}

#[test]
fn the_user_can_give_up() {
    let bench = Bench::new();
    let compressed = filter("gzip", &["-c"], &content());
    bench.interrupt.request();
    let error = bench.decompress(None, &compressed).unwrap_err();
    assert!(error.is(failure::Kind::Interrupted), "{error:?}");
}

/// A directory with a file, links to it in each way, and links that lead nowhere good.
fn tree(bench: &Bench) -> PathBuf {
    let tree = bench.path("tree");
    fs::create_dir_all(tree.join("disk/images")).unwrap();
    fs::write(tree.join("disk/images/root.img"), "the disk").unwrap();
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, tree.join(name)).unwrap();
    };
    link("images/root.img", "disk/latest.img");
    link("/disk/latest.img", "top.img");
    link("../../../etc/passwd", "disk/out.img");
    link("loop", "loop");
    fs::hard_link(
        tree.join("disk/images/root.img"),
        tree.join("disk/same.img"),
    )
    .unwrap();
    tree
}

#[test]
fn members_of_archives() {
    let bench = Bench::new();
    let tree = tree(&bench);
    let archive = |name: &str, program: &str, arguments: &[&str]| {
        run(&tree, program, arguments);
        fs::read(bench.path(name)).unwrap()
    };
    let archives = [
        archive("a.tar", "tar", &["-cf", "../a.tar", "."]),
        archive("a.tar.gz", "tar", &["-czf", "../a.tar.gz", "."]),
        archive(
            "a.tar.xz",
            "tar",
            &["-cJf", "../a.tar.xz", "disk", "top.img", "loop"],
        ),
        archive(
            "a.tar.zst",
            "tar",
            &["--zstd", "--format=pax", "-cf", "../a.tar.zst", "."],
        ),
        archive(
            "a.tar.bz2",
            "tar",
            &[
                "--format=v7",
                "-cjf",
                "../a.tar.bz2",
                "disk",
                "top.img",
                "loop",
            ],
        ),
        archive("a.zip", "zip", &["-qry", "../a.zip", "."]),
    ];
    for (number, archive) in archives.iter().enumerate() {
        for member in [
            "disk/images/root.img",
            "./disk/same.img",
            "disk/latest.img",
            "/top.img",
        ] {
            let found = bench.extract(member, archive);
            let found = found.unwrap_or_else(|e| panic!("{number} {member}: {}", text(e)));
            assert_eq!(found, b"the disk", "{number}: {member}");
        }
        let refused = |member| text(bench.extract(member, archive).unwrap_err());
        assert!(
            refused("disk/out.img")
                .starts_with("disk/out.img is a link to ../../../etc/passwd, outside")
        );
        assert!(refused("loop").starts_with("loop is a link that leads to more than 8"));
        assert!(refused("disk/images").starts_with("disk/images is a directory\n"));
        let missing = refused("disk/root.img");
        assert!(
            missing.starts_with(
                "no disk/root.img found in the archive\nthere is disk/images/root.img"
            ),
            "{missing}"
        );
    }
    // Later members of a name stand instead of earlier ones.
    fs::write(tree.join("disk/images/root.img"), "a newer one").unwrap();
    run(&tree, "tar", &["-rf", "../a.tar", "./disk/images/root.img"]);
    let newer = fs::read(bench.path("a.tar")).unwrap();
    assert_eq!(
        bench.extract("disk/images/root.img", &newer).unwrap(),
        b"a newer one"
    );
}

#[test]
fn archives_that_are_not_whole() {
    let bench = Bench::new();
    let tree = tree(&bench);
    fs::write(tree.join("large"), content()).unwrap();
    run(&tree, "tar", &["-cf", "../a.tar", "large"]);
    run(&tree, "zip", &["-q", "../a.zip", "large"]);
    let tar = fs::read(bench.path("a.tar")).unwrap();
    let zip = fs::read(bench.path("a.zip")).unwrap();
    let refused = |archive: &[u8]| text(bench.extract("large", archive).unwrap_err());
    assert!(refused(&tar[..tar.len() / 2]).starts_with("the tar archive is damaged: "));
    assert!(refused(&zip[..zip.len() / 2]).starts_with("the zip archive cannot be read: "));
    let mut damaged = zip.clone();
    damaged[zip.len() / 2] ^= 0x55;
    assert!(refused(&damaged).starts_with("the zip archive cannot be read: "));
    let compressed = filter("xz", &["-c"], &tar);
    assert!(refused(&compressed[..compressed.len() / 2]).starts_with("the xz data is damaged: "));
    insta::assert_snapshot!(refused(b"QFI\xfb"), @"
    it is not a tar archive: it looks like a qcow2 disk
    vmfab supports tar archives, also compressed with gz, xz, zst or bz2, and zip for `extract`
    ");
}

#[test]
fn a_packed_file_is_what_copy_takes() {
    let bench = Bench::new();
    let content = content();
    let packed = bench
        .build(Kind::Pack { time: None }, bench.put(&content))
        .unwrap();
    let file = bench.path("file");
    fs::write(&file, &content).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let mut expected = tempfile::tempfile().unwrap();
    let files = crate::plan::LocalFiles {
        path: file.clone(),
        ..Default::default()
    };
    let listing = local::list(&files, None, None).unwrap();
    assert!(local::pack(&files, &listing, &mut expected).unwrap());
    let expected = bench.transform.store.put_file(&expected, &file).unwrap();
    assert_eq!(packed, expected);
}

#[test]
fn disks_grow_and_do_not_shrink() {
    let bench = Bench::new();
    let disk = bench.put(&vec![7; 3 << 20]);
    let grow = |size| bench.build(Kind::Grow { size }, disk);
    assert_eq!(grow(3 << 20).unwrap(), disk);
    let grown = grow((5 << 20) - 3).unwrap();
    let mut expected = vec![7; 3 << 20];
    expected.resize(5 << 20, 0);
    assert!(bench.read(&grown) == expected);
    insta::assert_snapshot!(text(grow(1 << 20).unwrap_err()), @"
    the disk has 3 MiB (3145728 bytes) and cannot be made smaller, to 1 MiB (1048576 bytes)
    give the `disk` node at least the size of the disk that it starts from, or leave the size out
    ");
    let rename = Kind::Rename { name: "x".into() };
    assert_eq!(bench.build(rename, disk).unwrap(), disk);
}

#[test]
fn the_footer_of_a_fixed_vhd_is_cut_off() {
    let bench = Bench::new();
    let mut disk = [content(), vec![0; 1 << 20]].concat();
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let disk = &disk[..disk.len() / 512 * 512];
    fs::write(bench.path("disk.raw"), disk).unwrap();
    let convert = |options: &str, name: &str| {
        let arguments = [
            "convert", "-f", "raw", "-O", "vpc", "-o", options, "disk.raw", name,
        ];
        run(bench.directory.path(), "qemu-img", &arguments);
        bench.put(&fs::read(bench.path(name)).unwrap())
    };
    let exact = convert("subformat=fixed,force_size=on", "exact.vhd");
    let stripped = bench.build(Kind::StripVhdFooter, exact).unwrap();
    assert!(bench.read(&stripped) == disk);
    // `convert` does the same, without qemu-img.
    assert_eq!(
        bench.build(Kind::Convert { from: None }, exact).unwrap(),
        stripped
    );
    // Rounded up to whole cylinders by qemu-img.
    let rounded = convert("subformat=fixed", "rounded.vhd");
    let stripped = bench.build(Kind::StripVhdFooter, rounded).unwrap();
    let found = bench.read(&stripped);
    assert!(found.starts_with(disk) && found[disk.len()..].iter().all(|byte| *byte == 0));
    let dynamic = convert("subformat=dynamic", "dynamic.vhd");
    insta::assert_snapshot!(text(bench.build(Kind::StripVhdFooter, dynamic).unwrap_err()), @r#"
    the vhd file is a dynamic disk: removing the footer is not enough
    write convert from="vhd" instead of strip-vhd-footer
    "#);
    let raw = bench.put(disk);
    insta::assert_snapshot!(text(bench.build(Kind::StripVhdFooter, raw).unwrap_err()), @"
    it is not a readable vhd: its last 512 bytes are not a footer
    check whether the download is the right file and complete; without from= vmfab recognises the format
    ");
    assert_eq!(bench.build(Kind::Convert { from: None }, raw).unwrap(), raw);
    let from = Some("qcow2".to_owned());
    insta::assert_snapshot!(text(bench.build(Kind::Convert { from }, exact).unwrap_err()), @"
    it is not a qcow2 disk: it looks like a vhd disk
    leave out from= so that vmfab recognises the format; compressed files need `decompress` first
    ");
}

#[test]
fn a_kernel_is_taken_out_of_a_disk() {
    let bench = Bench::new();
    let boot = bench.path("root/boot");
    fs::create_dir_all(&boot).unwrap();
    let kernel = content();
    fs::write(boot.join("vmlinuz-virt"), &kernel).unwrap();
    std::os::unix::fs::symlink("/boot/vmlinuz-virt", boot.join("vmlinuz")).unwrap();
    let arguments = [
        "-q",
        "-d",
        "root",
        "-t",
        "ext4",
        "-E",
        "offset=1048576",
        "disk.raw",
        "16M",
    ];
    run(bench.directory.path(), "mke2fs", &arguments);
    let mut disk = fs::read(bench.path("disk.raw")).unwrap();
    disk.resize(disk.len() / 512 * 512 + 512, 0);
    // One partition, from 1 MiB on.
    disk[450] = 0x83;
    disk[454..458].copy_from_slice(&2048_u32.to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xAA]);
    let disk = bench.put(&disk);
    let file = |path: &str| bench.build(Kind::File { path: path.into() }, disk);
    for path in ["/boot/vmlinuz-virt", "/boot/vmlinuz"] {
        assert!(bench.read(&file(path).unwrap()) == kernel, "{path}");
    }
    insta::assert_snapshot!(text(file("/boot/other").unwrap_err()), @"
    cannot read /boot/other from the disk: none of its file systems has that file
    name a file of an ext4 file system on the disk, or fetch the kernel from elsewhere
    ");
    let none = bench.build(Kind::File { path: "/x".into() }, bench.put(b"no disk"));
    assert!(text(none.unwrap_err()).contains("it has no ext4 file system"));
}
