//! Bringing blobs.

use std::io::{self, Read};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use vmfab::registry::{BlobSource, Delivered};

use super::{User, blob, bytes, put, read};
use crate::support::proxy::{Fault, Proxy, Tokens};
use crate::support::registry::Registry;

fn lab() -> (Registry, Proxy, User) {
    let registry = Registry::start();
    let proxy = Proxy::start(registry.port());
    (registry, proxy, User::new())
}

/// Checks that the registry has the bytes, as somebody else sees it, and nothing is left open.
#[track_caller]
fn assert_there(registry: &Registry, content: &[u8]) {
    let repository = User::new().open(&registry.at("a/b"));
    let reader = repository.read_blob(&blob(content), None).unwrap();
    assert!(read(reader).unwrap() == content, "other bytes");
    assert_eq!(registry.open_uploads("a/b"), 0);
}

#[test]
fn a_blob_goes_in_one_piece() {
    let (registry, proxy, user) = lab();
    let content = bytes(3_000_000, 1);
    let sent = AtomicI64::new(0);
    let repository = user.open(&proxy.at("a/b"));
    let put = || {
        repository.put_blob(&blob(&content), &content, &[], &|count| {
            sent.fetch_add(count, Ordering::SeqCst);
        })
    };
    assert_eq!(put().unwrap(), Delivered::Uploaded);
    assert_eq!(sent.load(Ordering::SeqCst), 3_000_000);
    assert_there(&registry, &content);
    let methods: Vec<_> = proxy
        .seen()
        .iter()
        .map(|seen| seen.method.clone())
        .collect();
    // The first is the look whether there is TLS; the look that fails leaves no trace.
    assert_eq!(methods, ["GET", "HEAD", "POST", "PUT"]);
    assert_eq!(put().unwrap(), Delivered::Present);
    assert_eq!(sent.load(Ordering::SeqCst), 3_000_000);
}

#[test]
fn an_empty_blob_goes() {
    let (registry, _proxy, user) = lab();
    let repository = user.open(&registry.at("a/b"));
    assert_eq!(put(&*repository, b"").unwrap(), Delivered::Uploaded);
    assert_there(&registry, b"");
}

#[test]
fn a_blob_of_another_repository_is_mounted() {
    let (registry, proxy, user) = lab();
    let content = bytes(50_000, 2);
    put(&*user.open(&registry.at("other/one")), &content).unwrap();
    let repository = user.open(&proxy.at("a/b"));
    let mounts = ["a/b", "not/there", "other/one"].map(str::to_owned);
    let delivered = repository.put_blob(&blob(&content), &content, &mounts, &|_| {});
    assert_eq!(delivered.unwrap(), Delivered::Mounted);
    assert_there(&registry, &content);
    assert_eq!(proxy.count("PUT", ""), 0);
}

#[test]
fn a_mount_that_is_not_done_is_an_upload() {
    let (registry, proxy, user) = lab();
    let content = bytes(50_000, 3);
    let repository = user.open(&proxy.at("a/b"));
    let mounts = ["no/one", "no/two"].map(str::to_owned);
    let delivered = repository.put_blob(&blob(&content), &content, &mounts, &|_| {});
    assert_eq!(delivered.unwrap(), Delivered::Uploaded);
    assert_there(&registry, &content);
    assert_eq!(proxy.count("POST", ""), 2);
    proxy.next("POST", "mount=", Fault::Status(405, None));
    let content = bytes(50_000, 4);
    let delivered = repository.put_blob(&blob(&content), &content, &mounts[..1], &|_| {});
    assert_eq!(delivered.unwrap(), Delivered::Uploaded);
    assert_there(&registry, &content);
}

#[test]
fn rights_for_a_mount_are_asked_for() {
    let (registry, proxy, user) = lab();
    let content = bytes(10_000, 5);
    put(&*user.open(&registry.at("other/one")), &content).unwrap();
    proxy.ask_for_tokens(Tokens::default());
    let repository = user.open(&proxy.at("a/b"));
    let mounts = ["other/one".to_owned()];
    let delivered = repository.put_blob(&blob(&content), &content, &mounts, &|_| {});
    assert_eq!(delivered.unwrap(), Delivered::Mounted);
    let asked = proxy
        .seen()
        .into_iter()
        .filter(|seen| seen.path.starts_with("/token"));
    let asked: Vec<String> = asked.map(|seen| seen.path).collect();
    assert_eq!(
        asked,
        [
            "/token?service=test&scope=repository%3Aa%2Fb%3Apull%2Cpush",
            "/token?service=test&scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Aother%2Fone%3Apull"
        ]
    );
}

