//! Container images that become machines.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};
use vmfab::tarball::{Kind, Member, Writer};

use super::{Bench, Layer, busybox, tar};
use crate::support::debian::debian;
use crate::support::registry::Registry;
use crate::support::{Lab, Machine, Recipes, free_port};

/// A server that tells what it was given, and ends as it is asked to.
const SERVE: &str = r#"#!/bin/sh
trap 'echo quit >>/tmp/www/signals; echo goodbye; exit 0' QUIT
trap 'echo term >>/tmp/www/signals' TERM
mkdir -p /tmp/www
cat /proc/$$/environ >/tmp/www/environ
printf '%s\0' "$@" >/tmp/www/arguments
echo "$(id -u) $(id -g) $PWD" >/tmp/www/who
echo "it serves" >/dev/stdout
busybox httpd -f -p "$PORT" -h /tmp/www &
perl -e '
    use IO::Socket::INET;
    my $socket = IO::Socket::INET->new(Proto => "udp", LocalPort => $ENV{PORT});
    while (defined $socket->recv(my $said, 99)) { $socket->send("heard $said"); }
' &
wait
"#;

/// What a careless file of units would change.
const ODD: &str = "50% of $HOME, \"quoted\" and 'single' \\ `id`\nsecond line # %i";

/// Files that container images of Debian have, so that they stay small and start nothing.
const OF_CONTAINERS: [(&str, &[u8]); 3] = [
    ("usr/sbin/policy-rc.d", b"#!/bin/sh\nexit 101\n"),
    (
        "etc/apt/apt.conf.d/docker-clean",
        b"DPkg::Post-Invoke { \"rm -f /var/cache/apt/archives/*.deb || true\"; };\n\
          Dir::Cache::pkgcache \"\"; Dir::Cache::srcpkgcache \"\";\n",
    ),
    (
        "etc/dpkg/dpkg.cfg.d/excludes",
        b"path-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\n",
    ),
];

