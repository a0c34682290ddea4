//! One registry: its address, its connections, and requests that are tried again.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::auth::{Auth, Identity};
use super::call::{Call, CallError, Target, drain, of_http, what_of};
use super::certificates;
use crate::event::{Event, Sink};
use crate::host::Interrupt;
use crate::http::{
    self, Client, HttpError, Method, Proxies, Request, Response, RetryPolicy, Scheme, Settings,
    StatusCode, Url, header,
};
use crate::registry::{RegistriesOptions, RegistryError};

/// What Docker Hub's registry is.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");
/// Of bodies of so many bytes, the first one and each longer one is held back for a moment: a
/// registry that refuses it can say so before its bytes come.
const EXPECTING: u64 = 1 << 20;
/// How long a server is waited for when the user gave up and something is still to be cleaned up.
const FAREWELL: Duration = Duration::from_secs(2);

/// One registry. Threads share it.
pub(in crate::registry) struct Host {
    /// As references have it.
    name: String,
    /// Where it is.
    address: String,
    client: Client,
    settings: Settings,
    farewell: OnceLock<Client>,
    scheme: OnceLock<Scheme>,
    auth: Auth,
    retry: RetryPolicy,
    sink: Arc<dyn Sink>,
    interrupt: Interrupt,
    /// Blobs of so many bytes are refused in one piece.
    refused_whole: AtomicU64,
    /// The longest body that was taken.
    taken: AtomicU64,
    /// It refuses to be asked whether it takes a body.
    expects_nothing: AtomicBool,
}

impl Host {
    pub(in crate::registry) fn new(
        name: &str,
        options: &RegistriesOptions,
        sink: Arc<dyn Sink>,
        interrupt: Interrupt,
    ) -> Self {
        let address = match name {
            name if name == DOCKER_HUB.0 => DOCKER_HUB.1,
            name => name,
        };
        let configured = options.config.registries.get(name).cloned();
        let configured = configured.unwrap_or_default();
        let host: Option<Url> = format!("https://{address}/").parse().ok();
        let bare = host.as_ref().map(|url| url.host().to_owned());
        let loopback = bare.as_deref().is_some_and(is_loopback);
        let mut settings = options.settings.clone();
        let authorities = &mut settings.certificate_authorities;
        authorities.extend(options.config.certificate_authorities.iter().cloned());
        authorities.extend(configured.authority);
        authorities.extend(certificates::of(address));
        if loopback {
            settings.proxies = Proxies::default();
        }
        if options.access.insecure || configured.insecure {
            settings.unverified.clone_from(&bare);
            sink.emit(Event::Warning {
                message: format!("{name} is not asked to prove who it is"),
            });
        }
        let scheme = OnceLock::new();
        if options.access.plain_http || configured.plain_http {
            // It was empty.
            let _ = scheme.set(Scheme::Http);
        } else if !loopback {
            let _ = scheme.set(Scheme::Https);
        }
        Self {
            name: name.to_owned(),
            address: address.to_owned(),
            client: Client::new(settings.clone(), interrupt.clone()),
            settings,
            farewell: OnceLock::new(),
            scheme,
            auth: Auth::default(),
            retry: options.retry,
            sink,
            interrupt,
            refused_whole: AtomicU64::new(u64::MAX),
            taken: AtomicU64::new(0),
            expects_nothing: AtomicBool::new(false),
        }
    }

