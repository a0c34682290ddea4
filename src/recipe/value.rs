//! The small languages inside strings: sizes, modes, times, names, paths. Pure text to values.

mod path;

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use crate::checked::{HostName, Label, Line, Name, Unfit, VariableName};
use crate::digest::{Algorithm, Checksum};
use crate::image::{FurtherDisk, Network, ParseNetworkError};

pub(super) use path::{host_path, image_file, image_path, shared_directory, shared_file};

/// A text that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    /// `"10X" is not a size`.
    pub message: String,
    /// What to write instead.
    pub help: &'static str,
}

impl Wrong {
    fn new(text: &str, what: &str, help: &'static str) -> Self {
        let mut shown: String = text.chars().take(60).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        Self {
            message: format!("{shown:?} is not {what}"),
            help,
        }
    }
}

impl From<Unfit> for Wrong {
    fn from(unfit: Unfit) -> Self {
        Self {
            message: unfit.to_string(),
            help: unfit.help(),
        }
    }
}

pub(super) type Parsed<T> = Result<T, Wrong>;

/// `10G`, `512M`, `1T`, `1GiB`: powers of 1024.
pub(super) fn size(text: &str) -> Parsed<u64> {
    let wrong = || {
        Wrong::new(
            text,
            "a size",
            "write a whole number and K, M, G or T (powers of 1024), such as \"512M\" or \"10G\"",
        )
    };
    crate::text::size(text).ok_or_else(wrong)
}

/// A size that a disk can have.
pub(super) fn disk_size(text: &str) -> Parsed<u64> {
    let bytes = size(text)?;
    if bytes < 64 << 20 || bytes % (1 << 20) != 0 {
        return Err(Wrong::new(
            text,
            "a valid size of a disk",
            "a disk needs at least 64M, in whole M",
        ));
    }
    Ok(bytes)
}

/// A disk besides the first: a size, or a file below the directory of the file.
pub(super) fn further_disk(text: &str, writable: bool) -> Parsed<FurtherDisk> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(FurtherDisk::Empty(disk_size(text)?));
    }
    let path = shared_file(text)?;
    Ok(FurtherDisk::File { path, writable })
}

/// An address of the host.
pub(super) fn ipv4_address(text: &str) -> Parsed<Ipv4Addr> {
    let help = "write an IPv4 address of this host, or \"0.0.0.0\" for all of them";
    text.parse()
        .map_err(|_| Wrong::new(text, "an address", help))
}

/// What a machine is connected to.
pub(super) fn network(text: &str) -> Parsed<Network> {
    text.parse()
        .map_err(|_| Wrong::new(text, "a network", ParseNetworkError::HELP))
}

/// What a type takes that images and machines have. `what` says it in an error.
pub(super) fn fitting<T: FromStr<Err = Unfit>>(what: &str) -> impl Fn(&str) -> Parsed<T> {
    move |text| {
        text.parse()
            .map_err(|wrong: Unfit| Wrong::new(text, what, wrong.help()))
    }
}

/// A size that a machine's memory can have, in MiB.
pub(super) fn memory(text: &str) -> Parsed<u32> {
    let bytes = size(text)?;
    u32::try_from(bytes >> 20)
        .ok()
        .filter(|mib| *mib >= 32 && bytes % (1 << 20) == 0)
        .ok_or_else(|| {
            Wrong::new(
                text,
                "a valid size of a machine's memory",
                "a machine needs at least 32M of memory, in whole M",
            )
        })
}

/// A whole number in a range that begins at 1.
pub(super) fn range(text: &str, what: &str, range: RangeInclusive<u32>) -> Parsed<u32> {
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(Wrong {
            message: format!("{text} is not {what}"),
            help: match range.end() {
                255 => "write a number from 1 to 255",
                _ => "write a number from 1 to 64",
            },
        }),
    }
}

/// The name of a machine, of at most `longest` bytes.
pub(super) fn machine_name(text: &str, longest: usize) -> Parsed<String> {
    name(text)
        .ok()
        .filter(|name| name.len() <= longest)
        .ok_or_else(|| {
            Wrong::new(
                text,
                "the name of a machine",
                "use letters, digits, \".\", \"_\" and \"-\", beginning with a letter or digit, at most \
                 63 with the number",
            )
        })
}

