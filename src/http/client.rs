//! Requests and answers.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base64ct::{Base64, Encoding};
use bytes::Bytes;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, COOKIE, EXPECT, HeaderMap, HeaderName,
    HeaderValue, LOCATION, RETRY_AFTER,
};
use reqwest::{Method, StatusCode};
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::{JoinError, JoinSet};
use tracing::{debug_span, field};

use super::body::{Body, Upload};
use super::error::{Asked, HttpError, Waits, innermost, shown_proxy};
use super::pace::Speed;
use super::proxy::Proxies;
use super::url::{Scheme, Url};
use super::{runtime, tls};
use crate::host::Interrupt;
use crate::limits::Limits;

/// Redirects that are followed for one request.
const REDIRECTS: usize = 10;
const USER_AGENT: &str = concat!("vmfab/", env!("CARGO_PKG_VERSION"));

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a connection may take to be made, with the name look-up and TLS.
    pub connect: Duration,
    /// How long nothing may come from a server.
    pub stalled: Duration,
    /// The fewest bytes in a second that a server may send or take, over all of `window`; 0 when
    /// any speed will do.
    pub least_speed: u64,
    /// Over what time its speed counts. The head of an answer must be there after as long.
    pub window: Duration,
    /// PEM files of certificate authorities, beside the system's.
    pub certificate_authorities: Vec<PathBuf>,
    /// The one host that need not prove who it is.
    pub unverified: Option<String>,
    pub proxies: Proxies,
}

/// Ten seconds to connect, thirty of silence, and the environment's proxies.
impl Default for Settings {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stalled: Duration::from_secs(30),
            least_speed: Limits::default().least_speed,
            window: Limits::SPEED_WINDOW,
            certificate_authorities: Vec::new(),
            unverified: None,
            proxies: Proxies::from_env(),
        }
    }
}

/// Asks servers. Making one is cheap: nothing is read and no connection made before the first
/// request. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    interrupt: Interrupt,
    clients: Mutex<HashMap<ClientKey, reqwest::Client>>,
    /// The shortest time that an answer took, in microseconds.
    quickest: AtomicU64,
}

/// What needs connections of its own: TLS or not, whether certificates are verified, and a proxy.
type ClientKey = (bool, bool, Option<String>);
/// What comes of a request.
type Answer = Result<reqwest::Response, reqwest::Error>;
/// The same, from the task that did it.
type Joined = Option<Result<Answer, JoinError>>;

/// Connections to one host that are kept for later requests: as many as threads use one registry at
/// once.
const KEPT_CONNECTIONS: usize = 16;
/// How long an unused connection is kept.
const KEPT_FOR: Duration = Duration::from_secs(15);
/// Bytes of one answer that come over HTTP/2 before they are read. A connection takes as many for
/// each of those that may share it, so that none waits for the reader of another.
const WINDOW: u32 = 1 << 20;
/// Bytes of a request's body that are read at once.
const CHUNK: usize = 128 << 10;
/// Chunks that wait to be sent.
const AHEAD: usize = 2;
/// How long a body is held back at most when the server was asked whether it takes it. The library
/// does not tell when it says so (100), only when it refuses.
const HELD_BACK: Duration = Duration::from_millis(100);
/// How long it is held back at least, and how many times as long as the server needs for an answer.
const HELD_BACK_LEAST: (Duration, u32) = (Duration::from_millis(5), 4);

/// What to ask a server for.
pub struct Request<'a> {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<(Box<dyn Read + 'a>, u64)>,
}

impl<'a> Request<'a> {
    /// A request without a body. User name and password of the URL are sent.
    #[must_use]
    pub fn new(method: Method, url: Url) -> Self {
        let mut headers = HeaderMap::new();
        // What is verified and continued is the file itself, not a compressed form of it.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some((name, password)) = url.credentials() {
            let word = Base64::encode_string(format!("{name}:{password}").as_bytes());
            if let Ok(mut value) = HeaderValue::try_from(format!("Basic {word}")) {
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
            }
        }
        Self {
            method,
            url,
            headers,
            body: None,
        }
    }

    /// Adds a header; a value that cannot stand in one is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(mut value) = HeaderValue::try_from(value) {
            value.set_sensitive(name == AUTHORIZATION);
            self.headers.insert(name, value);
        }
        self
    }

    /// Adds a body of `length` bytes, which the thread that sends the request reads. Such a request
    /// follows no redirects: its body can be sent once. With `Expect`, a server that refuses it
    /// soon gets none of it.
    #[must_use]
    pub fn body(mut self, bytes: impl Read + 'a, length: u64) -> Self {
        self.body = Some((Box::new(bytes), length));
        self.header(CONTENT_LENGTH, &length.to_string())
    }
}

/// The answer of a server, of any status.
#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Who answered, after redirects.
    pub url: Url,
    /// The bytes.
    pub body: Body,
}

