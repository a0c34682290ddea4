//! Who asks: challenges of the registry, tokens and their renewal.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding};
use serde::Deserialize;
use serde_json::Value;

use super::call::{CallError, said};
use super::challenge::Challenge;
use super::host::{Host, is_loopback};
use crate::http::{Method, Request, Response, Scheme, Url, escape, header};
use crate::registry::RegistryError;
use crate::registry::credentials::{Credential, Credentials};

/// What a token server answers is not longer.
const LONGEST_ANSWER: u64 = 256 << 10;
/// How long a token is good when its server does not say (distribution specification).
const USUAL_LIFE: f64 = 60.0;
/// No token is used for longer, whatever its server says.
const LONGEST_LIFE: f64 = 86_400.0;
/// No token is used for the last part of its life that is left, up to so long: clocks and networks
/// differ.
const MARGIN: Duration = Duration::from_secs(10);
/// How this program is called where tokens are made.
const CLIENT: &str = "vmfab";

/// Whose credentials a repository is asked with. They are looked for when the registry wants to
/// know.
pub(super) struct Identity {
    registry: String,
    repository: String,
    credentials: Arc<Credentials>,
    found: Mutex<Option<Option<Arc<Credential>>>>,
    /// What was said of who asks: words made from passwords, and tokens.
    words: Mutex<Vec<String>>,
}

impl Identity {
    pub(super) fn new(registry: &str, repository: &str, credentials: Arc<Credentials>) -> Self {
        Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            credentials,
            found: Mutex::default(),
            words: Mutex::default(),
        }
    }

    /// This credential, whatever is saved.
    pub(super) fn given(
        registry: &str,
        credential: Credential,
        credentials: Arc<Credentials>,
    ) -> Self {
        let identity = Self::new(registry, "", credentials);
        *lock(&identity.found) = Some(Some(Arc::new(credential)));
        identity
    }

    fn credential(&self) -> Result<Option<Arc<Credential>>, RegistryError> {
        let mut found = lock(&self.found);
        if let Some(found) = &*found {
            return Ok(found.clone());
        }
        let known = self.credentials.find(&self.registry, &self.repository)?;
        let credential = known.map(|known| Arc::new(known.credential));
        *found = Some(credential.clone());
        Ok(credential)
    }

    /// Whether credentials were found when they were looked for.
    pub(super) fn known(&self) -> bool {
        matches!(&*lock(&self.found), Some(Some(_)))
    }

    /// What a server says about a refusal, without what must not be shown, should it be in it.
    pub(super) fn said(&self, response: Response) -> String {
        let found = lock(&self.found).clone().flatten();
        let secret = found.iter().map(|credential| credential.secret());
        let words = lock(&self.words);
        let all = secret.chain(words.iter().map(String::as_str));
        let secrets = all.filter(|secret| !secret.is_empty());
        said(response, |text| {
            secrets.fold(text, |text, secret| text.replace(secret, "…"))
        })
    }

    /// Remembers the header that is sent, without its scheme.
    fn tells(&self, header: &str) {
        let word = header.split_once(' ').map_or(header, |(_, word)| word);
        let mut words = lock(&self.words);
        if !words.iter().any(|known| known == word) {
            words.push(word.to_owned());
        }
    }
}

struct Token {
    header: String,
    ends: Instant,
}

/// What is known of how a registry wants to be asked.
#[derive(Default)]
pub(super) struct Auth {
    challenge: Mutex<Option<Challenge>>,
    /// By whom and for what.
    tokens: Mutex<HashMap<String, Token>>,
    /// Held while a token is fetched: one is enough for many threads.
    fetching: Mutex<()>,
}

/// What a token server answers. Each field may be of any kind: one that is not usable counts as one
/// that is not there, for there are servers that leave `token` empty, and such as write numbers as
/// strings.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Value,
    #[serde(default)]
    access_token: Value,
    #[serde(default)]
    expires_in: Value,
}

impl Answer {
    fn token(&self) -> Option<&str> {
        let usable =
            |token: &&str| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let fields = [&self.token, &self.access_token].into_iter();
        let mut tokens = fields.filter_map(Value::as_str).map(str::trim);
        tokens.find(usable)
    }

    /// How long the token is good, in seconds.
    fn life(&self) -> Duration {
        let said = match &self.expires_in {
            Value::String(text) => text.trim().parse().ok(),
            number => number.as_f64(),
        };
        let said = said.filter(|seconds: &f64| *seconds >= 0.0);
        Duration::from_secs_f64(said.unwrap_or(USUAL_LIFE).min(LONGEST_LIFE))
    }
}

