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

use crate::support;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use vmfab::event::Recorder;
use vmfab::host::{Home, Interrupt};
use vmfab::image::{
    BootProfile, CONFIG_VERSION, FilesystemRef, Firmware, ImageConfig, ImageTemplate, RecipeRef,
};
use vmfab::machine::Until;
use vmfab::ops::machine::{self, BootOptions, StartOptions};
use vmfab::ops::{Context, images};
use vmfab::qemu::AccelChoice;
use vmfab::store::Store;

/// A Linux kernel as far as QEMU can tell, that says "tiny: up" on the serial port and then answers
/// there: `P` makes it say that it panicked, `Q` makes it switch itself off, and everything else
/// comes back. When the power button is pressed it switches itself off, unless `D` (for deaf) was
/// sent before.
///
/// It is the real-mode part of a bzImage (Linux, `Documentation/arch/x86/boot.rst`): QEMU jumps to
/// its byte 0x200. Ports: 0x3f8 is the serial port, 0x600 the power management of q35 (ICH9, set up
/// by SeaBIOS): +0 events, +2 events that are enabled, +4 control.
fn tiny_kernel() -> Vec<u8> {
    const UP: &[u8] = b"tiny: up\r\n\0";
    const PANIC: &[u8] = b"Kernel panic - not syncing: tiny: as you wish\r\n\0";
    #[rustfmt::skip]
    const CODE: &[u8] = &[
        /* 70 */ 0x0e, 0x1f,             // push cs; pop ds
        /* 72 */ 0xba, 0x02, 0x06,       // mov dx, 0x602
        /* 75 */ 0xb8, 0x00, 0x01,       // mov ax, 0x100: the power button
        /* 78 */ 0xef,                   // out dx, ax
        /* 79 */ 0xbe, 0x00, 0x01,       // mov si, 0x100: UP
        /* 7c */ 0xe8, 0x3f, 0x00,       // call print
        // next:
        /* 7f */ 0xfb, 0xf4,             // sti; hlt: until the next tick of the clock
        /* 81 */ 0xba, 0x00, 0x06,       // mov dx, 0x600
        /* 84 */ 0xed,                   // in ax, dx
        /* 85 */ 0xf6, 0xc4, 0x01,       // test ah, 1
        /* 88 */ 0x75, 0x2b,             // jnz off
        /* 8a */ 0xba, 0xfd, 0x03,       // mov dx, 0x3fd
        /* 8d */ 0xec,                   // in al, dx
        /* 8e */ 0xa8, 0x01,             // test al, 1: something was sent
        /* 90 */ 0x74, 0xed,             // jz next
        /* 92 */ 0xba, 0xf8, 0x03,       // mov dx, 0x3f8
        /* 95 */ 0xec,                   // in al, dx
        /* 96 */ 0x3c, b'Q', 0x74, 0x1b, // cmp al, 'Q'; je off
        /* 9a */ 0x3c, b'P', 0x74, 0x07, // cmp al, 'P'; je panic
        /* 9e */ 0x3c, b'D', 0x74, 0x0b, // cmp al, 'D'; je deaf
        /* a2 */ 0xee,                   // out dx, al
        /* a3 */ 0xeb, 0xda,             // jmp next
        // panic:
        /* a5 */ 0xbe, 0x0b, 0x01,       // mov si, 0x10b: PANIC
        /* a8 */ 0xe8, 0x13, 0x00,       // call print
        /* ab */ 0xeb, 0xd2,             // jmp next
        // deaf:
        /* ad */ 0xba, 0x02, 0x06,       // mov dx, 0x602
        /* b0 */ 0x31, 0xc0,             // xor ax, ax
        /* b2 */ 0xef,                   // out dx, ax
        /* b3 */ 0xeb, 0xca,             // jmp next
        // off:
        /* b5 */ 0xba, 0x04, 0x06,       // mov dx, 0x604
        /* b8 */ 0xb8, 0x00, 0x20,       // mov ax, 0x2000: to sleep, type 0, which is S5
        /* bb */ 0xef,                   // out dx, ax
        /* bc */ 0xeb, 0xfe,             // jmp here
        // print:
        /* be */ 0xac,                   // lodsb
        /* bf */ 0x84, 0xc0, 0x74, 0x11, // test al, al; jz return
        /* c3 */ 0x88, 0xc4,             // mov ah, al
        // full:
        /* c5 */ 0xba, 0xfd, 0x03,       // mov dx, 0x3fd
        /* c8 */ 0xec,                   // in al, dx
        /* c9 */ 0xa8, 0x20, 0x74, 0xf8, // test al, 0x20; jz full
        /* cd */ 0x88, 0xe0,             // mov al, ah
        /* cf */ 0xb2, 0xf8,             // mov dl, 0xf8
        /* d1 */ 0xee,                   // out dx, al
        /* d2 */ 0xeb, 0xea,             // jmp print
        // return:
        /* d4 */ 0xc3,                   // ret
    ];
    // Two sectors of real-mode code, and as much of "protected-mode kernel", which never runs.
    let mut image = vec![0; 2048];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]); // setup_sects
    put(0x1fe, &[0x55, 0xaa]); // boot_flag
    put(0x200, &[0xeb, 0x6e]); // jmp 0x270
    put(0x202, b"HdrS");
    put(0x206, &0x0203_u16.to_le_bytes()); // protocol
    put(0x211, &[1]); // loadflags: LOADED_HIGH
    put(0x270, CODE);
    put(0x300, UP);
    put(0x300 + UP.len(), PANIC);
    image
}

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
                name: name.to_owned(),
                recipe: RecipeRef {
                    name: name.to_owned(),
                    version: None,
                },
                description: None,
                metadata: BTreeMap::new(),
                architecture: std::env::consts::ARCH.to_owned(),
                boot: BootProfile {
                    command_line: "console=ttyS0".to_owned(),
                    firmware: Firmware::Direct,
                    uefi: false,
                },
                filesystem: FilesystemRef {
                    kind: "ext4".to_owned(),
                    label: "root".to_owned(),
                },
                ssh_user: "root".to_owned(),
                users: BTreeMap::from([("root".to_owned(), "/root".to_owned())]),
                ports: Vec::new(),
                env: BTreeMap::new(),
                history: Vec::new(),
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
        Context {
            home: Home::at(&self.home),
            sink: self.recorder.clone(),
            interrupt: Interrupt::new().unwrap(),
        }
    }

    fn options() -> BootOptions {
        BootOptions {
            name: None,
            memory_mib: 64,
            cpus: 1,
            disk_size: None,
            ports: Vec::new(),
            accel: AccelChoice::Tcg,
            firmware: None,
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
                && directory.starts_with(self.machines())
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

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn from_boot_to_rm() {
    let bench = Bench::new();
    bench
        .run(["list"])
        .ends_with(0)
        .says("there are no machines");
    let name = bench.boot();
    assert_eq!(name, "tiny");

    let entry = bench.entry("tiny");
    assert_eq!(entry["state"], "running");
    assert_eq!(entry["image_name"], "tiny");
    assert_eq!(entry["memory"], 64 << 20);
    let pid = i32::try_from(entry["pid"].as_i64().unwrap()).unwrap();
    assert_eq!(bench.processes(), [Pid::from_raw(pid).unwrap()]);

    bench
        .run(["rm", "tiny"])
        .ends_with(1)
        .says("machine \"tiny\" is running");
    bench
        .run(["start", "tiny"])
        .ends_with(0)
        .says("machine \"tiny\" is running already");
    let stopped = bench.run(["stop", "tiny"]).ends_with(0);
    assert_eq!(stopped.stdout, "tiny: stopped\n");
    assert_eq!(bench.entry("tiny")["state"], "stopped");
    assert_eq!(bench.processes(), []);
    let stopped = bench.run(["stop", "tiny"]).ends_with(0);
    assert_eq!(stopped.stdout, "tiny: was stopped already\n");

    for command in ["ssh", "console"] {
        bench
            .run([command, "tiny"])
            .ends_with(1)
            .says("vmfab start tiny starts it");
    }
    let log = bench.run(["logs", "tiny"]).ends_with(0).stdout;
    assert!(log.ends_with("tiny: up\n"), "{log}");
    bench.run(["rm", "tiny"]).ends_with(0);
    assert_eq!(bench.list(), [Value::Null; 0]);
    assert_eq!(bench.directories(), [""; 0]);
}

#[test]
fn a_machine_that_cannot_be_entered_shows_its_console_and_stays() {
    let bench = Bench::new();
    let arguments = ["boot", "@tiny", "--accel", "tcg", "--timeout", "3"];
    let ran = bench.run(arguments).ends_with(1);
    let ran = ran
        .says("machine \"tiny\" could not be entered within 3 s")
        .says("tiny: up")
        .says("vmfab rm --force tiny");
    assert_eq!(ran.stdout, "");
    assert_eq!(bench.entry("tiny")["state"], "running");
    assert_eq!(bench.run(arguments).ends_with(1).stdout, "");
    assert_eq!(bench.entry("tiny-2")["state"], "running");

    let mut with_rm = bench.command(arguments);
    Ran::from(with_rm.arg("--rm").output().unwrap())
        .ends_with(1)
        .says("tiny: up")
        .says("the machine was removed");
    let mut names = bench.directories();
    names.sort();
    assert_eq!(names, ["tiny", "tiny-2"]);
    bench.run(["rm", "--force", "tiny", "tiny-2"]).ends_with(0);
    assert_eq!(bench.processes(), []);
}

#[test]
fn a_panic_and_a_switched_off_guest_end_the_waiting() {
    let bench = Bench::new();
    for (key, what) in [
        ("P", "machine \"tiny\" stopped with a kernel panic"),
        (
            "Q",
            "machine \"tiny\" was switched off before it could be entered",
        ),
    ] {
        let boot = bench.command(["boot", "@tiny", "--accel", "tcg"]).spawn();
        let boot = Running(boot.unwrap());
        bench.wait_for_log("tiny", "tiny: up");
        let mut console = bench.command(["console", "tiny"]);
        let mut console = Running(console.stdin(Stdio::piped()).spawn().unwrap());
        let mut keys = console.0.stdin.take().unwrap();
        keys.write_all(key.as_bytes()).unwrap();
        boot.finish().ends_with(1).says(what).says("tiny: up");
        drop(console);
        bench.run(["rm", "--force", "tiny"]).ends_with(0);
    }
}

#[test]
fn a_deaf_guest_is_stopped_by_force() {
    let bench = Bench::new();
    let name = bench.boot();
    bench.say(&name, "Dx", "x");
    let stopped = bench.run(["stop", "--timeout", "1", "tiny"]).ends_with(0);
    assert_eq!(stopped.stdout, "tiny: ended by force\n");
    assert_eq!(bench.processes(), []);
    assert_eq!(bench.entry("tiny")["state"], "stopped");
}

#[test]
fn one_at_a_time_is_at_the_console() {
    let bench = Bench::new();
    let name = bench.boot();
    let mut first = bench.command(["console", &name]);
    let mut first = Running(first.stdin(Stdio::piped()).spawn().unwrap());
    let mut keys = first.0.stdin.take().unwrap();
    keys.write_all(b"hello").unwrap();
    bench.wait_for_log(&name, "hello");
    bench
        .run(["console", &name])
        .ends_with(1)
        .says("the console of machine \"tiny\" is in use");
    let mut logs = Running(bench.command(["logs", "--follow", &name]).spawn().unwrap());
    keys.write_all(b"\nQ").unwrap();
    let first = first.finish().ends_with(0).says("machine \"tiny\" stopped");
    assert!(first.stdout.contains("hello"), "{first:#?}");
    logs.0.wait().unwrap();
    let logs = logs.finish().ends_with(0);
    assert!(logs.stdout.contains("tiny: up\nhello\n"), "{logs:#?}");
}

#[test]
fn a_killed_qemu_leaves_a_stopped_machine() {
    let bench = Bench::new();
    let name = bench.boot();
    for process in bench.processes() {
        kill_process(process, Signal::KILL).unwrap();
    }
    wait_until("the end of QEMU", || {
        bench.entry(&name)["state"] == "stopped"
    });
    assert!(bench.machines().join(&name).join("qmp.sock").exists());
    let options = StartOptions {
        until: Until::Console,
        timeout: MOMENT,
    };
    let started = machine::start(&bench.context(), &name, options).unwrap();
    assert!(!started.was_running);
    assert_eq!(bench.entry(&name)["state"], "running");
}

#[test]
fn a_killed_vmfab_leaves_machines_that_can_be_handled() {
    let bench = Bench::new();
    for delay in (0..60).step_by(4) {
        let boot = ["boot", "@tiny", "--accel", "tcg", "--memory", "64M"];
        let boot = Running(bench.command(boot).spawn().unwrap());
        std::thread::sleep(Duration::from_millis(delay));
        kill_process(boot.pid(), Signal::KILL).unwrap();
        drop(boot);
        let states = ["stopped", "starting", "running"];
        for entry in bench.list() {
            let name = entry["name"].as_str().unwrap();
            assert!(
                states.contains(&entry["state"].as_str().unwrap()),
                "{entry}"
            );
            bench.run(["rm", "--force", name]).ends_with(0);
        }
        assert_eq!(bench.processes(), []);
    }
    // What is left of a machine that was being made goes when the next one is made.
    bench.boot();
    assert_eq!(bench.directories(), ["tiny"]);
}

#[test]
fn starting_twice_at_once_starts_once() {
    let bench = Bench::new();
    let name = bench.boot();
    bench.run(["stop", &name]).ends_with(0);
    let options = StartOptions {
        until: Until::Console,
        timeout: MOMENT,
    };
    let mut were_running = std::thread::scope(|scope| {
        let start = || {
            machine::start(&bench.context(), &name, options)
                .unwrap()
                .was_running
        };
        let threads = [scope.spawn(start), scope.spawn(start), scope.spawn(start)];
        threads.map(|thread| thread.join().unwrap())
    });
    were_running.sort_unstable();
    assert_eq!(were_running, [false, true, true]);
    assert_eq!(bench.processes().len(), 1);
}

#[test]
fn removing_twice_at_once_removes_once() {
    let bench = Bench::new();
    let name = bench.boot();
    let rm = || Running(bench.command(["rm", "--force", &name]).spawn().unwrap());
    let codes = [rm(), rm()].map(|running| running.finish().code.unwrap());
    assert!(codes == [0, 3] || codes == [3, 0], "{codes:?}");
    assert_eq!(bench.directories(), [""; 0]);
    assert_eq!(bench.processes(), []);
}

#[test]
fn the_path_of_the_home_may_be_long_and_odd() {
    let odd = "a, b=c \"d\" 'e' %h ~ ${x} \\ ,,";
    let long = format!("{odd}/{}/{}", "l".repeat(120), "m".repeat(120));
    for path in [odd, &long] {
        let bench = Bench::below(path);
        let name = bench.boot();
        assert_eq!(bench.entry(&name)["state"], "running");
        bench.say(&name, "hello", "hello");
        let ran = bench.with_fake_ssh(["ssh", &name, "true"]).ends_with(7);
        let machine = bench.machines().join(&name);
        assert_eq!(ran.stdout, format!("{}\n", machine.display()));
        let stopped = bench.run(["stop", &name]).ends_with(0);
        assert_eq!(stopped.stdout, "tiny: stopped\n");
        bench.run(["rm", &name]).ends_with(0);
    }
}

#[test]
fn a_port_that_is_taken_is_named_and_nothing_is_left() {
    let bench = Bench::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let forward = format!("{port}:80");
    bench
        .run(["boot", "@tiny", "--accel", "tcg", "--port", &forward])
        .ends_with(1)
        .says(&format!(
            "port {port} of 127.0.0.1 cannot be forwarded: address in use"
        ));
    assert_eq!(bench.directories(), [""; 0]);
    let twice = ["-p", &forward, "-p", &forward];
    let mut boot = bench.command(["boot", "@tiny"]);
    Ran::from(boot.args(twice).output().unwrap())
        .ends_with(2)
        .says("is forwarded twice");
}

#[test]
fn the_port_for_ssh_is_chosen_anew_when_it_is_taken() {
    let bench = Bench::new();
    let name = bench.boot();
    bench.run(["stop", &name]).ends_with(0);
    let before = bench.entry(&name)["ssh"]["port"].as_u64().unwrap();
    let before = u16::try_from(before).unwrap();
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, before)).unwrap();
    let options = StartOptions {
        until: Until::Console,
        timeout: MOMENT,
    };
    let started = machine::start(&bench.context(), &name, options).unwrap();
    assert_ne!(started.ssh.port, before);
    assert_eq!(bench.entry(&name)["ssh"]["port"], started.ssh.port);
}

