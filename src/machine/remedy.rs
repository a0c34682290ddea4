//! What a user can do about each error of a machine.

use super::error::{MachineError, NotReady};
use crate::failure::Failure;
use crate::image::Firmware;
use crate::qemu::FirmwareMissing;

impl From<MachineError> for Failure {
    fn from(error: MachineError) -> Self {
        let message = error.to_string();
        let failed = |help: String| Self::failed(message.clone()).with_help(help);
        match error {
            MachineError::Unknown(name) => Self::unknown("machine", name).with_help("vmfab list shows the machines"),
            MachineError::Name(_) => Self::usage(message),
            MachineError::NoSnapshot(name) => Self::unknown("snapshot", name)
                .with_help("vmfab snapshot list shows the snapshots"),
            MachineError::SnapshotExists(name) => failed(format!(
                "choose another name, or remove it with vmfab snapshot delete {name}"
            )),
            MachineError::DamagedSnapshot { .. } => failed(
                "restore the file from a backup of the home, or remove it; vmfab removes no layers \
                 as long as it is there"
                    .to_owned(),
            ),
            MachineError::Exists(name) => failed(format!(
                "choose another --name, enter it with vmfab ssh {name}, or remove it with \
                 vmfab rm --force {name}"
            )),
            MachineError::Taken(name) => failed(format!(
                "choose another name, or remove that machine with vmfab rm {name}"
            )),
            MachineError::Damaged { name, .. } => failed(format!(
                "remove the rest of it with vmfab rm --force {name}"
            )),
            MachineError::Running(name) => failed(format!(
                "vmfab stop {name} stops it; vmfab rm --force {name} removes it as it is"
            )),
            MachineError::InUse(name) => failed(format!(
                "close the session first; vmfab stop {name} and vmfab rm --force {name} do not ask"
            )),
            MachineError::NoSsh(name) => failed(format!(
                "vmfab runs its process itself: vmfab logs {name} shows what that writes"
            )),
            MachineError::Stopped(name) => failed(format!("vmfab start {name} starts it")),
            MachineError::Suspended(name) => failed(format!(
                "vmfab resume {name} continues it; vmfab start --cold {name} boots it without what it had in memory"
            )),
            MachineError::DamagedSnapshotMemory(name) => failed(format!(
                "vmfab snapshot restore --cold {name} restores its disks"
            )),
            MachineError::DamagedMemory(name) => failed(format!(
                "vmfab start --cold {name} boots it without what it had in memory"
            )),
            MachineError::MemoryRefused { name, tail } => failed(format!(
                "another QEMU or processor saved it; vmfab start --cold {name} boots it without \
                 what it had in memory"
            ))
            .with_output(tail),
            MachineError::CannotSuspend { name, .. } => failed(format!(
                "vmfab pause {name} halts it and keeps its memory; vmfab stop {name} shuts it down; \
                 a snapshot without --memory saves its disks"
            )),
            MachineError::DiskFull { name, path } => failed(format!(
                "free some space where {} is (`vmfab store gc` removes what no image needs); then resume it with vmfab resume {name}",
                path.display()
            )),
            MachineError::Halted { name, .. } => {
                failed(format!("resume it with vmfab resume {name}"))
            }
            MachineError::CannotGoOn { name, .. } | MachineError::CannotPause { name, .. } => failed(format!(
                "vmfab stop --force {name} ends it, and vmfab start {name} starts it again"
            )),
            MachineError::MissingProgram(missing) => missing.into(),
            MachineError::MissingFirmware(_) => Self::missing(message).with_help(format!(
                    "install what is missing: sudo apt-get install {}",
                    FirmwareMissing::PACKAGE
                )),
            MachineError::AccelFailed { .. } => {
                failed("leave out --accel, or use --accel tcg, which is slower".to_owned())
            }
            MachineError::CannotBoot { ways, .. } => failed(match ways.first() {
                Some(way) => format!(
                    "boot it with --firmware {}, or add one to its recipe",
                    match way {
                        Firmware::Direct => "direct",
                        Firmware::Uefi => "uefi",
                        Firmware::Bios => "bios",
                    }
                ),
                None => "add one to its recipe".to_owned(),
            }),
            MachineError::Seed { .. } => failed(
                "leave it out, or give the recipe of the image another seed, such as boot \
                 seed=\"nocloud\""
                    .to_owned(),
            ),
            MachineError::Architecture { .. } => failed("build the image on this host".to_owned()),
            MachineError::Memory { .. } => {
                failed("give it less memory: --memory, or memory=\"…\" in vmfab.kdl".to_owned())
            }
            MachineError::PortOf { ref holder, .. } => failed(format!(
                "forward another one with -p HOST:GUEST or in vmfab.kdl, or stop that machine: \
                 vmfab stop {holder}"
            )),
            MachineError::Port { port, ref source, .. } => failed(match source.kind() {
                std::io::ErrorKind::AddrInUse => format!(
                    "another program or machine listens there: forward another one with -p \
                     HOST:GUEST or in vmfab.kdl, or see who it is with ss -ltnp 'sport = {port}'"
                ),
                std::io::ErrorKind::AddrNotAvailable => {
                    "that is no address of this host: ip address shows them".to_owned()
                }
                _ => "forward another one with -p HOST:GUEST".to_owned(),
            }),
            MachineError::Shrink { .. } => failed(
                "a smaller disk would lose what is at its end: create another one, and copy the data"
                    .to_owned(),
            ),
            MachineError::ShareGone(_) => failed(
                "create it again, or share another one: vmfab rm removes the machine".to_owned(),
            ),
            MachineError::Share { tail, .. } => Self::failed(message)
                .with_help("it needs user namespaces; without virtiofsd, vmfab shares by 9p")
                .with_output(tail),
            MachineError::Qemu { tail, .. } | MachineError::Command { tail, .. } => {
                Self::failed(message).with_output(tail)
            }
            MachineError::NotReady {
                name,
                why,
                console,
                ssh,
                running,
            } => {
                let message = match (ssh, why) {
                    (Some(said), NotReady::TimedOut(_)) => {
                        format!("{message}; ssh said: {}", said.trim())
                    }
                    (Some(said), NotReady::Lacks | NotReady::Unhealthy | NotReady::ProcessFailed) => format!("{message}: {}", said.trim()),
                    _ => message,
                };
                Self::failed(message).with_help(if why == NotReady::HostKeyChanged {
                        format!(
                            "the guest has made new keys (`ssh-keygen -A`, openssh-server installed again, a \
                             disk of another machine), or something else answers in its place; if you know \
                             which, accept the new key: vmfab ssh --accept-new-host-key {name}"
                        )
                    } else if why == NotReady::Lacks {
                        format!(
                            "vmfab logs {name} shows why; images of vmfab mount volumes and set passwords \
                             if this version built them, and disks made elsewhere if cloud-init reads a \
                             NoCloud seed"
                        )
                    } else if why == NotReady::OwnInit {
                        format!(
                            "remove it with vmfab rm --force {name}; an image with systemd, OpenRC or \
                             cloud-init takes both"
                        )
                    } else if running {
                        format!(
                            "it still runs: look at it with vmfab console {name}, stop it with \
                             vmfab stop {name}, remove it with vmfab rm --force {name}"
                        )
                    } else {
                        format!(
                            "vmfab logs {name} shows the whole console, vmfab start {name} tries \
                             again, vmfab rm {name} removes it"
                        )
                    }).with_output(console)
            }
            MachineError::Interrupted {
                running: Some(name),
            } => Self::interrupted_with(format!("machine \"{name}\" keeps running: vmfab stop {name} stops it")),
            MachineError::Interrupted { running: None } => Self::interrupted(),
            MachineError::Stuck(name) => failed(format!(
                "vmfab stop --force {name} kills it; what it had not written is lost"
            )),
            MachineError::ConsoleBusy(name) => failed(format!(
                "close the other one (Ctrl-]), or read along with vmfab logs --follow {name}"
            )),
            MachineError::Store(error) => error.into(),
            MachineError::Io {
                action,
                path,
                source,
            } => Self::of_io(action, &path, &source),
            MachineError::NotUtf8(_) => {
                failed("set VMFAB_HOME to a directory with a UTF-8 path".to_owned())
            }
            MachineError::ProjectDirectory { .. } => failed(
                "a project's machines are in .vmfab below its directory: make that writable for your \
                 user, or copy the project to a directory that is"
                    .to_owned(),
            ),
            MachineError::Registration { .. } => failed(
                "it says what a project's machines need from the store: remove it, and then run vmfab \
                 up in the project, before garbage is collected, to have it rewritten"
                    .to_owned(),
            ),
            MachineError::UnknownVolume(name) => Self::unknown("volume", name)
                .with_help("vmfab volume list shows the volumes"),
            MachineError::VolumeExists(name) => failed(format!(
                "choose another name, or use it: vmfab boot IMAGE --volume {name}:/PATH"
            )),
            MachineError::VolumeInUse { holder, .. } => failed(format!(
                "one machine at a time has a volume: stop that one first, with vmfab stop {holder}"
            )),
            MachineError::OtherVolume { volume, snapshot } => failed(format!(
                "vmfab snapshot restore --keep-volumes {snapshot} leaves volumes as they are; to restore \
                 the volume of the snapshot, remove this one first: vmfab volume rm --force {volume}"
            )),
            MachineError::HalfRestored { name, snapshot } => failed(match snapshot {
                Some(snapshot) => format!(
                    "complete it: vmfab snapshot restore {snapshot} --machine {name}"
                ),
                None => format!("restore a snapshot: vmfab snapshot restore NAME --machine {name}"),
            }),
            MachineError::DamagedVolume { path, .. } => failed(format!(
                "its data is in the qcow2 files beside it: restore {} from a backup",
                path.display()
            )),
            MachineError::OtherDisks { name, .. } => failed(format!(
                "vmfab restart {name} starts it again, as this vmfab does"
            )),
            MachineError::Below(failure) => failure,
            MachineError::Qmp(_) => Self::failed(message),
        }
    }
}
