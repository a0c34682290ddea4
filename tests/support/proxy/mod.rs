//! A server in front of a registry that makes faults, and can ask for tokens where the registry
//! does not.
//!
//! Requests are passed on, one connection each; what it was told about a method and a part of a
//! path goes wrong.

mod tokens;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use self::tokens::Given;
pub(crate) use self::tokens::Tokens;

/// What goes wrong with a request or its answer.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The connection ends after so many bytes of the answer's body.
    Cut(usize),
    /// Nothing more comes after so many bytes of the answer's body, while the connection stays.
    Stall(usize),
    /// So many bytes of the request's body are passed on; then both connections end. Debian's
    /// registry can go on with nothing that was cut so, and cannot even be told to forget it.
    CutRequest(usize),
    /// The connection ends after so many bytes of the request's body, and they are kept, as a
    /// registry does that can go on with an upload.
    KeepPart(usize),
    /// The request is done, and the connection ends before its answer.
    LoseAnswer,
    /// Another status, with a `Retry-After`. The request is not passed on.
    Status(u16, Option<&'static str>),
    /// A status, with what the request said of who asks in the message, behind so many other
    /// characters. The request is not passed on.
    Repeat(u16, usize),
    /// Bodies of more than so many bytes are refused with a status.
    LongBody(usize, u16),
    /// The range of a request is dropped: the whole comes.
    IgnoreRange,
    /// A header of the answer, or another value of it.
    Header(&'static str, &'static str),
    /// A byte of the answer's body is another one.
    WrongByte(usize),
    /// This head of an answer, from its status on, and this body again and again, without an end
    /// when the count is none. The request is not passed on.
    Answer(&'static str, &'static [u8], Option<usize>),
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    /// The form that was sent to the token server.
    pub(crate) form: String,
}

impl Seen {
    /// A header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

struct Rule {
    method: &'static str,
    part: String,
    fault: Fault,
    left: usize,
}

struct State {
    registry: SocketAddr,
    address: SocketAddr,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    tokens: Mutex<Option<Tokens>>,
    given: Mutex<BTreeMap<String, Given>>,
    /// Where cut uploads are: their paths without and with what the registry wants to be told.
    kept: Mutex<BTreeMap<String, String>>,
    /// Bytes of bodies that no registry sent.
    made: AtomicUsize,
    /// Bytes of bodies that were passed on, to the registry and from it.
    up: AtomicUsize,
    down: AtomicUsize,
    /// Microseconds that each piece of a body takes.
    pause: AtomicU64,
    over: AtomicBool,
}

/// Bytes of a body that are passed on at once.
const PIECE: usize = 64 << 10;

/// A proxy that lives until it is dropped.
pub(crate) struct Proxy(Arc<State>);

impl Proxy {
    /// One in front of a registry without TLS on this host.
    pub(crate) fn start(port: u16) -> Self {
        Self::start_with(port, None)
    }

    /// The same with TLS, and a certificate that nobody trusts.
    pub(crate) fn start_tls(port: u16) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["127.0.0.1".to_owned()];
        let parameters = rcgen::CertificateParams::new(names).unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        Self::start_with(port, Some(Arc::new(config)))
    }

    fn start_with(port: u16, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::new(State {
            registry: ([127, 0, 0, 1], port).into(),
            address: listener.local_addr().unwrap(),
            rules: Mutex::default(),
            seen: Mutex::default(),
            tokens: Mutex::default(),
            given: Mutex::default(),
            kept: Mutex::default(),
            made: AtomicUsize::new(0),
            up: AtomicUsize::new(0),
            down: AtomicUsize::new(0),
            pause: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let proxy = Self(Arc::clone(&state));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if state.over.load(Ordering::SeqCst) {
                    return;
                }
                let (state, tls) = (Arc::clone(&state), tls.clone());
                std::thread::spawn(move || {
                    let raw = stream.try_clone().unwrap();
                    // A client or a registry that goes away is nothing to fail for.
                    let _ = match tls {
                        None => state.serve(stream),
                        Some(config) => {
                            let connection = rustls::ServerConnection::new(config).unwrap();
                            state.serve(rustls::StreamOwned::new(connection, stream))
                        }
                    };
                    let _ = raw.shutdown(Shutdown::Both);
                });
            }
        });
        proxy
    }

    /// Host and port, as in references.
    pub(crate) fn address(&self) -> String {
        self.0.address.to_string()
    }

    /// `HOST:PORT/NAME`.
    pub(crate) fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.address())
    }

    /// The next request with this method and this part in its path meets this fault. Earlier rules
    /// go first.
    pub(crate) fn next(&self, method: &'static str, part: &str, fault: Fault) {
        self.times(1, method, part, fault);
    }

    /// All such requests meet it.
    pub(crate) fn always(&self, method: &'static str, part: &str, fault: Fault) {
        self.times(usize::MAX, method, part, fault);
    }

    /// So many such requests meet it.
    pub(crate) fn times(&self, left: usize, method: &'static str, part: &str, fault: Fault) {
        self.0.rules.lock().unwrap().push(Rule {
            method,
            part: part.to_owned(),
            fault,
            left,
        });
    }

    /// From now on requests need tokens.
    pub(crate) fn ask_for_tokens(&self, tokens: Tokens) {
        *self.0.tokens.lock().unwrap() = Some(tokens);
    }

    /// All tokens so far are no good any more.
    pub(crate) fn revoke_tokens(&self) {
        self.0.given.lock().unwrap().clear();
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.seen.lock().unwrap().clone()
    }

    /// Bytes of bodies that were made for [`Fault::Answer`], and sent.
    pub(crate) fn made(&self) -> usize {
        self.0.made.load(Ordering::SeqCst)
    }

    /// Bytes of bodies that were sent to the registry, and that it sent.
    pub(crate) fn moved(&self) -> (usize, usize) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        (count(&self.0.up), count(&self.0.down))
    }

    /// From now on each 64 KiB of a body take so long.
    pub(crate) fn slow_down(&self, pause: Duration) {
        let pause = pause.as_micros() as u64;
        self.0.pause.store(pause, Ordering::SeqCst);
    }

    /// Forgets all faults.
    pub(crate) fn no_faults(&self) {
        self.0.rules.lock().unwrap().clear();
    }

    /// The requests with this method and this part in their path.
    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        let seen = self.seen();
        let fits = |seen: &&Seen| seen.method == method && seen.path.contains(part);
        seen.iter().filter(fits).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.0.address);
    }
}

