//! Git repositories that are not for everybody: over SSH, and with passwords.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Kitchen;
use super::outside::Repository;
use super::secrets::{has, holding, in_arguments, is_nowhere_in};
use crate::support::http::{Fault, Server};
use crate::support::{Build, Ran, tool};

/// No other test has it: it is looked for in the arguments of all processes.
const SECRET: &str = "staple-battery-horse-correct";

/// A process that ends with the test.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Background {
    /// Starts it, and waits until `ready`.
    #[track_caller]
    fn start(command: &mut Command, ready: impl Fn() -> bool) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        for _ in 0..200 {
            if ready() {
                return Self(child);
            }
            assert!(child.try_wait().unwrap().is_none(), "{command:?} ended");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{command:?} is not ready");
    }
}

/// A user with an agent, and an SSH server that knows its key. The server runs as this user under
/// the name `git`, and sees a home of its own.
struct Shell<'a> {
    kitchen: &'a Kitchen,
    port: u16,
    _server: Background,
    _agent: Background,
}

impl<'a> Shell<'a> {
    fn new(kitchen: &'a Kitchen) -> Self {
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let user = kitchen.path("user");
        fs::create_dir_all(user.join(".ssh")).unwrap();
        let mut keygen = tool("ssh-keygen", "openssh-client");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
        Ran::of(keygen.arg(user.join("key"))).ends_with(0);

        let home = kitchen.path("git");
        fs::create_dir_all(home.join(".ssh")).unwrap();
        fs::copy(user.join("key.pub"), home.join(".ssh/authorized_keys")).unwrap();
        let ids = ["-u", "-g"].map(|which| {
            let ran = Ran::of(Command::new("id").arg(which)).ends_with(0);
            ran.stdout.trim().to_owned()
        });
        let line = format!("git:x:{}:{}::{}:/bin/sh\n", ids[0], ids[1], home.display());
        fs::write(home.join("passwd"), line).unwrap();
        let mut keygen = tool("dropbearkey", "dropbear-bin");
        keygen.args(["-t", "ed25519", "-f"]);
        Ran::of(keygen.arg(home.join("host"))).ends_with(0);
        let mut server = tool("bwrap", "bubblewrap");
        server.args([
            "--die-with-parent",
            "--cap-add",
            "ALL",
            "--dev-bind",
            "/",
            "/",
        ]);
        server
            .arg("--ro-bind")
            .arg(home.join("passwd"))
            .arg("/etc/passwd");
        server.arg(tool("dropbear", "dropbear-bin").get_program());
        server.args(["-F", "-E", "-s", "-m", "-p", &format!("127.0.0.1:{port}")]);
        server
            .arg("-P")
            .arg(home.join("pid"))
            .arg("-r")
            .arg(home.join("host"));
        let log = fs::File::create(home.join("log")).unwrap();
        let pid = home.join("pid");
        let socket = user.join("agent");
        let mut agent = tool("ssh-agent", "openssh-client");
        Self {
            kitchen,
            port,
            _server: Background::start(server.stderr(log), || pid.exists()),
            _agent: Background::start(agent.arg("-D").arg("-a").arg(&socket), || socket.exists()),
        }
    }

    /// Adds the server to the user's known hosts.
    fn is_known(&self) {
        let mut keygen = tool("dropbearkey", "dropbear-bin");
        keygen.args(["-y", "-f"]).arg(self.kitchen.path("git/host"));
        let said = Ran::of(&mut keygen).ends_with(0).stdout;
        let key = said.lines().find(|line| line.starts_with("ssh-ed25519"));
        let line = format!("[127.0.0.1]:{} {}\n", self.port, key.unwrap());
        fs::write(self.kitchen.path("user/.ssh/known_hosts"), line).unwrap();
    }

    /// Gives the key to the agent.
    fn has_key(&self) {
        let mut add = tool("ssh-add", "openssh-client");
        add.arg("-q").arg(self.kitchen.path("user/key"));
        Ran::of(add.env("SSH_AUTH_SOCK", self.kitchen.path("user/agent"))).ends_with(0);
    }

