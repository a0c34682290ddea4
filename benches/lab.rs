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
    disk: Option<PathBuf>,
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
            disk: None,
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
        vmfab(&self.home())
    }

    /// Debian 12 on a sparse raw disk of this size: a file system that a build has made.
    pub(crate) fn build_disk(&self, size: &str, output: &Path) {
        time(
            self.vmfab()
                .args(["build", "recipes/debian-12.kdl", "--format=raw", "--set"])
                .arg(format!("size={size}"))
                .arg("--output")
                .arg(output),
        );
    }

    /// The disk of 2 GiB, with some 400 MiB on it, that measurements of the store are about.
    pub(crate) fn disk(&mut self) -> PathBuf {
        if self.disk.is_none() {
            let disk = self.path("disk.raw");
            self.build_disk("2G", &disk);
            self.disk = Some(disk);
        }
        self.disk.clone().unwrap()
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
    ///
    /// The old one is removed with the lab. ext4 does not reuse inodes of files that were removed in
    /// the last minutes, and passes over each of them (`recently_deleted` in `fs/ext4/ialloc.c`): a
    /// removal just before would slow the build down, and not its peer, which removes nothing.
    pub(crate) fn forget(&mut self) {
        let home = self.home();
        if home.exists() {
            let number = (0..).find(|number| !self.path(&format!("old-{number}")).exists());
            fs::rename(&home, self.path(&format!("old-{}", number.unwrap()))).unwrap();
        }
        self.built = false;
    }

    /// A running BuildKit; it ends with the lab.
    pub(crate) fn docker(&mut self) -> &Docker {
        let directory = self.path("docker");
        self.docker.get_or_insert_with(|| Docker::start(&directory))
    }
}

/// The release binary with a home.
pub(crate) fn vmfab(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmfab"));
    command
        .env("VMFAB_HOME", home)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    command
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

/// What a command that must succeed prints.
pub(crate) fn printed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The most memory that a command has resident at once, as the kernel counts it for the parent
/// (`ru_maxrss`): mapped files included, and only of the largest process.
pub(crate) fn peak_memory(command: &Command) -> u64 {
    let figure = tempfile::NamedTempFile::new().unwrap();
    let mut measured = tool("time", "time");
    measured
        .args(["--format=%M", "--output"])
        .arg(figure.path())
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => measured.env(name, value),
            None => measured.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        measured.current_dir(directory);
    }
    time(&mut measured);
    let kibibytes = fs::read_to_string(figure.path()).unwrap();
    kibibytes.trim().parse::<u64>().unwrap() * 1024
}

/// Removes a directory or file that may not exist.
pub(crate) fn remove(path: &Path) {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    assert!(
        removed.is_ok() || !path.exists(),
        "{}: {removed:?}",
        path.display()
    );
}

/// Copies a directory to a place where nothing is.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    remove(to);
    time(
        tool("cp", "coreutils")
            .args(["--archive", "--no-target-directory"])
            .args([from, to]),
    );
}

/// The sum of the sizes of all files below a directory.
pub(crate) fn size_of(directory: &Path) -> u64 {
    files_below(directory)
        .iter()
        .map(|file| fs::metadata(file).unwrap().len())
        .sum()
}

/// All files below a directory, sorted.
pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    entries
        .into_iter()
        .flat_map(|path| {
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![path]
            }
        })
        .collect()
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
    middle((0..count).map(|_| run()).collect())
}

/// The middle one of some figures.
pub(crate) fn middle<T: Ord + Copy>(mut figures: Vec<T>) -> T {
    figures.sort();
    figures[figures.len() / 2]
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
