//! Pages for browsers: one file each, no network, whoever wrote the names in it.
//!
//! Markup is written in this program (`&'static str`); everything else goes through [`Html::text`],
//! which escapes it. A page's policy (`Content-Security-Policy`) allows its own style sheet and
//! script by their SHA-256, and nothing else. So `style="…"` and `onclick="…"` do nothing in a page:
//! SVG has attributes for sizes and colours, and a script has `element.style` and
//! `addEventListener`.
//!
//! A script reads what [`Page::data`] embeds with
//! `JSON.parse(document.getElementById("data").textContent)`, and writes texts with `textContent`.
//!
//! The theme's style sheet has light and dark colours as variables (`--ink`, `--muted`, `--paper`,
//! `--panel`, `--line`, `--link`, `--good`, `--warn`, `--bad`, and `--hue-1` to `--hue-6`), tables
//! that fit a phone (`<div class="scroll">`), and a choice of theme, which needs no script.

mod treemap;

use std::fmt::{self, Display, Write as _};

use base64ct::{Base64, Encoding};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

pub use treemap::{Tile, treemap};

/// How a page begins: what another one may replace.
pub const MARK: &str = "<!doctype html><!-- vmfab page -->";

const THEME: &str = include_str!("html/page.css");

const THEME_CHOICE: &str = "<fieldset class=\"theme\"><legend>Theme</legend>\
    <label><input type=\"radio\" name=\"theme\" id=\"theme-system\" checked>System</label>\
    <label><input type=\"radio\" name=\"theme\" id=\"theme-light\">Light</label>\
    <label><input type=\"radio\" name=\"theme\" id=\"theme-dark\">Dark</label></fieldset>\n";

/// A part of a page: markup of this program, with escaped texts in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Html(String);

impl Html {
    /// An empty part.
    #[must_use]
    pub const fn new() -> Self {
        Self(String::new())
    }

    /// Adds markup as it is.
    pub fn markup(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Adds a text that may hold anything: between tags, or as an attribute's value between double
    /// quotes.
    pub fn text(&mut self, text: impl Display) -> &mut Self {
        let written = write!(Escape(&mut self.0), "{text}");
        debug_assert!(written.is_ok(), "a string takes everything");
        self
    }

    /// Adds an element that holds nothing but a text.
    pub fn element(&mut self, name: &'static str, text: impl Display) -> &mut Self {
        self.open(name, &[]).text(text).close(name)
    }

    /// Adds the first tag of an element, with attributes.
    pub fn open(
        &mut self,
        name: &'static str,
        attributes: &[(&'static str, &dyn Display)],
    ) -> &mut Self {
        self.markup("<").markup(name);
        for (name, value) in attributes {
            self.markup(" ").markup(name).markup("=\"");
            self.text(value).markup("\"");
        }
        self.markup(">")
    }

    /// Adds the last tag of an element.
    pub fn close(&mut self, name: &'static str) -> &mut Self {
        self.markup("</").markup(name).markup(">")
    }

    /// Adds another part.
    pub fn part(&mut self, part: &Self) -> &mut Self {
        self.0.push_str(&part.0);
        self
    }
}

impl Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Escapes what is written through it.
struct Escape<'a>(&'a mut String);

impl fmt::Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(c),
                _ if c.is_control() || turns(c) => self.0.push('\u{fffd}'),
                _ => self.0.push(c),
            }
        }
        Ok(())
    }
}

/// Whether a character changes the order in which others are shown, or ends a line where nobody
/// sees it.
const fn turns(c: char) -> bool {
    matches!(
        c,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    )
}

/// `text`, escaped for HTML.
#[must_use]
pub fn escape(text: impl Display) -> String {
    let mut html = Html::new();
    html.text(text);
    html.0
}

/// JSON that can stand in a `<script>`: nothing in it ends the element or begins another, and no
/// character turns the order of others.
///
/// # Errors
/// `value` cannot be JSON: a map has keys that are no texts.
pub fn json_for_script<T: Serialize>(value: &T) -> serde_json::Result<String> {
    serde_json::to_string(value).map(|json| harmless_json(&json))
}

/// JSON that says the same, and does nothing to a page or a terminal.
#[must_use]
pub fn harmless_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // They only occur in strings, where each character can be written so. Without `<` there
            // is no end of the element, and no `<!--`; the rest may stay as it is.
            '<' | '\u{7f}'..='\u{9f}' => {
                safe.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            _ if turns(c) => safe.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => safe.push(c),
        }
    }
    safe
}

/// A page that needs no other file.
#[derive(Debug, Clone, Default)]
pub struct Page {
    title: String,
    style: &'static str,
    script: &'static str,
    data: Option<String>,
    body: Html,
}

impl Page {
    /// A page with this title and, below its heading, this content.
    #[must_use]
    pub fn new(title: impl Display, body: Html) -> Self {
        Self {
            title: title.to_string(),
            body,
            ..Self::default()
        }
    }

    /// Adds a style sheet to that of the theme.
    #[must_use]
    pub const fn style(mut self, style: &'static str) -> Self {
        self.style = style;
        self
    }

    /// Adds a script. It runs when the page has been read.
    #[must_use]
    pub const fn script(mut self, script: &'static str) -> Self {
        self.script = script;
        self
    }

