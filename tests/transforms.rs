//! Content from outside on its way to a disk: the program builds recipes with what other programs
//! wrote, in all the ways that need a worker. What is fetched is in the store already.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use vmfab::derivation::{Graph, Step, action_key, step};
use vmfab::store::{ActionResult, Store};

use super::disk::{succeed, tool};
use super::support::{Ran, command_in};

struct Bench {
    directory: tempfile::TempDir,
}

/// Size of the disk that all formats hold. No cylinder ends there.
const SIZE: u64 = (12 << 20) + 512;

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bench = Self { directory };
        let disk = fs::File::create(bench.path("disk.raw")).unwrap();
        disk.set_len(SIZE).unwrap();
        let mut noise = vec![0; 700_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        disk.write_all_at(&[0x55, 0xaa], 510).unwrap();
        disk.write_all_at(&noise, 70_000).unwrap();
        disk.write_all_at(b"the last bytes", SIZE - 14).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn raw(&self) -> Vec<u8> {
        fs::read(self.path("disk.raw")).unwrap()
    }

    fn run(&self, program: &str, package: &str, line: &str) {
        let mut command = tool(program, package);
        succeed(
            command
                .args(line.split(' '))
                .current_dir(self.directory.path()),
        );
    }

    /// The disk in another format.
    fn convert(&self, options: &str, name: &str) {
        let line = format!("convert -f raw {options} disk.raw {name}");
        self.run("qemu-img", "qemu-utils", &line);
    }

    /// Builds an image with `content`, and gives its disk.
    fn build(&self, content: &str) -> Result<Vec<u8>, Ran> {
        fs::write(
            self.path("test.kdl"),
            format!("image \"test\" {{\n{content}\n}}\n"),
        )
        .unwrap();
        let mut command = command_in(&self.path("home"));
        command
            .args(["build", "test.kdl", "--force", "--output", "out.raw"])
            .current_dir(self.directory.path());
        let ran = Ran::of(&mut command);
        match ran.code {
            Some(0) => Ok(fs::read(self.path("out.raw")).unwrap()),
            _ => Err(ran),
        }
    }

    /// What is said about content that cannot be built.
    #[track_caller]
    fn refused(&self, content: &str) -> String {
        match self.build(content) {
            Ok(_) => panic!("built: {content}"),
            Err(ran) => ran.ends_with(1).stderr,
        }
    }

    /// A node that fetches a file, which the store has.
    fn fetched(&self, name: &str) -> String {
        let content = fs::read(self.path(name)).unwrap();
        let checksum = blake3::hash(&content).to_hex().to_string();
        let step = Step::Fetch(step::Fetch {
            checksum: format!("blake3:{checksum}").parse().unwrap(),
        });
        let mut graph = Graph::default();
        let node = graph.add_step(String::new(), &step, Vec::new()).unwrap();
        let store = Store::open(self.path("home/store")).unwrap();
        let blob = store.put_bytes(&content).unwrap();
        let outputs = BTreeMap::from([("blob".to_owned(), blob)]);
        let key = action_key(graph.get(node), &[]);
        store.put_action(&key, ActionResult { outputs }).unwrap();
        format!("fetch \"https://example.org/{name}\" blake3=\"{checksum}\"")
    }
}

