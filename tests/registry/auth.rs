//! Who asks: passwords, tokens, identity tokens, and what is never told.

use std::fs;
use std::path::Path;

use vmfab::registry::RegistryError;

use super::{User, blob, bytes, environment, put, read};
use crate::support::proxy::{Fault, Proxy, Tokens};
use crate::support::registry::{Registry, RegistryOptions};

const PASSWORD: &str = "p:ssw0rd-ä";

fn with_users() -> Registry {
    Registry::with(&RegistryOptions {
        users: vec![("anna", PASSWORD)],
        ..RegistryOptions::default()
    })
}

/// A user whose file of credentials is this.
fn with_file(directory: &Path, content: &str) -> User {
    let file = directory.join("auth.json");
    fs::write(&file, content).unwrap();
    User::with(|options| options.environment = environment(&[("REGISTRY_AUTH_FILE", &file)]))
}

/// A user of the environment's credentials for a registry.
fn with_password(registry: &str, password: &str) -> User {
    User::with(|options| {
        options.environment = environment(&[
            ("VMFAB_REGISTRY", Path::new(registry)),
            ("VMFAB_REGISTRY_USER", Path::new("anna")),
            ("VMFAB_REGISTRY_PASSWORD", Path::new(password)),
        ]);
    })
}

fn base64(text: &str) -> String {
    use base64ct::Encoding as _;
    base64ct::Base64::encode_string(text.as_bytes())
}

#[track_caller]
fn denied(result: Result<impl Sized, RegistryError>, wants_known: bool) -> String {
    let Err(error) = result else {
        panic!("it was allowed");
    };
    let RegistryError::Denied { known, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*known, wants_known, "{error}");
    let shown = format!("{error} {error:?} {:?}", error.remedy());
    assert!(
        !shown.contains("ssw0rd") && !shown.contains("secret"),
        "{shown}"
    );
    assert!(
        !shown.contains(&base64(&format!("anna:{PASSWORD}"))),
        "{shown}"
    );
    shown
}

#[test]
fn a_password_is_sent_when_the_registry_asks_for_it() {
    let registry = with_users();
    let directory = tempfile::tempdir().unwrap();
    let auth = base64(&format!("anna:{PASSWORD}"));
    let user = with_file(
        directory.path(),
        &format!(
            r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#,
            registry.address()
        ),
    );
    let repository = user.open(&registry.at("a/b"));
    let content = bytes(3_000_000, 1);
    put(&*repository, &content).unwrap();
    assert_eq!(
        read(repository.read_blob(&blob(&content), None).unwrap()).unwrap(),
        content
    );
    let stranger = User::new().open(&registry.at("a/b"));
    let text = denied(stranger.has_blob(&blob(&content)), false);
    assert!(
        text.contains(&format!("vmfab login {}", registry.address())),
        "{text}"
    );
    denied(put(&*stranger, b"x"), false);
    denied(stranger.tags(), false);
    denied(
        stranger.manifest(&vmfab::registry::Version::tag("1").unwrap()),
        false,
    );
    let wrong = with_password(&registry.address(), "wr0ng-ssw0rd");
    denied(
        wrong.open(&registry.at("a/b")).has_blob(&blob(&content)),
        true,
    );
}

#[test]
fn credentials_of_the_environment_are_for_one_registry() {
    let registry = with_users();
    let address = registry.address();
    let name = registry.at("a/b");
    let right = with_password(&address, PASSWORD);
    assert!(!right.open(&name).has_blob(&blob(b"x")).unwrap());
    let other = with_password("other.example", PASSWORD);
    denied(other.open(&name).has_blob(&blob(b"x")), false);
    assert_eq!(other.events.take(), []);
    let nobody = User::with(|options| {
        options.environment = environment(&[
            ("VMFAB_REGISTRY_USER", Path::new("anna")),
            ("VMFAB_REGISTRY_PASSWORD", Path::new(PASSWORD)),
        ]);
    });
    denied(nobody.open(&name).has_blob(&blob(b"x")), false);
    denied(nobody.open(&registry.at("c")).has_blob(&blob(b"x")), false);
    let events = format!("{:?}", nobody.events.take());
    assert_eq!(
        events.matches("VMFAB_REGISTRY is not set").count(),
        1,
        "{events}"
    );
    assert!(!events.contains("ssw0rd"));
}

