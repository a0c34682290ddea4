//! Connecting to the unix sockets of a QEMU, wherever its directory is.
//!
//! The address of a unix socket has room for 107 bytes, and `VMFAB_HOME` may be longer. QEMU gets
//! names relative to its working directory; this side goes through `/proc/self/fd` when the path
//! is too long.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_to, socket_with,
};

/// Room for a path in `sockaddr_un`, without the final NUL (unix(7)).
const PATH_MAX: usize = 107;

/// What is at the other end of a socket.
#[derive(Debug)]
pub enum Peer {
    /// A process that listens took the connection, or will.
    Listening(UnixStream),
    /// A process listens, but others wait there already.
    Busy,
    /// Nobody: there is no such socket, or its process is gone.
    Nobody,
}

/// Connects to the socket `name` in `directory`; waits at most `patience`, and so long for each
/// later read and write.
///
/// # Errors
/// The socket may not be used.
pub fn connect(directory: &Path, name: &str, patience: Duration) -> io::Result<Peer> {
    let direct = directory.join(name);
    if direct.as_os_str().as_bytes().len() <= PATH_MAX {
        return connect_path(&direct, patience);
    }
    let opened = match File::open(directory) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Peer::Nobody),
        Err(error) => return Err(error),
    };
    let short = PathBuf::from(format!("/proc/self/fd/{}/{name}", opened.as_raw_fd()));
    connect_path(&short, patience)
}

fn connect_path(path: &Path, patience: Duration) -> io::Result<Peer> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // The sending time-out also ends a connect() that waits for room in the listener's queue.
    set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(patience))?;
    match connect_to(&socket, &address) {
        Ok(()) => Ok(Peer::Listening(socket.into())),
        Err(Errno::AGAIN) => Ok(Peer::Busy),
        Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(Peer::Nobody),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    /// A listener in `directory`, made as QEMU makes it: by a name relative to it. The tests cannot
    /// change their own directory, which all threads share.
    fn listen(directory: &Path, name: &str) -> UnixListener {
        let opened = File::open(directory).unwrap();
        let path = format!("/proc/self/fd/{}/{name}", opened.as_raw_fd());
        UnixListener::bind(path).unwrap()
    }

    #[test]
    fn long_paths_are_reached() {
        let root = tempfile::tempdir().unwrap();
        for depth in [0, 1, 3] {
            let directory = (0..depth).fold(root.path().to_owned(), |path, _| {
                path.join("d".repeat(100 - depth))
            });
            std::fs::create_dir_all(&directory).unwrap();
            let listener = listen(&directory, "qmp.sock");
            let Peer::Listening(mut stream) = connect(&directory, "qmp.sock", PATIENCE).unwrap()
            else {
                panic!("not reached at depth {depth}");
            };
            listener.accept().unwrap().0.write_all(b"x").unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            drop(listener);
            let stale = connect(&directory, "qmp.sock", PATIENCE).unwrap();
            assert!(matches!(stale, Peer::Nobody), "{stale:?}");
        }
    }

    #[test]
    fn absent_sockets_are_nobody() {
        let root = tempfile::tempdir().unwrap();
        let long = root.path().join("d".repeat(200));
        for directory in [root.path(), &long] {
            let peer = connect(directory, "qmp.sock", PATIENCE).unwrap();
            assert!(matches!(peer, Peer::Nobody), "{peer:?}");
        }
    }

    #[test]
    fn a_full_queue_does_not_hang() {
        let root = tempfile::tempdir().unwrap();
        let listener = listen(root.path(), "qmp.sock");
        rustix::net::listen(&listener, 0).unwrap();
        let mut held = Vec::new();
        for _ in 0..4 {
            match connect(root.path(), "qmp.sock", PATIENCE).unwrap() {
                Peer::Listening(stream) => held.push(stream),
                Peer::Busy => return,
                Peer::Nobody => panic!("the listener is there"),
            }
        }
        panic!("the queue took {} connections", held.len());
    }
}
