//! Container images: their layers are the tree.

use std::fs;

use serde_json::json;

use super::{Bench, Layer, busybox, gzip, oracle, tar};
use crate::end_to_end::unprivileged::{Account, Place};
use crate::support::{Build, Ran, tool};

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

    // What a shell does not see.
    let words = ["build", "test.kdl", "--output", "out.raw"];
    bench.run(&words).ends_with(0);
    let mut debugfs = tool("debugfs", "e2fsprogs");
    let note = ["-R", "ea_get /t/ümlaut user.note", "out.raw"];
    debugfs.args(note).current_dir(bench.path(""));
    let note = Ran::of(&mut debugfs).ends_with(0).stdout;
    assert!(note.contains("kept"), "{note}");

    // Without root it is the same.
    let account = Account::other();
    let place = Place::with(
        account.as_ref(),
        &["layout", "test.kdl"].map(|name| bench.path(name)),
    );
    let mut build = place.command(account.as_ref());
    let theirs = Build::of(build.args(["build", "test.kdl", "--json"])).succeeds();
    assert_eq!(built.image(), theirs.image());
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
    // The image says which manifest it starts from.
    let again = bench.build().succeeds();
    assert_eq!(again.started().len(), 1, "{:?}", again.started());
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
    assert!(
        said.contains("neither a kernel in /boot nor an init system"),
        "{said}"
    );
    assert!(said.contains("systemd-sysv"), "{said}");
}

/// A tree with what a careless copy loses.
fn special() -> Vec<u8> {
    let mut archive = ::tar::Builder::new(Vec::new());
    for (name, mode, owner) in [
        ("special", 0o4755, 0),
        ("open/", 0o1777, 0),
        ("owned", 0o640, 7),
    ] {
        let mut header = ::tar::Header::new_gnu();
        if name.ends_with('/') {
            header.set_entry_type(::tar::EntryType::Directory);
        }
        header.set_size(0);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(1_000_000_000);
        archive.append_data(&mut header, name, &b""[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn an_unpacked_layer_that_was_copied_or_changed_is_unpacked_again() {
    let bench = Bench::new();
    let sh = fs::read(busybox()).unwrap();
    let layers = [
        Layer::new("", &tar(&[("bin/busybox", &sh), ("bin/sh", &sh)])),
        Layer::new("", &special()),
    ];
    bench.image(&layers, json!({}));
    let build = |number: usize| {
        bench.recipe(&format!(
            "run \"busybox stat -c '%n %a %u %g' /special /open /owned >/found; busybox cat /found # {number}\"
             file \"/boot/vmlinuz\" {{ content \"no kernel\" }}"
        ));
        let built = bench.build().succeeds();
        let found = ["/special 4755 0 0", "/open 1777 0 0", "/owned 640 7 7"];
        assert!(built.output().ends_with(&found), "{:?}", built.output());
        built
    };
    let home = bench.path("home");
    let first = build(0);
    let in_cache = |script: &str| {
        let mut sh = tool("sh", "dash");
        sh.args(["-ec", script]).current_dir(&home);
        Ran::of(&mut sh).ends_with(0);
    };
    let changes = [
        // A home that was copied without attributes, as a backup that nobody looked at.
        "cp -r . ../copy; rm -rf ../home/*; mv ../copy/* .; rmdir ../copy",
        "cp -a cache/layers cache/copy; rm -rf cache/layers; mv cache/copy cache/layers",
        "chmod 755 cache/layers/*/*/special",
        "find cache/layers -name open -exec chmod 755 {} +",
        // With the old time.
        "for f in cache/layers/*/*/special; do touch -r $f time; echo x >$f; chmod 4755 $f; touch -r time $f; done",
        // Half a tree.
        "rm cache/layers/*/*/owned",
    ];
    let mut images = vec![first.image().to_owned()];
    for (index, change) in changes.iter().enumerate() {
        in_cache(change);
        images.push(build(index + 1).image().to_owned());
    }
    // What these builds made is what a build makes that begins with nothing.
    in_cache("rm -rf cache store");
    for (index, image) in images.iter().enumerate() {
        assert_eq!(build(index).image(), image, "{index}");
    }
}

#[test]
fn verification_finds_an_image_that_was_made_from_a_wrong_tree() {
    let bench = Bench::new();
    let sh = fs::read(busybox()).unwrap();
    let layers = [
        Layer::new("", &tar(&[("bin/busybox", &sh), ("bin/sh", &sh)])),
        Layer::new("", &special()),
    ];
    bench.image(&layers, json!({}));
    let steps = |number: usize| {
        bench.recipe(&format!(
            "run \"echo {number} >/number\"\n file \"/boot/vmlinuz\" {{ content \"no kernel\" }}"
        ));
    };
    steps(1);
    bench.build().succeeds();
    bench.run(&["store", "verify"]).ends_with(0);

    // As it was before directories had stamps: with one that fits.
    let script = r#"
        for file in cache/layers/*/*/special; do
            chmod 0755 "$file"
            tree=${file%/special}
            "$0" __worker stamp "$tree" >"$tree.used"
        done
    "#;
    let mut shell = tool("sh", "dash");
    shell.args(["-ec", script, crate::support::program()]);
    Ran::of(shell.current_dir(bench.path("home"))).ends_with(0);
    steps(2);
    bench.build().succeeds();
    let found = bench
        .run(&["store", "verify", "--json"])
        .ends_with(6)
        .json();
    let damage = found["damaged_objects"].as_array().unwrap();
    assert_eq!(damage.len(), 1, "{found:#}");
    let reason = damage[0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("/special is file 0755 of 0:0 instead of file 4755 of 0:0"),
        "{reason}"
    );
    assert_eq!(damage[0]["needed_by"][0]["tag"], "test", "{found:#}");
    let told = damage[0]["remedies"][0].as_str().unwrap();
    assert!(told.contains("--rebuild"), "{told}");
}
