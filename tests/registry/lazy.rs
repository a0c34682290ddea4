//! Machines that start before their image is here: with the real QEMU, a registry and its faults.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::bytes;
use super::home::Home;
use super::shelf::{Shelf, digits};
use crate::machines::tiny_disk;
use crate::support::Ran;
use crate::support::proxy::Fault;

const MIB: usize = 1 << 20;
/// Where the guest writes first: far behind the start of the second pack of its disk.
const FAR: usize = 39 * MIB;
/// After so many bytes of an answer the connection is cut.
const SLOW: usize = 60_000;
/// What tests wait at most.
const MOMENT: Duration = Duration::from_secs(90);

/// An image of two packs in a registry, which a BIOS boots.
fn shelf() -> Shelf {
    let mut disk = bytes(40 * MIB, 5);
    disk[..512].copy_from_slice(&tiny_disk()[..512]);
    // The sector of its first write.
    let sector = (FAR / 512) as u32;
    disk[0x198..0x19c].copy_from_slice(&sector.to_le_bytes());
    Shelf::of(&disk)
}

/// What the path of a blob has: that of a pack.
fn pack(shelf: &Shelf, number: usize) -> String {
    let layers = &shelf.manifest("1")["layers"];
    assert_eq!(layers.as_array().unwrap().len(), 3, "two packs");
    digits(&layers[number])
}

/// A machine that is removed at the end.
struct Guest<'a> {
    home: &'a Home,
    name: &'static str,
}

impl<'a> Guest<'a> {
    /// Boots it; it is up when this ends.
    #[track_caller]
    fn boot(home: &'a Home, name: &'static str, at: &str, more: &[&str]) -> Self {
        let guest = Self { home, name };
        let words = [
            "boot", at, "--name", name, "--accel", "tcg", "--memory", "64M",
        ];
        let ran = guest.starts(&[&words[..], more].concat());
        assert!(guest.console().contains("tiny: up"), "{}", ran.stderr);
        guest
    }

    /// Starts it; nobody can enter it, so that the program gives up.
    #[track_caller]
    fn starts(&self, words: &[&str]) -> Ran {
        let ran = self.home.run(&[words, &["--timeout", "4"]].concat());
        assert!(ran.stderr.contains("was not ready"), "{}", ran.stderr);
        ran
    }

    fn path(&self, file: &str) -> PathBuf {
        self.home.path("home/machines").join(self.name).join(file)
    }

    fn console(&self) -> String {
        fs::read_to_string(self.path("console.log")).unwrap_or_default()
    }

    fn send(&self, text: &str) {
        let mut console = UnixStream::connect(self.path("console.sock")).unwrap();
        console.write_all(text.as_bytes()).unwrap();
    }

    /// The state and its reason.
    fn state(&self) -> (String, String) {
        let list = self.home.json(&["list", "--all"]);
        let list = list.as_array().unwrap().iter();
        let mut own = list.filter(|entry| entry["name"] == self.name);
        let own = own.next().unwrap();
        let text = |field: &str| own[field].as_str().unwrap_or_default().to_owned();
        (text("state"), text("reason"))
    }

    /// All of the disk that is served to QEMU, as another client reads it.
    #[track_caller]
    fn served(&self) -> Vec<u8> {
        let copy = self.home.path("copy");
        let ran = Ran::of(
            Command::new("qemu-img")
                .args(["convert", "-f", "raw", "-O", "raw"])
                .arg("nbd+unix:///disk?socket=disk.sock")
                .arg(&copy)
                .current_dir(self.path("")),
        );
        ran.ends_with(0);
        fs::read(copy).unwrap()
    }

    /// The processes that serve it, and watch those.
    fn servers(&self, what: &str) -> Vec<Pid> {
        let directory = self.path("");
        let is_one = |process: &Path| {
            let words = fs::read(process.join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).into_owned();
            let inside = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == directory);
            inside && words.contains(&format!("__disk\0{what}\0"))
        };
        let processes = fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter(|process| is_one(&process.path()))
            .filter_map(|process| process.file_name().to_str()?.parse().ok())
            .filter_map(Pid::from_raw)
            .collect()
    }

    #[track_caller]
    fn kill(&self, what: &str) {
        let servers = self.servers(what);
        assert_eq!(servers.len(), 1, "{what}");
        kill_process(servers[0], Signal::KILL).unwrap();
    }

    fn stop(&self) {
        self.home.run(&["stop", "--force", self.name]).ends_with(0);
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        self.home.run(&["rm", "--force", self.name]);
    }
}

