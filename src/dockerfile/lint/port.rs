//! Ports of `EXPOSE`.

use super::Findings;
use super::rule;
use crate::dockerfile::model::Word;

/// Checks a port; `text` is the word with its variables replaced.
pub(super) fn check(word: &Word, text: &str, findings: &mut Findings) {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port),
        None => ("", text),
    };
    if !host.is_empty() {
        let message = format!("EXPOSE {text} has an address or a port of the host");
        findings.add(&rule::EXPOSE_INVALID_FORMAT, &word.span, message);
    }
    if let Some((_, protocol)) = port.split_once('/')
        && protocol.chars().any(char::is_uppercase)
    {
        let message = format!("the protocol {protocol} has capitals");
        findings.add(&rule::EXPOSE_PROTO_CASING, &word.span, message);
    }
}
