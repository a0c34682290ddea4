//! Compose files as users write them: right ones, wrong ones, and mutations of both.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use miette::{GraphicalReportHandler, GraphicalTheme};
use vmfab::compose::{self, Converted};
use vmfab::failure::Failure;
use vmfab::instruction::Repository;
use vmfab::recipe;
use vmfab::text::Problems;

use crate::support::{Build, Lab, Machine, Ran, Recipes, Workshop, base, free_port};

/// The files of this machine, with one text in place of that of its file.
struct Disk<'a> {
    text: Option<(&'a Path, &'a str)>,
    /// What recipes are read as.
    kdl: &'a str,
}

impl Disk<'_> {
    fn file(&self, path: &Path) -> io::Result<String> {
        match self.text.filter(|(known, _)| *known == path) {
            Some((_, text)) => Ok(text.to_owned()),
            None => fs::read_to_string(path),
        }
    }
}

impl compose::Files for Disk<'_> {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.file(path)
    }

    fn is_file(&self, path: &Path) -> bool {
        path.is_file()
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }
}

impl recipe::Files for Disk<'_> {
    fn read(&self, path: &Path) -> io::Result<String> {
        match compose::is_compose(path) {
            true => Ok(self.kdl.to_owned()),
            false => self.file(path),
        }
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }

    /// All of them are there.
    fn repository(&self, _: &Repository, wanted: recipe::Wanted) -> Result<PathBuf, Failure> {
        Ok(fixture(match wanted {
            recipe::Wanted::Directory => "app",
            recipe::Wanted::Dockerfile => "app/Dockerfile",
        }))
    }
}

fn environment(name: &str) -> Option<String> {
    match name {
        "NAME" => Some("app".to_owned()),
        "PASSED" => Some("passed".to_owned()),
        _ => None,
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new("fixtures/compose").join(name)
}

fn convert(path: &Path, text: Option<&str>) -> Result<Converted, Problems> {
    let files = Disk {
        text: text.map(|text| (path, text)),
        kdl: "",
    };
    compose::load(path, &files, &environment)
}

fn corpus() -> Vec<PathBuf> {
    let entries = fs::read_dir("fixtures/compose").unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| compose::is_compose(path))
        .filter(|path| !path.to_string_lossy().contains(".override."))
        .collect();
    paths.sort();
    paths
}

fn rendered(problem: &dyn miette::Diagnostic) -> String {
    let mut text = String::new();
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor());
    handler
        .with_width(100)
        .render_report(&mut text, problem)
        .unwrap();
    text
}

#[test]
fn files_become_recipes_that_load() {
    let mut all = String::new();
    for path in corpus() {
        let converted = convert(&path, None).unwrap_or_else(|problems| {
            panic!("{}: {}", path.display(), rendered(&problems));
        });
        let files = Disk {
            text: None,
            kdl: &converted.kdl,
        };
        let loaded = recipe::load(&path, &files, &BTreeMap::new());
        let loaded = loaded.unwrap_or_else(|problems| {
            panic!("{}\n{}", converted.kdl, rendered(&problems));
        });
        assert_eq!(loaded.images.len(), loaded.machines.len());
        // Formatted text is the same recipe: what is written is what is read.
        let _ = write!(all, "==== {}\n{}", path.display(), converted.kdl);
        for warning in &converted.warnings {
            let place = warning.place().unwrap_or_default();
            let _ = writeln!(all, "-- {place}: {warning}");
        }
    }
    insta::assert_snapshot!("compose_converted", all);
}

/// What is read from a recipe is what the Compose file said, whatever is in its texts.
#[test]
fn texts_arrive_as_they_are() {
    let odd =
        "50% of $$HOME, \\\"quoted\\\" and 'single' \\\\ `id`\\n$${x} ${NAME} \\u2028 \\e[0m é";
    let text = format!(
        "services:\n  a:\n    image: 'x:1'\n    command: [\"{odd}\"]\n    environment: {{ ODD: \"{odd}\" }}\n"
    );
    let path = fixture("env.yaml");
    let converted = convert(&path, Some(&text)).unwrap();
    let files = Disk {
        text: None,
        kdl: &converted.kdl,
    };
    let loaded = recipe::load(&path, &files, &BTreeMap::new()).unwrap();
    let said = "50% of $HOME, \"quoted\" and 'single' \\ `id`\n${x} app \u{2028} \u{1b}[0m é";
    let process = &loaded.machines[0].process;
    assert_eq!(process.command.as_deref().unwrap(), [said]);
    assert_eq!(process.env["ODD"], said);
}

