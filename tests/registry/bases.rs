//! Images that start from images in registries and layouts.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::support::proxy::{Fault, Proxy};
use crate::support::registry::{Registry, RegistryOptions};
use crate::support::{Build, Ran, command_in, tool};

/// The architecture of these tests' machine as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layer as it lies in a registry.
struct Layer {
    media_type: String,
    tar: Vec<u8>,
    blob: Vec<u8>,
}

impl Layer {
    fn new(ending: &str, tar: &[u8]) -> Self {
        let blob = match ending {
            "+gzip" => gzip(tar),
            "+zstd" => zstd::encode_all(tar, 1).unwrap(),
            _ => tar.to_owned(),
        };
        Self {
            media_type: format!("application/vnd.oci.image.layer.v1.tar{ending}"),
            tar: tar.to_owned(),
            blob,
        }
    }
}

/// A tar with these files.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        archive.append_data(&mut header, name, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

/// A directory with recipes, a home, and a layout written by hand.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(bench.path("layout/blobs/sha256")).unwrap();
        fs::write(
            bench.path("layout/oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A blob in the layout, as a descriptor.
    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = sha256(bytes);
        fs::write(self.path("layout/blobs/sha256").join(&digest), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() })
    }

    /// Names one descriptor, as the only one.
    fn name(&self, tag: &str, mut descriptor: Value) {
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
        fs::write(self.path("layout/index.json"), index.to_string()).unwrap();
    }

    /// A manifest with these layers and this config, as a descriptor.
    fn manifest(&self, layers: &[Layer], config: &Value) -> Value {
        let config = self.blob(
            "application/vnd.oci.image.config.v1+json",
            config.to_string().as_bytes(),
        );
        let blobs = layers
            .iter()
            .map(|layer| self.blob(&layer.media_type, &layer.blob));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": blobs.collect::<Vec<_>>(),
        });
        self.blob(
            "application/vnd.oci.image.manifest.v1+json",
            manifest.to_string().as_bytes(),
        )
    }

    /// An image with these layers, under the tag `1`.
    fn image(&self, layers: &[Layer], settings: Value) {
        let manifest = self.manifest(layers, &config(layers, settings));
        self.name("1", manifest);
    }

    fn recipe(&self, steps: &str) {
        let text = format!("image \"test\" {{\n    from \"oci:layout:1\"\n{steps}\n}}\n");
        fs::write(self.path("test.kdl"), text).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = command_in(&self.path("home"));
        command.args(words).current_dir(self.0.path());
        command
    }

    fn run(&self, words: &[&str]) -> Ran {
        Ran::of(&mut self.command(words))
    }

    fn build(&self) -> Build {
        Build::of(&mut self.command(&["build", "test.kdl", "--json"]))
    }

    /// What is said about a base that cannot be one.
    #[track_caller]
    fn refused(&self, code: i32) -> String {
        self.recipe("");
        let said = self.run(&["build", "test.kdl"]).ends_with(code).stderr;
        // As if no line had been broken.
        said.replace("\n  │ ", " ")
    }
}

fn config(layers: &[Layer], settings: Value) -> Value {
    let diff_ids = layers
        .iter()
        .map(|layer| format!("sha256:{}", sha256(&layer.tar)));
    json!({
        "architecture": architecture(),
        "os": "linux",
        "config": settings,
        "rootfs": { "type": "layers", "diff_ids": diff_ids.collect::<Vec<_>>() },
    })
}

fn busybox() -> PathBuf {
    let path = Path::new("/bin/busybox");
    assert!(path.exists(), "install the Debian package busybox-static");
    path.to_owned()
}

/// The layers of the oracle, and a line for each file that a tree of them has.
fn oracle() -> (Vec<Layer>, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let mut python = tool("python3", "python3");
    python
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/support/oci-oracle.py"
        ))
        .arg(directory.path())
        .arg(busybox());
    let told = Ran::of(&mut python).ends_with(0).stdout;
    let endings = ["+gzip", "+zstd", "", "+gzip"];
    let layers = endings.iter().enumerate().map(|(index, ending)| {
        let tar = fs::read(directory.path().join(format!("{}.tar", index + 1))).unwrap();
        Layer::new(ending, &tar)
    });
    let mut lines: Vec<String> = told.lines().map(str::to_owned).collect();
    lines.sort();
    (layers.collect(), lines)
}

