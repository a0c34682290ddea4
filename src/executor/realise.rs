//! Building one step: under its lock, with its log, and recorded.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use super::known::{Known, Origin};
use super::pass::Pass;
use super::{differences, lock};
use crate::derivation::{BuildRequest, Derivation, NodeId, Outputs};
use crate::digest::ActionKey;
use crate::event::Event;
use crate::failure::Failure;
use crate::host::process::pause;
use crate::store::{ActionLock, ActionResult, Lock};

impl Pass<'_> {
    /// `started` is set to when it began to run: it may have waited.
    pub(super) fn realise(
        &self,
        node: NodeId,
        key: ActionKey,
        log: &Path,
        started: &mut Instant,
    ) -> Result<Known, Failure> {
        let check = self.executor.options.check;
        let known = |outputs, origin| Known {
            key,
            outputs,
            origin,
        };
        let derivation = self.graph.get(node);
        let _lock = self.lock_key(node, &key, derivation)?;
        let stored = self.stored(node, &key);
        if let Some(result) = &stored
            && !check
        {
            // Another process built it while this one waited.
            return Ok(known(result.outputs.clone(), Origin::Store));
        }
        let _slot = self.slot(node, derivation)?;
        *started = Instant::now();
        let outputs = self.build(node, key, log)?;
        match stored {
            Some(first) => {
                let differences = differences(&derivation.name, &first.outputs, &outputs);
                self.report.differ(differences);
                // What was in the store stays: what follows is compared on equal inputs.
                Ok(known(first.outputs, Origin::Built))
            }
            None => {
                let result = ActionResult {
                    outputs: outputs.clone(),
                };
                self.executor
                    .store
                    .put_action(&key, result)
                    .map_err(Failure::of_step)?;
                if check {
                    let second = self.build(node, key, log)?;
                    self.report
                        .differ(differences(&derivation.name, &outputs, &second));
                }
                Ok(known(outputs, Origin::Built))
            }
        }
    }

    fn build(&self, node: NodeId, key: ActionKey, log: &Path) -> Result<Outputs, Failure> {
        let executor = self.executor;
        let derivation = self.graph.get(node);
        let builder = executor
            .builders
            .builder(&derivation.builder)
            .ok_or_else(|| {
                Failure::of_step(io::Error::other(format!(
                    "no builder \"{}\"",
                    derivation.builder
                )))
            })?;
        executor.sink.emit(Event::StepStarted {
            step: node.index(),
            name: derivation.name.clone(),
            log: log.to_owned(),
        });
        if let Err(error) = fs::remove_file(log)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(Failure::step_io("replace", log)(error));
        }
        let step = node.index();
        builder.build(&BuildRequest {
            key,
            derivation,
            inputs: &self.knowledge.inputs(derivation).unwrap_or_default(),
            log,
            log_limit: executor.options.log_limit,
            output: &|line| {
                executor.sink.emit(Event::StepOutput {
                    step,
                    line: line.to_owned(),
                });
            },
            interrupt: executor.interrupt,
        })
    }

    /// Locks a key against other processes. Two equal steps of this build wait for each other, too,
    /// and that is no news for the user.
    fn lock_key<'c>(
        &'c self,
        node: NodeId,
        key: &ActionKey,
        derivation: &Derivation,
    ) -> Result<(ActionLock, Claim<'c>), Failure> {
        let executor = self.executor;
        while !lock(&self.claimed).insert(*key) {
            if !pause(executor.interrupt) {
                return Err(Failure::interrupted());
            }
        }
        let claim = Claim {
            claimed: &self.claimed,
            key: *key,
        };
        let mut told = false;
        loop {
            if let Some(held) = executor
                .store
                .try_lock_action(key)
                .map_err(Failure::of_step)?
            {
                return Ok((held, claim));
            }
            if !told {
                told = true;
                let (step, name) = (node.index(), derivation.name.clone());
                executor.sink.emit(Event::StepWaiting { step, name });
            }
            if !pause(executor.interrupt) {
                return Err(Failure::interrupted());
            }
        }
    }

    /// One of the places for steps that use the processors, of which a home has as many as there are
    /// jobs. It is taken under the key's lock: of several processes that wait for one step, one waits
    /// here, and the others for its result. Of several builds, the first one comes first.
    fn slot(&self, node: NodeId, derivation: &Derivation) -> Result<Option<Lock>, Failure> {
        if self.waits(node) {
            return Ok(None);
        }
        let executor = self.executor;
        let mut ticket = executor.store.ticket(self.began, executor.jobs());
        let mut told = false;
        loop {
            let first = ticket.first_place().map_err(Failure::of_step)?;
            for number in first..executor.jobs() {
                let slot = executor.store.try_lock(&format!("slot-{number}"));
                if let Some(slot) = slot.map_err(Failure::of_step)? {
                    return Ok(Some(slot));
                }
            }
            if !told {
                told = true;
                let (step, name) = (node.index(), derivation.name.clone());
                executor.sink.emit(Event::StepQueued { step, name });
            }
            ticket.hold().map_err(Failure::of_step)?;
            if !pause(executor.interrupt) {
                return Err(Failure::interrupted());
            }
        }
    }
}

/// A lock that a step of this pass holds or waits for, and no other step of it.
struct Claim<'c> {
    claimed: &'c Mutex<BTreeSet<ActionKey>>,
    key: ActionKey,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(self.claimed).remove(&self.key);
    }
}