#[test]
fn ports_of_the_image_are_forwarded_unless_told_otherwise() {
    let bench = Bench::new();
    let (one, other) = (free_port(), free_port());
    bench.image("served", &tiny_kernel(), |config| {
        config.template.ports = vec![
            vmfab::image::Port {
                guest: 80,
                host: Some(one),
            },
            vmfab::image::Port {
                guest: 443,
                host: None,
            },
        ];
    });
    let context = bench.context();
    let image = images::find(&context, "served").unwrap();
    let as_the_image = machine::boot(&context, &image, &Bench::options()).unwrap();
    let asked = vmfab::machine::Forwarded {
        host: other,
        guest: 80,
    };
    let options = BootOptions {
        ports: vec![asked],
        ..Bench::options()
    };
    let as_asked = machine::boot(&context, &image, &options).unwrap();
    let hosts = |booted: machine::Booted| {
        let ports = booted.ports.iter();
        ports.map(|port| port.host).collect::<Vec<_>>()
    };
    assert_eq!(hosts(as_the_image), [one]);
    assert_eq!(hosts(as_asked), [other]);
}

#[test]
fn ctrl_c_ends_the_waiting_and_not_the_machine() {
    let bench = Bench::new();
    for (rm, left) in [(false, 1), (true, 0)] {
        let mut boot = bench.command(["boot", "@tiny", "--accel", "tcg"]);
        if rm {
            boot.arg("--rm");
        }
        // Ctrl-C goes to all processes of the terminal's foreground group.
        let boot = Running(boot.process_group(0).spawn().unwrap());
        bench.wait_for_log("tiny", "tiny: up");
        kill_process_group(boot.pid(), Signal::INT).unwrap();
        let ran = boot.finish().ends_with(130);
        if rm {
            ran.says("the machine was removed");
        } else {
            ran.says("machine \"tiny\" keeps running: vmfab stop tiny stops it");
            assert_eq!(bench.entry("tiny")["state"], "running");
        }
        assert_eq!(bench.processes().len(), left);
        assert_eq!(bench.directories().len(), left);
        for name in bench.directories() {
            bench.run(["rm", "--force", &name]).ends_with(0);
        }
    }
}

