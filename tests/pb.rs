//! `vmfab pb`, and podman-bootc's command line under its name: docs/podman-bootc.md, row by row.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use vmfab::digest::Sha256;

use super::support::registry::Registry;
use super::support::{Lab, Machine, Ran, Recipes, program, tool};

/// What a boot may take in seconds on two busy processors without KVM.
const PATIENCE: &str = "900";
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/bootc");

/// A link called podman-bootc, and a bootable container in a registry.
pub(crate) struct Bench {
    directory: TempDir,
    registry: Registry,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        symlink(program(), directory.path().join("podman-bootc")).unwrap();
        Self {
            directory,
            registry: Registry::start(),
        }
    }

    /// Makes the bootable container of the fixtures and puts it into the registry; returns its
    /// reference.
    pub(crate) fn image(&self) -> String {
        let recipes = Recipes::new();
        let fixture = |name: &str| fs::read_to_string(Path::new(FIXTURES).join(name)).unwrap();
        for name in ["bootc", "host-keys.service"] {
            recipes.write(name, &fixture(name));
        }
        // As vmfab does not push what it installed, it is a plain one until it is in the layout.
        let plain = fixture("Containerfile")
            .replace("LABEL containers.bootc=1\n", "")
            .replace("rm /boot/*", "true");
        recipes.write("Containerfile", &plain);
        let base = fixture("os.kdl");
        let (_, base) = base.split_once("image \"base\"").unwrap();
        let containerfile = "dockerfile \"./Containerfile\" { context \"base\" \"base\" }";
        let text = format!("image \"plain\" {{ {containerfile} }}\nimage \"base\"{base}");
        recipes.write("plain.kdl", &text);
        let image = recipes.build("plain").succeeds().image().to_owned();
        let layout = recipes.path("layout");
        let to = format!("oci:{}:1", layout.display());
        let push = ["push", &image, &to, "--layout", "container"];
        Lab::get().run(push).ends_with(0);
        add_label(&layout);
        let reference = self.registry.at("team/os-bootc:1");
        let mut skopeo = tool("skopeo", "skopeo");
        skopeo
            .args(["copy", "--quiet", "--dest-tls-verify=false", &to])
            .arg(format!("docker://{reference}"));
        Ran::of(&mut skopeo).ends_with(0);
        reference
    }

    /// The link, with arguments.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.directory.path().join("podman-bootc"));
        command
            .args(arguments)
            .env("VMFAB_HOME", Lab::get().home())
            .env("LC_ALL", "C.UTF-8")
            .current_dir(self.directory.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).stdin(Stdio::null()))
    }

    /// The rows of `list`, without the header: ID, REPO, RUNNING and SSH PORT.
    fn list(&self) -> Vec<[String; 4]> {
        let text = self.run(&["list"]).ends_with(0).stdout;
        let mut lines = text.lines();
        let header: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(header.join(" "), "ID REPO SIZE CREATED RUNNING SSH PORT");
        let row = |line: &str| {
            let cells: Vec<&str> = line.split_whitespace().collect();
            let last = cells.len() - 1;
            [cells[0], cells[1], cells[last - 1], cells[last]].map(str::to_owned)
        };
        lines.map(row).collect()
    }

    /// Which machines run, as `true false`.
    fn running(&self) -> String {
        let rows = self.list();
        let running: Vec<&str> = rows.iter().map(|row| row[2].as_str()).collect();
        running.join(" ")
    }
}

/// Gives the image in a layout the label of bootable containers.
fn add_label(layout: &Path) {
    let blobs = layout.join("blobs/sha256");
    let read = |digest: &Value| -> Value {
        let digest = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        serde_json::from_slice(&fs::read(blobs.join(digest)).unwrap()).unwrap()
    };
    let write = |descriptor: &mut Value, content: &Value| {
        let bytes = content.to_string();
        let digest = Sha256::of(bytes.as_bytes()).to_string();
        fs::write(blobs.join(&digest), &bytes).unwrap();
        descriptor["digest"] = format!("sha256:{digest}").into();
        descriptor["size"] = bytes.len().into();
    };
    let path = layout.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let mut manifest = read(&index["manifests"][0]["digest"]);
    let mut config = read(&manifest["config"]["digest"]);
    config["config"]["Labels"]["containers.bootc"] = "1".into();
    write(&mut manifest["config"], &config);
    write(&mut index["manifests"][0], &manifest);
    fs::write(path, index.to_string()).unwrap();
}

