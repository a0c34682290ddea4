//! What is in a tree is in the image, whatever it is called and whatever is cached.

use std::fs;

use serde_json::json;
use vmfab::tarball::{Kind, Member, Writer};

use super::{Bench, Layer, busybox};
use crate::support::{Build, Ran, tool};

/// A file capability with a byte that ends lines.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\0\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Names that mean something elsewhere, odd links, and all that a directory can have done to it.
const STEPS: [&str; 5] = [
    r#"    copy "./src" "/srv""#,
    r##"    run #"""
        ln -s foo//bar/ /srv/one; ln -s / /srv/two; ln -s a/./b /srv/three
        rm -r /srv/replaced; mkdir /srv/replaced; : >/srv/replaced/.wh..wh..opq
        rm /srv/gone$(printf '\377')
        touch -d '1960-01-01 00:00:00' /srv/old
        truncate -s 200G /srv/void
        """#"##,
    r##"    run "rm /srv/.wh.gone; ln /srv/data /srv/again; chmod 2750 /srv/replaced""##,
    r#"    layer { fetch "file://FILES" sha256="SUM" }"#,
    r##"    run #"test -e /srv/data && test ! -e /srv/gone$(printf '\377') && test ! -e /srv/replaced/x"#
    file "/boot/vmlinuz" { content "no kernel" }"##,
];

fn member(path: &[u8], kind: Kind, mode: u32) -> Member {
    Member {
        path: path.to_vec(),
        kind,
        mode,
        ..Member::default()
    }
}

fn layer() -> Vec<u8> {
    let mut tar = Writer::new(Vec::new());
    let program = fs::read(busybox()).unwrap();
    let mut shell = member(b"bin/busybox", Kind::File, 0o755);
    shell.size = program.len() as u64;
    tar.add_file(&shell, &mut &program[..]).unwrap();
    for applet in [
        "sh", "ln", "rm", "mkdir", "touch", "truncate", "chmod", "printf", "test",
    ] {
        let mut link = member(format!("bin/{applet}").as_bytes(), Kind::Symlink, 0o777);
        link.link = b"busybox".to_vec();
        tar.add(&link).unwrap();
    }
    let mut capable = member(b"usr/lib/capable", Kind::File, 0o755);
    capable.attributes = vec![(b"security.capability".to_vec(), CAPABILITY.to_vec())];
    tar.add(&capable).unwrap();
    let mut lib = member(b"lib", Kind::Symlink, 0o777);
    lib.link = b"usr/lib".to_vec();
    tar.add(&lib).unwrap();
    tar.add(&member(b"tmp", Kind::Directory, 0o1777)).unwrap();
    tar.add(&member(b"root", Kind::Directory, 0o700)).unwrap();
    for path in [&b"srv/gone\xff"[..], b"srv/replaced/x"] {
        tar.add(&member(path, Kind::File, 0o644)).unwrap();
    }
    tar.finish().unwrap()
}

/// Files with holes in them, and a directory in the place of a link.
fn files() -> Vec<u8> {
    let mut tar = Writer::new(Vec::new());
    tar.add(&member(b"lib", Kind::Directory, 0o755)).unwrap();
    let mut module = member(b"lib/modules/x.ko", Kind::File, 0o644);
    module.size = 3;
    tar.add_file(&module, &mut &b"ko\n"[..]).unwrap();
    for path in [&b"tmp/.wh.x"[..], b"root/x"] {
        tar.add(&member(path, Kind::File, 0o644)).unwrap();
    }
    let mut void = member(b"srv/large", Kind::File, 0o644);
    (void.size, void.data) = (6 << 30, Some(Vec::from_iter(std::iter::once(4096..8192))));
    tar.add_file(&void, &mut &[7; 4096][..]).unwrap();
    tar.finish().unwrap()
}

#[test]
fn an_image_does_not_depend_on_what_is_cached() {
    let bench = Bench::new();
    bench.image(&[Layer::new("", &layer())], json!({}));
    fs::create_dir_all(bench.path("src")).unwrap();
    for name in ["data", ".wh.data", ".wh.gone", ".wh..wh..opq"] {
        fs::write(bench.path("src").join(name), name).unwrap();
    }
    fs::write(bench.path("files.tar"), files()).unwrap();
    let sum = super::sha256(&files());
    let steps = STEPS.map(|step| {
        step.replace("FILES", bench.path("files.tar").to_str().unwrap())
            .replace("SUM", &sum)
    });
    let build = |count: usize, home: &str| {
        bench.recipe(&format!(
            "{}\n    disk size=\"64M\"",
            steps[..count].join("\n")
        ));
        let words = ["build", "test.kdl", "--json", "-o", "out.raw", "--force"];
        let mut command = bench.command(&words);
        command.env("VMFAB_HOME", bench.path(home));
        Build::of(&mut command).succeeds().image().to_owned()
    };
    let image = build(steps.len(), "home");
    for count in 1..steps.len() {
        let kernel = "    file \"/boot/vmlinuz\" { content \"no kernel\" }";
        bench.recipe(&format!(
            "{}\n{kernel}\n    disk size=\"64M\"",
            steps[..count].join("\n")
        ));
        let mut command = bench.command(&["build", "test.kdl"]);
        command.env("VMFAB_HOME", bench.path("other"));
        Ran::of(&mut command).ends_with(0);
        // As the first build after a start of the host finds it.
        fs::remove_dir_all(bench.path("other/cache/layers")).unwrap();
    }
    assert_eq!(build(steps.len(), "other"), image);

    let debugfs = |request: &str| {
        let mut command = tool("debugfs", "e2fsprogs");
        Ran::of(command.args(["-R", request]).arg(bench.path("out.raw"))).stdout
    };
    for name in ["data", ".wh.data", ".wh..wh..opq"] {
        assert_eq!(debugfs(&format!("cat /srv/{name}")), name);
    }
    let names = debugfs("ls -p /srv");
    assert!(
        !names.contains("gone") && names.contains("/again/"),
        "{names}"
    );
    assert!(debugfs("ls -p /srv/replaced").contains("/.wh..wh..opq/"));
    for (link, target) in [("one", "foo//bar/"), ("two", "/"), ("three", "a/./b")] {
        let stat = debugfs(&format!("stat /srv/{link}"));
        assert!(stat.contains(&format!("link dest: \"{target}\"")), "{stat}");
    }
    let capability = debugfs("ea_get -x /usr/lib/capable security.capability");
    assert!(capability.contains("00 00 0a 00"), "{capability}");
    for (path, mode) in [
        ("tmp", "01777"),
        ("root", "0700"),
        ("srv/replaced", "02750"),
    ] {
        let stat = debugfs(&format!("stat /{path}"));
        assert!(stat.contains(&format!("Mode:  {mode}")), "{stat}");
    }
    assert!(debugfs("stat /lib").contains("link dest: \"usr/lib\""));
    assert_eq!(debugfs("cat /usr/lib/modules/x.ko"), "ko\n");
    assert!(debugfs("stat /tmp/.wh.x").contains("regular"));
    for (path, size) in [("void", 200_u64 << 30), ("large", 6 << 30)] {
        let stat = debugfs(&format!("stat /srv/{path}"));
        assert!(stat.contains(&format!("Size: {size}")), "{stat}");
    }
    let old = debugfs("stat /srv/old");
    assert!(old.contains("1960"), "{old}");
}
