//! Registries and networks that fail, while images are pushed and pulled.

use super::home::{Home, disk, upgraded};
use super::shelf::{Shelf, digits};
use crate::support::proxy::{Fault, Proxy, Tokens};
use crate::support::registry::Registry;

const MIB: usize = 1 << 20;

/// Pulls from a registry with these faults, once for each: the image is right in the end.
#[track_caller]
fn pulls_in_spite_of(part: &str, faults: &[Fault]) {
    let shelf = Shelf::new(3);
    for fault in faults {
        shelf.proxy.no_faults();
        shelf.proxy.next("GET", part, fault.clone());
        let home = Home::new();
        let ran = home.run(&["pull", &shelf.at("1")]);
        assert_eq!(ran.code, Some(0), "{fault:?}: {}", ran.stderr);
        assert!(home.disk("web") == shelf.maker.disk("web"), "{fault:?}");
        home.is_clean();
    }
}

#[test]
fn pulls_go_on_after_faults_of_manifests() {
    pulls_in_spite_of(
        "/manifests/",
        &[
            Fault::Cut(100),
            Fault::LoseAnswer,
            Fault::Status(500, None),
            Fault::Status(503, Some("0")),
            Fault::Status(429, Some("1")),
        ],
    );
}

#[test]
fn pulls_go_on_after_faults_of_blobs() {
    pulls_in_spite_of(
        "/blobs/",
        &[
            Fault::Cut(0),
            Fault::Cut(100),
            Fault::LoseAnswer,
            Fault::Status(500, None),
            Fault::Status(429, Some("1")),
            Fault::IgnoreRange,
            Fault::Header("content-range", "bytes 9-0/9"),
        ],
    );
}

#[test]
fn a_pack_goes_on_where_it_was_cut() {
    let shelf = Shelf::new(4);
    let pack = format!(
        "/blobs/sha256:{}",
        digits(&shelf.manifest("1")["layers"][1])
    );
    // The first request is for its table.
    shelf.proxy.next("GET", &pack, Fault::Cut(usize::MAX));
    for at in [1_000_000, 700_000, 300_000] {
        shelf.proxy.next("GET", &pack, Fault::Cut(at));
    }
    let home = Home::new();
    home.pull(&shelf.at("1"));
    assert!(home.disk("web") == shelf.maker.disk("web"));
    assert_eq!(shelf.proxy.count("GET", &pack), 5);
    let down = shelf.proxy.moved().1;
    assert!(down < 4 * MIB + 200_000, "{down}");
    home.is_clean();
}

#[test]
fn registries_that_refuse_ranges_are_pulled_from_all_the_same() {
    let shelf = Shelf::new(3);
    shelf.proxy.always("GET", "/blobs/", Fault::IgnoreRange);
    let home = Home::new();
    home.pull(&shelf.at("1"));
    assert!(home.disk("web") == shelf.maker.disk("web"));
    home.is_clean();
    // A new version, too, of which only a part is needed.
    shelf
        .maker
        .image("web", &upgraded(&shelf.maker.disk("web"), 3, 1000));
    let full = ["push", "@web", &shelf.at("2"), "--full"];
    shelf.maker.run(&full).ends_with(0);
    home.pull(&shelf.at("2"));
    assert!(home.disk("web") == shelf.maker.disk("web"));
    home.is_clean();
}

/// Pulls from a registry that does not stop to fail so: it is told, and the next time it works.
#[track_caller]
fn tells(fault: &Fault, code: i32, part: &str) {
    let shelf = Shelf::new(2);
    let pack = digits(&shelf.manifest("1")["layers"][1]);
    shelf.proxy.always("GET", &pack, fault.clone());
    let home = Home::new();
    let ran = home.run(&["pull", &shelf.at("1")]);
    assert_eq!(ran.code, Some(code), "{fault:?}: {}", ran.stderr);
    assert!(ran.stderr.contains(part), "{fault:?}: {}", ran.stderr);
    home.run(&["store", "verify"]).ends_with(0);
    assert_eq!(home.tagged("web"), None);
    shelf.proxy.no_faults();
    home.pull(&shelf.at("1"));
    assert!(home.disk("web") == shelf.maker.disk("web"));
    home.is_clean();
}

#[test]
fn faults_that_stay_are_told_and_the_next_time_it_works() {
    let range = "content-range";
    for (fault, code, part) in [
        (
            Fault::Cut(0),
            1,
            "try again: vmfab keeps what it transferred so far",
        ),
        (
            Fault::Status(500, None),
            1,
            "try again: vmfab keeps what it transferred so far",
        ),
        (Fault::Status(403, None), 1, "refuses"),
        (Fault::Status(429, Some("0")), 1, "429"),
        (Fault::Status(418, None), 1, "418"),
        (
            Fault::Header(range, "bytes 0-9/2000000"),
            6,
            "was asked for",
        ),
        (Fault::WrongByte(40), 6, "pack"),
    ] {
        tells(&fault, code, part);
    }
}

