//! Disks, made and checked with the real tools.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use vmfab::disk::{DiskIds, Esp, Ext4, Layout, Target, disk_size, ext4};
use vmfab::host::find_program;

/// A command of the host; the test fails when it is missing.
pub(super) fn tool(name: &str, package: &str) -> Command {
    match find_program(name) {
        Some(path) => Command::new(path),
        None => panic!("{name} is not installed: install the Debian package {package}"),
    }
}

/// Runs a command that must succeed.
pub(super) fn succeed(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A tree with one of each kind; `backwards` creates its entries in another order and at other
/// moments.
fn tree(root: &Path, backwards: bool) {
    let mut names: Vec<String> = (0..400).map(|n| format!("file-{n}")).collect();
    if backwards {
        names.reverse();
    }
    let directory = root.join("many");
    fs::create_dir_all(&directory).unwrap();
    for name in &names {
        fs::write(directory.join(name), name.repeat(40)).unwrap();
    }
    fs::create_dir_all(root.join("a/deep/path")).unwrap();
    fs::write(root.join("a/deep/path/large"), vec![7; 3_000_000]).unwrap();
    let sparse = File::create(root.join("a/sparse")).unwrap();
    sparse.set_len(50 << 20).unwrap();
    sparse.write_all_at(b"end", (50 << 20) - 3).unwrap();
    symlink("a/deep", root.join("short")).unwrap();
    symlink("x/".repeat(60), root.join("long-link")).unwrap();
    fs::hard_link(root.join("a/sparse"), root.join("second-name")).unwrap();
    // Access times as reading would leave them; modification times as a layer sets them.
    let accessed = SystemTime::now() - Duration::from_secs(if backwards { 7 } else { 99_999 });
    set_times(root, accessed);
}

fn set_times(path: &Path, accessed: SystemTime) {
    let meta = fs::symlink_metadata(path).unwrap();
    if meta.is_symlink() {
        let mut touch = tool("touch", "coreutils");
        succeed(touch.args(["-h", "-d", "@1600000000"]).arg(path));
        return;
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            set_times(&entry.unwrap().path(), accessed);
        }
    }
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    let times = fs::FileTimes::new()
        .set_accessed(accessed)
        .set_modified(modified);
    File::open(path).unwrap().set_times(times).unwrap();
}

fn ids() -> DiskIds {
    DiskIds::new(&[42; 32], &[42; 32])
}

fn make(ext4: &Ext4, tree: &Path, file: &Path, size: u64) {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(file)
        .unwrap()
        .set_len(size)
        .unwrap();
    succeed(
        tool("mke2fs", "e2fsprogs")
            .args(ext4.arguments(tree, file))
            .env_clear()
            .envs(ext4.environment()),
    );
}

fn open(file: &Path) -> File {
    File::options().read(true).write(true).open(file).unwrap()
}

/// Offsets of the blocks in which two files differ.
fn differences(one: &Path, two: &Path) -> BTreeSet<usize> {
    let (one, two) = (fs::read(one).unwrap(), fs::read(two).unwrap());
    assert_eq!(one.len(), two.len());
    one.chunks(4096)
        .zip(two.chunks(4096))
        .enumerate()
        .filter(|(_, (a, b))| a != b)
        .map(|(block, _)| block)
        .collect()
}

#[test]
fn two_copies_of_a_tree_make_equal_file_systems() {
    let scratch = tempfile::tempdir().unwrap();
    let size = 128 << 20;
    let ext4 = Ext4::new(&ids(), "root", 0, size, 1_700_000_000).unwrap();
    let [one, two] = [false, true].map(|backwards| {
        let root = scratch.path().join(format!("tree-{backwards}"));
        tree(&root, backwards);
        let file = scratch.path().join(format!("{backwards}.raw"));
        make(&ext4, &root, &file, size);
        file
    });
    assert_ne!(
        differences(&one, &two),
        BTreeSet::new(),
        "mke2fs alone makes them equal: normalising has become needless"
    );
    for file in [&one, &two] {
        ext4::normalise(&open(file), 0).unwrap();
        succeed(tool("e2fsck", "e2fsprogs").arg("-fn").arg(file));
    }
    assert_eq!(differences(&one, &two), BTreeSet::new());
    let stat = succeed(
        tool("debugfs", "e2fsprogs")
            .args(["-R", "stat /many/file-7"])
            .arg(&one),
    );
    let stat = String::from_utf8(stat.stdout).unwrap();
    for time in ["atime", "ctime", "mtime", "crtime"] {
        assert!(
            stat.contains(&format!("{time}: 0x5f5e1000:00000000")),
            "{stat}"
        );
    }
}

