//! Secrets and agents.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use vmfab::store::Store;

use super::Kitchen;
use crate::support::Running;

const SECRET: &str = "correct-horse-battery-staple";

/// The files below a directory that hold the secret.
pub(super) fn holding(directory: &Path, secret: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            holding(&path, secret, found);
        } else if kind.is_file() && has(&fs::read(&path).unwrap(), secret) {
            found.push(path.display().to_string());
        }
    }
}

pub(super) fn has(bytes: &[u8], secret: &str) -> bool {
    // The standard library is optimised, also where this is not.
    String::from_utf8_lossy(bytes).contains(secret)
}

/// Looks for the secret in all that a home keeps, and in the content of all objects.
#[track_caller]
pub(super) fn is_nowhere_in(home: &Path, secret: &str) {
    let mut found = Vec::new();
    holding(home, secret, &mut found);
    assert_eq!(found, [""; 0]);
    let store = Store::open(home.join("store")).unwrap();
    let objects = store.objects_beginning("", usize::MAX).unwrap();
    assert!(objects.len() > 5, "{}", objects.len());
    for object in objects {
        assert!(
            !has(&store.read_object(&object).unwrap(), secret),
            "{object}"
        );
    }
}

/// The processes whose arguments hold the secret.
pub(super) fn in_arguments(secret: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let found = lines.filter(|line| has(line, secret));
    found
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .collect()
}

#[test]
fn a_secret_is_nowhere() {
    let kitchen = Kitchen::new(
        r#"
RUN --mount=type=cache,target=/c --mount=type=secret,id=token --mount=type=secret,id=token,env=TOKEN \
    --mount=type=secret,id=token,target=/root/.token,uid=1000,mode=0440 \
    test "$(cat /run/secrets/token)" = "$TOKEN"; stat -c '%a %u:%g' /run/secrets/token /root/.token; \
    echo "it is $TOKEN"; printf 'in two '; printf correct-horse; sleep 0.1; printf -- '-battery-staple\n'; \
    echo waiting; while ! test -e /c/go; do sleep 0.1; done
RUN ls /run /root 2>&1; env | grep TOKEN || echo none
"#,
    );
    fs::write(kitchen.path("secret"), SECRET).unwrap();
    let words = [
        "build",
        "test.kdl",
        "--json",
        "--secret",
        "id=token,src=secret",
        "--log",
        "events",
    ];
    let mut running = Running::start(&mut kitchen.command(&words));
    running.until_line("waiting");
    assert_eq!(in_arguments(SECRET), [""; 0]);
    let mut found = Vec::new();
    holding(&kitchen.path("home"), SECRET, &mut found);
    assert_eq!(found, [""; 0]);
    for mount in fs::read_dir(kitchen.path("home/cache/mounts"))
        .unwrap()
        .flatten()
    {
        if mount.path().is_dir() {
            fs::write(mount.path().join("content/go"), "").unwrap();
        }
    }
    let built = running.finish().succeeds();
    let mut output = built.output();
    output.retain(|line| !line.starts_with("Warning: the fs_type"));
    assert_eq!(
        output,
        [
            "400 0:0",
            "440 1000:0",
            "it is ***",
            "in two ***",
            "waiting",
            "ls: /run: No such file or directory",
            "ls: /root: No such file or directory",
            "none",
        ]
    );
    assert!(!built.stderr.contains(SECRET), "{}", built.stderr);
    // All events, and what is known of the build and its steps (`holding`): no key has it.
    let events = fs::read(kitchen.path("events")).unwrap();
    assert!(
        events.len() > 1000 && !has(&events, SECRET),
        "{}",
        events.len()
    );
    is_nowhere_in(&kitchen.path("home"), SECRET);

    // Another secret is no other step.
    fs::write(kitchen.path("secret"), "other").unwrap();
    let again = kitchen.run(&words).ends_with(0);
    assert!(!again.stdout.contains("step-started"), "{}", again.stdout);
}

#[test]
fn a_secret_that_nobody_gives_is_left_out_or_asked_for() {
    let kitchen =
        Kitchen::new("RUN --mount=type=secret,id=x,env=X test -z \"$X\" && ls /run 2>&1 || true");
    assert_eq!(kitchen.output(), "ls: /run: No such file or directory");
    let said = kitchen.refused("RUN --mount=type=secret,id=x,required true");
    assert!(said.contains("needs the secret \"x\""), "{said}");
    assert!(said.contains("--secret id=x,src=FILE"), "{said}");
    let said = kitchen.refused("RUN --mount=type=ssh,required true");
    assert!(said.contains("--ssh-agent"), "{said}");
}

#[test]
fn an_agent_is_forwarded() {
    let kitchen = Kitchen::new(
        "RUN --mount=type=ssh,uid=1000,mode=0600 test -S $SSH_AUTH_SOCK && stat -c '%a %u:%g' $SSH_AUTH_SOCK; \
         echo $SSH_AUTH_SOCK\nRUN ls /run 2>&1; env | grep SSH || echo none",
    );
    let socket = kitchen.path("agent");
    let _agent = UnixListener::bind(&socket).unwrap();
    let mut command = kitchen.command(&["build", "test.kdl", "--json", "--ssh-agent"]);
    let built = crate::support::Build::of(command.env("SSH_AUTH_SOCK", &socket)).succeeds();
    let mut output = built.output();
    output.retain(|line| !line.starts_with("Warning: the fs_type"));
    assert_eq!(
        output,
        [
            "600 1000:0",
            "/run/buildkit/ssh_agent.0",
            "ls: /run: No such file or directory",
            "none",
        ]
    );
}
