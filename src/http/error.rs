//! What can go wrong between here and a server.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;
use std::{io, iter};

use super::pace::Speed;
use super::url::Url;
use crate::failure::Kind;
use crate::limits;

/// How the standard library begins to say that a look-up failed: it has no kind of its own.
const LOOKUP_FAILED: &str = "failed to lookup address information";

/// What a server says, as far as TLS goes, that has none.
const NO_TLS: &str = "it does not speak TLS there";

/// A request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The server answered that it will not.
    #[error("{} answered {status}{}", .url.host(), reason(*.status))]
    Status {
        /// What was asked for last.
        url: Url,
        status: u16,
        /// How long the server asks to wait before the next try.
        retry_after: Option<Duration>,
    },
    /// Nothing came for too long.
    #[error("{host} sent nothing for {} s", .limit.as_secs_f64())]
    Stalled { host: String, limit: Duration },
    /// Bytes came or were taken, and too few for too long.
    #[error("{host} is too slow: less than {least} bytes in a second for {} s", .window.as_secs_f64())]
    Slow {
        host: String,
        /// The fewest bytes in a second.
        least: u64,
        /// Over what time.
        window: Duration,
    },
    /// Bytes of the head of an answer came, and not all of it in time.
    #[error("{host} sent no whole answer in {} s", .limit.as_secs_f64())]
    SlowHead { host: String, limit: Duration },
    /// No connection was made in time.
    #[error("{host} cannot be reached: no connection after {} s", .limit.as_secs_f64())]
    Unreachable {
        /// The server, or the proxy.
        host: String,
        limit: Duration,
    },
    /// The name has no address.
    #[error("the host name {host} cannot be resolved")]
    Dns {
        host: String,
        /// Whether nobody could say, rather than that there is none.
        temporary: bool,
    },
    /// The server is not who it should be, or does not speak TLS.
    #[error("no secure connection to {host}: {message}")]
    Tls { host: String, message: String },
    /// Nobody listens there.
    #[error("{host} refused the connection")]
    Refused { host: String },
    /// The connection ended before the answer did.
    #[error("the connection to {host} was cut")]
    Cut { host: String },
    /// A redirect that is not followed.
    #[error("{url} redirects {why}")]
    Redirect {
        /// What redirects.
        url: Url,
        /// Where to, and why not.
        why: String,
    },
    /// The proxy cannot be used.
    #[error("the proxy {proxy}: {message}")]
    Proxy {
        /// The proxy, without credentials.
        proxy: String,
        message: String,
    },
    /// A file of certificate authorities cannot be used.
    #[error("certificate authorities in {}: {message}", .path.display())]
    Authorities { path: PathBuf, message: String },
    /// The user gave up.
    #[error("interrupted")]
    Interrupted,
    #[error("{host}: {message}")]
    Other { host: String, message: String },
}

impl HttpError {
    /// Whether the same request may succeed a moment later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Status { status, .. } => {
                matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
            }
            Self::Stalled { .. }
            | Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::Cut { .. } => true,
            Self::Dns { temporary, .. } => *temporary,
            // What is slow on purpose would be waited for again and again.
            Self::Slow { .. }
            | Self::SlowHead { .. }
            | Self::Tls { .. }
            | Self::Redirect { .. }
            | Self::Proxy { .. }
            | Self::Authorities { .. }
            | Self::Interrupted
            | Self::Other { .. } => false,
        }
    }

    /// What callers do about it.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Unreachable { .. }
            | Self::Dns { .. }
            | Self::Tls { .. }
            | Self::Refused { .. }
            | Self::Proxy { .. }
            | Self::Authorities { .. } => Kind::Unavailable,
            Self::Interrupted => Kind::Interrupted,
            other if other.is_transient() => Kind::Transient,
            _ => Kind::Failed,
        }
    }

    /// Whether the server may be one without TLS: it answered, and not with TLS.
    #[must_use]
    pub fn may_lack_tls(&self) -> bool {
        match self {
            Self::Tls { message, .. } => message == NO_TLS,
            Self::Refused { .. } | Self::Cut { .. } => true,
            _ => false,
        }
    }

    /// What to do next, where more helps than another try.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Dns { .. } => Some("check the host name, and this host's network".to_owned()),
            Self::Refused { .. } => {
                Some("check the address and the port, and that the server runs".to_owned())
            }
            Self::Slow { .. } | Self::SlowHead { .. } => Some(format!(
                "if it is not faster, {}",
                limits::raise("least-speed", "0")
            )),
            _ => None,
        }
    }
}

/// How long a client waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    pub(super) connect: Duration,
    pub(super) stalled: Duration,
}

/// Who was asked, for what is told of failures.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) url: Url,
    pub(super) proxy: Option<String>,
    pub(super) waits: Waits,
}

impl Asked {
    fn host(&self) -> String {
        self.url.host().to_owned()
    }

    /// Whom connections are made to.
    fn peer(&self) -> String {
        let proxy = self.proxy.as_deref();
        proxy.map_or_else(
            || self.host(),
            |proxy| format!("the proxy {}", shown_proxy(proxy)),
        )
    }

    pub(super) fn stalled(&self) -> HttpError {
        HttpError::Stalled {
            host: self.host(),
            limit: self.waits.stalled,
        }
    }

