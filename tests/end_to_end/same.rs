//! The same steps on a tree and on a disk: the file systems are the same. They are read by a
//! library that neither mke2fs nor the guest's kernel shares code with.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use ext4_view::{Ext4, Path as Inside, PathBuf as InsideBuf};

use sha2::Digest as _;
use vmfab::tarball::{Kind, Member, Writer};

use super::super::support::{Lab, Machine, Ran, Recipes, tool};

/// Every node that changes files, with every option. The scripts make what the nodes after them
/// meet.
const STEPS: &str = r##"
    hostname "same"
    run #"""
        mkdir -p /srv/old/sub
        chmod 0750 /srv/old /srv/old/sub
        chown 7:9 /srv/old /srv/old/sub
        mkdir -m 2770 /srv/group
        chgrp adm /srv/group
        ln -s old /srv/link
        ln -s old /srv/dirlink
        mkfifo /srv/pipe
        mkfifo /srv/old/key
        echo one > /srv/hard
        ln /srv/hard /srv/hard2
        umask > /srv/umask
        """#
    run workdir="/srv/made/for run" shell="/bin/bash" "pwd > where; echo \"$A $B\" >> where" {
        env A="a" B="it's \"b\""
    }
    env GREETING="hello there" EDITOR="vim"
    run "echo \"$GREETING\" > /srv/greeting"
    env EDITOR="nano"

    file "/srv/inline" { content "inline\n" }
    file "/srv/empty" { content "" }
    file "/srv/group/inherits-nothing" { content "x" }
    file "/srv/deep/er/private" mode="0640" owner="vm" { content "private" }
    file "/srv/special" mode="6711" owner="root:adm" { content "special" }
    file "/srv/numbers" owner="60000:60001" { content "numbers" }
    file "/srv/number" owner="60000" { content "number" }
    file "/srv/pipe" { content "no pipe" }
    file "/srv/hard" { content "two" }
    file "/srv/dirlink" { content "no link" }
    file "/srv/it's a \"name\"" { content "quoted" }
    file "/srv/local" source="./files/key"
    file "/srv/explicit" source="./files/key" mode="0604" owner="vm:adm"
    file "/srv/group/local" source="./files/tool"

    copy "./files" "/srv/copied"
    copy "./files" "/srv/new/owned" owner="vm" mode="0640"
    copy "./files" "/srv/old" owner="daemon"
    copy "./files/tool" "/srv/link/"
    copy "./files/tool" "/srv/fresh/bin/" owner="7:9" mode="0711"
    copy "./files/sub" "/srv/group/sub"

    user "deploy" uid=2000 groups="adm staff2" sudo=#true shell="/bin/sh" \
            password-hash="$6$c2FsdA$Zm9vYmFyYmF6" {
        authorized-keys "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE me@home"
    }
    user "vm" groups="adm"
    copy "./files" "/home/deploy/files" owner="deploy"
    service "apt-daily.timer" enable=#false
    service "ssh" enable=#true

    file "/srv/far" owner="1885580785:1000660000" { content "far" }
    copy "./files" "/srv/far-files" owner="1000660000"
    user "ldap" uid=1885580785
    run #"""
        mkdir -p -m 0700 /srv/strict/open /srv/usr/lib
        ln -s usr/lib /srv/lib
        """#
    layer {
        fetch "file://OVER" sha256="SUM"
    }
"##;

/// What the layer says of files, to be found by `debugfs`.
const WITH_ATTRIBUTES: [&str; 4] = [
    "/srv/attributes",
    "/srv/strict",
    "/srv/usr/lib/capable",
    "/srv/latin",
];

/// An archive over what the steps made: directories that are there, through links, with all kinds
/// of attributes.
fn over() -> Vec<u8> {
    let member = |path: &str, kind, mode, attributes: &[(&[u8], &[u8])]| Member {
        path: path.into(),
        kind,
        mode,
        uid: 1_000_660_000,
        gid: 1_000_660_001,
        attributes: attributes
            .iter()
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect(),
        ..Member::default()
    };
    let acl = [
        [2, 0, 0, 0].as_slice(),
        &[1, 0, 6, 0, 255, 255, 255, 255],
        &[2, 0, 4, 0, 0x10, 0x27, 0, 0],
        &[4, 0, 4, 0, 255, 255, 255, 255],
        &[0x10, 0, 4, 0, 255, 255, 255, 255],
        &[0x20, 0, 0, 0, 255, 255, 255, 255],
    ]
    .concat();
    let acl = (&b"system.posix_acl_access"[..], &acl[..]);
    // cap_sys_rawio and cap_sys_ptrace: a newline is in it.
    let capability = [1, 0, 0, 2, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let capability = (&b"security.capability"[..], &capability[..]);
    let mut tar = Writer::new(Vec::new());
    let add = |tar: &mut Writer<Vec<u8>>, member: Member| tar.add(&member).unwrap();
    add(
        &mut tar,
        member(
            "srv/strict",
            Kind::Directory,
            0o2640,
            &[acl, (b"user.a", b"1")],
        ),
    );
    add(&mut tar, member("srv/strict/in", Kind::File, 0o600, &[]));
    add(
        &mut tar,
        member("srv/strict/open/in", Kind::File, 0o600, &[]),
    );
    add(&mut tar, member("srv/lib", Kind::Directory, 0o700, &[]));
    add(
        &mut tar,
        member("srv/lib/capable", Kind::File, 0o755, &[capability]),
    );
    let texts: [(&[u8], &[u8]); 3] = [
        (b"user.note", b"a\nb"),
        (b"user.=%=", b"\0"),
        (b"trusted.none", b"x"),
    ];
    add(
        &mut tar,
        member(
            "srv/attributes",
            Kind::File,
            0o640,
            &[acl, texts[0], texts[1], texts[2]],
        ),
    );
    add(
        &mut tar,
        member(
            "srv/latin",
            Kind::File,
            0o640,
            &[(b"user.latin-\xe4", b"1")],
        ),
    );
    for name in ["srv/.wh.hard", "srv/.wh..wh..opq", "srv/old/.wh.sub"] {
        add(&mut tar, member(name, Kind::File, 0o644, &[]));
    }
    tar.finish().unwrap()
}

/// What a boot changes, or what the end of steps in a machine removes: paths and all that is below.
const OF_THE_MACHINE: [&str; 9] = [
    "/lost+found",
    "/root/.ssh",
    "/var/log",
    "/var/cache",
    "/var/lib/systemd",
    "/var/lib/private",
    "/var/tmp",
    "/tmp",
    "/run",
];

/// Files of the recipe, whose times are promised.
const PROMISED: [&str; 9] = [
    "/srv/inline",
    "/srv/empty",
    "/srv/deep/er/private",
    "/srv/local",
    "/srv/pipe",
    "/srv/copied/tool",
    "/srv/new/owned/key",
    "/srv/old/key",
    "/srv/group/sub/tool",
];

/// A directory of files with odd modes and names.
fn write_files(root: &Path) {
    let write = |name: &OsStr, content: &str, mode: u32| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("key".as_ref(), "a key", 0o600);
    write("tool".as_ref(), "#!/bin/sh\n", 0o4755);
    write("sub/tool".as_ref(), "another", 0o751);
    for name in [
        "a b",
        "new\nline",
        "back\\slash",
        "ümlaut",
        "-dash",
        "'\"$`",
        "*",
    ] {
        write(name.as_ref(), name, 0o644);
    }
    write(OsStr::from_bytes(b"latin-\xe4"), "latin", 0o644);
    write(".wh.tool".as_ref(), "no whiteout", 0o644);
    let long = ["n".repeat(90), "m".repeat(90), "o".repeat(200)].join("/");
    write(long.as_ref(), "long", 0o644);
    for (name, target) in [
        ("link", "sub//tool"),
        ("dot", "./sub/./tool"),
        ("root", "/"),
        ("nowhere", "no where"),
        ("long-link", &"x/".repeat(100)),
    ] {
        symlink(target, root.join(name)).unwrap();
    }
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("sub", 0o2750);
    mode("", 0o1775);
}

/// A line for each file: type, mode, owner, size, content or target, and the time when it is
/// promised.
fn listing(disk: &Path) -> BTreeMap<String, String> {
    let ext4 = Ext4::load_from_path(disk).unwrap();
    let mut lines = BTreeMap::new();
    for path in WITH_ATTRIBUTES {
        let mut debugfs = tool("debugfs", "e2fsprogs");
        let debugfs = debugfs.args(["-R", &format!("ea_list {path}")]).arg(disk);
        let said = Ran::of(debugfs).ends_with(0).stdout;
        let mut said: Vec<&str> = said.lines().collect();
        said.sort_unstable();
        lines.insert(format!("{path} attributes"), said.join("; "));
    }
    let mut pending = vec![InsideBuf::new(b"/")];
    while let Some(directory) = pending.pop() {
        for entry in ext4.read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            let name: &[u8] = name.as_ref();
            let path = directory.join(name);
            let shown = path.display().to_string();
            if name == b"." || name == b".." || OF_THE_MACHINE.contains(&shown.as_str()) {
                continue;
            }
            let meta = ext4.symlink_metadata(&path).unwrap();
            let kind = meta.file_type();
            let mut line = format!("{kind:?} {:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
            if kind.is_symlink() {
                line += &format!(" -> {}", ext4.read_link(&path).unwrap().display());
            } else if kind.is_regular_file() {
                line += &format!(" {} bytes", meta.len());
                // The rest is of packages, and no step writes there.
                if ["/srv/", "/etc/", "/home/", "/root/"]
                    .iter()
                    .any(|top| shown.starts_with(top))
                {
                    let content = ext4.read(Inside::new(&path)).unwrap();
                    line += &format!(" {}", blake3::hash(&content).to_hex());
                }
            }
            if PROMISED.contains(&shown.as_str()) {
                line += &format!(" of {:?}", meta.modified());
            }
            if kind.is_dir() {
                pending.push(path);
            }
            lines.insert(shown, line);
        }
    }
    lines
}

#[test]
fn a_tree_and_a_disk_are_the_same_after_the_same_steps() {
    let recipes = Recipes::new();
    write_files(&recipes.path("files"));
    let over = over();
    let sum = sha2::Sha256::digest(&over);
    let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    let path = recipes.path("over.tar");
    let steps = STEPS.replace("OVER", path.to_str().unwrap());
    let steps = steps.replace("SUM", &sum);
    fs::write(path, over).unwrap();
    let output = |name: &str| {
        let raw = recipes.path(&format!("{name}.raw"));
        recipes
            .build_with(name, ["--output", raw.to_str().unwrap()])
            .succeeds();
        raw
    };
    recipes.image_from_tag("same-base", "");
    let base = output("same-base");
    let mut debugfs = tool("debugfs", "e2fsprogs");
    let boot = Ran::of(debugfs.args(["-R", "ls -p /boot"]).arg(&base))
        .ends_with(0)
        .stdout;
    let mut names = boot.lines().filter_map(|line| line.split('/').nth(5));
    let kernel = names.find(|name| name.starts_with("vmlinuz-")).unwrap();
    let initrd = kernel.replace("vmlinuz-", "initrd.img-");

    let with_disk = |steps: &str| {
        recipes.write(
            "same-disk.kdl",
            &format!(
                "image \"same-disk\" {{\nfrom \"./same-base.raw\"\n\
                 kernel \"/boot/{kernel}\" initrd=\"/boot/{initrd}\"\n\
                 boot \"root=LABEL=vmfab-root\" user=\"root\"\n{steps}\n}}\n"
            ),
        );
    };
    recipes.image_from_tag("same-tree", &steps);
    let on_tree = listing(&output("same-tree"));
    with_disk(&steps);
    let turn = Machine::turn();
    let on_disk = listing(&output("same-disk"));
    // What neither has.
    let unknown = format!("{steps}\nservice \"no-such\" enable=#false");
    recipes.image_from_tag("same-tree", &unknown);
    with_disk(&unknown);
    for name in ["same-tree", "same-disk"] {
        let error = recipes.build(name).ends_with(1).error();
        let output = serde_json::json!(["the image has no service no-such"]);
        assert_eq!(error["output"], output, "{name}: {error}");
    }
    drop(turn);
    Lab::get();

    for path in PROMISED {
        assert!(on_tree[path].contains(" of "), "{path}: {}", on_tree[path]);
    }
    assert!(on_tree.contains_key("/srv/copied/new\nline"));
    for path in WITH_ATTRIBUTES {
        let said = &on_tree[&format!("{path} attributes")];
        assert!(said.contains(" = "), "{path}: {said}");
    }
    let paths = on_tree
        .keys()
        .chain(on_disk.keys().filter(|path| !on_tree.contains_key(*path)));
    let differences: Vec<String> = paths
        .filter(|path| on_tree.get(*path) != on_disk.get(*path))
        .map(|path| {
            format!(
                "{path}\n  tree {:?}\n  disk {:?}",
                on_tree.get(path),
                on_disk.get(path)
            )
        })
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    let strict = &on_tree["/srv/strict"];
    assert!(strict.contains("2640 1000660000:1000660001"), "{strict}");
}
