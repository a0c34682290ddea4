//! What vmfab tells the init of an image's process: texts, each with a letter before and a NUL
//! behind. vmfab writes them (`sandbox::own_init`); the tests there read them with this.

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    /// A word of the command line.
    Argument(&'a [u8]),
    /// A word of the command that checks the health.
    Health(&'a [u8]),
    /// `NAME=VALUE`.
    Variable(&'a [u8]),
    Workdir(&'a [u8]),
    /// A number, and the letter for what it is: `u`ser, `g`roup, `s`upplementary group, signal that
    /// `k`ills; of the health check the `i`nterval, `t`imeout, start `p`eriod and i`n`terval before
    /// the first success in milliseconds, and how often it is `r`etried; TCP port that is
    /// `l`istened on.
    Number(u8, u32),
}

/// The entries of a text. A slice of it is followed by a NUL.
pub(crate) fn entries(text: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut rest = text;
    core::iter::from_fn(move || {
        loop {
            let end = rest.iter().position(|&byte| byte == 0)?;
            let (entry, after) = rest.split_at(end);
            rest = &after[1..];
            let Some((&letter, content)) = entry.split_first() else {
                continue;
            };
            return Some(match letter {
                b'a' => Entry::Argument(content),
                b'h' => Entry::Health(content),
                b'e' => Entry::Variable(content),
                b'w' => Entry::Workdir(content),
                _ => Entry::Number(letter, number(content)),
            });
        }
    })
}

fn number(digits: &[u8]) -> u32 {
    digits.iter().fold(0u32, |number, digit| {
        let digit = u32::from(digit.wrapping_sub(b'0'));
        number.saturating_mul(10).saturating_add(digit)
    })
}
