//! Machines as a user has them: the program, the real QEMU, and a guest of a few hundred bytes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{self, free_port};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use vmfab::event::Recorder;
use vmfab::host::{Home, Interrupt};
use vmfab::image::{
    AskedShare, BootProfile, CONFIG_VERSION, FilesystemRef, Firmware, FurtherDisk, Hardware,
    ImageConfig, ImageTemplate, RecipeRef,
};
use vmfab::machine::Until;
use vmfab::ops::machine::{self, BootOptions, ImageOptions, StartOptions};
use vmfab::ops::{Context, images};
use vmfab::qemu::AccelChoice;
use vmfab::store::Store;

mod asked;
mod bios;
mod commits;
mod daily;
mod disks;
mod halted;
mod life;
mod network;
mod origin;
mod projects;
mod requests;
mod robust;
mod room;
mod saved_volumes;
mod several;
mod snapshot_files;
mod snapshots;
mod suspended;
mod tiny;
mod watch;

pub(crate) use tiny::tiny_disk;
use tiny::tiny_kernel;

/// What tests wait at most for things that take a moment.
const MOMENT: Duration = Duration::from_secs(60);

/// A home with the image `@tiny`. Whatever still runs in it ends with the test.
struct Bench {
    home: PathBuf,
    recorder: Arc<Recorder>,
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::below("home")
    }

    /// A home at `path` in a directory of its own.
    fn below(path: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bench = Self {
            home: directory.path().join(path),
            recorder: Arc::default(),
            directory,
        };
        fs::create_dir_all(&bench.home).unwrap();
        bench.image("tiny", &tiny_kernel(), |_| {});
        bench
    }

    /// A home with the base image of the real tests.
    fn with_base() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bench = Self {
            home: directory.path().join("home"),
            recorder: Arc::default(),
            directory,
        };
        fs::create_dir_all(&bench.home).unwrap();
        let store = support::Lab::get().home().join("store");
        std::os::unix::fs::symlink(store, bench.home.join("store")).unwrap();
        bench
    }

    /// Puts an image with a disk of 1 MiB into the store.
    fn image(&self, name: &str, kernel: &[u8], change: impl FnOnce(&mut ImageConfig)) {
        let store = Store::open(self.home.join("store")).unwrap();
        let mut config = ImageConfig {
            version: CONFIG_VERSION,
            template: ImageTemplate {
                name: name.parse().unwrap(),
                recipe: RecipeRef {
                    name: name.parse().unwrap(),
                    version: None,
                    about: vmfab::image::About::default(),
                },
                description: None,
                metadata: BTreeMap::new(),
                requires: vmfab::image::Requires::default(),
                architecture: std::env::consts::ARCH.parse().unwrap(),
                boot: BootProfile {
                    command_line: "console=ttyS0".parse().unwrap(),
                    firmware: Firmware::Direct,
                    uefi: false,
                    bios: false,
                    seed: vmfab::image::Seed::default(),
                    platform: vmfab::image::Platform::default(),
                    ignition: None,
                },
                filesystem: Some(FilesystemRef {
                    kind: "ext4".parse().unwrap(),
                    label: "root".parse().unwrap(),
                }),
                ssh_user: "root".parse().unwrap(),
                users: BTreeMap::from([("root".parse().unwrap(), "/root".parse().unwrap())]),
                ports: Vec::new(),
                port_names: BTreeMap::new(),
                health: false,
                volumes: std::collections::BTreeSet::new(),
                shares: Vec::new(),
                env: BTreeMap::new(),
                hostname: None,
                kernel_files: None,
                container: None,
            },
            disk: store.put_bytes(&[0; 1 << 20]).unwrap(),
            kernel: Some(store.put_bytes(kernel).unwrap()),
            initrd: None,
            layers: Vec::new(),
        };
        change(&mut config);
        let image = store.put_bytes(&config.to_bytes()).unwrap().id;
        store.put_tag(&name.parse().unwrap(), &image).unwrap();
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmfab"));
        command
            .args(arguments)
            .env("VMFAB_HOME", &self.home)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run<const N: usize>(&self, arguments: [&str; N]) -> Ran {
        Ran::from(self.command(arguments).output().unwrap())
    }

    fn context(&self) -> Context {
        Context::new(
            Home::at(&self.home),
            self.recorder.clone(),
            Interrupt::new().unwrap(),
        )
    }

    fn options() -> BootOptions {
        BootOptions {
            name: None,
            hardware: Hardware {
                memory_mib: Some(64),
                cpus: Some(1),
                ..Hardware::default()
            },
            ports: Vec::new(),
            accel: AccelChoice::Tcg,
            remove: false,
            until: Until::Console,
            timeout: MOMENT,
        }
    }

    /// Boots `@tiny` until it is up; gives the machine's name.
    fn boot(&self) -> String {
        let context = self.context();
        let image = images::find(&context, "tiny").unwrap();
        let booted = machine::boot(&context, &image, &Self::options()).unwrap();
        self.wait_for_log(booted.name.as_str(), "tiny: up");
        booted.name.to_string()
    }

    fn list(&self) -> Vec<Value> {
        let list = self.run(["list", "--json"]).ends_with(0).json();
        list.as_array().unwrap().clone()
    }

    fn entry(&self, name: &str) -> Value {
        let found = self.list().into_iter().find(|entry| entry["name"] == name);
        found.unwrap_or_else(|| panic!("no machine {name}"))
    }

    fn machines(&self) -> PathBuf {
        self.home.join("machines")
    }

    /// Runs the program with an `ssh` that looks for its key, says where it is and ends with 7.
    fn with_fake_ssh<const N: usize>(&self, arguments: [&str; N]) -> Ran {
        let bin = self.directory.path().join("bin");
        fs::create_dir_all(&bin).unwrap();
        let script = "#!/bin/sh\ntest \"$4\" = id_ed25519 && test -s \"$4\" && pwd && exit 7\n";
        write_program(&bin.join("ssh"), script);
        let mut command = self.command(arguments);
        command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        Ran::from(command.output().unwrap())
    }

    /// Everything that is there of machines, half-made and half-removed ones included.
    fn directories(&self) -> Vec<String> {
        let entries = fs::read_dir(self.machines()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != ".lock")
            .collect()
    }

    /// The QEMU processes of this home: they run in their machines' directories.
    fn processes(&self) -> Vec<Pid> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let number = entry.file_name().to_string_lossy().parse::<i32>();
            let directory = fs::read_link(entry.path().join("cwd"));
            if let (Ok(number), Ok(directory)) = (number, directory)
                && (directory.starts_with(self.machines())
                    || directory.starts_with(self.directory.path())
                        && directory.to_string_lossy().contains("/.vmfab/machines/"))
            {
                found.extend(Pid::from_raw(number));
            }
        }
        found
    }

    #[track_caller]
    fn wait_for_log(&self, name: &str, text: &str) {
        let log = self.machines().join(name).join("console.log");
        wait_until(text, || {
            fs::read(&log).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
        });
    }

    /// Sends text to the guest, as someone at the console, and waits for `answer`.
    #[track_caller]
    fn say(&self, name: &str, text: &str, answer: &str) {
        let mut console = Running(
            self.command(["console", name])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let mut stdin = console.0.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        self.wait_for_log(name, answer);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for process in self.processes() {
            let _ = kill_process(process, Signal::KILL);
        }
    }
}

/// A process that ends with the test.
struct Running(Child);

impl Running {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    fn finish(mut self) -> Ran {
        let read = |pipe: &mut dyn std::io::Read| {
            let mut text = String::new();
            pipe.read_to_string(&mut text).unwrap();
            text
        };
        let stdout = read(self.0.stdout.as_mut().unwrap());
        let stderr = read(self.0.stderr.as_mut().unwrap());
        Ran {
            code: self.0.wait().unwrap().code(),
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a run gave.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    #[track_caller]
    fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{text:?} is not in {self:#?}");
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < MOMENT, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn write_program(path: &Path, script: &str) {
    fs::write(path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
