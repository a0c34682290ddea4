//! What can be said of a recipe that is right, without building it.

use super::format::format;
use super::model::{Base, Content, Fetched, Image, Instruction, Kernel, Loaded};
use super::source::{Source, Span};
use crate::image::local_scheme;
use crate::text::{Finding, looks_like_secret};

/// The checks, by their names.
const UNFORMATTED: &str = "Unformatted";
const UNUSED_PARAMETER: &str = "UnusedParameter";
const UNPINNED_FETCH: &str = "UnpinnedFetch";
const FLOATING_BASE: &str = "FloatingBase";
const SECRETS_USED_IN_ENV: &str = "SecretsUsedInEnv";

fn finding(rule: &'static str, span: &Span, message: String, help: &'static str) -> Finding {
    Finding {
        rule,
        message,
        span: span.shown(),
        help,
        url: None,
    }
}

/// Checks a recipe; `texts` are the files that it was read from, itself first.
#[must_use]
pub fn lint(loaded: &Loaded, texts: &[Source]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = texts.iter().take(1).filter_map(unformatted).collect();
    for parameter in &loaded.parameters {
        let name = &parameter.name.value;
        let reference = format!("${{{name}}}");
        if !texts.iter().any(|text| text.inner().contains(&reference)) {
            let message = format!("no value uses the parameter {name}");
            let help = "write ${NAME} where it belongs, or remove the parameter";
            findings.push(finding(
                UNUSED_PARAMETER,
                &parameter.name.span,
                message,
                help,
            ));
        }
    }
    for image in &loaded.images {
        base(image, &mut findings);
        for instruction in &image.instructions {
            match instruction {
                Instruction::Env(variables) => {
                    for name in variables.keys().filter(|name| looks_like_secret(name)) {
                        let own = &image.name;
                        let message = format!("the image {} has {name} in env", own.value);
                        let help =
                            "everyone who has the image can read it; write it to the machine";
                        findings.push(finding(SECRETS_USED_IN_ENV, &own.span, message, help));
                    }
                }
                Instruction::Layer(fetched) => pinned(fetched, &mut findings),
                Instruction::File(file) => {
                    if let Content::Fetched(fetched) = &file.content {
                        pinned(fetched, &mut findings);
                    }
                }
                _ => {}
            }
        }
        if let Some(Kernel::Fetched(fetched)) = &image.kernel {
            pinned(fetched, &mut findings);
        }
        if let Some(fetched) = &image.initrd {
            pinned(fetched, &mut findings);
        }
    }
    // Of built-in recipes nothing is said: nobody here can change them.
    findings.retain(|finding| {
        let name = finding.span.source.name();
        texts.iter().any(|text| text.name() == name)
    });
    findings.sort_by_key(|finding| finding.span.range.offset());
    findings
}

/// The first line that `vmfab fmt` would change.
fn unformatted(source: &Source) -> Option<Finding> {
    let text = source.inner();
    let formatted = format(source.name(), text).ok()?;
    if formatted == *text {
        return None;
    }
    let mut offset = 0;
    let mut lines = text
        .split_inclusive('\n')
        .zip(formatted.split_inclusive('\n'));
    let differing = lines.find(|(line, other)| {
        let differs = line != other;
        offset += if differs { 0 } else { line.len() };
        differs
    });
    let length = differing.map_or(0, |(line, _)| line.trim_end().len());
    let span = Span {
        source: source.clone(),
        range: (offset, length).into(),
    };
    let message = "the recipe is not formatted".to_owned();
    Some(finding(UNFORMATTED, &span, message, "run vmfab fmt"))
}

fn base(image: &Image, findings: &mut Vec<Finding>) {
    match &image.base {
        Base::Disk(fetched) | Base::Layer(fetched) => pinned(fetched, findings),
        Base::Registry(remote) if local_scheme(&remote.location).is_none() => {
            let location = &remote.location;
            let name = location.rsplit('/').next().unwrap_or_default();
            let is_pinned = name.contains('@');
            let tag = name.split_once(':').map(|(_, tag)| tag);
            if !is_pinned && matches!(tag, None | Some("latest")) {
                let message = format!("{} is another image tomorrow", remote.shown.value);
                let help = "name a version, and pin it with vmfab lock";
                findings.push(finding(FLOATING_BASE, &remote.shown.span, message, help));
            }
        }
        _ => {}
    }
}

fn pinned(fetched: &Fetched, findings: &mut Vec<Finding>) {
    if fetched.fetch.pin.is_none() {
        let url = &fetched.fetch.url;
        let message = "nothing says what this download must be".to_owned();
        let help = "add sha256=\"…\" or sha512=\"…\", or pin it with vmfab lock";
        findings.push(finding(UNPINNED_FETCH, &url.span, message, help));
    }
}