#[test]
fn a_machine_that_goes_when_it_stops() {
    let bench = Bench::new();
    let context = bench.context();
    let image = images::find(&context, "tiny").unwrap();
    let options = BootOptions {
        remove: true,
        ..Bench::options()
    };
    machine::boot(&context, &image, &options).unwrap();
    bench.wait_for_log("tiny", "tiny: up");
    let stopped = bench.run(["stop", "tiny"]).ends_with(0);
    assert_eq!(stopped.stdout, "tiny: stopped, removed\n");
    assert_eq!(bench.directories(), [""; 0]);
}

#[test]
fn what_qemu_says_is_shown_and_nothing_is_left() {
    let bench = Bench::new();
    bench.image("broken", b"this is no kernel", |_| {});
    bench
        .run(["boot", "@broken", "--accel", "tcg"])
        .ends_with(1)
        .says("QEMU exited with code 1")
        .says("invalid kernel header");
    assert_eq!(bench.directories(), [""; 0]);
}

#[test]
fn a_damaged_machine_can_be_seen_and_removed() {
    let bench = Bench::new();
    let name = bench.boot();
    bench.run(["stop", &name]).ends_with(0);
    let config = bench.machines().join(&name).join("machine.json");
    fs::write(config, "{\"version\": 1").unwrap();
    assert_eq!(bench.entry(&name)["state"], "damaged");
    for command in ["start", "inspect", "ssh"] {
        let ran = bench.run([command, &name]).ends_with(1);
        ran.says("machine \"tiny\" is damaged: ")
            .says("vmfab rm --force tiny removes what is left of it");
    }
    bench.run(["rm", &name]).ends_with(0);
}

