//! Detached OpenPGP signatures, verified by gpgv.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use super::armor;
use super::error::FetchError;
use crate::host::{Program, bare_command, require};

/// What begins a line that gpgv writes for programs (GnuPG's `doc/DETAILS`).
const STATUS: &str = "[GNUPG:] ";

/// What is wrong with a signature, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// The signature proves nothing, and so does the list.
const UNUSABLE: &str = "do not use the file: try another network or mirror";
const OTHER_KEYS: &str = "name the key ring of who publishes the file, from a package of your \
                          distribution or a place that you trust";
const NEWER_KEYS: &str =
    "a newer key ring may have the key's new validity; look for one where you got it";

/// Verifies that a key of the key ring signed `content`. Gives the fingerprint of that key.
///
/// One good signature is enough, as long as none is bad: publishers sign with old and new keys.
pub(super) fn verify(
    content: &[u8],
    signature: &[u8],
    keyring: &Path,
) -> Result<Result<String, Flaw>, FetchError> {
    let program = require(Program::Gpgv)?;
    let keys = fs::read(keyring).map_err(FetchError::io("read the key ring", keyring))?;
    let keys = match armor::key_ring(&keys) {
        Ok(keys) => keys,
        Err(message) => {
            return Ok(Err(Flaw {
                message: format!("{} is no key ring: {message}", keyring.display()),
                help: OTHER_KEYS,
            }));
        }
    };
    let temporary = std::env::temp_dir();
    let directory =
        tempfile::tempdir().map_err(FetchError::io("make a directory in", &temporary))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).map_err(FetchError::io("write", &path))?;
        Ok::<_, FetchError>(path)
    };
    let mut command = bare_command(&program);
    command
        // Not the user's own settings and keys.
        .arg("--homedir")
        .arg(directory.path())
        .args(["--status-fd", "1", "--keyring"])
        .arg(write("keys.gpg", &keys)?)
        .arg(write("signature", signature)?)
        .arg(write("content", content)?)
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    let output = command.output().map_err(FetchError::io("run", &program))?;
    let status = String::from_utf8_lossy(&output.stdout);
    let messages = String::from_utf8_lossy(&output.stderr);
    Ok(judge(&status, &messages, keyring))
}

fn judge(status: &str, messages: &str, keyring: &Path) -> Result<String, Flaw> {
    let flaw = |message, help| Err(Flaw { message, help });
    let lines = status.lines().filter_map(|line| line.strip_prefix(STATUS));
    let lines: Vec<Vec<&str>> = lines.map(|line| line.split(' ').collect()).collect();
    let of = |word: &str| {
        let mut lines = lines.iter();
        lines
            .find(|line| line[0] == word)
            .map(|line| line.get(1).copied().unwrap_or("?").to_owned())
    };
    if let Some(key) = of("BADSIG") {
        let message = format!("the list was changed after it was signed (key {key})");
        return flaw(message, UNUSABLE);
    }
    if let (Some(_), Some(fingerprint)) = (of("GOODSIG"), of("VALIDSIG")) {
        return Ok(fingerprint);
    }
    for (word, what) in [
        ("EXPSIG", "the signature by key"),
        ("EXPKEYSIG", "the key"),
        ("REVKEYSIG", "the key"),
    ] {
        if let Some(key) = of(word) {
            let how = if word == "REVKEYSIG" {
                "was revoked"
            } else {
                "has expired"
            };
            return flaw(format!("{what} {key} {how}"), NEWER_KEYS);
        }
    }
    if let Some(key) = of("NO_PUBKEY") {
        // The whole fingerprint, where gpgv tells it.
        let (key, keyring) = (full_key(&lines).unwrap_or(key), keyring.display());
        let message = format!("it is by key {key}, which is not in {keyring}");
        return flaw(message, OTHER_KEYS);
    }
    let last = messages.lines().last().unwrap_or("gpgv said nothing");
    let last = last.strip_prefix("gpgv: ").unwrap_or(last);
    flaw(format!("it is no OpenPGP signature: {last}"), UNUSABLE)
}

/// The fingerprint at the end of `ERRSIG`.
fn full_key(lines: &[Vec<&str>]) -> Option<String> {
    let error = lines.iter().find(|line| line[0] == "ERRSIG")?;
    let last = error.last().filter(|last| last.len() >= 40)?;
    Some((*last).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: &str) -> Result<String, Flaw> {
        judge(
            status,
            "gpgv: no valid OpenPGP data found.",
            Path::new("/keys.gpg"),
        )
    }

    #[test]
    fn one_good_signature_is_enough_and_a_bad_one_too_many() {
        let good =
            "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG AAAA Someone\n[GNUPG:] VALIDSIG FFFF 2026-01-01 1\n";
        let unknown = "[GNUPG:] ERRSIG BBBB 1 10 00 1 9 CCCC\n[GNUPG:] NO_PUBKEY BBBB\n";
        let bad = "[GNUPG:] BADSIG DDDD Someone\n";
        assert_eq!(judged(good), Ok("FFFF".to_owned()));
        assert_eq!(judged(&format!("{unknown}{good}")), Ok("FFFF".to_owned()));
        let flaw = |status: &str| judged(status).unwrap_err().message;
        let changed = flaw(&format!("{good}{bad}"));
        assert_eq!(
            changed,
            "the list was changed after it was signed (key DDDD)"
        );
        assert_eq!(
            judged(unknown).unwrap_err(),
            Flaw {
                message: "it is by key BBBB, which is not in /keys.gpg".to_owned(),
                help: OTHER_KEYS,
            }
        );
        let expired = "[GNUPG:] EXPKEYSIG AAAA Someone\n[GNUPG:] VALIDSIG FFFF 2026-01-01 1\n";
        assert_eq!(
            judged(expired).unwrap_err(),
            Flaw {
                message: "the key AAAA has expired".to_owned(),
                help: NEWER_KEYS,
            }
        );
        // Words in a user's name are no status.
        assert!(judged("gpgv: [GNUPG:] GOODSIG\n GOODSIG A\nVALIDSIG A\n").is_err());
        let none = "it is no OpenPGP signature: no valid OpenPGP data found.";
        assert_eq!(flaw(""), none);
    }
}