/// What the guest answers to a datagram.
fn ask(port: u16, question: &str) -> String {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let patience = Duration::from_secs(30);
    socket.set_read_timeout(Some(patience)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.send(question.as_bytes()).unwrap();
    let mut answer = [0; 100];
    let length = socket.recv(&mut answer).unwrap();
    String::from_utf8(answer[..length].to_owned()).unwrap()
}

/// The file of this name that the guest serves.
pub(super) fn get(port: u16, name: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .ok()?;
    write!(stream, "GET /{name} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_owned())
}

#[test]
fn a_containers_process_is_a_service_of_the_machine() {
    let bench = Bench::new();
    let registry = Registry::start();
    let port = free_port();
    let serve = [
        &OF_CONTAINERS[..],
        &[("serve", SERVE.as_bytes()), ("srv/fine", b"")],
    ]
    .concat();
    let layers = [
        Layer::new("+zstd", debian()),
        Layer::new("+gzip", &tar(&serve)),
    ];
    let check = format!("test -e /srv/fine && busybox wget -q -O - http://127.0.0.1:{port}/who");
    let settings = json!({
        "Entrypoint": ["/serve"],
        "Cmd": ["two words", ODD, ""],
        "Env": ["PATH=/usr/bin:/bin", format!("PORT={port}"), format!("ODD={ODD}"), "not.a-name=1"],
        "User": "www-data",
        "WorkingDir": "/srv/app",
        "StopSignal": "SIGQUIT",
        "ExposedPorts": { format!("{port}/tcp"): {}, format!("{port}/udp"): {} },
        "Volumes": { "/data": {} },
        "Healthcheck": { "Test": ["CMD-SHELL", check], "Interval": 1_000_000_000, "Retries": 1 },
    });
    bench.image(&layers, settings);
    bench.push(&registry);
    let recipes = Recipes::new();
    let base = registry.at("team/base:1");
    let recipe = format!(
        "image \"served\" {{\n    from \"oci://{base}\" service=#true\n    disk size=\"2G\"\n}}\n"
    );
    recipes.write("served.kdl", &recipe);

    // Nobody logs in, and it answers.
    let machine = Machine::boot(
        "served",
        recipes.directory(),
        ["served.kdl", "--memory", "512M"],
    );
    let forwarded = json!([
        { "host": port, "guest": port, "from-image": true },
        { "host": port, "guest": port, "protocol": "udp", "from-image": true },
    ]);
    assert_eq!(machine.boot.result()["ports"], forwarded);
    assert_eq!(ask(port, "a question"), "heard a question");
    let image = machine.boot.image();
    let inspected = Lab::get()
        .run(["image", "inspect", image])
        .ends_with(0)
        .stdout;
    assert!(inspected.contains("volume:       /data\n"), "{inspected}");
    assert_eq!(get(port, "who").unwrap(), "33 33 /srv/app\n");
    assert_eq!(
        get(port, "arguments").unwrap(),
        format!("two words\0{ODD}\0\0")
    );
    let environ = get(port, "environ").unwrap();
    let mut variables: Vec<&str> = environ.split_terminator('\0').collect();
    variables.sort_unstable();
    let mut expected = [
        "HOME=/var/www".to_owned(),
        "HOSTNAME=served".to_owned(),
        format!("ODD={ODD}"),
        "PATH=/usr/bin:/bin".to_owned(),
        format!("PORT={port}"),
        "not.a-name=1".to_owned(),
    ];
    expected.sort_unstable();
    assert_eq!(variables, expected);

    assert_eq!(machine.output("id -un; test -d /data"), "root");
    assert_eq!(machine.output("systemctl --failed --plain --no-legend"), "");
    assert_eq!(machine.ssh("test -e /usr/sbin/policy-rc.d").code, Some(1));
    let journal = machine.output("journalctl --unit container --output cat");
    assert!(journal.contains("it serves"), "{journal}");
    // A command enters the container's environment.
    let entered = "/usr/lib/vmfab/container/enter sh -c 'echo \"$ODD\"'";
    assert_eq!(machine.output(entered), ODD);

    // It is started again when it was killed.
    let again = "main() { systemctl show --property MainPID --value container; }
        before=$(main); kill -KILL $before
        until test \"$(main)\" != \"$before\" && test \"$(main)\" != 0; do sleep 0.2; done
        until test \"$(cat /run/container-health/state)\" = healthy; do sleep 0.2; done";
    machine.output(again);
    assert_eq!(get(port, "who").unwrap(), "33 33 /srv/app\n");

    // It is stopped with its own signal, and what it said last is in the journal.
    machine.output("systemctl stop container");
    assert_eq!(machine.output("cat /tmp/www/signals"), "quit");
    let journal = machine.output("journalctl --unit container --output cat");
    assert!(journal.contains("goodbye"), "{journal}");
    assert_eq!(
        machine.ssh("systemctl is-active container-health").code,
        Some(3)
    );
    // Nobody waits for the health of a process that is not started again.
    let ready = machine.ssh("/usr/lib/vmfab/container/ready").ends_with(82);
    assert!(ready.stderr.contains("its process ended"), "{ready:?}");

    // A machine whose service is not healthy is not ready.
    machine.output("rm /srv/fine; sync");
    machine.stop();
    let started = Lab::get().run(["start", "served", "--timeout", "900"]);
    let said = started.ends_with(1).stderr.replace("\n  │ ", " ");
    assert!(said.contains("is not healthy"), "{said}");
    assert!(said.contains("its health check fails"), "{said}");
}

/// A tree with BusyBox and these files; a file without content is a link to BusyBox.
pub(super) fn tree(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = Writer::new(Vec::new());
    let member = |path: &str, kind: Kind, mode: u32| Member {
        path: path.as_bytes().to_vec(),
        kind,
        mode,
        ..Member::default()
    };
    let program = fs::read(busybox()).unwrap();
    let mut shell = member("bin/busybox", Kind::File, 0o755);
    shell.size = program.len() as u64;
    tar.add_file(&shell, &mut &program[..]).unwrap();
    let applets = [
        "sh", "rm", "mkdir", "ln", "cat", "chmod", "grep", "sed", "id", "test", "printf", "head",
    ];
    let applets = applets.map(|name| (format!("bin/{name}"), String::new()));
    let own = files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
    for (path, text) in applets.into_iter().chain(own) {
        if let Some(path) = path.strip_suffix('/') {
            tar.add(&member(path, Kind::Directory, 0o777)).unwrap();
        } else if text.is_empty() {
            let mut link = member(&path, Kind::Symlink, 0o777);
            link.link = b"/bin/busybox".to_vec();
            tar.add(&link).unwrap();
        } else {
            let mut file = member(&path, Kind::File, 0o755);
            file.size = text.len() as u64;
            tar.add_file(&file, &mut text.as_bytes()).unwrap();
        }
    }
    tar.finish().unwrap()
}

/// What a machine with OpenRC has, of a system that vmfab does not know.
const OPENRC: [(&str, &str); 9] = [
    ("etc/os-release", "ID=other\n"),
    (
        "etc/passwd",
        "root:x:0:0::/root:/bin/sh\nweb:x:100:101::/srv:/bin/sh\n",
    ),
    ("etc/group", "root:x:0:\nweb:x:101:\ndata:x:7:\n"),
    ("etc/shadow", "root:!::0:::::\n"),
    ("etc/init.d/sshd", "#!/sbin/openrc-run\n"),
    ("boot/vmlinuz", "no kernel"),
    ("sbin/init", ""),
    ("sbin/openrc", ""),
    ("bin/rc-update", "#!/bin/sh\necho \"$@\" >>/etc/updates\n"),
];

impl Bench {
    fn service(&self, steps: &str) {
        let text = format!(
            "image \"test\" {{\n    from \"oci:layout:1\" service=#true\n    disk size=\"64M\"\n\
             {steps}\n}}\n"
        );
        fs::write(self.path("test.kdl"), text).unwrap();
    }

    /// What is said of an image that cannot become a machine.
    #[track_caller]
    fn no_machine(&self, files: &[(&str, &str)], settings: Value, code: i32) -> String {
        self.image(&[Layer::new("", &tree(files))], settings);
        self.service("");
        let said = self.run(&["build", "test.kdl"]).ends_with(code).stderr;
        said.replace("\n  │ ", " ").replace("\n  help: ", " help: ")
    }
}

#[test]
fn a_tree_with_openrc_has_a_service_of_openrc() {
    let bench = Bench::new();
    let files = [&OPENRC[..], &[("usr/sbin/sshd", "sshd")]].concat();
    let settings = json!({
        "Cmd": ["/bin/serve"], "User": "web:data", "StopSignal": "INT",
        "Healthcheck": { "Test": ["CMD", "true"] },
    });
    bench.image(&[Layer::new("", &tree(&files))], settings);
    bench.service(
        r##"    run #"""
        cat /etc/updates /etc/fstab /etc/shadow
        grep -E 'user|owner|retry' /etc/init.d/container /etc/init.d/container-health
        """#"##,
    );
    let built = bench.build().succeeds();
    let output = built.output();
    for line in [
        "--quiet add sshd default",
        "--quiet add vmfab-seed boot",
        "--quiet add container default",
        "--quiet add container-health default",
        "/dev/root / ext4 rw,relatime 0 0",
        "root:*::0:::::",
        r#"/etc/init.d/container:command_user="web:data""#,
        r#"/etc/init.d/container:retry="SIGINT/10/SIGKILL/5""#,
        r#"/etc/init.d/container-health:command_user="web:data""#,
    ] {
        assert!(output.contains(&line), "{line}: {output:#?}");
    }
}

#[test]
fn what_no_machine_can_be_made_of() {
    let bench = Bench::new();
    let serve = json!({ "Cmd": ["/bin/serve"] });
    let nothing = bench.no_machine(&[], serve.clone(), 1);
    let lacks = "it lacks a kernel in /boot, an init system (systemd or OpenRC) and an SSH server";
    assert!(nothing.contains(lacks), "{nothing}");
    assert!(nothing.contains("no /etc/os-release"), "{nothing}");
    assert!(nothing.contains("kernel \"/boot/vmlinuz\""), "{nothing}");
    let without_ssh = bench.no_machine(&OPENRC, serve.clone(), 1);
    assert!(
        without_ssh.contains("of the system \"other\""),
        "{without_ssh}"
    );
    assert!(
        without_ssh.contains("it lacks an SSH server"),
        "{without_ssh}"
    );

    // Distroless images say which system they are made of.
    let bare = bench.no_machine(&[("etc/os-release", "ID=debian\n")], serve, 1);
    let missing = "the package manager of the system \"debian\" is missing";
    assert!(bare.contains(missing), "{bare}");

    let files = [&OPENRC[..], &[("usr/sbin/sshd", "sshd")]].concat();
    let unknown = json!({ "Cmd": ["/bin/serve"], "User": "nobody" });
    let unknown = bench.no_machine(&files, unknown, 1);
    let no_account = "USER is \"nobody\", and the image has no such account";
    assert!(unknown.contains(no_account), "{unknown}");
    let signal = bench.no_machine(&files, json!({ "Cmd": ["x"], "StopSignal": "NONE" }), 4);
    assert!(signal.contains("unknown signal \"NONE\""), "{signal}");
    assert!(signal.contains("─┬─"), "{signal}");
    let user = bench.no_machine(&files, json!({ "Cmd": ["x"], "User": "a b" }), 4);
    assert!(user.contains("its USER is \"a b\""), "{user}");

    let text = "image \"test\" {\n    from \"@other\" service=#true\n}\n";
    fs::write(bench.path("test.kdl"), text).unwrap();
    let said = bench.run(&["build", "test.kdl"]).ends_with(4).stderr;
    assert!(
        said.contains("only a container image has a process to run"),
        "{said}"
    );
}
