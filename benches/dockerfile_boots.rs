//! From the layers of a Dockerfile to a disk that boots: what vmfab adds to what docker has.

use std::fs;
use std::time::Duration;

use crate::lab::{Lab, time, tool};
use crate::table::{Limit, Row};

/// The two steps together may take so long, once the packages are downloaded.
const MOST: Duration = Duration::from_secs(8);

const DOCKERFILE: &str = "\
FROM scratch
ADD base.tar /
RUN echo text > /file
";

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    let context = lab.path("dockerfile-bare");
    fs::create_dir_all(&context).unwrap();
    time(
        tool("mmdebstrap", "mmdebstrap")
            .args(["--variant=minbase", "bookworm"])
            .arg(context.join("base.tar")),
    );
    fs::write(context.join("Dockerfile"), DOCKERFILE).unwrap();
    // Locked packages come out of the store.
    for verb in ["build", "lock"] {
        time(lab.vmfab().arg(verb).arg(&context));
    }
    let log = lab.path("dockerfile-bare-events");
    time(
        lab.vmfab()
            .arg("--log")
            .arg(&log)
            .args(["build", "--rebuild"])
            .arg(&context),
    );
    let text = fs::read_to_string(&log).unwrap();
    let seconds = |step: &str| -> f64 {
        let of_step = |event: &serde_json::Value| {
            let name = event["name"].as_str().unwrap_or_default();
            event["event"] == "step-finished" && name.contains(step)
        };
        let events = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let found = events.into_iter().find(of_step);
        found.and_then(|event| event["seconds"].as_f64()).unwrap()
    };
    let took = seconds(": bootable") + seconds(": disk");
    vec![Row {
        what: "Dockerfile on a bare Debian: bootable and disk",
        vmfab: Duration::from_secs_f64(took).into(),
        limit: Limit::Most(MOST.into()),
    }]
}
