//! The reader against the crate `kdl`, and where the two differ.

use std::sync::Arc;

use miette::{Diagnostic, NamedSource};
use proptest::prelude::*;

use super::*;
use crate::text::Problem;

fn read(text: &str) -> Result<Document, Vec<Problem>> {
    within(text, Bounds::WRITTEN)
}

fn within(text: &str, bounds: Bounds) -> Result<Document, Vec<Problem>> {
    let source = Arc::new(NamedSource::new("test.kdl", text.to_owned()));
    parse(&source, bounds, "recipes are")
}

/// Each mistake with what it underlines.
fn mistakes(text: &str) -> String {
    let problems = read(text).unwrap_err();
    let line = |problem: &Problem| {
        let range = problem.range().unwrap();
        let at = &text[range.offset()..range.offset() + range.len()];
        let help = problem.help().unwrap();
        format!("{problem} [{at}] {help}")
    };
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What a document means, without places.
fn meaning(document: &Document) -> Vec<String> {
    let entry = |entry: &Entry| {
        let ty = entry.ty().map(Name::value);
        let name = entry.name().map(Name::value);
        format!("{ty:?} {name:?} {:?}", entry.value())
    };
    let node = |node: &Node| {
        let entries: Vec<_> = node.entries().iter().map(entry).collect();
        let children = node.children().map(meaning).unwrap_or_default();
        let ty = node.ty().map(Name::value);
        format!("{ty:?} {:?} {entries:?} {children:?}", node.name().value())
    };
    document.nodes().iter().map(node).collect()
}

/// The same of the other reader's document.
fn other_meaning(document: &kdl::KdlDocument) -> Vec<String> {
    let value = |value: &kdl::KdlValue| match value {
        kdl::KdlValue::String(text) => Value::String(text.clone()),
        kdl::KdlValue::Integer(number) => Value::Integer(*number),
        kdl::KdlValue::Float(number) => Value::Float(*number),
        kdl::KdlValue::Bool(value) => Value::Bool(*value),
        kdl::KdlValue::Null => Value::Null,
    };
    let entry = |entry: &kdl::KdlEntry| {
        let ty = entry.ty().map(kdl::KdlIdentifier::value);
        let name = entry.name().map(kdl::KdlIdentifier::value);
        format!("{ty:?} {name:?} {:?}", value(entry.value()))
    };
    let node = |node: &kdl::KdlNode| {
        let entries: Vec<_> = node.entries().iter().map(entry).collect();
        let children = node.children().map(other_meaning).unwrap_or_default();
        let ty = node.ty().map(kdl::KdlIdentifier::value);
        format!("{ty:?} {:?} {entries:?} {children:?}", node.name().value())
    };
    document.nodes().iter().map(node).collect()
}

#[test]
fn values() {
    let text = "a b \"c\" #\"d\\\"# 1 -2 0xff -0b1_0 0o17 1_000 1.5 +2e3 #true #null #inf k=v (t)\"u\" (t)x=1";
    let wrong = read(text).unwrap_err();
    assert_eq!(wrong[0].to_string(), "a space is missing");
    let document = read(text.strip_suffix(" (t)x=1").unwrap()).unwrap();
    let values: Vec<_> = document.nodes()[0]
        .entries()
        .iter()
        .map(Entry::value)
        .collect();
    insta::assert_snapshot!(format!("{values:?}"), @r#"[String("b"), String("c"), String("d\\"), Integer(1), Integer(-2), Integer(255), Integer(-2), Integer(15), Integer(1000), Float(1.5), Float(2000.0), Bool(true), Null, Float(inf), String("v"), String("u")]"#);
    let strings = "- \"\"\"\n    a\n      \\tb\n\n    c \\\n      d\n    \"\"\" #\"\"\"\n  \\x\n  \"\"\"# \"\\u{1F600}\\\n   e\"";
    let document = read(strings).unwrap();
    let values: Vec<_> = document.nodes()[0]
        .entries()
        .iter()
        .map(Entry::value)
        .collect();
    insta::assert_snapshot!(format!("{values:?}"), @r##"[String("a\n  \tb\n\nc d"), String("\\x"), String("😀e")]"##);
}

/// Where the other reader is wrong, or takes too long.
#[test]
fn what_the_other_reader_gets_wrong() {
    let slashdash = read("node \"x\"/-1 2 /-{ a } { b }").unwrap();
    assert_eq!(
        meaning(&slashdash),
        meaning(&read("node \"x\" 2 { b }").unwrap())
    );
    assert_eq!(
        read("a \"\u{7f}\"").unwrap_err()[0].to_string(),
        "the character U+007F is not allowed"
    );
    let dropped = "a /-{".repeat(60) + &"}".repeat(60);
    assert_eq!(
        meaning(&read(&dropped).unwrap()),
        meaning(&read("a").unwrap())
    );
    let comment = format!("a /*{}*/ b", "* / ".repeat(100_000));
    assert_eq!(
        meaning(&read(&comment).unwrap()),
        meaning(&read("a b").unwrap())
    );
    let comments = format!("a {}{} b", "/*".repeat(100_000), "*/".repeat(100_000));
    assert_eq!(
        meaning(&read(&comments).unwrap()),
        meaning(&read("a b").unwrap())
    );
}

#[test]
fn bounds() {
    for open in ["a {", "/-a {", "a /-{", "a {x;/-b {"] {
        let text = open.repeat(100_000);
        let message = read(&text).unwrap_err()[0].to_string();
        assert_eq!(message, "nodes are nested more than 64 levels deep");
    }
    let many = Bounds {
        items: 4,
        ..Bounds::WRITTEN
    };
    assert!(within("a b c=1; d", many).is_ok());
    for text in [
        "a b c=1; d e",
        "a;a;a;a;a",
        "a /-b c d e",
        "/-a;/-a;/-a;/-a;/-a",
    ] {
        let message = within(text, many).unwrap_err()[0].to_string();
        assert_eq!(
            message,
            "the text has more than 4 nodes, arguments and properties"
        );
    }
}

#[test]
fn mistakes_are_shown_where_they_are() {
    let texts = [
        "a b=true c=512M\nd null /- inf\ne .5 #yes 1.2.3 0xg",
        "a {\n b",
        "a }",
        "a \"b",
        "a \"b\nc\"",
        "a \"\"\"b\"\"\"",
        "a \"\"\"\n  b\n c\n  \"\"\"",
        "a \"\"\"\n  b\"\"\"",
        "a #\"b\"",
        "a \"\\q\"",
        "a \"\\u{d800}\"",
        "a /* /* */",
        "a \\ b",
        "a\"b\"",
        "a b\"c\"",
        "a /etc/motd",
        "a {} b",
        "a {} {}",
        "{ a }",
        "a =b",
        "a (t b",
        "1 a",
        "a #true=1",
        "a b,c [d]",
        "a;;b",
    ];
    let shown: Vec<_> = texts.iter().map(|text| mistakes(text)).collect();
    insta::assert_snapshot!(shown.join("\n"), @r###"
    the word true is written with a "#" [true] write #true, with the "#" of KDL 2; as text, "true" in quotes
    the word 512M is not a number [512M] write it in quotes: "512M"
    the word null is written with a "#" [null] write #null, with the "#" of KDL 2; as text, "null" in quotes
    the word inf is written with a "#" [inf] write #inf, with the "#" of KDL 2; as text, "inf" in quotes
    the word .5 begins with a point [.5] write it in quotes: ".5"
    the word #yes is not a keyword [#yes] keywords are #true, #false, #null, #inf, #-inf and #nan; comments begin with //
    the word 1.2.3 is not a number [1.2.3] write it in quotes: "1.2.3"
    the word 0xg is not a number [0xg] write it in quotes: "0xg"
    "{" without "}" [{] add the "}" that closes it
    "}" without "{" [}] remove it, or add the "{" that it closes
    the string does not end ["] end it with "
    the string does not end ["] end it with " in the same line; put """ around text of several lines
    a newline must follow """ ["""] """ begins a multi-line string: write its text on the next line
    the line " c" is indented less than the closing """ ["""] indent each line at least like the last line, with the same characters
    text stands before the closing """ ["""] put the closing """ on a line of its own
    the string does not end [#"] end it with "#
    "\q" is not an escape [\q] escapes are \n \r \t \\ \" \b \f \s and \u{1F600}; write \\ for a backslash, or use a raw string: #"…"#
    "\u" is not an escape [\u] escapes are \n \r \t \\ \" \b \f \s and \u{1F600}; write \\ for a backslash, or use a raw string: #"…"#
    the comment does not end [/*] end it with */; comments nest, so each /* needs one
    text follows "\" in the same line [\] "\" at the end of a line continues the node on the next one; in text, use quotes
    a space is missing, or the word needs quotes ["] bare words have none of \ / ( ) { } [ ] ; " # =
    a space is missing, or the word needs quotes ["] bare words have none of \ / ( ) { } [ ] ; " # =
    an argument or a property is missing [/] text with characters such as / ( { [ ; = needs quotes
    text follows the block of a node [b] put what follows on the next line, or before the block
    the node has two blocks [{] merge them into one
    a node's name is missing [{] text with characters such as / ( { [ ; = needs quotes
    an argument or a property is missing [=] text with characters such as / ( { [ ; = needs quotes
    "(" without ")" [(] end it with ")"; in text, use quotes
    the name of a node must be a string [1] write it in quotes: "1"
    the name of a property must be a string [#true] write it in quotes: "#true"
    an argument or a property is missing [[] text with characters such as / ( { [ ; = needs quotes
    a node's name is missing [;] text with characters such as / ( { [ ; = needs quotes
    "###);
}

/// Pieces that make KDL, right and wrong, in many orders.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "\"b c\"",
        " ",
        "\n",
        "\r\n",
        ";",
        " {",
        "}",
        "{ x }",
        " k=1",
        " k = \"v\"",
        "/-",
        "// c\n",
        "/* d */",
        " \\\n",
        " #\"r\"#",
        " #true",
        "(t)",
        "\"\"\"\n  m\n   n\\\n \\t o\n\n  \"\"\"",
        "é",
        " -1.5",
        "0x1f",
        "\\ // e\n",
        " #\"\"\"\n  m\\\n  \"\"\"#",
        "\"\\u{41}\\n\\s\"",
        "\\",
        "\"",
        "#",
        "=",
        "-",
        ".",
        "1e5",
        "\u{feff}",
        "\"x\\  \n  y\"",
        "/*",
        "*/",
        "\u{85}",
        "\u{3000}",
        "true",
    ]);
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn as_the_other_reader(text in texts()) {
        // Both ways of what it gets wrong: see above.
        let known = ["/-", "/*"].iter().any(|sign| text.contains(sign));
        match (read(&text), kdl::KdlDocument::parse_v2(&text)) {
            (Ok(mine), Ok(other)) => prop_assert_eq!(meaning(&mine), other_meaning(&other)),
            (Err(_), Err(_)) => {}
            (Ok(_), Err(error)) => prop_assert!(known, "only taken here: {error}"),
            (Err(error), Ok(_)) => prop_assert!(known, "only taken there: {}", error[0]),
        }
    }
}