/// `90s`, `5m`, `2h`, in seconds.
pub(super) fn duration(text: &str) -> Parsed<u64> {
    let wrong = || {
        Wrong::new(
            text,
            "a time",
            "write a whole number and s, m or h, such as \"90s\" or \"5m\"",
        )
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    number
        .parse::<u64>()
        .ok()
        .filter(|number| *number > 0)
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(wrong)
}

/// Permission bits, three or four octal digits.
pub(super) fn mode(text: &str) -> Parsed<u32> {
    let octal = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal && matches!(text.len(), 3 | 4) => Ok(mode),
        _ => Err(Wrong::new(
            text,
            "a file mode",
            "write three or four octal digits, such as \"0644\" or \"755\"",
        )),
    }
}

/// A TCP port number.
pub(super) fn port(text: &str) -> Parsed<u16> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 && !text.starts_with('+') => Ok(port),
        _ => Err(Wrong::new(
            text,
            "a port",
            "a port is a number from 1 to 65535",
        )),
    }
}

/// A version as <https://semver.org> has it.
pub(super) fn version(text: &str) -> Parsed<semver::Version> {
    text.parse().map_err(|_| {
        Wrong::new(
            text,
            "a version",
            "write three numbers, such as \"1.0.0\" or \"2.1.0-rc.1\" (https://semver.org)",
        )
    })
}

/// A licence by its SPDX expression.
pub(super) fn license(text: &str) -> Parsed<Line> {
    let help = "write an SPDX expression, such as \"MIT\" or \"MIT OR Apache-2.0\"; LicenseRef-… is for others";
    let wrong = || Wrong::new(text, "a licence", help);
    spdx::Expression::parse(text).map_err(|_| wrong())?;
    text.parse().map_err(|_| wrong())
}

/// A text beside a recipe.
pub(super) fn readme(text: &str) -> Parsed<PathBuf> {
    let help = "write a relative path without \"..\", such as \"./README.md\"";
    shared_file(text)
        .map_err(|_| Wrong::new(text, "a file below the directory of the recipe", help))
}

/// A word to find a recipe by.
pub(super) fn tag(text: &str) -> Parsed<Name> {
    Ok(text.parse::<Name>()?)
}

/// A regular expression, as it is written.
pub(super) fn regular_expression(text: &str) -> Parsed<String> {
    whole(text).map(|_| text.to_owned()).map_err(|_| {
        Wrong::new(
            text,
            "a regular expression",
            "write one as the crate regex takes it, such as \"[a-z]+-[0-9]{1,3}\"",
        )
    })
}

/// A regular expression that matches whole texts.
pub(super) fn whole(pattern: &str) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(&format!(r"\A(?:{pattern})\z"))
        .size_limit(1 << 20)
        .build()
}

/// A whole number.
pub(super) fn integer(text: &str) -> Parsed<i64> {
    text.parse()
        .map_err(|_| Wrong::new(text, "a whole number", "write digits only, such as 8"))
}

/// `true` or `false`.
pub(super) fn boolean(text: &str) -> Parsed<bool> {
    text.parse().map_err(|_| {
        Wrong::new(
            text,
            "true or false",
            "write #true or #false; true or false after --set",
        )
    })
}

/// A line of gitignore(5).
pub(super) fn pattern(text: &str) -> Parsed<String> {
    let valid = ignore::gitignore::GitignoreBuilder::new("")
        .add_line(None, text)
        .is_ok();
    // A comment or an empty line would be no mistake for the library, and no pattern for the user.
    if valid && !text.trim().is_empty() && !text.starts_with('#') && !text.contains('\n') {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(
            text,
            "a pattern",
            "write it as in a .gitignore file: \"*.o\", \"/target/\", \"!keep.o\"",
        ))
    }
}

/// A login or group name, as useradd(8) takes it.
pub(super) fn account(text: &str) -> Parsed<String> {
    let mut bytes = text.bytes();
    let first = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let rest =
        bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'));
    if first && rest && text.len() <= 32 {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(
            text,
            "a user or group name",
            "a name has small letters, digits, \"_\" and \"-\", begins with a letter or \"_\" and \
             has at most 32 characters",
        ))
    }
}

/// `user[:group]`, by name or number.
pub(super) fn owner(text: &str) -> Parsed<String> {
    let fits = |part: &str| part.parse::<u32>().is_ok() || account(part).is_ok();
    let (user, group) = text.split_once(':').unwrap_or((text, "root"));
    if fits(user) && fits(group) {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(
            text,
            "an owner",
            "write a user, or a user and a group, such as \"vm\", \"root:adm\" or \"1000:1000\"",
        ))
    }
}