#[test]
fn wrong_requests() {
    let bench = Bench::new();
    bench.boot();
    bench.image("foreign", &tiny_kernel(), |config| {
        config.template.architecture = "sparc".to_owned();
    });
    bench.image("bare", &tiny_kernel(), |config| config.kernel = None);
    for (code, arguments, what) in [
        (3, &["stop", "tini"][..], "did you mean \"tiny\"?"),
        (3, &["ssh", "../x"], "there is no machine \"../x\""),
        (3, &["boot", "@tini"], "did you mean \"tiny\"?"),
        (1, &["boot", "@foreign"], "image \"foreign\" is for sparc"),
        (
            1,
            &["boot", "@bare"],
            "image \"bare\" has no kernel of its own",
        ),
        (
            1,
            &["boot", "@tiny", "--firmware", "uefi"],
            "image \"tiny\" has no boot loader for UEFI",
        ),
        (
            1,
            &["boot", "@tiny", "--name", "tiny"],
            "there is a machine \"tiny\" already",
        ),
        (
            1,
            &["boot", "@tiny", "--disk-size", "512K"],
            "is smaller than the image's disk of 1048576 bytes",
        ),
        (2, &["boot", "@tiny", "--name", ".x"], "--name"),
        (2, &["boot", "@tiny", "--memory", "1"], "such as 512M"),
        (2, &["boot", "@tiny", "-p", "80"], "write HOST:GUEST"),
        (5, &["boot", "@tiny", "--accel", "hvf"], "a part of macOS"),
    ] {
        let ran = Ran::from(bench.command(arguments).output().unwrap());
        ran.ends_with(code).says(what);
    }
    assert_eq!(bench.directories(), ["tiny"]);
}

