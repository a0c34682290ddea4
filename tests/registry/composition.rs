//! Recipes that are built on templates of repositories: versions are chosen together and pinned,
//! and what attackers publish is refused.

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;
use vmfab::digest::Sha256;
use vmfab::tarball::{Kind, Member, Writer};

use super::bases::busybox;
use super::home::Home;
use crate::support::{Ran, tool};

/// A home with the repository `acme` in the directory `shared`.
fn home() -> Home {
    let home = Home::new();
    fs::create_dir(home.path("shared")).unwrap();
    home.json(&["template", "repo", "add", "acme", "shared"]);
    home
}

/// A home with the lock of another one, and its own repository `acme`.
fn successor(other: &Home) -> Home {
    let home = home();
    fs::copy(other.path("vmfab.lock"), home.path("vmfab.lock")).unwrap();
    home
}

/// Builds the image `tiny`: a shell, and what makes a disk of it.
fn tiny(home: &Home) {
    let mut tar = Writer::new(Vec::new());
    let member = |path: &str, kind| Member {
        path: path.into(),
        kind,
        mode: 0o755,
        ..Member::default()
    };
    let program = fs::read(busybox()).unwrap();
    let mut shell = member("bin/busybox", Kind::File);
    shell.size = program.len() as u64;
    tar.add_file(&shell, &mut &program[..]).unwrap();
    for applet in ["sh", "cat"] {
        let mut link = member(&format!("bin/{applet}"), Kind::Symlink);
        link.link = b"busybox".to_vec();
        tar.add(&link).unwrap();
    }
    let tar = tar.finish().unwrap();
    fs::write(home.path("tiny.tar"), &tar).unwrap();
    let (path, sum) = (home.path("tiny.tar"), Sha256::of(&tar));
    let text = format!(
        "image \"tiny\" {{\n    layer {{ fetch \"file://{}\" sha256=\"{sum}\"; }}\n    \
         file \"/boot/vmlinuz\" {{ content \"no kernel\"; }}\n    disk size=\"64M\"\n}}\n",
        path.display()
    );
    fs::write(home.path("tiny.kdl"), text).unwrap();
    home.run(&["build", "tiny.kdl"]).ends_with(0);
}

/// Puts a version of a template into the repository of a home.
fn publish(home: &Home, name: &str, version: &str, header: &str, body: &str) {
    let directory = home.path("source");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory).unwrap();
    let text = format!(
        "recipe \"{name}\" version=\"{version}\" {{\n    {header}\n}}\nimage \"{name}\" {{\n{body}\n}}\n"
    );
    fs::write(directory.join("template.kdl"), text).unwrap();
    fs::write(directory.join("own"), format!("{name} {version}\n")).unwrap();
    home.json(&["template", "push", "source", "acme"]);
}

fn app(home: &Home, body: &str) {
    let text = format!("image \"app\" {{\n{body}\n}}\n");
    fs::write(home.path("app.kdl"), text).unwrap();
}

/// The text of a file of the disk that a build writes.
fn built(home: &Home, words: &[&str], path: &str) -> String {
    let words = [&["build", "app.kdl", "-o", "out.raw", "--force"], words].concat();
    home.run(&words).ends_with(0);
    let mut debugfs = tool("debugfs", "e2fsprogs");
    let request = format!("cat {path}");
    Ran::of(debugfs.args(["-R", &request]).arg(home.path("out.raw"))).stdout
}

const WEB: &str = r#"
    from "@tiny"
    disk size="64M"
    copy "./own" "/etc/web""#;

const TOOLS: &str = r#"
    from "@tiny"
    file "/etc/tools" { content "${port}"; }
    run "cat /etc/tools >/etc/order; cat /etc/web >>/etc/order"
    port 80"#;

