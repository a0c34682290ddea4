//! Sizes as podman and its kin write them: powers of 1000, as in Docker's `go-units`. Pure.

/// Bytes of `10G`, `1.5T`, `512M`, `20GiB` or a number of bytes. Only a unit with an `i` is a power
/// of 1024.
///
/// # Errors
/// It is no size; the error is a phrase that says what to write.
pub fn parse_human_size(text: &str) -> Result<u64, String> {
    const HELP: &str = "write a number of bytes, or one with M, G or T, such as 20G";
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.trim_start().to_ascii_lowercase();
    let (letter, base) = match unit.strip_suffix("ib") {
        Some(letter) => (letter, 1024_f64),
        None => (unit.strip_suffix('b').unwrap_or(&unit), 1000_f64),
    };
    let power = ["", "k", "m", "g", "t", "p"]
        .iter()
        .position(|one| *one == letter);
    let power = power
        .filter(|power| base < 1001.0 || *power > 0)
        .ok_or(HELP)?;
    let number: f64 = number.parse().map_err(|_| HELP)?;
    let bytes = number * base.powi(i32::try_from(power).map_err(|_| HELP)?);
    match bytes {
        bytes if (1.0..9e18).contains(&bytes) => Ok(bytes as u64),
        _ => Err(HELP.to_owned()),
    }
}

/// A size with three digits that count: `10.7GB`.
#[must_use]
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", three_digits(value), UNITS[unit])
}

/// A number below 1000 with three digits that count, without zeros at the end of a fraction.
fn three_digits(value: f64) -> String {
    let decimals = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_users() {
        for (text, bytes) in [
            ("10737418240", 10 << 30),
            ("20G", 20_000_000_000),
            ("20g", 20_000_000_000),
            ("1.5GB", 1_500_000_000),
            ("20 GiB", 20 << 30),
            ("512M", 512_000_000),
            ("1T", 1_000_000_000_000),
        ] {
            assert_eq!(parse_human_size(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "G",
            "-5",
            "0",
            "ten",
            "10X",
            "1..5G",
            "5iB",
            "99999999P",
        ] {
            assert!(parse_human_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_for_users() {
        let sizes = [0, 999, 1000, 10 << 30, 2_000_000_000, 123_456_789, 1 << 40];
        assert_eq!(
            sizes.map(human_size).join(" "),
            "0B 999B 1kB 10.7GB 2GB 123MB 1.1TB"
        );
    }
}
