//! What signatures cost: a pull that demands one, beside the same pull that does not.

use std::fs;

use crate::lab::{Lab, middle, printed, time};
use crate::peers::Registry;
use crate::share_whole::pull_into;
use crate::table::{Limit, Row};

const ROUNDS: usize = 7;

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    lab.ensure_built();
    let registry = Registry::start(&lab.path("trust-registry"));
    let image = registry.direct("bench/signed:1");
    let user = lab.path("trust");
    let config = lab.path("trust.kdl");
    fs::create_dir_all(&user).unwrap();
    let own = |mut command: std::process::Command| {
        command
            .env("VMFAB_CONFIG", &config)
            .env("HOME", &user)
            .env("XDG_CONFIG_HOME", &user)
            .env("XDG_DATA_HOME", &user);
        command
    };
    fs::write(&config, "").unwrap();
    time(own(lab.vmfab()).args(["key", "new", "bench"]));
    time(own(lab.vmfab()).args(["push", "@docker", &image, "--sign=bench"]));
    let key = printed(own(lab.vmfab()).args(["key", "export", "bench"]));
    time(own(lab.vmfab()).args(["key", "trust", key.trim(), "--for", "*"]));
    let home = lab.path("trust-home");
    let pull = |policy: &str| {
        fs::write(&config, format!("signatures \"{policy}\" \"*\"\n")).unwrap();
        time(&mut own(pull_into(&home, &image)))
    };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(pull("off"));
        with.push(pull("require"));
    }
    vec![Row {
        what: "pull of a signed image, signature demanded",
        vmfab: middle(with).into(),
        limit: Limit::Ratio {
            peer: "the same pull, not demanded",
            needs: middle(without).into(),
            most: 1.05,
        },
    }]
}
