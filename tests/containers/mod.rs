//! Builds in containers, as CI runners do them: with each set of flags that docs/ci.md names, the
//! image is the one that the host makes.

mod engine;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use engine::{Engine, USER};

use super::instructions::{CONTAINER, Kitchen};
use super::support::{Build, Lab, Ran, Recipes, tool};

/// What docs/ci.md says is enough.
const ENOUGH: [&str; 4] = [
    "--security-opt",
    "seccomp=unconfined",
    "--security-opt",
    "apparmor=unconfined",
];

/// Steps that need all of an overlay, and that leave processes behind.
const STEPS: &str = r#"
    run "mkdir -p /srv/deep/one /srv/deep/two /srv/whole; for name in a b c; do echo $$name > /srv/deep/one/$$name; done"
    run "echo more > /srv/whole/file; chown 4000:50000 /srv/whole/file; ln /srv/whole/file /srv/whole/other"
    run "rm /srv/deep/one/a; rm -r /srv/whole; mkdir /srv/whole; echo new > /srv/whole/new"
    run "test ! -e /srv/deep/one/a; test \"$$(ls /srv/whole)\" = new; echo again > /srv/deep/one/a; mv /srv/deep/two /srv/2"
    run "test -e /proc/$$$$/stat; readlink /proc/self/exe; setsid sleep 7777 < /dev/null & sleep 7777 & true"
    user "worker"
"#;

/// A step that leaves a process behind and does not end.
const ENDLESS: &str = r#"
    run "setsid sleep 7777 < /dev/null & echo ready; sleep 7777"
"#;

/// Takes the base image, and builds: what the host built is not there.
const BUILD: &str = r#"
cd /recipes
/vmfab store restore /backup >&2
/vmfab build contained.kdl --json
nothing_left
"#;

/// vmfab has no chance to end what a step started.
const KILL: &str = r#"
/vmfab build endless.kdl --json > /tmp/events & build=$!
until grep -q '"line":"ready"' /tmp/events; do
    kill -0 $build
    sleep 0.1
done
kill -KILL $build
nothing_left
"#;

/// Waits until no process of a step is left, whoever its parent is.
const NOTHING_LEFT: &str = r#"
nothing_left() {
    tries=0
    while grep -lsx sleep /proc/[0-9]*/comm >&2; do
        tries=$((tries + 1))
        test $tries -lt 200
        sleep 0.1
    done
}
"#;

fn warnings(build: &Build) -> Vec<&str> {
    let warnings = build.events("warning");
    warnings
        .map(|event| event["message"].as_str().unwrap())
        .collect()
}

#[test]
fn a_container_makes_the_image_that_the_host_makes() {
    let recipes = Recipes::new();
    recipes.image("contained", STEPS);
    recipes.image("endless", ENDLESS);
    let everybody = fs::Permissions::from_mode(0o755);
    fs::set_permissions(recipes.directory(), everybody).unwrap();
    let engine = Engine::start();
    let backup = engine.volume("backup");
    Ran::of(Lab::get().command().args(["store", "backup"]).arg(&backup)).ends_with(0);
    let expected = recipes.build("contained").succeeds().image().to_owned();

    let shared = [
        (recipes.directory(), "/recipes:ro"),
        (backup.as_path(), "/backup:ro"),
    ];

    // Nothing is given: the error says what is needed, and no more than that.
    let nothing = engine.run(
        &[],
        &shared,
        "cd /recipes; exec /vmfab build contained.kdl --json",
    );
    let refused = Build::of(&mut { nothing }).ends_with(5).error();
    let help = refused["help"].to_string();
    assert!(
        help.contains("docker: --security-opt seccomp=unconfined"),
        "{refused}"
    );
    assert!(!help.contains("--privileged"), "{refused}");

    // A capability lifts most of the filter, and not enough of it.
    let capability = ["--cap-add", "SYS_ADMIN"];
    let doctor = "exec /vmfab doctor --json";
    let report = Ran::of(&mut engine.run(&capability, &shared, doctor)).ends_with(5);
    let report = report.json();
    let checks = report["checks"].as_array().unwrap();
    let sandbox = checks.iter().find(|check| check["name"] == "sandbox");
    let sandbox = sandbox.unwrap_or_else(|| panic!("{report}"));
    assert_eq!(sandbox["state"], "missing");
    for (field, part) in [
        ("detail", "forbids pivot_root"),
        ("help", "--cap-add SYS_ADMIN does not lift that"),
        ("help", "docker: --security-opt seccomp=unconfined"),
    ] {
        let text = sandbox[field].to_string();
        assert!(text.contains(part), "{part}: {text}");
    }

    // The least that is enough.
    let options = [&ENOUGH[..], &["--env", "VMFAB_HOME=/root/home"]].concat();
    let script = format!("{NOTHING_LEFT}{BUILD}{KILL}");
    let least = Build::of(&mut engine.run(&options, &shared, &script)).succeeds();
    assert_eq!(least.image(), expected);
    let said = warnings(&least);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].contains("/proc") && said[1].contains("in memory"),
        "{said:?}"
    );

    // All that can be had, and by a user.
    let home = engine.volume("home");
    engine.give_to_user(&[&home, &backup]);
    let all = ["--user", USER, "--env", "VMFAB_HOME=/home/vmfab"];
    let options = [
        &ENOUGH[..],
        &["--security-opt", "systempaths=unconfined"],
        &all,
    ]
    .concat();
    let places = [&shared[..], &[(home.as_path(), "/home")]].concat();
    let script = format!("{NOTHING_LEFT}{BUILD}");
    let most = Build::of(&mut engine.run(&options, &places, &script)).succeeds();
    assert_eq!(most.image(), expected);
    assert_eq!(warnings(&most), [""; 0]);
    let doctor = engine.run(&options, &places, "exec /vmfab doctor --json");
    let report = Ran::of(&mut { doctor }).ends_with(0).json();
    let checks = report["checks"].as_array().unwrap();
    let subuid = checks.iter().find(|check| check["name"] == "subuid");
    assert_eq!(subuid.unwrap()["detail"], "ids 0 to 65536", "{report}");
}

#[test]
fn an_engine_runs_what_a_dockerfile_makes() {
    let kitchen = Kitchen::new(CONTAINER);
    kitchen
        .run(&["build", "test.kdl", "--tag", "@web"])
        .ends_with(0);
    kitchen
        .run(&["push", "@web", "oci:out:1", "--layout", "container"])
        .ends_with(0);
    let archive = "docker-archive:web.tar:web:1";
    let mut skopeo = tool("skopeo", "skopeo");
    skopeo.args(["copy", "--quiet", "oci:out:1", archive]);
    Ran::of(skopeo.current_dir(kitchen.path(""))).ends_with(0);
    let engine = Engine::start();
    let ran = engine.run_archive(&kitchen.path("web.tar"), "web:1");
    let stdout = ran.ends_with(0).stdout;
    let lines: Vec<&str> = stdout.lines().map(str::trim_end).collect();
    let expected = [
        "hello node /work world",
        "d 755 0:0 /srv",
        "d 755 0:0 /srv/kept",
        "f 644 0:0 /srv/kept/new 3",
        "l 777 0:0 /srv/link kept",
    ];
    assert_eq!(lines, expected);
}