impl Response {
    /// A header's value, when it is there and readable.
    #[must_use]
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The answer, when its status is one of success (200 to 299).
    ///
    /// # Errors
    /// The status is another.
    pub fn success(self) -> Result<Self, HttpError> {
        match self.failure() {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    /// What its status says went wrong; `None` when it is one of success.
    #[must_use]
    pub fn failure(&self) -> Option<HttpError> {
        let asked = self.header(RETRY_AFTER);
        let now = SystemTime::now();
        (!self.status.is_success()).then(|| HttpError::Status {
            retry_after: asked.and_then(|asked| super::retry::retry_after(asked, now)),
            status: self.status.as_u16(),
            url: self.url.clone(),
        })
    }
}

impl Client {
    /// A client whose waiting ends when the user gives up.
    #[must_use]
    pub fn new(settings: Settings, interrupt: Interrupt) -> Self {
        Self(Arc::new(Inner {
            settings,
            interrupt,
            clients: Mutex::default(),
            quickest: AtomicU64::new(u64::MAX),
        }))
    }

    /// Sends a request and waits for the head of the answer. Redirects are followed, up to 10,
    /// unless the request has a body: not from https to http, and what names the user goes to no
    /// other server.
    ///
    /// # Errors
    /// There is no answer. A status of failure is an answer; see [`Response::success`].
    pub fn send(&self, mut request: Request<'_>) -> Result<Response, HttpError> {
        let with_body = request.body.is_some();
        let mut steps = 0;
        loop {
            let response = self.traced(&mut request)?;
            let location = response.header(LOCATION);
            let redirects = matches!(response.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(location) = location.filter(|_| redirects && !with_body) else {
                return Ok(response);
            };
            // Queries of redirects are often what allows to read.
            let refused = |why: String| HttpError::Redirect {
                url: request.url.without_query(),
                why,
            };
            let to = request.url.join(location);
            let to = to.map_err(|error| refused(format!("to nowhere: {error}")))?;
            steps += 1;
            let shown = to.without_query();
            if steps > REDIRECTS {
                return Err(refused(format!(
                    "to {shown}: more than {REDIRECTS} redirects are not followed"
                )));
            }
            if request.url.scheme() == Scheme::Https && to.scheme() == Scheme::Http {
                return Err(refused(format!("to {shown}, which is not secure")));
            }
            if !to.same_server(&request.url) {
                request.headers.remove(AUTHORIZATION);
                request.headers.remove(COOKIE);
            }
            request.url = to;
        }
    }

    /// One request and the head of its answer, in a span that names neither user nor query.
    fn traced(&self, request: &mut Request<'_>) -> Result<Response, HttpError> {
        let span = debug_span!(
            "request",
            method = %request.method,
            url = %request.url.without_user().without_query(),
            status = field::Empty,
            error = field::Empty,
        );
        let result = span.in_scope(|| self.exchange(request));
        match &result {
            Ok(response) => span.record("status", response.status.as_u16()),
            Err(error) => span.record("error", field::display(error)),
        };
        result
    }

    /// One request and the head of its answer.
    fn exchange(&self, request: &mut Request<'_>) -> Result<Response, HttpError> {
        let Inner {
            settings,
            interrupt,
            ..
        } = &*self.0;
        let url = request.url.clone();
        let proxy = settings.proxies.proxy(&url).map(str::to_owned);
        let client = self.client(&url, proxy.as_deref())?;
        let asked = Asked {
            url,
            proxy,
            waits: Waits {
                connect: settings.connect,
                stalled: settings.stalled,
            },
        };
        let mut message = client
            .request(request.method.clone(), asked.url.without_user().as_str())
            .headers(request.headers.clone());
        let mut source = request.body.take();
        let without_body = source.is_none();
        let mut to = None;
        if let Some((_, length)) = &source {
            let (sender, parts) = channel(AHEAD);
            to = Some(sender);
            let left = *length;
            message = message.body(reqwest::Body::wrap(Upload { parts, left }));
        }
        // It goes on while its body is read here, and ends when this is dropped.
        let asked_at = Instant::now();
        let mut answer = JoinSet::new();
        answer.spawn_on(message.send(), runtime::handle()?);
        let mut early = None;
        if let (Some((source, length)), Some(to)) = (&mut source, to) {
            if request.headers.contains_key(EXPECT) {
                early = runtime::wait(interrupt, self.held_back(), answer.join_next())?;
            }
            if early.is_none() {
                early = self.feed(source, *length, &to, &mut answer, &asked)?;
            }
        }
        // Silence is noticed first, unless little patience was asked for.
        let hurried = settings.least_speed > 0 && settings.window < settings.stalled;
        let answered = match early {
            Some(answered) => Some(answered),
            None if hurried => runtime::wait(interrupt, settings.window, answer.join_next())?,
            None => runtime::wait(interrupt, settings.stalled, answer.join_next())?,
        };
        let answer = match answered {
            Some(Some(Ok(answer))) => answer.map_err(|error| asked.failed(&error))?,
            Some(_) => return Err(asked.other("the work on the connection ended")),
            None if hurried => {
                return Err(HttpError::SlowHead {
                    host: asked.url.host().to_owned(),
                    limit: settings.window,
                });
            }
            None => return Err(asked.stalled()),
        };
        if without_body {
            let micros = u64::try_from(asked_at.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.0.quickest.fetch_min(micros, Ordering::Relaxed);
        }
        let speed = Speed::new(settings.least_speed, settings.window);
        Ok(Response {
            status: answer.status(),
            headers: answer.headers().clone(),
            url: asked.url.clone(),
            body: Body::new(answer, asked, interrupt.clone(), speed),
        })
    }

    /// How long to wait for a refusal before a body is sent: a few times as long as the quickest
    /// answer took.
    fn held_back(&self) -> Duration {
        let (least, times) = HELD_BACK_LEAST;
        let quickest = Duration::from_micros(self.0.quickest.load(Ordering::Relaxed));
        quickest.saturating_mul(times).clamp(least, HELD_BACK)
    }

    /// Reads the body of a request and hands it to the connection; the answer, when it comes before
    /// the end. Time in which the source is read is none in which the server is slow.
    fn feed(
        &self,
        source: &mut dyn Read,
        mut left: u64,
        to: &Sender<Bytes>,
        answer: &mut JoinSet<Answer>,
        asked: &Asked,
    ) -> Result<Option<Joined>, HttpError> {
        let settings = &self.0.settings;
        let mut speed = Speed::new(settings.least_speed, settings.window);
        while left > 0 {
            let most = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
            let mut bytes = vec![0; most];
            let count = match source.read(&mut bytes) {
                Ok(0) => return Err(asked.other("what is sent ended early")),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(asked.other(error.to_string())),
            };
            bytes.truncate(count);
            left -= count as u64;
            let silent = Instant::now();
            loop {
                let begun = Instant::now();
                let look = settings.stalled.min(settings.window);
                let room = runtime::wait(&self.0.interrupt, look, async {
                    tokio::select! {
                        biased;
                        answer = answer.join_next() => Err(answer),
                        room = to.reserve() => Ok(room),
                    }
                })?;
                let taken = match room {
                    Some(Err(early)) => return Ok(Some(early)),
                    // Where nobody takes it, the answer says why.
                    Some(Ok(Err(_))) => return Ok(None),
                    Some(Ok(Ok(room))) => {
                        room.send(std::mem::take(&mut bytes).into());
                        count as u64
                    }
                    None => 0,
                };
                if speed.too_slow(begun.elapsed(), taken) {
                    return Err(asked.slow(&speed));
                }
                if taken > 0 {
                    break;
                }
                if silent.elapsed() >= settings.stalled {
                    return Err(asked.stalled());
                }
            }
        }
        Ok(None)
    }

    fn client(&self, url: &Url, proxy: Option<&str>) -> Result<reqwest::Client, HttpError> {
        let secure_proxy = proxy.is_some_and(|proxy| proxy.starts_with("https:"));
        let secure = url.scheme() == Scheme::Https || secure_proxy;
        let settings = &self.0.settings;
        let unverified = settings.unverified.as_deref() == Some(url.host());
        let key = (secure, unverified, proxy.map(str::to_owned));
        let clients = self.0.clients.lock();
        let mut clients = clients.unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let mut client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(USER_AGENT)
            .connect_timeout(settings.connect)
            .pool_idle_timeout(KEPT_FOR)
            .pool_max_idle_per_host(KEPT_CONNECTIONS)
            .http2_initial_stream_window_size(WINDOW)
            .http2_initial_connection_window_size(WINDOW * KEPT_CONNECTIONS as u32)
            .no_proxy();
        if let Some(proxy) = proxy {
            client = client.proxy(parsed_proxy(proxy)?);
        }
        // Fails where the process has one. The library wants one also where there is no TLS.
        let _ = rustls::crypto::ring::default_provider().install_default();
        client = match secure {
            true => tls::with_authorities(client, &settings.certificate_authorities, !unverified)?,
            false => client.tls_certs_only([]),
        };
        let client = client.build().map_err(|error| HttpError::Tls {
            host: url.host().to_owned(),
            message: innermost(&error),
        })?;
        clients.insert(key, client.clone());
        Ok(client)
    }
}

fn parsed_proxy(proxy: &str) -> Result<reqwest::Proxy, HttpError> {
    let scheme = proxy.split_once("://").map_or("http", |(scheme, _)| scheme);
    let known = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"].contains(&scheme);
    let parsed = reqwest::Proxy::all(proxy).ok().filter(|_| known);
    parsed.ok_or_else(|| HttpError::Proxy {
        proxy: shown_proxy(proxy),
        message: "this is not the URL of a proxy, such as http://host:3128".to_owned(),
    })
}
