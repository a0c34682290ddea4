//! Steps of a build in machines: the library, the real QEMU and the base image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use vmfab::builder::guest::{BuildMachine, BuildMachineSpec, BuildMachines, Command, Report};
use vmfab::digest::ObjectRef;
use vmfab::event::Silent;
use vmfab::failure::{Failure, Kind};
use vmfab::host::{Home, Interrupt};
use vmfab::image::Access;
use vmfab::ops::{Context, images};
use vmfab::qemu::AccelChoice;
use vmfab::store::Store;

use super::support::{Lab, Machine, Ran, base, program, tool};

/// What a boot may take: many times what it takes on two busy processors without KVM.
const PATIENCE: Duration = Duration::from_secs(900);

/// A home of its own over the store of the run, so that what is left in it can be seen.
struct Bench {
    directory: tempfile::TempDir,
    store: Store,
    interrupt: Interrupt,
    lines: Mutex<Vec<String>>,
}

impl Bench {
    fn new() -> Self {
        let store = Lab::get().home().join("store");
        Self::over(tempfile::tempdir().unwrap(), &store)
    }

    fn over(directory: tempfile::TempDir, store: &Path) -> Self {
        Self {
            store: Store::open(store).unwrap(),
            directory,
            interrupt: Interrupt::new().unwrap(),
            lines: Mutex::default(),
        }
    }

    fn home(&self) -> Home {
        Home::at(self.directory.path())
    }

    fn sessions(&self) -> BuildMachines {
        BuildMachines::of_program(&self.home(), &self.store, program().into())
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("step.log")
    }

    /// Does something with a report; gives the lines that it printed, too.
    fn reported<T>(&self, work: impl FnOnce(&Report<'_>) -> T) -> (T, Vec<String>) {
        let lines = || self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let output = |line: &str| lines().push(line.to_owned());
        let log = self.log();
        let result = work(&Report {
            log_limit: 1 << 20,
            log: &log,
            output: &output,
            interrupt: &self.interrupt,
        });
        (result, std::mem::take(&mut *lines()))
    }

    /// Runs a script in a guest.
    fn run(&self, session: &mut BuildMachine, script: &str) -> (Result<(), Failure>, Vec<String>) {
        self.reported(|report| session.run(shell(script), report))
    }

    /// What a script that must succeed prints.
    #[track_caller]
    fn output(&self, session: &mut BuildMachine, script: &str) -> String {
        let (result, lines) = self.run(session, script);
        result.unwrap_or_else(|error| panic!("{error:?}\n{}", lines.join("\n")));
        lines.join("\n")
    }

    #[track_caller]
    fn take(
        &self,
        sessions: &BuildMachines,
        spec: &BuildMachineSpec,
    ) -> (BuildMachine, Vec<String>) {
        let (session, lines) = self.reported(|report| sessions.take(spec.clone(), report));
        let log = || fs::read_to_string(self.log()).unwrap_or_default();
        let session = session.unwrap_or_else(|error| panic!("{error:?}\n{}", log()));
        (session, lines)
    }

    #[track_caller]
    fn commit(&self, session: &mut BuildMachine) -> ObjectRef {
        let (disk, _) = self.reported(|report| session.commit(report));
        disk.unwrap()
    }

    /// A disk as a file, to be looked into.
    fn disk(&self, disk: &ObjectRef) -> Disk {
        Disk(self.store.materialise(&disk.id).unwrap())
    }

    /// QEMU and ssh processes of this home: they run in their machines' directories.
    fn processes(&self) -> Vec<Pid> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let number = entry.file_name().to_string_lossy().parse::<i32>();
            let directory = fs::read_link(entry.path().join("cwd"));
            if let (Ok(number), Ok(directory)) = (number, directory)
                && directory.starts_with(self.directory.path())
            {
                found.extend(Pid::from_raw(number));
            }
        }
        found
    }

    /// Scratch directories and their locks.
    fn scratch(&self) -> Vec<String> {
        let entries = fs::read_dir(self.home().work()).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for process in self.processes() {
            let _ = kill_process(process, Signal::KILL);
        }
    }
}

fn shell(script: &str) -> Command<'_> {
    Command {
        argv: ["sh", "-ec", script].map(str::to_owned).into(),
        ..Command::default()
    }
}

