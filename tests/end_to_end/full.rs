//! A disk that fills while the programs of the host write to it, mmdebstrap and mke2fs: a memory
//! file system whose size changes.

use std::time::Duration;

use super::super::support::{Lab, Ran, Recipes, base, program, tool};

/// Runs a script with a home that is a file system of its own: `size N` says how many MiB it has,
/// `spare N` how many are free. `vmfab` writes what it says to files.
fn with_small_home(recipes: &Recipes, script: &str) {
    let frame = r#"
        cd "$1" || exit 9
        mkdir home && mount -t tmpfs -o size=16m none home || exit 9
        export VMFAB_HOME="$1/home"
        program=$2 backup=$3
        vmfab() {
            name=$1; shift
            started=$(date +%s)
            "$program" "$@" > "$name.out" 2> "$name.err" < /dev/null
            echo "$?" > "$name.code"
            echo $(($(date +%s) - started)) > "$name.seconds"
        }
        size() { mount -o "remount,size=${1}m" home || exit 9; }
        spare() { size $(($(df --output=used --block-size=1M home | tail -n 1) + $1)); }
    "#;
    let mut command = tool("unshare", "util-linux");
    if !rustix::process::getuid().is_root() {
        command.args(["--map-root-user", "--map-auto"]);
    }
    let whole = format!("{frame}{script}");
    command.args(["--mount", "sh", "-c", &whole, "sh"]);
    command.arg(recipes.directory()).arg(program());
    command.arg(recipes.path("backup"));
    Ran::of(&mut command).ends_with(0);
}

/// A build of the script.
fn said(recipes: &Recipes, name: &str) -> (i32, Duration, String) {
    let read = |end: &str| {
        let path = recipes.path(&format!("{name}.{end}"));
        std::fs::read_to_string(path).unwrap()
    };
    let number = |end: &str| read(end).trim().parse::<u32>().unwrap();
    let code = number("code").cast_signed();
    let seconds = Duration::from_secs(number("seconds").into());
    (code, seconds, read("out") + &read("err"))
}

#[track_caller]
fn assert_full(recipes: &Recipes, name: &str, step: &str) {
    let (code, took, text) = said(recipes, name);
    assert_eq!(code, 1, "{text}");
    let error = std::fs::read(recipes.path(&format!("{name}.err"))).unwrap();
    let error: serde_json::Value = serde_json::from_slice(&error).unwrap();
    let message = error["message"].as_str().unwrap();
    let home = recipes.path("home").display().to_string();
    assert!(message.contains(step), "{message}");
    assert!(
        message.contains(&format!("no space left on {home}")),
        "{message}"
    );
    assert!(
        error["help"].to_string().contains("free some space"),
        "{error}"
    );
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn a_full_disk_is_said_and_loses_nothing() {
    let recipes = Recipes::new();
    Ran::of(
        Lab::get()
            .command()
            .args(["store", "backup"])
            .arg(recipes.path("backup")),
    )
    .ends_with(0);
    recipes.image("first", "run \"echo first > /first # of the full disk\"");
    recipes.image("second", "file \"/second\" { content \"second\\n\" }");
    let script = r#"
        # The archive does not fit.
        size 64
        vmfab bootstrap build "$BASE" --json
        vmfab verified store verify
        ls home/cache/work > left.out

        # Layers of the base are unpacked, and then the disk does not fit.
        size 6000
        vmfab restored store restore "$backup"
        vmfab first build first.kdl --json
        spare 40
        vmfab disk build second.kdl --json
        vmfab whole store verify
        ls home/cache/work >> left.out
        size 6000
        vmfab second build second.kdl --json
        umount home || sleep 1
    "#;
    with_small_home(&recipes, &script.replace("$BASE", &base()));
    assert_full(&recipes, "bootstrap", "bootstrap");
    assert_full(&recipes, "disk", ": disk 2G");
    for name in ["verified", "restored", "first", "whole", "second"] {
        let (code, _, text) = said(&recipes, name);
        assert_eq!(code, 0, "{name}: {text}");
    }
    let left = std::fs::read_to_string(recipes.path("left.out")).unwrap();
    assert_eq!(left, "", "scratch directories");
    // What was done before the disk was full is kept.
    let (_, _, events) = said(&recipes, "second");
    let started = events.lines().filter_map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        (event["event"] == "step-started").then(|| event["name"].as_str().unwrap().to_owned())
    });
    let started: Vec<String> = started.collect();
    assert_eq!(started, ["second: disk 2G", "second: image"]);
}
