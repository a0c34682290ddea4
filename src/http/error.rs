//! What can go wrong between here and a server.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::url::Url;
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
        /// The status code.
        status: u16,
        /// How long the server asks to wait before the next try.
        retry_after: Option<Duration>,
    },
    /// Nothing came for too long.
    #[error("{host} sent nothing for {} s", .limit.as_secs_f64())]
    Stalled {
        /// The server.
        host: String,
        /// The limit.
        limit: Duration,
    },
    /// Bytes came or were taken, and too few for too long.
    #[error("{host} is too slow: less than {least} bytes in a second for {} s", .window.as_secs_f64())]
    Slow {
        /// The server.
        host: String,
        /// The fewest bytes in a second.
        least: u64,
        /// Over what time.
        window: Duration,
    },
    /// Bytes of the head of an answer came, and not all of it in time.
    #[error("{host} sent no whole answer in {} s", .limit.as_secs_f64())]
    SlowHead {
        /// The server.
        host: String,
        /// The limit.
        limit: Duration,
    },
    /// No connection was made in time.
    #[error("{host} cannot be reached: no connection after {} s", .limit.as_secs_f64())]
    Unreachable {
        /// The server, or the proxy.
        host: String,
        /// The limit.
        limit: Duration,
    },
    /// The name has no address.
    #[error("the host name {host} cannot be resolved")]
    Dns {
        /// The name.
        host: String,
        /// Whether nobody could say, rather than that there is none.
        temporary: bool,
    },
    /// The server is not who it should be, or does not speak TLS.
    #[error("no secure connection to {host}: {message}")]
    Tls {
        /// The server.
        host: String,
        /// What is wrong.
        message: String,
    },
    /// Nobody listens there.
    #[error("{host} refused the connection")]
    Refused {
        /// The server.
        host: String,
    },
    /// The connection ended before the answer did.
    #[error("the connection to {host} was cut")]
    Cut {
        /// The server.
        host: String,
    },
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
        /// What is wrong.
        message: String,
    },
    /// A file of certificate authorities cannot be used.
    #[error("certificate authorities in {}: {message}", .path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The user gave up.
    #[error("interrupted")]
    Interrupted,
    /// Anything else.
    #[error("{host}: {message}")]
    Other {
        /// The server.
        host: String,
        /// What happened.
        message: String,
    },
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

    /// Whether the server may be one without TLS: it answered, and not with TLS.
    #[must_use]
    pub fn may_lack_tls(&self) -> bool {
        match self {
            Self::Tls { message, .. } => message == NO_TLS,
            Self::Refused { .. } | Self::Cut { .. } => true,
            _ => false,
        }
    }

    /// What to set where a server is slow for good reasons.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Slow { .. } | Self::SlowHead { .. } => Some(format!(
                "if it is not faster, {}",
                limits::raise("least-speed", "0")
            )),
            _ => None,
        }
    }

    /// What the HTTP library says, in our words.
    pub(super) fn from_library(
        error: ureq::Error,
        url: &Url,
        proxy: Option<&str>,
        limits: Waits,
    ) -> Self {
        use ureq::Timeout;
        let host = || url.host().to_owned();
        // Through a proxy it is the proxy that connections are made to, and whose name is looked up.
        let peer = || proxy.map_or_else(host, |proxy| format!("the proxy {}", shown_proxy(proxy)));
        let looked_up = || proxy.map_or_else(host, host_of_proxy);
        match error {
            ureq::Error::HostNotFound => Self::Dns {
                host: looked_up(),
                temporary: false,
            },
            ureq::Error::Io(error) if error.to_string().starts_with(LOOKUP_FAILED) => Self::Dns {
                host: looked_up(),
                temporary: error.to_string().contains("Temporary failure"),
            },
            ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => Self::Unreachable {
                host: peer(),
                limit: limits.connect,
            },
            ureq::Error::Timeout(Timeout::RecvResponse) => Self::SlowHead {
                host: host(),
                limit: limits.head,
            },
            ureq::Error::Timeout(_) => Self::Stalled {
                host: host(),
                limit: limits.stalled,
            },
            ureq::Error::Io(error) => Self::from_io(&error, host(), peer(), limits),
            ureq::Error::Rustls(error) => Self::Tls {
                host: host(),
                message: tls_message(&error),
            },
            ureq::Error::Tls(message) => Self::Tls {
                host: host(),
                message: message.to_owned(),
            },
            ureq::Error::ConnectProxyFailed(message) => Self::Proxy {
                proxy: proxy.map(shown_proxy).unwrap_or_default(),
                message: format!(
                    "it makes no connection to {}:{}: {message}",
                    host(),
                    url.port()
                ),
            },
            other => Self::Other {
                host: host(),
                message: other.to_string(),
            },
        }
    }

    fn from_io(error: &io::Error, host: String, peer: String, limits: Waits) -> Self {
        use io::ErrorKind;
        let inner = error.get_ref();
        if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            let message = tls_message(error);
            return Self::Tls { host, message };
        }
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused { host: peer },
            ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected
            | ErrorKind::BrokenPipe => Self::Cut { host },
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::Stalled {
                host,
                limit: limits.stalled,
            },
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Self::Unreachable {
                host: peer,
                limit: limits.connect,
            },
            _ => Self::Other {
                host,
                message: error.to_string(),
            },
        }
    }
}

/// How long a client waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    pub(super) connect: Duration,
    pub(super) stalled: Duration,
    pub(super) head: Duration,
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
    let reason = ureq::http::StatusCode::from_u16(status);
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
