//! What a step sees, and what every node of a recipe does to the tree.

use std::fs;
use std::io::Write;

use super::super::support::{Build, Lab, Ran, Recipes, base};

/// The namespaces of this process and what a step printed of its own, as `pid:[…]`.
fn differing_namespaces(output: &[&str]) -> Vec<String> {
    let kinds = ["ipc", "mnt", "net", "pid", "user", "uts"];
    let differs = |kind: &&str| {
        let host = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let inside = output
            .iter()
            .find(|line| line.starts_with(&format!("{kind}:[")))
            .unwrap_or_else(|| panic!("nothing about {kind}: {output:?}"));
        host.to_str().unwrap() != *inside
    };
    kinds
        .into_iter()
        .filter(differs)
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_step_sees_nothing_of_the_host() {
    let recipes = Recipes::new();
    let home = std::env::var("HOME").unwrap();
    let mut at_home = tempfile::NamedTempFile::new_in(home).unwrap();
    at_home.write_all(b"mine").unwrap();
    let looking = r#"
        for name in ipc mnt net pid user uts; do readlink /proc/self/ns/$name; done
        test -z "$SECRET"
        test "$(id -u):$(id -g)" = 0:0
        test "$(cat /proc/sys/kernel/hostname)" = vmfab
        tr '\0' '\n' < /proc/1/cmdline | head -n 1 | grep -q 'bwrap$'
        test "$(ls -d /proc/[0-9]* | wc -l)" -lt 8
        test -z "$(ls -A /tmp)"
        for device in kvm vda sda mem; do test ! -e /dev/$device; done
        "#;
    let host_file = at_home.path().display();
    let directory = recipes.directory().display();
    recipes.image(
        "looking",
        &format!(
            r##"
        run #"""{looking}
        test "$(grep -c : /proc/net/dev)" = 1
        grep -q ' lo:' /proc/net/dev
        test ! -e {host_file}
        test ! -e {directory}
        """#
        run network=#true #"""{looking}
        test -s /etc/resolv.conf
        """#
"##
        ),
    );
    let build = Build::of(recipes.command("looking").env("SECRET", "of the host")).succeeds();
    let of_step = |index: usize| -> Vec<&str> {
        let step = &build.events("step-started").nth(index).unwrap()["step"];
        let lines = build.events("step-output").filter(|e| e["step"] == *step);
        lines.map(|e| e["line"].as_str().unwrap()).collect()
    };
    assert_eq!(
        differing_namespaces(&of_step(0)),
        ["ipc", "mnt", "net", "pid", "user", "uts"]
    );
    assert_eq!(
        differing_namespaces(&of_step(1)),
        ["ipc", "mnt", "pid", "user", "uts"]
    );
}

/// While bubblewrap sets a sandbox up, the host lies below `/oldroot`: a link of the tree must not
/// make it write there.
#[test]
fn links_of_the_tree_lead_nowhere_else() {
    let recipes = Recipes::new();
    let place = tempfile::tempdir().unwrap();
    let (file, directory) = (place.path().join("file"), place.path().join("directory"));
    let (file_name, directory_name) = (file.display(), directory.display());
    recipes.image(
        "leading",
        &format!(
            r##"
        run "ln -sf /run/../../oldroot{file_name} /etc/resolv.conf"
        run "cat /etc/hostname" network=#true
        run "mv /usr/sbin /usr/sbin.real && ln -s /oldroot{directory_name} /usr/sbin"
        run "rm /usr/sbin && mv /usr/sbin.real /usr/sbin"
"##
        ),
    );
    // Whether the steps succeed does not matter, but that nothing came of them outside.
    Build::of(&mut recipes.command("leading"));
    assert!(!file.exists(), "{file_name} was made on the host");
    assert!(!directory.exists(), "{directory_name} was made on the host");
}

/// Writes the recipe `every-node.kdl`: one image with every node that changes a tree, and checks
/// that each did what it says.
pub(super) fn write_every_node(recipes: &Recipes) {
    let base = base();
    recipes.write(
        "common.kdl",
        &format!(
            r#"
recipe "common" {{
    param "greeting" default="hello there"
    param "size" type="size" default="2G"
}}
image "role" {{
    from "{base}"
    disk size="${{size}}"
    env GREETING="${{greeting}}" EDITOR="vi"
    check "test \"$GREETING\" = 'hello there'"
}}
"#
        ),
    );
    recipes.write("files/motd", "from a local file\n");
    recipes.write("files/www/index.html", "<p>\n");
    recipes.write("files/www/bin/serve", "#!/bin/sh\n");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o750);
    fs::set_permissions(recipes.path("files/www/bin/serve"), executable).unwrap();
    std::os::unix::fs::symlink("bin/serve", recipes.path("files/www/start")).unwrap();
    recipes.write("every-node.kdl", EVERY_NODE);
}

const EVERY_NODE: &str = r##"
include "./common.kdl"

recipe "every-node" version="1.2.3" {
    description "Every node once"
    metadata maintainer="me@example.org"
    param "mode" default="release" { choices "release" "debug" }
}

image "every-node" {
    from "role"
    packages "hello"
    check "test \"$(hello)\" = 'Hello, world!'"

    env EDITOR="vim"
    check "test \"$EDITOR\" = vim; grep -qx 'GREETING=\"hello there\"' /etc/environment"

    run workdir="/srv/deep/down" "pwd > where; echo \"$MODE\" > mode" { env MODE="${mode}" }
    check workdir="/srv/deep/down" "test $(cat where) = /srv/deep/down; test $(cat mode) = release"
    check "test -z \"$MODE\""
    run shell="/bin/bash" "set -o pipefail; cat < <(echo bash) > /srv/bash"
    check "test $(cat /srv/bash) = bash"

    file "/etc/deep/private" mode="0640" owner="root:adm" { content "secret\n" }
    check "test $(stat -c %a:%U:%G /etc/deep/private) = 640:root:adm"
    check "test $(stat -c %a:%U:%G /etc/deep) = 755:root:root; test $(cat /etc/deep/private) = secret"
    file "/etc/motd" source="./files/motd"
    check "test \"$(cat /etc/motd)\" = 'from a local file'; test $(stat -c %a:%u /etc/motd) = 644:0"

    copy "./files/www" "/srv/www" owner="www-data"
    check "test $(stat -c %a:%U /srv/www/index.html) = 644:www-data"
    check "test $(stat -c %a:%U /srv/www/bin/serve) = 750:www-data"
    check "test $(readlink /srv/www/start) = bin/serve"
    copy "./files/www/bin/serve" "/usr/local/bin/" mode="0700"
    check "test $(stat -c %a:%U /usr/local/bin/serve) = 700:root"

    user "deploy" uid=2000 groups="adm staff2" sudo=#true shell="/bin/sh" \
            password-hash="$6$c2FsdA$Zm9vYmFyYmF6" {
        authorized-keys "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE me@home"
    }
    check "test \"$(id -nG deploy | tr ' ' '\\n' | sort | tr '\\n' ' ')\" = 'adm deploy staff2 '"
    check "test $(getent passwd deploy | cut -d: -f3,6,7) = 2000:/home/deploy:/bin/sh"
    check "getent shadow deploy | grep -qF '$6$c2FsdA$Zm9vYmFyYmF6'"
    check "visudo --check --quiet; grep -q '^deploy .*NOPASSWD' /etc/sudoers.d/90-deploy"
    check "test $(stat -c %a:%U:%G /home/deploy/.ssh/authorized_keys) = 600:deploy:deploy"
    check "grep -qx 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE me@home' /home/deploy/.ssh/authorized_keys"
    user "vm" groups="adm"
    check "id -nG vm | grep -qw adm; test -e /etc/sudoers.d/90-vm"

    service "apt-daily.timer" enable=#false
    check "test \"$(systemctl is-enabled apt-daily.timer || true)\" = disabled"
    // Two steps that change nothing.
    service "ssh" enable=#true
    run "true"
    check "test $(systemctl is-enabled ssh) = enabled"

    hostname "web-1"
    check "test $(cat /etc/hostname) = web-1; grep -q '^127.0.1.1 web-1$' /etc/hosts"

    disk label="every"
    boot "quiet"
    port 80 host=8080
    check "grep -q '^LABEL=every / ext4 ' /etc/fstab"
}
"##;

#[test]
fn every_node_does_what_it_says() {
    let recipes = Recipes::new();
    write_every_node(&recipes);
    let build = recipes.build("every-node").succeeds();
    assert_eq!(build.ended("skipped"), [""; 0]);
    let inspected = Lab::get().run(["image", "inspect", "@every-node", "--json"]);
    let inspected = inspected.ends_with(0).json();
    let config = &inspected["config"];
    assert_eq!(config["recipe"]["version"], "1.2.3", "{inspected:#}");
    assert_eq!(config["description"], "Every node once");
    assert_eq!(config["metadata"]["maintainer"], "me@example.org");
    assert_eq!(config["filesystem"]["label"], "every");
    let command_line = config["boot"]["command-line"].as_str().unwrap();
    assert!(command_line.ends_with(" quiet"), "{command_line}");
    assert_eq!(config["ports"][0]["host"], 8080);
    assert_eq!(config["env"]["EDITOR"], "vim");
    assert_eq!(config["disk"]["size"], 2_u64 << 30);

    // A value of a parameter comes through, and a check that does not hold fails.
    let arguments = ["--set", "mode=debug", "--tag", "@of-debug"];
    let failed = recipes.build_with("every-node", arguments).ends_with(1);
    assert_eq!(failed.ended("failed").len(), 1);
    let message = failed.error()["message"].to_string();
    assert!(message.contains("check test $(cat where)"), "{message}");
    let tags: Ran = Lab::get().run(["images", "--quiet"]).ends_with(0);
    assert!(!tags.stdout.contains("of-debug"), "{}", tags.stdout);
}
