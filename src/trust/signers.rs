//! Trusted and revoked keys: files of the form of OpenSSH's `allowed_signers` (ssh-keygen(1),
//! ALLOWED SIGNERS) and lists of revoked public keys (there, KEY REVOCATION LISTS).

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ssh_key::{Fingerprint, HashAlg, PublicKey};

use super::{NAMESPACE, Signature, covers, message};
use crate::digest::Sha256;
use crate::failure::Failure;
use crate::host::file::read_text;

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// A key, and what it may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// Patterns of names, separated by commas.
    pub names: String,
    /// Patterns of namespaces; any when absent.
    pub namespaces: Option<String>,
    pub after: Option<SystemTime>,
    pub before: Option<SystemTime>,
    pub key: PublicKey,
}

/// All keys that are trusted and revoked.
#[derive(Debug, Clone, Default)]
pub struct Trusted {
    pub signers: Vec<Signer>,
    /// Their fingerprints.
    pub revoked: Vec<Fingerprint>,
}

/// A signature that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The fingerprint of the key: `SHA256:…`.
    pub key: String,
    /// Whose it is, as the file of trusted keys says.
    pub comment: String,
}

impl Trusted {
    /// Adds the keys of a file; nothing when there is no such file.
    ///
    /// # Errors
    /// It cannot be read, or a line is wrong.
    pub fn read_signers(&mut self, path: &Path) -> Result<(), Failure> {
        each_line(path, |line| {
            self.signers.push(Signer::parse(line)?);
            Ok(())
        })
    }

    /// Adds the revoked keys of a file; nothing when there is no such file.
    ///
    /// # Errors
    /// It cannot be read, or a line is no public key.
    pub fn read_revoked(&mut self, path: &Path) -> Result<(), Failure> {
        each_line(path, |line| {
            self.revoked.push(fingerprint(&public_key(line)?));
            Ok(())
        })
    }

    #[must_use]
    pub fn is_revoked(&self, key: &PublicKey) -> bool {
        self.revoked.contains(&fingerprint(key))
    }

    /// Whether a signature says that what has this digest may have this name.
    ///
    /// # Errors
    /// Which rule speaks against it, a sentence.
    pub fn judge(
        &self,
        signature: &Signature,
        digest: &Sha256,
        name: &str,
        now: SystemTime,
    ) -> Result<Accepted, String> {
        let key = signature.key();
        let shown = fingerprint(&key);
        let namespace = signature.0.namespace();
        if namespace != NAMESPACE {
            return Err(format!(
                "the signature by {shown} is for \"{}\", not for \"{NAMESPACE}\"",
                namespace.escape_default()
            ));
        }
        if matches!(key.algorithm(), ssh_key::Algorithm::Rsa { .. }) {
            return Err(format!(
                "{shown} is an RSA key, which vmfab does not verify: sign with an Ed25519 key"
            ));
        }
        key.verify(NAMESPACE, &message(digest), &signature.0)
            .map_err(|_| format!("the signature by {shown} is not of sha256:{digest}"))?;
        self.accept(&key, name, now)
    }

    /// Whether a key that signed something may sign what has this name.
    pub(super) fn accept(
        &self,
        key: &PublicKey,
        name: &str,
        now: SystemTime,
    ) -> Result<Accepted, String> {
        let shown = fingerprint(key);
        if self.is_revoked(key) {
            return Err(format!("{shown} is revoked"));
        }
        let known: Vec<&Signer> = self.signers.iter().filter(|one| one.is(key)).collect();
        if known.is_empty() {
            return Err(format!("{shown} is no trusted key"));
        }
        let mut reason = String::new();
        for signer in known {
            match signer.may_sign(name, now) {
                Ok(()) => {
                    return Ok(Accepted {
                        key: shown.to_string(),
                        comment: signer.key.comment().to_owned(),
                    });
                }
                Err(why) => reason = format!("{shown} {why}"),
            }
        }
        Err(reason)
    }
}