#[test]
fn uefi_firmware_starts_and_has_its_own_variables() {
    let bench = Bench::new();
    bench.image("empty", &tiny_kernel(), |config| {
        config.template.boot.uefi = true;
    });
    let context = bench.context();
    let image = images::find(&context, "empty").unwrap();
    let options = BootOptions {
        firmware: Some(Firmware::Uefi),
        memory_mib: 128,
        ..Bench::options()
    };
    machine::boot(&context, &image, &options).unwrap();
    // It looks for something to start: the empty disk first, and the network not at all.
    let log = bench.machines().join("empty/console.log");
    let text = || String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
    wait_until("the second try of the firmware", || {
        text().matches("BdsDxe: ").count() > 1
    });
    assert!(!text().contains("PXE"), "{}", text());
    let vars = bench.machines().join("empty/firmware-vars.fd");
    assert!(vars.metadata().unwrap().len() > 100_000);
}

/// The whole way with a real guest: a session, a restart, what stays and what is forwarded.
#[test]
fn a_real_machine() {
    let bench = Bench::with_base();
    let name = support::base();
    let name = name.as_str();
    let forward = format!("{}:22", free_port());
    let booted = bench
        .run([
            "boot",
            &format!("@{name}"),
            "--memory",
            "512M",
            "-p",
            &forward,
        ])
        .ends_with(0)
        .says("waiting for ssh");
    assert!(
        booted.stdout.contains(&format!("vmfab ssh {name}")),
        "{booted:#?}"
    );
    let ssh = |command: &str| bench.run(["ssh", name, "--", command]);
    assert_eq!(ssh("whoami; exit 7").ends_with(7).stdout, "vm\n");
    let root = bench.run(["ssh", name, "-u", "root", "id -u"]);
    assert_eq!(root.ends_with(0).stdout, "0\n");

    let mut cat = bench.command(["ssh", name, "cat"]);
    let mut cat = Running(cat.stdin(Stdio::piped()).spawn().unwrap());
    let mut input = cat.0.stdin.take().unwrap();
    input.write_all(b"through the pipe").unwrap();
    drop(input);
    assert_eq!(cat.finish().ends_with(0).stdout, "through the pipe");

    let (port, _) = forward.split_once(':').unwrap();
    let mut forwarded = std::net::TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
    let mut banner = [0; 4];
    std::io::Read::read_exact(&mut forwarded, &mut banner).unwrap();
    assert_eq!(&banner, b"SSH-");

    // A user's own key, and whatever is on the disk, is there after a restart.
    ssh("echo 'ssh-ed25519 AAAA mine' >> ~/.ssh/authorized_keys; echo kept > file").ends_with(0);
    let keys = || fs::read_to_string(bench.machines().join(name).join("known_hosts")).unwrap();
    let known = keys();
    let stopped = bench.run(["stop", name]).ends_with(0);
    assert_eq!(stopped.stdout, format!("{name}: stopped\n"));
    bench.run(["start", name]).ends_with(0);
    let found = ssh("cat file; tail -n 1 ~/.ssh/authorized_keys").ends_with(0);
    assert_eq!(found.stdout, "kept\nssh-ed25519 AAAA mine\n");
    assert_eq!(keys(), known);
    let log = bench.run(["logs", name]).ends_with(0).stdout;
    assert!(log.contains("Linux version"), "{log}");
    bench.run(["rm", "--force", name]).ends_with(0);
    assert_eq!(bench.directories(), [""; 0]);
}

