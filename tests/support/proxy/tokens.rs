//! Tokens of the proxy: who gets them, for what, and for how long.

use base64ct::{Base64, Encoding};
use vmfab::http::unescape;

use super::{Seen, State};

/// How tokens are given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tokens {
    /// Who gets some, and anybody when nobody is named.
    pub(crate) user: Option<(&'static str, &'static str)>,
    /// What gets some by `POST`.
    pub(crate) identity: Option<&'static str>,
    /// How many requests a token is good for.
    pub(crate) uses: Option<usize>,
    /// What `expires_in` says.
    pub(crate) expires_in: Option<u64>,
    /// Where tokens are, instead of here.
    pub(crate) realm: Option<String>,
    /// Whether the field of the answer is `access_token`.
    pub(crate) access_token: bool,
}

/// A token that was given.
pub(super) struct Given {
    scopes: Vec<String>,
    left: usize,
}

impl State {
    /// What is answered to who has no token for a request.
    pub(super) fn refuse(
        &self,
        method: &str,
        path: &str,
        authorization: Option<&str>,
    ) -> Option<Vec<u8>> {
        let tokens = self.tokens.lock().unwrap().clone()?;
        let name = path
            .strip_prefix("/v2/")
            .and_then(|path| {
                ["/blobs/", "/manifests/", "/tags/"]
                    .iter()
                    .find_map(|end| path.split_once(end))
            })
            .map_or("", |(name, _)| name);
        let action = if ["GET", "HEAD"].contains(&method) {
            "pull"
        } else {
            "push"
        };
        let allowed = |given: &mut Given| {
            let fits = |scope: &String| {
                let (scope, actions) = scope.rsplit_once(':').unwrap();
                scope == format!("repository:{name}") && actions.split(',').any(|one| one == action)
            };
            let good = given.left > 0 && (name.is_empty() || given.scopes.iter().any(fits));
            given.left = given.left.saturating_sub(1);
            good
        };
        let token = authorization.and_then(|text| text.strip_prefix("Bearer "));
        let mut given = self.given.lock().unwrap();
        if token
            .and_then(|token| given.get_mut(token))
            .is_some_and(allowed)
        {
            return None;
        }
        let realm = tokens
            .realm
            .unwrap_or_else(|| format!("http://{}/token", self.address));
        Some(
            format!(
                "HTTP/1.1 401 X\r\nwww-authenticate: Bearer realm=\"{realm}\",service=\"test\",\
                 scope=\"repository:{name}:{action}\"\r\ncontent-length: 0\r\n\r\n"
            )
            .into_bytes(),
        )
    }

    pub(super) fn give_token(&self, seen: &Seen) -> Vec<u8> {
        let empty =
            |status: u16| format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").into_bytes();
        let Some(tokens) = self.tokens.lock().unwrap().clone() else {
            return empty(404);
        };
        let query = match seen.method.as_str() {
            "POST" => seen.form.clone(),
            _ => seen
                .path
                .split_once('?')
                .map_or(String::new(), |(_, query)| query.to_owned()),
        };
        let parameters: Vec<(String, String)> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), unescape(value)))
            .collect();
        let value = |name: &str| {
            let found = parameters.iter().find(|(other, _)| other == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        let good = match seen.method.as_str() {
            "POST" => {
                tokens.identity == Some(value("refresh_token"))
                    && value("grant_type") == "refresh_token"
            }
            _ => tokens.user.is_none_or(|(user, password)| {
                let word = Base64::encode_string(format!("{user}:{password}").as_bytes());
                seen.header("authorization") == format!("Basic {word}")
            }),
        };
        if !good || value("service") != "test" {
            return empty(401);
        }
        let scopes = parameters.iter().filter(|(name, _)| name == "scope");
        let scopes = scopes
            .flat_map(|(_, value)| value.split(' ').map(str::to_owned))
            .collect();
        let mut given = self.given.lock().unwrap();
        let total = self.seen.lock().unwrap().len();
        let token = format!("secret-token-{total}");
        given.insert(
            token.clone(),
            Given {
                scopes,
                left: tokens.uses.unwrap_or(usize::MAX),
            },
        );
        let field = if tokens.access_token {
            "access_token"
        } else {
            "token"
        };
        let mut answer = serde_json::json!({ field: token });
        if let Some(seconds) = tokens.expires_in {
            answer["expires_in"] = seconds.into();
        }
        let answer = answer.to_string();
        format!(
            "HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        )
        .into_bytes()
    }
}