impl Signer {
    /// Reads a line of `allowed_signers`.
    fn parse(line: &str) -> Result<Self, String> {
        let (names, rest) = word(line)?;
        let first = rest.split([' ', '\t']).next().unwrap_or_default();
        let (options, rest) = match first.parse::<ssh_key::Algorithm>() {
            Ok(_) => (Vec::new(), rest),
            Err(_) => options(rest)?,
        };
        let mut signer = Self {
            names,
            namespaces: None,
            after: None,
            before: None,
            key: public_key(rest)?,
        };
        for option in options {
            let (name, value) = option.split_once('=').unwrap_or((&option, ""));
            match name.to_ascii_lowercase().as_str() {
                "namespaces" => signer.namespaces = Some(value.to_owned()),
                "valid-after" => signer.after = Some(parse_time(value)?),
                "valid-before" => signer.before = Some(parse_time(value)?),
                "cert-authority" => {
                    return Err("vmfab does not verify certificates (cert-authority)".to_owned());
                }
                _ => {
                    return Err(format!(
                        "\"{}\" is no option of a key",
                        name.escape_default()
                    ));
                }
            }
        }
        Ok(signer)
    }

    /// Its line of `allowed_signers`.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = self.names.clone();
        let mut between = ' ';
        let mut option = |name: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = write!(line, "{between}{name}=\"{value}\"");
            between = ',';
        };
        if let Some(namespaces) = &self.namespaces {
            option("namespaces", namespaces);
        }
        if let Some(after) = self.after {
            option("valid-after", &written(after));
        }
        if let Some(before) = self.before {
            option("valid-before", &written(before));
        }
        format!("{line} {}", self.key.to_openssh().unwrap_or_default())
    }

    /// Whether it may sign now, for lists: a word.
    #[must_use]
    pub fn state(&self, revoked: bool, now: SystemTime) -> &'static str {
        let soon = now + Duration::from_hours(24 * 30);
        match () {
            () if revoked => "revoked",
            () if self.after.is_some_and(|after| now < after) => "not yet valid",
            () if self.before.is_some_and(|before| now > before) => "expired",
            () if self.before.is_some_and(|before| soon > before) => "expires soon",
            () => "valid",
        }
    }

    fn is(&self, key: &PublicKey) -> bool {
        self.key.key_data() == key.key_data()
    }

    /// Whether it may sign something of this name now: else a phrase that goes on after the key.
    fn may_sign(&self, name: &str, now: SystemTime) -> Result<(), String> {
        if !covers(&self.names, name) {
            return Err(format!("may sign {}, and not {name}", self.names));
        }
        if let Some(namespaces) = &self.namespaces
            && !covers(namespaces, NAMESPACE)
        {
            return Err(format!(
                "is trusted for {namespaces}, and not for {NAMESPACE}"
            ));
        }
        if let Some(after) = self.after.filter(|after| now < *after) {
            return Err(format!("is valid only from {}", written(after)));
        }
        match self.before.filter(|before| now > *before) {
            Some(before) => Err(format!("was valid only until {}", written(before))),
            None => Ok(()),
        }
    }
}

/// The SHA-256 of a key, as OpenSSH shows it.
fn fingerprint(key: &PublicKey) -> Fingerprint {
    key.fingerprint(HashAlg::Sha256)
}

/// Reads `TYPE BASE64 [COMMENT]`.
fn public_key(text: &str) -> Result<PublicKey, String> {
    PublicKey::from_openssh(text.trim()).map_err(|error| format!("is no public key: {error}"))
}

/// Calls `read` with each line that is neither empty nor a comment.
fn each_line(path: &Path, mut read: impl FnMut(&str) -> Result<(), String>) -> Result<(), Failure> {
    let text = match read_text(path, MAX_FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text.map_err(Failure::io("read", path))?,
    };
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        read(line).map_err(|why| {
            let place = format!("{}:{}", path.display(), number + 1);
            Failure::usage(format!("{place}: {why}"))
                .with_help("correct or remove the line; ssh-keygen(1) describes the file")
        })?;
    }
    Ok(())
}

/// The first word of a line, which may be in quotes, and the rest.
fn word(line: &str) -> Result<(String, &str), String> {
    let (word, rest) = match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or("a quote has no end")?,
        None => line.split_once([' ', '\t']).ok_or("a key is missing")?,
    };
    Ok((word.to_owned(), rest.trim_start()))
}