/// A package as apt, apk and dnf take it, with a version if it has one.
pub(super) fn package(text: &str) -> Parsed<String> {
    let first = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"+.:~=/_<>@^-".contains(&b));
    if first && rest {
        return Ok(text.to_owned());
    }
    let help = if text.contains(|c: char| c.is_whitespace() || c == ',') {
        "write a separate string for each package: packages \"git\" \"curl\""
    } else {
        "write the name that the package manager knows, such as \"git\" or \"nginx=1.22.1-9\""
    };
    Err(Wrong::new(text, "a package name", help))
}

/// A package of a language, as pip, npm and cargo take it, with a version if it has one.
pub(super) fn language_package(text: &str) -> Parsed<String> {
    let first = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'@');
    let rest = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"+.~=/_<>@^!,[]*-".contains(&b));
    if first && rest {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        text,
        "a package",
        "write a separate string for each, such as \"flask==3.0.3\" for python or \"typescript@5.4.5\" for npm",
    ))
}

/// A unit name of systemd, or a service name of OpenRC.
pub(super) fn service(text: &str) -> Parsed<String> {
    let first = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b":_.\\@-".contains(&b));
    if first && rest {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(
            text,
            "a service name",
            "write the name of the unit, such as \"docker\" or \"fstrim.timer\"",
        ))
    }
}

/// A host name (RFC 1123), at most 64 bytes as Linux has it.
pub(super) fn hostname(text: &str) -> Parsed<String> {
    checked::<HostName>(text)
}

/// A further name of a machine.
pub(super) fn alias(text: &str) -> Parsed<HostName> {
    Ok(text.parse()?)
}

/// One or more arguments of a kernel command line.
pub(super) fn kernel_argument(text: &str) -> Parsed<String> {
    match text.split_whitespace().next() {
        Some(_) if !text.chars().any(char::is_control) => Ok(text.trim().to_owned()),
        _ => Err(Wrong {
            message: "a kernel argument must be one line, and not empty".to_owned(),
            help: "write it as on the command line: console=ttyS0",
        }),
    }
}

/// The label of an ext4 file system.
pub(super) fn label(text: &str) -> Parsed<String> {
    checked::<Label>(text)
}

/// The name of an environment variable.
pub(super) fn variable(text: &str) -> Parsed<String> {
    checked::<VariableName>(text)
}

/// The name of a variable of a process: containers have odd ones.
pub(super) fn process_variable(text: &str) -> Parsed<String> {
    match text.is_empty() || text.contains(['=', '\0']) {
        false => Ok(text.to_owned()),
        true => Err(Wrong::new(
            text,
            "the name of a variable",
            "a name has no \"=\" and no U+0000",
        )),
    }
}

/// The value of a variable that a script gets.
pub(super) fn variable_value(text: &str) -> Parsed<String> {
    if text.contains('\0') {
        let help = "write it without U+0000: no process can have such a variable";
        return Err(Wrong::new(text, "the value of a variable", help));
    }
    Ok(text.to_owned())
}

/// The value of a variable that logins get.
pub(super) fn login_value(text: &str) -> Parsed<String> {
    match unfit_for_logins(text) {
        None => Ok(text.to_owned()),
        Some(help) => Err(Wrong::new(
            text,
            "a value that /etc/environment can hold",
            help,
        )),
    }
}

/// The longest value of a variable that logins get, in bytes: `pam_env` has room for lines of 8
/// KiB, and passes over the rest of a file with a longer one.
const LONGEST_LOGIN_VALUE: usize = 8000;

/// Why logins cannot have a variable of this value, as help for who wrote it; nothing when they
/// can. They get it from `/etc/environment`, which `pam_env` reads: it takes a line up to the first
/// `#`, whether that is in quotes or not, and knows no way to write a newline. Quotes, backslashes
/// and `$` stand for themselves in a quoted value.
#[must_use]
pub fn unfit_for_logins(value: &str) -> Option<&'static str> {
    if value.contains('#') {
        return Some(
            "logins read variables from /etc/environment, where \"#\" begins a comment, even in quotes: set it for \
             single scripts with env in a run, or for shells with a file in /etc/profile.d",
        );
    }
    if value.contains(char::is_control) {
        return Some(
            "logins read variables from /etc/environment, which has one line for each: write the value without \
             newlines and other control characters, or set it for single scripts with env in a run",
        );
    }
    (value.len() > LONGEST_LOGIN_VALUE).then_some(
        "logins read variables from /etc/environment, which has room for 8000 bytes in a value: put it into a file of \
         its own",
    )
}

/// The name of an image, a recipe or a parameter.
pub(super) fn name(text: &str) -> Parsed<String> {
    checked::<Name>(text)
}

