//! Requests and answers.

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64ct::{Base64, Encoding};
use ureq::http::header::{AUTHORIZATION, COOKIE, LOCATION, RETRY_AFTER};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use ureq::{Agent, SendBody};

use super::body::{self, Body, Part};
use super::error::{HttpError, Waits, shown_proxy};
use super::pace::{Outgoing, Speed, Watch};
use super::proxy::Proxies;
use super::tls;
use super::url::{Scheme, Url};
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
    /// The fewest bytes in a second that a server may send or take, over all of `window`; 0 when any speed will do.
    pub least_speed: u64,
    /// Over what time its speed counts. The head of an answer must be there after as long.
    pub window: Duration,
    /// PEM files of certificate authorities, beside the system's.
    pub certificate_authorities: Vec<PathBuf>,
    /// The one host that need not prove who it is.
    pub unverified: Option<String>,
    /// The proxies.
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

/// Asks servers. Making one is cheap: nothing is read and no connection made before the first request.
/// Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    interrupt: Interrupt,
    agents: Mutex<HashMap<AgentKey, Agent>>,
}

/// What needs connections of its own: TLS or not, whether certificates are verified, and a proxy.
type AgentKey = (bool, bool, Option<String>);

/// Connections to one host that are kept for later requests: as many as threads use one registry at once.
const KEPT_CONNECTIONS: usize = 16;

/// What to ask a server for.
pub struct Request {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<(Bytes, u64)>,
}

