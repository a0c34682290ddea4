//! Repositories of templates: directories, git servers and registries; and what attackers do with
//! them.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use vmfab::digest::Sha256;
use vmfab::template::Package;

use super::home::Home;
use crate::support::registry::Registry;
use crate::support::{free_port, tool};

/// Writes a template into a directory.
fn template(home: &Home, directory: &str, name: &str, version: &str, body: &str) {
    let directory = home.path(directory);
    fs::create_dir_all(directory.join("files")).unwrap();
    fs::write(
        directory.join("template.kdl"),
        format!(
            "recipe \"{name}\" version=\"{version}\" {{\n    description \"A {name} for tests\"\n    \
             tags \"testing\"\n}}\nimage \"{name}\" {{\n    from \"alpine\"\n{body}}}\n"
        ),
    )
    .unwrap();
    fs::write(directory.join("files/motd"), format!("{name} {version}\n")).unwrap();
}

fn public(home: &Home) -> String {
    let printed = home.run(&["key", "export"]).ends_with(0).stdout;
    printed.trim_end().to_owned()
}

#[test]
fn a_directory_is_a_repository() {
    let home = Home::new();
    template(&home, "web", "web", "1.0.0", "");
    fs::create_dir(home.path("shared")).unwrap();
    home.json(&["template", "repo", "add", "acme", "shared"]);
    let pushed = home.json(&["template", "push", "web", "acme"]);
    assert_eq!(pushed["template"], "acme/web");
    let packed = home.json(&["template", "package", "web"]);
    assert_eq!(packed["digest"], pushed["digest"]);
    assert_eq!(packed["place"], "web-1.0.0.vmfabt");
    let bytes = fs::read(home.path("web-1.0.0.vmfabt")).unwrap();
    assert_eq!(
        Sha256::of(&bytes).to_string(),
        pushed["digest"].as_str().unwrap()
    );

    // The same version with other bytes is refused; a new one is not.
    template(&home, "web", "web", "1.0.0", "    run \"true\"\n");
    let refused = home.refused(&["template", "push", "web", "acme"], 6);
    assert!(
        refused.contains("has web 1.0.0 with other bytes"),
        "{refused}"
    );
    template(&home, "web", "web", "1.1.0", "    run \"true\"\n");
    home.json(&["template", "push", "web", "acme"]);
    let versions = home.json(&["template", "versions", "web"]);
    let versions: Vec<&str> = versions
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["version"].as_str().unwrap())
        .collect();
    assert_eq!(versions, ["1.1.0", "1.0.0"]);
    let shown = home.json(&["template", "show", "acme/web@~1.0"]);
    assert_eq!(shown["version"], "1.0.0");
    assert_eq!(shown["digest"], pushed["digest"]);
    let missing = home.refused(&["template", "show", "acme/web@^2"], 3);
    assert!(missing.contains("it has 1.0.0, 1.1.0"), "{missing}");
    let missing = home.refused(&["template", "show", "acme/wep"], 3);
    assert!(missing.contains("did you mean \"acme/web\"?"), "{missing}");

    // What was pulled is here, also without the repository.
    home.json(&["template", "pull", "web@=1.0.0"]);
    fs::remove_dir_all(home.path("shared")).unwrap();
    home.json(&["--offline", "template", "pull", "web@=1.0.0"]);
    let listed = home.json(&["template", "list"]);
    assert_eq!(listed[0]["version"], "1.0.0");
    home.json(&["template", "rm", "acme/web"]);
    assert_eq!(home.json(&["template", "list"]), serde_json::json!([]));

    // The rest of the configuration stays as it is.
    home.json(&["template", "repo", "remove", "acme"]);
    let configuration = fs::read_to_string(home.path("config.kdl")).unwrap();
    assert_eq!(configuration, "downloads retries=2\n");
    home.refused(&["template", "repo", "remove", "acme"], 3);
    home.refused(&["template", "repo", "add", "vmfab", "."], 4);
    home.refused(&["template", "repo", "add", "acme", "nowhere"], 3);
    home.refused(
        &["template", "repo", "add", "acme", "https://example.org/x"],
        4,
    );
}

