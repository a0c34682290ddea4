//! A web server of our own, on a free port, that can misbehave: it serves files with ranges,
//! validators and redirects, makes the faults that it is asked for, and counts.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use vmfab::http::{Url, unescape};

/// What goes wrong with an answer.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// Nothing more comes after so many bytes of the body, while the connection stays.
    Stall(usize),
    /// The connection ends before an answer.
    NoAnswer,
    /// So many bytes come every ten milliseconds.
    Slow(usize),
    /// The last byte is another.
    WrongByte,
    /// Another status, with a `Retry-After`.
    Status(u16, Option<String>),
    /// A redirect to a URL or a path.
    Redirect(u16, String),
    /// A request for a part is answered with the whole.
    IgnoreRange,
    /// A request for a part is answered with another part.
    WrongRange,
    /// The length is not told.
    Chunked,
    /// The length is not told, and the connection ends after so many bytes of the body.
    Untold(usize),
    /// This length is told, whatever comes.
    Length(u64),
}

/// A file of the server.
#[derive(Debug, Clone)]
struct Served {
    bytes: Arc<Vec<u8>>,
    etag: Option<String>,
    modified: Option<String>,
}

/// A request that was answered, or begun to be.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    /// Bytes of its own body.
    pub(crate) received: usize,
    /// The status of the answer; 0 for none.
    pub(crate) status: u16,
    /// Bytes of the answer's body that were sent.
    pub(crate) sent: usize,
}

impl Seen {
    /// A header of the request, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

#[derive(Default)]
struct State {
    files: Mutex<BTreeMap<String, Served>>,
    /// For the next requests of a path.
    next: Mutex<BTreeMap<String, VecDeque<Fault>>>,
    /// For all others of a path.
    always: Mutex<BTreeMap<String, Fault>>,
    seen: Mutex<Vec<Seen>>,
    /// What requests must have as `Authorization`.
    wanted: Mutex<Option<String>>,
    connections: AtomicUsize,
    over: AtomicBool,
}

/// A server that lives until it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
}

impl Server {
    /// A server without TLS.
    pub(crate) fn start() -> Self {
        Self::start_with(None)
    }

    /// A server with TLS: it is `localhost`.
    pub(crate) fn start_tls(config: Arc<rustls::ServerConfig>) -> Self {
        Self::start_with(Some(config))
    }