    pub(super) fn slow(&self, speed: &Speed) -> HttpError {
        HttpError::Slow {
            host: self.host(),
            least: speed.least,
            window: speed.window,
        }
    }

    pub(super) fn other(&self, message: impl Into<String>) -> HttpError {
        HttpError::Other {
            host: self.host(),
            message: message.into(),
        }
    }

    /// What the HTTP library says, in our words. The causes below it say more than it does itself.
    pub(super) fn failed(&self, error: &reqwest::Error) -> HttpError {
        if error.is_timeout() {
            return HttpError::Unreachable {
                host: self.peer(),
                limit: self.waits.connect,
            };
        }
        if let Some(known) = causes(error).find_map(|cause| self.of_cause(cause)) {
            return known;
        }
        let said = innermost(error);
        match &self.proxy {
            Some(proxy) if error.is_connect() => HttpError::Proxy {
                proxy: shown_proxy(proxy),
                message: format!(
                    "it makes no connection to {}:{}: {said}",
                    self.host(),
                    self.url.port()
                ),
            },
            _ => self.other(said),
        }
    }

    fn of_cause(&self, cause: &(dyn Error + 'static)) -> Option<HttpError> {
        if let Some(error) = cause.downcast_ref::<rustls::Error>() {
            let (host, message) = (self.host(), tls_message(error));
            return Some(HttpError::Tls { host, message });
        }
        if let Some(error) = cause.downcast_ref::<hyper::Error>() {
            let cut = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
            return cut.then(|| HttpError::Cut { host: self.host() });
        }
        self.of_io(cause.downcast_ref()?)
    }

    fn of_io(&self, error: &io::Error) -> Option<HttpError> {
        use io::ErrorKind;
        let text = error.to_string();
        Some(match error.kind() {
            _ if text.starts_with(LOOKUP_FAILED) => HttpError::Dns {
                host: self
                    .proxy
                    .as_deref()
                    .map_or_else(|| self.host(), host_of_proxy),
                temporary: text.contains("Temporary failure"),
            },
            ErrorKind::ConnectionRefused => HttpError::Refused { host: self.peer() },
            ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected
            | ErrorKind::BrokenPipe => HttpError::Cut { host: self.host() },
            ErrorKind::TimedOut | ErrorKind::WouldBlock => self.stalled(),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => HttpError::Unreachable {
                host: self.peer(),
                limit: self.waits.connect,
            },
            // What it holds says more.
            _ if error.get_ref().is_some() => return None,
            _ => self.other(text),
        })
    }
}

/// An error and those below it.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    iter::successors(Some(error as &(dyn Error + 'static)), |&error| {
        // The source of such an error is the one of what it holds.
        match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(held) => Some(held),
            None => error.source(),
        }
    })
}

/// What the last of the errors below one says.
pub(super) fn innermost(error: &reqwest::Error) -> String {
    let last = causes(error).last();
    last.map(ToString::to_string).unwrap_or_default()
}

fn tls_message(error: &rustls::Error) -> String {
    use rustls::{CertificateError, Error};
    match error {
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "its certificate is from an authority that this host does not trust".to_owned(),
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired".to_owned(),
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another host name".to_owned(),
        Error::InvalidMessage(_) => NO_TLS.to_owned(),
        other => other.to_string(),
    }
}

/// A proxy's URL without its user and password.
pub(super) fn shown_proxy(proxy: &str) -> String {
    match proxy.rsplit_once('@') {
        Some((before, place)) => {
            let scheme = before.split_once("://").map(|(scheme, _)| scheme);
            scheme.map_or_else(|| place.to_owned(), |scheme| format!("{scheme}://{place}"))
        }
        None => proxy.to_owned(),
    }
}

fn host_of_proxy(proxy: &str) -> String {
    let shown = shown_proxy(proxy);
    let place = shown.split_once("://").map_or(&*shown, |(_, place)| place);
    let host = place.split(['/', ':']).next();
    host.unwrap_or_default().to_owned()
}

/// What the usual status codes say (RFC 9110, section 15), after a space.
fn reason(status: u16) -> String {
    let reason = reqwest::StatusCode::from_u16(status);
    let reason = reason.ok().and_then(|status| status.canonical_reason());
    reason.map_or_else(String::new, |text| format!(" ({text})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_host() {
        let url: Url = "http://me:secret@example.org/x".parse().unwrap();
        let status = HttpError::Status {
            url,
            status: 503,
            retry_after: None,
        };
        assert_eq!(
            status.to_string(),
            "example.org answered 503 (Service Unavailable)"
        );
        assert!(status.is_transient());
        let stalled = HttpError::Stalled {
            host: "a".into(),
            limit: Duration::from_millis(1500),
        };
        assert_eq!(stalled.to_string(), "a sent nothing for 1.5 s");
    }

    #[test]
    fn a_proxy_is_shown_without_its_password() {
        assert_eq!(shown_proxy("http://me:pw@proxy:3128"), "http://proxy:3128");
        assert_eq!(shown_proxy("me:pw@proxy"), "proxy");
        assert_eq!(shown_proxy("socks5://proxy"), "socks5://proxy");
        assert_eq!(host_of_proxy("http://me:pw@proxy:3128/"), "proxy");
    }
}
