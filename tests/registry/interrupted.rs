//! Pushes and pulls that are killed or given up at any moment, and go on the next time.

use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::bytes;
use super::home::{Home, disk, upgraded};
use super::shelf::{Shelf, digits};
use crate::support::Ran;
use crate::support::proxy::Proxy;
use crate::support::registry::Registry;

const MIB: usize = 1 << 20;

/// Starts the program.
fn start(home: &Home, words: &[&str]) -> Child {
    let mut command = home.command(words);
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Moments without a pattern, up to so many milliseconds.
fn moments(count: usize, seed: u64, longest: u64) -> impl Iterator<Item = Duration> {
    let noise = bytes(count * 2, seed);
    let moment = move |pair: [u8; 2]| {
        Duration::from_micros((u64::from(u16::from_le_bytes(pair)) * longest * 1000) >> 16)
    };
    let pairs: Vec<[u8; 2]> = noise.chunks(2).map(|pair| [pair[0], pair[1]]).collect();
    pairs.into_iter().map(moment)
}

/// Runs a command again and again, and sends it a signal each time; tells how often it was still
/// running, and how each of these runs ended.
fn interrupt(
    home: &Home,
    words: &[&str],
    moments: impl Iterator<Item = Duration>,
    signal: Signal,
) -> Vec<Ran> {
    let mut ended = Vec::new();
    for moment in moments {
        let mut child = start(home, words);
        std::thread::sleep(moment);
        let running = child.try_wait().unwrap().is_none();
        let _ = kill_process(Pid::from_child(&child), signal);
        let ran = Ran::from(child.wait_with_output().unwrap());
        if running {
            ended.push(ran);
        } else {
            ran.ends_with(0);
            break;
        }
    }
    ended
}

#[test]
fn a_pull_that_is_killed_again_and_again_goes_on_where_it_was() {
    let shelf = Shelf::new(36);
    shelf.proxy.slow_down(Duration::from_millis(16));
    let home = Home::new();
    let at = shelf.at("1");
    let ended = interrupt(&home, &["pull", &at], moments(60, 1, 1000), Signal::KILL);
    assert!(ended.len() > 20, "{}", ended.len());
    home.pull(&at);
    assert!(home.disk("web") == shelf.maker.disk("web"));
    let down = shelf.proxy.moved().1;
    assert!(
        down < 36 * MIB * 13 / 10,
        "{down} bytes in {} runs",
        ended.len()
    );
    home.is_clean();
}

#[test]
fn an_upgrade_that_is_killed_again_and_again_ends_right() {
    let shelf = Shelf::new(6);
    let home = Home::new();
    home.pull(&shelf.at("1"));
    let mut next = shelf.maker.disk("web");
    for part in 0..5 {
        let at = (part + 1) * MIB;
        next[at..at + 150_000].copy_from_slice(&bytes(150_000, part as u64 + 50));
    }
    shelf.maker.image("web", &next);
    shelf.maker.push("@web", &shelf.at("2"));
    shelf.proxy.slow_down(Duration::from_millis(30));
    let words = ["pull", &shelf.at("2")];
    interrupt(&home, &words, moments(30, 2, 300), Signal::KILL);
    home.pull(&shelf.at("2"));
    assert!(home.disk("web") == next);
    home.is_clean();
}

#[test]
fn a_push_that_is_killed_again_and_again_ends_right() {
    let (registry, home) = (Registry::start(), Home::new());
    let proxy = Proxy::start(registry.port());
    proxy.slow_down(Duration::from_millis(8));
    let content = disk(1, 36 * MIB);
    home.image("web", &content);
    let at = proxy.at("web:1");
    let ended = interrupt(
        &home,
        &["push", "@web", &at],
        moments(25, 3, 2500),
        Signal::KILL,
    );
    assert!(ended.len() > 20, "{}", ended.len());
    // Nobody sees half of it.
    let other = Home::new();
    let said = other.refused(&["pull", &registry.at("web:1")], 3);
    assert!(said.contains("web:1"), "{said}");
    proxy.slow_down(Duration::ZERO);
    home.push("@web", &at);
    home.is_clean();
    other.pull(&registry.at("web:1"));
    assert!(other.disk("web") == content);
    other.is_clean();
}

#[test]
fn ctrl_c_ends_a_pull_soon_and_keeps_what_came() {
    let shelf = Shelf::new(8);
    shelf.proxy.slow_down(Duration::from_millis(40));
    let home = Home::new();
    let at = shelf.at("1");
    for ran in interrupt(&home, &["pull", &at], moments(6, 4, 800), Signal::INT) {
        ran_interrupted(ran);
        home.run(&["store", "verify"]).ends_with(0);
        assert_eq!(home.tagged("web"), None);
    }
    shelf.proxy.slow_down(Duration::ZERO);
    home.pull(&at);
    let down = shelf.proxy.moved().1;
    assert!(down < 8 * MIB * 13 / 10, "{down}");
    assert!(home.disk("web") == shelf.maker.disk("web"));
    home.is_clean();
}

#[test]
fn ctrl_c_while_nothing_comes_is_ctrl_c() {
    use crate::support::proxy::Fault;
    let shelf = Shelf::new(2);
    let home = Home::new();
    for (method, part, words) in [
        ("GET", "/manifests/", ["pull", &shelf.at("1"), "-q"]),
        ("GET", "/blobs/", ["pull", &shelf.at("1"), "-q"]),
    ] {
        shelf.proxy.no_faults();
        shelf.proxy.always(method, part, Fault::Stall(5));
        let before = shelf.proxy.count(method, part);
        let child = start(&home, &words);
        while shelf.proxy.count(method, part) == before {
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(100));
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        ran_interrupted(Ran::from(child.wait_with_output().unwrap()));
        home.has_nothing();
    }
}

#[track_caller]
fn ran_interrupted(ran: Ran) {
    // Before it takes the signal over, the signal ends it.
    if ran.code.is_some() {
        let ran = ran.ends_with(130);
        assert!(ran.stderr.contains("interrupted"), "{}", ran.stderr);
    }
}

#[test]
fn ctrl_c_ends_a_push_soon_and_the_next_one_is_whole() {
    let (registry, home) = (Registry::start(), Home::new());
    let proxy = Proxy::start(registry.port());
    proxy.slow_down(Duration::from_millis(20));
    let content = disk(1, 8 * MIB);
    home.image("web", &content);
    let at = proxy.at("web:1");
    for ran in interrupt(
        &home,
        &["push", "@web", &at],
        moments(6, 5, 1500),
        Signal::INT,
    ) {
        ran_interrupted(ran);
    }
    Home::new().refused(&["pull", &registry.at("web:1")], 3);
    proxy.slow_down(Duration::ZERO);
    home.push("@web", &at);
    let other = Home::new();
    other.pull(&registry.at("web:1"));
    assert!(other.disk("web") == content);
}

#[test]
fn a_pull_that_was_killed_when_all_had_come_takes_what_is_there() {
    use std::os::unix::fs::PermissionsExt;
    let shelf = Shelf::new(2);
    let home = Home::new();
    let layer = &shelf.manifest("1")["layers"][1];
    let pack = digits(layer);
    let downloads = home.path("home/cache/downloads");
    std::fs::create_dir_all(&downloads).unwrap();
    let file = downloads.join(format!("{pack}.pack.partial"));
    std::fs::write(&file, shelf.layer(1)).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o444)).unwrap();
    home.pull(&shelf.at("1"));
    assert!(shelf.proxy.moved().1 < 100_000);
    assert!(home.disk("web") == shelf.maker.disk("web"));
    home.is_clean();
    // What is there and wrong begins anew, and so does what is too long.
    // A loss of power may leave zeros at the end, where the table is.
    let mut zeros = shelf.layer(1);
    let end = zeros.len() - 300;
    zeros[end..].fill(0);
    for wrong in [bytes(1000, 1), bytes(5 * MIB, 1), vec![0; 40], zeros] {
        let other = Home::new();
        std::fs::create_dir_all(other.path("home/cache/downloads")).unwrap();
        let file = other.path(&format!("home/cache/downloads/{pack}.pack.partial"));
        std::fs::write(&file, wrong).unwrap();
        other.pull(&shelf.at("1"));
        assert!(other.disk("web") == shelf.maker.disk("web"));
        other.is_clean();
    }
}

