//! Build caches: where they are set, and what is wrong there.

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
    error: invalid value 'ghcr.io/me/cache:1' for '--cache <REPOSITORY>': "ghcr.io/me/cache:1" has a tag: a cache is a repository, such as ghcr.io/me/cache

    For more information, try '--help'.
    "#);
    insta::assert_snapshot!(wrong(&["--cache-push", "ghcr.io/Me/cache"]), @r#"
    error: invalid value 'ghcr.io/Me/cache' for '--cache-push <REPOSITORY>': "ghcr.io/Me/cache" is no reference of an image: "Me" has capital letters, which names of repositories may not

    For more information, try '--help'.
    "#);
    insta::assert_snapshot!(wrong(&["--cache-mode", "all"]), @r#"
    error: invalid value 'all' for '--cache-mode <MODE>': "all" is no mode of a cache: write min (content of images) or max (content of every step)

    For more information, try '--help'.
    "#);
    insta::assert_snapshot!(wrong(&["--cache", "none", "--cache", "ghcr.io/me/cache"]), @r#"error: "none" switches caches off, and others are named beside it"#);
}

#[test]
fn what_is_no_cache_is_refused_wherever_it_stands() {
    let bench = Bench::new();
    let with = |variable: &str, value: &str| {
        let mut command = bench.command(["images"]);
        command.env(variable, value);
        Ran::from(command.output().unwrap()).ends_with(2).stderr
    };
    insta::assert_snapshot!(with("VMFAB_CACHE", "ghcr.io/me/cache a:1"), @r#"error: VMFAB_CACHE: "a:1" has a tag: a cache is a repository, such as ghcr.io/me/cache"#);
    insta::assert_snapshot!(with("VMFAB_CACHE_PUSH", "ghcr.io/me/cache:latest"), @r#"error: VMFAB_CACHE_PUSH: "ghcr.io/me/cache:latest" has a tag: a cache is a repository, such as ghcr.io/me/cache"#);
    insta::assert_snapshot!(with("VMFAB_CACHE_MODE", "most"), @r#"error: VMFAB_CACHE_MODE: "most" is no mode of a cache: write min (content of images) or max (content of every step)"#);
    let own = tempfile::tempdir().unwrap();
    let config = own.path().join("config.kdl");
    std::fs::write(&config, "cache \"ghcr.io/me/cache@sha256:12\"\n").unwrap();
    let mut command = bench.command(["images"]);
    command.env("VMFAB_CONFIG", &config);
    let wrong = Ran::from(command.output().unwrap()).ends_with(4).stderr;
    assert!(wrong.contains("ghcr.io/me/cache@sha256:12"), "{wrong}");
    assert!(wrong.contains("config.kdl"), "{wrong}");
}