#[test]
fn a_blob_goes_in_chunks_where_one_piece_is_refused() {
    for status in [413, 404, 405, 416] {
        let (registry, proxy, user) = lab();
        let content = bytes(40 << 20, 6);
        proxy.always("PUT", "/blobs/", Fault::LongBody(1 << 20, status));
        let repository = user.open(&proxy.at("a/b"));
        assert_eq!(
            put(&*repository, &content).unwrap(),
            Delivered::Uploaded,
            "{status}"
        );
        assert_there(&registry, &content);
        assert_eq!(proxy.count("PATCH", ""), 3);
        // The next one is not tried in one piece again.
        let more = bytes(41 << 20, 7);
        put(&*repository, &more).unwrap();
        assert_eq!(proxy.count("PUT", ""), 3);
    }
}

#[test]
fn chunks_are_as_long_as_the_registry_takes_them() {
    let (registry, proxy, user) = lab();
    let content = bytes(9 << 20, 8);
    proxy.always("PUT", "/blobs/", Fault::LongBody(1 << 20, 413));
    proxy.always("PATCH", "/blobs/", Fault::LongBody(4 << 20, 413));
    let repository = user.open(&proxy.at("a/b"));
    assert_eq!(put(&*repository, &content).unwrap(), Delivered::Uploaded);
    assert_there(&registry, &content);
    let lengths: Vec<String> = proxy
        .seen()
        .iter()
        .filter(|seen| seen.method == "PATCH")
        .map(|seen| {
            format!(
                "{} {}",
                seen.header("content-length"),
                seen.header("content-range")
            )
        })
        .collect();
    assert_eq!(
        lengths[lengths.len() - 3..],
        [
            "4194304 0-4194303",
            "4194304 4194304-8388607",
            "1048576 8388608-9437183"
        ]
    );
    let (_registry, proxy, user) = lab();
    proxy.always("PUT", "/blobs/", Fault::LongBody(1 << 20, 413));
    proxy.always(
        "POST",
        "/blobs/",
        Fault::Header("oci-chunk-min-length", "20971520"),
    );
    put(&*user.open(&proxy.at("a/b")), &bytes(25 << 20, 9)).unwrap();
    let seen = proxy.seen();
    let first = seen.iter().find(|seen| seen.method == "PATCH").unwrap();
    assert_eq!(first.header("content-length"), "20971520");
}

#[test]
fn a_cut_upload_is_gone_on_with() {
    let (registry, proxy, user) = lab();
    let content = bytes(24 << 20, 10);
    proxy.always("PUT", "/blobs/", Fault::LongBody(1 << 20, 413));
    proxy.next("PATCH", "/blobs/", Fault::KeepPart(5 << 20));
    let sent = AtomicI64::new(0);
    let back = AtomicI64::new(0);
    let repository = user.open(&proxy.at("a/b"));
    let delivered = repository.put_blob(&blob(&content), &content, &[], &|count| {
        sent.fetch_add(count, Ordering::SeqCst);
        back.fetch_add(count.min(0), Ordering::SeqCst);
    });
    assert_eq!(delivered.unwrap(), Delivered::Uploaded);
    assert_there(&registry, &content);
    assert_eq!(sent.load(Ordering::SeqCst), 24 << 20);
    assert!(back.load(Ordering::SeqCst) <= 0);
    assert!(user.waits()[0].contains("was cut"));
    let ranges: Vec<String> = proxy
        .seen()
        .iter()
        .filter(|seen| seen.method == "PATCH")
        .map(|seen| seen.header("content-range").to_owned())
        .collect();
    assert_eq!(
        ranges,
        ["0-16777215", "5242880-22020095", "22020096-25165823"]
    );
}

