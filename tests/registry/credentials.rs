//! Where credentials are found and kept, with the program itself.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::environment;
use crate::support::registry::{Registry, RegistryOptions};
use crate::support::{Ran, command_in};

const PASSWORD: &str = "p:ssw0rd-ä";

/// A home of a user, with a program that keeps credentials.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = Self(directory);
        fs::create_dir_all(home.path("bin")).unwrap();
        let program = home.path("bin/docker-credential-test");
        fs::write(&program, HELPER).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &Value) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content.to_string()).unwrap();
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command_in(&self.path("vmfab"));
        for name in [
            "REGISTRY_AUTH_FILE",
            "DOCKER_CONFIG",
            "XDG_CONFIG_HOME",
            "VMFAB_REGISTRY",
        ] {
            command.env_remove(name);
        }
        let path = std::env::var("PATH").unwrap();
        command
            .args(arguments)
            .env("HOME", self.0.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("HELPER_DIRECTORY", self.0.path());
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    #[track_caller]
    fn login(&self, registry: &str, password: &str, more: &[&str]) -> Ran {
        let mut command = self.command(&["login", registry, "-u", "anna", "--password-stdin"]);
        command
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(format!("{password}\n").as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap().into()
    }

    /// Where a file makes the credentials of a registry come from, in this process.
    fn find(&self, registry: &str, repository: &str) -> Option<(String, String)> {
        let user = super::User::with(|options| {
            let root = self.0.path();
            options.environment =
                environment(&[("HOME", root), ("XDG_RUNTIME_DIR", &root.join("run"))]);
        });
        let known = user
            .registries
            .credentials()
            .find(registry, repository)
            .unwrap()?;
        let file = Path::new(&known.place).strip_prefix(self.0.path()).unwrap();
        let name = format!(
            "{:?} {}",
            known.credential,
            known.credential.user().unwrap_or("-")
        );
        Some((name, file.display().to_string()))
    }
}

/// Keeps what it is given in a file named by the server, and its arguments in another one.
const HELPER: &str = r#"#!/bin/sh
cd "$HELPER_DIRECTORY"
echo "$@" >> calls
case $1 in
    get)
        read -r server || true
        name=kept-$(printf %s "$server" | tr -c 'a-z0-9.\n' _)
        if [ -e "$name" ]; then cat "$name"; else echo "credentials not found in native keychain"; exit 1; fi ;;
    store)
        input=$(cat)
        server=$(printf %s "$input" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/')
        printf %s "$input" > "kept-$(printf %s "$server" | tr -c 'a-z0-9.\n' _)" ;;
    erase)
        read -r server || true
        rm "kept-$(printf %s "$server" | tr -c 'a-z0-9.\n' _)" ;;
esac
"#;

fn registry() -> Registry {
    Registry::with(&RegistryOptions {
        users: vec![("anna", PASSWORD)],
        ..RegistryOptions::default()
    })
}

fn base64(text: &str) -> String {
    use base64ct::Encoding as _;
    base64ct::Base64::encode_string(text.as_bytes())
}

