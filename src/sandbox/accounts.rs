//! Users and groups by the texts of passwd(5) and group(5) of a tree. Pure.

use super::setuser::Identity;

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) identity: Identity,
    pub(super) home: String,
}

/// `user[:group]` as container engines take it
/// (<https://pkg.go.dev/github.com/moby/sys/user#GetExecUser>): a number need not be in the files,
/// and its group is root's then. Supplementary groups are those of the user, if no group is given.
///
/// # Errors
/// A name is in neither file.
pub(super) fn account(user: &str, passwd: &str, group: &str) -> Result<Account, String> {
    let (name, group_name) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let number = name.parse::<u32>().ok();
    let entry = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [login, _, uid, gid, _, home, ..] = fields[..] else {
            return None;
        };
        let (uid, gid) = (uid.parse::<u32>().ok()?, gid.parse::<u32>().ok()?);
        let found = number.map_or(login == name, |number| number == uid);
        found.then(|| (login.to_owned(), uid, gid, home.to_owned()))
    });
    let (login, uid, gid, home) = match (entry, number) {
        (Some(entry), _) => entry,
        (None, Some(number)) => (String::new(), number, 0, "/".to_owned()),
        (None, None) => return Err(format!("the image has no user \"{name}\"")),
    };
    let groups = group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (name, gid) = (*fields.first()?, fields.get(2)?.parse::<u32>().ok()?);
        Some((name, gid, fields.get(3).copied().unwrap_or_default()))
    });
    let (gid, groups) = match group_name {
        None => {
            let own = groups.filter(|(_, _, members)| {
                !login.is_empty() && members.split(',').any(|member| member == login)
            });
            (gid, own.map(|(_, gid, _)| gid).collect())
        }
        Some(wanted) => {
            let number = wanted.parse::<u32>().ok();
            let mut groups = groups;
            let found = groups
                .find(|(name, gid, _)| number.map_or(*name == wanted, |number| number == *gid));
            let gid = found.map(|(_, gid, _)| gid).or(number);
            let gid = gid.ok_or_else(|| format!("the image has no group \"{wanted}\""))?;
            (gid, Vec::new())
        }
    };
    let home = if home.is_empty() {
        "/".to_owned()
    } else {
        home
    };
    Ok(Account {
        identity: Identity { uid, gid, groups },
        home,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1001::/home/node:/bin/sh\n\
                          broken\n7:x:70:70::/seven:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nsudo:x:27:node,other\nnode:x:1001:\nadm:x:4:node\nwheel:x:10\n";

    #[test]
    fn users_are_found_as_container_engines_find_them() {
        let of = |user: &str| {
            let Account { identity, home } = account(user, PASSWD, GROUP)?;
            let Identity { uid, gid, groups } = identity;
            let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
            Ok::<_, String>(format!("{uid}:{gid} [{}] {home}", groups.join(" ")))
        };
        let cases = [
            ("", "0:0 [] /root"),
            ("root", "0:0 [] /root"),
            ("node", "1000:1001 [27 4] /home/node"),
            ("1000", "1000:1001 [27 4] /home/node"),
            ("node:adm", "1000:4 [] /home/node"),
            ("node:77", "1000:77 [] /home/node"),
            ("node:", "1000:1001 [27 4] /home/node"),
            ("2000", "2000:0 [] /"),
            ("2000:3000", "2000:3000 [] /"),
            // A number is a number, even if somebody has it as a name.
            ("7", "7:0 [] /"),
        ];
        for (user, expected) in cases {
            assert_eq!(of(user).as_deref(), Ok(expected), "{user}");
        }
        assert_eq!(
            of("nobody").unwrap_err(),
            "the image has no user \"nobody\""
        );
        assert_eq!(of("node:x").unwrap_err(), "the image has no group \"x\"");
        assert_eq!(account("", "", "").unwrap().home, "/");
    }
}
