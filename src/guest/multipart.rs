//! User data of several parts, which cloud-init merges. Pure.
//!
//! Source: <https://docs.cloud-init.io/en/latest/reference/merging.html>. The user's part comes
//! first. The merge type of vmfab's part keeps what exists: single values stay the user's, and lists
//! have the user's entries first.

use base64ct::{Base64, Encoding};

const MERGE_TYPE: &str = "list(append)+dict(no_replace,recurse_dict,recurse_list)+str()";
/// Characters in a line of base64 (RFC 2045).
const LINE: usize = 76;

/// The user's data of whatever kind, and vmfab's `own` cloud-config.
pub(super) fn merged(user: &str, own: &str) -> String {
    let boundary = (0..)
        .map(|number| format!("vmfab-{number}"))
        .find(|boundary| !user.contains(boundary))
        .unwrap_or_default();
    let own = format!(
        "Content-Type: text/cloud-config; charset=\"utf-8\"\nX-Merge-Type: {MERGE_TYPE}\n{}",
        encoded(own)
    );
    // Data with parts of its own has its headers already. Of other data, cloud-init reads the kind
    // from the first line.
    let user = match user.starts_with("Content-Type:") || user.starts_with("MIME-Version:") {
        true => format!("{}\n", user.trim_end()),
        false => format!(
            "Content-Type: text/plain; charset=\"utf-8\"\n{}",
            encoded(user)
        ),
    };
    format!(
        "Content-Type: multipart/mixed; boundary=\"{boundary}\"\nMIME-Version: 1.0\n\n\
         --{boundary}\n{user}--{boundary}\n{own}--{boundary}--\n"
    )
}

/// The end of a part's headers, and its content.
fn encoded(text: &str) -> String {
    let mut part = "MIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\n".to_owned();
    let base64 = Base64::encode_string(text.as_bytes());
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(LINE));
        part.push_str(line);
        part.push('\n');
        rest = next;
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        insta::assert_snapshot!(merged("#!/bin/sh\n", "#cloud-config\n"), @r#"
        Content-Type: multipart/mixed; boundary="vmfab-0"
        MIME-Version: 1.0

        --vmfab-0
        Content-Type: text/plain; charset="utf-8"
        MIME-Version: 1.0
        Content-Transfer-Encoding: base64

        IyEvYmluL3NoCg==
        --vmfab-0
        Content-Type: text/cloud-config; charset="utf-8"
        X-Merge-Type: list(append)+dict(no_replace,recurse_dict,recurse_list)+str()
        MIME-Version: 1.0
        Content-Transfer-Encoding: base64

        I2Nsb3VkLWNvbmZpZwo=
        --vmfab-0--
        "#);
        let parts = "Content-Type: multipart/mixed; boundary=\"vmfab-0\"\n\n--vmfab-0--\n";
        let whole = merged(parts, "#cloud-config\n");
        assert!(
            whole.contains(&format!("\n--vmfab-1\n{parts}--vmfab-1\n")),
            "{whole}"
        );
    }
}
