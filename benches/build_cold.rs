//! Debian 12 with Docker, from nothing to a bootable qcow2 disk, downloads included.

use crate::lab::{Lab, time};
use crate::peers;
use crate::table::{Limit, Row};

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    let peer = peers::build_disk(&lab.path("debian"));
    lab.forget();
    let output = lab.path("cold.qcow2");
    let vmfab = time(lab.docker_build().arg("--output").arg(&output));
    lab.cold = Some(vmfab);
    vec![Row {
        what: "cold build, Debian 12 with Docker, to qcow2",
        vmfab: vmfab.into(),
        limit: Limit::Ratio {
            peer: "mmdebstrap + mke2fs + qemu-img",
            needs: peer.into(),
            most: 1.15,
        },
    }]
}
