//! Downloads that go on where they ended.

use std::fs;

use vmfab::source::{FetchError, Outcome};

use super::{Desk, noise, sha256};
use crate::support::http::{Fault, Server};

const SIZE: usize = 700_000;

#[test]
fn a_download_without_trouble() {
    let (server, desk, bytes) = (Server::start(), Desk::new(), noise(1, SIZE));
    server.put("/disk.img", bytes.clone());
    let (fetched, kept) = desk.gets(&server.url("/disk.img"), &bytes);
    assert_eq!(fetched.checksum, sha256(&bytes));
    assert_eq!(fetched.url_used, server.url("/disk.img"));
    assert_eq!(kept.restarts, 0);
    assert_eq!(server.asked(), ["GET /disk.img"]);
    assert_eq!(desk.told(), ["started", "finished"]);
    let agent = server.seen()[0].header("user-agent").to_owned();
    assert_eq!(agent, concat!("vmfab/", env!("CARGO_PKG_VERSION")));
}

#[test]
fn an_empty_file_and_one_whose_length_is_not_told() {
    let (server, desk, bytes) = (Server::start(), Desk::new(), noise(2, SIZE));
    server.put("/empty", "");
    desk.gets(&server.url("/empty"), b"");
    server.put("/long", bytes.clone());
    server.next("/long", Fault::Chunked);
    desk.gets(&server.url("/long"), &bytes);
}

#[test]
fn after_a_cut_only_the_rest_is_sent() {
    let (server, desk, bytes) = (Server::start(), Desk::new(), noise(3, SIZE));
    server.put("/a", bytes.clone());
    server.next("/a", Fault::Cut(300_000));
    server.next("/a", Fault::Cut(200_000));
    let (_, kept) = desk.gets(&server.url("/a"), &bytes);
    assert_eq!(
        server.asked(),
        ["GET /a", "GET /a bytes=300000-", "GET /a bytes=500000-"]
    );
    assert_eq!(server.sent(), SIZE);
    assert_eq!(kept.restarts, 0);
    let seen = server.seen();
    assert_eq!(seen[1].header("if-range").len(), 18, "{:?}", seen[1]);
    assert_eq!(desk.told(), ["started", "retrying", "retrying", "finished"]);
}

#[test]
fn a_second_run_goes_on_where_the_first_gave_up() {
    let (server, mut desk, bytes) = (Server::start(), Desk::new(), noise(4, SIZE));
    desk.config.retries = 0;
    server.put("/a", bytes.clone());
    server.next("/a", Fault::Cut(400_000));
    let url = server.url("/a");
    let error = desk.refuses(&url, Some(&sha256(&bytes)));
    assert!(matches!(error, FetchError::Download { .. }), "{error:?}");
    assert_eq!(desk.left().len(), 3);
    desk.gets(&url, &bytes);
    assert_eq!(server.asked(), ["GET /a", "GET /a bytes=400000-"]);
    assert_eq!(server.sent(), SIZE);
}

