//! What recipes bring along: modes, times, what stands in the way.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::super::support::{Archive, Build, Recipes};

#[test]
fn local_files_keep_their_modes_and_get_the_time_of_their_content() {
    let recipes = Recipes::new();
    let chmod = |name: &str, mode: u32| {
        fs::set_permissions(recipes.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    recipes.write("files/private/key", "secret-1");
    recipes.write("files/tool", "#!/bin/sh\n");
    recipes.write("files/shared/note", "note");
    for (name, mode) in [
        ("files/private/key", 0o600),
        ("files/private", 0o700),
        ("files/tool", 0o4755),
        ("files/shared/note", 0o664),
        ("files/shared", 0o2775),
        ("files", 0o1777),
    ] {
        chmod(name, mode);
    }
    recipes.image_from_tag(
        "modes",
        r#"
        run "mkfifo /srv/pipe; ln -s /etc /srv/link # of modes"
        file "/srv/pipe" { content "no pipe\n" }
        file "/srv/link" source="./files/private/key"
        file "/srv/public" source="./files/private/key" mode="0644"
        copy "./files" "/srv/copied"
        run "cd /srv; stat -c '%n %A %U' pipe link public; find copied | sort | xargs stat -c '%n %A'"
        run "cd /srv; stat -c '%Y of %n' public pipe copied/private/key"
        "#,
    );
    let listing = |key: &str| {
        format!(
            "pipe -rw-r--r-- root\nlink {key} root\npublic -rw-r--r-- root\ncopied drwxrwxrwt\n\
             copied/private drwx------\ncopied/private/key {key}\ncopied/shared drwxrwsr-x\n\
             copied/shared/note -rw-rw-r--\ncopied/tool -rwsr-xr-x"
        )
    };
    let first = recipes.build("modes").succeeds();
    let output = first.output().join("\n");
    assert!(output.contains(&listing("-rw-------")), "{output}");
    let times = |output: Vec<&str>| -> Vec<String> {
        let lines = output.into_iter().filter(|line| line.contains(" of "));
        lines
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect()
    };
    let before = times(first.output());
    // Equal content has an equal time.
    assert_eq!(before[0], before[2], "{before:?}");
    assert_ne!(before[0], before[1], "{before:?}");

    chmod("files/private/key", 0o640);
    let second = recipes.build("modes").succeeds();
    let output = second.output().join("\n");
    assert!(output.contains(&listing("-rw-r-----")), "{output}");
    assert_ne!(first.image(), second.image());

    fs::write(recipes.path("files/private/key"), "secret-2").unwrap();
    let third = recipes.build("modes").succeeds();
    let after = times(third.output());
    assert_eq!(before[1], after[1]);
    assert_ne!(before[0], after[0]);
    assert_eq!(after[0], after[2]);

    // A directory in the way is nobody's to remove.
    recipes.image_from_tag("in-the-way", r#"file "/srv" { content "x" }"#);
    let failed = recipes.build("in-the-way").ends_with(1);
    assert!(
        failed.error().to_string().contains("/srv: "),
        "{}",
        failed.error()
    );
}

#[test]
fn a_configuration_file_of_the_recipe_stays() {
    let recipes = Recipes::new();
    let archive = Archive::new();
    archive.publish("configured", "1", "");
    let url = archive.url();
    recipes.image_from_tag(
        "configured",
        &format!(
            r#"
            file "/etc/apt/sources.list" {{ content "deb [trusted=yes] {url} ./\n" }}
            file "/etc/configured.conf" {{ content "of the recipe\n" }}
            packages "configured"
            run "cat /etc/configured.conf /usr/share/configured # of configured"
            "#
        ),
    );
    let build = recipes.build("configured").succeeds();
    let output = build.output();
    assert!(output.ends_with(&["of the recipe", "1"]), "{output:?}");
}

/// As reproducible-builds.org has it. Without the variable everything is as before.
#[test]
fn the_time_of_files_can_be_chosen() {
    let recipes = Recipes::new();
    recipes.write("files/deep/one", "one");
    recipes.image_from_tag(
        "timed",
        r#"
        file "/srv/inline" { content "inline\n" }
        file "/srv/local" source="./files/deep/one"
        copy "./files" "/srv/copied"
        run "cd /srv; stat -c '%Y of %n' inline local copied/deep/one"
        "#,
    );
    let at = |time: &str| {
        let mut command = recipes.command("timed");
        command.env("SOURCE_DATE_EPOCH", time);
        Build::of(&mut command).succeeds()
    };
    let usual = recipes.build("timed").succeeds();
    let first = at("1700000000");
    let lines = first.output();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines.iter().all(|line| line.starts_with("1700000000 of ")),
        "{lines:?}"
    );
    assert_ne!(at("1700000001").image(), first.image());
    assert_eq!(at("1700000000").started(), [""; 0]);
    let again = recipes.build("timed").succeeds();
    assert_eq!(
        (again.started(), again.image()),
        (Vec::new(), usual.image())
    );
}
