//! rpm's `rpmdb.sqlite`: a table with a header for each package. Source: rpm's manual, "Header
//! Format" and "Database".

use super::Package;
use super::sqlite::{self, Value};

pub(super) const MANAGER: &str = "rpm";

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const SIZE: u32 = 1009;
const FILE_MODES: u32 = 1030;
const LICENSE: u32 = 1014;
const ARCHITECTURE: u32 = 1022;
const SOURCE: u32 = 1044;
const DIRECTORY_INDEXES: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const DIRECTORY_NAMES: u32 = 1118;
const LONG_SIZE: u32 = 5009;

const INT16: u32 = 3;
const INT32: u32 = 4;
const INT64: u32 = 5;
const STRING: u32 = 6;
const STRINGS: u32 = 8;

/// The type of a regular file in a mode (inode(7)).
const REGULAR: u16 = 0o100_000;

pub(super) fn packages(bytes: &[u8]) -> Result<Vec<Package>, String> {
    let rows = sqlite::rows(bytes, "Packages")?;
    let headers = rows.iter().filter_map(|row| match row.as_slice() {
        [_, Value::Blob(header)] => Some(header),
        _ => None,
    });
    headers
        .map(|header| package(header).ok_or_else(|| "a header is damaged".to_owned()))
        .collect()
}

fn package(bytes: &[u8]) -> Option<Package> {
    let header = Header::parse(bytes)?;
    let version = header.text(VERSION)?;
    let release = header.text(RELEASE)?;
    let epoch = header.number(EPOCH).map(|epoch| format!("{epoch}:"));
    let size = header.number(LONG_SIZE).or_else(|| header.number(SIZE));
    Some(Package {
        license: header.text(LICENSE),
        source: header.text(SOURCE),
        file: header.first_file(),
        name: header.text(NAME)?,
        version: format!("{}{version}-{release}", epoch.unwrap_or_default()),
        architecture: header.text(ARCHITECTURE).unwrap_or_default(),
        manager: MANAGER,
        size: size.unwrap_or(0),
    })
}

/// Entries of 16 bytes (tag, type, offset, count; big-endian), and the data that they point into.
struct Header<'a> {
    entries: &'a [u8],
    data: &'a [u8],
}

