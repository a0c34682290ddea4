//! A search in ten thousand templates: the whole command.

use std::fs;

use vmfab::template::{Package, PackageFile};

use crate::lab::{Lab, median, time};
use crate::table::{Limit, Row};

const COUNT: usize = 10_000;
const ROUNDS: usize = 9;

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    let directory = lab.path("templates");
    fs::create_dir(&directory).unwrap();
    for number in 0..COUNT {
        let recipe = format!(
            "recipe \"tool-{number}\" version=\"1.{number}.0\" {{\n    description \"Machine number {number} with \
             a set of tools for people who need it\"\n    author \"Ada <ada@example.org>\"\n    license \"MIT\"\n    \
             tags \"tools\" \"group-{}\"\n}}\nimage \"tool-{number}\" {{ from \"alpine@3.22\" }}\n",
            number % 100
        );
        let package = Package::pack(vec![PackageFile {
            path: "template.kdl".to_owned(),
            executable: false,
            content: recipe.into_bytes(),
        }]);
        let package = package.unwrap();
        fs::write(directory.join(package.file_name()), package.bytes()).unwrap();
    }
    let config = lab.path("templates.kdl");
    let vmfab = || {
        let mut command = lab.vmfab();
        command.env("VMFAB_CONFIG", &config).arg("template");
        command
    };
    fs::write(&config, "").unwrap();
    time(vmfab().args(["repo", "add", "acme"]).arg(&directory));
    let search = |words: &[&str]| {
        let run = || time(vmfab().args(["--offline", "search"]).args(words));
        median(ROUNDS, run)
    };
    let row = |what, words: &[&str]| Row {
        what,
        vmfab: search(words).into(),
        limit: Limit::Most(std::time::Duration::from_millis(50).into()),
    };
    vec![
        row("search of 10,000 templates, 100 found", &["GROUP-42"]),
        row("search of 10,000 templates, all listed", &[]),
    ]
}