#[test]
fn an_image_is_built_on_templates_and_pinned() {
    let home = home();
    tiny(&home);
    publish(&home, "web", "1.0.0", "", WEB);
    publish(&home, "web", "2.0.0", "", WEB);
    publish(
        &home,
        "tools",
        "1.0.0",
        "param \"port\" default=\"1\"",
        TOOLS,
    );
    let stack = "    from \"web@^1\"\n    use \"tools@1\"";
    publish(&home, "stack", "0.1.0", "", stack);

    // The steps of the mix-in are where it stands; its parameters have its name before theirs.
    app(&home, "    from \"acme/stack@0.1\"");
    // All that it is built on comes from others.
    let first = home.run(&["build", "app.kdl"]).ends_with(0).stderr;
    for name in ["acme/stack 0.1.0", "acme/tools 1.0.0", "acme/web 1.0.0"] {
        let told = format!("{name} is a template of others");
        assert!(first.contains(&told), "{first}");
    }
    let order = |words: &[&str]| built(&home, words, "/etc/order");
    assert_eq!(order(&[]), "1web 1.0.0\n");
    assert_eq!(order(&["--set", "tools.port=7"]), "7web 1.0.0\n");
    let wrong = home.refused(&["build", "app.kdl", "--set", "port=7"], 4);
    assert!(wrong.contains("tools.port"), "{wrong}");
    app(
        &home,
        "    from \"web@^1\"\n    use \"acme/tools@*\" { set \"port\" \"9\"; }",
    );
    assert_eq!(order(&[]), "9web 1.0.0\n");

    let unlocked = home.refused(&["build", "app.kdl", "--locked"], 4);
    assert!(unlocked.contains("has nothing for app.kdl"), "{unlocked}");
    let locked = home.json(&["lock", "app.kdl"]);
    let pinned: Vec<(&str, &str)> = locked["templates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["name"].as_str().unwrap(),
                one["version"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(pinned, [("acme/tools", "1.0.0"), ("acme/web", "1.0.0")]);
    home.json(&["lock", "--check", "app.kdl"]);

    // The pin holds, also without a connection, until it is moved.
    publish(&home, "web", "1.1.0", "", WEB);
    assert_eq!(
        built(&home, &["--locked", "--offline"], "/etc/web"),
        "web 1.0.0\n"
    );
    let moved = |update: Value| {
        let moved = update["templates"].as_array().unwrap().clone();
        moved
            .iter()
            .map(|one| format!("{} {}→{}", one["name"], one["was"], one["is"]))
            .collect::<Vec<_>>()
    };
    let step = [r#""acme/web" ["1.0.0"]→["1.1.0"]"#];
    let before = fs::read_to_string(home.path("vmfab.lock")).unwrap();
    assert_eq!(moved(home.json(&["update", "--dry-run"])), step);
    assert_eq!(moved(home.json(&["update", "acme/tools"])), [""; 0]);
    assert_eq!(fs::read_to_string(home.path("vmfab.lock")).unwrap(), before);
    assert_eq!(moved(home.json(&["update", "web"])), step);
    assert_eq!(built(&home, &["--locked"], "/etc/web"), "web 1.1.0\n");

    // What is not in the lock is told, or refused.
    app(&home, "    from \"web@^2\"");
    let told = home.run(&["plan", "app.kdl"]).ends_with(0).stderr;
    assert!(told.contains("\"acme/web 2.0.0\""), "{told}");
    let refused = home.refused(&["build", "--locked", "app.kdl"], 4);
    assert!(refused.contains("\"acme/web 2.0.0\""), "{refused}");
    let refused = home.refused(&["lock", "--check", "app.kdl"], 6);
    assert!(
        refused.contains("template acme/web 2.0.0 is not locked"),
        "{refused}"
    );
}

#[test]
fn recipes_that_come_with_vmfab_have_versions() {
    let home = Home::new();
    app(&home, "    from \"alpine@3.22\"");
    home.run(&["plan", "app.kdl", "--offline"]).ends_with(0);
    app(&home, "    from \"alpine@2\"");
    let refused = home.refused(&["plan", "app.kdl"], 4);
    assert!(
        refused.contains("no version of vmfab/alpine in >=2.0.0, <3.0.0"),
        "{refused}"
    );
    app(&home, "    from \"alpnie@3\"");
    let refused = home.refused(&["plan", "app.kdl"], 4);
    assert!(refused.contains("did you mean \"alpine\"?"), "{refused}");
}

#[test]
fn versions_that_do_not_fit_are_explained() {
    let home = home();
    publish(&home, "c", "1.0.0", "", "    from \"alpine\"");
    publish(&home, "c", "2.0.0", "", "    from \"alpine\"");
    publish(&home, "a", "1.0.0", "", "    from \"c@1\"");
    publish(&home, "b", "1.0.0", "", "    from \"c@2\"");
    app(&home, "    from \"a@1\"\n    use \"b@1\"");
    let refused = home.refused(&["plan", "app.kdl"], 4);
    for part in [
        "no versions of the templates fit",
        "acme/a",
        "acme/b",
        "acme/c",
    ] {
        assert!(refused.contains(part), "{refused}");
    }

    // A circle, and a crowd.
    publish(&home, "x", "1.0.0", "", "    from \"y@1\"");
    publish(&home, "y", "1.0.0", "", "    from \"x@1\"");
    app(&home, "    from \"x@1\"");
    let refused = home.refused(&["plan", "app.kdl"], 4);
    assert!(
        refused.contains("the circle is acme/x → acme/y → acme/x"),
        "{refused}"
    );
    let mut crowd = String::new();
    for n in 0..1000 {
        let _ = writeln!(
            crowd,
            "{{\"name\":\"t{n}\",\"versions\":[{{\"version\":\"1.0.0\",\"digest\":\"{}\",\"size\":1,\
             \"needs\":[\"t{}@1\"]}}]}}",
            "0".repeat(64),
            n + 1
        );
    }
    let mut indexes = fs::read_dir(home.path("home/templates/indexes")).unwrap();
    fs::write(indexes.next().unwrap().unwrap().path(), crowd).unwrap();
    app(&home, "    from \"t0@1\"");
    let refused = home.refused(&["plan", "app.kdl"], 4);
    assert!(
        refused.contains("needs more than 256 templates"),
        "{refused}"
    );
}

#[test]
fn templates_read_their_own_files_only() {
    let home = home();
    fs::write(
        home.path("secret.kdl"),
        "image \"s\" { from \"alpine\"; }\n",
    )
    .unwrap();
    for (version, body) in [
        (
            "1.0.0",
            "    from \"alpine\"\n    copy \"../../../../secret.kdl\" \"/stolen\"",
        ),
        ("2.0.0", "    from \"../../../../secret.kdl\""),
        (
            "3.0.0",
            "    from \"alpine\"\n    use \"../../../../secret.kdl\"",
        ),
        (
            "4.0.0",
            "    from \"alpine\"\n    copy \"/etc/hostname\" \"/stolen\"",
        ),
    ] {
        publish(&home, "climbs", version, "", body);
        app(&home, &format!("    from \"climbs@={version}\""));
        let refused = home.refused(&["plan", "app.kdl"], 4);
        assert!(refused.contains("is outside of the template"), "{refused}");
    }
    let directory = home.path("moving");
    fs::create_dir(&directory).unwrap();
    let text = "recipe \"moving\" version=\"1.0.0\"\nimage \"moving\" { from \"climbs@main\"; }\n";
    fs::write(directory.join("template.kdl"), text).unwrap();
    let refused = home.refused(&["template", "push", "moving", "acme"], 4);
    assert!(refused.contains("a template needs versions"), "{refused}");
}

#[test]
fn a_lock_tells_what_an_index_hides_or_changes() {
    let first = home();
    let body = "    from \"alpine\"";
    for version in ["1.0.0", "1.1.0"] {
        publish(&first, "web", version, "", body);
    }
    app(&first, "    from \"web@^1\"");
    // Nothing of it must be fetched to know which templates there are.
    let plan = |home: &Home, code: i32| home.run(&["plan", "app.kdl"]).ends_with(code).stderr;
    let shared = first.path("shared");
    let package = |version: &str| shared.join(format!("web-{version}.vmfabt"));
    let digest = |version: &str| Sha256::of(&fs::read(package(version)).unwrap());
    let lock = format!(
        "version 1\n\nrecipe \"app.kdl\" image=\"app\" {{\n    template \"acme/web\" \"1.1.0\"\n}}\n\n\
         template \"acme/web\" \"1.1.0\" sha256=\"{}\" source=\"shared\"\n",
        digest("1.1.0")
    );
    fs::write(first.path("vmfab.lock"), lock).unwrap();
    let said = plan(&first, 0);
    assert!(!said.contains("acme/web"), "{said}");

    // Whoever sees the repository for the first time cannot know more than the lock.
    let hidden = successor(&first);
    app(&hidden, "    from \"web@^1\"");
    publish(&hidden, "web", "1.0.0", "", body);
    let refused = plan(&hidden, 6).replace("\n  │ ", " ");
    assert!(
        refused.contains("the index of acme hides acme/web 1.1.0, which the lock pins"),
        "{refused}"
    );
    let refused = hidden.refused(&["update"], 6);
    assert!(refused.contains("hides acme/web 1.1.0"), "{refused}");
    // A recipe that asks for the older one may have it.
    app(&hidden, "    from \"web@=1.0.0\"");
    plan(&hidden, 0);

    let changed = successor(&first);
    app(&changed, "    from \"web@^1\"");
    publish(
        &changed,
        "web",
        "1.1.0",
        "",
        "    from \"alpine\"\n    run \"true\"",
    );
    let refused = plan(&changed, 6).replace("\n  │ ", " ");
    assert!(
        refused.contains("acme/web 1.1.0 changed its bytes under the same number: the lock has"),
        "{refused}"
    );

    // Without its repository, the lock says where it was.
    let without = Home::new();
    fs::copy(first.path("vmfab.lock"), without.path("vmfab.lock")).unwrap();
    app(&without, "    from \"acme/web@^1\"");
    let refused = without.refused(&["plan", "app.kdl"], 4);
    assert!(
        refused.contains("vmfab template repo add acme shared"),
        "{refused}"
    );
}