    /// The address of a repository.
    fn url(&self, repository: &Path) -> String {
        format!("ssh://git@127.0.0.1:{}{}", self.port, repository.display())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.kitchen.command(words);
        command.env("HOME", self.kitchen.path("user"));
        command.env("SSH_AUTH_SOCK", self.kitchen.path("user/agent"));
        command
    }

    /// What is said when that fails.
    #[track_caller]
    fn fails(&self, words: &[&str]) -> String {
        Ran::of(&mut self.command(words))
            .ends_with(1)
            .stderr
            .replace("\n  │ ", " ")
    }
}

#[test]
fn repositories_are_read_over_ssh_with_an_agent() {
    let kitchen = Kitchen::new("");
    let repository = Repository::new(&kitchen);
    let commit = repository.commit(
        "mkdir docs vm && echo text >docs/page && cp ../context/busybox ../context/base.sh vm/ && \
         cp ../context/Dockerfile vm/ && \
         printf 'COPY page /\\nRUN cp /page /boot/vmlinuz; cat /page\\n' \
         >>vm/Dockerfile && echo vm >vm/page",
    );
    repository.git("git clone --quiet --bare . ../repo.git");
    let shell = Shell::new(&kitchen);
    let url = shell.url(&kitchen.path("repo.git"));
    kitchen.write(&format!(
        "ADD {url}#main:docs /docs/\nADD {url}#{commit} /all/\nRUN cat /docs/page /all/vm/page\n"
    ));

    // No question is asked: each error says what is missing.
    let build = ["build", "test.kdl", "--ssh-agent"];
    let said = shell.fails(&build[..2]);
    assert!(
        said.contains("needs an agent") && said.contains("--ssh-agent"),
        "{said}"
    );
    let said = shell.fails(&build);
    assert!(said.contains("host key is known for"), "{said}");
    assert!(said.contains("~/.ssh/known_hosts"), "{said}");
    shell.is_known();
    let said = shell.fails(&build);
    assert!(
        said.contains("Permission denied") && said.contains("ssh-add"),
        "{said}"
    );
    shell.has_key();
    let built = Build::of(shell.command(&build).arg("--json")).succeeds();
    let output = built.output();
    assert!(
        output.contains(&"text") && output.contains(&"vm"),
        "{output:?}"
    );

    // The lock, too; a commit that it has is not asked for.
    Ran::of(&mut shell.command(&["lock", "test.kdl", "--ssh-agent"])).ends_with(0);
    let lock = fs::read_to_string(kitchen.path("vmfab.lock")).unwrap();
    assert!(lock.contains(&commit), "{lock}");
    kitchen.run(&["build", "test.kdl"]).ends_with(0);

    // As what is built, alone and in a recipe, and as a named context.
    let place = format!("{url}#main:vm");
    let words = ["build", &place, "--ssh-agent", "--no-service", "--json"];
    let built = Build::of(&mut shell.command(&words)).succeeds();
    assert!(built.output().contains(&"vm"), "{:?}", built.output());
    let recipe = format!(
        "image \"test\" {{\n    dockerfile \"{place}\" service=#false {{\n        \
         context \"more\" \"{url}#{commit}:docs\"\n    }}\n    \
         file \"/boot/vmlinuz\" {{ content \"no kernel\" }}\n    kernel \"/boot/vmlinuz\"\n}}\n"
    );
    fs::write(kitchen.path("test.kdl"), recipe).unwrap();
    Build::of(shell.command(&build).arg("--json")).succeeds();
    let scp = "git@127.0.0.1:repo.git";
    let said = shell.fails(&["build", scp]);
    assert!(
        said.contains("cannot read git@127.0.0.1:repo.git"),
        "{said}"
    );
}