#[track_caller]
pub(super) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < MOMENT, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_here(home: &Home) -> bool {
    home.tagged("web").is_some()
}

/// How many bytes of a pack are here before it is in the store.
fn came(home: &Home, pack: &str) -> usize {
    use std::os::unix::fs::MetadataExt;
    let file = fs::metadata(home.path("home/cache/shelf").join(pack));
    file.map_or(0, |meta| meta.blocks() as usize * 512)
}

#[test]
fn a_machine_starts_before_its_disk_is_here() {
    let shelf = shelf();
    let home = Home::new();
    let second = pack(&shelf, 2);
    // Its table is shorter: without it nobody knows which chunks there are.
    shelf.proxy.always("GET", &second, Fault::Cut(SLOW));
    let guest = Guest::boot(&home, "early", &shelf.at("1"), &[]);
    assert!(!is_here(&home), "all of it came");
    shelf.proxy.no_faults();
    assert!(guest.served() == shelf.maker.disk("web"));
    wait_until("all of it is here", || is_here(&home));
    assert!(guest.served() == shelf.maker.disk("web"));
    guest.send("W");
    wait_until("it writes", || guest.console().contains("tiny: written"));
    let notes = || fs::read_dir(home.path("home/pending")).unwrap().count();
    wait_until("nothing is left", || notes() == 0);
    guest.stop();
    wait_until("its server ends", || guest.servers("serve").is_empty());
    guest.starts(&["start", "early"]);
    assert!(guest.servers("watch").is_empty());
    assert!(!guest.path("disk.sock").exists());
    assert!(home.disk("web") == shelf.maker.disk("web"));
    home.is_clean();
}

#[test]
fn faults_of_the_registry_do_not_reach_who_reads() {
    let shelf = shelf();
    let home = Home::new();
    let second = pack(&shelf, 2);
    shelf.proxy.always("GET", &second, Fault::Cut(SLOW));
    let guest = Guest::boot(&home, "faulty", &shelf.at("1"), &[]);
    shelf.proxy.no_faults();
    for fault in [
        Fault::Status(500, None),
        Fault::Status(429, Some("1")),
        Fault::Cut(100_000),
        Fault::LoseAnswer,
        Fault::WrongByte(3000),
        Fault::WrongByte(300_000),
        Fault::Header("content-range", "bytes 9-0/9"),
        Fault::IgnoreRange,
    ] {
        shelf.proxy.next("GET", &second, fault);
    }
    assert!(guest.served() == shelf.maker.disk("web"));
    wait_until("all of it is here", || is_here(&home));
    assert!(home.disk("web") == shelf.maker.disk("web"));
    assert_eq!(guest.state(), ("running".into(), String::new()));
    home.is_clean();
}

#[test]
fn a_registry_that_goes_away_halts_the_guest_until_it_is_back() {
    let shelf = shelf();
    let home = Home::new();
    let second = pack(&shelf, 2);
    shelf.proxy.always("GET", &second, Fault::Cut(SLOW));
    let guest = Guest::boot(&home, "away", &shelf.at("1"), &[]);
    shelf.proxy.no_faults();
    shelf
        .proxy
        .always("GET", "/blobs/", Fault::Status(503, None));
    shelf
        .proxy
        .always("GET", "/manifests/", Fault::Status(503, None));
    // It waits for what a write leaves of a cluster.
    guest.send("W");
    let halted = || guest.state() == ("paused".into(), "registry".into());
    wait_until("it is halted", halted);
    assert!(!guest.console().contains("tiny: written"));
    let list = guest.home.run(&["list"]).ends_with(0).stdout;
    assert!(list.contains("paused (registry)"), "{list}");
    shelf.proxy.no_faults();
    wait_until("it goes on", || guest.console().contains("tiny: written"));
    wait_until("all of it is here", || is_here(&home));
    assert!(guest.served() == shelf.maker.disk("web"));
    assert_eq!(guest.state(), ("running".into(), String::new()));
}

