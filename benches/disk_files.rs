//! The disk of a tree with 100,000 files in one directory, beside that of one with the same bytes
//! in 100 directories.

use std::fs;

use sha2::{Digest, Sha256};

use crate::lab::{Lab, time};
use crate::table::{Limit, Row};

const FILES: u32 = 100_000;

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    let root = lab.path("files");
    fs::create_dir_all(&root).unwrap();
    let [one, many] = [1, 100].map(|directories| {
        let tar = tree(directories);
        let path = root.join(format!("{directories}.tar"));
        fs::write(&path, &tar).unwrap();
        let sum: String = Sha256::digest(&tar)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let build = |size: &str| {
            let recipe = format!(
                "image \"files\" {{ layer {{ fetch \"file://{}\" sha256=\"{sum}\" }}; disk size=\"{size}\" }}\n",
                path.display()
            );
            fs::write(root.join("files.kdl"), recipe).unwrap();
            let mut command = lab.vmfab();
            time(command.args(["build", "files.kdl"]).current_dir(&root))
        };
        // The layer is unpacked then; another size is another disk of the same tree.
        build("2G");
        build("3G")
    });
    vec![Row {
        what: "disk of 100,000 files in one directory",
        vmfab: one.into(),
        limit: Limit::Ratio {
            peer: "the same files in 100 directories",
            needs: many.into(),
            most: 1.3,
        },
    }]
}

/// A tree that can become a disk, with so many directories of files.
fn tree(directories: u32) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_mtime(1_600_000_000);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content).unwrap();
    };
    let (directory, file) = (tar::EntryType::Directory, tar::EntryType::Regular);
    for path in ["boot", "etc", "sbin", "many"] {
        add(path, directory, b"");
    }
    add("boot/vmlinuz-1", file, b"MZ");
    add("etc/os-release", file, b"ID=x\n");
    add("sbin/init", file, b"#!");
    for number in 0..directories {
        add(&format!("many/{number:03}"), directory, b"");
    }
    for number in 0..FILES {
        let path = format!("many/{:03}/file-{number:06}", number % directories);
        add(&path, file, format!("{number:06}").repeat(20).as_bytes());
    }
    tar.into_inner().unwrap()
}