#[test]
fn mistakes() {
    let mut all = String::new();
    for (name, text) in [
        (
            "not YAML",
            "services:\n  web:\n   image: nginx\n  \t- x: [\n",
        ),
        ("nothing", "# a remark\n"),
        ("no services", "service:\n  web: { image: \"nginx:1\" }\n"),
        (
            "no image",
            "services:\n  web:\n    ports: [\"8080:80\"]\n  db:\n",
        ),
        (
            "words",
            "services:\n  web:\n    imgae: nginx:1\n    image: nginx:1\n    enviroment: [A=1]\n    x-mine: 1\n",
        ),
        (
            "twice",
            "services:\n  web:\n    image: nginx:1\n    image: nginx:2\n",
        ),
        (
            "ports",
            "services:\n  a:\n    image: a:1\n    ports: [\"80:80:80:80\", \"8080:http\", \"53:53/udp\", \"8000-8001:80-85\"]\n  \
             b:\n    image: b:1\n    ports: [\"8080:80\", \"8080:81\"]\n",
        ),
        (
            "dependencies",
            "services:\n  web:\n    image: a:1\n    depends_on: { dbb: { condition: healthy } , db: { condition: healthy } }\n  \
             db: { image: \"b:1\" }\n",
        ),
        (
            "circle",
            "services:\n  a: { image: \"a:1\", depends_on: [b] }\n  b: { image: \"a:1\", depends_on: [a] }\n",
        ),
        (
            "devices",
            "services:\n  web:\n    image: a:1\n    privileged: true\n    devices: [\"/dev/kvm\"]\n    network_mode: host\n    \
             secrets: [token]\n    deploy: { resources: { reservations: { devices: [{ driver: nvidia }] } } }\n",
        ),
        (
            "volumes",
            "services:\n  web:\n    image: a:1\n    volumes: [\"/var/run/docker.sock:/var/run/docker.sock\", \"./gone:/x\", \
             \"../up:/x\", \"data:relative\", \"data:/data\"]\n  other: { image: \"a:1\", volumes: [\"data:/data\"] }\n",
        ),
        (
            "builds",
            "services:\n  a: { build: ./gone }\n  b: { build: { context: app, dockerfile: Gone } }\n  \
             c: { build: \"https://example.org/x.tar\" }\n  d: { build: { context: app, secrets: [t, up, none], dockerfile: Dockerfile, \
             dockerfile_inline: \"FROM x\" } }\n  e: { build: \"ssh://me:pw@example.org/x\" }\n  \
             f: { build: { context: \"https://example.org/x.git\", dockerfile: a/b } }\n\
             secrets: { up: { file: ../up }, none: { external: true } }\n",
        ),
        (
            "include",
            "include: [../up.yaml, gone.yaml, { path: base.yaml, env_file: x }, base.yaml, { paths: x }]\n\
             services: { base: { image: \"a:1\" } }\n",
        ),
        (
            "networks",
            "services:\n  a: { image: \"a:1\", networks: { fron: , front: { aliases: [x], ipv4_address: 10.0.0.2 } } }\n  \
             b: { image: \"a:1\", networks: { back: { aliases: [x], alias: y } } }\nnetworks: { front: , back: }\n",
        ),
        (
            "values",
            "services:\n  web:\n    image: a:1\n    mem_limit: lots\n    cpus: many\n    restart: sometimes\n    \
             stop_grace_period: 10\n    healthcheck: { test: [curl], retries: 0, intervall: 1s }\n    command: \"echo 'open\"\n    \
             environment: { A: [1] }\n    env_file: gone.env\n    platform: linux/riscv64\n",
        ),
        (
            "variables",
            "services:\n  web:\n    image: nginx:${VERSION:?say which}\n    command: \"echo ${X\"\n    user: $1\n",
        ),
        (
            "extends",
            "services:\n  a: { extends: a }\n  b: { extends: { service: aa } }\n  c: { extends: { file: gone.yaml, service: x } }\n  \
             d: { extends: { file: ../up/base.yaml, service: x } }\n",
        ),
        (
            "anchors",
            "x: &x [1]\nservices:\n  a:\n    <<: *x\n    image: *y\n",
        ),
    ] {
        let problems = convert(&fixture("env.yaml"), Some(text)).unwrap_err();
        let _ = write!(all, "==== {name}\n{}\n", rendered(&problems));
    }
    insta::assert_snapshot!("compose_mistakes", all);
}

#[test]
fn aliases_stand_for_no_more_than_there_is_room() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        let _ = writeln!(
            text,
            "a{level}: &a{level} [{}]",
            below.trim_end_matches(", ")
        );
    }
    let problems = convert(&fixture("env.yaml"), Some(&text)).unwrap_err();
    assert!(
        problems.to_string().contains("stands for too much"),
        "{problems}"
    );
    let long = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(1 << 20),
        vec!["*a"; 40].join(", ")
    );
    let problems = convert(&fixture("env.yaml"), Some(&long)).unwrap_err();
    assert!(
        problems.to_string().contains("stands for too much"),
        "{problems}"
    );
    for deep in [
        "[".repeat(100_000),
        "{a: ".repeat(5_000),
        "- ".repeat(100_000),
    ] {
        assert!(convert(&fixture("env.yaml"), Some(&deep)).is_err());
    }
}

