//! The second version of an image, after one package was upgraded: what goes over the wire.

use crate::lab::{Lab, time, vmfab};
use crate::peers::{Casync, Registry, Restic};
use crate::share_whole::pull_into;
use crate::store_dedup::{build_versions, growth};
use crate::table::{Limit, Quantity, Row};

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    let registry = Registry::start(&lab.path("registry"));
    let names = ["1", "2"].map(|version| registry.at(&format!("bench/upgrade:{version}")));
    let mut sent = Vec::new();
    let mut push = |lab: &Lab, number: usize| {
        let run = || _ = time(lab.vmfab().args(["push", "@upgrade", &names[number]]));
        sent.push(registry.sent(run));
    };
    // Each is pushed when it is built: the next build takes its tag.
    let (upgrade, [before, after]) = build_versions(lab, &mut push);
    let home = lab.path("pulled");
    let first = registry.received(|| _ = time(&mut pull_into(&home, &names[0])));
    let second = registry.received(|| _ = time(vmfab(&home).args(["pull", &names[1]])));

    let casync = Casync::new(&lab.path("upgrade-casync"));
    let restic = Restic::init(&lab.path("upgrade-restic"));
    let disks = [&before, &after];
    let casync = growth(
        disks,
        |disk| casync.make(&disk.file_stem().unwrap().to_string_lossy(), disk),
        || casync.stored(),
    );
    let restic = growth(disks, |disk| _ = restic.backup(disk), || restic.stored());
    [
        ("push, one package upgraded: bytes sent", sent[1], sent[0]),
        ("pull, one package upgraded: bytes received", second, first),
    ]
    .into_iter()
    .flat_map(|(what, vmfab, whole)| {
        let ratio = |peer, needs, most| Limit::Ratio {
            peer,
            needs: Quantity::Bytes(needs),
            most,
        };
        let information = |peer, needs| Limit::None {
            peer,
            needs: Quantity::Bytes(needs),
        };
        let limits = [
            ratio("the .deb", upgrade.size, 1.6),
            ratio("the first version", whole, 0.03),
            information("casync, new chunks", casync),
            information("restic, new packs", restic),
        ];
        limits.map(|limit| Row {
            what,
            vmfab: Quantity::Bytes(vmfab),
            limit,
        })
    })
    .collect()
}
