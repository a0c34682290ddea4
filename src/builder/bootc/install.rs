//! The machine that installs.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::DISK;
use super::layout::{Contents, KEYS, SOURCE};
use crate::builder::guest::{Report, end, failed, open_log, step_machine};
use crate::derivation::step::{self, Step};
use crate::derivation::{BuildRequest, Builder, Outputs};
use crate::digest::ObjectRef;
use crate::failure::Failure;
use crate::host::Home;
use crate::host::process::pause;
use crate::image::{
    Access, BootProfile, Firmware, FurtherDisk, Hardware, Network, Platform, Seed, Uplink,
};
use crate::instruction::BootcInstall;
use crate::machine::{Machine, Machines, Startup, Until, text_of};
use crate::sandbox::Sandbox;
use crate::store::Store;

/// Memory of the machine in MiB: `bootc` unpacks layers as streams.
const MEMORY_MIB: u32 = 2048;
/// What the kernel is told. Units of the image that wait for a network, or for somebody at a first
/// boot, are kept away: sysinit.target alone is started.
const COMMAND_LINE: &str = "rw quiet loglevel=3 enforcing=0 systemd.unit=vmfab-install.target \
    systemd.show_status=no systemd.firstboot=no systemd.machine_id=766d666162696e7374616c6c65720000 \
    systemd.mask=systemd-resolved.service systemd.mask=systemd-networkd.service";
/// How long it may take until the kernel writes its first line.
const BOOT: Duration = Duration::from_secs(300);
/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(2 * 60 * 60);
/// What the script says at its end, before the exit code of `bootc`.
const RESULT: &str = "vmfab-install: ";
/// What it says before the journal.
const JOURNAL: &str = "--- journal";
/// Bytes after which a line without an end is one.
const LINE: usize = 64 << 10;
/// Lines of output that an error shows.
const TAIL: usize = 20;

/// Builds installed disks.
pub(in crate::builder) struct Install {
    pub(in crate::builder) home: Home,
    pub(in crate::builder) sandbox: Sandbox,
    pub(in crate::builder) store: Store,
}

impl Builder for Install {
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, Failure> {
        let Step::BootcInstall(params) = crate::builder::step(request)? else {
            return Err(crate::builder::wrong_kind(request));
        };
        let layers: Vec<ObjectRef> = request.inputs_of("layer").collect();
        let scratch = self.sandbox.scratch()?;
        let arguments = params.install.arguments(SOURCE, KEYS);
        let layout = Contents {
            architecture: std::env::consts::ARCH,
            container: &params.container,
            layers: &layers,
            arguments: &arguments,
            root_keys: &params.install.root_keys,
        };
        let layout = layout.write(&self.store, &self.sandbox, &scratch, request)?;
        let target = scratch.file(DISK)?;
        target
            .as_file()
            .set_len(target_size(&params, &layers))
            .map_err(Failure::step_io("size", target.path()))?;

        let machines = scratch.path().join("machines");
        let machines = Machines::attached(machines, &self.home, "/proc/self/exe".into());
        let disk = |path: &Path, writable| FurtherDisk::File {
            path: path.to_owned(),
            writable,
        };
        let disks = vec![disk(target.path(), true), disk(layout.path(), false)];
        self.installed(&machines, disks, request)?;
        let disk = self.store.adopt_disk(target).map_err(Failure::of_step)?;
        Ok(Outputs::from([(DISK.to_owned(), disk)]))
    }
}

/// Size of the disk in bytes: as podman-bootc has it when nobody says.
fn target_size(params: &step::BootcInstall, layers: &[ObjectRef]) -> u64 {
    let image: u64 = layers.iter().map(|layer| layer.size).sum();
    let usual = (2 * image)
        .max(BootcInstall::LEAST_DISK)
        .next_multiple_of(1 << 20);
    params.size.unwrap_or(usual)
}

/// How the machine boots.
fn access() -> Access {
    let word = |text: &str| text.parse().expect("a valid word");
    let serial = match std::env::consts::ARCH {
        "aarch64" => "ttyAMA0",
        _ => "ttyS0",
    };
    let line = format!(
        "root=LABEL={} console={serial} {COMMAND_LINE}",
        step::BootcInstaller::LABEL
    );
    Access {
        architecture: word(std::env::consts::ARCH),
        boot: BootProfile {
            command_line: line.parse().expect("a valid command line"),
            firmware: Firmware::Direct,
            uefi: false,
            bios: false,
            seed: Seed::None,
            platform: Platform::default(),
            ignition: None,
        },
        ssh_user: "root".parse().expect("a valid name"),
        users: BTreeMap::new(),
    }
}