#[test]
fn a_login_is_kept_where_docker_looks_and_used() {
    let registry = registry();
    let (home, address) = (Home::new(), registry.address());
    let other = json!({"auths": {"a.org": {"auth": base64("x:y")}}, "detachKeys": "ctrl-e,e"});
    home.write(".docker/config.json", &other);
    fs::set_permissions(
        home.path(".docker/config.json"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    home.run(&["tags", &registry.at("a/b")]).ends_with(1);
    let ran = home.login(&address, PASSWORD, &[]).ends_with(0);
    assert!(
        ran.stdout.contains(&format!("anna at {address}")),
        "{}",
        ran.stdout
    );
    let mut expected = other;
    expected["auths"][&address] = json!({"auth": base64(&format!("anna:{PASSWORD}"))});
    assert_eq!(home.json(".docker/config.json"), expected);
    let mode = home
        .path(".docker/config.json")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let left: Vec<_> = fs::read_dir(home.path(".docker")).unwrap().collect();
    assert_eq!(left.len(), 1);
    // The registry answers now: that there is no such repository.
    home.run(&["tags", &registry.at("a/b")]).ends_with(3);
    // Others find it, too.
    let mut skopeo = crate::support::tool("skopeo", "skopeo");
    skopeo
        .args(["login", "--get-login", &address])
        .env("HOME", home.path(""))
        .env("XDG_RUNTIME_DIR", home.path("run"))
        .env_remove("REGISTRY_AUTH_FILE");
    assert_eq!(Ran::of(&mut skopeo).ends_with(0).stdout.trim(), "anna");
    let status = home
        .run(&["login", &address, "--status", "--json"])
        .ends_with(0)
        .json();
    assert_eq!(status["user"], "anna");
    home.run(&["logout", &address]).ends_with(0);
    assert_eq!(
        home.json(".docker/config.json")["auths"],
        json!({"a.org": {"auth": base64("x:y")}})
    );
    let ran = home.run(&["logout", &address]).ends_with(3);
    assert!(ran.stderr.contains("no login at"), "{}", ran.stderr);
    home.run(&["login", &address, "--status"]).ends_with(3);
}

#[test]
fn a_wrong_password_is_not_kept_and_not_shown() {
    let registry = registry();
    let (home, address) = (Home::new(), registry.address());
    let log = home.path("log");
    let trace = home.path("trace");
    let more = [
        ["--log", log.to_str().unwrap()],
        ["--trace", trace.to_str().unwrap()],
    ]
    .concat();
    let ran = home.login(&address, "wr0ng", &more).ends_with(1);
    assert!(
        ran.stderr.contains("rejects this name and password"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("wr0ng"));
    assert!(!home.path(".docker/config.json").exists());
    let log = fs::read_to_string(log).unwrap();
    assert!(!log.contains("wr0ng"), "{log}");
    let trace = fs::read_to_string(trace).unwrap();
    assert!(trace.contains("\"status\":401"), "{trace}");
    for secret in ["wr0ng", &base64("anna:wr0ng")] {
        assert!(!trace.contains(secret), "{trace}");
    }
}

#[test]
fn a_login_is_kept_where_podman_looks_when_it_has_a_file() {
    let registry = registry();
    let (home, address) = (Home::new(), registry.address());
    home.write("run/containers/auth.json", &json!({}));
    home.login(&address, PASSWORD, &[]).ends_with(0);
    let auths = &home.json("run/containers/auth.json")["auths"];
    assert_eq!(auths[&address]["auth"], base64(&format!("anna:{PASSWORD}")));
    let named = home.path("own.json");
    let mut command = home.command(&["login", &address, "-u", "anna", "--password-stdin"]);
    command
        .env("REGISTRY_AUTH_FILE", &named)
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(PASSWORD.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert!(home.json("own.json")["auths"][&address].is_object());
    let ran = home.run(&["logout", "--all"]).ends_with(0);
    assert!(ran.stdout.contains(&address), "{}", ran.stdout);
    assert_eq!(home.json("run/containers/auth.json")["auths"], json!({}));
}

#[test]
fn a_program_keeps_the_password_where_one_is_named() {
    let registry = registry();
    let (home, address) = (Home::new(), registry.address());
    home.write(".docker/config.json", &json!({"credsStore": "test"}));
    let ran = home.login(&address, PASSWORD, &[]).ends_with(0);
    assert!(
        ran.stdout.contains("docker-credential-test"),
        "{}",
        ran.stdout
    );
    let file = fs::read_to_string(home.path(".docker/config.json")).unwrap();
    assert!(
        !file.contains(&base64(&format!("anna:{PASSWORD}"))),
        "{file}"
    );
    assert_eq!(
        home.json(".docker/config.json")["auths"],
        json!({&address: {}})
    );
    home.run(&["tags", &registry.at("a/b")]).ends_with(3);
    let calls = fs::read_to_string(home.path("calls")).unwrap();
    assert!(!calls.contains("ssw0rd"), "{calls}");
    home.run(&["logout", &address]).ends_with(0);
    home.run(&["tags", &registry.at("a/b")]).ends_with(1);
    let calls = fs::read_to_string(home.path("calls")).unwrap();
    assert_eq!(calls.lines().last(), Some("get"));
    assert!(calls.contains("erase"), "{calls}");
}

#[test]
fn a_program_that_is_not_there_is_warned_of() {
    let registry = Registry::start();
    let home = Home::new();
    let address = registry.address();
    home.write(
        ".docker/config.json",
        &json!({"credHelpers": {&address: "absent"}}),
    );
    // An open registry asks for nobody, and so does vmfab.
    let ran = home.run(&["tags", &registry.at("a/b")]).ends_with(3);
    assert!(!ran.stderr.contains("absent"), "{}", ran.stderr);
    let registry = self::registry();
    let address = registry.address();
    home.write(
        ".docker/config.json",
        &json!({"credHelpers": {&address: "absent"}}),
    );
    let ran = home.run(&["tags", &registry.at("a/b")]).ends_with(1);
    assert!(
        ran.stderr.contains("docker-credential-absent"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("is not installed"), "{}", ran.stderr);
    let ran = home.login(&address, PASSWORD, &[]).ends_with(1);
    assert!(
        ran.stderr.contains("docker-credential-absent"),
        "{}",
        ran.stderr
    );
    home.write(
        ".docker/config.json",
        &json!({"credsStore": "../../bin/sh"}),
    );
    let ran = home.run(&["tags", &registry.at("a/b")]).ends_with(1);
    assert!(ran.stderr.contains("is not installed"), "{}", ran.stderr);
}

#[test]
fn files_are_asked_in_order_and_the_longest_name_wins() {
    let home = Home::new();
    let entry = |user: &str| json!({"auth": base64(&format!("{user}:x"))});
    home.write(
        ".docker/config.json",
        &json!({"auths": {
            "https://index.docker.io/v1/": entry("hub"),
            "http://old.example/v1/": entry("old"),
            "a.org": entry("docker"),
            "token.example": {"registrytoken": "t"},
            "fields.example": {"username": "fields", "password": "p"},
        }}),
    );
    home.write(
        ".config/containers/auth.json",
        &json!({"auths": {"a.org/me": entry("me"), "a.org/me/vm": entry("vm"), "b.org": entry("podman")}}),
    );
    home.write(
        "run/containers/auth.json",
        &json!({"auths": {"b.org": entry("running")}}),
    );
    let docker = ".docker/config.json";
    let podman = ".config/containers/auth.json";
    for (registry, repository, user, file) in [
        ("docker.io", "library/debian", "Password hub", docker),
        ("old.example", "x", "Password old", docker),
        ("a.org", "other/vm", "Password docker", docker),
        ("a.org", "me/other", "Password me", podman),
        ("a.org", "me/vm", "Password vm", podman),
        ("a.org", "me/vm/x", "Password vm", podman),
        ("a.org", "mex", "Password docker", docker),
        ("b.org", "x", "Password running", "run/containers/auth.json"),
        ("token.example", "x", "Token -", docker),
        ("fields.example", "x", "Password fields", docker),
    ] {
        let expected = Some((user.to_owned(), file.to_owned()));
        assert_eq!(
            home.find(registry, repository),
            expected,
            "{registry}/{repository}"
        );
    }
    assert_eq!(home.find("c.org", "x"), None);
    assert_eq!(home.find("a.org:5000", "x"), None);
}

#[test]
fn a_broken_file_is_an_error_that_names_it() {
    let registry = registry();
    let home = Home::new();
    for (content, why) in [
        ("{", "is no JSON"),
        ("[]", "holds no JSON object"),
        (
            r#"{"auths":{"ADDRESS":{"auth":"%%%"}}}"#,
            "is not in base64",
        ),
        (
            r#"{"auths":{"ADDRESS":{"auth":"YW5uYQ=="}}}"#,
            "has no password",
        ),
    ] {
        let path = home.path(".docker/config.json");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content.replace("ADDRESS", &registry.address())).unwrap();
        let ran = home.run(&["tags", &registry.at("a/b")]).ends_with(1);
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
        assert!(ran.stderr.contains("config.json"), "{}", ran.stderr);
    }
    // It is not replaced by a login either.
    fs::write(home.path(".docker/config.json"), "{").unwrap();
    home.login(&registry.address(), PASSWORD, &[]).ends_with(1);
    assert_eq!(
        fs::read_to_string(home.path(".docker/config.json")).unwrap(),
        "{"
    );
}

#[test]
fn wrong_arguments_are_told() {
    let home = Home::new();
    for (arguments, why) in [
        (
            &["login", "https://a.org", "--status"][..],
            "is not a registry",
        ),
        (&["login", "a.org/me", "--status"], "is not a registry"),
        (&["login", "a.org"], "no terminal"),
        (&["login", "a.org", "-u", "anna"], "no terminal"),
        (&["login", "a.org", "--password-stdin"], "--user <NAME>"),
        (
            &["login", "a.org", "-u", "anna", "--password-stdin"],
            "the password is empty",
        ),
        (
            &["login", "a.org", "-u", "an:na", "--password-stdin"],
            "is not an account name",
        ),
        (&["logout"], "required"),
        (&["logout", "--all", "a.org"], "cannot be used with"),
        (&["tags", "a.org/Me"], "capital letters"),
        (
            &["tags", "a.org/me", "--insecure", "--plain-http"],
            "cannot be used with",
        ),
    ] {
        let ran = home.run(arguments).ends_with(2);
        assert!(ran.stderr.contains(why), "{arguments:?}: {}", ran.stderr);
    }
    let ran = home.run(&["tags", "a.org/me", "--offline"]).ends_with(1);
    assert!(
        ran.stderr
            .contains("offline, and a.org/me:latest is in a registry"),
        "{}",
        ran.stderr
    );
    let ran = home.run(&["logout", "--all"]).ends_with(0);
    assert!(ran.stderr.contains("no login found"), "{}", ran.stderr);
}

#[test]
fn the_program_lists_tags_over_tls() {
    let registry = Registry::with(&RegistryOptions {
        tls: true,
        users: vec![("anna", PASSWORD)],
    });
    let home = Home::new();
    let name = registry.at("a/b");
    let ran = home.run(&["tags", &name]).ends_with(1);
    assert!(ran.stderr.contains("does not trust"), "{}", ran.stderr);
    let ran = home
        .login(&registry.address(), PASSWORD, &["--insecure"])
        .ends_with(0);
    assert!(
        ran.stderr.contains("is not asked to prove who it is"),
        "{}",
        ran.stderr
    );
    let config = format!(
        "registry \"{}\" ca=\"{}\"\n",
        registry.address(),
        registry.authority().display()
    );
    fs::create_dir_all(home.path(".config/vmfab")).unwrap();
    fs::write(home.path(".config/vmfab/config.kdl"), config).unwrap();
    let ran = home.run(&["tags", &name]).ends_with(3);
    assert!(
        ran.stderr.contains("there is no repository"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_password_that_is_typed_is_not_shown() {
    let registry = registry();
    let home = Home::new();
    // `script` makes a terminal.
    let program = crate::support::program();
    let command = format!("{program} login {}", registry.address());
    let mut script = crate::support::tool("script", "bsdutils");
    let mut child = script
        .args(["-qec", &command, "/dev/null"])
        .env("HOME", home.path(""))
        .env("XDG_RUNTIME_DIR", home.path("run"))
        .env("VMFAB_HOME", home.path("vmfab"))
        .env_remove("REGISTRY_AUTH_FILE")
        .env_remove("DOCKER_CONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut seen = Vec::new();
    let mut wait_for = |text: &str, seen: &mut Vec<u8>| {
        let mut byte = [0];
        while !String::from_utf8_lossy(seen).contains(text) {
            std::io::Read::read_exact(&mut stdout, &mut byte).unwrap();
            seen.push(byte[0]);
        }
    };
    wait_for("Name: ", &mut seen);
    stdin.write_all(b"anna\n").unwrap();
    wait_for("Password: ", &mut seen);
    stdin.write_all(format!("{PASSWORD}\n").as_bytes()).unwrap();
    wait_for("saved in", &mut seen);
    assert!(child.wait().unwrap().success());
    let seen = String::from_utf8_lossy(&seen);
    assert!(seen.contains("anna") && !seen.contains("ssw0rd"), "{seen}");
}