#[test]
fn a_registry_is_a_repository_and_its_index_an_artifact() {
    let registry = Registry::start();
    let place = format!("oci://{}", registry.at("acme/templates"));
    let (maker, user) = (Home::new(), Home::new());
    template(&maker, "web", "web", "1.0.0+build.1", "");
    maker.json(&["template", "repo", "add", "mine", &place]);
    maker.run(&["key", "new"]).ends_with(0);
    let pushed = maker.json(&["template", "push", "web", "mine", "--sign"]);
    let tag = format!("{}:1.0.0_build.1", registry.at("acme/templates/web"));
    assert_eq!(pushed["place"], tag.as_str());
    template(&maker, "db", "db", "2.0.0", "");
    maker.json(&["template", "push", "db", "mine"]);
    // Again is nothing new.
    let again = maker.json(&["template", "push", "db", "mine"]);
    assert_eq!(again["present"], true);

    // Others give it a namespace of their own, and find it without a connection.
    user.configure(&format!(
        "downloads retries=2\ntemplates \"acme\" \"{place}\"\nsignatures \"require\" \"template:acme/*\" for=\"template\"\n"
    ));
    let updated = user.json(&["template", "repo", "update"]);
    assert_eq!(updated[0]["templates"], 2);
    let hits = user.json(&["--offline", "template", "search", "TESTING", "web"]);
    assert_eq!(hits.as_array().unwrap().len(), 1, "{hits}");
    assert_eq!(hits[0]["template"], "acme/web");
    assert_eq!(
        user.json(&["template", "search", "acme"])
            .as_array()
            .unwrap()
            .len(),
        2
    );

    // It must be signed by whom the user trusts for this namespace, and no other.
    let refused = user.refused(&["template", "pull", "acme/db"], 6);
    assert!(refused.contains("it has no signature"), "{refused}");
    let refused = user.refused(&["template", "pull", "acme/web"], 6);
    assert!(refused.contains("is no trusted key"), "{refused}");
    let key = public(&maker);
    user.run(&["key", "trust", &key, "--for", "template:other/*"])
        .ends_with(0);
    let refused = user.refused(&["template", "pull", "acme/web"], 6);
    assert!(
        refused.contains("may sign template:other/*, and not template:acme/web"),
        "{refused}"
    );
    let old = [
        "key",
        "trust",
        &key,
        "--for",
        "template:acme/*",
        "--until",
        "2020-01-31",
    ];
    user.run(&old).ends_with(0);
    let refused = user.refused(&["template", "pull", "acme/web"], 6);
    assert!(refused.contains("was valid only until"), "{refused}");
    user.run(&["key", "trust", &key, "--for", "template:acme/*"])
        .ends_with(0);
    let pulled = user.json(&["template", "pull", "acme/web"]);
    assert_eq!(pulled["digest"], pushed["digest"]);
    // What is kept is judged again: the key may be revoked by now.
    user.json(&["--offline", "template", "pull", "acme/web"]);
    user.run(&["key", "revoke", &key]).ends_with(0);
    let refused = user.refused(&["--offline", "template", "pull", "acme/web"], 6);
    assert!(refused.contains("is revoked"), "{refused}");
}

/// The text of the index that a home keeps of the only repository.
fn index_of(home: &Home) -> std::path::PathBuf {
    let indexes = fs::read_dir(home.path("home/templates/indexes")).unwrap();
    indexes.map(|one| one.unwrap().path()).next().unwrap()
}

