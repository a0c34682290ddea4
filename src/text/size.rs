//! Sizes as people write them.

/// `10G`, `512M`, `1T`, `1GiB`, in bytes: powers of 1024, up to 1024T. `None` when the text is
/// something else.
pub(crate) fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.strip_suffix("iB").unwrap_or(unit) {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    let number = number.parse::<u64>().ok().filter(|number| *number > 0)?;
    let bytes = number.checked_mul(1 << shift)?;
    (bytes <= 1 << 50).then_some(bytes)
}

/// A size in the largest unit that divides it.
pub(crate) fn shown_size(bytes: u64) -> String {
    let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let fits = |(shift, _): &&(u32, &str)| bytes > 0 && bytes.is_multiple_of(1 << *shift);
    match units.iter().find(fits) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_their_largest_unit() {
        for (bytes, shown) in [(10 << 30, "10G"), (1536 << 20, "1536M"), (1 << 10, "1K")] {
            assert_eq!(shown_size(bytes), shown);
            assert_eq!(size(shown), Some(bytes));
        }
        assert_eq!(shown_size(7), "7 bytes");
    }
}
