//! Machines that start before their image is here: Debian with Docker from a registry on this host,
//! at once and with a delay of each answer, beside the same image in the store.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::lab::{Lab, copy_tree, middle, remove, time, tool, vmfab};
use crate::peers::Registry;
use crate::share_whole::pull_into;
use crate::table::{Limit, Quantity, Row};

const NAME: &str = "bench-lazy";
const ROUNDS: usize = 3;
const DELAY: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(300);
/// `qemu-img bench`: so many reads of so many bytes.
const READS: &str = "32768";
const READ: &str = "65536";

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    lab.ensure_built();
    let registry = Registry::start(&lab.path("lazy-registry"));
    let (plain, ordered) = (
        registry.at("bench/docker:1"),
        registry.at("bench/ordered:1"),
    );
    time(lab.vmfab().args(["push", "@docker", &plain]));
    time(
        lab.vmfab()
            .args(["push", "@docker", &ordered, "--record-boot"]),
    );
    let whole = {
        let home = lab.path("lazy-pull");
        registry.received(|| {
            time(&mut pull_into(&home, &plain));
        })
    };
    let pull = middle(
        (0..ROUNDS)
            .map(|_| time(&mut pull_into(&lab.path("lazy-pull"), &plain)))
            .collect(),
    );
    let local = median(|| Guest::boot(&lab.home(), "@docker").1);
    let home = lab.path("lazy-home");
    let mut fetched = 0;
    let lazy = median(|| {
        empty(lab, &home);
        let mut took = Duration::ZERO;
        fetched = registry.received(|| took = Guest::boot(&home, &ordered).1);
        took
    });
    registry.delay(DELAY);
    let delayed = median(|| {
        empty(lab, &home);
        Guest::boot(&home, &ordered).1
    });
    registry.delay(Duration::ZERO);
    let background = median(|| {
        empty(lab, &home);
        let guest = Guest { home: home.clone() };
        let mut boot = guest.vmfab();
        boot.args(["boot", &plain, "--name", NAME]);
        let started = Instant::now();
        let mut boot = boot
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        guest.wait_for_rest(started, true);
        let took = guest.wait_for_rest(started, false);
        boot.wait().unwrap();
        took
    });
    empty(lab, &home);
    let (guest, _) = Guest::boot(&home, &ordered);
    guest.wait_for_rest(Instant::now(), false);
    let (file, served) = (guest.disk(), "nbd+unix:///disk?socket=disk.sock");
    let read = |what: &str| {
        median(|| {
            time(
                tool("qemu-img", "qemu-utils")
                    .args(["bench", "-q", "-f", "raw", "-d", "16", "-c", READS])
                    .args(["-s", READ, what])
                    .current_dir(guest.directory()),
            )
        })
    };
    let (served, from_file) = (read(served), read(file.to_str().unwrap()));
    let row = |what, vmfab, peer, needs, most| Row {
        what,
        vmfab,
        limit: Limit::Ratio { peer, needs, most },
    };
    vec![
        row(
            "boot from a registry: received until SSH",
            Quantity::Bytes(fetched),
            "the whole pull",
            Quantity::Bytes(whole),
            0.15,
        ),
        row(
            "boot from a registry, until SSH",
            lazy.into(),
            "boot of the same image in the store",
            local.into(),
            1.1,
        ),
        row(
            "boot from a registry, each answer 100 ms late",
            delayed.into(),
            "boot of the same image in the store",
            local.into(),
            1.3,
        ),
        row(
            "boot from a registry, no boot order: all is here",
            background.into(),
            "vmfab pull of the image",
            pull.into(),
            1.3,
        ),
        row(
            "reads of a disk that is served, all is here",
            served.into(),
            "the plain file",
            from_file.into(),
            1.25,
        ),
    ]
}

/// Makes a home in which nothing is but what was found out of this host.
fn empty(lab: &Lab, home: &Path) {
    remove(home);
    fs::create_dir_all(home.join("cache")).unwrap();
    copy_tree(&lab.home().join("cache/probes"), &home.join("cache/probes"));
}

fn median(run: impl FnMut() -> Duration) -> Duration {
    middle(std::iter::repeat_with(run).take(ROUNDS).collect())
}

/// A machine that is removed at the end.
struct Guest {
    home: PathBuf,
}

impl Guest {
    /// Boots it; tells how long it took until it could be entered.
    fn boot(home: &Path, image: &str) -> (Self, Duration) {
        let guest = Self {
            home: home.to_owned(),
        };
        let took = time(guest.vmfab().args(["boot", image, "--name", NAME]));
        (guest, took)
    }

    fn vmfab(&self) -> Command {
        vmfab(&self.home)
    }

    fn directory(&self) -> PathBuf {
        self.home.join("machines").join(NAME)
    }

    /// Waits until a part of its image is to be fetched, or nothing any more; tells how long that
    /// took.
    fn wait_for_rest(&self, since: Instant, wanted: bool) -> Duration {
        let notes = || {
            fs::read_dir(self.home.join("pending"))
                .into_iter()
                .flatten()
        };
        let is_note = |name: std::ffi::OsString| name.to_string_lossy().ends_with(".json");
        while notes().any(|entry| is_note(entry.unwrap().file_name())) != wanted {
            assert!(since.elapsed() < PATIENCE, "the image does not come");
            std::thread::sleep(Duration::from_millis(5));
        }
        since.elapsed()
    }

    /// The plain file of its image's disk.
    fn disk(&self) -> PathBuf {
        let disks = fs::read_dir(self.home.join("cache/disks")).unwrap();
        let mut files = disks.map(|disk| disk.unwrap().path());
        // Beside it is what is known of it; and the kernel.
        let is_disk = |file: &PathBuf| fs::metadata(file).unwrap().len() > 1 << 30;
        files.find(is_disk).unwrap()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.vmfab().args(["rm", "--force", NAME]).output();
    }
}
