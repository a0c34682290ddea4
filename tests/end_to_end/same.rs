//! The same steps on a tree and on a disk: the file systems are the same. They are read by a library that neither
//! mke2fs nor the guest's kernel shares code with.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use ext4_view::{Ext4, Path as Inside, PathBuf as InsideBuf};

use super::super::support::{Lab, Machine, Ran, Recipes, tool};

/// Every node that changes files, with every option. The scripts make what the nodes after them meet.
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
"##;

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

/// A line for each file: type, mode, owner, size, content or target, and the time when it is promised.
fn listing(disk: &Path) -> BTreeMap<String, String> {
    let ext4 = Ext4::load_from_path(disk).unwrap();
    let mut lines = BTreeMap::new();
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

    recipes.image_from_tag("same-tree", STEPS);
    let on_tree = listing(&output("same-tree"));
    recipes.write(
        "same-disk.kdl",
        &format!(
            "image \"same-disk\" {{\nfrom \"./same-base.raw\"\n\
             kernel \"/boot/{kernel}\" initrd=\"/boot/{initrd}\"\n\
             boot \"root=LABEL=vmfab-root\" user=\"root\"\n{STEPS}\n}}\n"
        ),
    );
    let turn = Machine::turn();
    let on_disk = listing(&output("same-disk"));
    drop(turn);
    Lab::get();

    for path in PROMISED {
        assert!(on_tree[path].contains(" of "), "{path}: {}", on_tree[path]);
    }
    assert!(on_tree.contains_key("/srv/copied/new\nline"));
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
}