#[test]
fn a_token_is_fetched_once_for_each_right() {
    let registry = Registry::start();
    let proxy = Proxy::start(registry.port());
    proxy.ask_for_tokens(Tokens {
        user: Some(("anna", PASSWORD)),
        access_token: true,
        ..Tokens::default()
    });
    let user = with_password(&proxy.address(), PASSWORD);
    let repository = user.open(&proxy.at("a/b"));
    for seed in 0..3 {
        let content = bytes(1000, seed);
        put(&*repository, &content).unwrap();
        assert!(repository.has_blob(&blob(&content)).unwrap());
    }
    // Once to write, once to read.
    assert_eq!(proxy.count("GET", "/token"), 2);
    let user = with_password(&proxy.address(), "wr0ng-ssw0rd");
    denied(user.open(&proxy.at("a/b")).has_blob(&blob(b"x")), true);
    denied(
        User::new().open(&proxy.at("a/b")).has_blob(&blob(b"x")),
        false,
    );
}

#[test]
fn a_token_that_ends_is_renewed() {
    let registry = Registry::start();
    let proxy = Proxy::start(registry.port());
    proxy.ask_for_tokens(Tokens {
        uses: Some(3),
        ..Tokens::default()
    });
    let user = User::new();
    let repository = user.open(&proxy.at("a/b"));
    for seed in 0..4 {
        let content = bytes(2 << 20, seed);
        put(&*repository, &content).unwrap();
        // In the middle of a download, too.
        proxy.next("GET", "/blobs/", Fault::Cut(1 << 20));
        let reader = repository.read_blob(&blob(&content), None).unwrap();
        proxy.revoke_tokens();
        assert!(read(reader).unwrap() == content);
    }
    assert_eq!(registry.open_uploads("a/b"), 0);
    // One that is said to end at once is not used a second time, without being refused.
    let proxy = Proxy::start(registry.port());
    proxy.ask_for_tokens(Tokens {
        expires_in: Some(0),
        ..Tokens::default()
    });
    let repository = user.open(&proxy.at("a/b"));
    for _ in 0..3 {
        let error = repository.tags().unwrap_err();
        assert!(matches!(error, RegistryError::Unknown { .. }), "{error}");
    }
    assert_eq!(proxy.count("GET", "/token"), 3);
    assert_eq!(proxy.count("GET", "/tags/"), 4);
}

#[test]
fn a_token_that_is_never_good_is_not_fetched_for_ever() {
    let registry = Registry::start();
    let proxy = Proxy::start(registry.port());
    proxy.ask_for_tokens(Tokens {
        uses: Some(0),
        ..Tokens::default()
    });
    denied(User::new().open(&proxy.at("a/b")).tags(), false);
    assert_eq!(proxy.count("GET", "/token"), 1);
}

#[test]
fn an_identity_token_is_exchanged() {
    let registry = Registry::start();
    let proxy = Proxy::start(registry.port());
    proxy.ask_for_tokens(Tokens {
        user: Some(("nobody", "nothing")),
        identity: Some("secret+identity"),
        ..Tokens::default()
    });
    let directory = tempfile::tempdir().unwrap();
    let user = with_file(
        directory.path(),
        &format!(
            r#"{{"auths":{{"{}/a":{{"auth":"{}","identitytoken":"secret+identity"}}}}}}"#,
            proxy.address(),
            base64("00000000-0000-0000-0000-000000000000:")
        ),
    );
    put(&*user.open(&proxy.at("a/b")), b"x").unwrap();
    assert_eq!(proxy.count("POST", "/token"), 1);
    // Of another name space it does not know.
    denied(user.open(&proxy.at("b/a")).has_blob(&blob(b"x")), false);
}

#[test]
fn a_token_of_the_registry_itself_is_sent_as_it_is() {
    let registry = Registry::start();
    let proxy = Proxy::start(registry.port());
    proxy.ask_for_tokens(Tokens::default());
    let address = proxy.address();
    let user = User::with(|options| {
        options.environment = environment(&[
            ("VMFAB_REGISTRY", Path::new(&address)),
            ("VMFAB_REGISTRY_TOKEN", Path::new("secret-of-mine")),
        ]);
    });
    denied(user.open(&proxy.at("a/b")).tags(), true);
    let last = proxy.seen().pop().unwrap();
    assert_eq!(last.header("authorization"), "Bearer secret-of-mine");
    assert_eq!(proxy.count("GET", "/token"), 0);
}