impl Install {
    /// Boots a machine with these disks, and waits until it has installed.
    fn installed(
        &self,
        machines: &Machines,
        disks: Vec<FurtherDisk>,
        request: &BuildRequest<'_>,
    ) -> Result<(), Failure> {
        let mut spec = step_machine(access(), request)?;
        spec.memory_mib = MEMORY_MIB;
        let image = spec.image();
        let mut new = spec.machine(&image);
        new.hardware = Hardware {
            disks,
            network: Some(Network {
                uplink: Uplink::None,
                group: false,
            }),
            ..new.hardware
        };
        let locked = machines.create(&new, &self.store).map_err(failed)?;
        let running = Running(locked.machine().clone());
        let startup = Startup {
            image: &image,
            store: &self.store,
            sink: &crate::event::Silent,
            interrupt: request.interrupt,
            until: Until::Console,
            timeout: BOOT,
        };
        (request.output)("booting the image to install it");
        startup.run(locked).map_err(failed)?;
        let mut console = Console::new(&running.0, request)?;
        let started = Instant::now();
        while running.0.has_qemu().map_err(failed)? {
            console.read()?;
            running.0.check_goes_on().map_err(failed)?;
            if !pause(request.interrupt) {
                return Err(Failure::interrupted());
            }
            if started.elapsed() > LIMIT {
                let how = format!("did not end within {} s", LIMIT.as_secs());
                return Err(Failure::command("bootc install", how, console.last()));
            }
        }
        console.read()?;
        console.verdict()
    }
}

/// A machine that ends with this value.
struct Running(Machine);

impl Drop for Running {
    fn drop(&mut self) {
        end(&self.0);
    }
}

/// What the guest writes, line by line.
struct Console<'a, 'b> {
    request: &'a BuildRequest<'b>,
    machine: &'a Machine,
    file: File,
    log: File,
    read: u64,
    /// The beginning of a line whose end was not read yet.
    begun: Vec<u8>,
    /// The end of what `bootc` wrote.
    last: VecDeque<String>,
    /// Whether it has ended: what follows is the journal, which is for the log.
    ended: bool,
    /// The exit code of `bootc`.
    code: Option<i32>,
}

impl<'a, 'b> Console<'a, 'b> {
    fn new(machine: &'a Machine, request: &'a BuildRequest<'b>) -> Result<Self, Failure> {
        let path = machine.console_log();
        Ok(Self {
            request,
            machine,
            file: File::open(&path).map_err(Failure::step_io("open", &path))?,
            log: open_log(&Report::from(request))?,
            read: 0,
            begun: Vec::new(),
            last: VecDeque::new(),
            ended: false,
            code: None,
        })
    }

    /// Takes what is new.
    fn read(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 8192];
        loop {
            let count = self.file.read_at(&mut buffer, self.read);
            let count = count.map_err(Failure::step_io("read", &self.machine.console_log()))?;
            if count == 0 {
                return Ok(());
            }
            self.read += count as u64;
            if self.read > self.request.log_limit {
                let how = format!("wrote more than {} bytes", self.request.log_limit);
                return Err(Failure::command("bootc install to-disk", how, self.last()));
            }
            self.begun.extend_from_slice(&buffer[..count]);
            while let Some(end) = self.begun.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.begun.drain(..=end).collect();
                self.line(text_of(&line).trim())?;
            }
            if self.begun.len() > LINE {
                let line = std::mem::take(&mut self.begun);
                self.line(text_of(&line).trim())?;
            }
        }
    }

    fn line(&mut self, line: &str) -> Result<(), Failure> {
        if line.is_empty() {
            return Ok(());
        }
        if let Some(code) = line.strip_prefix(RESULT) {
            self.code = code.parse().ok();
            return Ok(());
        }
        writeln!(self.log, "{line}").map_err(Failure::step_io("write", self.request.log))?;
        self.ended |= line == JOURNAL;
        if !self.ended {
            (self.request.output)(line);
            self.last.push_back(line.to_owned());
            if self.last.len() > TAIL {
                self.last.pop_front();
            }
        }
        Ok(())
    }

    fn last(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }

    fn verdict(&self) -> Result<(), Failure> {
        match self.code {
            Some(0) => Ok(()),
            Some(code) => {
                let how = format!("failed with exit code {code}");
                let failure = Failure::command("bootc install to-disk", how, self.last());
                Err(failure.with_help(
                    "the log of the step has its whole output and the journal of the machine",
                ))
            }
            None => {
                let how = "the machine ended before bootc did".to_owned();
                Err(Failure::command("bootc install to-disk", how, self.last()))
            }
        }
    }
}
