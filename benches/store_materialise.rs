//! A disk out of the store, to a sparse file.

use std::fs::File;
use std::path::Path;

use crate::lab::{Lab, median};
use crate::peers;
use crate::store::Store;
use crate::table::{Limit, Row};

const RUNS: usize = 3;

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    let disk = lab.disk();
    let store = Store::new(&lab.path("materialise"));
    let object = store.object(&disk);
    let output = lab.path("materialised.raw");
    let vmfab = median(RUNS, || store.get(&object, &output));
    assert!(
        hash(&output) == hash(&disk),
        "store get: not what was stored"
    );
    let compressed = lab.path("disk.zst");
    peers::zstd(&disk, &compressed);
    let peer = median(RUNS, || peers::zstd_to_file(&compressed, &output));
    vec![Row {
        what: "store get, disk of 2 GiB with 400 MiB",
        vmfab: vmfab.into(),
        limit: Limit::Ratio {
            peer: "zstd -d",
            needs: peer.into(),
            most: 0.5,
        },
    }]
}

fn hash(file: &Path) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(file).unwrap()).unwrap();
    hasher.finalize()
}
