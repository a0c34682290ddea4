//! Which texts fit which type.

use std::path::{Component, Path};

use base64ct::{Base64, Encoding};

/// The most bytes of a line.
pub(super) const LONGEST_LINE: usize = 4096;
/// The most bytes of a text.
pub(super) const LONGEST_TEXT: usize = 64 << 10;
/// The most bytes of a variable's value: Linux takes no longer strings (`MAX_ARG_STRLEN`).
const LONGEST_VALUE: usize = 128 << 10;

pub(super) fn account_name(text: &str) -> bool {
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    begins(text, first) && text.len() <= 64 && text.bytes().all(is_inner)
}

pub(super) fn build_id(text: &str) -> bool {
    let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 12 && text.bytes().all(digit)
}

pub(super) fn host_name(text: &str) -> bool {
    let label = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= 64 && text.split('.').all(label)
}

/// Linux has room for 15 bytes (`IFNAMSIZ`).
pub(super) fn interface_name(text: &str) -> bool {
    name(text) && text.len() <= 15
}

pub(super) fn name(text: &str) -> bool {
    begins(text, |b| b.is_ascii_alphanumeric()) && text.len() <= 128 && text.bytes().all(is_inner)
}

pub(super) fn word(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    (1..=32).contains(&text.len()) && text.bytes().all(fits)
}

pub(super) fn guest_path(text: &str) -> bool {
    let parts = || text.split('/').skip(1);
    text.starts_with('/')
        && text.len() <= LONGEST_LINE
        && !text.contains("//")
        && parts().all(|part| !matches!(part, "." | ".."))
        && text.chars().all(is_in_line)
}

pub(super) fn mount_point(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_.-+@".contains(&byte);
    guest_path(text) && text.bytes().all(plain) && !text.ends_with('/')
}

/// The key begins with the length and the name of its type (RFC 4253, 6.6).
pub(super) fn directory_below(text: &str) -> bool {
    let below = |part| matches!(part, Component::CurDir | Component::Normal(_));
    line(text)
        && !text.is_empty()
        && !text.starts_with(['-', '~'])
        && Path::new(text).components().all(below)
}

pub(super) fn public_key(text: &str) -> bool {
    let mut words = text.split(' ');
    let (Some(kind), Some(key)) = (words.next(), words.next()) else {
        return false;
    };
    let length = u32::try_from(kind.len()).unwrap_or_default().to_be_bytes();
    let decoded = Base64::decode_vec(key).unwrap_or_default();
    let rest = decoded.strip_prefix(&length[..]);
    line(text)
        && ["ssh-", "ecdsa-", "sk-"]
            .iter()
            .any(|start| kind.starts_with(start))
        && rest.is_some_and(|rest| rest.len() > kind.len() && rest.starts_with(kind.as_bytes()))
}

pub(super) fn password_hash(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"$./=".contains(&b);
    text.starts_with('$') && text.len() <= 256 && text.bytes().all(fits)
}

pub(super) fn machine_type(text: &str) -> bool {
    (1..=63).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(is_inner)
}

pub(super) fn kernel_arguments(text: &str) -> bool {
    line(text)
}

pub(super) fn label(text: &str) -> bool {
    (1..=16).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(is_inner)
}

pub(super) fn token(text: &str) -> bool {
    (1..=LONGEST_LINE).contains(&text.len())
        && !text.starts_with('-')
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

pub(super) fn address(text: &str) -> bool {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    token(text) && begins(scheme, |b| b.is_ascii_alphabetic()) && scheme.bytes().all(fits)
}

pub(super) fn variable_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.bytes().all(fits) && begins(text, |b| !b.is_ascii_digit())
}

pub(super) fn variable_value(text: &str) -> bool {
    text.len() <= LONGEST_VALUE && !text.contains('\0')
}

pub(super) fn line(text: &str) -> bool {
    text.len() <= LONGEST_LINE && text.chars().all(is_in_line)
}

pub(super) fn text(text: &str) -> bool {
    text.len() <= LONGEST_TEXT && text.chars().all(is_in_text)
}

pub(super) fn is_in_line(c: char) -> bool {
    !c.is_control()
}

pub(super) fn is_in_text(c: char) -> bool {
    is_in_line(c) || matches!(c, '\n' | '\t')
}

/// The text with `�` for what does not fit, cut before it is too long.
pub(super) fn like(text: &str, fits: fn(char) -> bool, longest: usize) -> String {
    let mut like = String::new();
    for c in text.chars() {
        let c = if fits(c) {
            c
        } else {
            char::REPLACEMENT_CHARACTER
        };
        if like.len() + c.len_utf8() > longest {
            break;
        }
        like.push(c);
    }
    like
}

fn begins(text: &str, fits: fn(u8) -> bool) -> bool {
    text.bytes().next().is_some_and(fits)
}

fn is_inner(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"_.-".contains(&b)
}
