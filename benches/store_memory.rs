//! How much memory the store takes, which must not depend on the size of a disk.

use std::path::Path;

use crate::lab::{Lab, middle, peak_memory, remove};
use crate::store::Store;
use crate::table::{Limit, Quantity, Row};

const RUNS: usize = 3;
const MOST: u64 = 96 << 20;
/// The disk of 16 GiB compared with the one of 2 GiB.
const MOST_GROWTH: f64 = 1.1;

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    let disk = lab.disk();
    let small = Peaks::measure(lab, "memory-2g", &disk);
    let disk = lab.path("disk-16g.raw");
    lab.build_disk("16G", &disk);
    let large = Peaks::measure(lab, "memory-16g", &disk);
    [
        ("memory of store add", small.add, large.add),
        ("memory of store get", small.get, large.get),
        ("memory of store verify", small.verify, large.verify),
    ]
    .into_iter()
    .flat_map(|(what, small, large)| rows(what, small, large))
    .collect()
}

fn rows(what: &'static str, small: Quantity, large: Quantity) -> [Row; 2] {
    let most = Row {
        what,
        vmfab: small,
        limit: Limit::Most(Quantity::Bytes(MOST)),
    };
    let growth = Row {
        what,
        vmfab: large,
        limit: Limit::Ratio {
            peer: "disk of 2 GiB, this one of 16 GiB",
            needs: small,
            most: MOST_GROWTH,
        },
    };
    [most, growth]
}

/// The most memory of each command for one disk.
struct Peaks {
    add: Quantity,
    get: Quantity,
    verify: Quantity,
}

impl Peaks {
    fn measure(lab: &Lab, name: &str, disk: &Path) -> Self {
        let home = lab.path(name);
        let output = lab.path("memory.raw");
        let add = peak(|| peak_memory(Store::new(&home).command("add").arg(disk)));
        let store = Store::open(&home);
        let object = store.object(disk);
        let get = peak(|| {
            remove(&output);
            peak_memory(&store.get_command(&object, &output))
        });
        let verify = peak(|| peak_memory(&store.command("verify")));
        remove(&output);
        Self { add, get, verify }
    }
}

fn peak(mut run: impl FnMut() -> u64) -> Quantity {
    Quantity::Bytes(middle((0..RUNS).map(|_| run()).collect()))
}
