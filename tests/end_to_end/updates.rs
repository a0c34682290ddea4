//! What the archives have that is newer than an image.

use crate::support::{Lab, Ran, Recipes};

#[test]
fn archives_with_newer_packages_are_found() {
    let recipes = Recipes::new();
    let lab = Lab::get();
    // An archive in the image itself: what is newer does not depend on the day.
    recipes.image(
        "outdated",
        r##"
        file "/etc/apt/sources.list.d/own.list" { content "deb [trusted=yes] file:/srv/archive ./\n"; }
        run #"""
            rm -f /etc/apt/sources.list /etc/apt/sources.list.d/debian*
            mkdir -p /srv/archive
            printf '%s\n' 'Package: base-files' 'Version: 99.1' 'Architecture: all' \
                'Maintainer: A <a@example.org>' 'Filename: ./base-files.deb' 'Size: 1' \
                'Description: newer' > /srv/archive/Packages
            """#
"##,
    );
    Ran::of(&mut recipes.command("outdated")).ends_with(0);
    let check = ["image", "check-updates", "@outdated", "--json"];
    let json = lab.run(check).ends_with(100).json();
    assert_eq!(json["manager"], "apt");
    let packages = json["packages"].as_array().unwrap();
    assert_eq!(packages.len(), 1, "{json:#}");
    assert_eq!(packages[0]["name"], "base-files");
    assert_eq!(packages[0]["available"], "99.1");
    assert_eq!(packages[0]["archive"], "file:/srv/archive ./");
    let table = lab.run(["image", "check-updates", "@outdated"]);
    let table = table.ends_with(100).stdout;
    assert!(table.contains("1 newer package"), "{table}");

    recipes.image(
        "current",
        r##"
        run "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*"
"##,
    );
    Ran::of(&mut recipes.command("current")).ends_with(0);
    let none = lab.run(["image", "check-updates", "@current"]).ends_with(0);
    assert_eq!(none.stdout, "no newer packages\n");
    // An archive that does not answer is no proof that nothing is new.
    recipes.image(
        "lost",
        r##"
        run "rm -rf /etc/apt/sources.list.d/*; echo 'deb file:/nowhere ./' > /etc/apt/sources.list"
"##,
    );
    Ran::of(&mut recipes.command("lost")).ends_with(0);
    let lost = lab.run(["image", "check-updates", "@lost"]).ends_with(1);
    assert!(lost.stderr.contains("/nowhere"), "{}", lost.stderr);
    let offline = lab.run(["--offline", "image", "check-updates", "@lost"]);
    offline.ends_with(2);
    lab.run(["image", "check-updates", "@nothing"]).ends_with(3);
}