#[test]
fn disks_of_every_format() {
    let bench = Bench::new();
    let raw = bench.raw();
    for (options, name) in [
        ("-O qcow2", "plain.qcow2"),
        ("-c -O qcow2 -o compression_type=zstd", "zstd.qcow2"),
        ("-O qcow2 -o compat=0.10", "old.qcow2"),
        ("-O vmdk -o subformat=monolithicSparse", "sparse.vmdk"),
        ("-O vmdk -o subformat=streamOptimized", "stream.vmdk"),
        ("-O vpc -o subformat=fixed,force_size=on", "fixed.vhd"),
        ("-O vpc -o subformat=dynamic,force_size=on", "dynamic.vhd"),
        ("-O vpc -o subformat=dynamic", "cylinders.vhd"),
        ("-O vhdx", "dynamic.vhdx"),
        ("-O vhdx -o subformat=fixed", "fixed.vhdx"),
        ("-O vdi", "dynamic.vdi"),
        ("-O vdi -o static=on", "fixed.vdi"),
        ("-O qed", "disk.qed"),
        ("-O qcow", "disk.qcow"),
        ("-O parallels", "disk.hds"),
        ("-O qcow2 -o extended_l2=on", "extended.qcow2"),
        ("-c -O qcow2 -o extended_l2=on", "both.qcow2"),
        ("-O qcow2 -o lazy_refcounts=on", "lazy.qcow2"),
        (
            "-O qcow2 -o preallocation=metadata,cluster_size=2M",
            "full.qcow2",
        ),
        ("-O qcow2 -o cluster_size=512", "small.qcow2"),
    ] {
        bench.convert(options, name);
        let built = bench.build(&format!("    from \"./{name}\""));
        let built = built.unwrap_or_else(|ran| panic!("{name}: {ran:#?}"));
        assert!(built.starts_with(&raw), "{name}");
        let rest = &built[raw.len()..];
        // qemu-img rounds up: VHDs and Parallels' to whole cylinders or blocks, VHDXs to whole MiB.
        let rounded = ["cylinders.vhd", "disk.hds"].contains(&name) || name.ends_with(".vhdx");
        assert!(rounded || rest.is_empty(), "{name}: {} more", rest.len());
        assert!(rest.iter().all(|byte| *byte == 0), "{name}");
    }
}

/// qemu-img leaves the end of a cluster away of which only the first subclusters were written.
#[test]
fn a_qcow2_of_which_only_subclusters_were_written() {
    let bench = Bench::new();
    let create = "create -f qcow2 -o extended_l2=on,cluster_size=128k part.qcow2 1M";
    bench.run("qemu-img", "qemu-utils", create);
    for write in [
        "write -P 7 132k 1k",
        "write -z 256k 64k",
        "write -P 0xaa 511 1",
    ] {
        let mut command = tool("qemu-io", "qemu-utils");
        let command = command.args(["-c", write, "part.qcow2"]);
        succeed(command.current_dir(bench.directory.path()));
    }
    let built = bench.build("    from \"./part.qcow2\"");
    let built = built.unwrap_or_else(|ran| panic!("{ran:#?}"));
    assert!(built[132 << 10..133 << 10].iter().all(|byte| *byte == 7));
    assert_eq!(built.iter().filter(|byte| **byte != 0).count(), 1024 + 1);
}

#[test]
fn what_is_no_disk_is_refused_by_name() {
    let bench = Bench::new();
    bench.run("gzip", "gzip", "-k disk.raw");
    let mut gz = fs::read(bench.path("disk.raw.gz")).unwrap();
    gz.resize(gz.len().next_multiple_of(512), 0);
    fs::write(bench.path("disk.raw.gz"), &gz).unwrap();
    bench.run("tar", "tar", "-cf disk.ova disk.raw");
    bench.run("zip", "zip", "-q disk.img disk.raw");
    fs::write(bench.path("blank.img"), [0; 4096]).unwrap();
    for (name, message, help) in [
        (
            "disk.raw.gz",
            "it is gz data, not a disk",
            "decompress it first",
        ),
        (
            "disk.ova",
            "it is a tar archive, not a disk",
            "extract the disk first",
        ),
        (
            "disk.img",
            "it is a zip archive, not a disk",
            "extract the disk first",
        ),
        (
            "blank.img",
            "it does not look like a disk",
            "format=\"raw\"",
        ),
    ] {
        let from = format!("    from \"./{name}\"");
        let Err(ran) = bench.build(&from) else {
            panic!("{name} became a disk");
        };
        let stderr = ran.ends_with(4).stderr;
        assert!(
            stderr.contains(message) && stderr.contains(help),
            "{name}: {stderr}"
        );
        let fetched = format!("    disk {{ {}; rename \"x\" }}", bench.fetched(name));
        let stderr = bench.refused(&fetched);
        assert!(stderr.contains(message), "{name}: {stderr}");
    }
    // The recipe says that it is one.
    for content in [
        "    from \"./blank.img\" format=\"raw\"".to_owned(),
        format!(
            "    disk {{ {}; convert from=\"raw\" }}",
            bench.fetched("blank.img")
        ),
    ] {
        let built = bench.build(&content);
        let built = built.unwrap_or_else(|ran| panic!("{content}: {ran:#?}"));
        assert_eq!(built, [0; 4096]);
    }
}

