//! The one runtime of this process: a thread that moves the bytes of all connections. The first
//! request starts it; whoever wants something of it waits on a thread of their own.

use std::future::Future;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::time::sleep;

use super::error::HttpError;
use crate::host::Interrupt;

/// How soon an interrupt is noticed.
const GLANCE: Duration = Duration::from_millis(50);
/// Threads for name look-ups, which nothing can interrupt.
const LOOKUPS: usize = 16;

static RUNTIME: OnceLock<Result<Handle, HttpError>> = OnceLock::new();

/// Where connections live.
pub(super) fn handle() -> Result<&'static Handle, HttpError> {
    let started = RUNTIME.get_or_init(|| {
        start().map_err(|error| HttpError::Other {
            host: "network".to_owned(),
            message: format!("no thread can be started: {error}"),
        })
    });
    started.as_ref().map_err(Clone::clone)
}

fn start() -> io::Result<Handle> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(LOOKUPS)
        .build()?;
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new().name("http".into());
    thread.spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

/// The outcome of `work`; `None` when it takes longer than `limit`. What is dropped is cancelled.
pub(super) fn wait<T>(
    interrupt: &Interrupt,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<Option<T>, HttpError> {
    let interrupted = async {
        while !interrupt.requested() {
            sleep(GLANCE).await;
        }
    };
    if interrupt.requested() {
        return Err(HttpError::Interrupted);
    }
    handle()?.block_on(async {
        tokio::select! {
            biased;
            done = work => Ok(Some(done)),
            () = interrupted => Err(HttpError::Interrupted),
            () = sleep(limit) => Ok(None),
        }
    })
}
