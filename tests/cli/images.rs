//! Images in the store.

use super::{Bench, Ran};

#[test]
fn an_empty_store_has_no_images() {
    let bench = Bench::new();
    let ran = bench.run(["images"]).ends_with(0);
    insta::assert_snapshot!(ran.stdout, @"TAG   IMAGE   NAME   ARCHITECTURE   DISK   SIZE   CREATED");
    insta::assert_snapshot!(ran.stderr, @"note: no images yet: vmfab images --available lists recipes to build");
    let ran = bench.run(["images", "--json"]).ends_with(0);
    assert_eq!(ran.stdout, "[]\n");
    let ran = bench.run(["images", "--quiet"]).ends_with(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
}

#[test]
fn images_are_listed() {
    let bench = Bench::new();
    bench.image("docker");
    bench.image("debian-12");
    let ran = bench.run(["images"]).ends_with(0);
    // The last column depends on the block size of the file system.
    let end = ran.stdout.find("DISK").unwrap() + "DISK".len();
    let columns: Vec<_> = ran.stdout.lines().map(|line| &line[..end]).collect();
    insta::assert_snapshot!(columns.join("\n"), @r#"
    TAG          IMAGE          NAME        ARCHITECTURE      DISK
    @debian-12   ef0676ae3d92   debian-12   x86_64         4.9 KiB
    @docker      0e805fa4913d   docker      x86_64         4.9 KiB
    "#);
    let list = bench.run(["images", "--json"]).ends_with(0).json();
    assert_eq!(list[1]["tag"], "docker");
    assert_eq!(list[1]["disk_size"], 5000);
    let ran = bench.run(["images", "-q"]).ends_with(0);
    assert_eq!(ran.stdout, "@debian-12\n@docker\n");
}

#[test]
fn recipes_that_come_with_the_program_are_listed() {
    let bench = Bench::new();
    let list = bench
        .run(["images", "--available", "--json"])
        .ends_with(0)
        .json();
    let names: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert!(names.iter().any(|name| *name == "docker"), "{names:?}");
    let table = bench.run(["images", "--available"]).ends_with(0).stdout;
    assert!(table.starts_with("RECIPE"), "{table}");
    assert!(
        !bench.home.path().join("store").exists(),
        "listing recipes needs no store"
    );
}

#[test]
fn an_image_is_inspected_by_tag_or_id() {
    let bench = Bench::new();
    let image = bench.image("docker").to_string();
    let ran = bench.run(["image", "inspect", "@docker"]).ends_with(0);
    let lines: Vec<_> = ran
        .stdout
        .lines()
        .filter(|line| !line.starts_with("on this host:"))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    image:        0e805fa4913d1b1df2c07b4626eb9f7ea83b2da93da7aacc5bb47ebfb6ab490d
    tags:         @docker
    name:         docker
    recipe:       docker 1.0.0
    description:  An image of a test
    metadata:     licence: MIT
    architecture: x86_64
    boots:        kernel directly
    command line: root=/dev/vda console=ttyS0
    seed:         systemd credentials
    disk:         4.9 KiB ext4 "root", 0636fc3dbba4
    layers:       2
    user:         root
    port:         80 (127.0.0.1:8080)
    "#);
    for name in ["docker", &image[..4], &image] {
        let found = bench
            .run(["image", "inspect", name, "--json"])
            .ends_with(0)
            .json();
        assert_eq!(found["image"], image.as_str());
        assert_eq!(found["config"]["boot"]["firmware"], "direct");
    }
    bench.run(["image", "inspect", &image[..3]]).ends_with(3);
    bench
        .run(["image", "inspect", &format!("@{}", &image[..12])])
        .ends_with(3);
    let ran = bench.run(["image", "history", "@docker"]).ends_with(0);
    insta::assert_snapshot!(ran.stdout, @r#"
    LAYER             SIZE   STEP
    fddd61340c4b    10 KiB
    fff17655902a   2.0 KiB
    "#);
}

#[test]
fn tags_come_and_go() {
    let bench = Bench::new();
    bench.image("docker");
    bench
        .run(["image", "tag", "@docker", "@stable", "old"])
        .ends_with(0);
    let ran = bench.run(["images", "-q"]).ends_with(0);
    assert_eq!(ran.stdout, "@docker\n@old\n@stable\n");
    bench.run(["image", "rm", "@old", "@none"]).ends_with(3);
    bench.run(["image", "rm", "@old", "@docker"]).ends_with(0);
    let ran = bench.run(["images", "-q"]).ends_with(0);
    assert_eq!(ran.stdout, "@stable\n");

    // The id that is printed is taken as long as the image is in the store.
    let ran = bench.run(["image", "rm", "@stable"]).ends_with(0);
    let id = ran.stdout.trim_end().trim_end_matches(')');
    let (_, id) = id.split_once("(was ").unwrap();
    bench.run(["image", "inspect", id]).ends_with(0);
    bench.run(["image", "tag", id, "@back"]).ends_with(0);
    bench.run(["image", "rm", "@back"]).ends_with(0);
    bench
        .run(["store", "gc", "--older-than", "0s", "--keep-last", "0"])
        .ends_with(0);
    bench.run(["image", "inspect", id]).ends_with(3);
}

#[test]
fn recipes_of_the_users_go_before_the_built_in_ones() {
    let bench = Bench::new();
    let own = tempfile::tempdir().unwrap();
    let recipe = |name: &str, description: &str, base: &str| {
        let text = format!(
            "recipe \"{name}\" {{ description \"{description}\" }}\nimage \"{name}\" {{ {base}; run \"true\" }}\n"
        );
        std::fs::write(own.path().join(format!("{name}.kdl")), text).unwrap();
    };
    recipe("debian-12", "Debian of the house", "from \"debian-12\"");
    recipe("tools", "Tools", "from \"debian-12\"");
    let config = own.path().join("config.kdl.txt");
    std::fs::write(&config, format!("recipes {:?}\n", own.path())).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = bench.command(arguments);
        command.env("VMFAB_CONFIG", &config);
        Ran::from(command.output().unwrap())
    };
    let listed = run(&["images", "--available"]).ends_with(0).stdout;
    assert!(listed.contains("Debian of the house") && listed.contains("Tools"));
    assert!(!listed.contains("Debian 12 (bookworm)") && listed.contains("docker"));
    // The one of the house starts from the built-in one, and others from that of the house.
    let steps = run(&["plan", "tools"]).ends_with(0).stdout;
    assert_eq!(steps.matches("run true").count(), 2, "{steps}");
    let unknown = run(&["plan", "tool"]).ends_with(3).stderr;
    assert!(unknown.contains("did you mean \"tools\""), "{unknown}");
    // A wrong configuration is shown like a wrong recipe.
    std::fs::write(&config, "recipe \"x\"\n").unwrap();
    let wrong = run(&["images"]).ends_with(4).stderr;
    assert!(
        wrong.contains("recipes") && wrong.contains("config.kdl.txt"),
        "{wrong}"
    );
}

#[test]
fn a_recipe_that_comes_with_the_program_shows_its_parameters() {
    let bench = Bench::new();
    let ran = bench.run(["images", "--available", "docker"]).ends_with(0);
    insta::assert_snapshot!(ran.stdout);
    let details = bench.run(["images", "--available", "docker", "--json"]);
    let details = details.ends_with(0).json();
    assert_eq!(details["name"], "docker");
    let parameters = details["parameters"].as_array().unwrap();
    assert!(parameters.iter().any(|one| one["name"] == "base"));
    let ran = bench.run(["images", "--available", "dokcer"]).ends_with(3);
    assert!(ran.stderr.contains("docker"), "{}", ran.stderr);
}
