//! A build when only its last `run` step changed.

use std::fs;

use crate::lab::{Lab, median, time};
use crate::table::{Limit, Row};

const RUNS: usize = 3;

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    if lab.cold.is_none() {
        lab.forget();
        lab.cold = Some(time(&mut lab.docker_build()));
    }
    let recipe = lab.path("changed.kdl");
    let mut round = 0;
    let vmfab = median(RUNS, || {
        round += 1;
        fs::write(&recipe, recipe_text(round)).unwrap();
        time(lab.vmfab().arg("build").arg(&recipe))
    });
    vec![Row {
        what: "build, last run step changed",
        vmfab: vmfab.into(),
        limit: Limit::Ratio {
            peer: "vmfab's cold build",
            needs: lab.cold.unwrap_or_default().into(),
            most: 0.15,
        },
    }]
}

fn recipe_text(round: usize) -> String {
    format!(
        r#"recipe "changed"
image "changed" {{
    from "docker" {{
        set "base" "debian-12"
    }}
    run "echo {round} > /etc/round"
}}
"#
    )
}