#[test]
fn servers_that_are_killed_lose_nothing() {
    let shelf = shelf();
    let home = Home::new();
    let second = pack(&shelf, 2);
    shelf.proxy.always("GET", &second, Fault::Cut(SLOW));
    let guest = Guest::boot(&home, "killed", &shelf.at("1"), &[]);
    // One that is watched comes again.
    let first = guest.servers("serve");
    guest.kill("serve");
    wait_until("there is another", || {
        let now = guest.servers("serve");
        now.len() == 1 && now != first
    });
    // When all are gone, a command starts them.
    guest.kill("watch");
    guest.kill("serve");
    guest.send("W");
    wait_until("it is halted", || guest.state().0 == "paused");
    shelf.proxy.no_faults();
    home.run(&["resume", "killed"]).ends_with(0);
    wait_until("it goes on", || guest.console().contains("tiny: written"));
    assert!(guest.served() == shelf.maker.disk("web"));
    wait_until("all of it is here", || is_here(&home));
    home.is_clean();
}

#[test]
fn a_machine_that_was_killed_goes_on_with_what_came() {
    let shelf = shelf();
    let home = Home::new();
    let (first, second) = (pack(&shelf, 1), pack(&shelf, 2));
    shelf.proxy.always("GET", &second, Fault::Cut(SLOW));
    let guest = Guest::boot(&home, "again", &shelf.at("1"), &[]);
    let whole = || came(&home, &first) >= 32 * MIB;
    wait_until("the first pack is here", whole);
    guest.stop();
    wait_until("its server ends", || guest.servers("serve").is_empty());
    // Without the network it says what is missing.
    let said = home.refused(&["start", "--offline", "again"], 1);
    assert!(said.contains("are missing"), "{said}");
    let said = home.refused(&["boot", "--offline", &shelf.at("1")], 1);
    assert!(said.contains("are missing"), "{said}");
    shelf.proxy.no_faults();
    let before = shelf.proxy.count("GET", &first);
    guest.starts(&["start", "again"]);
    assert!(guest.served() == shelf.maker.disk("web"));
    wait_until("all of it is here", || is_here(&home));
    // Its head is asked for: it is no chunk.
    assert!(shelf.proxy.count("GET", &first) <= before + 2);
    home.is_clean();
}

#[test]
fn machines_of_one_image_share_what_was_fetched() {
    let shelf = shelf();
    let home = Home::new();
    let second = pack(&shelf, 2);
    shelf.proxy.always("GET", &second, Fault::Cut(SLOW));
    let one = Guest::boot(&home, "one", &shelf.at("1"), &[]);
    let two = Guest::boot(&home, "two", &shelf.at("1"), &[]);
    shelf.proxy.no_faults();
    wait_until("all of it is here", || is_here(&home));
    assert!(one.served() == shelf.maker.disk("web"));
    assert!(two.served() == shelf.maker.disk("web"));
    let down = shelf.proxy.moved().1;
    assert!(down < 44 * MIB, "{down}");
    home.is_clean();
}

#[test]
fn what_cannot_be_read_in_parts_is_pulled_first() {
    let shelf = shelf();
    let home = Home::new();
    let guest = Guest::boot(&home, "eager", &shelf.at("1"), &["--eager"]);
    assert!(is_here(&home) && !guest.path("disk.sock").exists());
    let other = Home::new();
    shelf.proxy.always("GET", "/blobs/", Fault::IgnoreRange);
    let guest = Guest::boot(&other, "whole", &shelf.at("1"), &[]);
    assert!(is_here(&other) && !guest.path("disk.sock").exists());
}

const BOOT_ORDER: &str = "application/vnd.vmfab.boot-order.v1+json";

