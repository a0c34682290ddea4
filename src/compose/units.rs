//! Sizes, times and ports as Compose writes them.

/// Bytes: `64m`, `1gb`, `1.5g`, a number alone.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .bytes()
        .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
        .count();
    let (number, unit) = lower.split_at(digits);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    let bytes = number * (1_u64 << shift) as f64;
    (bytes.is_finite() && bytes < 1e18).then_some(bytes as u64)
}

/// Whole seconds of `1m30s`, `500ms`, rounded up.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut nanoseconds: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest
            .bytes()
            .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
            .count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let factor = match unit {
            "us" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "" if number == "0" => 1e9,
            _ => return None,
        };
        let part = number.parse::<f64>().ok()? * factor;
        (part < 1e18).then_some(())?;
        nanoseconds = nanoseconds.checked_add(part as u64)?;
        rest = after;
    }
    Some(nanoseconds.div_ceil(1_000_000_000))
}

/// The first and the last port of `80` or `8000-8010`.
pub(super) fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_times_and_ranges() {
        for (text, value) in [
            ("64m", Some(64 << 20)),
            ("1.5G", Some(3 << 29)),
            ("512", Some(512)),
            ("1gb", Some(1 << 30)),
            ("m", None),
            ("-1m", None),
            ("1x", None),
            ("1e9", None),
        ] {
            assert_eq!(bytes(text), value, "{text}");
        }
        for (text, value) in [
            ("1m30s", Some(90)),
            ("500ms", Some(1)),
            ("0", Some(0)),
            ("1.5h", Some(5400)),
            ("10", None),
            ("", None),
            ("s", None),
            ("1d", None),
            ("99999999999999h", None),
        ] {
            assert_eq!(seconds(text), value, "{text}");
        }
        assert_eq!(range("80"), Some((80, 80)));
        assert_eq!(range("80-82"), Some((80, 82)));
        for wrong in ["", "0", "82-80", "a", "65536", "+1", "1-"] {
            assert_eq!(range(wrong), None, "{wrong}");
        }
    }
}
