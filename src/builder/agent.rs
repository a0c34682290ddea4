//! Forwards the socket of an SSH agent into a step, so that a step sees a socket of its own: it may
//! belong to any user of the image, and it ends with the step.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A socket, as long as it is held.
pub(super) struct Forwarded {
    path: PathBuf,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarded {
    /// Makes a socket at `path` that leads to `agent`.
    pub(super) fn new(agent: &Path, path: &Path) -> io::Result<Self> {
        // Said now, and not by a program of the step.
        drop(UnixStream::connect(agent)?);
        let listener = with_short_path(path, |path| UnixListener::bind(path))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let (agent, over) = (agent.to_owned(), is_over.clone());
        let thread = std::thread::Builder::new()
            .name("agent".to_owned())
            .spawn(move || {
                for client in listener.incoming().flatten() {
                    if over.load(Ordering::Acquire) {
                        return;
                    }
                    if let Ok(agent) = UnixStream::connect(&agent) {
                        join(client, agent);
                    }
                }
            })?;
        Ok(Self {
            path: path.to_owned(),
            is_over,
            thread: Some(thread),
        })
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // Wakes the thread.
        let woken = with_short_path(&self.path, |path| UnixStream::connect(path));
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
        // A process that is being started may hold the listener for a moment longer.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Addresses of sockets have 108 bytes at most (unix(7)).
fn with_short_path<T>(path: &Path, use_it: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    let directory = std::fs::File::open(path.parent().unwrap_or(path))?;
    let name = path.file_name().unwrap_or_default();
    use_it(&Path::new(&format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name))
}

/// Copies both ways until both ends are closed.
fn join(client: UnixStream, agent: UnixStream) {
    let (Ok(client_too), Ok(agent_too)) = (client.try_clone(), agent.try_clone()) else {
        return;
    };
    for (mut from, mut to) in [(client, agent_too), (agent, client_too)] {
        std::thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_is_asked_and_answered_passes() {
        let directory = tempfile::tempdir().unwrap();
        let agent = directory.path().join("agent");
        let listener = UnixListener::bind(&agent).unwrap();
        let answering = std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut asked = String::new();
                client.read_to_string(&mut asked).unwrap();
                if asked.is_empty() {
                    continue;
                }
                client.write_all(asked.to_uppercase().as_bytes()).unwrap();
                return;
            }
        });
        let long = directory.path().join("d".repeat(120));
        std::fs::create_dir(&long).unwrap();
        let path = long.join("socket");
        let forwarded = Forwarded::new(&agent, &path).unwrap();
        let mut client =
            with_short_path(&forwarded.path, |path| UnixStream::connect(path)).unwrap();
        client.write_all(b"sign").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "SIGN");
        answering.join().unwrap();
        drop(forwarded);
        assert!(with_short_path(&path, |path| UnixStream::connect(path)).is_err());
        assert!(Forwarded::new(Path::new("/nowhere"), &long.join("x")).is_err());
    }
}
