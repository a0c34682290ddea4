//! Several processes and threads, kills, and a full disk.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use vmfab::source::{FetchError, FetchRequest, Outcome, Source};

use super::{Desk, Kept, fetch, noise, sha256};
use crate::support::http::{Fault, Server};
use crate::support::{Ran, tool};

/// What a second process is told.
const URL: &str = "VMFAB_TEST_FETCH_URL";
const CHECKSUM: &str = "VMFAB_TEST_FETCH_CHECKSUM";
const DIRECTORY: &str = "VMFAB_TEST_FETCH_DIRECTORY";

/// What the second process of these tests does, which is one of them run again: it fetches what the
/// environment says.
fn second_process() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let desk = Desk::new();
    let options = vmfab::source::FetcherOptions {
        settings: desk.settings.clone(),
        retry: super::quick(4),
        ..vmfab::source::FetcherOptions::new(desk.config.clone(), variable(DIRECTORY))
    };
    let fetcher = vmfab::source::Fetcher::new(options, desk.events.clone(), desk.interrupt.clone());
    let checksum = variable(CHECKSUM).parse().unwrap();
    let result = fetch(
        &fetcher,
        &variable(URL),
        Some(&checksum),
        None,
        &mut Kept::default(),
    );
    let said = match result {
        Ok(Outcome::Fetched(fetched)) => format!("fetched {}\n", fetched.size),
        Ok(Outcome::Already) => "already\n".to_owned(),
        Err(error) => format!("error: {error}\n"),
    };
    let mut out = std::io::stdout().lock();
    out.write_all(said.as_bytes()).unwrap();
}

/// The arguments with which this program is the second process.
const AS_SECOND: [&str; 3] = [
    "--exact",
    "sources::process::a_killed_process_is_gone_on_with",
    "--nocapture",
];

/// This program as the second process, to fetch what has these bytes.
pub(super) fn second(desk: &Desk, url: &str, bytes: &[u8]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(AS_SECOND);
    prepare(&mut command, desk, url, bytes);
    command
}

fn prepare(command: &mut Command, desk: &Desk, url: &str, bytes: &[u8]) {
    command
        .env(URL, url)
        .env(CHECKSUM, sha256(bytes).to_string())
        .env(DIRECTORY, desk.downloads())
        .stdin(Stdio::null());
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{what} did not come"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_killed_process_is_gone_on_with() {
    if std::env::var_os(URL).is_some() {
        return second_process();
    }
    let (server, desk, bytes) = (Server::start(), Desk::new(), noise(1, 3_000_000));
    server.put("/a", bytes.clone());
    server.next("/a", Fault::Slow(20_000));
    let url = server.url("/a");
    let child = second(&desk, &url, &bytes)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("a megabyte", || server.sent() > 1_000_000);
    kill(child);
    let (_, kept) = desk.gets(&url, &bytes);
    assert_eq!(kept.restarts, 0);
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    let from: usize = asked[1]["GET /a bytes=".len()..]
        .trim_end_matches('-')
        .parse()
        .unwrap();
    assert!(from > 900_000, "{from}");
    assert_eq!(server.seen()[1].sent, bytes.len() - from);
}

#[test]
fn a_process_waits_for_another_and_goes_on_when_that_is_killed() {
    let (server, desk, bytes) = (Server::start(), Desk::new(), noise(2, 3_000_000));
    server.put("/a", bytes.clone());
    server.next("/a", Fault::Slow(20_000));
    let url = server.url("/a");
    let child = second(&desk, &url, &bytes)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("a megabyte", || server.sent() > 1_000_000);
    let asked = AtomicUsize::new(0);
    let source = Source::new(&url).unwrap();
    let checksum = sha256(&bytes);
    let request = FetchRequest {
        source: &source,
        checksum: Some(&checksum),
        size: None,
        already: &|| {
            asked.fetch_add(1, Ordering::SeqCst);
            false
        },
    };
    let mut kept = Kept::default();
    std::thread::scope(|scope| {
        let fetching = scope.spawn(|| desk.fetcher().fetch(&request, &mut kept));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!fetching.is_finished(), "it waits");
        kill(child);
        assert!(matches!(fetching.join().unwrap(), Ok(Outcome::Fetched(_))));
    });
    assert!(kept.bytes == bytes);
    assert_eq!(asked.into_inner(), 1);
    assert_eq!(server.asked().len(), 2);
    assert_eq!(desk.told(), ["waiting", "waited", "started", "finished"]);
}

