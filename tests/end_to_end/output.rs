//! Disks written to files, opened by other tools.

use serde_json::Value;

use super::super::support::{Ran, Recipes, tool};

#[test]
fn every_format_is_opened_by_qemu() {
    let recipes = Recipes::new();
    recipes.image("written", r#"run "echo written > /written""#);
    let qemu_img = |arguments: &[&str]| {
        let mut command = tool("qemu-img", "qemu-utils");
        Ran::of(command.args(arguments).current_dir(recipes.directory())).ends_with(0)
    };
    for format in ["raw", "qcow2", "vmdk", "vhdx"] {
        let file = format!("disk.{format}");
        // By the end of the name, except once.
        let build = match format {
            "raw" => recipes.build_with("written", ["-o", "disk.img", "--format", "raw"]),
            _ => recipes.build_with("written", ["--output", &file]),
        };
        let build = build.succeeds();
        let file = if format == "raw" { "disk.img" } else { &file };
        let output = build.result()["output"].as_str().unwrap();
        assert!(output.ends_with(file), "{output}");
        let info: Value = qemu_img(&["info", "--output=json", file]).json();
        assert_eq!(info["format"], format);
        assert_eq!(info["virtual-size"], 2_u64 << 30);
        qemu_img(&["compare", "-f", "raw", "-F", format, "disk.img", file]);
        if format != "raw" {
            std::fs::remove_file(recipes.path(file)).unwrap();
        }
    }
    let mut check = tool("e2fsck", "e2fsprogs");
    Ran::of(check.args(["-f", "-n"]).arg(recipes.path("disk.img"))).ends_with(0);
    let mut read = tool("debugfs", "e2fsprogs");
    let read = read
        .args(["-R", "cat /written"])
        .arg(recipes.path("disk.img"));
    assert_eq!(Ran::of(read).ends_with(0).stdout, "written\n");

    // A file that is there stays, and nothing is done.
    let refused = recipes.build_with("written", ["--output", "disk.img"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    let message = refused.error()["message"].to_string();
    assert!(message.contains("disk.img"), "{message}");
    assert_eq!(refused.events("build-started").count(), 0);
}
