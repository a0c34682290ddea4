//! Every change of the workload meets every fault.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::power::{Bytes, Image, Loss, Names, random, restore};
use super::workload::{Host, Model, STEPS, Survives, check};
use super::{Fault, Faults};

/// Least numbers of changes: a workload that makes none would test nothing.
const LEAST: u64 = 100;

/// A directory on a file system that is fast at forcing to disk, when there is one.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory)
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// Runs `each` with a fault at the first change, the second, and so on until the workload runs
/// through.
fn at_every_change(fault: Fault, each: impl Fn(&Path, u64) -> bool + Sync) -> u64 {
    let next = AtomicU64::new(1);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let scratch = scratch();
                    let run = || each(scratch.path(), at);
                    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
                        Ok(true) => {}
                        Ok(false) => return,
                        Err(panic) => {
                            let _ = writeln!(std::io::stderr(), "{fault:?} at change {at}");
                            std::panic::resume_unwind(panic);
                        }
                    }
                }
            });
        }
    });
    let points = next.into_inner() - 1 - threads as u64;
    let _ = writeln!(std::io::stderr(), "{fault:?}: {points} changes");
    assert!(points > LEAST, "{points} changes");
    points
}

fn host(directory: &Path, due: Option<(u64, Fault)>) -> Host {
    let root = directory.join("store");
    let faults = Faults::new(&root, due);
    Host::new(&root, faults, Model::default())
}

/// The workload on what is left, without faults, and the checks after it.
fn again(root: &Path, model: &Model) {
    let mut host = Host::new(root, Faults::new(root, None), model.clone());
    for step in STEPS {
        host.step(*step)
            .unwrap_or_else(|error| panic!("{step:?}: {error}"));
    }
    host.check();
    host.end();
    check(root, &host.model, Survives::All);
}

/// Checks what is left.
fn check_image(
    directory: &Path,
    name: &str,
    image: &Image,
    model: &Model,
    survives: Survives,
) -> PathBuf {
    let root = directory.join(name).join("store");
    restore(image, &root);
    check(&root, model, survives);
    root
}

/// What a loss of power may leave.
fn losses(seed: u64) -> [(&'static str, Loss); 4] {
    let loss = |names, bytes| Loss { names, bytes };
    [
        ("everything lost", loss(Names::Lost, Bytes::Lost)),
        ("bytes lost", loss(Names::Kept, Bytes::Lost)),
        ("bytes garbage", loss(Names::Kept, Bytes::Garbage)),
        ("some of each", loss(Names::Some(seed), Bytes::Torn(seed))),
    ]
}

/// Loses power in these ways. Whether the workload can be run again is tried on every eighth: it
/// takes long.
fn check_losses(directory: &Path, host: &Host, seed: u64, ways: &[usize]) {
    for &way in ways {
        let (name, loss) = losses(seed)[way];
        let image = host.faults.lose_power(loss);
        let run = || {
            let root = check_image(directory, name, &image, &host.model, Survives::Named);
            if seed % 8 == way as u64 {
                again(&root, &host.model);
            }
        };
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
            let _ = writeln!(std::io::stderr(), "after a loss of power: {name}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Runs until the processes are killed; tells whether they were. What fails before is tried again
/// when it is needed.
fn run_to_death(host: &mut Host) -> bool {
    for step in STEPS {
        while host.step(*step).is_err() && host.faults.killed().is_none() && step.1.is_needed() {}
        if host.faults.killed().is_some() {
            break;
        }
    }
    host.end();
    host.faults.killed().is_some()
}

fn kill(fault: Fault) {
    at_every_change(fault, |directory, at| {
        let mut host = host(directory, Some((at, fault)));
        let killed = run_to_death(&mut host);
        if let Some(image) = host.faults.killed() {
            let root = check_image(directory, "killed", &image, &host.model, Survives::All);
            if at % 4 == 0 {
                again(&root, &host.model);
            }
        }
        killed
    });
}

#[test]
fn a_kill_at_any_change() {
    kill(Fault::Kill);
}

#[test]
fn a_kill_in_the_middle_of_any_change() {
    kill(Fault::Tear);
}

#[test]
fn a_loss_of_power_at_any_change() {
    at_every_change(Fault::Kill, |directory, at| {
        let mut host = host(directory, Some((at, Fault::Kill)));
        let killed = run_to_death(&mut host);
        check_losses(directory, &host, at, &[0, 1, 2, 3]);
        killed
    });
}

#[test]
fn a_loss_of_power_soon_after_an_error() {
    let fault = Fault::ErrorThenKill { later: 1 };
    at_every_change(fault, |directory, at| {
        let later = 1 + random(at, 0) % 24;
        let mut host = host(directory, Some((at, Fault::ErrorThenKill { later })));
        let killed = run_to_death(&mut host);
        check_losses(directory, &host, at, &[0]);
        killed
    });
}

/// A step that fails is tried again by the same process until it works. After a single fault only
/// what later steps need is tried again.
fn fail(fault: Fault) {
    let single = matches!(fault, Fault::Error { times: 1 } | Fault::Full { times: 1 });
    at_every_change(fault, |directory, at| {
        let mut host = host(directory, Some((at, fault)));
        for step in STEPS {
            let mut tries = 0;
            while let Err(error) = host.step(*step) {
                tries += 1;
                assert!(tries < 20, "{step:?}: {error}");
                host.check_names();
                if single && !step.1.is_needed() {
                    break;
                }
            }
        }
        host.faults.repair();
        host.check();
        if single {
            check_losses(directory, &host, at, &[at as usize % 4]);
        }
        host.end();
        check(&host.root, &host.model, Survives::All);
        host.faults.came()
    });
}

#[test]
fn an_error_at_any_change() {
    fail(Fault::Error { times: 1 });
}

#[test]
fn errors_at_changes_in_a_row() {
    fail(Fault::Error { times: 4 });
}

#[test]
fn a_full_disk_at_any_change() {
    fail(Fault::Full { times: 1 });
}

#[test]
fn a_disk_that_is_full_for_a_while() {
    fail(Fault::Full { times: 6 });
}