#[test]
fn a_large_disk_takes_no_more_room_than_a_small_one() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("tree");
    tree(&root, false);
    let used = [1_u64 << 30, 100 << 30].map(|size| {
        let file = scratch.path().join(format!("{size}.raw"));
        let ext4 = Ext4::new(&ids(), "root", 0, size, 1).unwrap();
        make(&ext4, &root, &file, size);
        ext4::normalise(&open(&file), 0).unwrap();
        fs::metadata(&file).unwrap().blocks() * 512
    });
    assert!(used[0] < 10 << 20, "{used:?}");
    assert!(used[1] < 16 << 20, "{used:?}");
}

#[test]
fn another_file_is_not_normalised() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    let error = ext4::normalise(&file, 0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not an ext4 file system that vmfab made: no superblock"
    );
}

#[test]
fn a_tree_that_does_not_fit_is_recognised() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("tree");
    tree(&root, false);
    fs::write(root.join("too-large"), vec![1; 40 << 20]).unwrap();
    let file = scratch.path().join("disk.raw");
    let size = 32 << 20;
    File::create(&file).unwrap().set_len(size).unwrap();
    let ext4 = Ext4::new(&ids(), "root", 0, size, 1).unwrap();
    let output = tool("mke2fs", "e2fsprogs")
        .args(ext4.arguments(&root, &file))
        .env_clear()
        .envs(ext4.environment())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let lines: Vec<String> = String::from_utf8_lossy(&output.stderr)
        .lines()
        .map(str::to_owned)
        .collect();
    assert!(ext4::says_too_small(&lines), "{lines:?}");
}

fn uefi_disk(scratch: &Path, name: &str) -> (PathBuf, Layout) {
    let root = scratch.join(format!("tree-{name}"));
    tree(&root, name == "two");
    let kernel: Vec<u8> = (0..9_000_000_u32).map(|n| (n % 249) as u8).collect();
    let esp = Esp {
        target: Target::X86_64,
        loader: b"MZ loader",
        title: "test",
        options: "root=LABEL=root",
        kernel: &kernel,
        initrd: Some(b"initrd"),
    };
    let size = disk_size((320 << 20) - 5);
    let layout = Layout::new(size, esp.size()).unwrap();
    let file = scratch.join(format!("{name}.raw"));
    let root_size = layout.root.end - layout.root.start;
    let ext4 = Ext4::new(&ids(), "root", layout.root.start, root_size, 1).unwrap();
    make(&ext4, &root, &file, size);
    let disk = open(&file);
    ext4::normalise(&disk, layout.root.start).unwrap();
    esp.write(&disk, &layout.esp, ids().volume).unwrap();
    layout.write(&disk, &ids(), Target::X86_64).unwrap();
    (file, layout)
}

/// A part of a disk as a file of its own.
fn part(disk: &Path, range: &std::ops::Range<u64>) -> PathBuf {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    open(disk).read_exact_at(&mut bytes, range.start).unwrap();
    let file = disk.with_extension(format!("{}.part", range.start));
    fs::write(&file, bytes).unwrap();
    file
}

#[test]
fn a_uefi_disk_is_as_the_tools_expect_and_the_same_each_time() {
    let scratch = tempfile::tempdir().unwrap();
    let (one, layout) = uefi_disk(scratch.path(), "one");
    let (two, _) = uefi_disk(scratch.path(), "two");
    assert_eq!(differences(&one, &two), BTreeSet::new());
    let verified = succeed(tool("sgdisk", "gdisk").arg("-v").arg(&one));
    let text = String::from_utf8_lossy(&verified.stdout);
    assert!(text.contains("No problems found"), "{text}");
    let root = succeed(tool("sgdisk", "gdisk").args(["-i", "2"]).arg(&one));
    let root = String::from_utf8(root.stdout).unwrap();
    for line in [
        "Partition GUID code: 4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
        &format!("Partition unique GUID: {:X}", ids().root),
        "Attribute flags: 0800000000000000",
        "Partition name: 'root'",
    ] {
        assert!(root.contains(line), "{root}");
    }
    let esp = part(&one, &layout.esp);
    let checked = succeed(tool("fsck.vfat", "dosfstools").args(["-n", "-v"]).arg(&esp));
    let text = String::from_utf8_lossy(&checked.stdout);
    assert!(text.contains("32 bit entries"), "{text}");
    succeed(
        tool("e2fsck", "e2fsprogs")
            .arg("-fn")
            .arg(part(&one, &layout.root)),
    );
}
