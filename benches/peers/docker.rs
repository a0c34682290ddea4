//! BuildKit, as it is in Debian's docker.io: a dockerd of our own, which ends with us. It needs
//! root, and neither kernel modules nor a network bridge.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::lab::time;

/// Debian's client and server, by path: another client in `PATH` may lack BuildKit.
const CLIENT: &str = "/usr/bin/docker";
const SERVER: &str = "/usr/sbin/dockerd";
/// How long a start or an end may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Docker {
    server: Child,
    socket: PathBuf,
    data: PathBuf,
}

impl Docker {
    /// Starts a dockerd that keeps everything below `directory`.
    pub(crate) fn start(directory: &Path) -> Self {
        for program in [CLIENT, SERVER] {
            assert!(
                Path::new(program).exists(),
                "{program} is missing: install the Debian package docker.io"
            );
        }
        fs::create_dir_all(directory).unwrap();
        let socket = directory.join("docker.sock");
        let data = directory.join("data");
        let log = File::create(directory.join("log")).unwrap();
        let mut server = Command::new(SERVER)
            .args(["--iptables=false", "--bridge=none"])
            .args([
                format!("--data-root={}", data.display()),
                format!("--exec-root={}", directory.join("exec").display()),
                format!("--pidfile={}", directory.join("pid").display()),
                format!("--host=unix://{}", socket.display()),
            ])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let started = Instant::now();
        while !socket.exists() {
            let ended = server.try_wait().unwrap().is_some();
            assert!(
                !ended && started.elapsed() < PATIENCE,
                "dockerd did not start (it needs root):\n{}",
                fs::read_to_string(directory.join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Self {
            server,
            socket,
            data,
        }
    }

    /// `docker build` of a directory with a Dockerfile; tells how long it took.
    pub(crate) fn build(&self, context: &Path) -> Duration {
        self.build_with(context, &[])
    }

    /// The same with more options.
    pub(crate) fn build_with(&self, context: &Path, more: &[&str]) -> Duration {
        time(
            Command::new(CLIENT)
                .args(["build", "--network=host", "--tag=bench"])
                .args(more)
                .arg(context)
                .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
                .env("DOCKER_BUILDKIT", "1"),
        )
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.server.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE && matches!(self.server.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
        // dockerd makes its data directory a mount point of its own and leaves it so.
        let _ = unmount(&self.data, UnmountFlags::DETACH);
    }
}