#[test]
fn a_file_that_was_changed_begins_anew() {
    let (server, mut desk) = (Server::start(), Desk::new());
    let (old, new) = (noise(5, SIZE), noise(6, SIZE + 9));
    desk.config.retries = 0;
    server.put("/a", old.clone());
    server.next("/a", Fault::Cut(400_000));
    let url = server.url("/a");
    desk.refuses(&url, Some(&sha256(&new)));
    server.put("/a", new.clone());
    let (_, kept) = desk.gets(&url, &new);
    assert_eq!(kept.restarts, 1, "the old beginning had been taken");
    // It was asked for the rest of the old version, and sent the whole new one.
    assert_eq!(server.seen()[1].status, 200);
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn a_change_that_nothing_tells_of_is_noticed_by_the_checksum() {
    let (server, mut desk) = (Server::start(), Desk::new());
    let (old, new) = (noise(5, SIZE), noise(6, SIZE));
    desk.config.retries = 0;
    server.put_with("/a", old, None, None);
    server.next("/a", Fault::Cut(400_000));
    let url = server.url("/a");
    desk.refuses(&url, Some(&sha256(&new)));
    server.put_with("/a", new.clone(), None, None);
    let (_, kept) = desk.gets(&url, &new);
    assert_eq!(kept.restarts, 1);
    assert_eq!(server.asked(), ["GET /a", "GET /a bytes=400000-", "GET /a"]);
}

#[test]
fn a_time_of_change_is_a_validator_too() {
    let (server, desk, bytes) = (Server::start(), Desk::new(), noise(7, SIZE));
    let time = "Sat, 21 Nov 2026 10:00:00 GMT";
    server.put_with("/a", bytes.clone(), Some("W/\"weak\""), Some(time));
    server.next("/a", Fault::Cut(1000));
    desk.gets(&server.url("/a"), &bytes);
    assert_eq!(server.seen()[1].header("if-range"), time);
}

#[test]
fn servers_that_know_no_ranges() {
    let (server, desk, bytes) = (Server::start(), Desk::new(), noise(8, SIZE));
    server.put("/a", bytes.clone());
    server.next("/a", Fault::Cut(300_000));
    server.next("/a", Fault::IgnoreRange);
    let (_, kept) = desk.gets(&server.url("/a"), &bytes);
    assert_eq!(kept.restarts, 1);
    server.put("/b", bytes.clone());
    server.next("/b", Fault::Cut(300_000));
    server.next("/b", Fault::WrongRange);
    let (_, kept) = desk.gets(&server.url("/b"), &bytes);
    assert_eq!(kept.restarts, 1);
    assert_eq!(
        server.asked()[2..],
        ["GET /b", "GET /b bytes=300000-", "GET /b"]
    );
}

#[test]
fn a_range_beyond_the_end_begins_anew() {
    let (server, mut desk) = (Server::start(), Desk::new());
    let (long, short) = (noise(9, SIZE), noise(10, 1000));
    desk.config.retries = 0;
    server.put("/a", long);
    server.next("/a", Fault::Cut(400_000));
    let url = server.url("/a");
    desk.refuses(&url, Some(&sha256(&short)));
    server.put_with("/a", short.clone(), None, None);
    // Without If-Range, as from a place without validators.
    for note in fs::read_dir(desk.downloads()).unwrap() {
        let path = note.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "json") {
            fs::remove_file(path).unwrap();
        }
    }
    desk.gets(&url, &short);
    assert_eq!(server.seen()[1].status, 416);
}

#[test]
fn what_is_complete_needs_no_network() {
    let (server, mut desk, bytes) = (Server::start(), Desk::new(), noise(11, SIZE));
    server.put("/a", bytes.clone());
    let url = server.url("/a");
    let mut kept = super::Kept {
        fails: true,
        ..Default::default()
    };
    let checksum = sha256(&bytes);
    let error = super::fetch(&desk.fetcher(), &url, Some(&checksum), None, &mut kept).unwrap_err();
    assert!(error.to_string().contains("the store is closed"), "{error}");
    drop(server);
    desk.offline = true;
    desk.gets(&url, &bytes);
}

#[test]
fn a_damaged_partial_file_is_fetched_anew() {
    let (server, mut desk, bytes) = (Server::start(), Desk::new(), noise(12, SIZE));
    desk.config.retries = 0;
    server.put("/a", bytes.clone());
    server.next("/a", Fault::Cut(400_000));
    let url = server.url("/a");
    desk.refuses(&url, Some(&sha256(&bytes)));
    let partial = desk
        .left()
        .into_iter()
        .find(|name| name.ends_with(".partial"));
    let partial = desk.downloads().join(partial.unwrap());
    let mut damaged = fs::read(&partial).unwrap();
    damaged[1000] ^= 1;
    fs::write(&partial, damaged).unwrap();
    desk.gets(&url, &bytes);
    assert_eq!(server.asked(), ["GET /a", "GET /a bytes=400000-", "GET /a"]);
}

#[test]
fn without_a_checksum_only_the_same_version_goes_on() {
    let (server, desk, bytes) = (Server::start(), Desk::new(), noise(13, SIZE));
    server.put("/strong", bytes.clone());
    server.next("/strong", Fault::Cut(400_000));
    let time = "Sat, 21 Nov 2026 10:00:00 GMT";
    server.put_with("/weak", bytes.clone(), Some("W/\"x\""), Some(time));
    server.next("/weak", Fault::Cut(400_000));
    for (path, restarts, second) in [
        ("/strong", 0, "GET /strong bytes=400000-"),
        ("/weak", 1, "GET /weak"),
    ] {
        let (result, kept) = desk.fetch(&server.url(path), None);
        let Ok(Outcome::Fetched(fetched)) = result else {
            panic!("{result:?}");
        };
        assert_eq!(fetched.checksum, sha256(&bytes));
        assert_eq!(kept.restarts, restarts);
        assert_eq!(server.asked().last().unwrap(), second);
    }
}
