//! Build caches: where they are set, and what is wrong there.

use super::super::support::registry::Registry;
use super::{Bench, Ran};

#[test]
fn what_is_no_cache_is_refused_on_the_command_line() {
    let bench = Bench::new();
    let wrong = |arguments: &[&str]| {
        let all = ["build", "x.kdl"].iter().chain(arguments);
        Ran::from(bench.command(all).output().unwrap())
            .ends_with(2)
            .stderr
    };
    insta::assert_snapshot!(wrong(&["--cache", "ghcr.io/me/cache:1"]), @r#"
    error: invalid value 'ghcr.io/me/cache:1' for '--cache <REPOSITORY>': "ghcr.io/me/cache:1" has a tag: name a repository, such as ghcr.io/me/cache

    For more information, try '--help'.
    "#);
    insta::assert_snapshot!(wrong(&["--cache-push", "ghcr.io/Me/cache"]), @r#"
    error: invalid value 'ghcr.io/Me/cache' for '--cache-push <REPOSITORY>': "ghcr.io/Me/cache" is no reference of an image: "Me" has capital letters, which names of repositories may not

    For more information, try '--help'.
    "#);
    insta::assert_snapshot!(wrong(&["--cache-mode", "all"]), @r#"
    error: invalid value 'all' for '--cache-mode <MODE>': "all" is not a cache mode: use min (content of images) or max (content of every step)

    For more information, try '--help'.
    "#);
    insta::assert_snapshot!(wrong(&["--cache", "none", "--cache", "ghcr.io/me/cache"]), @r#"error: "none" disables caches, but there are others beside it"#);
}

#[test]
fn what_is_no_cache_is_refused_wherever_it_stands() {
    let bench = Bench::new();
    let with = |variable: &str, value: &str| {
        let mut command = bench.command(["images"]);
        command.env(variable, value);
        Ran::from(command.output().unwrap()).ends_with(2).stderr
    };
    insta::assert_snapshot!(with("VMFAB_CACHE", "ghcr.io/me/cache a:1"), @r#"error: VMFAB_CACHE: "a:1" has a tag: name a repository, such as ghcr.io/me/cache"#);
    insta::assert_snapshot!(with("VMFAB_CACHE_PUSH", "ghcr.io/me/cache:latest"), @r#"error: VMFAB_CACHE_PUSH: "ghcr.io/me/cache:latest" has a tag: name a repository, such as ghcr.io/me/cache"#);
    insta::assert_snapshot!(with("VMFAB_CACHE_MODE", "most"), @r#"error: VMFAB_CACHE_MODE: "most" is not a cache mode: use min (content of images) or max (content of every step)"#);
    let own = tempfile::tempdir().unwrap();
    let config = own.path().join("config.kdl");
    std::fs::write(&config, "cache \"ghcr.io/me/cache@sha256:12\"\n").unwrap();
    let mut command = bench.command(["images"]);
    command.env("VMFAB_CONFIG", &config);
    let wrong = Ran::from(command.output().unwrap()).ends_with(4).stderr;
    assert!(wrong.contains("ghcr.io/me/cache@sha256:12"), "{wrong}");
    assert!(wrong.contains("config.kdl"), "{wrong}");
}

#[test]
fn a_second_home_builds_nothing_and_knows_it_without_the_cache() {
    let registry = Registry::start();
    let own = tempfile::tempdir().unwrap();
    let disk: Vec<u8> = (0..1_u32 << 20).flat_map(u32::to_le_bytes).collect();
    std::fs::write(own.path().join("disk.raw"), &disk).unwrap();
    std::fs::write(
        own.path().join("test.kdl"),
        "image \"test\" { from \"./disk.raw\" }\n",
    )
    .unwrap();
    let cache = registry.at("cache");
    let run = |bench: &Bench, arguments: &str| {
        let mut command = bench.command(arguments.split(' '));
        command.current_dir(own.path());
        Ran::from(command.output().unwrap()).ends_with(0).stdout
    };
    let (first, second) = (Bench::new(), Bench::new());
    let built = run(&first, &format!("build test.kdl --cache-push {cache}"));
    assert!(built.contains("built"), "{built}");
    let built = run(
        &second,
        &format!("build test.kdl --cache {cache} --output out.raw"),
    );
    assert!(
        built.contains("from the cache") && !built.contains("built"),
        "{built}"
    );
    assert!(std::fs::read(own.path().join("out.raw")).unwrap() == disk);
    drop(registry);
    let planned = run(&second, "plan test.kdl --offline");
    assert!(planned.contains(" 0 to build"), "{planned}");
    let built = run(&second, "build test.kdl --offline");
    assert!(built.contains("is up to date"), "{built}");
}
