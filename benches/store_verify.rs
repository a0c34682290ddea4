//! A whole store checked: its packs are read and hashed, its content decompressed and hashed.

use std::fs::File;
use std::io::{BufWriter, Write};

use crate::extents::for_each_block;
use crate::lab::{Lab, median, time};
use crate::peers;
use crate::store::Store;
use crate::table::{Limit, Row};

const RUNS: usize = 3;
/// At least 0.8 of the throughput that hashing and decompressing have one after the other.
const MOST: f64 = 1.0 / 0.8;

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    let disk = lab.disk();
    let store = Store::new(&lab.path("verify"));
    store.add(&disk);
    let vmfab = median(RUNS, || time(&mut store.command("verify")));

    let packs = store.packs();
    let hash = median(RUNS, || peers::b3sum(&packs));
    // What the disk holds, without its holes: a store has nothing to decompress for them.
    let [content, compressed] = ["content", "content.zst"].map(|name| lab.path(name));
    let mut writer = BufWriter::new(File::create(&content).unwrap());
    for_each_block(&disk, 4096, |block| writer.write_all(block).unwrap());
    writer.into_inner().unwrap();
    peers::zstd(&content, &compressed);
    let decompress = median(RUNS, || peers::zstd_to_nowhere(&compressed));
    vec![Row {
        what: "store verify, 400 MiB",
        vmfab: vmfab.into(),
        limit: Limit::Ratio {
            peer: "b3sum of the packs, then zstd -t",
            needs: (hash + decompress).into(),
            most: MOST,
        },
    }]
}