/// A text that one of the types takes that images have.
fn checked<T: FromStr<Err = Unfit> + Into<String>>(text: &str) -> Parsed<String> {
    Ok(text.parse::<T>()?.into())
}

/// A word of an archive's address line: a suite, a component, an address.
pub(super) fn word(text: &str) -> Parsed<String> {
    let fits = |c: char| !c.is_whitespace() && !c.is_control() && !"[]\"'".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(
            text,
            "one word",
            "write it without spaces, quotes and brackets",
        ))
    }
}

/// A crypt(5) password hash, or a locked one.
pub(super) fn password_hash(text: &str) -> Parsed<String> {
    let fits = |b: u8| b.is_ascii_graphic() && !matches!(b, b':' | b'\\');
    if text.starts_with('$') && text.len() > 10 && text.bytes().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(Wrong {
            // The text may be a password, and messages go to logs.
            message: "the value is not a password hash".to_owned(),
            help: "make one with \"openssl passwd -6\"; each \"$\" before \"{\" or \"$\" is \
                   written twice",
        })
    }
}

/// A line of `authorized_keys`, sshd(8).
pub(super) fn authorized_key(text: &str) -> Parsed<String> {
    let kinds = ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"];
    let has_key = text
        .split_whitespace()
        .any(|word| kinds.iter().any(|kind| word.starts_with(kind)));
    if has_key && !text.trim().contains('\n') {
        Ok(text.trim().to_owned())
    } else {
        Err(Wrong::new(
            text,
            "a public key",
            "write the whole line of a .pub file, such as \"ssh-ed25519 AAAA… me@home\"",
        ))
    }
}

/// A program and its arguments, to which the script is the last; a program alone gets `-ec`.
pub(super) fn shell(text: &str) -> Parsed<Vec<String>> {
    let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    match words.first() {
        Some(program) if !program.starts_with('-') => {}
        _ => {
            return Err(Wrong::new(
                text,
                "a shell",
                "write a program and its options, such as \"/bin/bash\" or \"/usr/bin/python3 -c\"",
            ));
        }
    }
    if words.len() == 1 {
        words.push("-ec".to_owned());
    }
    Ok(words)
}

/// An address that content is fetched from: `http`, `https` or `file`.
pub(super) fn url(text: &str) -> Parsed<String> {
    let rest = ["http://", "https://", "file:///"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    let clean = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '`');
    let host = rest.and_then(|rest| rest.split('/').next());
    if host.is_some_and(|host| host.contains('@')) {
        // It is not repeated: messages go to logs.
        return Err(Wrong {
            message: "the address has a user name or a password in it".to_owned(),
            help: "recipes and locks are shared: leave it out, and put it into a mirror of the \
                   configuration (docs/config.md)",
        });
    }
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && text.chars().all(clean) => {
            Ok(text.to_owned())
        }
        _ => Err(Wrong::new(
            text,
            "an address",
            "write a URL that begins with https://, http:// or file:///; other characters than \
             letters, digits and signs are written as %20 and the like",
        )),
    }
}

/// An address, or the name of a file beside another.
pub(super) fn url_or_name(text: &str) -> Parsed<String> {
    let name = |c: char| c.is_ascii_alphanumeric() || "._+-~%".contains(c);
    if !text.is_empty() && text.chars().all(name) {
        return Ok(text.to_owned());
    }
    url(text)
}

/// The hexadecimal digits of a checksum.
pub(super) fn checksum(text: &str, algorithm: Algorithm) -> Parsed<Checksum> {
    Checksum::from_hex(algorithm, text).map_err(|_| Wrong {
        message: format!(
            "this is not a checksum of {} hexadecimal digits but has {}",
            algorithm.length() * 2,
            text.chars().count()
        ),
        help: "sha256 and blake3 have 64 digits, sha512 has 128",
    })
}

/// A number of bytes.
pub(super) fn bytes(text: &str) -> Parsed<u64> {
    text.parse()
        .ok()
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| Wrong::new(text, "a number of bytes", "write digits, such as 3490290"))
}

/// A path in an archive.
pub(super) fn member(text: &str) -> Parsed<String> {
    let path = text.strip_prefix("./").unwrap_or(text);
    let odd = |part: &str| matches!(part, "" | "." | "..");
    if path.split('/').any(odd) || path.contains('\0') {
        return Err(Wrong::new(
            text,
            "a path in an archive",
            "write it as the archive lists it, without a leading /",
        ));
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests;
