//! Templates, as far as nothing is built.

use std::fs;
use std::path::Path;

use super::*;

fn fixture() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = root.join("fixtures/templates/python-dev/template-definition.yaml");
    file.to_string_lossy().into_owned()
}

#[test]
fn a_definition_becomes_a_recipe() {
    let bench = Bench::new();
    let converted = bench.run(["template", "convert", &fixture()]);
    let root = env!("CARGO_MANIFEST_DIR");
    let said = converted.stderr.replace(root, "ROOT");
    insta::assert_snapshot!(format!("{}{said}", converted.stdout));
}

#[test]
fn what_was_converted_is_a_template() {
    let bench = Bench::new();
    let directory = bench.home.path().join("python-dev");
    let directory = directory.to_str().unwrap();
    let file = fixture();
    let convert = [
        "template",
        "convert",
        &file,
        "--base",
        "debian-12",
        "-o",
        directory,
    ];
    assert_eq!(bench.run(convert).code, Some(0));
    let again = bench.run(convert);
    assert_eq!(again.code, Some(2));
    assert!(again.stderr.contains("--force"), "{}", again.stderr);
    let copied = fs::read_to_string(Path::new(directory).join("requirements.txt"));
    assert_eq!(copied.unwrap(), "flask==3.0.3\n");
    let validated = bench.run(["template", "validate", directory, "--error", "--json"]);
    assert_eq!(
        validated.code,
        Some(0),
        "{}{}",
        validated.stdout,
        validated.stderr
    );
    let json: serde_json::Value = serde_json::from_str(&validated.stdout).unwrap();
    assert_eq!(json[0]["version"], "1.0.0");
    assert_eq!(json[0]["requires"]["memory-mib"], 2048);
    assert_eq!(json[0]["tags"][0], "flask");
    // It is formatted, and steps can be planned.
    let recipe = format!("{directory}/template.kdl");
    assert_eq!(bench.run(["fmt", "--check", &recipe]).code, Some(0));
    let planned = bench.run(["plan", &recipe]);
    assert!(
        planned.stdout.contains("run Install requirements"),
        "{}",
        planned.stdout
    );
}

#[test]
fn mistakes_in_definitions_have_their_places() {
    let bench = Bench::new();
    let file = bench.home.path().join("wrong.yaml");
    let text = "name: x\nversion: '1'\nbase_image: debian:12\nmin_ram: much\nmin_cpu: 2\n\
                scripts:\n  - name: y\n    run_as: dev\nports: [0, {name: z}]\n";
    fs::write(&file, text).unwrap();
    let ran = bench.run(["template", "convert", file.to_str().unwrap()]);
    assert_eq!(ran.code, Some(4));
    let home = bench.home.path().to_str().unwrap();
    insta::assert_snapshot!(ran.stderr.replace(home, "HOME"));
    let missing = bench.run(["template", "convert", "nothing.yaml"]);
    assert_eq!(missing.code, Some(3), "{}", missing.stderr);
}

#[test]
fn a_template_says_what_it_is() {
    let bench = Bench::new();
    let file = bench.home.path().join("bare.kdl");
    fs::write(&file, "image \"bare\" { from \"debian-12\" }").unwrap();
    let ran = bench.run(["template", "validate", file.to_str().unwrap()]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stdout.contains("error: it needs a version"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("warning: it says no license"),
        "{}",
        ran.stdout
    );
}

#[test]
fn new_templates_are_templates() {
    let bench = Bench::new();
    let home = bench.home.path().to_str().unwrap();
    let new = |words: &[&str]| {
        let mut command = bench.command(["template", "new", "--directory", home]);
        Ran::from(command.args(words).output().unwrap())
    };
    let made = new(&["web"]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert_eq!(new(&["web"]).code, Some(2));
    let wrong = new(&["other", "--from", "debian-21"]);
    assert_eq!(wrong.code, Some(3), "{}", wrong.stderr);
    assert_eq!(
        new(&["copy", "--from", &format!("{home}/web")]).code,
        Some(0)
    );
    for name in ["web", "copy"] {
        let directory = format!("{home}/{name}");
        let validated = bench.run(["template", "validate", &directory, "--error"]);
        assert_eq!(validated.code, Some(0), "{}", validated.stdout);
        let recipe = format!("{directory}/template.kdl");
        assert_eq!(bench.run(["fmt", "--check", &recipe]).code, Some(0));
        assert!(
            validated
                .stdout
                .contains(&format!("{name} 0.1.0 is a template"))
        );
    }
}

#[test]
fn a_template_reads_its_own_files_only() {
    let bench = Bench::new();
    let directory = bench.home.path().join("thief");
    fs::create_dir(&directory).unwrap();
    fs::write(bench.home.path().join("secret"), "x").unwrap();
    std::os::unix::fs::symlink("../secret", directory.join("link")).unwrap();
    let text = "recipe \"thief\" version=\"1.0.0\"\nimage \"thief\" {\n    from \"debian-12\"\n    \
                copy \"../secret\" \"/a\"\n    file \"/b\" source=\"./link\"\n    \
                file \"/c\" { fetch \"file:///etc/passwd\" checksums=\"file:///etc/sums\" }\n    \
                file \"/d\" { fetch \"https://example.org/d\" mirrors=\"file:///etc/group\" \
                checksums=\"file:///etc/sums\" }\n    \
                copy \"/e\" \"/e\" from=\"oci:../layout:1\"\n}\n\
                image \"other\" {\n    bootstrap \"debian\" suite=\"bookworm\" mirror=\"copy:/srv\"\n}\n";
    fs::write(directory.join("template.kdl"), text).unwrap();
    let ran = bench.run(["template", "test", directory.to_str().unwrap()]);
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    let count = ran.stderr.matches("is outside of the template").count();
    assert_eq!(count, 8, "{}", ran.stderr);
    let matrix = [
        "template",
        "test",
        directory.to_str().unwrap(),
        "--matrix",
        "a=",
    ];
    assert_eq!(bench.run(matrix).code, Some(2));
}
