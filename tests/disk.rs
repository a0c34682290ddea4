//! Disks, made and checked with the real tools.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use vmfab::disk::ext4::{self, Filling};
use vmfab::disk::{DiskError, DiskIds, Esp, Ext4, Layout, Target, disk_size};
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

/// What is put into a file system, all that is of a tree.
fn filling() -> Filling<'static> {
    Filling {
        time: 1_700_000_000,
        keep: &|_| true,
        progress: &|_| (),
    }
}

/// Makes the file system at `offset` in a file, with the tree in it.
pub(super) fn make(tree: &Path, file: &Path, offset: u64, size: u64) {
    try_make(tree, file, offset, size).unwrap();
}

fn try_make(tree: &Path, file: &Path, offset: u64, size: u64) -> Result<(), DiskError> {
    let ext4 = Ext4::new(&ids(), "root", offset, size, 1_700_000_000)?;
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(file)
        .unwrap()
        .set_len(offset + size)
        .unwrap();
    succeed(
        tool("mke2fs", "e2fsprogs")
            .args(ext4.arguments(file))
            .env_clear()
            .envs(ext4.environment()),
    );
    ext4::fill(&open(file), offset, tree, &filling())
}

fn open(file: &Path) -> File {
    File::options().read(true).write(true).open(file).unwrap()
}

#[track_caller]
fn check(file: &Path) {
    succeed(tool("e2fsck", "e2fsprogs").arg("-fn").arg(file));
}

/// What debugfs answers, words only.
fn debugfs(file: &Path, request: &str) -> String {
    let mut debugfs = tool("debugfs", "e2fsprogs");
    let answer = succeed(debugfs.args(["-R", request]).arg(file)).stdout;
    String::from_utf8_lossy(&answer).trim().to_owned()
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
    let [one, two] = [false, true].map(|backwards| {
        let root = scratch.path().join(format!("tree-{backwards}"));
        tree(&root, backwards);
        let file = scratch.path().join(format!("{backwards}.raw"));
        // Two groups of blocks.
        make(&root, &file, 0, 130 << 20);
        check(&file);
        file
    });
    assert_eq!(differences(&one, &two), BTreeSet::new());
    // How much was written depends on the file system of the host: the superblock and its copy say
    // nothing of it.
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
        make(&root, &file, 0, size);
        check(&file);
        fs::metadata(&file).unwrap().blocks() * 512
    });
    assert!(used[0] < 10 << 20, "{used:?}");
    assert!(used[1] < 16 << 20, "{used:?}");
}

#[test]
fn another_file_system_is_not_filled() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("tree");
    tree(&root, false);
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    let error = ext4::fill(&file, 0, &root, &filling()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not an ext4 file system that vmfab made: no superblock"
    );
    let disk = scratch.path().join("disk.raw");
    make(&root, &disk, 0, 128 << 20);
    let error = ext4::fill(&open(&disk), 0, &root, &filling()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not an ext4 file system that vmfab made: it has files already"
    );
}

#[test]
fn what_does_not_fit_is_told() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("tree");
    tree(&root, false);
    let refused = |root: &Path, size| {
        let file = scratch.path().join("disk.raw");
        fs::remove_file(&file).ok();
        let error = try_make(root, &file, 0, size).unwrap_err();
        assert!(error.help().is_some(), "{error}");
        error.to_string()
    };
    fs::write(root.join("too-large"), vec![1; 40 << 20]).unwrap();
    assert_eq!(refused(&root, 32 << 20), "the files do not fit on the disk");
    let many = scratch.path().join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..1100 {
        fs::write(many.join(number.to_string()), "").unwrap();
    }
    let told = refused(&many, 16 << 20);
    assert_eq!(
        told,
        "the disk has space for 1024 files, but there are more"
    );
    let other = scratch.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("lost+found"), "").unwrap();
    let told = refused(&other, 32 << 20);
    assert_eq!(told, "/lost+found: /lost+found is not a directory");
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
    make(&root, &file, layout.root.start, root_size);
    let disk = open(&file);
    disk.set_len(size).unwrap();
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

/// Many directories with something in each, and a large one, whose blocks lie between the contents
/// of its files.
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

/// Everything that is in a file system, as it was in the tree.
#[track_caller]
fn same(file: &Path, root: &Path, scratch: &Path) {
    let dump = scratch.join("dump");
    fs::create_dir(&dump).unwrap();
    debugfs(file, &format!("rdump / {}", dump.display()));
    fs::remove_dir(dump.join("lost+found")).unwrap();
    succeed(
        tool("diff", "diffutils")
            .args(["-r", "--no-dereference"])
            .args([root, &dump]),
    );
    fs::remove_dir_all(&dump).unwrap();
}

#[test]
fn directories_are_side_by_side() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("tree");
    many_directories(&root);
    let disk = scratch.path().join("disk.raw");
    // As on a partition.
    let offset = 1 << 20;
    make(&root, &disk, offset, 1 << 30);
    let file = PathBuf::from(format!("{}?offset={offset}", disk.display()));
    check(&file);
    // Of eight groups the fifth has the journal, and the sixth a copy of the superblock.
    let group = 6 * 32_768..7 * 32_768;
    for directory in ["/", "/lost+found", "/a/deep/path", "/large", "/usr/007"] {
        let now = blocks(&file, directory);
        let run: Vec<u64> = (now[0]..).take(now.len()).collect();
        assert_eq!(now, run, "{directory} lies in one run, in its order");
        assert!(group.contains(&now[0]), "{directory}: {now:?}");
    }
    same(&file, &root, scratch.path());
}