impl Auth {
    /// What to say of who asks; `None` when the registry did not want to know so far, or nobody is
    /// known.
    pub(super) fn authorization(
        &self,
        host: &Host,
        scopes: &[String],
        identity: &Identity,
    ) -> Result<Option<String>, CallError> {
        let header = self.header(host, scopes, identity)?;
        header.iter().for_each(|header| identity.tells(header));
        Ok(header)
    }

    fn header(
        &self,
        host: &Host,
        scopes: &[String],
        identity: &Identity,
    ) -> Result<Option<String>, CallError> {
        let challenge = lock(&self.challenge).clone();
        match challenge {
            None => Ok(None),
            Some(Challenge::Basic) => Ok(match identity.credential()?.as_deref() {
                Some(Credential::Password { user, password }) => Some(basic(user, password)),
                Some(Credential::Token(token)) => Some(format!("Bearer {token}")),
                Some(Credential::Identity(_)) | None => None,
            }),
            Some(Challenge::Bearer { realm, service }) => {
                let credential = identity.credential()?;
                if let Some(Credential::Token(token)) = credential.as_deref() {
                    return Ok(Some(format!("Bearer {token}")));
                }
                let key = format!("{} {}", identity.repository, scopes.join(" "));
                if let Some(header) = self.cached(&key) {
                    return Ok(Some(header));
                }
                let _fetching = lock(&self.fetching);
                if let Some(header) = self.cached(&key) {
                    return Ok(Some(header));
                }
                let request = TokenRequest {
                    host,
                    realm: &realm,
                    service: service.as_deref(),
                    scopes,
                    identity,
                };
                let token = request.fetch(credential.as_deref())?;
                let header = token.header.clone();
                lock(&self.tokens).insert(key, token);
                Ok(Some(header))
            }
        }
    }

    /// Learns from a refusal of what was `said`; whether another try may end otherwise.
    pub(super) fn learn(&self, response: &Response, said: Option<&str>) -> bool {
        let values = response.headers.get_all(header::WWW_AUTHENTICATE);
        let values = values.iter().filter_map(|value| value.to_str().ok());
        let Some(new) = Challenge::of(values) else {
            return false;
        };
        let old = lock(&self.challenge).replace(new.clone());
        if let Some(said) = said {
            lock(&self.tokens).retain(|_, token| token.header != said);
        }
        // A password, or a token that was made by somebody else, is no better the second time.
        let renewable = matches!(new, Challenge::Bearer { .. });
        said.is_none() || renewable || old.as_ref() != Some(&new)
    }

    fn cached(&self, key: &str) -> Option<String> {
        let tokens = lock(&self.tokens);
        let token = tokens.get(key)?;
        (Instant::now() < token.ends).then(|| token.header.clone())
    }
}

/// A token to be fetched.
struct TokenRequest<'a> {
    host: &'a Host,
    realm: &'a str,
    service: Option<&'a str>,
    scopes: &'a [String],
    identity: &'a Identity,
}