/// A line for each file below /t, as the oracle writes them.
const LISTING: &str = r##"
    run #"""
        busybox find /t | while read -r name; do
            links=- size=- content=
            kind=$(busybox stat -c %F "$name")
            case $kind in
            regular*)
                links=$(busybox stat -c %h "$name") size=$(busybox stat -c %s "$name")
                content=$(busybox sha256sum <"$name" | busybox cut -c 1-64) ;;
            symbolic*) content=$(busybox readlink "$name") ;;
            esac
            echo "$kind|$(busybox stat -c '%a|%u|%g' "$name")|$links|$size|$name|$content"
        done
        """#
    file "/boot/vmlinuz" { content "no kernel" }
"##;

#[test]
fn layers_are_put_over_each_other_as_by_an_independent_program() {
    let bench = Bench::new();
    let (layers, expected) = oracle();
    bench.image(&layers, json!({}));
    bench.recipe(LISTING);
    let built = bench.build().succeeds();
    let mut found: Vec<&str> = built.output();
    found.retain(|line| line.contains("|/t"));
    found.sort_unstable();
    assert_eq!(found, expected);
    let again = bench.build().succeeds();
    assert!(again.started().is_empty(), "{:?}", again.started());
}

#[test]
fn blobs_may_have_several_members_and_frames() {
    let bench = Bench::new();
    let sh = fs::read(busybox()).unwrap();
    let tars = [
        tar(&[("bin/busybox", &sh), ("bin/sh", &sh)]),
        tar(&[("two", b"2")]),
        tar(&[("three", b"3")]),
        Vec::new(),
    ];
    let mut layers: Vec<Layer> = tars.iter().map(|tar| Layer::new("+gzip", tar)).collect();
    let (front, back) = tars[0].split_at(1_000_001);
    layers[0].blob = [gzip(front), gzip(&[]), gzip(back)].concat();
    let frame = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    let skipped = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let (front, back) = tars[1].split_at(700);
    layers[1].blob = [
        &skipped[..],
        &frame(front),
        &skipped,
        &frame(back),
        &skipped,
    ]
    .concat();
    // What a layer is compressed with its bytes say.
    layers[2].blob = tars[2].clone();
    layers[3].blob.clear();
    bench.image(&layers, json!({}));
    bench.recipe("    check \"test $(busybox cat /two /three) = 23\"\n    file \"/boot/vmlinuz\" { content \"x\" }");
    bench.build().succeeds();
}

#[test]
fn a_layer_that_is_here_is_not_fetched_however_it_is_compressed() {
    let bench = Bench::new();
    let (mut layers, _) = oracle();
    bench.image(&layers, json!({}));
    bench.recipe("    file \"/boot/vmlinuz\" { content \"x\" }");
    bench.build().succeeds();
    for layer in &mut layers {
        layer.blob = gzip(&layer.tar);
    }
    bench.image(&layers, json!({}));
    fs::remove_dir_all(bench.path("home/cache/manifests")).unwrap();
    assert!(bench.build().succeeds().started().is_empty());
    // One more on top changes nothing below.
    layers.push(Layer::new("", &tar(&[("top", b"1")])));
    bench.image(&layers, json!({}));
    let built = bench.build().succeeds();
    let started = built.started();
    let fetched = started.iter().filter(|name| name.contains("fetch"));
    assert_eq!(fetched.count(), 1, "{started:?}");
    let offline = bench.run(&["--offline", "build", "test.kdl"]);
    offline.ends_with(0);
}

#[test]
fn the_environment_is_taken_over() {
    let bench = Bench::new();
    let sh = fs::read(busybox()).unwrap();
    let layer = Layer::new(
        "+gzip",
        &tar(&[("bin/busybox", &sh), ("bin/sh", &sh), ("usr/bin/x", b"")]),
    );
    let settings = json!({
        "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "GREETING=hello world",
            "not.a-name=1",
            "LINES=a\nb",
            "KEPT=1",
        ],
        "Labels": { "org.example.who": "me" },
        "Cmd": ["sh"],
        "User": "nobody",
        "WorkingDir": "/srv",
    });
    bench.image(&[layer], settings);
    bench.recipe(
        "    env KEPT=\"2\"\n    run #\"test \"$GREETING/$KEPT/$PWD\" = \"hello world/2//\"\"#\n    \
         check #\"test \"$(busybox cat /etc/environment | busybox sort | busybox tr '\\n' ,)\" = 'GREETING=\"hello world\",KEPT=\"2\",'\"#\n    \
         file \"/boot/vmlinuz\" { content \"x\" }",
    );
    let built = bench.build().succeeds();
    let config = bench
        .run(&["image", "inspect", built.image(), "--json"])
        .ends_with(0)
        .stdout;
    assert!(config.contains("org.example.who"), "{config}");
}

#[test]
fn a_container_alone_does_not_boot() {
    let bench = Bench::new();
    bench.image(&[Layer::new("+gzip", &tar(&[("etc/x", b"")]))], json!({}));
    let said = bench.refused(1);
    assert!(said.contains("no kernel in /boot, and no init"), "{said}");
    assert!(said.contains("systemd-sysv"), "{said}");
}

/// What is done to an image of one layer before it is written.
type Change = fn(&Bench, &mut Vec<Layer>, &mut Value);

#[test]
fn images_that_were_pushed_wrongly() {
    let changes: [(&str, i32, &[&str], Change); 9] = [
        (
            "foreign",
            4,
            &["not in the registry", "─┬─"],
            |_, layers, _| {
                layers[0].media_type =
                    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip".into();
            },
        ),
        (
            "encrypted",
            4,
            &["is encrypted", "decryption-key"],
            |_, layers, _| {
                layers[0].media_type += "+encrypted";
            },
        ),
        (
            "another tar",
            6,
            &["is not the layer that the image's config names", "sha256:"],
            |_, _, config| {
                config["rootfs"]["diff_ids"][0] = format!("sha256:{}", "a".repeat(64)).into();
            },
        ),
        (
            "more layers",
            1,
            &["its manifest has 2 layers and its config has 1"],
            |_, layers, _| {
                layers.push(Layer::new("", b"tar"));
            },
        ),
        (
            "no digest",
            1,
            &["\"md5:12\" for the layer 1"],
            |_, _, config| {
                config["rootfs"]["diff_ids"][0] = "md5:12".into();
            },
        ),
        (
            "garbage",
            1,
            &["its config is none of a container image"],
            |_, _, config| {
                *config = json!(["no", "config"]);
            },
        ),
        (
            "another machine",
            4,
            &["it is for linux/mips64, not for linux/", "─┬─"],
            |_, _, config| {
                config["architecture"] = "mips64".into();
            },
        ),
        ("xz", 6, &["is compressed with xz"], |_, layers, _| {
            layers[0].blob = b"\xfd7zXZ\0 and more".to_vec();
        }),
        (
            "half a blob",
            6,
            &["is no whole gzip data"],
            |_, layers, _| {
                let half = layers[0].blob.len() / 2;
                layers[0].blob.truncate(half);
            },
        ),
    ];
    for (name, code, words, change) in changes {
        let bench = Bench::new();
        let mut layers = vec![Layer::new("+gzip", &tar(&[("x", &[7; 5000])]))];
        let mut config = config(&layers, json!({}));
        change(&bench, &mut layers, &mut config);
        let manifest = bench.manifest(&layers, &config);
        bench.name("1", manifest);
        let said = bench.refused(code);
        for word in words {
            assert!(said.contains(word), "{name}: {said}");
        }
        let advice = said.contains("help:");
        assert!(advice, "{name}: {said}");
    }
}

#[test]
fn indexes_without_an_image_for_this_machine() {
    let bench = Bench::new();
    let layers = [Layer::new("+gzip", &tar(&[("x", b"x")]))];
    let mut manifest = bench.manifest(&layers, &config(&layers, json!({})));
    manifest["platform"] = json!({ "os": "linux", "architecture": "mips64", "variant": "r6" });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = bench.blob(media_type, index.to_string().as_bytes());
    bench.name("1", index);
    let said = bench.refused(4);
    assert!(said.contains("has no image for linux/"), "{said}");
    assert!(said.contains("linux/mips64/r6"), "{said}");
    bench.name(
        "other",
        bench.manifest(&layers, &config(&layers, json!({}))),
    );
    let said = bench.refused(4);
    assert!(said.contains("no tag \"1\""), "{said}");
}

#[test]
fn blobs_that_are_not_what_their_digest_says() {
    for (name, code, words) in [
        ("short", 6, "it has"),
        ("altered", 6, "is not what it should be"),
        ("missing", 1, "has no"),
    ] {
        let bench = Bench::new();
        let layer = Layer::new("+gzip", &tar(&[("x", b"x")]));
        let path = bench.path("layout/blobs/sha256").join(sha256(&layer.blob));
        let mut blob = layer.blob.clone();
        bench.image(&[Layer { ..layer }], json!({ "Cmd": ["x"] }));
        match name {
            "short" => blob.truncate(40),
            "altered" => blob[30] ^= 1,
            _ => {}
        }
        match name {
            "missing" => fs::remove_file(&path).unwrap(),
            _ => fs::write(&path, blob).unwrap(),
        }
        let said = bench.refused(code);
        assert!(said.contains(words), "{name}: {said}");
        assert!(said.contains("layer 1 of"), "{name}: {said}");
    }
}

#[test]
fn layers_that_lead_out_of_the_tree() {
    let entry = |name: &str, kind: tar::EntryType, target: &str| {
        let mut header = tar::Header::new_gnu();
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..name.len()].copy_from_slice(name.as_bytes());
        gnu.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        for set in [
            tar::Header::set_uid,
            tar::Header::set_gid,
            tar::Header::set_size,
            tar::Header::set_mtime,
        ] {
            set(&mut header, 0);
        }
        header.set_cksum();
        header
    };
    use tar::EntryType::{Link, Regular, Symlink};
    let out = tempfile::tempdir().unwrap();
    let outside = out.path().display().to_string();
    for (entries, words) in [
        (vec![("../evil", Regular, "")], "leads out of the layer"),
        (
            vec![("a/../../evil", Regular, "")],
            "leads out of the layer",
        ),
        (vec![(".wh...", Regular, "")], "whiteout of no file"),
        (
            vec![
                ("x/.wh..", Regular, ""),
                ("x/a", Regular, ""),
                ("x/.wh..", Regular, ""),
            ],
            "whiteout of no file",
        ),
        (
            vec![("shadow", Link, "../../../../etc/shadow")],
            "leads out of the layer",
        ),
        (
            vec![("shadow", Link, "/etc/shadow")],
            "a link to what is not there",
        ),
        (
            vec![("way", Symlink, &outside), ("way/evil", Regular, "")],
            "a link to what is not there",
        ),
        (
            vec![("file", Regular, ""), ("file/evil", Regular, "")],
            "no directory",
        ),
        (
            vec![("loop", Symlink, "loop"), ("loop/evil", Regular, "")],
            "too many links",
        ),
        (
            vec![("odd", tar::EntryType::new(b'Z'), "")],
            "entries of type",
        ),
    ] {
        let bench = Bench::new();
        let mut archive = tar::Builder::new(Vec::new());
        for (name, kind, target) in &entries {
            archive
                .append(&entry(name, *kind, target), std::io::empty())
                .unwrap();
        }
        let layer = Layer::new("", &archive.into_inner().unwrap());
        bench.image(&[layer], json!({ "Cmd": ["x"] }));
        let said = bench.refused(1);
        assert!(said.contains(words), "{entries:?}: {said}");
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "{entries:?}");
    }
}

#[test]
fn a_layer_that_is_nothing_but_zeros_ends_at_a_limit() {
    let bench = Bench::new();
    let zeros = Read::take(std::io::repeat(0), (1 << 30) + 512);
    let layer = Layer {
        media_type: "application/vnd.oci.image.layer.v1.tar+zstd".to_owned(),
        tar: Vec::new(),
        blob: zstd::encode_all(zeros, 1).unwrap(),
    };
    assert!(layer.blob.len() < 1 << 20);
    bench.image(&[layer], json!({ "Cmd": ["x"] }));
    let said = bench.refused(6);
    assert!(
        said.contains("is more than 1024 MiB when it is decompressed"),
        "{said}"
    );
    assert!(said.contains("256 times the size of its blob"), "{said}");
}

/// A raw disk with something on it.
fn disk() -> Vec<u8> {
    let mut disk = vec![0; 3 << 20];
    blake3::Hasher::new()
        .finalize_xof()
        .fill(&mut disk[70_000..700_000]);
    disk
}

impl Bench {
    /// The disk in another format.
    fn qcow2(&self, options: &str) -> Vec<u8> {
        fs::write(self.path("disk.raw"), disk()).unwrap();
        let mut convert = tool("qemu-img", "qemu-utils");
        let line = format!("convert -f raw -O qcow2 {options} disk.raw disk.qcow2");
        convert
            .args(line.split_whitespace())
            .current_dir(self.0.path());
        Ran::of(&mut convert).ends_with(0);
        fs::read(self.path("disk.qcow2")).unwrap()
    }

    /// Builds the image and gives its disk.
    fn raw(&self) -> Vec<u8> {
        self.recipe("");
        let words = ["build", "test.kdl", "--force", "--output", "out.raw"];
        self.run(&words).ends_with(0);
        fs::read(self.path("out.raw")).unwrap()
    }

    /// An artifact with these blobs, as `oras push` makes them.
    fn artifact(&self, files: &[(&str, &str, &[u8])]) {
        let layers = files.iter().map(|(title, media_type, bytes)| {
            let mut layer = self.blob(media_type, bytes);
            layer["annotations"] = json!({ "org.opencontainers.image.title": title });
            layer
        });
        let empty = "application/vnd.oci.empty.v1+json";
        let manifest = json!({
            "schemaVersion": 2,
            "artifactType": "application/vnd.example.disk",
            "config": self.blob(empty, b"{}"),
            "layers": layers.collect::<Vec<_>>(),
        });
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = self.blob(media_type, manifest.to_string().as_bytes());
        self.name("1", manifest);
    }
}

#[test]
fn a_disk_as_an_artifact() {
    let bench = Bench::new();
    let qcow2 = bench.qcow2("-c");
    let plain = "application/octet-stream";
    for (name, media_type, bytes) in [
        ("disk.qcow2", plain, qcow2.clone()),
        ("disk.raw", plain, disk()),
        ("disk.raw.gz", plain, gzip(&disk())),
        (
            "machine.raw.zst",
            "application/zstd",
            zstd::encode_all(&*disk(), 1).unwrap(),
        ),
        (
            "disk.qcow2",
            "application/vnd.oci.image.layer.v1.tar",
            qcow2,
        ),
    ] {
        bench.artifact(&[(name, media_type, &bytes)]);
        assert!(bench.raw() == disk(), "{name}");
    }
    bench.artifact(&[("a.raw", plain, b"1"), ("b.raw", plain, b"2")]);
    let said = bench.refused(4);
    assert!(said.contains("an artifact with 2 disks"), "{said}");
    bench.artifact(&[("notes.txt", "text/plain", b"1")]);
    let said = bench.refused(4);
    assert!(said.contains("application/vnd.example.disk"), "{said}");
    let split = bench.qcow2("-o data_file=data.raw,data_file_raw=on");
    bench.artifact(&[("disk.qcow2", plain, &split)]);
    let said = bench.refused(1);
    assert!(said.contains("its data is in another file"), "{said}");
}

#[test]
fn a_containerdisk() {
    let bench = Bench::new();
    let qcow2 = bench.qcow2("");
    let named = |files: &[(&str, &[u8])], ending: &str| Layer::new(ending, &tar(files));
    for ending in ["+gzip", "+zstd", ""] {
        bench.image(
            &[named(&[("disk/fedora.qcow2", &qcow2)], ending)],
            json!({}),
        );
        assert!(bench.raw() == disk(), "{ending}");
    }
    bench.image(
        &[named(
            &[("disk/a.img", &disk()), ("disk/b.img", b"b")],
            "+gzip",
        )],
        json!({}),
    );
    let said = bench.refused(1);
    assert!(
        said.contains("two disks: disk/a.img and disk/b.img"),
        "{said}"
    );
    // A tree that has such a directory too is a tree.
    bench.image(
        &[named(&[("bin/sh", b""), ("disk/a.img", b"a")], "")],
        json!({}),
    );
    let said = bench.refused(1);
    assert!(said.contains("no kernel"), "{said}");
}

impl Bench {
    /// Brings what the layout has under `1` to a registry, as `team/base:1`.
    fn push(&self, registry: &Registry) {
        let mut skopeo = tool("skopeo", "skopeo");
        let to = format!("docker://{}", registry.at("team/base:1"));
        skopeo
            .args(["copy", "--quiet", "--all", "--dest-tls-verify=false"])
            .args(["--preserve-digests", "oci:layout:1", &to])
            .current_dir(self.0.path());
        Ran::of(&mut skopeo).ends_with(0);
    }

    /// An image whose tree says which version it is, in the registry.
    fn publish(&self, registry: &Registry, version: &str) {
        let sh = fs::read(busybox()).unwrap();
        let layers = [
            Layer::new("+gzip", &tar(&[("bin/busybox", &sh), ("bin/sh", &sh)])),
            Layer::new("+gzip", &tar(&[("version", version.as_bytes())])),
        ];
        self.image(&layers, json!({ "Env": ["FROM=registry"] }));
        self.push(registry);
    }

    /// A recipe that starts from a name, and prints the version of its base.
    fn recipe_from(&self, name: &str) {
        let text = format!(
            "image \"test\" {{\n    from \"{name}\"\n    run \"echo version $(busybox cat /version) $FROM\"\n    \
             file \"/boot/vmlinuz\" {{ content \"x\" }}\n}}\n"
        );
        fs::write(self.path("test.kdl"), text).unwrap();
    }

    /// What the recipe's base is, by a build from nothing.
    #[track_caller]
    fn version(&self) -> String {
        let built = self.build().succeeds();
        let output = built.output();
        let line = output.iter().find(|line| line.starts_with("version"));
        line.map_or_else(String::new, |line| (*line).to_owned())
    }

    /// The digest of the tag's manifest, as skopeo sees it.
    fn digest(&self, registry: &Registry) -> String {
        let mut skopeo = tool("skopeo", "skopeo");
        let name = format!("docker://{}", registry.at("team/base:1"));
        skopeo.args([
            "inspect",
            "--tls-verify=false",
            "--format={{.Digest}}",
            &name,
        ]);
        Ran::of(&mut skopeo).ends_with(0).stdout.trim().to_owned()
    }
}

#[test]
fn a_tag_stands_for_one_image_until_it_is_updated() {
    let bench = Bench::new();
    let registry = Registry::start();
    bench.publish(&registry, "1");
    let first = bench.digest(&registry);
    bench.recipe_from(&format!("oci://{}", registry.at("team/base:1")));
    assert_eq!(bench.version(), "version 1 registry");
    let plan = bench.run(&["plan", "test.kdl"]).ends_with(0).stdout;
    assert!(plan.contains("layer 2 of 2 of 127.0.0.1"), "{plan}");

    // The tag moves, and nobody looks.
    bench.publish(&registry, "2");
    assert!(bench.build().succeeds().started().is_empty());

    // A lock looks, and holds.
    let locked = bench.run(&["lock", "test.kdl"]).ends_with(0);
    let second = bench.digest(&registry);
    assert_ne!(first, second);
    let lock = fs::read_to_string(bench.path("vmfab.lock")).unwrap();
    let line = format!(
        "source \"oci://{}\" checksum=\"{second}\" resolved=",
        registry.at("team/base:1")
    );
    assert!(lock.contains(&line), "{lock}");
    assert!(locked.stdout.contains("team/base:1"), "{}", locked.stdout);
    bench.run(&["lock", "--check", "test.kdl"]).ends_with(0);
    assert_eq!(bench.version(), "version 2 registry");
    bench.publish(&registry, "3");
    bench.run(&["build", "--locked", "test.kdl"]).ends_with(0);
    assert_eq!(fs::read_to_string(bench.path("vmfab.lock")).unwrap(), lock);

    // An update tells both digests.
    let dry = bench.run(&["update", "--dry-run"]).ends_with(0).stdout;
    let third = bench.digest(&registry);
    assert!(dry.contains(&format!("{second} → {third}")), "{dry}");
    bench.run(&["update", "base:1"]).ends_with(0);
    assert_eq!(bench.version(), "version 3 registry");

    // Another tag is not in the lock.
    bench.recipe_from(&registry.at("team/base"));
    let refused = bench.run(&["build", "--locked", "test.kdl"]);
    assert!(refused.stderr.contains("latest"), "{}", refused.stderr);
    let refused = bench.run(&["lock", "--check", "test.kdl"]);
    assert_ne!(refused.code, Some(0));
    assert!(
        refused.stderr.contains("is not locked"),
        "{}",
        refused.stderr
    );
}

#[test]
fn what_is_known_by_its_digest_needs_nobody() {
    let bench = Bench::new();
    let registry = Registry::start();
    bench.publish(&registry, "1");
    let digest = bench.digest(&registry);
    let address = registry.at("team/base");
    bench.recipe_from(&format!("{address}@{digest}"));
    let offline = bench.run(&["--offline", "build", "test.kdl"]);
    assert!(offline.stderr.contains("offline"), "{}", offline.stderr);
    assert_ne!(offline.code, Some(0));
    bench.run(&["plan", "test.kdl"]).ends_with(0);
    // Manifest and config are here, layers are not.
    let offline = bench.run(&["--offline", "build", "test.kdl"]).ends_with(1);
    let said = &offline.stderr;
    assert!(said.contains("2 steps need what is not here"), "{said}");
    assert!(
        said.contains("fetch layer 1 of 2") && said.contains("MiB)"),
        "{said}"
    );
    assert!(said.contains(&format!("oci://{address}@sha256:")), "{said}");
    assert_eq!(bench.version(), "version 1 registry");
    drop(registry);
    bench.recipe_from(&format!("{address}:any@{digest}"));
    assert!(bench.build().succeeds().ended("failed").is_empty());
    bench.run(&["--offline", "build", "test.kdl", "--check"]);
    bench.run(&["explain", "test.kdl"]).ends_with(0);
}

#[test]
fn registries_that_refuse() {
    let bench = Bench::new();
    let registry = Registry::start();
    bench.publish(&registry, "1");
    let said = |name: &str, code: i32| {
        bench.recipe_from(name);
        let said = bench.run(&["build", "test.kdl"]).ends_with(code).stderr;
        said.replace("\n  │ ", " ")
    };
    let unknown = said(&registry.at("team/base:none"), 4);
    assert!(unknown.contains("has no tag \"none\""), "{unknown}");
    assert!(unknown.contains("vmfab tags"), "{unknown}");
    assert!(unknown.contains("─┬─"), "{unknown}");
    let digest = format!("{}@sha256:{}", registry.at("team/base"), "0".repeat(64));
    let unknown = said(&digest, 4);
    assert!(unknown.contains("has no manifest sha256:000"), "{unknown}");
    let capital = said("ghcr.io/Me/vm", 4);
    assert!(capital.contains("capital letters"), "{capital}");
    let closed = Registry::with(&RegistryOptions {
        users: vec![("me", "secret")],
        ..RegistryOptions::default()
    });
    let denied = said(&closed.at("team/base:1"), 1);
    assert!(denied.contains("refuses access"), "{denied}");
    assert!(denied.contains("vmfab login"), "{denied}");
}

#[test]
fn a_damaged_blob_of_a_registry_is_not_built_from() {
    let bench = Bench::new();
    let registry = Registry::start();
    bench.publish(&registry, "1");
    let layer = Layer::new("+gzip", &tar(&[("version", b"1")]));
    let file = registry.blob_file(&sha256(&layer.blob));
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    bench.recipe_from(&registry.at("team/base:1"));
    let said = bench.run(&["build", "test.kdl"]).ends_with(6).stderr;
    assert!(said.contains("is not what it should be"), "{said}");
    // Nothing of it was kept.
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    assert_eq!(bench.version(), "version 1 registry");
}

#[test]
fn downloads_of_layers_are_told_of() {
    let bench = Bench::new();
    let registry = Registry::start();
    bench.publish(&registry, "1");
    bench.recipe_from(&registry.at("team/base:1"));
    let built = bench.build().succeeds();
    for kind in ["download-started", "download-finished"] {
        let mut names: Vec<&str> = built
            .events(kind)
            .map(|event| event["name"].as_str().unwrap())
            .collect();
        names.sort_unstable();
        let expected =
            [1, 2].map(|number| format!("layer {number} of {}", registry.at("team/base:1")));
        assert_eq!(names, expected, "{kind}");
    }
    let downloads = bench.path("home/cache/downloads");
    assert_eq!(fs::read_dir(downloads).unwrap().count(), 0);
}

#[test]
fn a_layer_goes_on_after_a_cut_and_in_the_next_run() {
    let bench = Bench::new();
    let registry = Registry::start();
    bench.publish(&registry, "1");
    let proxy = Proxy::start(registry.port());
    bench.recipe_from(&proxy.at("team/base:1"));
    fs::write(bench.path("config.kdl"), "downloads retries=0\n").unwrap();
    let sh = fs::read(busybox()).unwrap();
    let layer = Layer::new("+gzip", &tar(&[("bin/busybox", &sh), ("bin/sh", &sh)]));
    let digest = sha256(&layer.blob);
    proxy.next("GET", &digest, Fault::Cut(700_000));
    let mut command = bench.command(&["build", "test.kdl"]);
    let said = Ran::of(command.env("VMFAB_CONFIG", bench.path("config.kdl")))
        .ends_with(1)
        .stderr;
    assert!(said.contains("layer 1 of 2"), "{said}");
    proxy.next("GET", &digest, Fault::Cut(400_000));
    assert_eq!(bench.version(), "version 1 registry");
    let seen = proxy.seen();
    let ranges: Vec<&str> = seen
        .iter()
        .filter(|seen| seen.path.contains(&digest) && seen.method == "GET")
        .map(|seen| seen.header("range"))
        // The look at the beginning is another thing.
        .filter(|range| !range.starts_with("bytes=0-"))
        .collect();
    let [first, second, third] = ranges.as_slice() else {
        panic!("{ranges:?}");
    };
    assert_eq!(*first, "");
    let start = |range: &str| {
        let digits = range
            .trim_start_matches("bytes=")
            .split('-')
            .next()
            .unwrap()
            .to_owned();
        digits
            .parse::<usize>()
            .unwrap_or_else(|error| panic!("{range}: {error}"))
    };
    assert!(start(second) > 0 && start(second) <= 700_000, "{ranges:?}");
    assert!(start(third) > start(second), "{ranges:?}");
}