    fn start_with(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            scheme: if tls.is_some() { "https" } else { "http" },
            state: Arc::default(),
        };
        let state = Arc::clone(&server.state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if state.over.load(Ordering::SeqCst) {
                    return;
                }
                state.connections.fetch_add(1, Ordering::SeqCst);
                let (state, tls) = (Arc::clone(&state), tls.clone());
                std::thread::spawn(move || {
                    let raw = stream.try_clone().unwrap();
                    // A client that goes away is none of the server's business.
                    let _ = match tls {
                        None => state.serve(stream, &raw),
                        Some(config) => {
                            let connection = rustls::ServerConnection::new(config).unwrap();
                            state.serve(rustls::StreamOwned::new(connection, stream), &raw)
                        }
                    };
                    let _ = raw.shutdown(Shutdown::Both);
                });
            }
        });
        server
    }

    /// The URL of a path, which begins with `/`.
    pub(crate) fn url(&self, path: &str) -> String {
        let host = if self.scheme == "https" {
            "localhost"
        } else {
            "127.0.0.1"
        };
        format!("{}://{host}:{}{path}", self.scheme, self.address.port())
    }

    /// Answers only those who give this user name and password from now on.
    pub(crate) fn demand(&self, name: &str, password: &str) {
        let word = Base64::encode_string(format!("{name}:{password}").as_bytes());
        *self.state.wanted.lock().unwrap() = Some(format!("Basic {word}"));
    }

    /// Serves a file, with an `ETag` that follows from its bytes.
    pub(crate) fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        let etag = format!("\"{}\"", &blake3::hash(&bytes).to_hex()[..16]);
        self.put_with(path, bytes, Some(&etag), None);
    }

    /// Serves a file with these validators.
    pub(crate) fn put_with(
        &self,
        path: &str,
        bytes: impl Into<Vec<u8>>,
        etag: Option<&str>,
        modified: Option<&str>,
    ) {
        let served = Served {
            bytes: Arc::new(bytes.into()),
            etag: etag.map(str::to_owned),
            modified: modified.map(str::to_owned),
        };
        self.state
            .files
            .lock()
            .unwrap()
            .insert(path.to_owned(), served);
    }

    /// The next request of a path that has no fault yet meets this one.
    pub(crate) fn next(&self, path: &str, fault: Fault) {
        let mut next = self.state.next.lock().unwrap();
        next.entry(path.to_owned()).or_default().push_back(fault);
    }

    /// All requests of a path, but those with faults of their own, meet this one.
    pub(crate) fn always(&self, path: &str, fault: Fault) {
        self.state
            .always
            .lock()
            .unwrap()
            .insert(path.to_owned(), fault);
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// What was asked for: `GET /path`, and the range when there was one.
    pub(crate) fn asked(&self) -> Vec<String> {
        let line = |seen: &Seen| {
            let line = format!("{} {} {}", seen.method, seen.path, seen.header("range"));
            line.trim_end().to_owned()
        };
        self.seen().iter().map(line).collect()
    }

    /// Bytes of bodies that were sent.
    pub(crate) fn sent(&self) -> usize {
        self.seen().iter().map(|seen| seen.sent).sum()
    }

    /// Connections that were made.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    /// Answers the requests of one connection.
    fn serve<S: Read + Write>(&self, stream: S, raw: &TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let mut seen = match read_request(&mut stream) {
                Ok(Some(seen)) => seen,
                Ok(None) => return Ok(()),
                Err(_) => return stream.get_mut().write_all(b"HTTP/1.1 400 X\r\n\r\n"),
            };
            if seen.method == "CONNECT" {
                self.seen.lock().unwrap().push(seen.clone());
                return tunnel(&seen.path, raw);
            }
            if seen.path.starts_with("http://") {
                self.seen.lock().unwrap().push(seen.clone());
                return forward(&seen, raw);
            }
            let mut body = vec![0; seen.received];
            stream.read_exact(&mut body)?;
            let index = {
                let mut all = self.seen.lock().unwrap();
                all.push(seen.clone());
                all.len() - 1
            };
            let goes_on = self.answer(&mut seen, stream.get_mut(), &|status, sent| {
                let mut all = self.seen.lock().unwrap();
                (all[index].status, all[index].sent) = (status, sent);
            })?;
            if !goes_on {
                return Ok(());
            }
        }
    }

    fn fault(&self, path: &str) -> Option<Fault> {
        let mut next = self.next.lock().unwrap();
        let next = next.get_mut(path).and_then(VecDeque::pop_front);
        next.or_else(|| self.always.lock().unwrap().get(path).cloned())
    }

    /// Answers one request; whether another may follow on the connection. `told` hears what was
    /// sent.
    fn answer(
        &self,
        seen: &mut Seen,
        stream: &mut impl Write,
        told: &dyn Fn(u16, usize),
    ) -> std::io::Result<bool> {
        let fault = self.fault(&seen.path);
        let head_only = seen.method == "HEAD";
        let mut headers = String::new();
        let empty = |stream: &mut dyn Write, status: u16, headers: &str| {
            told(status, 0);
            let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: 0\r\n\r\n");
            stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.flush())
        };
        let wanted = self.wanted.lock().unwrap().clone();
        if wanted.is_some_and(|wanted| seen.header("authorization") != wanted) {
            empty(stream, 401, "www-authenticate: Basic realm=\"git\"\r\n")?;
            return Ok(true);
        }
        match &fault {
            Some(Fault::NoAnswer) => return Ok(false),
            Some(Fault::Status(status, retry_after)) => {
                if let Some(after) = retry_after {
                    headers += &format!("retry-after: {after}\r\n");
                }
                empty(stream, *status, &headers)?;
                return Ok(true);
            }
            Some(Fault::Redirect(status, to)) => {
                empty(stream, *status, &format!("location: {to}\r\n"))?;
                return Ok(true);
            }
            _ => {}
        }
        if ["PUT", "POST"].contains(&&*seen.method) {
            empty(stream, 201, "")?;
            return Ok(true);
        }
        let path = seen.path.split('?').next().unwrap_or_default();
        let Some(file) = self.files.lock().unwrap().get(&unescape(path)).cloned() else {
            empty(stream, 404, "")?;
            return Ok(true);
        };
        let whole = file.bytes.len();
        for (name, value) in [("etag", &file.etag), ("last-modified", &file.modified)] {
            if let Some(value) = value {
                headers += &format!("{name}: {value}\r\n");
            }
        }
        let same = match seen.header("if-range") {
            "" => true,
            validator => [&file.etag, &file.modified]
                .iter()
                .any(|own| own.as_deref() == Some(validator)),
        };
        let range = seen.header("range").strip_prefix("bytes=");
        let start = range.and_then(|range| range.strip_suffix('-')?.parse::<usize>().ok());
        let start = start.filter(|_| same && !matches!(fault, Some(Fault::IgnoreRange)));
        let (status, start) = match start {
            Some(start) if start >= whole => {
                headers += &format!("content-range: bytes */{whole}\r\n");
                empty(stream, 416, &headers)?;
                return Ok(true);
            }
            Some(start) => {
                let told = if matches!(fault, Some(Fault::WrongRange)) {
                    start + 1
                } else {
                    start
                };
                headers += &format!("content-range: bytes {told}-{}/{whole}\r\n", whole - 1);
                (206, start)
            }
            None => (200, 0),
        };
        let mut bytes = file.bytes[start..].to_vec();
        if let (Some(Fault::WrongByte), Some(last)) = (&fault, bytes.last_mut()) {
            *last ^= 1;
        }
        let chunked = matches!(fault, Some(Fault::Chunked));
        headers += &match fault {
            Some(Fault::Chunked) => "transfer-encoding: chunked\r\n".to_owned(),
            Some(Fault::Untold(_)) => "connection: close\r\n".to_owned(),
            Some(Fault::Length(length)) => format!("content-length: {length}\r\n"),
            _ => format!("content-length: {}\r\n", bytes.len()),
        };
        told(status, 0);
        stream.write_all(format!("HTTP/1.1 {status} X\r\n{headers}\r\n").as_bytes())?;
        stream.flush()?;
        if head_only {
            return Ok(true);
        }
        let until = match fault {
            Some(Fault::Cut(count) | Fault::Stall(count) | Fault::Untold(count)) => {
                count.min(bytes.len())
            }
            _ => bytes.len(),
        };
        let piece = if let Some(Fault::Slow(piece)) = fault {
            piece
        } else {
            16 << 10
        };
        let mut sent = 0;
        for piece in bytes[..until].chunks(piece) {
            if chunked {
                write!(stream, "{:x}\r\n", piece.len())?;
            }
            stream.write_all(piece)?;
            if chunked {
                stream.write_all(b"\r\n")?;
            }
            stream.flush()?;
            sent += piece.len();
            told(status, sent);
            if matches!(fault, Some(Fault::Slow(_))) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        if chunked {
            stream.write_all(b"0\r\n\r\n")?;
            stream.flush()?;
        }
        if matches!(fault, Some(Fault::Stall(_))) {
            while !self.over.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(!matches!(
            fault,
            Some(Fault::Cut(_) | Fault::Stall(_) | Fault::Untold(_) | Fault::Length(_))
        ))
    }
}

