//! What goes wrong, and what is said then.

use std::time::{Duration, Instant};

use vmfab::failure::Kind;
use vmfab::http::HttpError;
use vmfab::source::{AttemptError, FetchError};

use super::{Desk, noise, sha256};
use crate::support::http::{Fault, Server};

/// What happened at the one place that was tried.
#[track_caller]
fn http(error: &FetchError) -> &HttpError {
    match error {
        FetchError::Download { attempts, .. } => match &attempts[0].error {
            AttemptError::Http(error) => error,
            other => panic!("{other}"),
        },
        other => panic!("{other}"),
    }
}

#[test]
fn wrong_bytes_are_never_kept() {
    let (server, desk, bytes) = (Server::start(), Desk::new(), noise(1, 100_000));
    server.put("/a", bytes.clone());
    server.always("/a", Fault::WrongByte);
    let error = desk.refuses(&server.url("/a"), Some(&sha256(&bytes)));
    assert_eq!(error.kind(), Kind::Verification);
    let FetchError::Mismatch {
        expected,
        found,
        size,
        ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!((expected, *size), (&sha256(&bytes), 100_000));
    assert_ne!(found, expected);
    let remedy = error.remedy().join("\n");
    assert!(
        remedy.contains("vmfab update") && !remedy.contains("ignore"),
        "{remedy}"
    );
    assert_eq!(server.asked().len(), 1, "it is not tried again");
    assert_eq!(desk.left(), [] as [&str; 0]);
}

#[test]
fn a_wrong_size_is_noticed_before_the_bytes_come() {
    let (server, desk, bytes) = (Server::start(), Desk::new(), noise(2, 5_000_000));
    server.put("/a", bytes.clone());
    let url = server.url("/a");
    let checksum = sha256(&bytes);
    let (result, kept) = desk.fetch_sized(&url, Some(&checksum), Some(4_000_000));
    let error = result.unwrap_err();
    assert!(
        matches!(
            error,
            FetchError::WrongSize {
                expected: 4_000_000,
                found: Some(5_000_000),
                ..
            }
        ),
        "{error:?}"
    );
    assert!(kept.bytes.is_empty());
    // Told by nothing but the bytes themselves.
    server.always("/a", Fault::Chunked);
    for (size, found) in [(4_000_000, None), (6_000_000, Some(5_000_000))] {
        let (result, kept) = desk.fetch_sized(&url, Some(&checksum), Some(size));
        let error = result.unwrap_err();
        assert!(
            matches!(error, FetchError::WrongSize { found: other, .. } if other == found),
            "{error:?}"
        );
        assert_eq!((kept.bytes.len(), kept.restarts), (0, 1));
    }
}

#[test]
fn busy_servers_are_asked_again() {
    let (server, desk, bytes) = (Server::start(), Desk::new(), noise(3, 1000));
    server.put("/a", bytes.clone());
    server.next("/a", Fault::Status(503, None));
    server.next("/a", Fault::Status(429, Some("1".to_owned())));
    server.next("/a", Fault::NoAnswer);
    let start = Instant::now();
    desk.gets(&server.url("/a"), &bytes);
    assert!(
        start.elapsed() >= Duration::from_secs(1),
        "Retry-After is obeyed"
    );
    assert_eq!(server.asked().len(), 4);
    // Too long to wait for.
    server.always("/a", Fault::Status(429, Some("3600".to_owned())));
    let error = desk.refuses(&server.url("/a"), Some(&sha256(&bytes)));
    assert!(error.remedy()[0].contains("3600 s"), "{:?}", error.remedy());
    assert_eq!(server.asked().len(), 5);
}

#[test]
fn tries_have_an_end() {
    let (server, mut desk) = (Server::start(), Desk::new());
    desk.config.retries = 2;
    server.always("/a", Fault::Status(500, None));
    let error = desk.refuses(&server.url("/a"), None);
    assert_eq!(server.asked().len(), 3);
    assert_eq!(desk.told(), ["started", "retrying", "retrying", "failed"]);
    assert_eq!(
        error.to_string(),
        format!(
            "cannot download a: 127.0.0.1 answered 500 (Internal Server Error) ({})",
            server.url("/a")
        )
    );
}

#[test]
fn tries_that_bring_much_do_not_count() {
    let (server, mut desk, bytes) = (Server::start(), Desk::new(), noise(4, 6 << 20));
    desk.config.retries = 1;
    server.put("/a", bytes.clone());
    for _ in 0..4 {
        server.next("/a", Fault::Cut(1 << 20));
    }
    desk.gets(&server.url("/a"), &bytes);
    assert_eq!(server.sent(), bytes.len());
}

#[test]
fn what_is_not_there_is_not_asked_for_again() {
    let (server, desk) = (Server::start(), Desk::new());
    let error = desk.refuses(&server.url("/missing"), None);
    assert!(
        matches!(http(&error), HttpError::Status { status: 404, .. }),
        "{error}"
    );
    assert_eq!(error.kind(), Kind::Transient);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_server_that_falls_silent() {
    let (server, mut desk, bytes) = (Server::start(), Desk::new(), noise(5, 200_000));
    desk.settings.stalled = Duration::from_millis(400);
    server.put("/a", bytes.clone());
    server.next("/a", Fault::Stall(100_000));
    desk.gets(&server.url("/a"), &bytes);
    assert_eq!(server.asked(), ["GET /a", "GET /a bytes=100000-"]);
    desk.config.retries = 0;
    server.next("/a", Fault::Stall(0));
    let error = desk.refuses(&server.url("/a"), Some(&sha256(&bytes)));
    assert!(matches!(http(&error), HttpError::Stalled { .. }), "{error}");
    assert!(
        error.to_string().contains("sent nothing for 0.4 s"),
        "{error}"
    );
}

#[test]
fn a_slow_server_is_not_a_silent_one() {
    let (server, mut desk, bytes) = (Server::start(), Desk::new(), noise(6, 200_000));
    desk.settings.stalled = Duration::from_secs(1);
    server.put("/a", bytes.clone());
    // Longer than the limit in all, but never silent so long.
    server.next("/a", Fault::Slow(1000));
    desk.gets(&server.url("/a"), &bytes);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn nobody_there() {
    let mut desk = Desk::new();
    desk.config.retries = 1;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let error = desk.refuses(&format!("http://127.0.0.1:{port}/a"), None);
    assert!(matches!(http(&error), HttpError::Refused { .. }), "{error}");
    let error = desk.refuses("http://no-such-host.invalid/a", None);
    assert!(matches!(http(&error), HttpError::Dns { .. }), "{error}");
    assert!(
        error.to_string().contains("no-such-host.invalid"),
        "{error}"
    );
}

#[test]
fn a_length_that_is_not_kept_is_a_cut() {
    let (server, mut desk, bytes) = (Server::start(), Desk::new(), noise(7, 1000));
    desk.config.retries = 0;
    server.put("/a", bytes.clone());
    server.next("/a", Fault::Length(2000));
    let error = desk.refuses(&server.url("/a"), Some(&sha256(&bytes)));
    assert!(matches!(http(&error), HttpError::Cut { .. }), "{error:?}");
}

#[test]
fn an_end_that_nothing_tells_of_is_a_cut_when_the_size_is_known() {
    let (server, desk, bytes) = (Server::start(), Desk::new(), noise(11, 100_000));
    server.put("/a", bytes.clone());
    server.next("/a", Fault::Untold(60_000));
    let (result, kept) = desk.fetch_sized(&server.url("/a"), Some(&sha256(&bytes)), Some(100_000));
    assert!(result.is_ok() && kept.bytes == bytes, "{result:?}");
    assert_eq!(server.asked(), ["GET /a", "GET /a bytes=60000-"]);
    server.next("/a", Fault::Untold(100_000));
    desk.gets(&server.url("/a"), &bytes);
}

#[test]
fn giving_up_ends_every_wait() {
    let bytes = noise(8, 1_000_000);
    for fault in [
        Fault::Stall(0),
        Fault::Stall(500_000),
        Fault::Slow(100),
        Fault::Status(503, Some("60".to_owned())),
    ] {
        let (server, mut desk) = (Server::start(), Desk::new());
        desk.settings.stalled = Duration::from_secs(60);
        server.put("/a", bytes.clone());
        server.always("/a", fault.clone());
        let (interrupt, url) = (desk.interrupt.clone(), server.url("/a"));
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            interrupt.request();
            Instant::now()
        });
        let error = desk.refuses(&url, Some(&sha256(&bytes)));
        let asked = thread.join().unwrap();
        assert!(
            matches!(error, FetchError::Interrupted),
            "{fault:?}: {error}"
        );
        assert!(asked.elapsed() < Duration::from_secs(2), "{fault:?}");
    }
}

#[test]
fn offline_makes_no_connection() {
    let (server, mut desk, bytes) = (Server::start(), Desk::new(), noise(9, 1000));
    desk.offline = true;
    server.put("/a", bytes.clone());
    let url = server.url("/a");
    let (result, kept) = desk.fetch_sized(&url, Some(&sha256(&bytes)), Some(1000));
    let error = result.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert_eq!(
        error.to_string(),
        format!("a is not here, and this is offline: {url} (1000 bytes)")
    );
    assert!(kept.bytes.is_empty());
    assert_eq!(server.connections(), 0);
    assert_eq!(desk.left(), [] as [&str; 0]);
    // A file of this host is here.
    let path = desk.path().join("file");
    std::fs::write(&path, &bytes).unwrap();
    desk.gets(&format!("file://{}", path.display()), &bytes);
}

#[test]
fn files_are_read_where_they_are() {
    let (desk, bytes) = (Desk::new(), noise(10, 600_000));
    let path = desk.path().join("a b.img");
    std::fs::write(&path, &bytes).unwrap();
    let text = path.to_str().unwrap();
    let (fetched, _) = desk.gets(text, &bytes);
    assert_eq!(fetched.url_used, text);
    desk.gets(&format!("file://{}", text.replace(' ', "%20")), &bytes);
    let error = desk.refuses(text, Some(&sha256(b"other")));
    assert!(matches!(error, FetchError::Mismatch { .. }), "{error}");
    let (result, _) = desk.fetch_sized(text, None, Some(5));
    assert!(matches!(result, Err(FetchError::WrongSize { .. })));
    let error = desk.refuses("/no/such/file", None);
    assert!(error.to_string().contains("/no/such/file"), "{error}");
    assert!(!desk.downloads().exists());
}

/// It is never silent, so that only its speed gives it away; another try would last as long.
#[test]
fn a_server_that_drips() {
    let (server, mut desk, bytes) = (Server::start(), Desk::new(), noise(6, 200_000));
    desk.settings.window = Duration::from_millis(300);
    desk.settings.least_speed = 50_000;
    server.put("/a", bytes.clone());
    server.always("/a", Fault::Slow(1));
    let error = desk.refuses(&server.url("/a"), Some(&sha256(&bytes)));
    assert!(matches!(http(&error), HttpError::Slow { .. }), "{error}");
    assert_eq!(server.asked().len(), 1);
    let remedy = error.remedy().join(" ");
    assert!(remedy.contains("limits least-speed=0"), "{remedy}");
}

/// The status line and the headers of an answer, byte by byte.
#[test]
fn a_head_that_drips() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/a", listener.local_addr().unwrap());
    let drip = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // An answer that comes before its request is another fault.
        let mut request = [0; 1];
        std::io::Read::read_exact(&mut stream, &mut request).unwrap();
        let head = b"HTTP/1.1 200 OK\r\nx-a: "
            .iter()
            .chain(std::iter::repeat(&b'a'));
        for byte in head {
            if std::io::Write::write_all(&mut stream, &[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let mut desk = Desk::new();
    desk.settings.window = Duration::from_millis(300);
    let error = desk.refuses(&url, None);
    assert!(
        matches!(http(&error), HttpError::SlowHead { .. }),
        "{error}"
    );
    drip.join().unwrap();
}

/// A pipe would be waited for, and a device has no end.
#[test]
fn a_local_source_is_a_regular_file() {
    let desk = Desk::new();
    let pipe = desk.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let link = desk.path().join("link");
    std::os::unix::fs::symlink("/dev/urandom", &link).unwrap();
    for path in [
        "/dev/urandom",
        pipe.to_str().unwrap(),
        link.to_str().unwrap(),
    ] {
        let error = desk.refuses(&format!("file://{path}"), None).to_string();
        assert!(error.contains("not a regular file"), "{error}");
        assert!(error.contains(path), "{error}");
    }
}