#[test]
fn disks_that_are_not_the_whole_disk() {
    let bench = Bench::new();
    bench.run(
        "qemu-img",
        "qemu-utils",
        "create -f qcow2 -F raw -b disk.raw backed.qcow2",
    );
    bench.convert("-O qcow2 -o data_file=data.raw", "split.qcow2");
    bench.convert("-O vmdk -o subformat=twoGbMaxExtentFlat", "text.vmdk");
    for (name, message) in [
        ("backed.qcow2", "its backing file is \"disk.raw\""),
        ("split.qcow2", "its data is in another file"),
        (
            "text.vmdk",
            "it is a text that names the files of its parts",
        ),
    ] {
        let stderr = bench.refused(&format!("    from \"./{name}\""));
        assert!(stderr.contains(message), "{name}: {stderr}");
    }
}

/// Its compressed parts are together many times as large as the file.
#[test]
fn disks_that_compress_well() {
    let bench = Bench::new();
    let mut raw = b"some text that compresses\n".repeat(1 << 20);
    raw.resize(32 << 20, 0);
    raw[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(bench.path("disk.raw"), &raw).unwrap();
    for (options, name) in [
        ("-O vmdk -o subformat=streamOptimized", "stream.vmdk"),
        ("-c -O qcow2", "compressed.qcow2"),
    ] {
        bench.convert(options, name);
    }
    // As VMware writes it, to a pipe: the place of the tables is in a second header, behind them
    // (VMDK 5.0, "Stream-Optimized").
    let mut stream = fs::read(bench.path("stream.vmdk")).unwrap();
    let header = stream[..512].to_vec();
    stream[56..64].fill(0xff);
    let mut marker = [0; 512];
    (marker[0], marker[12]) = (1, 3);
    stream.extend(marker);
    stream.extend(header);
    stream.extend([0; 512]);
    fs::write(bench.path("piped.vmdk"), stream).unwrap();
    for name in ["stream.vmdk", "piped.vmdk", "compressed.qcow2"] {
        let built = bench.build(&format!("    from \"./{name}\""));
        let built = built.unwrap_or_else(|ran| panic!("{name}: {ran:#?}"));
        assert!(built == raw, "{name}");
    }
    let piped = fs::read(bench.path("piped.vmdk")).unwrap();
    fs::write(bench.path("piped.vmdk"), &piped[..piped.len() - 1024]).unwrap();
    let stderr = bench.refused("    from \"./piped.vmdk\"");
    assert!(stderr.contains("it ends before its footer"), "{stderr}");
}

#[test]
fn disks_that_end_early() {
    let bench = Bench::new();
    for (options, name) in [
        ("-O qcow2", "short.qcow2"),
        ("-c -O qcow2", "compressed.qcow2"),
        ("-O vmdk -o subformat=monolithicSparse", "sparse.vmdk"),
        ("-O vmdk -o subformat=streamOptimized", "stream.vmdk"),
        ("-O vhdx", "short.vhdx"),
        ("-O vdi", "short.vdi"),
        ("-O qed", "short.qed"),
        ("-O qcow", "short.qcow"),
        ("-O parallels", "short.hds"),
        ("-O qcow2 -o extended_l2=on", "extended.qcow2"),
    ] {
        bench.convert(options, name);
        let whole = fs::read(bench.path(name)).unwrap();
        // These have all of their last block, of which the disk has not all.
        let cut = if ["short.vdi", "short.hds"].contains(&name) {
            2 << 20
        } else {
            70_000
        };
        for length in [whole.len() - cut, whole.len() / 2, whole.len() / 20] {
            fs::write(bench.path(name), &whole[..length]).unwrap();
            bench.refused(&format!("    from \"./{name}\""));
        }
    }
}

#[test]
fn fetched_disks_are_unwrapped() {
    let bench = Bench::new();
    let raw = bench.raw();
    bench.convert("-O qcow2", "disk.qcow2");
    bench.convert("-O vpc -o subformat=fixed,force_size=on", "disk.vhd");
    bench.run("xz", "xz-utils", "-k -1 disk.qcow2");
    bench.run("zip", "zip", "-q disk.zip disk.vhd");
    bench.run("tar", "tar", "-czSf disk.tar.gz ./disk.raw");
    for (file, transforms) in [
        ("disk.qcow2.xz", "decompress; convert from=\"qcow2\""),
        ("disk.qcow2.xz", "decompress \"xz\""),
        ("disk.vhd", "strip-vhd-footer"),
        (
            "disk.zip",
            "extract \"disk.vhd\"; rename \"x\"; strip-vhd-footer",
        ),
        ("disk.tar.gz", "extract \"disk.raw\""),
    ] {
        let content = format!("    disk {{ {}; {transforms} }}", bench.fetched(file));
        let built = bench.build(&content);
        let built = built.unwrap_or_else(|ran| panic!("{content}: {ran:#?}"));
        assert!(built == raw, "{content}");
    }
    let larger = format!(
        "    disk size=\"64M\" {{ {}; decompress }}",
        bench.fetched("disk.qcow2.xz")
    );
    let built = bench
        .build(&larger)
        .unwrap_or_else(|ran| panic!("{ran:#?}"));
    assert!(built.len() == 64 << 20 && built.starts_with(&raw));
    let wrong = format!(
        "    disk {{ {}; decompress \"gz\" }}",
        bench.fetched("disk.qcow2.xz")
    );
    let stderr = bench.refused(&wrong);
    assert!(
        stderr.contains("it is not gz data: it looks like xz data"),
        "{stderr}"
    );
}

#[test]
fn archives_are_layers() {
    let bench = Bench::new();
    let tree = bench.path("tree");
    for directory in ["boot", "etc", "usr/bin", "dev"] {
        fs::create_dir_all(tree.join(directory)).unwrap();
    }
    fs::write(tree.join("boot/vmlinuz-1"), "kernel").unwrap();
    fs::write(tree.join("usr/bin/tool"), "tool").unwrap();
    fs::hard_link(tree.join("usr/bin/tool"), tree.join("usr/bin/again")).unwrap();
    std::os::unix::fs::symlink("usr/bin", tree.join("bin")).unwrap();
    bench.run("tar", "tar", "--owner=1000:1000 -cJf root.tar.xz -C tree .");
    let content = format!(
        "    layer {{ {}; unpack }}\n    disk size=\"64M\"",
        bench.fetched("root.tar.xz")
    );
    let built = bench.build(&content);
    built.unwrap_or_else(|ran| panic!("{ran:#?}"));
    let debugfs = |request: &str| {
        let mut command = tool("debugfs", "e2fsprogs");
        Ran::of(command.args(["-R", request]).arg(bench.path("out.raw"))).stdout
    };
    assert_eq!(debugfs("cat /usr/bin/again"), "tool");
    let stat = debugfs("stat /usr/bin/tool");
    assert!(
        stat.contains("User:  1000") && stat.contains("Links: 2"),
        "{stat}"
    );
    assert!(debugfs("stat /bin").contains("Fast link dest: \"usr/bin\""));

    for (name, line, message) in [
        (
            "up.tar",
            "-cPf up.tar tree/../disk.raw",
            "the path leads out of the layer",
        ),
        (
            "abs.tar",
            "-cPf abs.tar /etc/hostname",
            "the path leads out of the layer",
        ),
    ] {
        bench.run("tar", "tar", line);
        let content = format!(
            "    layer {{ {}; unpack }}\n    disk size=\"64M\"",
            bench.fetched(name)
        );
        let stderr = bench.refused(&content);
        assert!(stderr.contains(message), "{name}: {stderr}");
    }
}