    /// As references have it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    pub(super) const fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    pub(super) const fn retry_policy(&self) -> RetryPolicy {
        self.retry
    }

    /// Its root. A registry on this host is tried with TLS first, and without when it has none.
    pub(super) fn base(&self) -> Result<Url, CallError> {
        if let Some(scheme) = self.scheme.get() {
            return self.root(*scheme);
        }
        let found = self.probe()?;
        self.root(*self.scheme.get_or_init(|| found))
    }

    fn probe(&self) -> Result<Scheme, CallError> {
        let ask = |scheme| -> Result<(), CallError> {
            let url = self
                .root(scheme)?
                .join("/v2/")
                .map_err(|_| self.unusable())?;
            let response = self.client.send(Request::new(Method::GET, url))?;
            drain(response);
            Ok(())
        };
        match ask(Scheme::Https) {
            Ok(()) => Ok(Scheme::Https),
            Err(CallError::Http(error)) if error.may_lack_tls() => {
                ask(Scheme::Http).map(|()| Scheme::Http)
            }
            Err(error) => Err(error),
        }
    }

    fn root(&self, scheme: Scheme) -> Result<Url, CallError> {
        let scheme = match scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let url = format!("{scheme}://{}/", self.address).parse();
        url.map_err(|_| self.unusable().into())
    }

    fn unusable(&self) -> RegistryError {
        RegistryError::Invalid {
            place: self.name.clone(),
            what: "its name".to_owned(),
            reason: "makes no URL".to_owned(),
        }
    }

    /// Does `work` until it succeeds or fails for good; waits are told.
    pub(super) fn retry<T>(
        &self,
        place: &str,
        mut work: impl FnMut() -> Result<T, CallError>,
    ) -> Result<T, RegistryError> {
        let told = |error: &HttpError, pause: Duration| self.told(error, pause);
        let done = http::retry(self.retry, &self.interrupt, &told, || match work() {
            Ok(done) => Ok(Ok(done)),
            Err(CallError::Final(error)) => Ok(Err(error)),
            Err(CallError::Http(error)) => Err(error),
        });
        done.unwrap_or_else(|error| Err(of_http(place, error)))
    }

    /// Tells that there will be another try.
    pub(super) fn told(&self, error: &HttpError, pause: Duration) {
        self.sink.emit(Event::RegistryRetrying {
            registry: self.name.clone(),
            error: error.to_string(),
            seconds: pause.as_secs_f64(),
        });
    }

    /// The answer to a request, which is tried again as long as that may help. It is no refusal of
    /// access.
    pub(super) fn call(
        &self,
        call: &Call<'_>,
        identity: &Identity,
        place: &str,
    ) -> Result<Response, RegistryError> {
        self.retry(place, || self.once(call, identity))
    }

    /// The same without other tries, but with the credentials that the registry asks for.
    pub(super) fn once(&self, call: &Call<'_>, identity: &Identity) -> Result<Response, CallError> {
        let base = self.base()?;
        let mut url = match call.target {
            Target::Path(path) => base
                .join(&format!("/v2/{path}"))
                .map_err(|_| self.unusable())?,
            Target::Url(url) => url.clone(),
        };
        let (mut renewed, mut moved) = (false, 0);
        loop {
            let own = url.same_server(&base);
            let authorization = match own {
                true => self.auth.authorization(self, call.scopes, identity)?,
                false => None,
            };
            let response = self.transmit(call, &url, authorization.as_deref())?;
            let status = response.status;
            if matches!(
                status,
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
            ) && moved < 5
                && let Some(to) = response.header(header::LOCATION)
            {
                url = self.place_of(&response.url, to)?;
                moved += 1;
                drain(response);
                continue;
            }
            let asks = status == StatusCode::UNAUTHORIZED && response.url.same_server(&base);
            if asks && !renewed && self.auth.learn(&response, authorization.as_deref()) {
                renewed = true;
                drain(response);
                continue;
            }
            if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                return Err(RegistryError::Denied {
                    registry: self.name.clone(),
                    what: what_of(call),
                    message: identity.said(response),
                    known: identity.known(),
                }
                .into());
            }
            return match response.failure().filter(HttpError::is_transient) {
                Some(error) => Err(error.into()),
                None => Ok(response),
            };
        }
    }

    fn transmit(
        &self,
        call: &Call<'_>,
        url: &Url,
        authorization: Option<&str>,
    ) -> Result<Response, CallError> {
        let mut request = Request::new(call.method.clone(), url.without_user());
        for (name, value) in &call.headers {
            request = request.header(name.clone(), value);
        }
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let Some(sending) = call.body else {
            if matches!(call.method, Method::POST | Method::PUT | Method::PATCH) {
                request = request.body(io::empty(), 0);
            }
            return Ok(self.client.send(request)?);
        };
        let mut feed = sending.start().map_err(RegistryError::Source)?;
        let asks_first = sending.length >= EXPECTING
            && sending.length > self.taken.load(Ordering::Relaxed)
            && !self.expects_nothing.load(Ordering::Relaxed);
        if asks_first {
            request = request.header(header::EXPECT, "100-continue");
        }
        let answer = self.client.send(request.body(&mut feed, sending.length));
        if let (Err(_), Some(error)) = (&answer, feed.failure.take()) {
            return Err(RegistryError::Source(error).into());
        }
        let answer = answer?;
        if answer.status == StatusCode::EXPECTATION_FAILED && asks_first {
            // The server or a proxy before it does not know the question (RFC 9110, section
            // 10.1.1).
            self.expects_nothing.store(true, Ordering::Relaxed);
            return self.transmit(call, url, authorization);
        }
        if answer.status.is_success() {
            self.taken.fetch_max(sending.length, Ordering::Relaxed);
        }
        Ok(answer)
    }

    /// The URL that a `Location` means. What a registry behind a proxy that adds TLS says of itself
    /// may lack the `s`; anything else that is not secure is refused when the registry is.
    pub(super) fn place_of(&self, asked: &Url, location: &str) -> Result<Url, CallError> {
        let wrong = |reason: String| RegistryError::Invalid {
            place: self.name.clone(),
            what: "the place that it refers to".to_owned(),
            reason,
        };
        let url = asked
            .join(location)
            .map_err(|error| wrong(format!("is wrong: {error}")))?;
        let base = self.base()?;
        if base.scheme() == Scheme::Https && url.scheme() == Scheme::Http {
            if url.host() != base.host() {
                return Err(wrong(format!("is not secure: {}", url.without_query())).into());
            }
            return Ok(url.at_server(&base));
        }
        Ok(url)
    }

    /// Gives up what is under way at `url`: tried once, also when the user gave up.
    pub(super) fn cancel(&self, url: &Url, scopes: &[String], identity: &Identity) {
        let Ok(interrupt) = Interrupt::new() else {
            return;
        };
        let settings = Settings {
            connect: FAREWELL,
            stalled: FAREWELL,
            ..self.settings.clone()
        };
        let client = self
            .farewell
            .get_or_init(|| Client::new(settings, interrupt));
        let mut request = Request::new(Method::DELETE, url.without_user());
        let own = self.base().is_ok_and(|base| url.same_server(&base));
        if own && let Ok(Some(said)) = self.auth.authorization(self, scopes, identity) {
            request = request.header(header::AUTHORIZATION, &said);
        }
        // The registry drops it some day by itself.
        if let Ok(response) = client.send(request) {
            drain(response);
        }
    }

    /// Blobs of `size` bytes are not taken in one piece.
    pub(super) fn refuses_whole(&self, size: u64) -> bool {
        size >= self.refused_whole.load(Ordering::Relaxed)
    }

    /// Remembers that one was not.
    pub(super) fn learn_refusal(&self, size: u64) {
        self.refused_whole.fetch_min(size, Ordering::Relaxed);
    }
}

/// Whether a host is this one.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
