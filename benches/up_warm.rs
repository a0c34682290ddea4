//! `vmfab up` of an image that is here, until SSH, and the same for QEMU started by hand with the
//! very arguments that vmfab gave it. The guest is one that is up soon
//! (`tests/support/alpine-disk.sh`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::boot_first_byte::{command_line_of_qemu, end, new_overlay};
use crate::lab::{Lab, middle, time, tool};
use crate::table::{Limit, Row};

const ROUNDS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(120);
const DISK: &str = "disk.vhd";

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    let project = Project::with_image(lab);
    // What this host can do is found out by the first machine, and remembered; the image is built.
    time(&mut project.vmfab(&["up"]));
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        time(&mut project.vmfab(&["down", "--rm", "--yes", "--force"]));
        ours.push(time(&mut project.vmfab(&["up"])));
        let machine = project.directory.join(".vmfab/machines/project");
        let arguments = command_line_of_qemu(&machine);
        time(&mut project.vmfab(&["down", "--force"]));
        peers.push(by_hand(&machine, &arguments, "alpine"));
    }
    vec![Row {
        what: "up of an image in the store, until SSH",
        vmfab: middle(ours).into(),
        limit: Limit::Ratio {
            peer: "QEMU and ssh, same arguments",
            needs: middle(peers).into(),
            most: 1.05,
        },
    }]
}

/// A folder without a file, where `up` is Alpine.
pub(crate) struct Project<'a> {
    lab: &'a Lab,
    directory: PathBuf,
    settings: [String; 2],
}

impl<'a> Project<'a> {
    /// Makes the disk, unless another measurement has.
    pub(crate) fn with_image(lab: &'a Lab) -> Self {
        let files = lab.path("upstream");
        std::fs::create_dir_all(&files).unwrap();
        if !files.join(DISK).exists() {
            time(
                Command::new("bash")
                    .arg("tests/support/alpine-disk.sh")
                    .arg(files.join(DISK))
                    .arg(lab.path("packages")),
            );
        }
        Self::new(lab, &files)
    }

    fn new(lab: &'a Lab, files: &Path) -> Self {
        let directory = lab.path("project");
        std::fs::create_dir_all(&directory).unwrap();
        let sum = tool("sha256sum", "coreutils")
            .arg(files.join(DISK))
            .output();
        let sum = String::from_utf8(sum.unwrap().stdout).unwrap();
        let sum = sum.split(' ').next().unwrap();
        Self {
            lab,
            directory,
            settings: [
                format!("release=file://{}", files.display()),
                format!("disk-sha256={sum}"),
            ],
        }
    }

    pub(crate) fn vmfab(&self, arguments: &[&str]) -> Command {
        let mut command = self.lab.vmfab();
        command.args(arguments).current_dir(&self.directory);
        if arguments == ["up"] {
            for setting in &self.settings {
                command.arg("--set").arg(setting);
            }
            command.args(["--set", "disk=disk.vhd"]);
        }
        command
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        let _ = self.vmfab(&["down", "--rm", "--yes", "--force"]).output();
    }
}

/// How long QEMU and `ssh` take in a machine's directory, with a new overlay.
pub(crate) fn by_hand(directory: &Path, arguments: &[std::ffi::OsString], user: &str) -> Duration {
    new_overlay(directory);
    let port = arguments
        .iter()
        .filter_map(|argument| argument.to_str())
        .find_map(|argument| argument.split("hostfwd=tcp:127.0.0.1:").nth(1))
        .and_then(|rest| rest.split('-').next())
        .unwrap();
    let started = Instant::now();
    let mut qemu = Command::new(&arguments[0])
        .args(&arguments[1..])
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut came = false;
    while !came && started.elapsed() < PATIENCE {
        let ssh = tool("ssh", "openssh-client")
            .args(["-F", "none", "-i", "id_ed25519", "-p", port])
            .args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"])
            .args([
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "ConnectTimeout=20",
            ])
            .args([&format!("{user}@127.0.0.1"), "true"])
            .current_dir(directory)
            .output();
        came = ssh.unwrap().status.success();
        if !came {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let took = started.elapsed();
    end(&mut qemu, Signal::KILL);
    assert!(came, "QEMU by hand: nobody could enter");
    took
}
