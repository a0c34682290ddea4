//! The first process of a machine whose image has no init system: it does what a container engine
//! does for an image's process, and what a kernel wants of an init. vmfab puts it into such images.
//!
//! It is one static program without a libc, so that it needs nothing of the image: no library, no
//! shell. It mounts, loads the modules of network and power button, asks for an address by DHCP,
//! runs the process again when it fails, reaps, checks the health, and switches the machine off.
//! What vmfab waits for are lines on the console that begin with `vmfab-init:`.

#![no_std]
#![no_main]
#![no_builtins]

mod config;
mod dhcp;
mod group;
mod network;
mod setup;
mod sys;
mod table;
mod volumes;

use core::panic::PanicInfo;

use config::Entry;
use sys::sys;

const CONFIG: &[u8] = b"/usr/lib/vmfab/init.conf\0";
/// What the last check of the health said.
const SAID: &[u8] = b"/run/vmfab-health\0";
/// Words of command lines and variables that there is room for.
const MOST: usize = 4096;
/// File descriptors that are waited for.
pub const MOST_WAITED: usize = 18;

const SIGKILL: usize = 9;
const SIGUSR1: usize = 10;
const SIGUSR2: usize = 12;
const SIGTERM: usize = 15;
const SIGCHLD: usize = 17;
const SIGPWR: usize = 30;
const SIGINT: usize = 2;

/// How long the process may take to end, in milliseconds, as with docker.
const STOPPING: i64 = 10_000;
/// How long until a process that failed is started again.
const AGAIN: i64 = 1_000;
/// How often ports are looked at until one of them answers.
const PORTS: i64 = 200;
/// How often a process may fail before it was ready.
const FAILURES: u32 = 3;
const NEVER: i64 = i64::MAX;

const POWER_OFF: usize = 0x4321_fedc;
const RESTART: usize = 0x0123_4567;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    say(&[b"it failed"]);
    end(POWER_OFF)
}

/// Milliseconds since the machine's start.
pub fn now() -> i64 {
    let mut time = [0i64; 2];
    sys!(CLOCK_GETTIME, 1, &raw mut time);
    time[0] * 1000 + time[1] / 1_000_000
}

/// Writes a line to the console, as one piece.
pub fn say(parts: &[&[u8]]) {
    let mut line = [0u8; 512];
    let mut length = 0;
    let parts = [b"vmfab-init: "]
        .into_iter()
        .map(|part| &part[..])
        .chain(parts.iter().copied());
    for &byte in parts
        .flatten()
        .filter(|byte| **byte != 0)
        .take(line.len() - 2)
    {
        line[length] = byte;
        length += 1;
    }
    line[length] = b'\n';
    sys!(WRITE, 1, line.as_ptr(), length + 1);
}

pub fn write_file(path: &[u8], parts: &[&[u8]]) {
    // To write, made anew, closed on execution.
    let file = sys!(OPENAT, -100isize, path.as_ptr(), 0o2001101, 0o644);
    if file >= 0 {
        for part in parts {
            sys!(WRITE, file, part.as_ptr(), part.len());
        }
        sys!(CLOSE, file);
    }
}

/// Waits until one of some files can be read, or for so many milliseconds; tells which.
pub fn wait(files: &[isize], milliseconds: i64) -> [bool; MOST_WAITED] {
    // `struct pollfd`, with POLLIN.
    let mut polled = [(-1i32, 1u16, 0u16); MOST_WAITED];
    for (entry, &file) in polled.iter_mut().zip(files) {
        entry.0 = file as i32;
    }
    let milliseconds = milliseconds.clamp(0, 1 << 40);
    let time = [milliseconds / 1000, milliseconds % 1000 * 1_000_000];
    let count = files.len().min(MOST_WAITED);
    let found = sys!(PPOLL, &raw mut polled, count, &raw const time, 0, 8);
    let mut readable = [false; MOST_WAITED];
    for (readable, entry) in readable.iter_mut().zip(&polled).take(count) {
        *readable = found > 0 && entry.2 != 0;
    }
    readable
}

