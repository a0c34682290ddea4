//! Reading blobs.

use super::{User, blob, bytes, put, read};
use crate::support::proxy::{Fault, Proxy};
use crate::support::registry::Registry;

/// A registry with one blob, and a proxy in front of it.
fn lab(content: &[u8]) -> (Registry, Proxy) {
    let registry = Registry::start();
    let proxy = Proxy::start(registry.port());
    let user = User::new();
    put(&*user.open(&registry.at("a/b")), content).unwrap();
    (registry, proxy)
}

#[test]
fn blobs_and_their_parts_are_read() {
    let content = bytes(300_000, 1);
    let (registry, _proxy) = lab(&content);
    let user = User::new();
    let repository = user.open(&registry.at("a/b"));
    let blob = blob(&content);
    assert!(repository.has_blob(&blob).unwrap());
    assert_eq!(
        read(repository.read_blob(&blob, None).unwrap()).unwrap(),
        content
    );
    for range in [0..1, 0..300_000, 5..299_999, 299_999..300_000, 7..7] {
        let reader = repository.read_blob(&blob, Some(range.clone())).unwrap();
        assert_eq!(reader.start, range.start);
        let (start, end) = (range.start as usize, range.end as usize);
        assert_eq!(read(reader).unwrap(), &content[start..end], "{range:?}");
    }
    assert_eq!(user.waits(), Vec::<String>::new());
}

#[test]
fn an_empty_blob_is_read() {
    let (registry, _proxy) = lab(b"");
    let repository = User::new().open(&registry.at("a/b"));
    let reader = repository.read_blob(&blob(b""), None).unwrap();
    assert!(read(reader).unwrap().is_empty());
}

#[test]
fn what_is_not_there_is_said() {
    let (registry, _proxy) = lab(b"x");
    let user = User::new();
    for name in ["a/b", "no/thing"] {
        let repository = user.open(&registry.at(name));
        let other = blob(b"other");
        assert!(!repository.has_blob(&other).unwrap());
        let Err(error) = repository.read_blob(&other, None) else {
            panic!("it is there");
        };
        let expected = format!("{} has no blob sha256:{}", registry.at(name), other.digest);
        assert_eq!(error.to_string(), expected);
    }
    let repository = user.open(&registry.at("a/b"));
    let backward = std::ops::Range { start: 1, end: 0 };
    for range in [0..2, 2..2, backward] {
        assert!(repository.read_blob(&blob(b"x"), Some(range)).is_err());
    }
}

#[test]
fn a_cut_and_a_stall_are_gone_on_from() {
    let content = bytes(2_000_000, 2);
    let (_registry, proxy) = lab(&content);
    let user = User::new();
    let repository = user.open(&proxy.at("a/b"));
    proxy.next("GET", "/blobs/", Fault::Cut(500_000));
    proxy.next("GET", "/blobs/", Fault::Stall(400_000));
    proxy.next("GET", "/blobs/", Fault::Status(503, None));
    let reader = repository
        .read_blob(&blob(&content), Some(100..1_999_000))
        .unwrap();
    assert_eq!(read(reader).unwrap(), &content[100..1_999_000]);
    let asked: Vec<String> = proxy
        .seen()
        .iter()
        .filter(|seen| seen.path.contains("/blobs/"))
        .map(|seen| seen.header("range").to_owned())
        .collect();
    assert_eq!(
        asked,
        [
            "bytes=100-1998999",
            "bytes=500100-1998999",
            "bytes=900100-1998999",
            "bytes=900100-1998999"
        ]
    );
    let waits = user.waits();
    assert_eq!(waits.len(), 3, "{waits:?}");
    assert!(waits[0].contains("was cut"), "{waits:?}");
    assert!(waits[1].contains("sent nothing"), "{waits:?}");
    assert!(waits[2].contains("503"), "{waits:?}");
}

#[test]
fn a_blob_that_is_always_cut_is_given_up() {
    let content = bytes(100_000, 3);
    let (_registry, proxy) = lab(&content);
    let user = User::new();
    let repository = user.open(&proxy.at("a/b"));
    proxy.always("GET", "/blobs/", Fault::Cut(0));
    let reader = repository.read_blob(&blob(&content), None).unwrap();
    let error = read(reader).unwrap_err();
    assert!(error.to_string().contains("was cut"), "{error}");
    assert_eq!(proxy.count("GET", "/blobs/"), 4);
}

