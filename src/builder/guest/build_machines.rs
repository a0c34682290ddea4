//! The machines of a build.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::build_machine::{BuildMachine, Report};
use super::spec::BuildMachineSpec;
use crate::failure::Failure;
use crate::host::Home;
use crate::sandbox::Sandbox;
use crate::store::Store;

/// Machines that wait for a step at most: each has its memory.
const WAITING: usize = 2;
/// Commits of one machine at most: each read of the guest goes through all overlays.
const COMMITS: u32 = 24;

/// The machines of a build: those that have done a step and wait for one that goes on with their
/// disk. All of them end when it is dropped.
pub struct BuildMachines {
    shared: Arc<Shared>,
    waiting: Mutex<Vec<BuildMachine>>,
}

/// What all build machines need.
pub(super) struct Shared {
    pub(super) home: Home,
    pub(super) store: Store,
    pub(super) sandbox: Sandbox,
    /// This program.
    pub(super) vmfab: PathBuf,
}

impl BuildMachines {
    /// Machines with disks of `store` and scratch directories below `home`.
    #[must_use]
    pub fn new(home: &Home, store: &Store) -> Self {
        Self::of_program(home, store, "/proc/self/exe".into())
    }

    /// As [`new`](Self::new), in a process that is another program than the vmfab at `vmfab`.
    #[must_use]
    pub fn of_program(home: &Home, store: &Store, vmfab: PathBuf) -> Self {
        Self {
            shared: Arc::new(Shared {
                home: home.clone(),
                store: store.clone(),
                sandbox: Sandbox::new(home, store.clone()),
                vmfab,
            }),
            waiting: Mutex::default(),
        }
    }

    /// A machine with this disk: one that waits and has come to exactly that, or else one that is
    /// booted. Nobody else has it until it is [put back](Self::put_back).
    ///
    /// # Errors
    /// A machine cannot be booted and entered, or the user gives up.
    pub fn take(
        &self,
        spec: BuildMachineSpec,
        report: &Report<'_>,
    ) -> Result<BuildMachine, Failure> {
        match self.waiting(&spec) {
            Some(booted) => Ok(booted),
            None => BuildMachine::start(self.shared.clone(), spec, report),
        }
    }

    /// A machine that waits and has come to this disk.
    pub fn waiting(&self, spec: &BuildMachineSpec) -> Option<BuildMachine> {
        let mut waiting = self.lock();
        let wanted = |booted: &BuildMachine| {
            booted.disk == spec.disk && booted.spec.serves(spec) && booted.is_alive()
        };
        let number = waiting.iter().position(wanted)?;
        Some(waiting.remove(number))
    }

    /// Keeps a machine for the next step, when its disk is that of its last commit.
    pub fn put_back(&self, booted: BuildMachine) {
        if booted.touched || booted.overlay >= COMMITS || !booted.is_alive() {
            return;
        }
        let mut waiting = self.lock();
        waiting.push(booted);
        if waiting.len() > WAITING {
            let oldest = waiting.remove(0);
            drop(waiting);
            drop(oldest);
        }
    }

    /// Ends all machines that wait.
    pub fn end(&self) {
        let waiting = std::mem::take(&mut *self.lock());
        drop(waiting);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<BuildMachine>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BuildMachine {
    fn is_alive(&self) -> bool {
        matches!(self.machine.has_qemu(), Ok(true))
    }
}
