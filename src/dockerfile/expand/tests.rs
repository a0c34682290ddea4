//! Expansions as BuildKit's tests have them, and some more.

use proptest::prelude::*;

use super::*;

fn variables(name: &str) -> Option<String> {
    let value = match name {
        "HOME" => "/home",
        "SHELL" => "bash",
        "EMPTY" => "",
        "SPACED" => "  ab  c ",
        "ÄÖ" => "umlaut",
        "TWICE" => "xxyy",
        "STARS" => "a***yy*",
        "PATH" => "/foo*/*/*.txt",
        "NEEDLE" => "\\*/",
        "URL" => "http://deb.example/debian",
        "REGEX" => "()[]{}^$.*?|\\x",
        _ => return None,
    };
    Some(value.to_owned())
}

fn expanded(text: &str) -> Result<String, String> {
    expand(text, &variables, '\\').map_err(|error| error.to_string())
}

/// `word → value`; a value of `!` is a mistake.
const TABLE: &str = r#"
hello → hello
he'll'o → hello
he'llo → !
he\'llo → he'llo
he\\'llo → !
abc\tdef → abctdef
"abc\tdef" → abc\tdef
"abc\\tdef" → abc\tdef
'abc\tdef' → abc\tdef
hello\ → hello
hello\\ → hello\
"hello → !
"hello\" → !
"hel'lo" → hel'lo
'hello\' → hello\
"''" → ''
$. → $.
he$.x → he$.x
a$ → a$
he$1x → hex
he$home. → he.
he$HOME → he/home
he\$HOME → he$HOME
he\\$HOME → he\/home
"he\$HOME" → he$HOME
'$HOME' → $HOME
"'$HOME'" → '/home'
\${} → ${}
${} → !
he${}xx → !
${.} → !
${{a} → !
${HOME}} → /home}
he${HOME → !
he${hi}xx → hexx
${:-b} → !
he${NO:-000}xx → he000xx
he${NO-000}xx → he000xx
he${HOME:-000}xx → he/homexx
${EMPTY-d} →
${EMPTY:-d} → d
${NO:-$HOME} → /home
${NO:-${HOME:-y}} → /home
${NO:-${NO:-y}} → y
${NO:-"a b"} → a b
${NO:-\$HOME:}x → $HOME:x
${NO:-\${HOME}z}x → ${HOMEz}x
${NO:+${HOME}}x → x
${HOME:+${SHELL}}x → bashx
${EMPTY:+x} →
${EMPTY+x} → x
${HOME:+${HOME}:}x → /home:x
${NO:=x} → !
${NO=x} → !
${NO?} → !
${NO:?} → !
${HOME?} → /home
${EMPTY?} →
${EMPTY:?} → !
${NO:x} → !
$ÄÖ → umlaut
${1:-b} → b
$10x → x
$@aaa → aaa
$@@@ → @@
${#} →
${-:-b} → b
$$ →
${REGEX#()[]{\}^$.\*\?|\\} → x
${TWICE#*x*y} → y
${TWICE##*x} → yy
${TWICE#*} → xxyy
${TWICE#} → xxyy
${TWICE##} → xxyy
${TWICE%y} → xxy
${TWICE%%y*} → xx
${TWICE%x} → xxyy
${STARS%%\**\*} → a
${STARS#\a} → !
${TWICE:#x} → !
${TWICE:%x} → !
${PATH/$NEEDLE/.} → /foo.*/*.txt
${PATH//$NEEDLE/.} → /foo..*.txt
${URL/http:\/\//https://} → https://deb.example/debian
${URL//\//\/} → http:\/\/deb.example\/debian
${TWICE/$EMPTY/ww} → wwxxyy
${TWICE//x} → !
${TWICE//} → !
${TWICE///} → xxyy
${NO///} →
${TWICE/x → !
"${SPACED}" →   ab  c 
"#;

#[test]
fn words() {
    let lines = TABLE.lines().skip(1);
    let mut count = 0;
    for line in lines {
        let (word, value) = line.split_once(" →").unwrap();
        let value = value.strip_prefix(' ').unwrap_or(value);
        match (expanded(word), value) {
            (Ok(text), "!") => panic!("{word} became {text:?}"),
            (Ok(text), value) => assert_eq!(text, value, "{word}"),
            (Err(_), "!") => {}
            (Err(error), _) => panic!("{word}: {error}"),
        }
        count += 1;
    }
    assert!(count > 80, "{count}");
}

#[test]
fn splitting() {
    let split = |text: &str| {
        let mut lexer = Expander::new('\\', &variables);
        lexer = lexer.limited(1000);
        let words = lexer.lexer(text, true).run(None, false).unwrap();
        words.into_words()
    };
    assert_eq!(split("a$SPACED"), ["a", "ab", "c"]);
    assert_eq!(split("a\"$SPACED\"b c"), ["a  ab  c b", "c"]);
    assert_eq!(split(r"hello\ there you"), ["hello there", "you"]);
    assert_eq!(split("a${NO:-b}c"), ["abc"]);
    assert_eq!(split("  "), [""; 0]);
}

#[test]
fn another_escape() {
    let expanded = |text: &str| expand(text, &variables, '`').unwrap();
    assert_eq!(expanded(r"C:\dir\`$HOME"), r"C:\dir\$HOME");
    assert_eq!(expanded(r#""a`"b\""#), r#"a"b\"#);
}

#[test]
fn messages_say_what_is_required() {
    insta::assert_snapshot!(expanded("${NODE:?give a version}").unwrap_err(),
        @"the variable NODE is not set: give a version");
    insta::assert_snapshot!(expanded("${EMPTY:?}").unwrap_err(), @"the variable EMPTY is empty");
}

#[test]
fn size_and_depth_are_bounded() {
    let long = |_: &str| Some("x".repeat(1000));
    let expander = Expander::new('\\', &long).limited(2500);
    assert_eq!(expander.text("$A$A").unwrap().len(), 2000);
    assert!(expander.text("$A$A$A").is_err());
    // What is thrown away counts, too.
    assert!(expander.text("${A+}${A+}${A:+$A$A$A}").is_err());
    let deep = format!("{}{}", "${A:-".repeat(200), "}".repeat(200));
    assert!(expanded(&deep).unwrap_err().contains("nested"));
}

proptest! {
    #[test]
    fn any_text_is_expanded_or_refused(text in r#"[a$A{}:\-+?#%/\\'" *]{0,40}"#) {
        let _ = expanded(&text);
    }

    #[test]
    fn single_quotes_keep_everything(text in r#"[a$A{}:\\" é*]{0,40}"#) {
        prop_assert_eq!(expanded(&format!("'{text}'")).unwrap(), text);
    }

    #[test]
    fn escapes_keep_everything(text in r#"[a$A{}:\\'" é*]{0,40}"#) {
        let escaped: String = text.chars().flat_map(|c| ['\\', c]).collect();
        prop_assert_eq!(expanded(&escaped).unwrap(), text);
    }
}
