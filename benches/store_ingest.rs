//! A disk into an empty store, and the same disk once more.

use std::time::Duration;

use crate::lab::{Lab, median, middle};
use crate::peers::{self, Restic};
use crate::store::Store;
use crate::table::{Limit, Row};

const RUNS: usize = 3;

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    let disk = lab.disk();
    // Times of a file that are younger than two seconds do not tell that it is unchanged.
    std::thread::sleep(Duration::from_secs(3));
    let home = lab.path("ingest");
    let mut again: Vec<Duration> = Vec::new();
    let first = median(RUNS, || {
        let store = Store::new(&home);
        let took = store.add(&disk);
        again.push(store.add(&disk));
        took
    });
    let qcow2 = lab.path("ingest.qcow2");
    let qemu = median(RUNS, || peers::qcow2(&disk, &qcow2));
    let repository = lab.path("ingest-restic");
    let restic = median(RUNS, || Restic::init(&repository).backup(&disk));
    let row = |what, vmfab: Duration, peer, needs: Duration, most| Row {
        what,
        vmfab: vmfab.into(),
        limit: Limit::Ratio {
            peer,
            needs: needs.into(),
            most,
        },
    };
    let new = "store add, disk of 2 GiB with 400 MiB";
    vec![
        row(new, first, "qemu-img convert, qcow2 with zstd", qemu, 0.5),
        row(new, first, "restic backup", restic, 0.25),
        row(
            "store add, the same disk again",
            middle(again),
            "the first time",
            first,
            0.05,
        ),
    ]
}