impl TokenRequest<'_> {
    fn fetch(&self, credential: Option<&Credential>) -> Result<Token, CallError> {
        let realm: Url = self
            .realm
            .parse()
            .map_err(|error| self.wrong("of its tokens", &format!("is wrong: {error}")))?;
        let secure = self.host.base()?.scheme() == Scheme::Https;
        if secure && realm.scheme() == Scheme::Http {
            let place = format!("{} of its tokens", realm.clone().without_user());
            return Err(self
                .wrong(&place, "is not secure, and the registry is")
                .into());
        }
        let own = self.host.base()?;
        let known = realm.host() == own.host() || is_loopback(realm.host());
        if realm.scheme() == Scheme::Http && !known {
            let place = format!("{} of its tokens", realm.without_user());
            return Err(self
                .wrong(&place, "is not secure, and another host than the registry")
                .into());
        }
        let response = match credential {
            Some(Credential::Identity(token)) => self.post(realm, token)?,
            other => self.get(realm, other)?,
        };
        self.read(response)
    }

    fn get(&self, realm: Url, credential: Option<&Credential>) -> Result<Response, CallError> {
        let mut url = realm;
        if let Some(service) = self.service {
            url = url.with_parameter("service", service);
        }
        for scope in self.scopes {
            url = url.with_parameter("scope", scope);
        }
        let mut request = Request::new(Method::GET, url.without_user());
        if let Some(Credential::Password { user, password }) = credential {
            let header = basic(user, password);
            self.identity.tells(&header);
            request = request.header(header::AUTHORIZATION, &header);
        }
        Ok(self.host.client().send(request)?)
    }

    /// As OAuth 2 has it (RFC 6749, section 6).
    fn post(&self, realm: Url, token: &str) -> Result<Response, CallError> {
        let mut form = format!(
            "grant_type=refresh_token&client_id={CLIENT}&refresh_token={}",
            escape(token)
        );
        if let Some(service) = self.service {
            form += &format!("&service={}", escape(service));
        }
        if !self.scopes.is_empty() {
            form += &format!("&scope={}", escape(&self.scopes.join(" ")));
        }
        let length = form.len() as u64;
        let request = Request::new(Method::POST, realm.without_user())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(std::io::Cursor::new(form), length);
        Ok(self.host.client().send(request)?)
    }

    fn read(&self, response: Response) -> Result<Token, CallError> {
        if let Some(error) = response
            .failure()
            .filter(crate::http::HttpError::is_transient)
        {
            return Err(error.into());
        }
        let status = response.status;
        if !status.is_success() {
            let message = self.identity.said(response);
            return Err(RegistryError::Denied {
                registry: self.host.name().to_owned(),
                what: self.what(),
                message,
                known: self.identity.known(),
            }
            .into());
        }
        let mut bytes = Vec::new();
        let mut body = response.body.take(LONGEST_ANSWER);
        let read = body.read_to_end(&mut bytes);
        read.map_err(CallError::of_reading)?;
        // What the server says may hold the token, so the cause is not told.
        let unusable = || self.wrong("of its tokens", "gave something that is no token");
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|_| unusable())?;
        let token = answer.token().ok_or_else(unusable)?;
        let life = answer.life();
        Ok(Token {
            header: format!("Bearer {token}"),
            ends: Instant::now() + life.saturating_sub(MARGIN.min(life / 4)),
        })
    }

    /// What is asked for, for people.
    fn what(&self) -> String {
        match self.scopes.first() {
            Some(scope) => scope
                .strip_prefix("repository:")
                .and_then(|scope| scope.rsplit_once(':'))
                .map_or_else(|| scope.clone(), |(name, _)| name.to_owned()),
            None => "it".to_owned(),
        }
    }

    fn wrong(&self, what: &str, reason: &str) -> RegistryError {
        RegistryError::Invalid {
            place: self.host.name().to_owned(),
            what: format!("the server {what}"),
            reason: reason.to_owned(),
        }
    }
}

/// `Basic …` (RFC 7617).
fn basic(user: &str, password: &str) -> String {
    let word = Base64::encode_string(format!("{user}:{password}").as_bytes());
    format!("Basic {word}")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_token_servers() {
        for (answer, token, seconds) in [
            (r#"{"token":"T"}"#, Some("T"), 60.0),
            (
                r#"{"token":"","access_token":"A","expires_in":300}"#,
                Some("A"),
                300.0,
            ),
            (
                r#"{"token":null,"access_token":"A","expires_in":"300"}"#,
                Some("A"),
                300.0,
            ),
            (
                r#"{"token":"T","access_token":"A","expires_in":299.5}"#,
                Some("T"),
                299.5,
            ),
            (
                r#"{"token":7,"access_token":"A","expires_in":-1}"#,
                Some("A"),
                60.0,
            ),
            (r#"{"token":"T\n","expires_in":0}"#, Some("T"), 0.0),
            (r#"{"token":"T","expires_in":1e300}"#, Some("T"), 86_400.0),
            (
                r#"{"token":"T","expires_in":99999999999999999999999}"#,
                Some("T"),
                86_400.0,
            ),
            (r#"{"token":"T","expires_in":"soon"}"#, Some("T"), 60.0),
            (r#"{"token":"T","expires_in":"nan"}"#, Some("T"), 60.0),
            (
                r#"{"token":"T","expires_in":[1],"more":{}}"#,
                Some("T"),
                60.0,
            ),
            (r#"{"token":"a b","access_token":""}"#, None, 60.0),
            ("{}", None, 60.0),
        ] {
            let read: Answer = serde_json::from_str(answer).unwrap();
            assert_eq!(read.token(), token, "{answer}");
            assert_eq!(read.life(), Duration::from_secs_f64(seconds), "{answer}");
        }
    }
}
