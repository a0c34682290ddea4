//! Redirects, credentials, proxies and bodies.

use std::io::{Cursor, Read};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use vmfab::host::Interrupt;
use vmfab::http::{Client, HttpError, Method, Proxies, Request, Settings};
use vmfab::source::FetchError;

use super::{Desk, noise, sha256};
use crate::support::http::{Fault, Server};

/// What `Authorization` has for the user `me` with the password `p@ss`.
const BASIC: &str = "Basic bWU6cEBzcw==";

fn with_user(url: &str) -> String {
    url.replace("://", "://me:p%40ss@")
}

#[test]
fn redirects_are_followed() {
    let (one, two) = (Server::start(), Server::start());
    let (desk, bytes) = (Desk::new(), noise(1, 1000));
    two.put("/real/a", bytes.clone());
    one.next("/a", Fault::Redirect(302, "b?x=1".to_owned()));
    one.next("/b?x=1", Fault::Redirect(301, two.url("/c")));
    two.next("/c", Fault::Redirect(307, "/x/../real/a".to_owned()));
    let (fetched, _) = desk.gets(&one.url("/a"), &bytes);
    assert_eq!(fetched.url_used, one.url("/a"));
    assert_eq!(one.asked(), ["GET /a", "GET /b?x=1"]);
    assert_eq!(two.asked(), ["GET /c", "GET /real/a"]);
}

#[test]
fn a_cut_after_a_redirect_asks_for_the_rest() {
    let (server, desk, bytes) = (Server::start(), Desk::new(), noise(2, 200_000));
    server.put("/real", bytes.clone());
    server.always("/a", Fault::Redirect(302, "/real".to_owned()));
    server.next("/real", Fault::Cut(150_000));
    desk.gets(&server.url("/a"), &bytes);
    assert_eq!(server.asked().last().unwrap(), "GET /real bytes=150000-");
    assert_eq!(server.sent(), bytes.len());
}

#[test]
fn redirects_have_an_end() {
    let (server, desk) = (Server::start(), Desk::new());
    server.always("/a", Fault::Redirect(302, "/a".to_owned()));
    let error = desk.refuses(&server.url("/a"), None);
    assert!(
        error.to_string().contains("more than 10 redirects"),
        "{error}"
    );
    assert_eq!(server.asked().len(), 11);
    server.always("/b", Fault::Redirect(302, "file:///etc/passwd".to_owned()));
    let error = desk.refuses(&server.url("/b"), None);
    assert!(
        error.to_string().contains("only http:// and https://"),
        "{error}"
    );
}

#[test]
fn names_and_passwords_are_for_their_server_only() {
    let (one, two) = (Server::start(), Server::start());
    let (desk, bytes) = (Desk::new(), noise(3, 1000));
    one.next("/a", Fault::Redirect(302, "/b".to_owned()));
    one.next("/b", Fault::Redirect(302, two.url("/c")));
    two.put("/c", bytes.clone());
    desk.gets(&with_user(&one.url("/a")), &bytes);
    let sent = |server: &Server| -> Vec<String> {
        let seen = server.seen();
        seen.iter()
            .map(|seen| seen.header("authorization").to_owned())
            .collect()
    };
    assert_eq!(sent(&one), [BASIC, BASIC]);
    assert_eq!(sent(&two), [""]);
    // Nor are they shown.
    let error = desk.refuses(&with_user(&one.url("/missing")), Some(&sha256(b"")));
    assert!(
        !format!("{error} {error:?}").contains("p%40ss"),
        "{error:?}"
    );
    assert!(!format!("{:?}", desk.events.take()).contains("p%40ss"));
}

#[test]
fn a_mirror_hears_no_password_of_the_origin() {
    let (origin, mirror) = (Server::start(), Server::start());
    let (mut desk, bytes) = (Desk::new(), noise(4, 1000));
    desk.mirror(&origin.url("/"), &mirror.url("/"), false);
    origin.put("/a", bytes.clone());
    desk.gets(&with_user(&origin.url("/a")), &bytes);
    assert_eq!(mirror.seen()[0].header("authorization"), "");
    assert_eq!(origin.seen()[0].header("authorization"), BASIC);
}

