//! Errors for people and for programs, and their exit codes.

use super::{Bench, Ran};

#[test]
fn usage_errors() {
    let bench = Bench::new();
    let ran = bench.run(["biuld"]).ends_with(2);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: unrecognized subcommand 'biuld'

      tip: some similar subcommands exist: 'builds', 'build'

    Usage: vmfab [OPTIONS] <COMMAND>

    For more information, try '--help'.
    "#);
    assert_eq!(ran.stdout, "");
    let ran = bench.run(["pull"]).ends_with(2);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: the following required arguments were not provided:
      <REF>

    Usage: vmfab pull <REF>

    For more information, try '--help'.
    "#);
    let ran = bench.run(["build", "x.kdl", "--jobs", "0"]).ends_with(2);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: invalid value '0' for '--jobs <N>': 0 is not in 1..=65535

    For more information, try '--help'.
    "#);
    let ran = bench.run(["build", "x.kdl", "--set", "base"]).ends_with(2);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: invalid value 'base' for '--set <NAME=VALUE>': write NAME=VALUE

    For more information, try '--help'.
    "#);
    let ran = bench.run(["build", "x.kdl", "--tag", "a/b"]).ends_with(2);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: invalid value 'a/b' for '--tag <@TAG>': "a/b" cannot be a tag: use letters, digits, ".", "_" and "-", at most 128

    For more information, try '--help'.
    "#);
    let ran = bench
        .run(["build", "debian-12", "--output", "disk"])
        .ends_with(2);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: cannot tell the format from the file name disk
      help: add --format qcow2, raw, vmdk, vhdx, vdi or vhd
    "#);
    let ran = bench
        .run(["build", "x.kdl", "-s", "a=1", "-s", "a=2"])
        .ends_with(2);
    insta::assert_snapshot!(ran.stderr, @r#"error: parameter a is set to both "1" and "2""#);
    bench.run([]).ends_with(2);
    bench.run(["images", "--quiet", "--verbose"]).ends_with(2);
}

#[test]
fn usage_errors_as_json() {
    let ran = Bench::new().run(["biuld", "--json"]).ends_with(2);
    insta::assert_json_snapshot!(ran.json_error(), @r#"
    {
      "exit_code": 2,
      "help": [
        "some similar subcommands exist: 'builds', 'build'"
      ],
      "kind": "usage",
      "message": "unrecognized subcommand 'biuld'"
    }
    "#);
}

#[test]
fn what_is_not_there() {
    let bench = Bench::new();
    bench.image("docker");
    let ran = bench.run(["image", "inspect", "@dokcer"]).ends_with(3);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: no image "dokcer" found
      help: did you mean "docker"?
    "#);
    let ran = bench.run(["image", "rm", "x", "--json"]).ends_with(3);
    insta::assert_json_snapshot!(ran.json_error(), @r#"
    {
      "exit_code": 3,
      "help": [],
      "kind": "not-found",
      "message": "no tag \"x\" found"
    }
    "#);
}

#[test]
fn a_host_with_nothing_is_told_what_to_install() {
    let bench = Bench::new();
    let empty = tempfile::tempdir().unwrap();
    let doctor = |json: &[&str]| {
        let mut command = bench.command(["doctor"]);
        Ran::from(
            command
                .args(json)
                .env("PATH", empty.path())
                .output()
                .unwrap(),
        )
        .ends_with(5)
    };
    let report = doctor(&["--json"]).json();
    assert_eq!(report["ok"], false);
    let missing = |name: &str| {
        let checks = report["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == name).unwrap();
        check["state"] == "missing"
    };
    for name in ["mmdebstrap", "bwrap", "qemu-img", "ssh"] {
        assert!(missing(name), "{name} in {report:#}");
    }
    let packages: Vec<_> = report["packages"].as_array().unwrap().iter().collect();
    for package in [
        "bubblewrap",
        "gpgv",
        "mmdebstrap",
        "openssh-client",
        "qemu-utils",
    ] {
        assert!(
            packages.iter().any(|found| *found == package),
            "{package} in {packages:?}"
        );
    }
    let text = doctor(&[]).stdout;
    assert!(
        text.contains("sudo apt-get install bubblewrap gpgv mmdebstrap"),
        "{text}"
    );
}

#[test]
fn without_any_home_there_is_a_hint() {
    let mut command = Bench::new().command(["images"]);
    command
        .env_remove("VMFAB_HOME")
        .env_remove("XDG_DATA_HOME")
        .env_remove("HOME");
    let ran = Ran::from(command.output().unwrap()).ends_with(5);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: neither VMFAB_HOME, XDG_DATA_HOME nor HOME is set
      help: set VMFAB_HOME to a directory for vmfab's data
    "#);
}