/// A machine with the disk of the base image, or another.
fn spec(disk: Option<ObjectRef>) -> BuildMachineSpec {
    let context = Context::new(
        Home::at(Lab::get().home()),
        std::sync::Arc::new(Silent),
        Interrupt::new().unwrap(),
    );
    let config = images::find(&context, &base()).unwrap().config;
    BuildMachineSpec {
        disk: disk.unwrap_or(config.disk),
        kernel: config.kernel,
        initrd: config.initrd,
        access: Access {
            architecture: config.template.architecture,
            boot: config.template.boot,
            // Not root: how to become it is found out.
            ssh_user: "vm".parse().unwrap(),
            users: config.template.users,
        },
        disk_size: None,
        memory_mib: 512,
        cpus: 2,
        accel: AccelChoice::Auto,
        boot_timeout: PATIENCE,
    }
}

/// A raw disk that is a file system.
struct Disk(PathBuf);

impl Disk {
    fn debugfs(&self, request: &str) -> String {
        let mut command = tool("debugfs", "e2fsprogs");
        let ran = Ran::of(command.args(["-R", request]).arg(&self.0)).ends_with(0);
        format!("{}{}", ran.stdout, ran.stderr)
    }

    fn has(&self, path: &str) -> bool {
        !self
            .debugfs(&format!("stat {path}"))
            .contains("File not found")
    }

    fn content(&self, path: &str) -> String {
        let text = self.debugfs(&format!("cat {path}"));
        let text = text.lines().filter(|line| !line.starts_with("debugfs 1."));
        text.collect::<Vec<_>>().join("\n")
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let listing = self.debugfs(&format!("ls -p {directory}"));
        let names = listing.lines().filter_map(|line| line.split('/').nth(5));
        let names = names.filter(|name| !name.is_empty() && *name != "." && *name != "..");
        names.map(str::to_owned).collect()
    }

    /// It was written back as a whole: there is nothing to mend, and no journal to replay.
    #[track_caller]
    fn assert_whole(&self) {
        assert!(!self.debugfs("features").contains("needs_recovery"));
        let mut command = tool("e2fsck", "e2fsprogs");
        Ran::of(command.args(["-f", "-n"]).arg(&self.0)).ends_with(0);
    }
}

#[track_caller]
fn command_error(result: Result<(), Failure>) -> (String, Vec<String>) {
    match result {
        Err(error) if error.is_command() => {
            (error.message().to_owned(), error.details().output.clone())
        }
        other => panic!("{other:?}"),
    }
}

fn tar_with(path: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o640);
    header.set_uid(7);
    header.set_gid(9);
    builder.append_data(&mut header, path, content).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn steps_go_on_where_the_last_one_ended() {
    let bench = Bench::new();
    let _turn = Machine::turn();
    let sessions = bench.sessions();
    let first = spec(None);
    let (mut session, lines) = bench.take(&sessions, &first);
    assert!(lines.iter().any(|line| line.starts_with("boot: ready")));
    assert_eq!(session.disk(), &first.disk);

    // Everything a step can do, and its disk.
    let said = bench.output(
        &mut session,
        "id -u; pwd; echo \"$HOME\" 'it'\"'\"'s'; echo said >/dev/kmsg; echo one >/root/one; \
         echo mine >>/root/.ssh/authorized_keys; sleep 1000 & echo err >&2",
    );
    assert_eq!(said, "0\n/\n/root it's\nerr");
    let archive = tar_with("sub/file", &b"content".repeat(100_000));
    let (written, _) = bench.reported(|report| {
        session.extract(&mut archive.as_slice(), "/srv/new dir", report)?;
        session.write("/etc/new.d/x y", b"text\n", 0o604, "daemon:", None, report)
    });
    written.unwrap();
    let found = bench.output(
        &mut session,
        "stat -c '%a %u %g %s' '/srv/new dir/sub/file'; stat -c '%a %U %G' '/etc/new.d/x y'",
    );
    assert_eq!(found, "640 7 9 700000\n604 daemon daemon");
    let log = fs::read_to_string(bench.log()).unwrap();
    assert!(
        log.contains("--- console of the machine") && log.contains("said"),
        "{log}"
    );
    let one = bench.commit(&mut session);
    assert_ne!(one, first.disk);
    assert_eq!(one.size, first.disk.size);
    let disk = bench.disk(&one);
    disk.assert_whole();
    assert_eq!(disk.content("/root/one"), "one");
    assert!(disk.has("/srv/new\\ dir") || disk.names("/srv").contains(&"new dir".to_owned()));

    // The next step finds the machine as it is.
    sessions.put_back(session);
    assert!(
        sessions.waiting(&first).is_none(),
        "that disk was two steps ago"
    );
    let (mut session, lines) = bench.take(&sessions, &spec(Some(one)));
    assert_eq!(lines, [""; 0], "it was booted again");
    bench.output(
        &mut session,
        "cat /root/one; echo two >/root/two; rm -r /srv/*",
    );
    let two = bench.commit(&mut session);
    let disk = bench.disk(&two);
    disk.assert_whole();
    assert_eq!(disk.content("/root/two"), "two");
    assert!(disk.has("/root/one") && disk.names("/srv").is_empty());
    assert!(!bench.disk(&one).has("/root/two"));

    assert_bare(&bench);

    // Steps that fail, and one that hangs.
    let (result, _) = bench.run(&mut session, "echo last words; exit 7");
    let (how, tail) = command_error(result);
    assert_eq!(
        (how.as_str(), tail),
        ("exited with code 7", vec!["last words".to_owned()])
    );
    let started = Instant::now();
    let hanging = Command {
        seconds: Some(2),
        ..shell("echo waiting; sleep 4321; echo never")
    };
    let (result, lines) = bench.reported(|report| session.run(hanging, report));
    let (how, _) = command_error(result);
    assert_eq!(how, "took longer than its limit of 2 s");
    assert_eq!(lines, ["waiting"]);
    assert!(started.elapsed() < Duration::from_secs(60));
    let left = bench.output(&mut session, "ps -eo args | grep -c '[s]leep' || true");
    assert_eq!(left, "0");

    // The end.
    bench.output(&mut session, "rm /root/one");
    let (last, _) = bench.reported(|report| session.shutdown(report));
    let last = last
        .unwrap_or_else(|error| panic!("{error:?}\n{}", fs::read_to_string(bench.log()).unwrap()));
    assert_eq!(bench.processes(), []);
    assert_eq!(bench.scratch(), [""; 0]);
    assert_no_identity(&bench.disk(&last));
    it_is_a_first_boot(&bench, &last);
}

