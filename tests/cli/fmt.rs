//! `vmfab fmt`

use super::{Bench, Ran};

/// `fmt` and what it does with files, on input that is formatted, not formatted, and wrong.
#[test]
fn recipes_are_formatted() {
    let bench = Bench::new();
    let directory = bench.home.path().join("project");
    std::fs::create_dir_all(directory.join("recipes")).unwrap();
    let ugly = "image   \"a\" {\nfrom \"debian-12\"; packages \"x\"\n}\n";
    let neat = "image \"a\" {\n    from \"debian-12\"\n    packages \"x\"\n}\n";
    let fmt = |arguments: &[&str]| {
        let mut command = bench.command(["fmt"]);
        Ran::from(
            command
                .args(arguments)
                .current_dir(&directory)
                .output()
                .unwrap(),
        )
    };
    std::fs::write(directory.join("a.kdl"), ugly).unwrap();
    std::fs::write(directory.join("recipes/b.kdl"), ugly).unwrap();
    let ran = fmt(&["--check"]).ends_with(1);
    assert_eq!(
        ran.stdout,
        "not formatted: a.kdl\nnot formatted: recipes/b.kdl\n"
    );
    assert_eq!(fmt(&["--stdout", "a.kdl"]).ends_with(0).stdout, neat);
    assert_eq!(
        fmt(&[]).ends_with(0).stdout,
        "formatted a.kdl\nformatted recipes/b.kdl\n"
    );
    assert_eq!(
        std::fs::read_to_string(directory.join("a.kdl")).unwrap(),
        neat
    );
    assert_eq!(fmt(&[]).ends_with(0).stdout, "");
    fmt(&["--check"]).ends_with(0);

    std::fs::write(directory.join("a.kdl"), ugly).unwrap();
    std::fs::write(directory.join("wrong.kdl"), "image \"a").unwrap();
    let ran = fmt(&[]).ends_with(4);
    assert!(ran.stderr.contains("wrong.kdl:1:7"), "{}", ran.stderr);
    assert_eq!(
        ran.stdout, "formatted a.kdl\n",
        "a wrong file does not stop the others"
    );
    let error = fmt(&["wrong.kdl", "--json"]).ends_with(4).json_error();
    assert_eq!(
        (&error["line"], &error["file"]),
        (&1.into(), &"wrong.kdl".into())
    );
    fmt(&["none.kdl"]).ends_with(3);
}

#[test]
fn standard_input_is_formatted_to_standard_output() {
    let bench = Bench::new();
    let input = bench.home.path().join("input");
    std::fs::write(&input, "image   \"a\" {\n}\n").unwrap();
    let fmt = |arguments: &[&str]| {
        let mut command = bench.command(["fmt", "-"]);
        command
            .args(arguments)
            .stdin(std::fs::File::open(&input).unwrap());
        Ran::from(command.output().unwrap())
    };
    assert!(fmt(&[]).ends_with(0).stdout.starts_with("image \"a\" {"));
    fmt(&["--check"]).ends_with(1);
}