impl<'a> Header<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (count, length) = (u32_at(bytes, 0)? as usize, u32_at(bytes, 4)? as usize);
        let rest = bytes.get(8..)?;
        let entries = rest.get(..count.checked_mul(16)?)?;
        let data = rest.get(entries.len()..)?.get(..length)?;
        Some(Self { entries, data })
    }

    /// The type of a tag, and the data from its value on.
    fn find(&self, tag: u32) -> Option<(u32, &'a [u8])> {
        let mut entries = self.entries.chunks_exact(16);
        let entry = entries.find(|entry| u32_at(entry, 0) == Some(tag))?;
        let offset = u32_at(entry, 8)? as usize;
        Some((u32_at(entry, 4)?, self.data.get(offset..)?))
    }

    fn text(&self, tag: u32) -> Option<String> {
        let (STRING, data) = self.find(tag)? else {
            return None;
        };
        let end = data.iter().position(|&byte| byte == 0)?;
        Some(String::from_utf8_lossy(&data[..end]).into_owned())
    }

    /// The first regular file that the package brings, without `/` at the beginning.
    fn first_file(&self) -> Option<String> {
        let of_type = |tag, wanted| {
            let (found, data) = self.find(tag)?;
            (found == wanted).then_some(data)
        };
        let modes = of_type(FILE_MODES, INT16)?.chunks_exact(2);
        let mut modes = modes.map(|mode| u16::from_be_bytes([mode[0], mode[1]]));
        let at = modes.position(|mode| mode & 0o170_000 == REGULAR)?;
        let directory = u32_at(of_type(DIRECTORY_INDEXES, INT32)?, at.checked_mul(4)?)?;
        let string = |data: &[u8], at: usize| {
            let text = data.split(|&byte| byte == 0).nth(at)?;
            Some(String::from_utf8_lossy(text).into_owned())
        };
        let directory = string(of_type(DIRECTORY_NAMES, STRINGS)?, directory as usize)?;
        let name = string(of_type(BASE_NAMES, STRINGS)?, at)?;
        Some(format!("{}{name}", directory.trim_start_matches('/')))
    }

    fn number(&self, tag: u32) -> Option<u64> {
        match self.find(tag)? {
            (INT32, data) => u32_at(data, 0).map(Into::into),
            (INT64, data) => Some(u64::from_be_bytes(data.get(..8)?.try_into().ok()?)),
            _ => None,
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Command, Output};

    use super::*;

    fn run(command: &mut Command) -> Output {
        let output = command
            .output()
            .expect("rpm and rpmbuild run (package rpm)");
        assert!(output.status.success(), "{output:?}");
        output
    }

    /// So many packages that the table has pages of pages, one of them with a header of many pages.
    const COUNT: usize = 60;

    #[test]
    fn packages_are_those_that_rpm_lists() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mut spec =
            "Name: first\nVersion: 1.2\nRelease: 3\nEpoch: 4\nSummary: s\nLicense: MIT\n\
             BuildArch: noarch\n%description\nd\n%install\nmkdir -p %{buildroot}/opt\n\
             head -c 5000 /dev/zero > %{buildroot}/opt/file\n%files\n/opt/file\n"
                .to_owned();
        for number in 0..COUNT {
            let words = if number == 7 { 20_000 } else { 20 };
            let text = "word ".repeat(words);
            spec += &format!(
                "%package p{number}\nSummary: s\n%description p{number}\n{text}\n%files p{number}\n"
            );
        }
        fs::write(path("first.spec"), spec).unwrap();
        run(Command::new("rpmbuild")
            .args(["-bb", "--quiet", "--define"])
            .arg(format!("_topdir {}", path("top").display()))
            .arg(path("first.spec")));
        let files = fs::read_dir(path("top/RPMS/noarch")).unwrap();
        let files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), COUNT + 1);
        let database = format!("--dbpath={}", path("db").display());
        let backend = ["--define", "_db_backend sqlite"];
        run(Command::new("rpm")
            .args([&database, "-i", "--nodeps", "--justdb", "--nosignature"])
            .args(backend)
            .args(files));
        let query = "%{NAME} %|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE} %{ARCH} %{LONGSIZE}\n";
        let listed = run(Command::new("rpm")
            .args([&database, "-qa", "--qf", query])
            .args(backend));
        let listed = String::from_utf8(listed.stdout).unwrap();
        let mut listed: Vec<_> = listed.lines().collect();
        listed.sort_unstable();
        let bytes = fs::read(path("db/rpmdb.sqlite")).unwrap();
        let found = packages(&bytes).unwrap();
        let mut found: Vec<_> = found
            .iter()
            .map(|one| {
                let Package {
                    name,
                    version,
                    architecture,
                    size,
                    ..
                } = one;
                format!("{name} {version} {architecture} {size}")
            })
            .collect();
        found.sort_unstable();
        assert_eq!(found, listed);
        assert!(found.contains(&"first 4:1.2-3 noarch 5000".to_owned()));
        let file = |name: &str| {
            let all = packages(&bytes).unwrap();
            all.into_iter().find(|one| one.name == name).unwrap().file
        };
        assert_eq!(file("first").as_deref(), Some("opt/file"));
        assert_eq!(file("first-p7"), None);
        // Whatever is cut off or wrong, it is said.
        for length in (0..bytes.len()).step_by(509) {
            let _ = packages(&bytes[..length]);
        }
        let mut damaged = bytes.clone();
        for at in (100..bytes.len()).step_by(97) {
            damaged[at] ^= 0xff;
            let _ = packages(&damaged);
            damaged[at] = bytes[at];
        }
        assert!(packages(b"no database").is_err());
    }
}