/// Lines of the output of a process, as they come.
struct Opened {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Opened {
    /// A session, when it is open.
    fn session(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let opened = Self {
            input: child.stdin.take(),
            child,
            lines,
        };
        opened.until("Connecting to vm");
        opened
    }

    /// Waits for a line.
    fn until(&self, text: &str) {
        let deadline = Duration::from_secs(900);
        let started = Instant::now();
        loop {
            let left = deadline.saturating_sub(started.elapsed());
            let line = self.lines.recv_timeout(left);
            match line {
                Ok(line) if line.contains(text) => return,
                Ok(_) => {}
                Err(error) => panic!("no \"{text}\": {error}"),
            }
        }
    }

    /// Gives the shell a line.
    fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Closes the session.
    fn close(mut self) -> Option<i32> {
        drop(self.input.take());
        self.child.wait().unwrap().code()
    }
}

/// The cases of podman-bootc's own end-to-end suite, and what more its users rely on.
#[test]
fn what_podman_bootcs_users_do() {
    let _turn = Machine::turn();
    let bench = Bench::new();
    let image = bench.image();
    assert_eq!(bench.list(), [[""; 4]; 0]);

    // One machine, from nothing.
    let port = bench.registry.port().to_string();
    let run = ["run", &image, "--memory", "512", "--timeout", PATIENCE];
    let run = [&run[..], &["--registry-access", &port]].concat();
    let mut session = Opened::session(bench.command(&run));
    session.say("echo 'hello'");
    session.until("hello");
    // The registry of this host, where container tools of the guest are told to find it.
    session.say("cat /etc/containers/registries.conf.d/50-vmfab.conf");
    session.until(&format!("prefix = \"127.0.0.1:{port}\""));
    session.until(&format!("location = \"10.0.2.2:{port}\""));
    session.say(&format!(
        "exec 3<>/dev/tcp/10.0.2.2/{port}; printf 'GET /v2/ HTTP/1.0\\r\\n\\r\\n' >&3; head -n 1 <&3 | tr -d '\\r'"
    ));
    session.until("HTTP/1.0 200 OK");
    let rows = bench.list();
    let [[id, repo, running, port]] = rows.as_slice() else {
        panic!("{rows:?}");
    };
    assert_eq!((repo, running.as_str()), (&image, "true"));
    assert!(id.len() == 12 && port.parse::<u16>().is_ok(), "{rows:?}");
    let images = bench.run(&["images"]).ends_with(0).stdout;
    assert!(images.starts_with("REPOSITORY  "), "{images}");
    assert!(images.contains(&format!("{id}  ")), "{images}");
    let list = Lab::get().run(["list", "--json"]).ends_with(0).json();
    let ours = list.as_array().unwrap().iter();
    let ours = ours.filter(|one| one["container"]["reference"] == image.as_str());
    assert_eq!(ours.count(), 1);

    // While a session is open, nobody takes the machine away.
    for refused in [&["stop", id.as_str()][..], &["rm", "-f", id], &["rm", id]] {
        bench.run(refused).ends_with(1);
    }
    let passed_over = bench.run(&["rm", "-f", "--all"]).ends_with(0);
    assert!(
        passed_over.stderr.contains("a session is open"),
        "{passed_over:?}"
    );
    assert_eq!(session.close(), Some(0));
    assert_eq!(bench.running(), "true");

    // Other sessions: exit codes are those of ssh, an ID may be short.
    bench.run(&["ssh", id, "true"]).ends_with(0);
    bench.run(&["ssh", &id[..6], "exit", "7"]).ends_with(7);
    let words = ["ssh", id, "-u", "root", "--", "echo", "-n", "$USER"];
    assert_eq!(bench.run(&words).ends_with(0).stdout, "root");
    let latest = Lab::get().run(["pb", "ssh", "--", "echo", "-n", "latest"]);
    assert_eq!(latest.ends_with(0).stdout, "latest");

    // `run` enters what runs, by name or by ID; a command there leaves it.
    for named in [image.as_str(), id] {
        let entered = bench.run(&["run", named, "echo", "in"]).ends_with(0);
        assert_eq!(entered.stdout, "in\n");
        assert!(entered.stderr.contains("is already running"), "{entered:?}");
    }
    let other = bench.run(&["run", &image, "--memory", "1024"]).ends_with(1);
    assert!(other.stderr.contains("differs in --memory"), "{other:?}");

    // Stopped, it keeps its disk.
    bench
        .run(&["ssh", id, "touch", "/var/kept", "&&", "sync"])
        .ends_with(0);
    bench.run(&["stop", id]).ends_with(0);
    assert_eq!(bench.running(), "false");
    let closed = bench.run(&["ssh", id]).ends_with(255);
    assert!(closed.stderr.contains("is stopped"), "{closed:?}");
    bench.run(&["stop", id]).ends_with(0);
    let pb = |arguments: &[&str]| {
        let mut command = Lab::get().command();
        Ran::of(command.arg("pb").args(arguments).stdin(Stdio::null()))
    };
    pb(&["start", id, "--timeout", PATIENCE]).ends_with(0);
    bench.run(&["ssh", id, "ls", "/var/kept"]).ends_with(0);

    several(&bench, &image, id, &pb);
    lost(&bench, &image, id, &pb);

    // The image has no cloud-init to read the user's disk.
    let given = tempfile::tempdir().unwrap();
    fs::write(given.path().join("user-data"), "#cloud-config\n").unwrap();
    let given = given.path().to_str().unwrap();
    let once = ["run", id, "--memory", "512", "--timeout", PATIENCE];
    let unread = [&once[..], &["--cloudinit", given, "--", "true"]].concat();
    let unread = bench.run(&unread).ends_with(1);
    assert!(
        unread.stderr.contains("cloud-init is not installed"),
        "{unread:?}"
    );

    // A command has a machine of its own, whose exit code counts and which goes.
    let failed = [&once[..], &["--", "exit", "3"]].concat();
    let failed = bench.run(&failed).ends_with(3);
    assert!(failed.stderr.contains("Booting the VM..."), "{failed:?}");
    assert_eq!(bench.list(), [[""; 4]; 0]);
    bench.run(&["rm", "-f", "--all"]).ends_with(0);
}

/// Several machines of one image.
fn several(bench: &Bench, image: &str, id: &str, pb: &dyn Fn(&[&str]) -> Ran) {
    let second = ["run", image, "--name", "second", "-B", "--memory", "512"];
    let background = pb(&second).ends_with(0);
    assert!(background.stdout.is_empty(), "{background:?}");
    assert_eq!(bench.running(), "true true");
    let ambiguous = pb(&["inspect", id]).ends_with(2);
    for name in ["several machines", "os-bootc", "second"] {
        assert!(ambiguous.stderr.contains(name), "{ambiguous:?}");
    }
    let taken = pb(&["run", "oci:nothing", "--name", "second"]);
    assert_ne!(taken.code, Some(0), "{taken:?}");
    let inspected: Value = pb(&["inspect", "second", "--json"]).ends_with(0).json();
    assert_eq!(inspected["reference"], image);
    assert_eq!(inspected["details"]["memory"], 512 << 20);

    // The one with a session stays, whatever else is removed.
    let active = Opened::session(bench.command(&["ssh", "os-bootc"]));
    let removed = bench.run(&["rm", "-f", "--all"]).ends_with(0);
    assert!(removed.stdout.contains("second: removed"), "{removed:?}");
    assert_eq!(bench.running(), "true");
    active.close();
}

/// A machine whose record is lost, and one whose directory is.
fn lost(bench: &Bench, image: &str, id: &str, pb: &dyn Fn(&[&str]) -> Ran) {
    let directory = Lab::get().home().join("machines/os-bootc");
    let before = bench.list();
    fs::remove_file(directory.join("machine.json")).unwrap();
    assert_eq!(bench.list(), before);
    bench.run(&["ssh", id, "true"]).ends_with(0);
    let told = pb(&["inspect", id]).ends_with(0).stdout;
    assert!(told.contains("what its QEMU tells"), "{told}");
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!(bench.list(), before);
    let without_key = pb(&["ssh", id, "true"]).ends_with(1);
    assert!(without_key.stderr.contains("is gone"), "{without_key:?}");
    bench.run(&["rm", id]).ends_with(1);
    let _ = image;
    bench.run(&["rm", "-f", id]).ends_with(0);
    assert_eq!(bench.list(), [[""; 4]; 0]);
}

#[test]
fn what_is_refused() {
    let bench = Bench::new();
    let said = |arguments: &[&str]| {
        let ran = bench.run(arguments).ends_with(1);
        ran.stderr.replace("\n  │ ", " ")
    };
    let vmfab = |arguments: &[&str], code: i32| {
        let mut command = Lab::get().command();
        let ran = Ran::of(command.arg("pb").args(arguments).stdin(Stdio::null()));
        ran.ends_with(code).stderr
    };
    // An ordinary container.
    let image = Lab::get().base.image().to_owned();
    let reference = bench.registry.at("team/plain:1");
    let push = ["push", &image, &reference, "--layout", "container"];
    Lab::get().run(push).ends_with(0);
    let ordinary = said(&["run", &reference]);
    assert!(ordinary.contains("ordinary container"), "{ordinary}");
    assert!(ordinary.contains("containers.bootc"), "{ordinary}");
    let gone = said(&["run", &bench.registry.at("team/gone:1")]);
    assert!(gone.contains("team/gone"), "{gone}");

    for (arguments, code, text) in [
        (
            &["ssh", "0123456789ab"][..],
            3,
            "no machine \"0123456789ab\" found",
        ),
        (&["stop", "0123456789ab"], 3, "vmfab pb list shows"),
        (&["rm"], 2, "required"),
        (&["rm", "--all", "x"], 2, "cannot be used with"),
        (&["run", "x", "-B", "--rm"], 2, "cannot be used with"),
        (&["run", "x", "-B", "true"], 2, "cannot be used with"),
        (&["run", "x", "--disk-size", "0"], 2, "--disk-size"),
        (
            &["run", "x", "--root-size-max", "ten"],
            2,
            "--root-size-max",
        ),
        (&["run", "x", "--filesystem", "zfs"], 2, "--filesystem"),
        (&["run", "x", "--memory", "16"], 2, "at least 32M"),
        (&["run", "x", "--cloudinit", "/gone"], 1, "/gone"),
        (&["run", "x", "--network", "tin-cans"], 2, "--network"),
        (&["list", "--log-level", "loud"], 2, "--log-level"),
        (
            &["run", "x", "--registry-access", "5000", "--network", "none"],
            2,
            "needs the network \"user\"",
        ),
    ] {
        let shown = vmfab(arguments, code);
        assert!(shown.contains(text), "{arguments:?}: {shown}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("{}:80", listener.local_addr().unwrap().port());
    let taken = vmfab(&["run", &reference, "--port", &port], 1);
    assert!(taken.contains("cannot forward port"), "{taken}");
}

#[test]
fn the_name_makes_the_command_line() {
    let bench = Bench::new();
    let help = bench.run(&[]).ends_with(0).stdout;
    assert!(
        help.contains("Usage: podman-bootc [OPTIONS] <COMMAND>"),
        "{help}"
    );
    assert!(!help.contains("vmfab pb run"), "{help}");
    let help = bench.run(&["help", "run"]).ends_with(0).stdout;
    assert!(help.contains("Usage: podman-bootc run [OPTIONS]"), "{help}");
    let wrong = bench.run(&["frob"]).ends_with(1).stderr;
    assert!(wrong.contains("unrecognized subcommand 'frob'"), "{wrong}");
    bench
        .run(&["rm", "--all=true", "--force=false"])
        .ends_with(0);
    for shell in ["bash", "fish", "powershell", "zsh"] {
        let script = bench.run(&["completion", shell]).ends_with(0).stdout;
        assert!(script.contains("podman-bootc"), "{shell}: {script}");
    }
    let answered = |variable: &str| {
        let mut command = bench.command(&["--", "podman-bootc", "ru"]);
        command.env(variable, "fish");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut text = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert!(child.wait().unwrap().success());
        text
    };
    assert!(answered("COMPLETE").starts_with("run\tRun a bootable"));
    assert_eq!(answered("COMPLETE_PLAIN").trim_end(), "run");
    let traced = bench.run(&["list", "--log-level", "debug"]).ends_with(0);
    assert!(traced.stdout.starts_with("ID  "), "{traced:?}");
}