#[test]
fn one_piece_that_was_cut_is_gone_on_with_in_chunks() {
    let (registry, proxy, user) = lab();
    let content = bytes(24 << 20, 20);
    proxy.next("PUT", "/blobs/", Fault::KeepPart(20 << 20));
    let repository = user.open(&proxy.at("a/b"));
    assert_eq!(put(&*repository, &content).unwrap(), Delivered::Uploaded);
    assert_there(&registry, &content);
    let seen = proxy.seen();
    let rest = seen.iter().find(|seen| seen.method == "PATCH").unwrap();
    assert_eq!(rest.header("content-range"), "20971520-25165823");
}

#[test]
fn one_piece_that_was_cut_goes_again() {
    let (registry, proxy, user) = lab();
    let content = bytes(24 << 20, 11);
    // Nothing of it was kept: the registry does not know the upload any more.
    proxy.next("PUT", "/blobs/", Fault::CutRequest(5 << 20));
    let sent = AtomicI64::new(0);
    let repository = user.open(&proxy.at("a/b"));
    let delivered = repository.put_blob(&blob(&content), &content, &[], &|count| {
        sent.fetch_add(count, Ordering::SeqCst);
    });
    assert_eq!(delivered.unwrap(), Delivered::Uploaded);
    assert_eq!(sent.load(Ordering::SeqCst), 24 << 20);
    let repository = User::new().open(&registry.at("a/b"));
    let reader = repository.read_blob(&blob(&content), None).unwrap();
    assert!(read(reader).unwrap() == content, "other bytes");
    assert_eq!(proxy.count("PUT", ""), 2);
}

#[test]
fn a_lost_answer_does_no_harm() {
    let (registry, proxy, user) = lab();
    let content = bytes(2 << 20, 12);
    proxy.next("PUT", "/blobs/", Fault::LoseAnswer);
    proxy.next("POST", "/blobs/", Fault::Status(429, Some("0")));
    let repository = user.open(&proxy.at("a/b"));
    put(&*repository, &content).unwrap();
    assert_there(&registry, &content);
    assert!(user.waits()[0].contains("429"));
}

#[test]
fn a_registry_that_always_fails_is_given_up_and_nothing_stays_open() {
    let (registry, proxy, user) = lab();
    let content = bytes(2 << 20, 13);
    proxy.always("PUT", "/blobs/", Fault::Status(500, None));
    let repository = user.open(&proxy.at("a/b"));
    let error = put(&*repository, &content).unwrap_err();
    assert!(error.to_string().contains("answered 500"), "{error}");
    assert_eq!(registry.open_uploads("a/b"), 0);
    // A server that asks for more than a minute is told of instead.
    proxy.always("POST", "/blobs/", Fault::Status(429, Some("3600")));
    let error = put(&*repository, &content).unwrap_err();
    assert!(error.to_string().contains("answered 429"), "{error}");
}

#[test]
fn wrong_bytes_are_refused_by_the_registry() {
    let (_registry, proxy, user) = lab();
    let repository = user.open(&proxy.at("a/b"));
    let content = bytes(100_000, 14);
    let error = repository
        .put_blob(&blob(&bytes(100_000, 15)), &content, &[], &|_| {})
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("does not take blob sha256:"), "{text}");
    assert!(text.contains("DIGEST_INVALID"), "{text}");
    // Debian's registry cannot be told to forget such an upload; the attempt is made.
    assert_eq!(proxy.count("DELETE", "/blobs/uploads/"), 1);
}

/// A source that ends early, fails, or waits.
enum Bad {
    Short(Vec<u8>),
    Broken,
    Slow,
}

impl BlobSource for Bad {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Self::Short(bytes) => bytes.open(offset),
            Self::Broken => Err(io::Error::other("the disk is gone")),
            Self::Slow => Ok(Box::new(Slow)),
        }
    }
}

struct Slow;

impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        std::thread::sleep(Duration::from_millis(1000));
        buffer[0] = 1;
        Ok(1)
    }
}

