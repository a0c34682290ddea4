//! What vmfab tells the machine to mount, by SMBIOS: see `guest::GuestMount`.

/// A line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mount<'a> {
    /// `UUID=…` of a file system, or the tag of a directory of the host.
    pub(crate) what: &'a [u8],
    pub(crate) at: &'a [u8],
    pub(crate) kind: &'a [u8],
    pub(crate) read_only: bool,
    /// What the file system itself is told.
    pub(crate) options: &'a [u8],
}

/// The lines of the table.
pub(crate) fn mounts(table: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    table.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut words = line.split(|&byte| byte == b' ');
        let (what, at, kind) = (words.next()?, words.next()?, words.next()?);
        let options = words.next()?;
        let comma = options.iter().position(|&byte| byte == b',');
        let (mode, rest) = options.split_at(comma.unwrap_or(options.len()));
        Some(Mount {
            what,
            at,
            kind,
            read_only: mode == b"ro",
            options: rest.get(1..).unwrap_or_default(),
        })
    })
}

/// The bytes of `UUID=xxxxxxxx-xxxx-…`.
pub(crate) fn uuid(what: &[u8]) -> Option<[u8; 16]> {
    let text = what.strip_prefix(b"UUID=")?;
    let mut digits = text.iter().filter(|byte| **byte != b'-');
    let mut uuid = [0; 16];
    for place in &mut uuid {
        for _ in 0..2 {
            let digit = char::from(*digits.next()?).to_digit(16)?;
            *place = *place << 4 | u8::try_from(digit).ok()?;
        }
    }
    digits.next().is_none().then_some(uuid)
}