/// Ends everything, and the machine.
fn end(how: usize) -> ! {
    sys!(KILL, -1isize, SIGTERM);
    let patience = now() + 1000;
    while sys!(WAIT4, -1isize, 0, 1, 0) >= 0 && now() < patience {
        wait(&[], 20);
    }
    sys!(KILL, -1isize, SIGKILL);
    sys!(SYNC);
    // Read-only: nothing is written any more.
    sys!(MOUNT, 0, c"/".as_ptr(), 0, 0x21, 0);
    loop {
        sys!(REBOOT, 0xfee1_deadusize, 672_274_793usize, how, 0);
    }
}

/// The pointers of a command line or an environment, ended by none.
struct Words {
    pointers: [usize; MOST],
    count: usize,
}

impl Words {
    const fn new() -> Self {
        Self {
            pointers: [0; MOST],
            count: 0,
        }
    }

    /// Adds a text, which a NUL follows.
    fn add(&mut self, text: &[u8]) {
        if self.count + 1 < MOST {
            self.pointers[self.count] = text.as_ptr() as usize;
            self.count += 1;
        }
    }
}

/// What is run.
struct Service {
    command: Words,
    health: Words,
    env: Words,
    path: &'static [u8],
    workdir: &'static [u8],
    groups: [u32; 64],
    ports: [u16; 64],
    counts: [usize; 2],
    /// By letter.
    numbers: [u32; 128],
}

impl Service {
    fn read(&mut self, text: &'static [u8]) {
        for entry in config::entries(text) {
            match entry {
                Entry::Argument(word) => self.command.add(word),
                Entry::Health(word) => self.health.add(word),
                Entry::Variable(variable) => {
                    self.env.add(variable);
                    if let Some(path) = variable.strip_prefix(b"PATH=") {
                        self.path = path;
                    }
                }
                Entry::Workdir(path) => self.workdir = path,
                Entry::Number(b's', group) => {
                    if let Some(place) = self.groups.get_mut(self.counts[0]) {
                        *place = group;
                        self.counts[0] += 1;
                    }
                }
                Entry::Number(b'l', port) => {
                    if let Some(place) = self.ports.get_mut(self.counts[1]) {
                        *place = port as u16;
                        self.counts[1] += 1;
                    }
                }
                Entry::Number(letter, number) => self.numbers[usize::from(letter & 127)] = number,
            }
        }
    }

    fn number(&self, letter: u8) -> usize {
        self.numbers[usize::from(letter)] as usize
    }

    /// Starts a command as the image's processes run. `output` is where it writes to.
    fn start(&self, command: &Words, output: isize) -> isize {
        let child = sys!(CLONE, SIGCHLD, 0, 0, 0, 0);
        if child != 0 {
            return child;
        }
        sys!(SETSID);
        let nothing = sys!(OPENAT, -100isize, c"/dev/null".as_ptr(), 0, 0);
        for (from, to) in [(nothing, 0), (output, 1), (output, 2)] {
            sys!(DUP3, from, to, 0);
        }
        let no_signals = 0u64;
        sys!(SIGPROCMASK, 2, &raw const no_signals, 0, 8);
        sys!(CHDIR, self.workdir.as_ptr());
        sys!(SETGROUPS, self.counts[0], self.groups.as_ptr());
        sys!(SETGID, self.number(b'g'));
        if sys!(SETUID, self.number(b'u')) == 0 {
            self.become_(command);
        }
        say(&[b"cannot run the image's process"]);
        sys!(EXIT_GROUP, 127);
        loop {}
    }

    /// Runs a program in place of this process, as execvp(3) looks for it.
    fn become_(&self, command: &Words) {
        let program = command.pointers[0] as *const u8;
        let mut length = 0;
        // SAFETY: the text ends with a NUL.
        while unsafe { *program.add(length) } != 0 {
            length += 1;
        }
        // SAFETY: so long it is.
        let name = unsafe { core::slice::from_raw_parts(program, length) };
        let (words, env) = (command.pointers.as_ptr(), self.env.pointers.as_ptr());
        if name.contains(&b'/') {
            sys!(EXECVE, program, words, env);
            return;
        }
        for directory in self.path.split(|&byte| byte == b':') {
            let mut path = [0u8; 4096];
            if directory.len() + name.len() + 2 > path.len() {
                continue;
            }
            path[..directory.len()].copy_from_slice(directory);
            let mut at = directory.len();
            if at > 0 {
                path[at] = b'/';
                at += 1;
            }
            path[at..at + name.len()].copy_from_slice(name);
            sys!(EXECVE, path.as_ptr(), words, env);
        }
    }
}

