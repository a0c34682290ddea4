//! Permission bits as `--chmod` gives them: octal, or symbolic as for chmod(1). Pure.

/// What becomes of the mode of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    Bits(u32),
    Symbolic(Vec<Clause>),
}

/// Such as `go-w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clause {
    /// Bits of the classes that are meant, such as 0o077.
    who: u32,
    operator: char,
    what: What,
    /// Bits that the mask of new files takes away, if no class is named.
    masked: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Permissions {
        /// For all classes: 0o444, 0o222, 0o111.
        bits: u32,
        /// `X`: to execute directories, and what somebody may execute.
        search: bool,
        set_id: bool,
        sticky: bool,
    },
    /// Those of a class: how far its bits are shifted.
    Copied(u32),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no mode: write octal digits up to 7777, or changes such as u=rwX,go=rX")]
pub struct BadMode(String);

/// The mask that applies if no class is named, as for BuildKit.
const MASK: u32 = 0o022;

impl ModeChange {
    /// # Errors
    /// It is neither octal nor symbolic.
    pub fn parse(text: &str) -> Result<Self, BadMode> {
        let bad = || BadMode(text.to_owned());
        if let Ok(bits) = u32::from_str_radix(text, 8)
            && !text.starts_with('+')
        {
            return match bits {
                0..=0o7777 => Ok(Self::Bits(bits)),
                _ => Err(bad()),
            };
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            let start = part.find(['+', '-', '=']).ok_or_else(bad)?;
            let (classes, mut rest) = part.split_at(start);
            let (mut who, mut masked) = (0, 0);
            for class in classes.chars() {
                who |= class_bits(class).ok_or_else(bad)?;
            }
            if classes.is_empty() {
                (who, masked) = (0o777, MASK);
            }
            while let Some(operator) = rest.chars().next() {
                let end = rest[1..].find(['+', '-', '=']);
                let end = end.map_or(rest.len(), |end| end + 1);
                let what = what(&rest[1..end]).ok_or_else(bad)?;
                clauses.push(Clause {
                    who,
                    operator,
                    what,
                    masked,
                });
                rest = &rest[end..];
            }
        }
        Ok(Self::Symbolic(clauses))
    }

    /// The mode of a file that had this one.
    #[must_use]
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Bits(bits) => *bits,
            Self::Symbolic(clauses) => clauses
                .iter()
                .fold(mode, |mode, clause| clause.apply(mode, is_directory)),
        }
    }
}

fn class_bits(class: char) -> Option<u32> {
    match class {
        'u' => Some(0o700),
        'g' => Some(0o070),
        'o' => Some(0o007),
        'a' => Some(0o777),
        _ => None,
    }
}

fn what(text: &str) -> Option<What> {
    match text {
        "u" => return Some(What::Copied(6)),
        "g" => return Some(What::Copied(3)),
        "o" => return Some(What::Copied(0)),
        _ => {}
    }
    let (mut bits, mut search, mut set_id, mut sticky) = (0, false, false, false);
    for letter in text.chars() {
        match letter {
            'r' => bits |= 0o444,
            'w' => bits |= 0o222,
            'x' => bits |= 0o111,
            'X' => search = true,
            's' => set_id = true,
            't' => sticky = true,
            _ => return None,
        }
    }
    Some(What::Permissions {
        bits,
        search,
        set_id,
        sticky,
    })
}

impl Clause {
    fn apply(self, mode: u32, is_directory: bool) -> u32 {
        let mut special = 0;
        let all = match self.what {
            What::Copied(shift) => (mode >> shift & 0o7) * 0o111,
            What::Permissions {
                mut bits,
                search,
                set_id,
                sticky,
            } => {
                if search && (is_directory || mode & 0o111 != 0) {
                    bits |= 0o111;
                }
                for (wanted, class, bit) in [
                    (set_id, 0o700, 0o4000),
                    (set_id, 0o070, 0o2000),
                    (sticky, 0o777, 0o1000),
                ] {
                    if wanted && self.who & class != 0 {
                        special |= bit;
                    }
                }
                bits
            }
        };
        let bits = all & self.who & !self.masked | special;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => {
                let mut cleared = self.who;
                for (class, bit) in [(0o700, 0o4000), (0o070, 0o2000)] {
                    // Those of a directory stay, as for chmod(1).
                    if self.who & class != 0 && !is_directory {
                        cleared |= bit;
                    }
                }
                if self.who == 0o777 && !is_directory {
                    cleared |= 0o1000;
                }
                mode & !cleared | bits
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_or_symbolic() {
        let cases = [
            ("755", 0o644, false, 0o755),
            ("0", 0o644, false, 0),
            ("4755", 0o644, false, 0o4755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("go-w", 0o666, false, 0o644),
            ("a+x", 0o644, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("+w", 0o444, false, 0o644),
            ("=r", 0o777, false, 0o444),
            ("g=u", 0o640, false, 0o660),
            ("g=u,o=g", 0o640, false, 0o666),
            ("u+s,g+s", 0o755, false, 0o6755),
            ("+t", 0o777, true, 0o1777),
            ("u=r", 0o4755, false, 0o455),
            ("u+r-w+x", 0o644, false, 0o544),
            ("u=", 0o644, false, 0o044),
        ];
        for (text, mode, is_directory, expected) in cases {
            let changed = ModeChange::parse(text).unwrap().apply(mode, is_directory);
            assert_eq!(changed, expected, "{text}: {changed:o}");
        }
        for text in ["", "8", "10000", "u", "x+r", "u+q", "u=r,", "rwx"] {
            let parsed = ModeChange::parse(text);
            assert!(parsed.is_err(), "{text} {parsed:?}");
        }
    }
}