#[test]
fn a_password_in_an_address_is_nowhere() {
    let kitchen = Kitchen::new("");
    let server = Server::start();
    let repository = Repository::new(&kitchen);
    let commit = repository.commit(
        "mkdir vm && cp ../context/busybox ../context/base.sh vm/ && echo text >vm/page && \
         cp ../context/Dockerfile vm/ && \
         printf 'COPY page /\\nRUN cp /page /boot/vmlinuz; cat /page\\n' \
         >>vm/Dockerfile",
    );
    repository.serve(&server);
    server.demand("me", SECRET);
    // So that git runs long enough to be seen.
    for entry in fs::read_dir(kitchen.path("repo.git/objects"))
        .unwrap()
        .flatten()
    {
        for file in fs::read_dir(entry.path()).unwrap().flatten() {
            let path = file.path();
            let below = path
                .strip_prefix(kitchen.path(""))
                .unwrap()
                .display()
                .to_string();
            server.always(&format!("/{below}"), Fault::Slow(8 << 10));
        }
    }
    let url = server.url("/repo.git");
    let secret = url.replace("http://", &format!("http://me:{SECRET}@"));
    kitchen.write(&format!(
        "ADD {secret}#main:vm /main\nADD {secret}#{commit} /all/\nRUN cat /main/page /all/vm/page\n"
    ));
    let over = AtomicBool::new(false);
    let (built, seen) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = false;
            while !over.load(Ordering::Acquire) {
                assert_eq!(in_arguments(SECRET), [""; 0]);
                seen |= !in_arguments(&url).is_empty();
                std::thread::sleep(Duration::from_millis(5));
            }
            seen
        });
        let words = ["build", "test.kdl", "--json", "--log", "events"];
        let built = Build::of(&mut kitchen.command(&words));
        over.store(true, Ordering::Release);
        (built.succeeds(), watcher.join().unwrap())
    });
    assert!(seen, "git was never seen");
    assert_eq!(
        built
            .output()
            .iter()
            .filter(|line| **line == "text")
            .count(),
        2
    );
    let events = fs::read(kitchen.path("events")).unwrap();
    assert!(
        events.len() > 1000 && !has(&events, SECRET),
        "{}",
        events.len()
    );
    assert!(!built.stderr.contains(SECRET), "{}", built.stderr);
    kitchen.run(&["lock", "test.kdl"]).ends_with(0);
    let lock = fs::read_to_string(kitchen.path("vmfab.lock")).unwrap();
    assert!(lock.contains(&commit) && !lock.contains(SECRET), "{lock}");
    for words in [["image", "history", "@test"], ["image", "inspect", "@test"]] {
        let said = kitchen.run(&words).ends_with(0).stdout;
        assert!(!said.contains(SECRET), "{said}");
    }
    is_nowhere_in(&kitchen.path("home"), SECRET);
    let whole = [
        "build",
        &format!("{secret}#main:vm"),
        "--json",
        "--no-service",
    ];
    let built = Build::of(&mut kitchen.command(&whole)).succeeds();
    assert!(built.output().contains(&"text"), "{:?}", built.output());

    // Nor in messages.
    for (rest, code, expected) in [
        ("#none", 4, "no branch or tag"),
        ("?depth=1", 4, "\"depth\" is unknown"),
        (&format!("#{}", "0".repeat(40)), 1, "git fetch"),
        ("/file.txt", 4, "the address of a file has a user name"),
    ] {
        kitchen.write(&format!("ADD {secret}{rest} /x\n"));
        let said = kitchen.fails(code);
        assert!(said.contains(expected) && !said.contains(SECRET), "{said}");
        let said = kitchen.run(&["lint", "context/Dockerfile"]);
        assert!(!format!("{said:?}").contains(SECRET), "{said:?}");
    }
    let said = kitchen.run(&["build", &format!("{secret}?depth=1")]);
    assert!(!said.stderr.contains(SECRET), "{said:?}");
    let said = said.ends_with(2).stderr;
    assert!(said.contains(&url), "{said}");

    // As BuildKit has it: a secret.
    server.demand("x-access-token", SECRET);
    kitchen.write(&format!(
        "ADD --keep-git-dir=true {url}#{commit} /other/\nRUN cat /other/vm/page\n"
    ));
    let said = kitchen.fails(1);
    assert!(said.contains("GIT_AUTH_TOKEN"), "{said}");
    let words = [
        "build",
        "test.kdl",
        "--json",
        "--secret",
        "id=GIT_AUTH_TOKEN,env=TOKEN",
    ];
    let built = Build::of(kitchen.command(&words).env("TOKEN", SECRET)).succeeds();
    assert!(built.output().contains(&"text"), "{:?}", built.output());
    let mut found = Vec::new();
    holding(&kitchen.path("home"), SECRET, &mut found);
    assert_eq!(found, [""; 0]);
}
