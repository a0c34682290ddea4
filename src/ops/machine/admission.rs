//! Whether this host has room for one more machine: what it has, against what it has promised.
//!
//! Machines that run are asked what they were promised. One that was admitted and whose QEMU does
//! not run yet has a file that it keeps locked, so that machines that start in the same instant
//! count each other.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use super::super::Context;
use super::all_places;
use crate::event::Event;
use crate::failure::{Failure, Kind};
use crate::host::file::Lock;
use crate::host::{free_space, usable_cpus, usable_memory};
use crate::machine::{Machine, Promise};

/// Virtual processors that machines may have for each processor. They seldom compute at once; it is
/// what OpenStack allows (`cpu_allocation_ratio`).
const CPU_RATIO: u32 = 16;
/// Free space that a start leaves alone: less than a guest writes while it boots. What disks were
/// promised beyond it is no reason: they grow as they are written.
const LEAST_SPACE: u64 = 256 << 20;

/// What this host has for machines, and what of it is promised and used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct HostRoom {
    /// Machines that run or are being started.
    pub machines: usize,
    /// Bytes of memory, without swap, as far as a cgroup leaves them.
    pub memory: u64,
    pub memory_promised: u64,
    pub cpus: u32,
    pub cpus_promised: u32,
    /// Bytes that can still be written where the home is.
    pub disk_free: u64,
}

/// A machine that was admitted, for those that come after it.
#[derive(Debug, Serialize, Deserialize)]
struct Admitted {
    directory: PathBuf,
    promise: Promise,
}

/// Holds what a machine was promised until its QEMU does.
#[derive(Debug, Default)]
pub(super) struct Admission(Option<Lock>);

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(lock) = self.0.take() {
            lock.remove();
        }
    }
}

/// What this host has, and what machines have of it.
///
/// # Errors
/// A directory of machines cannot be read.
pub(super) fn room(context: &Context) -> Result<HostRoom, Failure> {
    let mut machines = Vec::new();
    for place in all_places(context)? {
        machines.extend(place.list()?);
    }
    let mut room = HostRoom {
        memory: usable_memory().unwrap_or(u64::MAX),
        cpus: usable_cpus(),
        disk_free: free_space(context.home.root()).unwrap_or(u64::MAX),
        ..HostRoom::default()
    };
    let mut running = Vec::new();
    for (machine, promise) in machines.iter().zip(Promise::running(&machines)) {
        if let Some(promise) = promise {
            room.add(promise);
            running.push(machine.directory());
        }
    }
    for admitted in waiting(&context.home.promises()) {
        if !running.contains(&admitted.directory.as_path()) {
            room.add(admitted.promise);
        }
    }
    Ok(room)
}

/// What this host has left for machines that are to be started, one after the other.
pub struct Forecast {
    room: HostRoom,
    overcommit: bool,
}

impl Forecast {
    /// What there is room for now.
    ///
    /// # Errors
    /// The machines of the home cannot be listed.
    pub fn new(context: &Context) -> Result<Self, Failure> {
        Ok(Self {
            room: room(context)?,
            overcommit: context.overcommit,
        })
    }

    /// Counts a running machine as ended.
    pub fn without(&mut self, machine: &Machine) {
        let has = Promise::running(std::slice::from_ref(machine));
        if let Some(has) = has.into_iter().flatten().next() {
            self.room.remove(has);
        }
    }

    /// Promises a machine what it will have.
    ///
    /// # Errors
    /// The host has no room, and `overcommit` is off.
    pub fn admit(&mut self, name: &str, promise: Promise) -> Result<(), Failure> {
        match self.room.refuses(name, promise) {
            Some(refusal) if !self.overcommit => Err(refusal),
            _ => {
                self.room.add(promise);
                Ok(())
            }
        }
    }
}

/// Those that were admitted and may not run yet. Files of processes that ended are removed.
fn waiting(directory: &Path) -> Vec<Admitted> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
    files
        .filter_map(|path| match Lock::try_take(&path) {
            Ok(Some(abandoned)) => {
                abandoned.remove();
                None
            }
            _ => serde_json::from_slice(&fs::read(&path).ok()?).ok(),
        })
        .collect()
}

/// Admits a machine that is about to be started, or says why this host has no room for it. With
/// `overcommit` of the context it only warns. A machine that restarts may have again
/// what it `had`.
///
/// # Errors
/// The host has no room.
pub(super) fn admit(
    context: &Context,
    machine: &Machine,
    had: Option<Promise>,
) -> Result<Admission, Failure> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let promise = Promise::of(&machine.config()?);
    let directory = context.home.promises();
    // A home that cannot be written to says so where it matters.
    let told = |action: &'static str| Failure::io(action, &directory);
    fs::create_dir_all(&directory).map_err(told("create"))?;
    let turn = Lock::wait(&directory.join("lock"), &context.interrupt, || {});
    let turn = turn.map_err(told("lock"))?;
    let _turn = turn.ok_or_else(Failure::interrupted)?;
    let room = room(context)?;
    if let Some(refusal) = room.refuses(machine.name().as_str(), promise)
        && had.is_none_or(|had| !had.covers(promise))
    {
        let why = match (context.overcommit, had) {
            (true, _) => "because of --overcommit",
            // Otherwise a restart would stop it for good.
            (false, Some(_)) => "because it ran before",
            (false, None) => return Err(refusal),
        };
        let message = format!("{refusal}; starting it {why}");
        context.emit(Event::Warning { message });
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = directory.join(format!("{}-{number}.json", std::process::id()));
    let Ok(Some(lock)) = Lock::try_take(&path) else {
        return Ok(Admission::default());
    };
    let admitted = Admitted {
        directory: machine.directory().to_owned(),
        promise,
    };
    // Without it, a machine that starts in the same instant counts one too few.
    let _ = fs::write(&path, serde_json::to_vec(&admitted).unwrap_or_default());
    Ok(Admission(Some(lock)))
}