    /// Embeds data for the script, as the content of the element `data`.
    ///
    /// # Errors
    /// See [`json_for_script`].
    pub fn data<T: Serialize>(mut self, value: &T) -> serde_json::Result<Self> {
        self.data = Some(json_for_script(value)?);
        Ok(self)
    }

    /// The bytes of the file.
    #[must_use]
    pub fn render(&self) -> String {
        let style = format!("{THEME}{}", self.style);
        debug_assert!(!style.contains("</") && !self.script.contains("</"));
        let script_source = match self.script {
            "" => "'none'".to_owned(),
            script => policy_source(script),
        };
        let policy = format!(
            "default-src 'none'; style-src {}; script-src {script_source}; img-src data:; \
             base-uri 'none'; form-action 'none'",
            policy_source(&style)
        );
        let mut page = Html::new();
        page.markup(MARK)
            .markup("\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")
            .markup("<meta http-equiv=\"Content-Security-Policy\" content=\"")
            .text(policy)
            .markup("\">\n<meta name=\"viewport\" content=\"width=device-width, ")
            .markup("initial-scale=1\">\n<meta name=\"referrer\" content=\"no-referrer\">\n")
            .markup("<meta name=\"generator\" content=\"vmfab ")
            .markup(env!("CARGO_PKG_VERSION"))
            // Without one, browsers ask a server for a picture.
            .markup("\">\n<link rel=\"icon\" href=\"data:,\">\n")
            .element("title", &self.title)
            .markup("\n<style>");
        page.0.push_str(&style);
        page.markup("</style>\n</head>\n<body>\n<header class=\"page\">")
            .element("h1", &self.title)
            .markup(THEME_CHOICE)
            .markup("</header>\n<main>\n")
            .part(&self.body)
            .markup("\n</main>\n");
        if let Some(data) = &self.data {
            page.markup("<script type=\"application/json\" id=\"data\">");
            page.0.push_str(data);
            page.markup("</script>\n");
        }
        if !self.script.is_empty() {
            page.markup("<script>")
                .markup(self.script)
                .markup("</script>\n");
        }
        page.markup("</body>\n</html>\n");
        page.0
    }
}

/// How a policy names the content of a `<style>` or `<script>`.
#[must_use]
pub fn policy_source(content: &str) -> String {
    let digest = Sha256::digest(content.as_bytes());
    format!("'sha256-{}'", Base64::encode_string(&digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str =
        "</script><script>alert(1)</script><img src=x onerror='a()'>\"&\u{1b}[2J\u{202e}\u{9b}";

    #[test]
    fn texts_are_escaped_between_tags_and_in_attributes() {
        let mut html = Html::new();
        html.open("td", &[("title", &HOSTILE), ("width", &12)])
            .text(HOSTILE)
            .close("td");
        let escaped = "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;\
             &lt;img src=x onerror=&#39;a()&#39;&gt;&quot;&amp;\u{fffd}[2J\u{fffd}\u{fffd}";
        assert_eq!(
            html.to_string(),
            format!("<td title=\"{escaped}\" width=\"12\">{escaped}</td>")
        );
        assert_eq!(escape("a\tb\nc"), "a\tb\nc");
    }

    #[test]
    fn data_stays_data() {
        let json = json_for_script(&[HOSTILE, "<!--", "\u{2028}"]).unwrap();
        for c in ['<', '\u{202e}', '\u{2028}', '\u{9b}', '\u{1b}'] {
            assert!(!json.contains(c), "{c:?} in {json}");
        }
        let read: Vec<String> = serde_json::from_str(&json).unwrap();
        assert_eq!(read, [HOSTILE, "<!--", "\u{2028}"]);
    }

    /// The content of the only element of this name that begins so.
    fn content<'a>(page: &'a str, begin: &str, end: &str) -> &'a str {
        let mut parts = page.split(begin);
        let (_, rest) = (parts.next(), parts.next().unwrap());
        assert_eq!(parts.next(), None, "{begin} occurs twice");
        rest.split_once(end).unwrap().0
    }

    #[test]
    fn a_page_allows_its_own_style_and_script_and_no_others() {
        let mut body = Html::new();
        body.element("p", HOSTILE);
        let page = Page::new(HOSTILE, body)
            .style("p { color: red }")
            .script("document.title")
            .data(&HOSTILE)
            .unwrap()
            .render();
        let policy = content(&page, "Content-Security-Policy\" content=\"", "\">");
        let policy = policy.replace("&#39;", "'");
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let style = content(&page, "<style>", "</style>");
        assert!(style.ends_with("p { color: red }"));
        assert!(policy.contains(&format!("style-src {};", policy_source(style))));
        let script = content(&page, "<script>", "</script>");
        assert_eq!(script, "document.title");
        assert!(policy.contains(&format!("script-src {};", policy_source(script))));
        for address in ["http:", "https:", "url(", "@import", "src=\""] {
            assert!(!page.contains(address), "{address}");
        }
        let plain = Page::new("a", Html::new()).render();
        assert!(plain.contains("script-src &#39;none&#39;;"));
        assert!(!plain.contains("<script"));
    }
}