#[test]
fn mutations_never_panic() {
    // xorshift64: the same texts in each run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below.max(1) as u64).unwrap()
    };
    let texts: Vec<String> = corpus()
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let parts = [
        "&a ", "*a", "<<: ", "${", "}", "- ", ": ", "\n", "  ", "[", "{", "\"", "'", "|\n", "é",
        "\0", "!!str ",
    ];
    let (mut right, mut wrong) = (0, 0);
    for round in 0..400 {
        let mut chars: Vec<char> = texts[round % texts.len()].chars().collect();
        for _ in 0..=random(4) {
            let at = random(chars.len());
            match random(3) {
                0 => drop(chars.drain(at..(at + random(12)).min(chars.len()))),
                1 => drop(chars.splice(at..at, parts[random(parts.len())].chars())),
                _ => {
                    let end = (at + random(30)).min(chars.len());
                    let copy = chars[at..end].to_vec();
                    let to = random(chars.len());
                    chars.splice(to..to, copy);
                }
            }
        }
        let text: String = chars.into_iter().collect();
        let path = fixture("mutated.yaml");
        match convert(&path, Some(&text)) {
            Ok(converted) => {
                right += 1;
                let files = Disk {
                    text: None,
                    kdl: &converted.kdl,
                };
                // What Compose takes and recipes do not is a mistake of the image's name alone.
                let _ = recipe::load(&path, &files, &BTreeMap::new());
            }
            Err(problems) => {
                wrong += 1;
                let _ = rendered(&problems);
            }
        }
    }
    assert!(right > 20 && wrong > 100, "{right} right, {wrong} wrong");
}

#[test]
fn files_are_regular_files() {
    let workshop = Workshop::new();
    let said = |code: i32, text: &str| {
        let ran = workshop.run(&["compose", "convert"]).ends_with(code);
        assert!(ran.stderr.contains(text), "{ran:?}");
    };
    said(3, "no Compose file found in the working directory");
    let pipe = |name: &str| {
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, workshop.path(name), fifo, mode, 0).unwrap();
    };
    let refused = |text: &str| {
        fs::write(workshop.path("compose.yaml"), text).unwrap();
        said(4, "a pipe, a socket or a device");
    };
    pipe("pipe.yaml");
    for file in ["pipe.yaml", "/dev/zero"] {
        refused(&format!(
            "services: {{ web: {{ image: nginx, env_file: {file} }} }}"
        ));
    }
    refused("services: { web: { extends: { file: pipe.yaml, service: web } } }");
    // Nobody named these: they are not waited for.
    pipe("compose.override.yaml");
    pipe(".env");
    fs::write(
        workshop.path("compose.yaml"),
        "services: { web: { image: nginx } }",
    )
    .unwrap();
    workshop.run(&["compose", "convert"]).ends_with(0);
}

/// Answers each request with its variable `GREETING`.
const SERVER: &str = "use IO::Socket::INET; $$s = IO::Socket::INET->new(LocalPort => 8000, \
                      Listen => 5) or die; while ($$c = $$s->accept) { 1 while <$$c> =~ m{[^ ]{3}}; print $$c \
                      qq{HTTP/1.0 200 OK\\\\r\\\\n\\\\r\\\\n$$ENV{GREETING}\\\\n}; close $$c }";

fn get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    let patience = Some(Duration::from_secs(30));
    stream.set_read_timeout(patience).ok()?;
    write!(stream, "GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

/// Removes the machines of a project, whatever became of the test.
struct Removed<'a>(&'a Recipes);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        let mut down = Lab::get().command();
        down.args(["down", "--rm", "--yes", "--timeout", "0"]);
        Ran::of(down.current_dir(self.0.directory()));
    }
}

#[test]
fn a_secret_of_a_build_lies_in_the_project() {
    let project = Recipes::new();
    project.write(
        "compose.yaml",
        "services: { a: { build: { dockerfile_inline: \"FROM scratch\", secrets: [t] } } }
secrets: { t: { file: ./link } }
",
    );
    std::os::unix::fs::symlink("/etc/passwd", project.directory().join("link")).unwrap();
    let up = |more: &[&str]| {
        let mut command = Lab::get().command();
        command.args(["up", "--dry-run"]).args(more);
        Ran::of(command.current_dir(project.directory()))
    };
    let said = up(&[]).ends_with(2).stderr;
    assert!(
        said.contains("link leads out of the project, to /etc/passwd"),
        "{said}"
    );
    assert!(said.contains("vmfab up --secret id=t,src=FILE"), "{said}");
    let said = up(&["--secret", "id=t,src=/etc/hostname"]).stderr;
    assert!(!said.contains("leads out"), "{said}");
}

