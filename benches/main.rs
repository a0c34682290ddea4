//! `make bench`: how fast vmfab is, beside the tools that people use for the same work. Each peer
//! runs in the same run on the same machine, so that the ratios say something on any machine.
//!
//! `cargo bench --bench speed -- NAME…` runs only the measurements whose names contain a NAME.
//! The process ends with 1 when a limit is missed or something cannot be measured.

// A benchmark is a program whose output is its purpose, and that has nobody to hand an error to.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod extents;
mod lab;
mod peers;
mod store;
mod table;
mod upgrade;

#[allow(dead_code, reason = "tests use the rest")]
#[path = "../tests/support/synthetic.rs"]
mod synthetic;
#[allow(dead_code, reason = "tests use the rest")]
#[path = "../tests/support/webdriver.rs"]
mod webdriver;

mod bill;
mod boot_first_byte;
mod bootc;
mod build_changed;
mod build_cold;
mod build_unchanged;
mod daily;
mod disk_files;
mod disk_step;
mod dockerfile;
mod dockerfile_boots;
mod lazy;
mod many_derivations;
mod report;
mod share_cache;
mod share_upgrade;
mod share_whole;
mod snapshots;
mod store_dedup;
mod store_gc;
mod store_ingest;
mod store_materialise;
mod store_memory;
mod store_verify;
mod template_search;
mod trust;
mod up_warm;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use lab::Lab;
use table::Row;

/// A measurement: some rows of the table.
struct Measurement {
    name: &'static str,
    run: fn(&mut Lab) -> Vec<Row>,
}

/// In this order: the later ones use what the cold build has built.
const MEASUREMENTS: [Measurement; 32] = [
    Measurement {
        name: "many-derivations",
        run: many_derivations::run,
    },
    Measurement {
        name: "template-search",
        run: template_search::run,
    },
    Measurement {
        name: "build-cold",
        run: build_cold::run,
    },
    Measurement {
        name: "build-unchanged",
        run: build_unchanged::run,
    },
    Measurement {
        name: "build-changed",
        run: build_changed::run,
    },
    Measurement {
        name: "boot-first-byte",
        run: boot_first_byte::run,
    },
    Measurement {
        name: "report",
        run: report::run,
    },
    Measurement {
        name: "up-warm",
        run: up_warm::run,
    },
    Measurement {
        name: "snapshots",
        run: snapshots::run,
    },
    Measurement {
        name: "list",
        run: daily::list,
    },
    Measurement {
        name: "snapshot-running",
        run: daily::snapshot_running,
    },
    Measurement {
        name: "snapshot-quiesced",
        run: daily::snapshot_quiesced,
    },
    Measurement {
        name: "commit-sizes",
        run: daily::commit_sizes,
    },
    Measurement {
        name: "disk-files",
        run: disk_files::run,
    },
    Measurement {
        name: "dockerfile",
        run: dockerfile::run,
    },
    Measurement {
        name: "dockerfile-boots",
        run: dockerfile_boots::run,
    },
    Measurement {
        name: "disk-step",
        run: disk_step::run,
    },
    Measurement {
        name: "store-ingest",
        run: store_ingest::run,
    },
    Measurement {
        name: "store-dedup",
        run: store_dedup::run,
    },
    Measurement {
        name: "store-materialise",
        run: store_materialise::run,
    },
    Measurement {
        name: "store-gc",
        run: store_gc::run,
    },
    Measurement {
        name: "store-verify",
        run: store_verify::run,
    },
    Measurement {
        name: "store-memory",
        run: store_memory::run,
    },
    Measurement {
        name: "share-whole",
        run: share_whole::run,
    },
    Measurement {
        name: "share-upgrade",
        run: share_upgrade::run,
    },
    Measurement {
        name: "share-cache",
        run: share_cache::run,
    },
    Measurement {
        name: "boot-lazy",
        run: lazy::run,
    },
    Measurement {
        name: "signed-pull",
        run: trust::run,
    },
    Measurement {
        name: "bill-of-materials",
        run: bill::run,
    },
    Measurement {
        name: "bootc-run",
        run: bootc::run,
    },
    Measurement {
        name: "bootc-install",
        run: bootc::install,
    },
    Measurement {
        name: "bootc-upgrade",
        run: bootc::upgrade,
    },
];

fn main() -> ExitCode {
    // Cargo adds --bench.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    if wanted.iter().any(|name| name.starts_with('-')) {
        eprintln!(
            "cargo bench --bench speed -- [NAME]…   measures all, or those whose names contain one:"
        );
        for measurement in MEASUREMENTS {
            eprintln!("  {}", measurement.name);
        }
        return ExitCode::from(2);
    }
    let chosen: Vec<&Measurement> = MEASUREMENTS
        .iter()
        .filter(|one| wanted.is_empty() || wanted.iter().any(|name| one.name.contains(name)))
        .collect();
    if chosen.is_empty() {
        eprintln!("no measurement is named so");
        return ExitCode::from(2);
    }
    let mut lab = Lab::new();
    let mut rows = Vec::new();
    let mut failed = false;
    for measurement in chosen {
        eprintln!("measuring {} …", measurement.name);
        // One that fails says why by itself; the others count nevertheless.
        match catch_unwind(AssertUnwindSafe(|| (measurement.run)(&mut lab))) {
            Ok(more) => rows.extend(more),
            Err(_) => failed = true,
        }
    }
    print!("{}", table::render(&rows));
    if !failed && rows.iter().all(Row::holds) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
