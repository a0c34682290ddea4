//! Services as the `vmfab.kdl` that says the same.

use std::fmt::Write as _;

use crate::image::Protocol;

use super::model::{Build, Made, Service};

/// The text of all services. It has no parameters: every `${` is escaped.
pub(super) fn text(services: &[Service]) -> String {
    let mut text = String::new();
    for service in services {
        image(&mut text, service);
        machine(&mut text, service);
    }
    text
}

fn image(out: &mut String, service: &Service) {
    let _ = writeln!(out, "image {} {{", quoted(&service.name));
    match &service.made {
        Made::Image(reference) => {
            // An image of the store is a machine already.
            let service = if reference.starts_with('@') {
                ""
            } else {
                " service=#true"
            };
            let _ = writeln!(out, "    from {}{service}", quoted(reference));
        }
        Made::Build(build) => dockerfile(out, build),
    }
    if let Some(hostname) = &service.hostname {
        let _ = writeln!(out, "    hostname {}", quoted(hostname));
    }
    for path in &service.directories {
        let script = format!("mkdir -p -- '{}'", path.replace('\'', r"'\''"));
        let _ = writeln!(out, "    run {}", quoted(&script));
    }
    for (from, to) in &service.copies {
        let _ = writeln!(out, "    copy {} {}", quoted(from), quoted(to));
    }
    out.push_str("}\n");
}

fn dockerfile(out: &mut String, build: &Build) {
    let mut body = String::new();
    out.push_str("    dockerfile");
    match &build.inline {
        Some(text) => drop(writeln!(body, "        content {}", quoted(text))),
        None => drop(write!(out, " {}", quoted(&build.dockerfile))),
    }
    if !build.context.is_empty() {
        let _ = write!(out, " context={}", quoted(&build.context));
    }
    for (name, value) in &build.args {
        let _ = writeln!(body, "        arg {} {}", quoted(name), quoted(value));
    }
    if let Some(target) = &build.target {
        let _ = writeln!(body, "        target {}", quoted(target));
    }
    for (name, value) in &build.contexts {
        let _ = writeln!(body, "        context {} {}", quoted(name), quoted(value));
    }
    braces(out, &body, "    ");
}

fn machine(out: &mut String, service: &Service) {
    let name = quoted(&service.name);
    let _ = write!(out, "machine {name} image={name}");
    if let Some(mib) = service.memory_mib {
        let _ = write!(out, " memory=\"{mib}M\"");
    }
    if let Some(cpus) = service.cpus {
        let _ = write!(out, " cpus={cpus}");
    }
    if let Some(count) = service.count {
        let _ = write!(out, " count={count}");
    }
    if service.isolated {
        out.push_str(" network=\"none\"");
    }
    out.push_str(" image-ports=#false");
    let mut body = String::new();
    for port in &service.ports {
        let host = port.host.unwrap_or(port.guest);
        let _ = write!(body, "    port {} host={host}", port.guest);
        if port.protocol != Protocol::Tcp {
            let _ = write!(body, " protocol=\"{}\"", port.protocol.name());
        }
        if let Some(address) = port.address {
            let _ = write!(body, " address=\"{address}\"");
        }
        body.push('\n');
    }
    for (name, path, read_only) in &service.volumes {
        let read_only = if *read_only { " read-only=#true" } else { "" };
        let (name, path) = (quoted(name), quoted(path));
        let _ = writeln!(body, "    volume {name} {path}{read_only}");
    }
    for (name, value) in &service.env {
        let _ = writeln!(body, "    env {}={}", quoted(name), quoted(value));
    }
    for (node, words) in [
        ("entrypoint", &service.entrypoint),
        ("command", &service.command),
    ] {
        if let Some(words) = words {
            let words: String = words
                .iter()
                .map(|word| format!(" {}", quoted(word)))
                .collect();
            let _ = writeln!(body, "    {node}{words}");
        }
    }
    let _ = write!(body, "    process");
    for (name, value) in [
        ("user", &service.user),
        ("workdir", &service.workdir),
        ("stop-signal", &service.stop_signal),
    ] {
        if let Some(value) = value {
            let _ = write!(body, " {name}={}", quoted(value));
        }
    }
    if let Some(seconds) = service.stop_timeout {
        let _ = write!(body, " stop-timeout=\"{seconds}s\"");
    }
    let _ = writeln!(body, " restart=\"{}\"", service.restart);
    for alias in &service.aliases {
        let _ = writeln!(body, "    alias {}", quoted(alias));
    }
    if let Some(health) = &service.health {
        health_node(&mut body, health);
    }
    for (name, condition) in &service.depends_on {
        let _ = writeln!(
            body,
            "    depends-on {} condition=\"{condition}\"",
            quoted(name)
        );
    }
    braces(out, &body, "");
}

fn health_node(out: &mut String, health: &super::model::Health) {
    out.push_str("    health");
    for word in &health.words {
        let _ = write!(out, " {}", quoted(word));
    }
    for (name, seconds) in [
        ("interval", health.interval),
        ("timeout", health.timeout),
        ("start-period", health.start_period),
        ("start-interval", health.start_interval),
    ] {
        if let Some(seconds) = seconds.filter(|seconds| *seconds > 0) {
            let _ = write!(out, " {name}=\"{seconds}s\"");
        }
    }
    if let Some(retries) = health.retries {
        let _ = write!(out, " retries={retries}");
    }
    if health.disabled {
        out.push_str(" enable=#false");
    }
    out.push('\n');
}

fn braces(out: &mut String, body: &str, indent: &str) {
    match body.is_empty() {
        true => out.push('\n'),
        false => {
            let _ = writeln!(out, " {{\n{body}{indent}}}");
        }
    }
}

/// A string of KDL that no parameter is put into.
pub(super) fn quoted(text: &str) -> String {
    let mut done = String::from("\"");
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => done.push_str("\\\""),
            '\\' => done.push_str("\\\\"),
            '\n' => done.push_str("\\n"),
            '\r' => done.push_str("\\r"),
            '\t' => done.push_str("\\t"),
            '$' if matches!(chars.peek(), Some('$' | '{')) => done.push_str("$$"),
            // What KDL does not take, or what does not show.
            c if c.is_control() || is_hidden(c) => {
                let _ = write!(done, "\\u{{{:x}}}", u32::from(c));
            }
            c => done.push(c),
        }
    }
    done.push('"');
    done
}

fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
