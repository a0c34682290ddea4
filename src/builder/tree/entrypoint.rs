//! The process of a container image as a service of the machine.
//!
//! | file | what it is |
//! |---|---|
//! | `/usr/lib/vmfab/container/enter` | runs a command with the image's `ENV` and `WORKDIR`, and no other variables |
//! | `/usr/lib/vmfab/container/start` | `ENTRYPOINT` and `CMD`, entered so; output goes through a pipe |
//! | `/usr/lib/vmfab/container/drain` | waits until all of that output was read |
//! | `/usr/lib/vmfab/container/log` | writes that output to the system log, with OpenRC |
//! | `/usr/lib/vmfab/container/health` | `HEALTHCHECK`, again and again; writes the state to a file |
//! | `/usr/lib/vmfab/container/ready` | tells the state, to vmfab |
//! | `container.service`, `container-health.service` | who runs these with systemd |
//! | `/etc/init.d/container`, `/etc/init.d/container-health` | the same with OpenRC |
//!
//! An init of vmfab's own reads what it runs from one file, and needs none of these.
//!
//! What an image says stands in the scripts alone, as words of sh(1): inside single quotes all
//! bytes mean themselves. In unit files `%`, `$`, quotes and backslashes would need rules that
//! differ from line to line and from version to version, and names of variables could not be what
//! they may be in an image. Only the user and the signal are in units: both are checked before.

use std::fmt::Write as _;
use std::time::Duration;

use crate::derivation::scripts::{DRAIN, ENTER, HEALTH, LOG, READY, SET_UP, START};
use crate::derivation::step::Entrypoint;
use crate::image::{ContainerConfig, HEALTH_READY, Healthcheck, Restart, Signal};
use crate::sandbox::{Command, Edit, Task};