#[test]
fn versions_that_change_or_vanish_are_noticed() {
    let (maker, user) = (Home::new(), Home::new());
    let shared = maker.path("shared");
    fs::create_dir(&shared).unwrap();
    let place = shared.to_str().unwrap();
    maker.json(&["template", "repo", "add", "acme", place]);
    for version in ["1.0.0", "1.1.0"] {
        template(&maker, "web", "web", version, "");
        maker.json(&["template", "push", "web", "acme"]);
    }
    user.json(&["template", "repo", "add", "acme", place]);

    // A newer version is hidden: that is told, and it is not taken.
    let newer = shared.join("web-1.1.0.vmfabt");
    let kept = fs::read(&newer).unwrap();
    fs::remove_file(&newer).unwrap();
    let ran = user.run(&["template", "repo", "update"]).ends_with(0);
    let said = ran.stderr.replace("\n  │ ", " ");
    assert!(
        said.contains("the index of acme hides acme/web 1.1.0"),
        "{said}"
    );
    assert_eq!(user.json(&["template", "show", "web"])["version"], "1.0.0");
    // And again, as long as it is.
    let said = user
        .run(&["template", "repo", "update"])
        .ends_with(0)
        .stderr;
    assert!(said.contains("hides"), "{said}");

    // It comes back with other bytes.
    let package = Package::read(kept.clone()).unwrap();
    let mut files = package.files().to_vec();
    files[0].content = b"evil\n".to_vec();
    fs::write(&newer, Package::pack(files).unwrap().bytes()).unwrap();
    let refused = user.refused(&["template", "repo", "update"], 6);
    assert!(
        refused.contains("acme/web 1.1.0 changed its bytes under the same number"),
        "{refused}"
    );
    // The old index is still in use; forgetting the repository does not help the attacker.
    assert_eq!(user.json(&["template", "show", "web"])["version"], "1.0.0");
    user.json(&["template", "repo", "remove", "acme"]);
    user.refused(&["template", "repo", "add", "acme", place], 6);
    fs::write(&newer, &kept).unwrap();
    user.json(&["template", "repo", "add", "acme", place]);
    assert_eq!(user.json(&["template", "show", "web"])["version"], "1.1.0");

    // An index that was right when it was read, and a package that is another one by now.
    let package = Package::read(kept.clone()).unwrap();
    let mut files = package.files().to_vec();
    files[0].content = b"evil\n".to_vec();
    fs::write(&newer, Package::pack(files).unwrap().bytes()).unwrap();
    let refused = user.refused(&["template", "pull", "web"], 6);
    assert!(
        refused.contains("changed its bytes under the same number"),
        "{refused}"
    );
    fs::write(&newer, &kept).unwrap();
    user.json(&["template", "pull", "web"]);

    // An index that says other needs than the package.
    let index = index_of(&user);
    let text = fs::read_to_string(&index).unwrap();
    fs::write(
        &index,
        text.replace("\"size\"", "\"needs\":[\"other@1\"],\"size\""),
    )
    .unwrap();
    let refused = user.refused(&["template", "pull", "web"], 6);
    assert!(
        refused.contains("says something else than the package"),
        "{refused}"
    );
}

#[test]
fn what_breaks_a_rule_is_not_imported() {
    let home = Home::new();
    template(&home, "web", "web", "1.0.0", "");
    home.json(&["template", "package", "web"]);
    home.json(&["template", "import", "web-1.0.0.vmfabt"]);
    let url = format!("file://{}", home.path("web-1.0.0.vmfabt").display());
    assert_eq!(home.json(&["template", "import", &url])["present"], true);
    assert_eq!(home.json(&["template", "list"])[0]["template"], "local/web");
    assert_eq!(
        home.json(&["template", "search", "web"])[0]["template"],
        "local/web"
    );
    home.json(&["template", "rm", "web"]);

    // A link of the directory would bring a file of this host.
    std::os::unix::fs::symlink("/etc/passwd", home.path("web/files/passwd")).unwrap();
    let refused = home.refused(&["template", "package", "web"], 2);
    assert!(refused.contains("passwd is no regular file"), "{refused}");
    fs::remove_file(home.path("web/files/passwd")).unwrap();

    // What GNU tar makes of it is no package, nor is what gzip makes of one.
    let tar = |words: &[&str]| {
        let ran = Command::new("tar")
            .args(words)
            .current_dir(home.directory())
            .status();
        assert!(ran.expect("tar runs").success());
    };
    tar(&["cf", "plain.vmfabt", "-C", "web", "."]);
    let refused = home.refused(&["template", "import", "plain.vmfabt"], 6);
    assert!(refused.contains("in the package"), "{refused}");
    tar(&["czf", "small.vmfabt", "-C", "web", "template.kdl"]);
    let refused = home.refused(&["template", "import", "small.vmfabt"], 6);
    assert!(refused.contains("a tar without compression"), "{refused}");
    tar(&[
        "cf",
        "climbs.vmfabt",
        "-P",
        "-C",
        "web",
        "--transform=s,^,../,",
        "template.kdl",
    ]);
    let refused = home.refused(&["template", "import", "climbs.vmfabt"], 6);
    assert!(refused.contains("climbs out of the package"), "{refused}");
    assert_eq!(home.json(&["template", "list"]), serde_json::json!([]));
}