#[test]
fn two_processes_pull_the_same_image_once() {
    let shelf = Shelf::new(12);
    shelf.proxy.slow_down(Duration::from_millis(4));
    let home = Home::new();
    let at = shelf.at("1");
    let children: Vec<Child> = (0..3).map(|_| start(&home, &["pull", &at])).collect();
    for child in children {
        Ran::from(child.wait_with_output().unwrap()).ends_with(0);
    }
    assert!(home.disk("web") == shelf.maker.disk("web"));
    let down = shelf.proxy.moved().1;
    assert!(down < 13 * MIB, "{down}");
    home.is_clean();
}

#[test]
fn two_processes_pull_images_that_have_much_in_common() {
    let shelf = Shelf::new(8);
    let first = shelf.maker.disk("web");
    shelf.maker.image("other", &upgraded(&first, 7, 2 * MIB));
    shelf.maker.push("@other", &shelf.at("2"));
    shelf.proxy.slow_down(Duration::from_millis(4));
    let home = Home::new();
    let tags = ["1", "2", "2", "1"];
    let children: Vec<Child> = tags
        .iter()
        .map(|tag| start(&home, &["pull", &shelf.at(tag)]))
        .collect();
    for child in children {
        Ran::from(child.wait_with_output().unwrap()).ends_with(0);
    }
    assert!(home.disk("web") == first);
    assert!(home.disk("other") == shelf.maker.disk("other"));
    home.is_clean();
}