#[test]
fn threads_that_want_the_same_download_it_once() {
    let (server, desk, bytes) = (Server::start(), Desk::new(), noise(3, 2_000_000));
    server.put("/a", bytes.clone());
    server.always("/a", Fault::Slow(50_000));
    let fetcher = desk.fetcher();
    let source = Source::new(&server.url("/a")).unwrap();
    let checksum = sha256(&bytes);
    let stored = std::sync::atomic::AtomicBool::new(false);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let request = FetchRequest {
                        source: &source,
                        checksum: Some(&checksum),
                        size: Some(2_000_000),
                        already: &|| stored.load(Ordering::SeqCst),
                    };
                    let mut kept = Kept::default();
                    let outcome = fetcher
                        .fetch(&request, &mut Storing(&mut kept, &stored))
                        .unwrap();
                    (outcome, kept.bytes.len())
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let lengths: usize = outcomes.iter().map(|(_, length)| length).sum();
    let already = outcomes
        .iter()
        .filter(|(outcome, _)| *outcome == Outcome::Already);
    assert_eq!((lengths, already.count()), (2_000_000, 3));
    assert_eq!(server.asked(), ["GET /a"]);
    assert_eq!(desk.left(), [] as [&str; 0]);
}

/// Says when it is done, as a store would.
struct Storing<'a>(&'a mut Kept, &'a std::sync::atomic::AtomicBool);

impl vmfab::source::Taker for Storing<'_> {
    fn restart(&mut self) -> Result<(), vmfab::source::TakeError> {
        self.0.restart()
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), vmfab::source::TakeError> {
        self.0.take(bytes)
    }

    fn finish(&mut self, fetched: &vmfab::source::Fetched) -> Result<(), vmfab::source::TakeError> {
        self.0.finish(fetched)?;
        self.1.store(true, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn waiting_for_another_download_can_be_given_up() {
    let (server, mut desk, bytes) = (Server::start(), Desk::new(), noise(4, 100_000));
    desk.settings.stalled = Duration::from_secs(60);
    server.put("/a", bytes.clone());
    server.always("/a", Fault::Stall(0));
    let url = server.url("/a");
    let child = second(&desk, &url, &bytes)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("a request", || !server.asked().is_empty());
    let interrupt = desk.interrupt.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        interrupt.request();
    });
    let error = desk.refuses(&url, Some(&sha256(&bytes)));
    assert!(matches!(error, FetchError::Interrupted), "{error}");
    thread.join().unwrap();
    kill(child);
    assert_eq!(desk.told(), ["waiting", "waited"]);
}

#[test]
fn so_many_at_once_and_no_more() {
    let (server, mut desk) = (Server::start(), Desk::new());
    desk.config.parallel = 2;
    let names = ["/a", "/b", "/c", "/d", "/e"];
    for (seed, name) in names.into_iter().enumerate() {
        server.put(name, noise(seed as u8, 100_000));
        server.always(name, Fault::Slow(10_000));
    }
    let fetcher = desk.fetcher();
    let most = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = names
            .iter()
            .map(|name| {
                let (fetcher, url) = (&fetcher, server.url(name));
                scope.spawn(move || fetch(fetcher, &url, None, None, &mut Kept::default()).unwrap())
            })
            .collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            let running = server
                .seen()
                .iter()
                .filter(|seen| seen.sent < 100_000)
                .count();
            most.fetch_max(running, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    assert_eq!(server.asked().len(), 5);
    assert_eq!(most.into_inner(), 2);
}

#[test]
fn a_full_disk_is_told_and_what_is_here_stays() {
    let (server, desk, bytes) = (Server::start(), Desk::new(), noise(5, 6_000_000));
    server.put("/told", bytes.clone());
    server.put("/untold", bytes.clone());
    server.always("/untold", Fault::Chunked);
    // The file system is there for this shell only, with room for two thirds of the file.
    let script = r#"
        mount -t tmpfs -o size=4m none "$1" || exit 9
        shift
        "$@" >"$OUT.first"
        find "$VMFAB_TEST_FETCH_DIRECTORY" -name '*.partial' -size +3000k >"$OUT.kept"
        mount -o remount,size=20m "$VMFAB_TEST_FETCH_DIRECTORY"
        "$@" >"$OUT.second"
    "#;
    std::fs::create_dir(desk.downloads()).unwrap();
    for (path, requests) in [("/told", 2), ("/untold", 2)] {
        let out = desk.path().join(&path[1..]);
        let mut command = tool("unshare", "util-linux");
        command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]);
        command.arg(desk.downloads());
        command
            .arg(std::env::current_exe().unwrap())
            .args(AS_SECOND);
        prepare(&mut command, &desk, &server.url(path), &bytes);
        Ran::of(command.env("OUT", &out)).ends_with(0);
        let read =
            |extension: &str| std::fs::read_to_string(out.with_extension(extension)).unwrap();
        let first = read("first");
        assert!(first.contains("no space for "), "{first}");
        assert_eq!(
            first.contains("6000000 bytes are to come"),
            path == "/told",
            "{first}"
        );
        // Where the size is known it is not even begun.
        assert_eq!(read("kept").lines().count(), usize::from(path == "/untold"));
        let second = read("second");
        assert!(second.contains("fetched 6000000"), "{second}");
        let asked = server
            .asked()
            .into_iter()
            .filter(|line| line.contains(path));
        let asked: Vec<_> = asked.collect();
        assert_eq!(asked.len(), requests, "{asked:?}");
        assert_eq!(asked[1].contains("bytes="), path == "/untold", "{asked:?}");
    }
}