/// git's own server, which ends with the test.
struct Daemon {
    child: Child,
    port: u16,
}

impl Daemon {
    fn start(base: &Path) -> Self {
        let port = free_port();
        let exec_path = tool("git", "git").arg("--exec-path").output().unwrap();
        let exec_path = String::from_utf8(exec_path.stdout).unwrap();
        let child = Command::new(Path::new(exec_path.trim()).join("git-daemon"))
            .args(["--reuseaddr", "--export-all", "--listen=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", base.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "git daemon did not start"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_git_repository_has_versions_by_its_tags() {
    let home = Home::new();
    let git = |words: &[&str]| {
        let output = Command::new("git")
            .args([
                "-C",
                "work",
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@example.org",
            ])
            .args(words)
            .current_dir(home.directory())
            .env("HOME", "/nonexistent")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    fs::create_dir(home.path("work")).unwrap();
    git(&["init", "--quiet", "--initial-branch=main"]);
    let commit = |message: &str| {
        git(&["add", "-A"]);
        git(&["commit", "--quiet", "-m", message]);
    };
    template(&home, "work/web", "web", "1.0.0", "");
    template(&home, "work/db", "db", "3.0.0", "");
    commit("one");
    git(&["tag", "v1.0.0"]);
    git(&["tag", "-a", "-m", "annotated", "db-3.0.0"]);
    template(&home, "work/web", "web", "1.1.0", "");
    commit("two");
    let second = git(&["rev-parse", "HEAD"]);
    let daemon = Daemon::start(home.directory());
    let place = format!("git://127.0.0.1:{}/work", daemon.port);
    home.json(&["template", "repo", "add", "acme", &place]);

    let shown = home.json(&["template", "show", "acme/web"]);
    assert_eq!(shown["version"], "1.0.0");
    assert_eq!(
        home.json(&["template", "show", "acme/db"])["version"],
        "3.0.0"
    );
    // The branch is no release: it is asked for by its name, or by its commit.
    home.refused(&["template", "show", "acme/web@^1.1"], 3);
    for name in ["main", &second, &second[..10]] {
        let shown = home.json(&["template", "show", &format!("acme/web@{name}")]);
        assert_eq!(shown["version"], "1.1.0", "{name}");
        assert_eq!(shown["release"], false);
    }
    home.json(&["template", "pull", "acme/web@main"]);

    // The branch may move, a tag may not.
    template(&home, "work/web", "web", "1.1.0", "    run \"true\"\n");
    commit("three");
    home.json(&["template", "repo", "update"]);
    git(&["tag", "web-1.1.0"]);
    let updated = home.json(&["template", "repo", "update", "acme"]);
    assert_eq!(updated[0]["templates"], 2);
    assert_eq!(
        home.json(&["template", "show", "acme/web"])["version"],
        "1.1.0"
    );
    git(&["tag", "--force", "web-1.1.0", &second]);
    let refused = home.refused(&["template", "repo", "update"], 6);
    assert!(
        refused.contains("changed its bytes under the same number"),
        "{refused}"
    );
    let refused = home.refused(&["template", "push", "work/web", "acme"], 2);
    assert!(refused.contains("is a git repository"), "{refused}");
    let _: Value = home.json(&["template", "repo", "list"]);
}