#[test]
fn the_whole_comes_where_ranges_are_ignored() {
    let content = bytes(500_000, 4);
    let (_registry, proxy) = lab(&content);
    let repository = User::new().open(&proxy.at("a/b"));
    proxy.always("GET", "/blobs/", Fault::IgnoreRange);
    let reader = repository
        .read_blob(&blob(&content), Some(1000..2000))
        .unwrap();
    assert_eq!(reader.start, 0);
    assert_eq!(read(reader).unwrap(), content);
}

#[test]
fn what_was_read_is_dropped_where_only_the_whole_comes_again() {
    let content = bytes(1_000_000, 5);
    let (_registry, proxy) = lab(&content);
    let repository = User::new().open(&proxy.at("a/b"));
    proxy.next("GET", "/blobs/", Fault::Cut(600_000));
    proxy.always("GET", "/blobs/", Fault::IgnoreRange);
    let reader = repository.read_blob(&blob(&content), None).unwrap();
    assert_eq!(read(reader).unwrap(), content);
}

#[test]
fn refused_ranges_and_several_parts_give_the_whole() {
    let content = bytes(5000, 6);
    let (_registry, proxy) = lab(&content);
    let user = User::new();
    let repository = user.open(&proxy.at("a/b"));
    for head in [
        "416 X\r\ncontent-length: 0\r\ncontent-range: bytes */5000",
        "206 X\r\ncontent-type: multipart/byteranges; boundary=x\r\ncontent-length: 0",
    ] {
        proxy.next("GET", "/blobs/", Fault::Answer(head, b"", Some(0)));
        let reader = repository.read_blob(&blob(&content), Some(10..20)).unwrap();
        assert_eq!(reader.start, 0, "{head}");
        assert_eq!(read(reader).unwrap(), content);
    }
}

/// Ways of a server not to give a part.
const REFUSALS: [Fault; 2] = [
    Fault::IgnoreRange,
    Fault::Answer("416 X\r\ncontent-length: 0", b"", Some(0)),
];

#[test]
fn where_the_beginning_is_refused_the_whole_comes_to_its_end() {
    let content = bytes(5000, 12);
    let (_registry, proxy) = lab(&content);
    let repository = User::new().open(&proxy.at("a/b"));
    for refusal in REFUSALS {
        proxy.next("GET", "/blobs/", refusal.clone());
        let reader = repository.read_blob(&blob(&content), Some(0..2000));
        let reader = reader.unwrap();
        assert_eq!(reader.start, 0, "{refusal:?}");
        assert!(read(reader).unwrap() == content, "{refusal:?}");
    }
}

#[test]
fn who_asks_for_all_of_a_blob_asks_for_no_range() {
    let content = bytes(5000, 13);
    let (_registry, proxy) = lab(&content);
    let repository = User::new().open(&proxy.at("a/b"));
    let reader = repository.read_blob(&blob(&content), Some(0..5000));
    assert!(read(reader.unwrap()).unwrap() == content);
    let seen = proxy.seen();
    let asked = seen.iter().filter(|seen| seen.path.contains("/blobs/"));
    let ranges: Vec<&str> = asked.map(|seen| seen.header("range")).collect();
    assert_eq!(ranges, [""]);
}

#[test]
fn a_part_ends_where_it_should_when_the_whole_comes_after_a_cut() {
    let content = bytes(1_000_000, 14);
    let (_registry, proxy) = lab(&content);
    let repository = User::new().open(&proxy.at("a/b"));
    for refusal in REFUSALS {
        for range in [0..800_000, 1000..800_000, 300_000..1_000_000] {
            proxy.next("GET", "/blobs/", Fault::Cut(200_000));
            proxy.next("GET", "/blobs/", refusal.clone());
            let reader = repository.read_blob(&blob(&content), Some(range.clone()));
            let reader = reader.unwrap();
            assert_eq!(reader.start, range.start);
            let (start, end) = (range.start as usize, range.end as usize);
            assert!(
                read(reader).unwrap() == content[start..end],
                "{refusal:?} {range:?}"
            );
        }
    }
}

