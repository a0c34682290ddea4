//! The machines of a build.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::session::{Report, Session};
use super::spec::SessionSpec;
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
pub struct Sessions {
    shared: Arc<Shared>,
    waiting: Mutex<Vec<Session>>,
}

/// What all sessions need.
pub(super) struct Shared {
    pub(super) home: Home,
    pub(super) store: Store,
    pub(super) sandbox: Sandbox,
    /// This program.
    pub(super) vmfab: PathBuf,
}

impl Sessions {
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
    pub fn take(&self, spec: SessionSpec, report: &Report<'_>) -> Result<Session, Failure> {
        match self.waiting(&spec) {
            Some(session) => Ok(session),
            None => Session::start(self.shared.clone(), spec, report),
        }
    }

    /// A machine that waits and has come to this disk.
    pub fn waiting(&self, spec: &SessionSpec) -> Option<Session> {
        let mut waiting = self.lock();
        let wanted = |session: &Session| {
            session.disk == spec.disk && session.spec.serves(spec) && session.is_alive()
        };
        let number = waiting.iter().position(wanted)?;
        Some(waiting.remove(number))
    }

    /// Keeps a machine for the next step, when its disk is that of its last commit.
    pub fn put_back(&self, session: Session) {
        if session.touched || session.overlay >= COMMITS || !session.is_alive() {
            return;
        }
        let mut waiting = self.lock();
        waiting.push(session);
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn is_alive(&self) -> bool {
        matches!(self.machine.has_qemu(), Ok(true))
    }
}