/// The options of a key, separated by commas outside of quotes, and the rest of the line.
fn options(line: &str) -> Result<(Vec<String>, &str), String> {
    let mut options = vec![String::new()];
    let mut quoted = false;
    for (at, c) in line.char_indices() {
        let last = options.last_mut();
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => options.push(String::new()),
            ' ' | '\t' if !quoted => return Ok((options, line[at..].trim_start())),
            _ => last.into_iter().for_each(|option| option.push(c)),
        }
    }
    Err(match quoted {
        true => "a quote has no end".to_owned(),
        false => "a key is missing".to_owned(),
    })
}

/// Reads a time as OpenSSH writes it: `YYYYMMDD` or `YYYYMMDDHHMM[SS]`, with or without `Z`; or
/// `YYYY-MM-DD`. It is UTC either way.
///
/// # Errors
/// It is none.
pub fn parse_time(text: &str) -> Result<SystemTime, String> {
    let wrong = || format!("\"{text}\" is no time such as 20270131 or 202701311200Z");
    let digits: String = text.trim_end_matches('Z').replace('-', "");
    let part = |range: std::ops::Range<usize>| digits.get(range).unwrap_or("00");
    if ![8, 12, 14].contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let written = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0..4),
        part(4..6),
        part(6..8),
        part(8..10),
        part(10..12),
        part(12..14),
    );
    humantime::parse_rfc3339(&written).map_err(|_| wrong())
}

/// A time as OpenSSH reads it, in UTC.
fn written(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    format!("{digits}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti anna";

    #[test]
    fn lines_are_read_as_openssh_reads_them() {
        let read = |line: &str| Signer::parse(line).unwrap();
        assert_eq!(read(&format!("* {KEY}")).names, "*");
        let quoted = read(&format!(
            "\"a,b c\" namespaces=\"vmfab,git\",valid-after=20260101 {KEY}"
        ));
        assert_eq!(quoted.names, "a,b c");
        assert_eq!(quoted.namespaces.as_deref(), Some("vmfab,git"));
        assert_eq!(quoted.key.comment(), "anna");
        let line = "a/* namespaces=\"vmfab\",valid-before=\"20270131120000Z\" ";
        let line = format!("{line}{KEY}");
        assert_eq!(read(&line).line(), line);
        for (line, why) in [
            ("*", "a key is missing"),
            ("* namespaces=\"x", "a quote has no end"),
            ("* valid-after=\"x\"", "a key is missing"),
            ("* ssh-ed25519 AAAA", "is no public key"),
        ] {
            let error = Signer::parse(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
        for (option, why) in [
            ("cert-authority", "does not verify certificates"),
            ("no-such", "is no option"),
            ("valid-after=\"2027\"", "is no time"),
        ] {
            let error = Signer::parse(&format!("* {option} {KEY}")).unwrap_err();
            assert!(error.contains(why), "{option}: {error}");
        }
    }

    #[test]
    fn times() {
        for (text, expected) in [
            ("20270131", "20270131000000Z"),
            ("2027-01-31", "20270131000000Z"),
            ("202701311230Z", "20270131123000Z"),
            ("20270131123059", "20270131123059Z"),
        ] {
            assert_eq!(
                parse_time(text).map(written).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
        for text in ["", "2027", "20271331", "2027013112", "x0270131"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_signs_what_it_may_and_when() {
        let mut signer = Signer::parse(&format!("host/* {KEY}")).unwrap();
        let now = parse_time("20270115").unwrap();
        let may = |signer: &Signer| signer.may_sign("host/a", now);
        assert_eq!(may(&signer), Ok(()));
        assert_eq!(signer.state(false, now), "valid");
        assert_eq!(signer.state(true, now), "revoked");
        signer.after = Some(parse_time("20270116").unwrap());
        assert!(may(&signer).unwrap_err().contains("only from"));
        assert_eq!(signer.state(false, now), "not yet valid");
        signer.after = None;
        signer.before = Some(parse_time("20270114").unwrap());
        assert!(may(&signer).unwrap_err().contains("only until"));
        assert_eq!(signer.state(false, now), "expired");
        signer.before = Some(parse_time("20270120").unwrap());
        assert_eq!(may(&signer), Ok(()));
        assert_eq!(signer.state(false, now), "expires soon");
        signer.namespaces = Some("git".to_owned());
        assert!(may(&signer).unwrap_err().contains("trusted for git"));
    }
}