/// `PATH` of an image that has none, as docker has it.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a process may take to end, unless it is told otherwise.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn tasks(params: &Entrypoint) -> Vec<Task> {
    let config = &params.config;
    let program = |name: &str, content: String| Edit::Write {
        path: format!("/usr/lib/vmfab/container/{name}"),
        content,
        mode: 0o755,
        owner: None,
        time: None,
    };
    let mut edits = vec![
        program("enter", enter(config)),
        program("start", start(&config.command())),
        program("drain", DRAIN.to_owned()),
        program("log", LOG.to_owned()),
    ];
    let health = health(config);
    if let Some(health) = &health {
        edits.push(program("health", health.clone()));
        edits.push(program(base_name(HEALTH_READY), READY.to_owned()));
    }
    let directories = config.volumes.iter().chain(&config.workdir);
    let directories = directories.filter(|path| path.starts_with('/'));
    edits.extend(directories.map(|path| Edit::Directory {
        path: path.clone(),
        owner: None,
    }));
    let (user, group) = match config.user.as_deref().map(|user| user.split_once(':')) {
        None => ("", ""),
        Some(None) => (config.user.as_deref().unwrap_or_default(), ""),
        Some(Some(both)) => both,
    };
    let signal = config.stop_signal.as_deref().map(str::parse::<Signal>);
    let signal = signal.and_then(Result::ok).unwrap_or(Signal::TERM);
    let restart = params.manner.restart.unwrap_or(Restart::OnFailure).name();
    let stop_timeout = params.manner.stop_timeout.unwrap_or(STOP_TIMEOUT);
    let stop_timeout = stop_timeout.as_secs().max(1).to_string();
    let env = [
        ("WHO", user),
        ("GROUP", group),
        ("SIGNAL", &signal.to_string()),
        ("HEALTH", if health.is_some() { "yes" } else { "no" }),
        ("RESTART", restart),
        ("STOP_TIMEOUT", &stop_timeout),
    ];
    let set_up = Command {
        label: Some("make a service of the container's process".to_owned()),
        argv: ["/bin/sh", "-euc", SET_UP].map(str::to_owned).into(),
        env: env
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..Command::default()
    };
    vec![Task::Service {
        config: Box::new(config.clone()),
        usual: vec![Task::Edit(edits), Task::Command(set_up)],
    }]
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The script that enters the image's environment.
fn enter(config: &ContainerConfig) -> String {
    let mut variables = String::new();
    if config.env("PATH").is_none() {
        let _ = write!(variables, " {}", quoted(&format!("PATH={USUAL_PATH}")));
    }
    for (name, text) in [
        ("HOME", r#""HOME=$home""#),
        ("HOSTNAME", r#""HOSTNAME=$hostname""#),
    ] {
        if config.env(name).is_none() {
            let _ = write!(variables, " {text}");
        }
    }
    for (name, value) in &config.env {
        let _ = write!(variables, " {}", quoted(&format!("{name}={value}")));
    }
    let workdir = config.workdir.as_deref().unwrap_or("/");
    let workdir = match workdir.starts_with('/') {
        true => quoted(workdir),
        false => quoted(&format!("/{workdir}")),
    };
    filled(ENTER, &[("WORKDIR", &workdir), ("VARIABLES", &variables)])
}

/// The script that starts the process.
fn start(command: &[String]) -> String {
    filled(START, &[("COMMAND", &words(command))])
}

/// The script that checks the health, when there is something to check.
fn health(config: &ContainerConfig) -> Option<String> {
    let check = config.healthcheck.as_ref()?;
    let command = check.command(&config.shell())?;
    let or = |time: Option<Duration>, usual: Duration| time.unwrap_or(usual);
    let interval = or(check.interval, Healthcheck::INTERVAL);
    let timeout = or(check.timeout, Healthcheck::TIMEOUT);
    let start_period = or(check.start_period, Healthcheck::START_PERIOD);
    // Until the first success it is looked more often: that changes no verdict.
    let soon = or(check.start_interval, Healthcheck::SOON).min(interval);
    let retries = check.retries.unwrap_or(Healthcheck::RETRIES);
    let blanks = [
        ("INTERVAL", seconds(interval)),
        ("INTERVAL_TICKS", ticks(interval)),
        ("SOON", seconds(soon)),
        ("START_TICKS", ticks(start_period)),
        ("TIMEOUT", whole_seconds(timeout)),
        ("RETRIES", retries.to_string()),
        ("COMMAND", words(&command)),
    ];
    let blanks: Vec<(&str, &str)> = blanks.iter().map(|(n, text)| (*n, text.as_str())).collect();
    Some(filled(HEALTH, &blanks))
}

/// A script with texts in the place of its blanks, `@NAME@`. What is in a text is no blank.
fn filled(script: &str, blanks: &[(&str, &str)]) -> String {
    let mut parts = script.split('@');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    let mut after_blank = false;
    for part in parts {
        match blanks.iter().find(|(name, _)| *name == part) {
            Some((_, text)) if !after_blank => {
                filled.push_str(text);
                after_blank = true;
            }
            _ => {
                if !after_blank {
                    filled.push('@');
                }
                filled.push_str(part);
                after_blank = false;
            }
        }
    }
    filled
}

/// Seconds as sleep(1) takes them.
fn seconds(time: Duration) -> String {
    match time.subsec_millis() {
        0 if time.as_secs() > 0 => time.as_secs().to_string(),
        0 => "0.001".to_owned(),
        milliseconds => format!("{}.{milliseconds:03}", time.as_secs()),
    }
}

/// Hundredths of a second, as `/proc/uptime` has them.
fn ticks(time: Duration) -> String {
    (time.as_millis() / 10).to_string()
}

/// Seconds as all timeout(1) take them.
fn whole_seconds(time: Duration) -> String {
    time.as_millis().div_ceil(1000).max(1).to_string()
}

/// Words of sh(1).
fn words(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    words.join(" ")
}

/// A word of sh(1) that means these bytes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command as Process;

    use proptest::prelude::*;

    use super::*;

    /// Writes the scripts below a directory, which stands for the places that they name.
    fn install(directory: &Path, config: &ContainerConfig) {
        let health = health(config).unwrap_or_default();
        for (name, text) in [
            ("enter", enter(config)),
            ("start", start(&config.command())),
            ("health", health),
            ("ready", READY.to_owned()),
        ] {
            let here = directory.to_str().unwrap();
            let text = text
                .replace("/usr/lib/vmfab/container", here)
                .replace("/run/container-health", here)
                .replace("/run/container", here);
            fs::write(directory.join(name), text).unwrap();
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(directory.join(name), mode).unwrap();
        }
    }

    /// The shells of this host that a guest may have.
    fn shells() -> Vec<Vec<&'static str>> {
        let all = [
            vec!["/bin/dash"],
            vec!["/bin/bash"],
            vec!["/bin/busybox", "sh"],
        ];
        let all = all.into_iter().filter(|shell| Path::new(shell[0]).exists());
        all.collect()
    }

    /// What the process finds: arguments and variables, each ended by a NUL, and its directory.
    fn found(shell: &[&str], directory: &Path, config: &ContainerConfig) -> (String, String) {
        install(directory, config);
        let output = Process::new(shell[0])
            .args(&shell[1..])
            .arg(directory.join("start"))
            .env("OF_THE_LOGIN", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        let (words, variables) = said.rsplit_once("\0==\0").unwrap();
        (words.to_owned(), variables.to_owned())
    }

    /// A process that tells its arguments and its environment.
    const TELLER: &str = r#"printf '%s\0' "$0" "$@"; printf '==\0'; cat /proc/self/environ"#;

    fn config(words: &[String], env: &[(String, String)]) -> ContainerConfig {
        let mut config = ContainerConfig {
            entrypoint: ["/bin/sh", "-c", TELLER].map(str::to_owned).into(),
            cmd: words.to_vec(),
            workdir: Some("/tmp".to_owned()),
            ..ContainerConfig::default()
        };
        for (name, value) in env {
            config.set_env(name, value);
        }
        config
    }

    /// Names that a shell does not change or drop, so that what is told is what was given.
    fn names() -> impl Strategy<Value = String> {
        "X[A-Z0-9_]{0,6}".prop_map(|name| format!("A_{name}"))
    }

    fn texts() -> impl Strategy<Value = String> {
        let odd = prop::sample::select(vec![
            "%",
            "%i",
            "$",
            "$$",
            "${HOME}",
            "`id`",
            "\"",
            "'",
            "\\",
            "\\n",
            "\n",
            "\r",
            "\t",
            " ",
            "#",
            ";",
            "&",
            "|",
            "*",
            "?",
            "~",
            "!",
            "=",
            "@COMMAND@",
            "@VARIABLES@",
            "é",
            "\u{1}",
            "\u{7f}",
            "-x",
            "--",
            "",
        ]);
        prop_oneof![
            prop::collection::vec(odd, 0..6).prop_map(|parts| parts.concat()),
            "[^\\x00]{0,20}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn the_process_finds_what_the_image_says(
            words in prop::collection::vec(texts(), 1..5),
            env in prop::collection::btree_map(names(), texts(), 0..4),
        ) {
            let env: Vec<(String, String)> = env.into_iter().collect();
            for shell in shells() {
                let directory = tempfile::tempdir().unwrap();
                let (told, variables) = found(&shell, directory.path(), &config(&words, &env));
                let expected: Vec<&str> = words.iter().map(String::as_str).collect();
                prop_assert_eq!(told, expected.join("\0"));
                let has = |name: &str, value: &str| {
                    let line = format!("\0{name}={value}\0");
                    format!("\0{variables}").contains(&line)
                };
                for (name, value) in &env {
                    prop_assert!(has(name, value), "{}={:?} of {:?}", name, value, variables);
                }
                prop_assert!(has("PATH", USUAL_PATH));
                prop_assert!(!variables.contains("OF_THE_LOGIN"));
            }
        }
    }

    #[test]
    fn the_environment_is_that_of_the_container_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = ContainerConfig {
            entrypoint: ["env", "-0"].map(str::to_owned).into(),
            ..ContainerConfig::default()
        };
        let names = |config: &ContainerConfig| {
            install(directory.path(), config);
            let mut process = Process::new(directory.path().join("start"));
            let output = process.env("LANG", "C").env("INVOCATION_ID", "1").output();
            let said = String::from_utf8(output.unwrap().stdout).unwrap();
            let mut lines: Vec<String> = said.split_terminator('\0').map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let usual = names(&config);
        let path = format!("PATH={USUAL_PATH}");
        let starts: Vec<&str> = usual.iter().map(|line| &line[..5]).collect();
        assert_eq!(starts, ["HOME=", "HOSTN", &path[..5]], "{usual:?}");
        for (name, value) in [("HOME", "/x"), ("HOSTNAME", "y"), ("PATH", "/bin:/usr/bin")] {
            config.set_env(name, value);
        }
        config.set_env("not.a-name", "1");
        config.set_env("-u", "2");
        let own = [
            "-u=2",
            "HOME=/x",
            "HOSTNAME=y",
            "PATH=/bin:/usr/bin",
            "not.a-name=1",
        ];
        assert_eq!(names(&config), own);
    }

    #[test]
    fn programs_are_looked_for_as_in_the_container() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("own");
        fs::create_dir(&own).unwrap();
        for name in ["served", "a=b"] {
            fs::write(own.join(name), "#!/bin/sh\necho \"$0 $PWD\"\n").unwrap();
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(own.join(name), mode).unwrap();
        }
        let own = own.display();
        for (program, workdir) in [
            ("served".to_owned(), "/"),
            ("a=b".to_owned(), "/tmp"),
            ("./served".to_owned(), own.to_string().as_str()),
        ] {
            let mut config = ContainerConfig {
                cmd: vec![program.clone()],
                workdir: Some(workdir.to_owned()),
                ..ContainerConfig::default()
            };
            config.set_env("PATH", &format!("{own}:/usr/bin:/bin"));
            install(directory.path(), &config);
            let output = Process::new(directory.path().join("start"))
                .output()
                .unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            assert!(
                said.ends_with(&format!(" {workdir}\n")),
                "{program}: {said}"
            );
        }
    }

    /// As logs of container images are linked to.
    #[test]
    fn output_can_be_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let config = ContainerConfig {
            cmd: ["sh", "-c", "echo one >/dev/stdout; echo two >/dev/stderr"]
                .map(str::to_owned)
                .into(),
            ..ContainerConfig::default()
        };
        install(directory.path(), &config);
        let output = Process::new(directory.path().join("start"))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn health_is_told_when_it_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path();
        let check = format!(
            "test -e {0}/fine || {{ echo is not fine; false; }}",
            here.display()
        );
        let short = Some(Duration::from_millis(50));
        let config = ContainerConfig {
            healthcheck: Some(Healthcheck {
                test: vec!["CMD-SHELL".to_owned(), check],
                interval: short,
                retries: Some(2),
                ..Healthcheck::default()
            }),
            ..ContainerConfig::default()
        };
        install(here, &config);
        let ready = || {
            let output = Process::new(here.join("ready")).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            (output.status.code().unwrap(), said)
        };
        assert_eq!(ready().0, 81);
        let mut checks = Process::new(here.join("health"))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let until = |code: i32| {
            while ready().0 != code {
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        until(82);
        assert!(ready().1.contains("is not fine"), "{}", ready().1);
        fs::write(here.join("fine"), "").unwrap();
        until(0);
        fs::remove_file(here.join("fine")).unwrap();
        until(82);
        checks.kill().unwrap();
        checks.wait().unwrap();
    }

    #[test]
    fn a_process_that_ends_is_not_healthy() {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path();
        install(here, &config(&[], &[]));
        let ready = |restarts: u32, active: &str, ended: u32| {
            let systemctl = format!(
                "#!/bin/sh\n[ \"$1 $2 $3 $5\" = 'show --value --property container.service' ] || exit 1\n\
                 case $4 in NRestarts) echo {restarts} ;; ActiveState) echo {active} ;;\n\
                 ExecMainExitTimestampMonotonic) echo {ended} ;; esac\n"
            );
            fs::write(here.join("systemctl"), systemctl).unwrap();
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(here.join("systemctl"), mode).unwrap();
            let path = format!("{}:/usr/bin:/bin", here.display());
            let mut command = Process::new(here.join("ready"));
            let output = command.env("PATH", path).output().unwrap();
            (
                output.status.code().unwrap(),
                String::from_utf8(output.stderr).unwrap(),
            )
        };
        assert_eq!(ready(2, "active", 7).0, 81);
        let (code, said) = ready(3, "active", 7);
        assert_eq!(code, 82);
        assert!(said.contains("its process ended 3 times"), "{said}");
        // It was not started yet, it waits for its next start, it ended for good.
        assert_eq!(ready(0, "inactive", 0).0, 81);
        assert_eq!(ready(1, "activating", 7).0, 81);
        let (code, said) = ready(0, "failed", 7);
        assert_eq!(code, 82);
        assert!(said.contains("is not started again"), "{said}");
    }

    #[test]
    fn checks_have_dockers_defaults() {
        let script = |check: Healthcheck| {
            let config = ContainerConfig {
                healthcheck: Some(Healthcheck {
                    test: ["CMD", "true"].map(str::to_owned).into(),
                    ..check
                }),
                ..ContainerConfig::default()
            };
            health(&config).unwrap()
        };
        let usual = script(Healthcheck::default());
        for line in [
            "retries=3\n",
            "sleep 2; else sleep 30; fi",
            "KILL 30 ",
            " + 0 + 3000))",
        ] {
            assert!(usual.contains(line), "{line}: {usual}");
        }
        let own = script(Healthcheck {
            interval: Some(Duration::from_millis(1500)),
            timeout: Some(Duration::from_millis(100)),
            start_period: Some(Duration::from_secs(60)),
            retries: Some(9),
            ..Healthcheck::default()
        });
        for line in [
            "retries=9\n",
            "sleep 1.500; else sleep 1.500; fi",
            "KILL 1 ",
            " + 6000 + 150))",
        ] {
            assert!(own.contains(line), "{line}: {own}");
        }
    }
}