#[test]
fn a_part_that_does_not_end_is_an_error() {
    let content = bytes(5000, 15);
    let (_registry, proxy) = lab(&content);
    let repository = User::new().open(&proxy.at("a/b"));
    for (head, range) in [
        (
            "206 X\r\ncontent-range: bytes 0-9/5000\r\nconnection: close",
            0..10,
        ),
        (
            "206 X\r\ncontent-range: bytes 10-19/5000\r\ncontent-length: 16",
            10..20,
        ),
    ] {
        let surplus = Fault::Answer(head, b"xxxxxxxxxxxxxxxx", Some(1));
        proxy.next("GET", "/blobs/", surplus);
        let reader = repository.read_blob(&blob(&content), Some(range.clone()));
        let error = read(reader.unwrap()).unwrap_err().to_string();
        let expected = format!("goes on after byte {}", range.end);
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn a_wrong_range_is_an_error() {
    let content = bytes(5000, 7);
    let (_registry, proxy) = lab(&content);
    let repository = User::new().open(&proxy.at("a/b"));
    for range in [
        "bytes 11-19/5000",
        "bytes 10-20/5000",
        "bytes 10-19/5001",
        "bytes 0-9/5000",
    ] {
        proxy.next("GET", "/blobs/", Fault::Header("content-range", range));
        let Err(error) = repository.read_blob(&blob(&content), Some(10..20)) else {
            panic!("{range}");
        };
        assert!(
            error
                .to_string()
                .contains("was asked for from byte 10 to 20"),
            "{error}"
        );
    }
}

#[test]
fn too_many_bytes_are_an_error() {
    let content = bytes(5000, 8);
    let (_registry, proxy) = lab(&content);
    let repository = User::new().open(&proxy.at("a/b"));
    proxy.next(
        "GET",
        "/blobs/",
        Fault::Answer("200 X\r\ncontent-length: 5001", b"x", Some(5001)),
    );
    let Err(error) = repository.read_blob(&blob(&content), None) else {
        panic!("it was taken");
    };
    assert!(
        error.to_string().contains("has 5001 bytes there, not 5000"),
        "{error}"
    );
    let endless = Fault::Answer(
        "200 X\r\nconnection: close",
        b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        None,
    );
    proxy.next("GET", "/blobs/", endless);
    let reader = repository.read_blob(&blob(&content), None).unwrap();
    let error = read(reader).unwrap_err();
    assert!(
        error.to_string().contains("goes on after byte 5000"),
        "{error}"
    );
}

#[test]
fn a_blob_of_another_size_is_not_the_one() {
    let (_registry, proxy) = lab(b"hello");
    let repository = User::new().open(&proxy.at("a/b"));
    let mut other = blob(b"hello");
    other.size = 6;
    let error = repository.has_blob(&other).unwrap_err();
    assert!(
        error.to_string().contains("has 5 bytes there, not 6"),
        "{error}"
    );
}

#[test]
fn a_blob_that_was_damaged_there_comes_as_it_is() {
    let content = bytes(5000, 11);
    let (registry, _proxy) = lab(&content);
    let mut other = content.clone();
    other[7] ^= 1;
    let file = registry.blob_file(&blob(&content).digest.to_string());
    std::fs::write(file, &other).unwrap();
    let repository = User::new().open(&registry.at("a/b"));
    let reader = repository.read_blob(&blob(&content), None).unwrap();
    assert_eq!(read(reader).unwrap(), other);
}

#[test]
fn giving_up_ends_a_stalled_download_at_once() {
    let content = bytes(200_000, 9);
    let (_registry, proxy) = lab(&content);
    let user = User::with(|options| options.settings.stalled = std::time::Duration::from_secs(600));
    let repository = user.open(&proxy.at("a/b"));
    proxy.next("GET", "/blobs/", Fault::Stall(1000));
    let reader = repository.read_blob(&blob(&content), None).unwrap();
    let interrupt = user.interrupt.clone();
    let waiter = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        interrupt.request();
    });
    let error = read(reader).unwrap_err();
    assert_eq!(error.to_string(), "interrupted");
    waiter.join().unwrap();
}

#[test]
fn a_storage_host_is_not_told_who_asks() {
    let content = bytes(70_000, 10);
    let (registry, proxy) = lab(&content);
    proxy.ask_for_tokens(crate::support::proxy::Tokens::default());
    let storage = Proxy::start(registry.port());
    let digest = blob(&content).digest;
    let to: &'static str = Box::leak(
        format!(
            "307 X\r\nlocation: http://{}/v2/a/b/blobs/sha256:{digest}?signature=abc\r\ncontent-length: 0",
            storage.address()
        )
        .into_boxed_str(),
    );
    proxy.always("GET", "/blobs/", Fault::Answer(to, b"", Some(0)));
    storage.next("GET", "/blobs/", Fault::Cut(10_000));
    let repository = User::new().open(&proxy.at("a/b"));
    let reader = repository.read_blob(&blob(&content), None).unwrap();
    assert_eq!(read(reader).unwrap(), content);
    assert_eq!(storage.count("GET", "/blobs/"), 2);
    assert!(
        storage
            .seen()
            .iter()
            .all(|seen| seen.header("authorization").is_empty())
    );
    assert!(
        proxy
            .seen()
            .iter()
            .any(|seen| !seen.header("authorization").is_empty())
    );
}