#[test]
fn tokens_are_not_fetched_from_where_it_is_not_secure() {
    let registry = Registry::with(&RegistryOptions {
        tls: true,
        ..RegistryOptions::default()
    });
    let plain = Proxy::start(registry.port());
    let tls = crate::support::proxy::Proxy::start_tls(registry.port());
    tls.ask_for_tokens(Tokens {
        realm: Some(format!("http://{}/token", plain.address())),
        ..Tokens::default()
    });
    let user = User::with(|options| options.access.insecure = true);
    let error = user.open(&tls.at("a/b")).tags().unwrap_err().to_string();
    assert!(
        error.contains("of its tokens is not secure, and the registry is"),
        "{error}"
    );
    assert!(plain.seen().is_empty());
}

#[test]
fn what_a_token_server_says_is_not_believed() {
    let registry = Registry::start();
    let proxy = Proxy::start(registry.port());
    let answers: [(&'static str, &'static [u8]); 4] = [
        ("200 X\r\ncontent-length: 2", b"{}"),
        ("200 X\r\ncontent-length: 5", b"hello"),
        (
            "200 X\r\ncontent-length: 24",
            br#"{"token":"secret\r\nX: y"}"#,
        ),
        ("200 X\r\nconnection: close", b"{\"token\":\""),
    ];
    for (head, body) in answers {
        let server = Proxy::start(registry.port());
        let count = if head.contains("close") {
            None
        } else {
            Some(1)
        };
        server.always("GET", "/other", Fault::Answer(head, body, count));
        proxy.ask_for_tokens(Tokens {
            realm: Some(format!("http://{}/other", server.address())),
            ..Tokens::default()
        });
        let error = User::new().open(&proxy.at("a/b")).tags().unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("gave something that is no token"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
    for realm in ["nonsense", "ftp://a/b", ""] {
        proxy.ask_for_tokens(Tokens {
            realm: Some(realm.to_owned()),
            ..Tokens::default()
        });
        assert!(
            User::new().open(&proxy.at("a/b")).tags().is_err(),
            "{realm}"
        );
    }
}

#[test]
fn a_registry_that_repeats_the_password_does_not_have_it_shown() {
    let registry = Registry::start();
    let proxy = Proxy::start(registry.port());
    let asks = "401 X\r\nwww-authenticate: Basic realm=\"x\"\r\ncontent-length: 0";
    proxy.next("GET", "/tags/", Fault::Answer(asks, b"", Some(0)));
    let repeats: &'static [u8] =
        r#"{"errors":[{"code":"DENIED","message":"p:ssw0rd-ä is wrong"}]}"#.as_bytes();
    proxy.always(
        "GET",
        "/tags/",
        Fault::Answer("403 X\r\nconnection: close", repeats, Some(1)),
    );
    let user = with_password(&proxy.address(), PASSWORD);
    let text = denied(user.open(&proxy.at("a/b")).tags(), true);
    assert!(text.contains("DENIED: … is wrong"), "{text}");
}

#[test]
fn a_registry_that_repeats_a_token_does_not_have_it_shown_nor_its_beginning() {
    let registry = Registry::start();
    let proxy = Proxy::start(registry.port());
    proxy.ask_for_tokens(Tokens {
        user: Some(("anna", PASSWORD)),
        ..Tokens::default()
    });
    let user = with_password(&proxy.address(), PASSWORD);
    for before in [0, 280] {
        for status in [403, 400] {
            proxy.no_faults();
            proxy.always("GET", "/tags/", Fault::Repeat(status, before));
            let error = user.open(&proxy.at("a/b")).tags().unwrap_err();
            let sent = proxy.seen().pop().unwrap();
            let token = sent
                .header("authorization")
                .strip_prefix("Bearer ")
                .unwrap();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("DENIED"), "{shown}");
            assert!(!shown.contains(&token[..4]), "{shown} has {token}");
        }
    }
}

#[test]
fn tokens_are_not_fetched_without_tls_from_another_host_than_the_registry() {
    let registry = Registry::start();
    let proxy = Proxy::start(registry.port());
    proxy.ask_for_tokens(Tokens {
        realm: Some("http://anna:ssw0rd@tokens.example/token".to_owned()),
        ..Tokens::default()
    });
    let user = with_password(&proxy.address(), PASSWORD);
    let error = user.open(&proxy.at("a/b")).tags().unwrap_err().to_string();
    assert!(error.contains("another host than the registry"), "{error}");
    assert!(!error.contains("ssw0rd"), "{error}");
}
