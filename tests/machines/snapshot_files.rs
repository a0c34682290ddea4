//! Snapshots as files and in backups, and files that are none.

use super::saved_volumes::boot_with_volume;
use super::snapshots::{killed, layers, of_machine, of_snapshot, random, start, write, write_to};
use super::*;

/// Two homes with the same image; the first has a machine with a volume and a snapshot.
fn two_homes() -> (Bench, Bench) {
    let (from, to) = (Bench::new(), Bench::new());
    let name = boot_with_volume(&from);
    write(&from, &name, 3);
    write_to(&from, &name, b"V", 2);
    from.run([
        "snapshot",
        "create",
        "state",
        "--machine",
        &name,
        "--description",
        "three",
    ])
    .ends_with(0);
    write(&from, &name, 1);
    write_to(&from, &name, b"V", 1);
    (from, to)
}

#[test]
fn snapshots_travel_as_files() {
    let (from, to) = two_homes();
    let file = from.directory.path().join("state.snapshot.tar.gz");
    let path = file.to_str().unwrap();
    from.run(["snapshot", "export", "state", "--output", path])
        .ends_with(0);
    from.run(["snapshot", "export", "state", "--output", path])
        .ends_with(1)
        .says("--force");
    let names = Command::new("tar").args(["tzf", path]).output().unwrap();
    let names = String::from_utf8(names.stdout).unwrap();
    assert!(names.starts_with("manifest.json\nobjects/"), "{names}");

    to.run(["image", "rm", "@tiny"]).ends_with(0);
    to.run(["store", "gc", "--older-than", "0s"]).ends_with(0);
    to.run(["snapshot", "import", path]).ends_with(0);
    assert!(of_snapshot(&to, "state") == of_snapshot(&from, "state"));
    to.run(["snapshot", "import", path])
        .ends_with(1)
        .says("already exists");
    to.run(["snapshot", "import", path, "--name", "@x"])
        .ends_with(2);
    // What a snapshot needs is not collected.
    to.run(["store", "gc", "--older-than", "0s"]).ends_with(0);
    let restored = to
        .run(["snapshot", "restore", "state", "--json"])
        .ends_with(0);
    assert_eq!(restored.json()["machine"], "tiny");
    assert!(of_machine(&to, "tiny") == of_snapshot(&from, "state"));
    start(&to, "tiny");

    // From a pipe, and only what the base does not have.
    let export = from
        .command([
            "snapshot", "export", "state", "--since", "@tiny", "--output", "-",
        ])
        .spawn()
        .unwrap();
    let mut export = Running(export);
    let mut import = to.command(["snapshot", "import", "-", "--name", "piped"]);
    let import = import.stdin(export.0.stdout.take().unwrap()).output();
    Ran::from(import.unwrap()).ends_with(0);
    assert!(of_snapshot(&to, "piped") == of_snapshot(&from, "state"));
    let empty = Bench::new();
    empty.image("tiny", b"another kernel", |_| {});
    let since = from.directory.path().join("since.tar");
    let since = since.to_str().unwrap();
    from.run([
        "snapshot", "export", "@tiny", "--since", "@tiny", "--output", since,
    ])
    .ends_with(0);
    let alone = tempfile::tempdir().unwrap();
    let mut import = empty.command(["snapshot", "import", since]);
    let import = import.env("VMFAB_HOME", alone.path()).output().unwrap();
    Ran::from(import).ends_with(1).says("--since");

    // An image.
    let base = from.directory.path().join("tiny.tar");
    let base = base.to_str().unwrap();
    from.run(["snapshot", "export", "@tiny", "--output", base])
        .ends_with(0);
    empty
        .run(["snapshot", "import", base])
        .ends_with(1)
        .says("@tiny already names another image");
    empty
        .run(["snapshot", "import", base, "--name", "other"])
        .ends_with(0);
    let image = |bench: &Bench, tag: &str| images::find(&bench.context(), tag).unwrap().image;
    assert_eq!(image(&empty, "other"), image(&from, "tiny"));
}