#[test]
fn a_source_that_fails_is_the_error() {
    let (registry, _proxy, user) = lab();
    let repository = user.open(&registry.at("a/b"));
    let wanted = blob(&bytes(2 << 20, 16));
    for (source, why) in [
        (Bad::Short(bytes(1000, 16)), "ended 2096152 bytes early"),
        (Bad::Broken, "the disk is gone"),
    ] {
        let error = repository
            .put_blob(&wanted, &source, &[], &|_| {})
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("cannot read what is to be sent: "),
            "{text}"
        );
        assert!(text.contains(why), "{text}");
        // Debian's registry keeps what came of an upload for some days: it takes no word of it any
        // more.
    }
    assert_eq!(user.waits(), Vec::<String>::new());
}

#[test]
fn giving_up_leaves_nothing_open() {
    let (registry, _proxy, user) = lab();
    let repository = user.open(&registry.at("a/b"));
    let interrupt = user.interrupt.clone();
    let waiter = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        interrupt.request();
    });
    let error = repository
        .put_blob(&blob(&bytes(2 << 20, 17)), &Bad::Slow, &[], &|_| {})
        .unwrap_err();
    assert_eq!(error.to_string(), "interrupted");
    waiter.join().unwrap();
    assert_eq!(registry.open_uploads("a/b"), 0);
}

#[test]
fn an_upload_elsewhere_is_not_told_who_asks() {
    let (registry, proxy, user) = lab();
    proxy.ask_for_tokens(Tokens::default());
    let storage = Proxy::start(registry.port());
    let content = bytes(100_000, 18);
    let repository = user.open(&proxy.at("a/b"));
    // The place of an upload that the registry knows, at another address.
    let begun = std::process::Command::new("curl")
        .args([
            "-sf",
            "-X",
            "POST",
            "-o",
            "/dev/null",
            "-w",
            "%{redirect_url}%header{location}",
        ])
        .arg(format!(
            "http://{}/v2/a/b/blobs/uploads/",
            registry.address()
        ))
        .output()
        .unwrap();
    let location = String::from_utf8(begun.stdout).unwrap();
    let location = location.replace(&registry.address(), &storage.address());
    assert!(location.contains(&storage.address()), "{location}");
    let location: &'static str = Box::leak(location.into_boxed_str());
    proxy.next("POST", "/blobs/", Fault::Header("location", location));
    assert_eq!(put(&*repository, &content).unwrap(), Delivered::Uploaded);
    assert_eq!(storage.count("PUT", "digest=sha256%3A"), 1);
    assert!(
        storage
            .seen()
            .iter()
            .all(|seen| seen.header("authorization").is_empty())
    );
    let repository = User::new().open(&registry.at("a/b"));
    assert!(repository.has_blob(&blob(&content)).unwrap());
}

#[test]
fn many_threads_bring_and_read_blobs_at_once() {
    let (registry, proxy, user) = lab();
    proxy.ask_for_tokens(Tokens::default());
    let repository = user.open(&proxy.at("a/b"));
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let repository = &repository;
            scope.spawn(move || {
                let content = bytes(1 << 20, 100 + seed);
                assert_eq!(put(&**repository, &content).unwrap(), Delivered::Uploaded);
                let reader = repository.read_blob(&blob(&content), None).unwrap();
                assert!(read(reader).unwrap() == content);
            });
        }
    });
    assert_eq!(registry.open_uploads("a/b"), 0);
    let tokens = proxy.count("GET", "/token");
    assert!(tokens <= 2, "{tokens} tokens");
}

/// Proxies answer 417 when they do not know `Expect`: it is left out then, and from then on.
#[test]
fn a_registry_that_takes_no_expectations() {
    let (registry, proxy, user) = lab();
    let repository = user.open(&proxy.at("a/b"));
    proxy.next("PUT", "/blobs/uploads/", Fault::Status(417, None));
    for seed in [1, 2] {
        let content = bytes(3_000_000, seed);
        assert_eq!(put(&*repository, &content).unwrap(), Delivered::Uploaded);
        assert_there(&registry, &content);
    }
    let puts = proxy.seen().into_iter().filter(|seen| seen.method == "PUT");
    let expected: Vec<_> = puts
        .map(|seen| seen.headers.contains_key("expect"))
        .collect();
    assert_eq!(expected, [true, false, false]);
}