#[test]
fn a_download_that_stalls_goes_on() {
    let shelf = Shelf::new(2);
    let pack = digits(&shelf.manifest("1")["layers"][1]);
    shelf.proxy.next("GET", &pack, Fault::Cut(usize::MAX));
    shelf.proxy.next("GET", &pack, Fault::Stall(500_000));
    let home = Home::new();
    // Thirty seconds without a byte are a stall.
    home.pull(&shelf.at("1"));
    assert!(home.disk("web") == shelf.maker.disk("web"));
    home.is_clean();
}

#[test]
fn pushes_go_on_after_faults() {
    let registry = Registry::start();
    let home = Home::new();
    let content = disk(1, 3 * MIB);
    home.image("web", &content);
    let faults = [
        ("POST", "/blobs/uploads/", Fault::Status(500, None)),
        ("POST", "/blobs/uploads/", Fault::LoseAnswer),
        ("POST", "/blobs/uploads/", Fault::Status(429, Some("1"))),
        ("PUT", "/blobs/uploads/", Fault::CutRequest(1_000_000)),
        ("PUT", "/blobs/uploads/", Fault::KeepPart(300)),
        ("PUT", "/blobs/uploads/", Fault::LoseAnswer),
        ("PUT", "/blobs/uploads/", Fault::Status(413, None)),
        ("PUT", "/blobs/uploads/", Fault::LongBody(100_000, 413)),
        ("HEAD", "/blobs/", Fault::Status(503, Some("0"))),
        ("PUT", "/manifests/", Fault::LoseAnswer),
        ("PUT", "/manifests/", Fault::Status(500, None)),
        ("GET", "/manifests/", Fault::Status(502, None)),
    ];
    for (number, (method, part, fault)) in faults.into_iter().enumerate() {
        let proxy = Proxy::start(registry.port());
        proxy.next(method, part, fault.clone());
        let name = format!("web-{number}");
        // Others are not to be linked.
        std::fs::remove_dir_all(home.path("home/cache/registries")).unwrap_or_default();
        let ran = home.run(&["push", "@web", &proxy.at(&name)]);
        assert_eq!(ran.code, Some(0), "{fault:?}: {}", ran.stderr);
        let other = Home::new();
        other.pull(&registry.at(&name));
        assert!(other.disk("web") == content, "{fault:?}");
    }
}

#[test]
fn pushes_that_fail_are_told_and_the_next_time_they_work() {
    let registry = Registry::start();
    let home = Home::new();
    let content = disk(1, 2 * MIB);
    home.image("web", &content);
    let faults = [
        ("POST", "/blobs/uploads/", Fault::Status(500, None), "500"),
        (
            "POST",
            "/blobs/uploads/",
            Fault::Status(403, None),
            "refuses",
        ),
        ("POST", "/blobs/uploads/", Fault::Status(405, None), "405"),
        ("PUT", "/blobs/uploads/", Fault::LoseAnswer, "try again"),
        ("PUT", "/manifests/", Fault::Status(400, None), "400"),
        ("PUT", "/manifests/", Fault::Status(500, None), "500"),
        ("GET", "/manifests/", Fault::Status(500, None), "500"),
    ];
    for (number, (method, part, fault, said)) in faults.into_iter().enumerate() {
        let proxy = Proxy::start(registry.port());
        proxy.always(method, part, fault.clone());
        std::fs::remove_dir_all(home.path("home/cache/registries")).unwrap_or_default();
        let at = proxy.at(&format!("web-{number}:1"));
        let ran = home.run(&["push", "@web", &at]);
        assert_eq!(ran.code, Some(1), "{fault:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(said), "{fault:?}: {}", ran.stderr);
        proxy.no_faults();
        Home::new().refused(&["pull", &at], 3);
        home.push("@web", &at);
        let other = Home::new();
        other.pull(&at);
        assert!(other.disk("web") == content, "{fault:?}");
    }
}

#[test]
fn tokens_that_end_are_fetched_again() {
    let registry = Registry::start();
    let proxy = Proxy::start(registry.port());
    proxy.ask_for_tokens(Tokens {
        uses: Some(2),
        ..Tokens::default()
    });
    // One request at a time: others would use up the token that this one has just fetched.
    let slow = || {
        let home = Home::new();
        home.configure("downloads parallel=1 retries=2\n");
        home
    };
    let home = slow();
    home.image("web", &disk(1, 2 * MIB));
    home.push("@web", &proxy.at("web:1"));
    let other = slow();
    other.pull(&proxy.at("web:1"));
    assert!(other.disk("web") == home.disk("web"));
    assert!(proxy.count("GET", "/token") > 4);
}