#[test]
fn hostile_files_are_refused() {
    let (from, to) = two_homes();
    let unpacked = from.directory.path().join("unpacked");
    let good = from.directory.path().join("good.tar");
    from.run([
        "snapshot",
        "export",
        "state",
        "--output",
        good.to_str().unwrap(),
    ])
    .ends_with(0);
    fs::create_dir(&unpacked).unwrap();
    let tar = |arguments: &[&str]| {
        let output = Command::new("tar")
            .arg("-C")
            .arg(&unpacked)
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    tar(&["-xf", good.to_str().unwrap()]);
    let names = tar(&["-tf", good.to_str().unwrap()]);
    let names: Vec<&str> = names.lines().collect();
    let bad = from.directory.path().join("bad.tar");
    let bad = bad.to_str().unwrap();
    let refused = |what: &str, members: &[&str], options: &[&str]| {
        let mut arguments = vec!["--format=ustar", "-cf", bad];
        arguments.extend(options);
        arguments.extend(members);
        tar(&arguments);
        let ran = to.run(["snapshot", "import", bad]);
        assert!(matches!(ran.code, Some(1 | 2 | 6)), "{what}: {ran:?}");
        let listed = to.run(["snapshot", "list", "--quiet"]).ends_with(0);
        assert_eq!(listed.stdout, "@tiny\n", "{what}");
        assert_eq!(layers(&to), 0, "{what}");
    };
    let first = names[1];
    let pack = *names.last().unwrap();
    assert!(pack.starts_with("packs/"), "{names:?}");

    refused(
        "climbs",
        &names,
        &["-P", &format!("--transform=s,{first},../../{first},")],
    );
    refused(
        "absolute",
        &names,
        &["-P", &format!("--transform=s,{first},/{first},")],
    );
    let mut shuffled = names.clone();
    shuffled.swap(1, 2);
    refused("another order", &shuffled, &[]);
    refused("ends early", &names[..names.len() - 1], &[]);
    refused("no manifest", &names[1..], &[]);
    let mut more = names.clone();
    more.push(first);
    refused("more", &more, &["--hard-dereference"]);

    let path = |name: &str| unpacked.join(name);
    let with = |what: &str, name: &str, bytes: &[u8]| {
        let before = fs::read(path(name)).unwrap();
        fs::write(path(name), bytes).unwrap();
        refused(what, &names, &[]);
        fs::write(path(name), before).unwrap();
    };
    let flipped = |name: &str, at: usize| {
        let mut bytes = fs::read(path(name)).unwrap();
        bytes[at] ^= 1;
        bytes
    };
    with("a wrong list", first, &flipped(first, 3));
    let length = fs::read(path(pack)).unwrap().len();
    for at in [0, 40, length / 2, length - 10] {
        with("a wrong pack", pack, &flipped(pack, at));
    }
    let manifest: Value =
        serde_json::from_slice(&fs::read(path("manifest.json")).unwrap()).unwrap();
    let other_root = manifest["objects"][1]["id"].clone();
    for (what, at, value) in [
        ("another architecture", "/architecture", "m68k".into()),
        ("a newer version", "/version", 2.into()),
        ("another format", "/format", "zip".into()),
        ("a name that climbs", "/name", "../../x".into()),
        ("another root", "/root", other_root),
        ("a bomb", "/packs/0/length", (1_u64 << 60).into()),
    ] {
        let mut changed = manifest.clone();
        *changed.pointer_mut(at).unwrap() = value;
        with(what, "manifest.json", changed.to_string().as_bytes());
    }
    fs::remove_file(path(first)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", path(first)).unwrap();
    refused("a link", &names, &[]);
    let mut ran = to.command(["snapshot", "import", "/dev/null"]);
    Ran::from(ran.output().unwrap()).ends_with(6);
    // The good one still comes in.
    to.run(["snapshot", "import", good.to_str().unwrap()])
        .ends_with(0);
    assert!(of_snapshot(&to, "state") == of_snapshot(&from, "state"));
}

#[test]
fn a_killed_export_or_import_leaves_nothing_half_done() {
    let (from, to) = two_homes();
    let file = from.directory.path().join("state.snapshot.tar.gz");
    let path = file.to_str().unwrap();
    let state = of_snapshot(&from, "state");
    for _ in 0..15 {
        killed(
            &from,
            ["snapshot", "export", "state", "--output", path],
            60_000,
        );
        if file.exists() {
            let taken = format!("n{}", random(u64::MAX));
            to.run(["snapshot", "import", path, "--name", &taken])
                .ends_with(0);
            fs::remove_file(&file).unwrap();
        }
    }
    from.run(["snapshot", "export", "state", "--output", path, "--force"])
        .ends_with(0);
    for round in 0..15 {
        let name = format!("k{round}");
        killed(&to, ["snapshot", "import", path, "--name", &name], 80_000);
        let names = to.run(["snapshot", "list", "--type", "project", "--quiet"]);
        for name in names.ends_with(0).stdout.lines() {
            assert!(of_snapshot(&to, name) == state, "{name} in round {round}");
        }
    }
    to.run(["snapshot", "import", path, "--name", "last"])
        .ends_with(0);
    assert!(of_snapshot(&to, "last") == state);
    assert!(of_snapshot(&from, "state") == state);
}

#[test]
fn backups_take_snapshots_along() {
    let (from, to) = two_homes();
    let state = of_snapshot(&from, "state");
    let backup = from.directory.path().join("backup");
    let backup = backup.to_str().unwrap();
    from.run(["store", "backup", backup]).ends_with(0);
    assert_eq!(from.run(["store", "roots", "--quiet"]).stdout, "");
    to.run(["snapshot", "list", "--type", "project"])
        .ends_with(0)
        .says("no snapshots yet");
    let restored = to.run(["store", "restore", backup, "--json"]).ends_with(0);
    assert_eq!(restored.json()["snapshots"], serde_json::json!(["state"]));
    assert!(of_snapshot(&to, "state") == state);
    to.run(["store", "gc", "--older-than", "0s"]).ends_with(0);
    to.run(["snapshot", "restore", "state"]).ends_with(0);
    assert!(of_machine(&to, "tiny") == state);
    // Once more: what is there stays.
    let again = to.run(["store", "restore", backup, "--json"]).ends_with(0);
    assert_eq!(again.json()["snapshots"], serde_json::json!([]));
}
