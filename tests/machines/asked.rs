//! Directories of the host that an image asks for.

use super::*;

#[test]
fn an_image_gets_a_directory_when_the_user_says_so() {
    let bench = Bench::new();
    bench.image("asks", &tiny_kernel(), |config| {
        config.template.shares = vec![AskedShare {
            host: "src".parse().unwrap(),
            at: "/srv/code".parse().unwrap(),
            read_only: true,
        }];
    });
    let image = bench.run(["image", "inspect", "asks"]).ends_with(0).stdout;
    assert!(image.contains("asks for:     src at /srv/code, read-only\n"));

    let here = bench.directory.path().join("here");
    fs::create_dir(&here).unwrap();
    let create = |name: &str, more: &[&str]| {
        let words = ["create", name, "--from", "@asks", "--memory", "64M"];
        let mut command = bench.command(words);
        command.args(more).current_dir(&here);
        command
    };
    let run = |name, more: &[&str]| Ran::from(create(name, more).output().unwrap());
    let asks = "image \"asks\" asks for the directory src of this host, at /srv/code of the machine, \
                read-only";
    run("one", &[])
        .ends_with(2)
        .says(asks)
        .says("it does not exist here");
    fs::create_dir(here.join("src")).unwrap();
    run("one", &[])
        .ends_with(2)
        .says(asks)
        .says("share it: --volume ./src:/srv/code:ro, or none: --no-shares");

    let mounts = |name: &str| {
        let shown = bench.run(["inspect", name, "--json"]).ends_with(0).json();
        let mut mounts = shown["mounts"].clone();
        for mount in mounts.as_array_mut().unwrap() {
            mount["share"] = mount["share"].as_str().unwrap().rsplit('/').next().into();
        }
        mounts
    };
    let given = serde_json::json!([{ "share": "src", "at": "/srv/code", "read-only": true }]);
    let lacks = "the machine has no directory of this host at /srv/code";
    run("one", &["--no-shares"]).ends_with(0).says(lacks);
    assert_eq!(mounts("one"), serde_json::json!([]));
    run("two", &["--volume", "./src:/srv/code:ro"]).ends_with(0);
    assert_eq!(mounts("two"), given);

    // At a terminal, it asks.
    for (name, answer, expected) in [
        ("three", "y\n", given.clone()),
        ("four", "\n", serde_json::json!([])),
    ] {
        fs::write(here.join("answer"), answer).unwrap();
        let program = env!("CARGO_BIN_EXE_vmfab");
        let command = format!("{program} create {name} --from @asks --memory 64M");
        let mut script = support::tool("script", "bsdutils");
        script.args(["-qefc", &command, "/dev/null"]);
        script.env("VMFAB_HOME", &bench.home).current_dir(&here);
        script.stdin(fs::File::open(here.join("answer")).unwrap());
        let ran = Ran::from(script.output().unwrap()).ends_with(0);
        let asked =
            "/here/src of this host, at /srv/code of the machine, read-only. Share it? [y/N] ";
        assert!(ran.stdout.contains(asked), "{ran:#?}");
        assert_eq!(mounts(name), expected);
    }
    let restored = bench.run(["snapshot", "restore", "@asks"]).ends_with(0);
    restored.says(lacks);
    assert_eq!(mounts("asks"), serde_json::json!([]));
}

#[test]
fn a_project_says_what_images_get() {
    let bench = Bench::new();
    bench.image("asks", &tiny_kernel(), |config| {
        config.template.shares = vec![AskedShare {
            host: "./src".parse().unwrap(),
            at: "/srv/code".parse().unwrap(),
            read_only: false,
        }];
    });
    let project = bench.directory.path().join("project");
    fs::create_dir_all(project.join("src")).unwrap();
    let up = |rest: &str| {
        let text = format!("machine \"web\" image=\"@asks\" memory=\"64M\" {rest}\n");
        fs::write(project.join("vmfab.kdl"), text).unwrap();
        let mut up = bench.command(["up", "--timeout", "1"]);
        Ran::from(up.current_dir(&project).output().unwrap())
    };
    up("")
        .ends_with(2)
        .says("asks for the directory ./src of this host, at /srv/code of the machine")
        .says("share \"NAME\" host=\"./src\" guest=\"/srv/code\", or none: image-shares=#false");
    assert!(!project.join(".vmfab/machines/web").exists());
    let made = up("image-shares=#false").ends_with(1);
    made.says("was not ready")
        .says("has no directory of this host at /srv/code");
    let mut down = bench.command(["down", "--rm", "--yes", "--force"]);
    Ran::from(down.current_dir(&project).output().unwrap()).ends_with(0);
    let made = up("{ share \"code\" host=\"src\" guest=\"/srv/code\"; }").ends_with(1);
    assert!(!made.stderr.contains("has no directory"), "{made:#?}");
}
