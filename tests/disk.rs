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

/// All that is done to a file system after it was made; it is whole then.
fn finish(file: &Path) {
    let disk = open(file);
    ext4::gather_directories(&disk, 0).unwrap();
    ext4::normalise(&disk, 0).unwrap();
    check(file);
}

#[track_caller]
fn check(file: &Path) {
    succeed(tool("e2fsck", "e2fsprogs").arg("-fn").arg(file));
}

/// What debugfs answers, words only.
fn debugfs(file: &Path, request: &str) -> String {
    let mut debugfs = tool("debugfs", "e2fsprogs");
    let answer = succeed(debugfs.args(["-R", request]).arg(file)).stdout;
    String::from_utf8(answer).unwrap().trim().to_owned()
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
    // Two groups of blocks.
    let size = 130 << 20;
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
        check(file);
    }
    assert_eq!(differences(&one, &two), BTreeSet::new());
    // How much was written depends on the file system of the host: the superblock and its copy say nothing of it.
    let bytes = fs::read(&one).unwrap();
    for superblock in [1024, 128 << 20] {
        assert_eq!(bytes[superblock + 0x38..][..2], [0x53, 0xef]);
        assert_eq!(bytes[superblock + 0x178..][..8], [0; 8]);
    }
    let stat = debugfs(&one, "stat /many/file-7");
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
        finish(&file);
        fs::metadata(&file).unwrap().blocks() * 512
    });
    assert!(used[0] < 10 << 20, "{used:?}");
    assert!(used[1] < 16 << 20, "{used:?}");
}

#[test]
fn another_file_is_not_normalised() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    for refused in [
        ext4::normalise(&file, 0),
        ext4::gather_directories(&file, 0),
    ] {
        assert_eq!(
            refused.unwrap_err().to_string(),
            "not an ext4 file system that vmfab made: no superblock"
        );
    }
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
    ext4::gather_directories(&disk, layout.root.start).unwrap();
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
    check(&part(&one, &layout.root));
}

/// Many directories with something in each, and a large one, whose blocks lie between the contents of its files.
fn many_directories(root: &Path) {
    tree(root, false);
    for number in 0..300 {
        let directory = root.join(format!("usr/{number:03}"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("content"), format!("{number} ").repeat(5000)).unwrap();
    }
    let large = root.join("large");
    fs::create_dir(&large).unwrap();
    for number in 0..900 {
        let name = format!("{}{number}", "a-long-name-".repeat(12));
        fs::write(large.join(name), format!("{number}").repeat(2000)).unwrap();
    }
    set_times(root, SystemTime::UNIX_EPOCH);
}

/// The blocks of a directory, in their order.
fn blocks(file: &Path, path: &str) -> Vec<u64> {
    let blocks = debugfs(file, &format!("blocks {path}"));
    blocks
        .split_whitespace()
        .map(|block| block.parse().unwrap())
        .collect()
}

#[test]
fn directories_are_side_by_side() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("tree");
    many_directories(&root);
    let disk = scratch.path().join("disk.raw");
    // As on a partition.
    let (offset, size) = (1 << 20, 1 << 30);
    make(
        &Ext4::new(&ids(), "root", offset, size, 1).unwrap(),
        &root,
        &disk,
        offset + size,
    );
    let file = PathBuf::from(format!("{}?offset={offset}", disk.display()));
    let directories = ["/", "/lost+found", "/a/deep/path", "/large", "/usr/007"];
    let before = directories.map(|directory| blocks(&file, directory));
    assert!(
        debugfs(&file, "extents /large").contains("1/ 1"),
        "it has a tree of extents"
    );
    let opened = open(&disk);
    ext4::gather_directories(&opened, offset).unwrap();
    ext4::normalise(&opened, offset).unwrap();
    check(&file);
    // Of eight groups the fifth has the journal, and the sixth a copy of the superblock.
    let group = 6 * 32_768..7 * 32_768;
    for (directory, before) in directories.iter().zip(before) {
        let now = blocks(&file, directory);
        // One of a tree of extents is needed no more.
        let count = before.len() - usize::from(*directory == "/large");
        let run: Vec<u64> = (now[0]..).take(count).collect();
        assert_eq!(now, run, "{directory} lies in one run, in its order");
        assert!(group.contains(&now[0]), "{directory}: {now:?}");
    }
    // What is there is what was put there.
    let dump = scratch.path().join("dump");
    fs::create_dir(&dump).unwrap();
    debugfs(&file, &format!("rdump / {}", dump.display()));
    fs::remove_dir(dump.join("lost+found")).unwrap();
    succeed(
        tool("diff", "diffutils")
            .args(["-r", "--no-dereference"])
            .args([&root, &dump]),
    );
}

#[test]
fn a_new_file_changes_little_of_a_disk() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("tree");
    many_directories(&root);
    let (size, chunk) = (1 << 30, 64 << 10);
    // Chunks that the disk with one more file, before all others, has for itself.
    let new_chunks = |work: &dyn Fn(&Path)| {
        let disks = ["old", "new"].map(|name| {
            if name == "new" {
                fs::write(root.join("a/0"), "new").unwrap();
            }
            set_times(&root, SystemTime::UNIX_EPOCH);
            let file = scratch.path().join(name);
            fs::remove_file(&file).ok();
            make(
                &Ext4::new(&ids(), "root", 0, size, 1).unwrap(),
                &root,
                &file,
                size,
            );
            work(&file);
            fs::read(&file).unwrap()
        });
        fs::remove_file(root.join("a/0")).unwrap();
        let blocks: BTreeSet<&[u8]> = disks[0].chunks(4096).collect();
        let is_new = |chunk: &&[u8]| chunk.chunks(4096).any(|block| !blocks.contains(block));
        disks[1].chunks(chunk).filter(is_new).count()
    };
    let plain = new_chunks(&|file| ext4::normalise(&open(file), 0).unwrap());
    let gathered = new_chunks(&finish);
    assert!(gathered * 3 < plain, "{gathered} of {plain}");
}

#[test]
fn directories_stay_where_they_are_when_there_is_no_room() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("tree");
    tree(&root, false);
    let file = scratch.path().join("disk.raw");
    let size = 128 << 20;
    make(
        &Ext4::new(&ids(), "root", 0, size, 1).unwrap(),
        &root,
        &file,
        size,
    );
    let before = fs::read(&file).unwrap();
    ext4::gather_directories(&open(&file), 0).unwrap();
    assert!(fs::read(&file).unwrap() == before);
}
