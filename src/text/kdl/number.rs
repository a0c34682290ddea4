//! Numbers.

use super::Value;

/// Whether a bare word must be a number, for it begins like one.
pub(super) fn is_number(word: &str) -> bool {
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    unsigned.starts_with(|c: char| c.is_ascii_digit())
}

/// The value of a word that begins like a number.
pub(super) fn number(word: &str) -> Option<Value> {
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let sign = if word.starts_with('-') { "-" } else { "" };
    let prefixes = [("0x", 16), ("0o", 8), ("0b", 2)];
    if let Some((digits, radix)) = prefixes
        .iter()
        .find_map(|(prefix, radix)| Some((unsigned.strip_prefix(prefix)?, *radix)))
    {
        let digits = digits_of(digits, radix)?;
        let number = i128::from_str_radix(&format!("{sign}{digits}"), radix);
        return number.ok().map(Value::Integer);
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let mut text = format!("{sign}{}", digits_of(whole, 10)?);
    if let Some(fraction) = fraction {
        text = format!("{text}.{}", digits_of(fraction, 10)?);
    }
    if let Some(exponent) = exponent {
        let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let sign = if exponent.starts_with('-') { "-" } else { "" };
        text = format!("{text}e{sign}{}", digits_of(unsigned, 10)?);
    }
    if fraction.is_none() && exponent.is_none() {
        text.parse().ok().map(Value::Integer)
    } else {
        text.parse().ok().map(Value::Float)
    }
}

/// The digits without the `_` between them; at the start there must be a digit.
fn digits_of(text: &str, radix: u32) -> Option<String> {
    let fits = text.starts_with(|c: char| c.is_digit(radix))
        && text.chars().all(|c| c == '_' || c.is_digit(radix));
    fits.then(|| text.replace('_', ""))
}