fn proxies(variables: &[(&str, &str)]) -> Proxies {
    Proxies::from_variables(|name| {
        let found = variables.iter().find(|(other, _)| *other == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn proxies_are_used_but_where_they_are_not_to_be() {
    let (server, proxy) = (Server::start(), Server::start());
    let (mut desk, bytes) = (Desk::new(), noise(5, 1000));
    server.put("/a", bytes.clone());
    let through = proxy.url("").replace("://", "://me:p%40ss@");
    desk.settings.proxies = proxies(&[("http_proxy", &through), ("no_proxy", "127.0.0.1")]);
    // The name has no address here: the proxy looks it up.
    let host = server.url("/a").replace("127.0.0.1", "server.invalid");
    desk.gets(&host, &bytes);
    let seen = &proxy.seen()[0];
    assert_eq!((&*seen.method, &*seen.path), ("GET", &*host));
    assert_eq!(seen.header("proxy-authorization"), BASIC);
    assert_eq!(server.seen()[0].header("proxy-authorization"), "");
    desk.gets(&server.url("/a"), &bytes);
    assert_eq!(proxy.seen().len(), 1);
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn a_proxy_that_cannot_be_used_is_named() {
    let mut desk = Desk::new();
    desk.config.retries = 0;
    desk.settings.proxies = proxies(&[("all_proxy", "http://me:secret@no-such-proxy.invalid:1")]);
    let error = desk.refuses("http://a.invalid/a", None).to_string();
    assert!(
        error.contains("no-such-proxy.invalid") && !error.contains("secret"),
        "{error}"
    );
    desk.settings.proxies = proxies(&[("all_proxy", "gopher://proxy")]);
    let error = desk.refuses("http://a.invalid/a", None).to_string();
    assert!(error.contains("gopher://proxy"), "{error}");
}

fn client() -> Client {
    let settings = Settings {
        proxies: Proxies::default(),
        ..Settings::default()
    };
    Client::new(settings, Interrupt::new().unwrap())
}

#[test]
fn bodies_go_up_and_answers_of_any_status_come_back() {
    let server = Server::start();
    let url = server.url("/upload").parse().unwrap();
    let request = Request::new(Method::PUT, url).body(Cursor::new(noise(6, 300_000)), 300_000);
    let answer = client().send(request).unwrap();
    assert_eq!(answer.status.as_u16(), 201);
    assert_eq!(server.seen()[0].received, 300_000);
    let request = Request::new(Method::GET, server.url("/missing").parse().unwrap());
    let answer = client().send(request).unwrap();
    assert_eq!(answer.status.as_u16(), 404);
    let error = answer.success().unwrap_err();
    assert!(matches!(error, HttpError::Status { status: 404, .. }));
}

#[test]
fn connections_are_used_again_and_answers_need_not_be_read() {
    let server = Server::start();
    server.put("/a", noise(7, 5_000_000));
    let client = client();
    let get = || Request::new(Method::GET, server.url("/a").parse().unwrap());
    for _ in 0..3 {
        let mut all = Vec::new();
        client
            .send(get())
            .unwrap()
            .body
            .read_to_end(&mut all)
            .unwrap();
        assert!(all == noise(7, 5_000_000));
    }
    assert_eq!(server.connections(), 1);
    drop(client.send(get()).unwrap());
    let desk = Desk::new();
    let (result, _) = desk.fetch_sized(&server.url("/a"), None, Some(1));
    assert!(matches!(result, Err(FetchError::WrongSize { .. })));
}

/// It never stops taking what it is sent, so that no time-out ends it. A source that is slow itself
/// is no fault of the server's.
#[test]
fn a_server_that_takes_drops() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/a", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut slow, _) = listener.accept().unwrap();
        let (mut quick, _) = listener.accept().unwrap();
        std::thread::spawn(move || {
            let mut few = [0; 1 << 10];
            while slow.read(&mut few).is_ok_and(|count| count > 0) {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let (mut said, mut byte) = (Vec::new(), [0]);
        while !said.ends_with(b"\r\n\r\nend") && quick.read(&mut byte).is_ok_and(|count| count > 0)
        {
            said.extend(byte);
        }
        std::io::Write::write_all(&mut quick, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    });
    let settings = Settings {
        proxies: Proxies::default(),
        least_speed: 100_000,
        window: Duration::from_millis(500),
        ..Settings::default()
    };
    let client = Client::new(settings, Interrupt::new().unwrap());
    let put = |body: Box<dyn Read + Send>, length| {
        let request = Request::new(Method::PUT, url.parse().unwrap());
        client.send(request.body(body, length))
    };
    let length = 1 << 30;
    let started = Instant::now();
    let error = put(Box::new(std::io::repeat(1).take(length)), length).unwrap_err();
    assert!(matches!(error, HttpError::Slow { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20), "{error}");

    struct Late(Cursor<&'static [u8]>);
    impl Read for Late {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            std::thread::sleep(Duration::from_secs(1));
            self.0.read(&mut buffer[..1])
        }
    }
    let answer = put(Box::new(Late(Cursor::new(b"end"))), 3).unwrap();
    assert_eq!(answer.status.as_u16(), 200);
}
