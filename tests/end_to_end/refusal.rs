//! What is found out before any work starts.

use super::super::support::{Build, Lab, Ran, Recipes};

#[test]
fn a_missing_program_is_named_with_its_package() {
    let recipes = Recipes::new();
    recipes.image("no-tools", r#"run "echo no tools""#);
    let mut command = recipes.command("no-tools");
    // An empty PATH is the working directory; there is nothing in it.
    let build = Build::of(command.env("PATH", "")).ends_with(5);
    let error = build.error();
    assert_eq!(error["kind"], "missing");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("bwrap"), "{message}");
    let help = error["help"][0].as_str().unwrap();
    assert!(help.contains("apt-get install"), "{help}");
    assert!(help.contains("bubblewrap"), "{help}");
    assert_eq!(build.started(), [""; 0]);
}

#[test]
fn a_wrong_recipe_is_shown_with_its_line() {
    let recipes = Recipes::new();
    recipes.image("wrong", "    pakages \"hello\"");
    let error = recipes.build("wrong").ends_with(4).error();
    assert_eq!(error["kind"], "recipe");
    assert_eq!((&error["line"], &error["column"]), (&4.into(), &5.into()));

    let mut command = Lab::get().command();
    let command = command.args(["build", "wrong.kdl", "--color", "never"]);
    let text = Ran::of(command.current_dir(recipes.directory()))
        .ends_with(4)
        .stderr;
    let lines: Vec<&str> = text.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.contains("pakages \"hello\""));
    let at = at.unwrap_or_else(|| panic!("the line is not shown:\n{text}"));
    // Below the line, a mark under its word.
    let column = |line: &str, part: char| line.chars().position(|c| c == part);
    assert_eq!(column(lines[at + 1], '─'), column(lines[at], 'p'), "{text}");
    assert!(text.contains("did you mean \"packages\"?"), "{text}");
}