/// What becomes of the process.
struct Keeper<'a> {
    service: &'a Service,
    /// Where the process writes to, and where that is read.
    pipe: [isize; 2],
    /// The process, when it runs.
    process: isize,
    /// When it is started, killed, checked, a check ends, ports are looked at.
    start_at: i64,
    kill_at: i64,
    check_at: i64,
    check_ends: i64,
    ports_at: i64,
    /// A check that runs.
    check: isize,
    /// Since when failures of checks count.
    counts_at: i64,
    failed_checks: u32,
    failed_starts: u32,
    is_ready: bool,
    /// What the machine is asked to do.
    ending: Option<usize>,
}

impl Keeper<'_> {
    fn ready(&mut self) {
        if !self.is_ready {
            say(&[b"ready"]);
        }
        self.is_ready = true;
        self.failed_checks = 0;
        self.failed_starts = 0;
    }

    fn has_check(&self) -> bool {
        self.service.health.count > 0
    }

    fn start(&mut self) {
        self.start_at = NEVER;
        self.process = self.service.start(&self.service.command, self.pipe[1]);
        if self.process < 0 {
            self.process = 0;
            self.start_at = now() + AGAIN;
            return;
        }
        if self.has_check() {
            self.is_ready = false;
            self.failed_checks = 0;
            let interval = self.service.number(b'i') as i64;
            self.counts_at = now() + self.service.number(b'p') as i64 + interval;
            self.check_at = now() + self.service.number(b'n') as i64;
        } else if self.service.counts[1] > 0 {
            self.ports_at = now();
        } else {
            // What fails at once does so within this time.
            self.ports_at = now() + AGAIN;
        }
    }

    /// Does what it is time for.
    fn act(&mut self) {
        let time = now();
        if time >= self.start_at {
            self.start();
        }
        if time >= self.kill_at {
            self.kill_at = NEVER;
            sys!(KILL, -1isize, SIGKILL);
        }
        if time >= self.check_ends && self.check > 0 {
            sys!(KILL, -self.check, SIGKILL);
            self.check_ends = NEVER;
        }
        if time >= self.check_at {
            self.check_at = NEVER;
            // To read and write, made anew, closed on execution.
            let output = sys!(OPENAT, -100isize, SAID.as_ptr(), 0o2001102, 0o600);
            self.check = self.service.start(&self.service.health, output);
            sys!(CLOSE, output);
            self.check_ends = time + self.service.number(b't') as i64;
        }
        if time >= self.ports_at {
            let ports = &self.service.ports[..self.service.counts[1]];
            if ports.is_empty() || ports.iter().any(|&port| network::listens(port)) {
                self.ports_at = NEVER;
                self.ready();
            } else {
                self.ports_at = time + PORTS;
            }
        }
    }

    /// Until when there is nothing to do.
    fn next(&self) -> i64 {
        let mut next = NEVER;
        let times = [
            self.start_at,
            self.kill_at,
            self.check_at,
            self.check_ends,
            self.ports_at,
        ];
        for time in times {
            next = next.min(time);
        }
        next
    }

    /// Passes on to the console what the process wrote.
    fn relay(&self) {
        let mut bytes = [0u8; 4096];
        while wait(&[self.pipe[0]], 0)[0] {
            let count = sys!(READ, self.pipe[0], &raw mut bytes, bytes.len());
            sys!(WRITE, 1, &raw const bytes, count.max(0));
        }
    }

    /// A process has ended.
    fn reaped(&mut self, process: isize, status: u32) {
        if process == self.check {
            self.checked(status);
        } else if process == self.process {
            self.relay();
            self.process = 0;
            self.check_at = NEVER;
            self.ports_at = NEVER;
            if let Some(how) = self.ending {
                end(how);
            }
            if status == 0 {
                say(&[b"the image's process has ended"]);
                end(POWER_OFF);
            }
            self.failed_starts += 1;
            match !self.is_ready && self.failed_starts >= FAILURES {
                true => say(&[b"unhealthy: the image's process fails again and again"]),
                false => say(&[b"the image's process failed; it is started again"]),
            }
            self.start_at = now() + AGAIN;
        }
    }

    fn checked(&mut self, status: u32) {
        self.check = 0;
        self.check_ends = NEVER;
        let time = now();
        let interval = self.service.number(b'i') as i64;
        if status == 0 {
            self.ready();
            self.check_at = time + interval;
            return;
        }
        self.check_at = time
            + if self.is_ready {
                interval
            } else {
                self.service.number(b'n') as i64
            };
        if !self.is_ready {
            if time < self.counts_at {
                return;
            }
            self.counts_at = time + interval;
        }
        self.failed_checks += 1;
        if self.failed_checks == self.service.number(b'r') as u32 {
            let said = setup::map(SAID).unwrap_or_default();
            say(&[b"unhealthy: the health check of the image fails: ", said]);
            self.is_ready = false;
        }
    }

    /// The machine is to end.
    fn stop(&mut self, how: usize) {
        if self.ending.is_some() {
            return;
        }
        if self.process == 0 {
            end(how);
        }
        say(&[b"stopping"]);
        self.ending = Some(how);
        self.check_at = NEVER;
        self.kill_at = now() + STOPPING;
        sys!(KILL, self.process, self.service.number(b'k'));
    }
}

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    setup::mounts();
    setup::console();
    // `LINUX_REBOOT_CMD_CAD_OFF`: Ctrl-Alt-Del becomes SIGINT.
    sys!(REBOOT, 0xfee1_deadusize, 672_274_793usize, 0, 0);
    let mut signals = 0u64;
    for signal in [SIGCHLD, SIGTERM, SIGINT, SIGPWR, SIGUSR1, SIGUSR2] {
        signals |= 1 << (signal - 1);
    }
    sys!(SIGPROCMASK, 2, &raw const signals, 0, 8);
    // Closed on execution, as the pipe is.
    let told = sys!(SIGNALFD4, -1isize, &raw const signals, 8, 0o2000000);
    let mut hostname = [0u8; 96];
    setup::hostname(&mut hostname);
    setup::modules();
    if !volumes::mount() {
        // Without its data, the process must not begin anew.
        end(POWER_OFF);
    }
    setup::network();

    let mut service = Service {
        command: Words::new(),
        health: Words::new(),
        env: Words::new(),
        path: b"/bin",
        workdir: b"/\0",
        groups: [0; 64],
        ports: [0; 64],
        counts: [0; 2],
        numbers: [0; 128],
    };
    if let Some(text) = setup::map(CONFIG) {
        service.read(text);
    }
    // Behind what the image says of it: the first one counts.
    service.env.add(&hostname);
    let mut pipe = [0i32; 2];
    sys!(PIPE2, &raw mut pipe, 0o2000000);
    let pipe = pipe.map(|end| end as isize);
    sys!(FCHOWN, pipe[1], service.number(b'u'), service.number(b'g'));
    let mut keeper = Keeper {
        service: &service,
        pipe,
        process: 0,
        start_at: 0,
        kill_at: NEVER,
        check_at: NEVER,
        check_ends: NEVER,
        ports_at: NEVER,
        check: 0,
        counts_at: 0,
        failed_checks: 0,
        failed_starts: 0,
        is_ready: false,
        ending: None,
    };
    if service.command.count == 0 {
        say(&[b"the image has no process to run"]);
        keeper.start_at = NEVER;
        keeper.ready();
    }
    let mut files = [-1isize; MOST_WAITED];
    files[0] = told;
    files[1] = pipe[0];
    setup::buttons(&mut files[2..]);
    loop {
        keeper.act();
        let left = keeper.next().saturating_sub(now());
        let readable = wait(&files, left);
        if readable[1] {
            keeper.relay();
        }
        if readable[0] {
            // `struct signalfd_siginfo`, of which the first four bytes are the number.
            let mut bytes = [0u8; 128];
            sys!(READ, told, &raw mut bytes, 128);
            match usize::from(bytes[0]) {
                SIGCHLD => {}
                SIGTERM | SIGINT => keeper.stop(RESTART),
                _ => keeper.stop(POWER_OFF),
            }
        }
        for (index, &file) in files.iter().enumerate().skip(2) {
            if readable[index] && setup::pressed(file) {
                keeper.stop(POWER_OFF);
            }
        }
        loop {
            let mut status = 0u32;
            let ended = sys!(WAIT4, -1isize, &raw mut status, 1, 0);
            if ended <= 0 {
                break;
            }
            keeper.reaped(ended, status);
        }
    }
}