#[test]
fn a_new_file_changes_little_of_a_disk() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("tree");
    many_directories(&root);
    // Chunks that the disk with one more file, before all others, has for itself.
    let disks = ["old", "new"].map(|name| {
        if name == "new" {
            fs::write(root.join("a/0"), "new").unwrap();
        }
        set_times(&root, SystemTime::UNIX_EPOCH);
        let file = scratch.path().join(name);
        make(&root, &file, 0, 1 << 30);
        fs::read(&file).unwrap()
    });
    let blocks: BTreeSet<&[u8]> = disks[0].chunks(4096).collect();
    let is_new = |chunk: &&[u8]| chunk.chunks(4096).any(|block| !blocks.contains(block));
    let used = |chunk: &&[u8]| chunk.iter().any(|byte| *byte != 0);
    let new = disks[1].chunks(64 << 10).filter(is_new).count();
    let all = disks[1].chunks(64 << 10).filter(used).count();
    // Tables of inodes, the directories in a row, and what is counted.
    assert!(new * 6 < all, "{new} of {all}");
}

#[test]
fn a_disk_of_one_group_has_room_for_directories_too() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("tree");
    tree(&root, false);
    let file = scratch.path().join("disk.raw");
    make(&root, &file, 0, 64 << 20);
    check(&file);
    same(&file, &root, scratch.path());
}

/// Names of many lengths, some of them no UTF-8: the index is over their hashes, and e2fsck
/// computes these anew.
#[test]
fn a_directory_with_very_many_names_has_an_index() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("tree");
    fs::create_dir_all(root.join("files")).unwrap();
    let long = "n".repeat(200);
    for number in 0..25_000_u32 {
        let mut name = match number % 3 {
            0 => format!("{long}{number}").into_bytes(),
            1 => number.to_string().into_bytes(),
            _ => format!("fünf-{number}").into_bytes(),
        };
        if number % 1000 == 0 {
            name.push(0xff);
        }
        let name = <OsStr as OsStrExt>::from_bytes(&name);
        fs::write(root.join("files").join(name), "").unwrap();
    }
    let file = scratch.path().join("disk.raw");
    make(&root, &file, 0, 512 << 20);
    check(&file);
    // Two levels: the blocks of names are more than a block can tell.
    let index = debugfs(&file, "htree /files");
    assert!(index.contains("Indirect levels: 1"), "{}", &index[..500]);
    let found = debugfs(&file, "stat /files/1");
    assert!(found.contains("Type: regular"), "{found}");
    assert!(debugfs(&file, "stat /files").contains("Flags: 0x81000"));
}

#[test]
fn directories_beyond_what_links_can_count() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("tree");
    fs::create_dir(&root).unwrap();
    // With `lost+found`, `.` and `..` of the directory itself: one more than 65,000.
    for number in 0..64_998 {
        fs::create_dir(root.join(number.to_string())).unwrap();
    }
    let file = scratch.path().join("disk.raw");
    make(&root, &file, 0, 2 << 30);
    check(&file);
    let stat = debugfs(&file, "stat /");
    assert!(stat.contains("Links: 1 "), "{stat}");
}

#[test]
fn all_that_files_can_have() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("tree");
    tree(&root, false);
    fs::create_dir(root.join("lost+found")).unwrap();
    fs::write(root.join("lost+found/kept"), "kept").unwrap();
    let run = |program: &str, package: &str, words: &[&str]| {
        succeed(tool(program, package).args(words).current_dir(&root));
    };
    run("mkfifo", "coreutils", &["fifo"]);
    run(
        "setfattr",
        "attr",
        &["-n", "user.short", "-v", "x", "a/sparse"],
    );
    let value = "v".repeat(3000);
    run(
        "setfattr",
        "attr",
        &["-n", "user.long", "-v", &value, "a/sparse"],
    );
    run(
        "setfattr",
        "attr",
        &["-n", "user.on", "-v", "directory", "many"],
    );
    // In blocks between holes: a tree of extents.
    let holes = File::create(root.join("holes")).unwrap();
    for number in 0..3000_u64 {
        holes.write_all_at(b"x", number * 8192).unwrap();
    }
    // Nothing of a hole is read, however large it is.
    let huge = File::create(root.join("huge")).unwrap();
    huge.write_all_at(b"end", 200 << 30).unwrap();
    let deep = "d/".repeat(1200);
    let mut deep_root = root.join("deep");
    fs::create_dir(&deep_root).unwrap();
    for part in deep.split('/').filter(|part| !part.is_empty()) {
        deep_root.push(part);
        fs::create_dir(&deep_root).unwrap();
    }
    let file = scratch.path().join("disk.raw");
    make(&root, &file, 0, 1 << 30);
    check(&file);
    assert_eq!(debugfs(&file, "cat /lost+found/kept"), "kept");
    assert_eq!(debugfs(&file, "ea_get -V /a/sparse user.short"), "x");
    assert_eq!(debugfs(&file, "ea_get -V /a/sparse user.long"), value);
    assert_eq!(debugfs(&file, "ea_get -V /many user.on"), "directory");
    assert!(debugfs(&file, "stat /fifo").contains("Type: FIFO"));
    assert!(debugfs(&file, "stat /a/sparse").contains("Links: 2"));
    let huge = debugfs(&file, "stat /huge");
    assert!(
        huge.contains("Size: 214748364803") && huge.contains("Blockcount: 8"),
        "{huge}"
    );
    assert!(fs::metadata(&file).unwrap().blocks() * 512 < 64 << 20);
    let dumped = scratch.path().join("holes");
    debugfs(&file, &format!("dump /holes {}", dumped.display()));
    assert!(fs::read(dumped).unwrap() == fs::read(root.join("holes")).unwrap());
}