/// The head of a request; `None` when there is no further one.
fn read_request(stream: &mut impl BufRead) -> std::io::Result<Option<Seen>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok());
    Ok(Some(Seen {
        method,
        path,
        headers,
        received: length.unwrap_or(0),
        status: 0,
        sent: 0,
    }))
}

/// Is a proxy: asks for a whole URL in place of the client (RFC 9112, section 3.2.2).
fn forward(seen: &Seen, mut client: &TcpStream) -> std::io::Result<()> {
    let url: Url = seen.path.parse().unwrap();
    let mut server = TcpStream::connect(("127.0.0.1", url.port()))?;
    let path = seen.path.splitn(4, '/').last().unwrap_or_default();
    let head = format!(
        "{} /{path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
        seen.method,
        seen.header("host")
    );
    server.write_all(head.as_bytes())?;
    server.shutdown(Shutdown::Write)?;
    std::io::copy(&mut server, &mut client)?;
    Ok(())
}

/// Is a proxy: passes bytes both ways. Whatever name is asked for, it is on this host.
fn tunnel(to: &str, client: &TcpStream) -> std::io::Result<()> {
    let url: Url = format!("http://{to}/").parse().unwrap();
    let server = TcpStream::connect(("127.0.0.1", url.port()))?;
    (&*client).write_all(b"HTTP/1.1 200 X\r\n\r\n")?;
    let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
    let back = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut &*client, &mut &server);
    let _ = server.shutdown(Shutdown::Write);
    let _ = back.join();
    Ok(())
}
