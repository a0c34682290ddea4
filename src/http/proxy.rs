//! Which proxy a URL is fetched through: the variables that curl and others obey.
//!
//! The HTTP library takes the first variable that it finds, whatever the URL, so the choice is made
//! here.

use std::net::IpAddr;

use super::url::{Scheme, Url};

/// The proxies that were set, as URLs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<String>,
    https: Option<String>,
    /// The words of `no_proxy`.
    none: Vec<String>,
}

impl Proxies {
    /// From the environment: `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in small
    /// letters or else in capitals.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// From variables that `value` gives.
    #[must_use]
    pub fn from_variables(value: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| {
            [name.to_owned(), name.to_uppercase()]
                .iter()
                .find_map(|name| value(name).filter(|value| !value.trim().is_empty()))
                .map(|value| value.trim().to_owned())
        };
        let all = variable("all_proxy");
        let none = variable("no_proxy").unwrap_or_default();
        Self {
            http: variable("http_proxy").or_else(|| all.clone()),
            https: variable("https_proxy").or(all),
            none: none
                .split(|c: char| c == ',' || c.is_whitespace())
                .filter(|word| !word.is_empty())
                .map(str::to_ascii_lowercase)
                .collect(),
        }
    }

    /// The proxy for a URL; `None` when the server is asked directly.
    #[must_use]
    pub fn proxy(&self, url: &Url) -> Option<&str> {
        let proxy = match url.scheme() {
            Scheme::Http => self.http.as_deref(),
            Scheme::Https => self.https.as_deref(),
        }?;
        let excepted = self.none.iter().any(|word| covers(word, url));
        (!excepted).then_some(proxy)
    }
}

/// Whether a word of `no_proxy` means a URL's host: `*`, a domain with all that is below it, an
/// address or a range of addresses; each but the last with a port if wanted.
fn covers(word: &str, url: &Url) -> bool {
    let host = url.host();
    if word == "*" {
        return true;
    }
    if let Some((network, length)) = word.split_once('/') {
        return in_network(host, network, length).unwrap_or(false);
    }
    let bare = word
        .trim_start_matches('[')
        .replace("]:", " ")
        .replace(']', "");
    let (name, port) = match bare.split_once(' ') {
        Some((name, port)) => (name, Some(port)),
        None if bare.matches(':').count() == 1 => bare
            .split_once(':')
            .map_or((&*bare, None), |(name, port)| (name, Some(port))),
        None => (&*bare, None),
    };
    if port.is_some_and(|port| port.parse() != Ok(url.port())) {
        return false;
    }
    let domain = name.trim_start_matches('*').trim_start_matches('.');
    let below = host.strip_suffix(domain);
    !domain.is_empty() && below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn in_network(host: &str, network: &str, length: &str) -> Option<bool> {
    let length: u32 = length.parse().ok()?;
    let (bits, network, host): (u32, u128, u128) = match (network.parse().ok()?, host.parse().ok()?)
    {
        (IpAddr::V4(network), IpAddr::V4(host)) => {
            (32, u32::from(network).into(), u32::from(host).into())
        }
        (IpAddr::V6(network), IpAddr::V6(host)) => (128, network.into(), host.into()),
        _ => return None,
    };
    let rest = bits.checked_sub(length)?;
    let start = |address: u128| address.checked_shr(rest).unwrap_or(0);
    Some(start(network) == start(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::from_variables(|name| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn chosen(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.proxy(&url.parse().unwrap()).map(str::to_owned)
    }

    #[test]
    fn by_scheme_and_case() {
        let all = proxies(&[
            ("ALL_PROXY", "socks5://all"),
            ("http_proxy", "http://small"),
            ("HTTP_PROXY", "http://big"),
        ]);
        assert_eq!(chosen(&all, "http://a/").as_deref(), Some("http://small"));
        assert_eq!(chosen(&all, "https://a/").as_deref(), Some("socks5://all"));
        let capital = proxies(&[("HTTPS_PROXY", "http://big"), ("https_proxy", "")]);
        assert_eq!(
            chosen(&capital, "https://a/").as_deref(),
            Some("http://big")
        );
        assert_eq!(chosen(&capital, "http://a/"), None);
        assert_eq!(chosen(&Proxies::default(), "http://a/"), None);
    }

    #[test]
    fn exceptions() {
        let none = "localhost, .corp.example,example.org:8080 10.0.0.0/8,::1,fd00::/8,*.star";
        let some = proxies(&[("all_proxy", "http://p"), ("NO_PROXY", none)]);
        for direct in [
            "http://localhost/",
            "http://LOCALHOST:99/",
            "http://a.localhost/",
            "http://x.corp.example/",
            "http://corp.example/",
            "http://example.org:8080/",
            "http://www.example.org:8080/",
            "http://10.1.2.3/",
            "http://[::1]:5/",
            "http://[fd12::1]/",
            "http://a.star/",
        ] {
            assert_eq!(chosen(&some, direct), None, "{direct}");
        }
        for proxied in [
            "http://example.org/",
            "http://notlocalhost/",
            "http://11.1.2.3/",
            "http://mycorp.example/",
            "http://[::2]/",
        ] {
            assert!(chosen(&some, proxied).is_some(), "{proxied}");
        }
        let everything = proxies(&[("all_proxy", "http://p"), ("no_proxy", "*")]);
        assert_eq!(chosen(&everything, "http://a/"), None);
    }
}
