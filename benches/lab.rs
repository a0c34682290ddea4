//! Where measurements happen: a store of their own, the release binary, and how commands are timed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use vmfab::host::find_program;

use crate::peers::Docker;

/// A scratch directory with a vmfab home, and what several measurements share.
pub(crate) struct Lab {
    /// Time of the cold build, once it was measured.
    pub(crate) cold: Option<Duration>,
    docker: Option<Docker>,
    built: bool,
    /// After what runs in it: fields are dropped in this order.
    scratch: tempfile::TempDir,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self {
            scratch: tempfile::Builder::new()
                .prefix("vmfab-bench-")
                .tempdir()
                .unwrap(),
            cold: None,
            docker: None,
            built: false,
        }
    }

    /// A path in the scratch directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The directory with the store, caches and machines.
    pub(crate) fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// The release binary with this home.
    pub(crate) fn vmfab(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmfab"));
        command
            .env("VMFAB_HOME", self.home())
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        command
    }

    /// The build that most measurements are about.
    pub(crate) fn docker_build(&self) -> Command {
        let mut command = self.vmfab();
        command.args(["build", "recipes/docker.kdl", "--set", "base=debian-12"]);
        command
    }

    /// Builds it unless that was done.
    pub(crate) fn ensure_built(&mut self) {
        if !self.built {
            time(&mut self.docker_build());
            self.built = true;
        }
    }

    /// An empty home: the next build is a cold one.
    pub(crate) fn forget(&mut self) {
        let home = self.home();
        if home.exists() {
            fs::remove_dir_all(&home).unwrap();
        }
        self.built = false;
    }

    /// A running BuildKit; it ends with the lab.
    pub(crate) fn docker(&mut self) -> &Docker {
        let directory = self.path("docker");
        self.docker.get_or_insert_with(|| Docker::start(&directory))
    }
}

/// A program of the host; without it there is nothing to measure.
pub(crate) fn tool(name: &str, package: &str) -> Command {
    match find_program(name) {
        Some(path) => Command::new(path),
        None => panic!("{name} is not installed: install the Debian package {package}"),
    }
}

/// Runs a command that must succeed; tells how long it took. Its output is shown when it fails.
pub(crate) fn time(command: &mut Command) -> Duration {
    let mut output = tempfile::tempfile().unwrap();
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output.try_clone().unwrap());
    let started = Instant::now();
    let status = command.status();
    let took = started.elapsed();
    if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
        panic!("{command:?}: {status:?}\n{}", text(&mut output));
    }
    took
}

fn text(file: &mut File) -> String {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The middle one of `count` times, after one that does not count.
pub(crate) fn median(count: usize, mut run: impl FnMut() -> Duration) -> Duration {
    run();
    let mut times: Vec<Duration> = (0..count).map(|_| run()).collect();
    times.sort();
    times[count / 2]
}

/// Waits until a file that may not exist yet has something in it, looking at it often. Tells
/// whether that came before the limit.
pub(crate) fn wait_for_content(file: &Path, limit: Duration) -> bool {
    let started = Instant::now();
    while !fs::metadata(file).is_ok_and(|meta| meta.len() > 0) {
        if started.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    true
}
