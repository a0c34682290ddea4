//! A disk that is only read, served to QEMU: the server of the NBD protocol, as its specification
//! has it (`doc/proto.md` of NetworkBlockDevice/nbd).
//!
//! The handshake is "fixed newstyle" with `NBD_OPT_GO`, which QEMU uses, and the older
//! `NBD_OPT_EXPORT_NAME`. Replies are simple ones, in any order: a client has many requests in
//! flight. The thread that reads the requests answers at once what needs no waiting; the rest waits
//! in threads of its own.

mod handshake;
#[cfg(test)]
mod tests;

use std::io::{self, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};

pub use handshake::EXPORT;

const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
/// Bytes of a request without data, and of a reply before its data.
const REQUEST: usize = 28;
const REPLY: usize = 16;
/// The longest read, in bytes: the most that a client asks for that was told nothing else.
const LONGEST: u32 = 32 << 20;
/// Replies are sent together until they have so many bytes.
const TOGETHER: usize = 1 << 20;
/// Reads of one client that wait at the same time.
const WAITING: usize = 16;

/// The types of requests that have a meaning here.
const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;

/// Error numbers of the protocol.
const EPERM: u32 = 1;
const EIO: u32 = 5;
const EINVAL: u32 = 22;

/// A disk.
pub trait Disk: Sync {
    /// Its bytes.
    fn size(&self) -> u64;

    /// Reads when that needs no waiting; tells whether it did. `buffer` is within the disk.
    ///
    /// # Errors
    /// It cannot be read.
    fn read_now(&self, buffer: &mut [u8], offset: u64) -> io::Result<bool>;

    /// Reads, however long that takes. `buffer` is within the disk.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// A read within the disk.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    cookie: [u8; 8],
    offset: u64,
    length: u32,
}

/// What a client asks for.
enum Request {
    Read(Wanted),
    /// Something that is answered without reading.
    Answer([u8; 8], u32),
    Leave,
}

/// Serves one client until it leaves.
///
/// # Errors
/// The connection broke, or the client does not speak the protocol.
pub fn serve(stream: &UnixStream, disk: &impl Disk) -> io::Result<()> {
    let mut requests = BufReader::new(stream);
    if !handshake::shake_hands(&mut requests, &mut &*stream, disk.size())? {
        return Ok(());
    }
    let replies = Mutex::new(stream);
    let (sender, receiver) = sync_channel(WAITING);
    let receiver = Mutex::new(receiver);
    std::thread::scope(|scope| {
        // It goes at the end, and with it the threads.
        let sender = sender;
        let mut threads = 0;
        let mut pending = Replies::default();
        let mut run = || -> io::Result<()> {
            loop {
                if requests.buffer().len() < REQUEST || pending.length > TOGETHER {
                    send(&replies, &mut pending)?;
                }
                let wanted = match request(&mut requests, disk.size())? {
                    Request::Read(wanted) => wanted,
                    Request::Answer(cookie, error) => {
                        pending.head(cookie, error);
                        continue;
                    }
                    Request::Leave => return send(&replies, &mut pending),
                };
                let start = pending.length;
                match disk.read_now(pending.data(wanted), wanted.offset) {
                    Ok(true) => {}
                    Ok(false) => {
                        pending.length = start;
                        send(&replies, &mut pending)?;
                        if threads < WAITING {
                            threads += 1;
                            scope.spawn(|| wait(&receiver, &replies, disk));
                        }
                        let _ = sender.send(wanted);
                    }
                    Err(_) => {
                        pending.length = start;
                        pending.head(wanted.cookie, EIO);
                    }
                }
            }
        };
        let ended = run();
        // What still waits is for nobody.
        let _ = stream.shutdown(Shutdown::Both);
        ended
    })
}

/// Reads what a client asks for next.
fn request(requests: &mut impl Read, size: u64) -> io::Result<Request> {
    let mut bytes = [0; REQUEST];
    match requests.read_exact(&mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Request::Leave),
        read => read?,
    }
    let [m0, m1, m2, m3, _, _, t0, t1, rest @ ..] = bytes;
    let [c0, c1, c2, c3, c4, c5, c6, c7, rest @ ..] = rest;
    let [o0, o1, o2, o3, o4, o5, o6, o7, l0, l1, l2, l3] = rest;
    if u32::from_be_bytes([m0, m1, m2, m3]) != REQUEST_MAGIC {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the client sent something that is no request of NBD",
        ));
    }
    let cookie = [c0, c1, c2, c3, c4, c5, c6, c7];
    let offset = u64::from_be_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
    let length = u32::from_be_bytes([l0, l1, l2, l3]);
    Ok(match u16::from_be_bytes([t0, t1]) {
        DISCONNECT => Request::Leave,
        FLUSH => Request::Answer(cookie, 0),
        READ => {
            let end = offset.checked_add(u64::from(length));
            match length <= LONGEST && end.is_some_and(|end| end <= size) {
                true => Request::Read(Wanted {
                    cookie,
                    offset,
                    length,
                }),
                false => Request::Answer(cookie, EINVAL),
            }
        }
        WRITE => {
            // Its data comes behind it.
            io::copy(&mut requests.take(u64::from(length)), &mut io::sink())?;
            Request::Answer(cookie, EPERM)
        }
        _ => Request::Answer(cookie, EPERM),
    })
}

/// Answers reads that have to wait, one after the other, as long as there is a client.
fn wait(receiver: &Mutex<Receiver<Wanted>>, replies: &Mutex<&UnixStream>, disk: &impl Disk) {
    loop {
        let next = receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(wanted) = next else {
            return;
        };
        let mut reply = Replies::default();
        if disk.read(reply.data(wanted), wanted.offset).is_err() {
            reply.length = 0;
            reply.head(wanted.cookie, EIO);
        }
        // That the client is gone shows when its next request is read.
        let _ = send(replies, &mut reply);
    }
}

/// Replies that were not sent yet. The buffer is cleared once and then used again.
#[derive(Default)]
struct Replies {
    bytes: Vec<u8>,
    /// How much of it is replies.
    length: usize,
}

impl Replies {
    /// Adds what a reply begins with.
    fn head(&mut self, cookie: [u8; 8], error: u32) {
        let head = self.more(REPLY);
        head[..4].copy_from_slice(&REPLY_MAGIC.to_be_bytes());
        head[4..8].copy_from_slice(&error.to_be_bytes());
        head[8..].copy_from_slice(&cookie);
    }

    /// Adds the reply to a read; gives the place of its data.
    fn data(&mut self, wanted: Wanted) -> &mut [u8] {
        self.head(wanted.cookie, 0);
        self.more(wanted.length as usize)
    }

    fn more(&mut self, length: usize) -> &mut [u8] {
        let start = self.length;
        self.length += length;
        if self.bytes.len() < self.length {
            self.bytes.resize(self.length, 0);
        }
        &mut self.bytes[start..self.length]
    }
}

/// Sends whole replies.
fn send(replies: &Mutex<&UnixStream>, pending: &mut Replies) -> io::Result<()> {
    if pending.length > 0 {
        let mut stream = replies.lock().unwrap_or_else(PoisonError::into_inner);
        stream.write_all(&pending.bytes[..pending.length])?;
        pending.length = 0;
    }
    Ok(())
}