/// Looks for what is of the machine in which a disk was built.
#[track_caller]
/// QEMU and ssh have nothing of this process's environment.
fn assert_bare(bench: &Bench) {
    const OWN: &str = "CARGO_MANIFEST_DIR";
    assert!(std::env::var_os(OWN).is_some());
    let processes = bench.processes();
    assert!(processes.len() > 1, "{processes:?}");
    for process in processes {
        let file = format!("/proc/{}/environ", process.as_raw_nonzero());
        let environment = fs::read(file).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment);
        assert!(!environment.contains(OWN), "{environment}");
    }
}

fn assert_no_identity(disk: &Disk) {
    disk.assert_whole();
    assert!(disk.has("/root/two") && !disk.has("/root/one"));
    assert!(disk.debugfs("stat /etc/machine-id").contains("Size: 0"));
    for file in [
        "/var/lib/dbus/machine-id",
        "/var/lib/systemd/random-seed",
        "/var/lib/systemd/credential.secret",
        "/root/.bash_history",
        "/root/.ssh/authorized_keys2",
        "/home/vm/.ssh/authorized_keys",
        "/home/vm/.ssh/authorized_keys2",
        "/home/vm/.ssh",
    ] {
        assert!(!disk.has(file), "{file} is left");
    }
    assert_eq!(disk.content("/root/.ssh/authorized_keys"), "mine");
    let ssh = disk.names("/etc/ssh");
    assert!(ssh.contains(&"sshd_config".to_owned()), "{ssh:?}");
    assert!(
        !ssh.iter().any(|name| name.starts_with("ssh_host_")),
        "{ssh:?}"
    );
    for directory in [
        "/tmp",
        "/var/tmp",
        "/var/log/journal",
        "/var/lib/systemd/timesync",
    ] {
        let listing = disk.names(directory);
        assert!(listing.is_empty(), "{directory}: {listing:?}");
    }
    for log in ["wtmp", "btmp", "lastlog"] {
        let stat = disk.debugfs(&format!("stat /var/log/{log}"));
        let empty = stat.contains("Size: 0") || stat.contains("File not found");
        assert!(empty, "{log}: {stat}");
    }
}