/// The head of a request or an answer.
struct Head {
    first: String,
    headers: Vec<(String, String)>,
}

impl Head {
    fn read(stream: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut first = String::new();
        if stream.read_line(&mut first)? == 0 {
            return Ok(None);
        }
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            match line.trim_end().split_once(':') {
                Some((name, value)) => {
                    headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
                }
                None => break,
            }
        }
        let first = first.trim_end().to_owned();
        Ok(Some(Self { first, headers }))
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    fn remove(&mut self, name: &str) {
        self.headers.retain(|(other, _)| other != name);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.first);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        (text + "\r\n").into_bytes()
    }
}

impl State {
    fn serve<S: Read + Write>(&self, stream: S) -> io::Result<()> {
        let mut client = BufReader::new(stream);
        while let Some(head) = Head::read(&mut client)? {
            if !self.exchange(head, &mut client)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn faults(&self, method: &str, path: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let rule = rules.iter_mut().find(|rule| {
            rule.left > 0 && rule.method == method && path.contains(rule.part.as_str())
        })?;
        rule.left = rule.left.saturating_sub(1);
        Some(rule.fault.clone())
    }

    /// One request; whether the connection can have another.
    fn exchange<S: Read + Write>(
        &self,
        mut head: Head,
        client: &mut BufReader<S>,
    ) -> io::Result<bool> {
        let words: Vec<String> = head.first.split(' ').map(str::to_owned).collect();
        let (method, path) = (words[0].as_str(), words[1].as_str());
        let length: usize = head
            .get("content-length")
            .map_or(0, |length| length.parse().unwrap());
        let mut seen = Seen {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: head.headers.iter().cloned().collect(),
            form: String::new(),
        };
        if path.starts_with("/token") {
            let mut form = vec![0; length];
            client.read_exact(&mut form)?;
            seen.form = String::from_utf8(form).unwrap();
            self.seen.lock().unwrap().push(seen.clone());
            client.get_mut().write_all(&self.give_token(&seen))?;
            return Ok(true);
        }
        self.seen.lock().unwrap().push(seen);
        if let Some(refusal) = self.refuse(method, path, head.get("authorization")) {
            client.get_mut().write_all(&refusal)?;
            return Ok(length == 0);
        }
        let fault = self.faults(method, path);
        match &fault {
            Some(Fault::Status(status, after)) => {
                let after =
                    after.map_or_else(String::new, |after| format!("retry-after: {after}\r\n"));
                client.get_mut().write_all(
                    format!("HTTP/1.1 {status} X\r\n{after}content-length: 0\r\n\r\n").as_bytes(),
                )?;
                return Ok(length == 0);
            }
            Some(Fault::Repeat(status, before)) => {
                let said = head.get("authorization").unwrap_or_default();
                let text = format!("{}{said}", "x".repeat(*before));
                let body = format!(r#"{{"errors":[{{"code":"DENIED","message":"{text}"}}]}}"#);
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}");
                client.get_mut().write_all(answer.as_bytes())?;
                return Ok(false);
            }
            Some(Fault::LongBody(limit, status)) if length > *limit => {
                client.get_mut().write_all(
                    format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").as_bytes(),
                )?;
                return Ok(false);
            }
            Some(Fault::Answer(first, body, count)) => {
                client
                    .get_mut()
                    .write_all(format!("HTTP/1.1 {first}\r\n\r\n").as_bytes())?;
                let mut left = count.unwrap_or(usize::MAX);
                while left > 0 && !self.over.load(Ordering::SeqCst) {
                    client.get_mut().write_all(body)?;
                    self.made.fetch_add(body.len(), Ordering::SeqCst);
                    left -= 1;
                }
                return Ok(length == 0 && count.is_some() && first.contains("content-length"));
            }
            Some(Fault::IgnoreRange) => head.remove("range"),
            _ => {}
        }
        if head.get("expect").is_some() {
            head.remove("expect");
            client
                .get_mut()
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        head.remove("authorization");
        head.set("connection", "close");
        if let Some(Fault::KeepPart(count)) = fault {
            self.keep_part(path, count, head, client)?;
            return Ok(false);
        }
        let bare = path.split('?').next().unwrap_or_default();
        if let Some(kept) = self.kept.lock().unwrap().get(bare)
            && ["GET", "DELETE"].contains(&method)
        {
            head.first = format!("{method} {kept} HTTP/1.1");
        }
        let mut registry = TcpStream::connect(self.registry)?;
        registry.write_all(&head.bytes())?;
        if let Some(Fault::CutRequest(count)) = fault {
            io::copy(&mut client.by_ref().take(count as u64), &mut registry)?;
            return Ok(false);
        }
        if head.get("transfer-encoding") == Some("chunked") {
            pass_chunks(client, &mut registry)?;
        } else {
            self.pass_up(&mut client.by_ref().take(length as u64), &mut registry)?;
        }
        let mut registry = BufReader::new(registry);
        let Some(mut answer) = Head::read(&mut registry)? else {
            return Ok(false);
        };
        if matches!(fault, Some(Fault::LoseAnswer)) {
            io::copy(&mut registry, &mut io::sink())?;
            return Ok(false);
        }
        answer.remove("connection");
        if let Some(Fault::Header(name, value)) = fault {
            answer.set(name, value);
        }
        client.get_mut().write_all(&answer.bytes())?;
        self.pass_body(&mut registry, client.get_mut(), fault.as_ref())
    }

    /// Makes a chunk of the first bytes of a body.
    fn keep_part(
        &self,
        path: &str,
        count: usize,
        mut head: Head,
        client: &mut impl Read,
    ) -> io::Result<()> {
        let mut part = vec![0; count];
        client.read_exact(&mut part)?;
        let session = path.split("&digest=").next().unwrap_or_default();
        head.first = format!("PATCH {session} HTTP/1.1");
        head.set("content-length", &count.to_string());
        head.remove("content-range");
        let mut registry = TcpStream::connect(self.registry)?;
        registry.write_all(&head.bytes())?;
        registry.write_all(&part)?;
        let answer = Head::read(&mut BufReader::new(registry))?.unwrap();
        let location = answer.get("location").unwrap();
        let at = location.find("/v2/").unwrap();
        let bare = session.split('?').next().unwrap_or_default().to_owned();
        self.kept
            .lock()
            .unwrap()
            .insert(bare, location[at..].to_owned());
        Ok(())
    }

    fn pass_up(&self, from: &mut impl Read, registry: &mut impl Write) -> io::Result<()> {
        let mut buffer = vec![0; PIECE];
        loop {
            let count = from.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            self.take_time();
            registry.write_all(&buffer[..count])?;
            self.up.fetch_add(count, Ordering::SeqCst);
        }
    }

    fn take_time(&self) {
        let pause = self.pause.load(Ordering::SeqCst);
        if pause > 0 {
            std::thread::sleep(Duration::from_micros(pause));
        }
    }

    fn pass_body(
        &self,
        registry: &mut impl Read,
        out: &mut impl Write,
        fault: Option<&Fault>,
    ) -> io::Result<bool> {
        let mut buffer = vec![0; PIECE];
        let mut passed = 0;
        loop {
            let mut count = registry.read(&mut buffer)?;
            if count == 0 {
                return Ok(true);
            }
            match fault {
                Some(Fault::Cut(limit) | Fault::Stall(limit)) => count = count.min(limit - passed),
                Some(Fault::WrongByte(at)) if (passed..passed + count).contains(at) => {
                    buffer[at - passed] ^= 1;
                }
                _ => {}
            }
            self.take_time();
            out.write_all(&buffer[..count])?;
            out.flush()?;
            passed += count;
            self.down.fetch_add(count, Ordering::SeqCst);
            match fault {
                Some(Fault::Cut(limit)) if passed == *limit => return Ok(false),
                Some(Fault::Stall(limit)) if passed == *limit => {
                    while !self.over.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    return Ok(false);
                }
                _ => {}
            }
        }
    }
}

/// Passes a body in chunks on as it is.
fn pass_chunks(from: &mut impl BufRead, to: &mut impl Write) -> io::Result<()> {
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        to.write_all(line.as_bytes())?;
        let length = u64::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
        io::copy(&mut from.by_ref().take(length + 2), to)?;
        if length == 0 {
            return Ok(());
        }
    }
}