impl Request {
    /// A request without a body. User name and password of the URL are sent.
    #[must_use]
    pub fn new(method: Method, url: Url) -> Self {
        let mut headers = HeaderMap::new();
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

    /// Adds a body of `length` bytes. Such a request follows no redirects: its body can be sent once.
    #[must_use]
    pub fn body(mut self, bytes: impl Read + Send + 'static, length: u64) -> Self {
        let name = ureq::http::header::CONTENT_LENGTH;
        self.body = Some((Box::new(bytes), length));
        self.header(name, &length.to_string())
    }
}

/// The answer of a server, of any status.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: StatusCode,
    /// The headers.
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
            agents: Mutex::default(),
        }))
    }

    /// Sends a request and waits for the head of the answer. Redirects are followed, up to 10, unless
    /// the request has a body: not from https to http, and what names the user goes to no other server.
    ///
    /// # Errors
    /// There is no answer. A status of failure is an answer; see [`Response::success`].
    pub fn send(&self, request: Request) -> Result<Response, HttpError> {
        self.send_watched(request, &mut || {})
    }

    /// The same; `glance` is called again and again while it waits, and at the end.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub fn send_watched(
        &self,
        mut request: Request,
        glance: &mut dyn FnMut(),
    ) -> Result<Response, HttpError> {
        let (least, window) = (self.0.settings.least_speed, self.0.settings.window);
        let mut watch = None;
        if let Some((bytes, length)) = request.body.take() {
            let (outgoing, looks) = Outgoing::new(bytes, length, Speed::new(least, window));
            request.body = Some((Box::new(outgoing), length));
            watch = Some(looks);
        }
        let (head_to, head_from) = sync_channel::<Result<(Head, Receiver<Part>), HttpError>>(1);
        let client = self.clone();
        let host = request.url.host().to_owned();
        let worker = move || match client.follow(request) {
            Err(error) => {
                // Nobody may be there to hear it.
                let _ = head_to.send(Err(error));
            }
            Ok((head, bytes)) => {
                let (parts_to, parts) = sync_channel(body::AHEAD);
                let (url, proxy) = (head.url.clone(), client.proxy(&head.url));
                if head_to.send(Ok((head, parts))).is_err() {
                    return;
                }
                let limits = client.waits();
                let failed = |error| {
                    let error = ureq::Error::from(error);
                    HttpError::from_library(error, &url, proxy.as_deref(), limits)
                };
                let speed = Speed::new(least, window);
                body::pump(bytes, &parts_to, speed, url.host(), failed);
            }
        };
        let thread = std::thread::Builder::new().name("http".into());
        thread.spawn(worker).map_err(|error| HttpError::Other {
            host: host.clone(),
            message: format!("no thread can be started: {error}"),
        })?;
        let interrupt = &self.0.interrupt;
        let mut slow = false;
        let head = body::receive(&head_from, interrupt, &mut || {
            glance();
            slow = watch.as_mut().is_some_and(Watch::too_slow);
            !slow
        });
        glance();
        let (head, parts) = match head {
            Some(head) => head?,
            None if interrupt.requested() => return Err(HttpError::Interrupted),
            None if slow => {
                return Err(HttpError::Slow {
                    host,
                    least,
                    window,
                });
            }
            None => {
                let message = "the thread of the connection ended".to_owned();
                return Err(HttpError::Other { host, message });
            }
        };
        let host = head.url.host().to_owned();
        Ok(Response {
            status: head.status,
            headers: head.headers,
            url: head.url,
            body: Body::new(parts, &host, interrupt.clone()),
        })
    }

    fn proxy(&self, url: &Url) -> Option<String> {
        self.0.settings.proxies.proxy(url).map(str::to_owned)
    }

    fn waits(&self) -> Waits {
        let settings = &self.0.settings;
        Waits {
            connect: settings.connect,
            stalled: settings.stalled,
            head: settings.window,
        }
    }

    /// Sends a request, and those that its answers redirect to.
    fn follow(&self, mut request: Request) -> Result<(Head, Bytes), HttpError> {
        let with_body = request.body.is_some();
        let mut steps = 0;
        loop {
            let (head, bytes) = self.exchange(&mut request)?;
            let location = head.headers.get(LOCATION).and_then(|to| to.to_str().ok());
            let redirects = matches!(head.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(location) = location.filter(|_| redirects && !with_body) else {
                return Ok((head, bytes));
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

    /// One request and the head of its answer.
    fn exchange(&self, request: &mut Request) -> Result<(Head, Bytes), HttpError> {
        let url = request.url.clone();
        let proxy = self.proxy(&url);
        let agent = self.agent(&url, proxy.as_deref())?;
        let mut builder = ureq::http::Request::builder()
            .method(request.method.clone())
            .uri(url.to_string());
        if let Some(headers) = builder.headers_mut() {
            headers.clone_from(&request.headers);
        }
        let body = request.body.take();
        let body = body.map_or_else(SendBody::none, |(bytes, _)| {
            SendBody::from_owned_reader(bytes)
        });
        let limits = self.waits();
        let failed = |error| HttpError::from_library(error, &url, proxy.as_deref(), limits);
        let message = builder.body(body).map_err(|error| failed(error.into()))?;
        let (parts, body) = agent.run(message).map_err(failed)?.into_parts();
        let head = Head {
            status: parts.status,
            headers: parts.headers,
            url: url.clone(),
        };
        Ok((head, Box::new(body.into_reader())))
    }

    fn agent(&self, url: &Url, proxy: Option<&str>) -> Result<Agent, HttpError> {
        let secure_proxy = proxy.is_some_and(|proxy| proxy.starts_with("https:"));
        let secure = url.scheme() == Scheme::Https || secure_proxy;
        let settings = &self.0.settings;
        let unverified = settings.unverified.as_deref() == Some(url.host());
        let key = (secure, unverified, proxy.map(str::to_owned));
        let agents = self.0.agents.lock();
        let mut agents = agents.unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(USER_AGENT)
            // What is verified and continued is the file itself, not a compressed form of it.
            .accept_encoding("identity")
            .max_idle_connections(4 * KEPT_CONNECTIONS)
            .max_idle_connections_per_host(KEPT_CONNECTIONS)
            .timeout_resolve(Some(settings.connect))
            .timeout_connect(Some(settings.connect))
            .timeout_per_read(Some(settings.stalled))
            .timeout_per_write(Some(settings.stalled))
            .timeout_recv_response((settings.least_speed > 0).then_some(settings.window))
            .proxy(None);
        if let Some(proxy) = proxy {
            let wrong = |_| HttpError::Proxy {
                proxy: shown_proxy(proxy),
                message: "this is not the URL of a proxy, such as http://host:3128".to_owned(),
            };
            config = config.proxy(Some(ureq::Proxy::new(proxy).map_err(wrong)?));
        }
        if secure {
            config =
                config.tls_config(tls::config(&settings.certificate_authorities, !unverified)?);
        }
        let agent = config.build().new_agent();
        agents.insert(key, agent.clone());
        Ok(agent)
    }
}

/// The head of an answer.
struct Head {
    status: StatusCode,
    headers: HeaderMap,
    url: Url,
}

/// The bytes of a body.
type Bytes = Box<dyn Read + Send>;