/// A machine of the last disk makes itself an identity. Then it dies.
fn it_is_a_first_boot(bench: &Bench, last: &ObjectRef) {
    let sessions = bench.sessions();
    let (mut session, _) = bench.take(&sessions, &spec(Some(*last)));
    let found = bench.output(
        &mut session,
        "ls /etc/ssh/ssh_host_ed25519_key; wc -c </etc/machine-id; cat /root/two; ls /root",
    );
    assert_eq!(found, "/etc/ssh/ssh_host_ed25519_key\n33\ntwo\ntwo");

    // The user gives up.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while bench.lines.lock().unwrap().is_empty() {
                std::thread::sleep(Duration::from_millis(20));
            }
            bench.interrupt.request();
        });
        let (result, lines) = bench.run(&mut session, "echo waiting; sleep 4321");
        assert!(
            result
                .as_ref()
                .is_err_and(|error| error.is(Kind::Interrupted)),
            "{result:?}"
        );
        assert_eq!(lines, ["waiting"]);
    });
    let (result, _) = bench.reported(|report| session.commit(report));
    assert!(
        result
            .as_ref()
            .is_err_and(|error| error.is(Kind::Interrupted)),
        "{result:?}"
    );

    let patient = Bench::over(tempfile::tempdir().unwrap(), bench.store.root());
    let panic = "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 4321";
    let (result, _) = patient.run(&mut session, panic);
    let (how, tail) = command_error(result);
    assert_eq!(how, "did not end: the machine's kernel panicked");
    assert!(tail.join("\n").contains("Kernel panic"), "{tail:?}");

    let processes = bench.processes();
    let directory = fs::read_link(format!("/proc/{}/cwd", processes[0].as_raw_pid())).unwrap();
    for process in processes {
        kill_process(process, Signal::KILL).unwrap();
    }
    wait_until("QEMU is gone", || bench.processes().is_empty());
    let how_it_ends = |session: &mut _| command_error(patient.run(session, "true").0).0;
    // It is still the panic that came first.
    assert_eq!(
        how_it_ends(&mut session),
        "did not end: the machine's kernel panicked"
    );
    fs::write(directory.join("console.log"), "").unwrap();
    assert_eq!(
        how_it_ends(&mut session),
        "did not end: the machine shut down, or lost its QEMU"
    );
    // It is of no use to anybody.
    sessions.put_back(session);
    assert_eq!(bench.processes(), []);
    assert_eq!(bench.scratch(), [""; 0]);
}

const HELPER: &str = "VMFAB_TEST_GUEST_HOME";

/// The process that the test below kills, which is that test run again: it boots a machine.
fn helper(home: &str) {
    let lab = std::env::var("VMFAB_TEST_GUEST_LAB").unwrap();
    let store = Store::open(Path::new(&lab).join("store")).unwrap();
    let spec = fs::read(Path::new(home).join("spec.json")).unwrap();
    let (disk, kernel, initrd, access): (_, _, _, Access) = serde_json::from_slice(&spec).unwrap();
    let spec = BuildMachineSpec {
        disk,
        kernel,
        initrd,
        access,
        disk_size: None,
        memory_mib: 512,
        cpus: 1,
        accel: AccelChoice::Tcg,
        boot_timeout: PATIENCE,
    };
    let sessions = BuildMachines::of_program(&Home::at(home), &store, program().into());
    let interrupt = Interrupt::new().unwrap();
    let report = Report {
        log_limit: 1 << 20,
        log: &Path::new(home).join("step.log"),
        output: &|_| {},
        interrupt: &interrupt,
    };
    let _session = sessions.take(spec, &report).unwrap();
    std::thread::sleep(PATIENCE);
}

#[test]
fn a_killed_build_leaves_no_machine() {
    if let Ok(home) = std::env::var(HELPER) {
        return helper(&home);
    }
    let bench = Bench::new();
    let _turn = Machine::turn();
    let spec = spec(None);
    let parts = (spec.disk, spec.kernel, spec.initrd, &spec.access);
    let file = bench.directory.path().join("spec.json");
    fs::write(file, serde_json::to_vec(&parts).unwrap()).unwrap();
    let mut helper: Child = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "guest::a_killed_build_leaves_no_machine"])
        .env(HELPER, bench.directory.path())
        .env("VMFAB_TEST_GUEST_LAB", Lab::get().home())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("QEMU runs", || {
        let names = bench.processes().into_iter().map(|process| {
            let file = format!("/proc/{}/comm", process.as_raw_pid());
            fs::read_to_string(file).unwrap_or_default()
        });
        assert!(matches!(helper.try_wait(), Ok(None)), "the helper ended");
        names
            .into_iter()
            .any(|name| name.starts_with("qemu-system"))
    });
    helper.kill().unwrap();
    helper.wait().unwrap();
    wait_until("all is over", || bench.processes().is_empty());
    // What it left goes when somebody makes the next one.
    assert_eq!(bench.scratch().len(), 2);
    let sandbox = vmfab::sandbox::Sandbox::new(&bench.home(), bench.store.clone());
    drop(sandbox.scratch().unwrap());
    assert_eq!(bench.scratch(), [""; 0]);
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "waited in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
