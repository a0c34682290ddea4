//! From the start of the command to the first byte that the guest writes to its console, and the
//! same for QEMU started by hand with the very arguments that vmfab gave it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::lab::{Lab, middle, time, tool, wait_for_content};
use crate::table::{Limit, Row};

const NAME: &str = "bench";
const ROUNDS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    lab.ensure_built();
    let directory = lab.home().join("machines").join(NAME);
    // What this host can do is found out by the first machine that comes up, and remembered.
    let first = Machine(lab);
    time(lab.vmfab().args(["boot", "@docker", "--name", NAME]));
    drop(first);
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let machine = Machine(lab);
        let (took, arguments) = machine.boot(&directory);
        ours.push(took);
        // By hand, in the same place, with a new overlay as vmfab makes one.
        peers.push(raw(&directory, &arguments));
    }
    vec![Row {
        what: "boot to the guest's first console byte",
        vmfab: middle(ours).into(),
        limit: Limit::Ratio {
            peer: "QEMU, same arguments",
            needs: middle(peers).into(),
            most: 1.05,
        },
    }]
}

/// The machine that is measured; it is removed whatever happens.
struct Machine<'a>(&'a Lab);

impl Machine<'_> {
    /// Boots until the first byte, then ends the machine; gives its command line.
    fn boot(&self, directory: &Path) -> (Duration, Vec<OsString>) {
        let mut command = self.0.vmfab();
        command
            .args(["--quiet", "boot", "@docker", "--name", NAME])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let started = Instant::now();
        let mut child = command.spawn().unwrap();
        let came = wait_for_content(&directory.join("console.log"), PATIENCE);
        let took = started.elapsed();
        let arguments = came.then(|| command_line_of_qemu(directory));
        // The end of waiting is not the end of the machine.
        end(&mut child, Signal::INT);
        let arguments = arguments.expect("vmfab boot: nothing came from the console");
        time(self.0.vmfab().args(["stop", "--timeout=0", NAME]));
        (took, arguments)
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        let mut command = self.0.vmfab();
        let _ = command.args(["rm", "--force", NAME]).output();
    }
}

/// The arguments of the process that works in the machine's directory and is a QEMU.
pub(crate) fn command_line_of_qemu(directory: &Path) -> Vec<OsString> {
    let directory = fs::canonicalize(directory).unwrap();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let process: PathBuf = entry.ok()?.path();
            let works_there = fs::read_link(process.join("cwd")).ok()? == directory;
            let program = fs::read_link(process.join("exe")).ok()?;
            let is_qemu = program.file_name()?.to_str()?.starts_with("qemu-system");
            (works_there && is_qemu).then_some(process)
        })
        .find_map(|process| fs::read(process.join("cmdline")).ok())
        .unwrap()
        .split(|byte| *byte == 0)
        .filter(|argument| !argument.is_empty())
        .map(|argument| OsString::from_vec(argument.to_vec()))
        .collect()
}

fn raw(directory: &Path, arguments: &[OsString]) -> Duration {
    let console = directory.join("console.log");
    let _ = fs::remove_file(&console);
    new_overlay(directory);
    let started = Instant::now();
    let mut qemu = Command::new(&arguments[0])
        .args(&arguments[1..])
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let came = wait_for_content(&console, PATIENCE);
    let took = started.elapsed();
    end(&mut qemu, Signal::KILL);
    assert!(came, "QEMU by hand: nothing came from the console");
    took
}

/// Puts an empty overlay over the same disk in the place of a machine's.
pub(crate) fn new_overlay(directory: &Path) {
    let overlay = directory.join("overlay.qcow2");
    let backing = backing_file(&overlay);
    time(
        tool("qemu-img", "qemu-utils")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .arg(&backing)
            .arg(&overlay),
    );
}

fn backing_file(overlay: &Path) -> String {
    let info = tool("qemu-img", "qemu-utils")
        .args(["info", "--output=json"])
        .arg(overlay)
        .output()
        .unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
    info["full-backing-filename"].as_str().unwrap().to_owned()
}

pub(crate) fn end(child: &mut Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
    child.wait().unwrap();
}