/// A QEMU whose KVM never works, before the real one.
fn qemu_without_kvm(directory: &Path) {
    let real = vmfab::host::require(vmfab::host::Program::QemuSystem)
        .expect("QEMU is missing: install the package qemu-system-x86");
    let path = directory.join(real.file_name().unwrap());
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *'-accel kvm'*)\n\
         echo 'KVM internal error. Suberror: 1' >&2; exit 1;;\nesac\nexec {} \"$@\"\n",
        real.display()
    );
    write_program(&path, &script);
}

#[test]
fn acceleration_that_does_not_work_is_tried_once() {
    let has_kvm = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    let bench = Bench::new();
    let bin = bench.home.join("bin");
    fs::create_dir(&bin).unwrap();
    qemu_without_kvm(&bin);
    let path = std::env::var("PATH").unwrap();
    let boot = |arguments: &[&str]| {
        let mut boot = bench.command(["boot", "@tiny", "--rm", "--timeout", "2"]);
        boot.args(arguments);
        boot.env("PATH", format!("{}:{path}", bin.display()));
        Ran::from(boot.output().unwrap())
    };

    let warned = [boot(&[]), boot(&[])].map(|ran| {
        let ran = ran.ends_with(1).says("tiny: up");
        ran.stderr.contains("KVM does not work on this host")
    });
    assert_eq!(warned, [has_kvm, false]);
    let ran = boot(&["--accel", "kvm"]);
    if has_kvm {
        ran.ends_with(1)
            .says("KVM does not work on this host: KVM internal error. Suberror: 1");
    } else {
        ran.ends_with(5).says("KVM cannot be used: open /dev/kvm");
    }
    assert_eq!(bench.directories(), [""; 0]);
}