impl HostRoom {
    fn add(&mut self, promise: Promise) {
        self.machines += 1;
        self.memory_promised += promise.memory;
        self.cpus_promised += promise.cpus;
    }

    fn remove(&mut self, promise: Promise) {
        self.machines = self.machines.saturating_sub(1);
        self.memory_promised = self.memory_promised.saturating_sub(promise.memory);
        self.cpus_promised = self.cpus_promised.saturating_sub(promise.cpus);
    }

    /// Why one more machine has no room.
    fn refuses(&self, name: &str, asked: Promise) -> Option<Failure> {
        let mib = |bytes: u64| bytes >> 20;
        let running = match self.machines {
            0 => "nothing is promised to other machines".to_owned(),
            1 => "1 running machine".to_owned(),
            number => format!("{number} running machines"),
        };
        let promised = |what: String| match self.machines {
            0 => running.clone(),
            _ => format!("{what} promised to {running}"),
        };
        let most = self.cpus.saturating_mul(CPU_RATIO);
        let message = if self.memory_promised + asked.memory > self.memory {
            let promised = promised(format!("{} MiB are", mib(self.memory_promised)));
            format!(
                "no room for {} MiB of memory: this host has {} MiB, and {promised}",
                mib(asked.memory),
                mib(self.memory)
            )
        } else if self.cpus_promised + asked.cpus > most {
            let promised = promised(format!("{} are", self.cpus_promised));
            format!(
                "no room for {} more virtual processors: {} processors of this host carry {most} at most \
                 ({CPU_RATIO} each), and {promised}",
                asked.cpus, self.cpus
            )
        } else if self.disk_free < LEAST_SPACE {
            format!(
                "no room to write: {} MiB are free where the home is, and a start needs {} MiB",
                mib(self.disk_free),
                mib(LEAST_SPACE)
            )
        } else {
            return None;
        };
        let help = match self.disk_free < LEAST_SPACE {
            true => "free space with \"vmfab store gc\", or insist with --overcommit",
            false => {
                "\"vmfab top\" shows what machines have: stop one, give this one less, or insist with \
                 --overcommit"
            }
        };
        let message = format!("machine \"{name}\": {message}");
        Some(Failure::new(Kind::Missing, message).with_help(help))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn laptop() -> HostRoom {
        HostRoom {
            memory: 8 * GIB,
            cpus: 2,
            disk_free: 50 * GIB,
            ..HostRoom::default()
        }
    }

    fn promise(memory: u64, cpus: u32) -> Promise {
        Promise { memory, cpus }
    }

    #[test]
    fn a_laptop_takes_a_few_machines() {
        let mut room = laptop();
        for _ in 0..8 {
            assert!(room.refuses("web", promise(GIB, 2)).is_none());
            room.add(promise(GIB, 2));
        }
        let refused = room.refuses("web", promise(GIB, 2)).unwrap();
        assert_eq!(
            refused.message(),
            "machine \"web\": no room for 1024 MiB of memory: this host has 8192 MiB, and 8192 MiB \
             are promised to 8 running machines"
        );
    }

    #[test]
    fn every_refusal_has_its_figures() {
        let mut room = laptop();
        let message =
            |room: &HostRoom, asked| room.refuses("a", asked).unwrap().message().to_owned();
        assert_eq!(
            message(&room, promise(9 * GIB, 1)),
            "machine \"a\": no room for 9216 MiB of memory: this host has 8192 MiB, and nothing is \
             promised to other machines"
        );
        assert_eq!(
            message(&room, promise(GIB, 33)),
            "machine \"a\": no room for 33 more virtual processors: 2 processors of this host carry 32 at \
             most (16 each), and nothing is promised to other machines"
        );
        room.add(promise(GIB, 32));
        assert_eq!(
            message(&room, promise(GIB, 1)),
            "machine \"a\": no room for 1 more virtual processors: 2 processors of this host carry 32 at \
             most (16 each), and 32 are promised to 1 running machine"
        );
        room = laptop();
        room.disk_free = 100 << 20;
        assert_eq!(
            message(&room, promise(GIB, 1)),
            "machine \"a\": no room to write: 100 MiB are free where the home is, and a start needs \
             256 MiB"
        );
        room.disk_free = LEAST_SPACE;
        assert!(room.refuses("a", promise(8 * GIB, 32)).is_none());
    }
}