/// Collects garbage with the smallest limits, again and again, until a command ends.
#[track_caller]
fn collect_during(home: &Home, words: &[&str]) {
    let gc = [
        "store",
        "gc",
        "--older-than=0s",
        "--keep-last=0",
        "--max-size=1K",
        "--cache-size=1K",
    ];
    let mut child = start(home, words);
    let mut times = 0;
    while child.try_wait().unwrap().is_none() {
        home.run(&gc).ends_with(0);
        times += 1;
    }
    Ran::from(child.wait_with_output().unwrap()).ends_with(0);
    assert!(times > 2, "{times}");
    home.run(&gc).ends_with(0);
}

#[test]
fn what_is_pulled_is_no_garbage() {
    let shelf = Shelf::new(8);
    let home = Home::new();
    shelf.proxy.slow_down(Duration::from_millis(12));
    collect_during(&home, &["pull", &shelf.at("1")]);
    assert!(home.disk("web") == shelf.maker.disk("web"));
    home.is_clean();
    // What is here already and belongs to nothing is taken, or fetched again.
    let next = upgraded(&shelf.maker.disk("web"), 3, 2 * MIB);
    shelf.maker.image("web", &next);
    shelf.maker.push("@web", &shelf.at("2"));
    home.run(&["image", "rm", "@web"]).ends_with(0);
    collect_during(&home, &["pull", &shelf.at("2")]);
    assert!(home.disk("web") == next);
    home.is_clean();
}

#[test]
fn what_is_pushed_is_whole_whatever_is_collected_meanwhile() {
    let (registry, home) = (Registry::start(), Home::new());
    let proxy = Proxy::start(registry.port());
    let content = disk(1, 8 * MIB);
    // Much of the packs that it lies in is garbage.
    home.image("before", &disk(2, 8 * MIB));
    home.image("web", &upgraded(&content, 5, 3 * MIB));
    home.image("web", &content);
    home.run(&["image", "rm", "@before"]).ends_with(0);
    proxy.slow_down(Duration::from_millis(12));
    collect_during(&home, &["push", "@web", &proxy.at("web:1")]);
    home.is_clean();
    let other = Home::new();
    other.pull(&registry.at("web:1"));
    assert!(other.disk("web") == content);
}
