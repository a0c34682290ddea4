//! The page: one file with style, program and data. It asks nothing of the network, and its policy
//! (<https://www.w3.org/TR/CSP3/>) allows nothing but this style and this program, by their hashes.

use std::fmt::Write as _;

use super::model::Report;
use crate::html::{MARK, escape, json_for_script, policy_source};

const STYLE: &str = include_str!("report.css");
const BODY: &str = include_str!("report.html");
/// The program, part by part.
const PROGRAM: [&str; 6] = [
    include_str!("common.js"),
    include_str!("graph.js"),
    include_str!("timeline.js"),
    include_str!("sizes.js"),
    include_str!("lists.js"),
    include_str!("main.js"),
];
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E\
%3Crect width='16' height='16' rx='4' fill='%231f7a3a'/%3E\
%3Cpath d='M4 5h4v3h4v3' fill='none' stroke='%23fff' stroke-width='2'/%3E%3C/svg%3E";

/// The page of a report.
pub(super) fn page(report: &Report) -> String {
    let program = format!("\"use strict\";\n(() => {{\n{}}})();\n", PROGRAM.concat());
    let image = report.graphs.last().map_or("build", |graph| &graph.image);
    let title = format!("{image}, {} · vmfab", report.outcome);
    let mut page = MARK.to_owned();
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         script-src {}; style-src {}; img-src data:; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>{}</title>\n<link rel=\"icon\" href=\"{ICON}\">\n<style>{STYLE}</style>\n</head>\n\
         {BODY}<script type=\"application/json\" id=\"data\">{}</script>\n\
         <script>{program}</script>\n</body>\n</html>\n",
        policy_source(&program),
        policy_source(STYLE),
        escape(&title),
        json_for_script(report).unwrap_or_default(),
    );
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(error: &str) -> Report {
        Report {
            version: 1,
            build: "00000000000a".parse().unwrap(),
            command: "build".to_owned(),
            started: 0.0,
            seconds: 1.0,
            outcome: "failed",
            error: Some(error.to_owned()),
            graphs: Vec::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn texts_cannot_leave_the_data() {
        let error = "</script><!--<script>\u{2028}\u{2029}\u{1b}[2J&amp;\u{9b}\\\"'`${1}";
        let report = report(error);
        let page = page(&report);
        assert_eq!(page.matches("<script").count(), 2, "{page}");
        assert_eq!(page.matches("</script").count(), 2);
        let data = json_for_script(&report).unwrap();
        let plain = |c: char| !matches!(c, '<' | '\u{2028}' | '\u{2029}' | '\u{9b}');
        assert!(data.chars().all(|c| plain(c) && !c.is_control()), "{data}");
        let read: serde_json::Value = serde_json::from_str(&data).unwrap();
        assert_eq!(read["error"], error);
    }

    #[test]
    fn nothing_but_its_own_style_and_program_is_allowed() {
        let page = page(&report(""));
        let policy = page.split("Policy\" content=\"").nth(1).unwrap();
        let policy = policy.split('"').next().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'sha256-"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        let between = |begin: &str, end: &str| {
            let rest = page.split(begin).nth(1).unwrap();
            rest.split(end).next().unwrap().to_owned()
        };
        assert!(policy.contains(&policy_source(&between("<style>", "</style>"))));
        assert!(policy.contains(&policy_source(&between("\n<script>", "</script>"))));
        let program = PROGRAM.concat();
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "eval(",
            "fetch(",
            "http",
        ] {
            let elsewhere = program.replace("http://www.w3.org/2000/svg", "");
            assert!(!elsewhere.contains(forbidden), "{forbidden}");
        }
    }
}
