//! Which places are asked, and in what order.

use vmfab::failure::Kind;
use vmfab::source::FetchError;

use super::{Desk, noise, sha256};
use crate::support::http::{Fault, Server};

#[test]
fn mirrors_come_first_in_their_order() {
    let (origin, one, two) = (Server::start(), Server::start(), Server::start());
    let (mut desk, bytes) = (Desk::new(), noise(1, 1000));
    desk.mirror(&origin.url("/pub/"), &one.url("/first/"), false);
    desk.mirror("*", &two.url("/"), false);
    let url = origin.url("/pub/x/a.img");
    for server in [&origin, &one, &two] {
        server.put("/pub/x/a.img", bytes.clone());
    }
    // The first has nothing, the second neither below the name of the origin.
    let (fetched, _) = desk.gets(&url, &bytes);
    assert_eq!(fetched.url_used, url);
    let host = origin.url("").replace("http://", "");
    assert_eq!(one.asked(), ["GET /first/x/a.img"]);
    assert_eq!(two.asked(), [format!("GET /{host}/pub/x/a.img")]);
    assert_eq!(
        desk.told(),
        [
            "started", "failed", "started", "failed", "started", "finished"
        ]
    );
    two.put(&format!("/{host}/pub/x/a.img"), bytes.clone());
    desk.gets(&url, &bytes);
    one.put("/first/x/a.img", bytes.clone());
    desk.gets(&url, &bytes);
    assert_eq!(
        (one.asked().len(), two.asked().len(), origin.asked().len()),
        (3, 2, 1)
    );
}

#[test]
fn a_mirror_can_be_the_only_place() {
    let (origin, mirror) = (Server::start(), Server::start());
    let (mut desk, bytes) = (Desk::new(), noise(2, 1000));
    desk.mirror(&origin.url("/"), &mirror.url("/"), true);
    origin.put("/a", bytes.clone());
    let error = desk.refuses(&origin.url("/a"), Some(&sha256(&bytes)));
    assert!(error.to_string().contains(&mirror.url("/a")), "{error}");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_mirror_with_wrong_bytes_is_left_for_the_next_place() {
    let (origin, mirror) = (Server::start(), Server::start());
    let (mut desk, bytes) = (Desk::new(), noise(3, 300_000));
    desk.mirror(&origin.url("/"), &mirror.url("/"), false);
    origin.put("/a", bytes.clone());
    mirror.put("/a", bytes.clone());
    mirror.always("/a", Fault::WrongByte);
    let (_, kept) = desk.gets(&origin.url("/a"), &bytes);
    assert_eq!(kept.restarts, 1);
    // When there is no right one, that is what is said, and not that something could not be
    // downloaded.
    origin.always("/a", Fault::WrongByte);
    let error = desk.refuses(&origin.url("/a"), Some(&sha256(&bytes)));
    assert!(matches!(error, FetchError::Mismatch { .. }), "{error}");
    origin.always("/a", Fault::Status(404, None));
    let error = desk.refuses(&origin.url("/a"), Some(&sha256(&bytes)));
    // Wrong bytes are worse than none.
    assert_eq!(error.kind(), Kind::Verification);
    let text = error.to_string();
    assert!(
        text.contains("is not what it should be") && text.contains("404"),
        "{text}"
    );
}

#[test]
fn a_mirror_that_breaks_off_is_gone_on_with_elsewhere() {
    let (origin, mirror) = (Server::start(), Server::start());
    let (mut desk, bytes) = (Desk::new(), noise(4, 300_000));
    desk.config.retries = 0;
    desk.mirror(&origin.url("/"), &mirror.url("/"), false);
    origin.put("/a", bytes.clone());
    mirror.put_with("/a", bytes.clone(), Some("\"another\""), None);
    mirror.next("/a", Fault::Cut(200_000));
    let (fetched, kept) = desk.gets(&origin.url("/a"), &bytes);
    assert_eq!((fetched.url_used, kept.restarts), (origin.url("/a"), 0));
    assert_eq!(origin.asked(), ["GET /a bytes=200000-"]);
    assert_eq!(
        origin.seen()[0].header("if-range"),
        "",
        "that name is the mirror's"
    );
}
