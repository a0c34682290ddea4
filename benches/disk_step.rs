//! A role on a disk that somebody else made, with only its last step changed, beside one boot of
//! that disk until SSH and the step by itself.

use crate::lab::{Lab, time};
use crate::table::{Limit, Row};

const STEP: &str = "seq 1000000 | sort -R --random-source=/dev/zero | md5sum > /srv/last";

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    let directory = lab.path("role");
    std::fs::create_dir_all(&directory).unwrap();
    let recipe = "image \"base\" { from \"debian-12\"; disk size=\"2G\"
    run \"ln -sf boot/vmlinuz-* /vmlinuz; ln -sf boot/initrd.img-* /initrd.img\" }\n";
    std::fs::write(directory.join("base.kdl"), recipe).unwrap();
    let role = |number: u32| {
        let text = format!(
            "image \"role\" {{
    from \"./base.raw\"
    kernel \"/vmlinuz\" initrd=\"/initrd.img\"
    boot \"root=LABEL=vmfab-root\"
    run \"true # first\"
    run \"{STEP} # {number}\"
}}
image \"plain\" {{ from \"./base.raw\"; kernel \"/vmlinuz\" initrd=\"/initrd.img\"; boot \"root=LABEL=vmfab-root\" }}
"
        );
        std::fs::write(directory.join("role.kdl"), text).unwrap();
    };
    let vmfab = |arguments: &[&str]| {
        let mut command = lab.vmfab();
        command.args(arguments).current_dir(&directory);
        time(&mut command)
    };
    vmfab(&["build", "base.kdl", "--output", "base.raw"]);
    role(1);
    vmfab(&["build", "role.kdl", "role"]);
    vmfab(&["build", "role.kdl", "plain"]);
    role(2);
    let changed = vmfab(&["build", "role.kdl", "role"]);
    let boot = vmfab(&[
        "boot", "@plain", "--name", "plain", "--memory", "2G", "--cpus", "2",
    ]);
    let step = vmfab(&["ssh", "plain", "--", STEP]);
    vmfab(&["rm", "--force", "plain"]);
    vec![Row {
        what: "role on a disk, last step changed",
        vmfab: changed.into(),
        limit: Limit::Ratio {
            peer: "one boot and the step by itself",
            needs: (boot + step).into(),
            most: 1.0,
        },
    }]
}