#[test]
fn a_boot_is_recorded_and_pushed() {
    let shelf = shelf();
    let maker = &shelf.maker;
    let words = ["image", "record-boot", "@web", "--accel=tcg", "--timeout=4"];
    let ran = maker.run(&[&words[..], &["--json"]].concat()).ends_with(0);
    let said = ran.stderr.replace("\n  │ ", " ");
    assert!(
        said.contains("recorded what the machine read until it failed: "),
        "{said}"
    );
    let recorded = ran.json();
    assert_eq!(recorded["ready"], false);
    // A BIOS reads the boot sector, and looks for a few others.
    let bytes = recorded["bytes"].as_u64().unwrap();
    assert!((512..MIB as u64).contains(&bytes), "{bytes}");
    assert_eq!(recorded["disk"], 40 * MIB as u64);
    assert_eq!(maker.json(&["list", "--all"]), json!([]));

    // The same image has one now, and is pushed again; whoever has none leaves it as it is.
    let pushed = maker.push("@web", &shelf.at("1"));
    assert_eq!(
        (&pushed["present"], &pushed["new_packs"]),
        (&json!(false), &json!(0))
    );
    let layers = shelf.manifest("1")["layers"].clone();
    assert_eq!(layers[3]["mediaType"], BOOT_ORDER);
    assert_eq!(maker.push("@web", &shelf.at("1"))["present"], true);
    let other = Home::new();
    other.pull(&shelf.at("1"));
    let orders = other.path("home/cache/boot-orders");
    assert_eq!(fs::read_dir(&orders).unwrap().count(), 1);
    fs::remove_dir_all(&orders).unwrap();
    assert_eq!(other.push("@web", &shelf.at("1"))["present"], true);

    // What is wrong is no reason not to pull.
    let beyond = json!({"version": 1, "parts": [[41 * MIB, 1]]}).to_string();
    let beyond = shelf.blob(BOOT_ORDER, beyond.as_bytes());
    shelf.changed("bad", |manifest| manifest["layers"][3] = beyond.clone());
    let said = Home::new()
        .run(&["pull", &shelf.at("bad")])
        .ends_with(0)
        .stderr;
    let said = said.replace("\n  │ ", " ");
    assert!(
        said.contains("the boot order goes beyond the end of the disk"),
        "{said}"
    );
    shelf.changed("two", |manifest| {
        manifest["layers"].as_array_mut().unwrap().push(beyond);
    });
    let said = Home::new().refused(&["pull", &shelf.at("two")], 6);
    assert!(said.contains("has two boot orders"), "{said}");
    let refused = [
        "push",
        "@web",
        &shelf.at("x"),
        "--record-boot",
        "--layout=container",
    ];
    maker.refused(&refused, 2);
    maker.refused(&["image", "record-boot", "@none"], 3);
}

#[test]
fn what_a_boot_reads_comes_first_and_the_rest_after_the_boot() {
    let shelf = shelf();
    let home = Home::new();
    let order = json!({"version": 1, "parts": [[FAR, 65536], [0, 4096]]}).to_string();
    let order = shelf.blob(BOOT_ORDER, order.as_bytes());
    shelf.changed("ordered", |manifest| {
        manifest["layers"].as_array_mut().unwrap().push(order);
    });
    let (first, second) = (pack(&shelf, 1), pack(&shelf, 2));
    let guest = Guest::boot(&home, "ordered", &shelf.at("ordered"), &[]);
    wait_until("what is read comes", || came(&home, &second) > 65536);
    // Nothing else is asked for while the guest boots: this one reads what it is to read later.
    for path in ["/blobs/", "/manifests/"] {
        shelf.proxy.always("GET", path, Fault::Status(503, None));
    }
    guest.send("W");
    wait_until("it writes", || guest.console().contains("tiny: written"));
    assert_eq!(guest.state(), ("running".into(), String::new()));
    let here = (came(&home, &first), came(&home, &second));
    assert!(here.0 < 4 * MIB && here.1 < 4 * MIB, "{here:?}");
    shelf.proxy.no_faults();
    wait_until("all of it is here", || is_here(&home));
    assert!(guest.served() == shelf.maker.disk("web"));
    home.is_clean();
}