#[test]
fn services_become_machines_that_wait_for_each_other() {
    let _turn = Machine::turn();
    let project = Recipes::new();
    let port = free_port();
    let base = base();
    let file = format!(
        "x-machine: &machine {{ image: \"@{base}\", mem_limit: 512m, cpus: 1 }}
services:
  served-web:
    <<: *machine
    command: [perl, -e, \"{SERVER}\"]
    environment: {{ GREETING: \"hello, ${{WHO:-nobody}}\" }}
    user: nobody
    ports: [\"{port}:8000\"]
    networks: {{ front: {{ aliases: [greeter] }}, back: }}
    depends_on: {{ served-data: {{ condition: service_healthy }} }}
  served-data:
    <<: *machine
    build:
      dockerfile_inline: |
        FROM @{base}
        RUN --mount=type=secret,id=word,env=WORD test \"$$WORD\" = open-sesame && echo built >/etc/told
      secrets: [word]
    command: sh -c 'sleep 3; touch /run/filled; exec sleep infinity'
    healthcheck: {{ test: test -e /run/filled, interval: 1s, retries: 60 }}
networks: {{ front: , back: {{ internal: true }} }}
secrets:
  word: {{ environment: WORD }}
"
    );
    project.write("compose.yaml", &file);
    project.write(".env", "WHO=compose\n");
    let _removed = Removed(&project);
    let command = |arguments: &[&str]| {
        let mut command = Lab::get().command();
        command.args(arguments).current_dir(project.directory());
        command.env("WORD", "open-sesame");
        command
    };

    let up = Build::of(&mut command(&["up", "--json", "--timeout", "900"])).succeeds();
    let machines = up.result()["machines"].as_array().unwrap().clone();
    let outcomes: Vec<_> = machines.iter().map(|m| m["outcome"].clone()).collect();
    assert_eq!(outcomes, ["made", "made"]);
    let message = |kind: &str| -> String {
        let messages = up.events(kind).map(|event| event["message"].to_string());
        messages.collect()
    };
    assert!(
        message("note").contains("using compose.yaml"),
        "{}",
        message("note")
    );
    let warnings = message("warning");
    for warning in [
        "compose.yaml:9: all services of the file are in one network",
        "compose.yaml:20: machines of the internal network \\\"back\\\" reach the outside",
    ] {
        assert!(warnings.contains(warning), "{warnings}");
    }
    // The one waited for the check of the other.
    let ready: Vec<_> = up
        .events("machine-ready")
        .map(|event| event["machine"].clone())
        .collect();
    assert_eq!(ready, ["served-data", "served-web"]);
    let ssh = |name: &str, script: &str| {
        let ran = Ran::of(&mut command(&["ssh", name, "--", script])).ends_with(0);
        ran.stdout.trim().to_owned()
    };
    assert_eq!(ssh("served-data", "cat /etc/told"), "built");
    let filled =
        "cat /run/container-health/state; systemctl show --value --property Restart container";
    assert_eq!(ssh("served-data", filled), "healthy\nno");
    // Nobody checks the health of this one: it can be entered before it serves.
    let mut answers = (0..100).filter_map(|_| {
        std::thread::sleep(Duration::from_millis(200));
        get(port)
    });
    assert_eq!(answers.next().unwrap(), "hello, compose\n");
    assert_eq!(
        ssh(
            "served-web",
            "stat -c %U /proc/$(systemctl show --value --property MainPID container)"
        ),
        "nobody"
    );

    let greeting = "bash -c 'exec 3<>/dev/tcp/greeter/8000; echo >&3 hi; echo >&3; tail -n 1 <&3'";
    assert_eq!(ssh("served-data", greeting), "hello, compose");
    assert!(ssh("served-web", "getent hosts served-data").starts_with("10.213."));

    // Nothing to do, and nothing is built again.
    let again = Build::of(&mut command(&["up", "--json"])).succeeds();
    assert_eq!(again.started(), [""; 0]);
    assert!(
        again.result()["machines"]
            .as_array()
            .unwrap()
            .iter()
            .all(|m| m["outcome"] == "running")
    );

    let down = Ran::of(&mut command(&["down", "--json", "--timeout", "900"]))
        .ends_with(0)
        .json();
    let machines = down["machines"].as_array().unwrap();
    assert!(
        machines.iter().all(|machine| machine["error"].is_null()),
        "{down}"
    );
    assert_eq!(get(port), None);
}
