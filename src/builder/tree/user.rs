//! User accounts, by the tree's own programs: shadow's or BusyBox's.

use std::collections::BTreeMap;

use crate::derivation::step::User;
use crate::sandbox::{Command, Task};

/// An account that exists is kept; groups, sudo, password and keys are added to it. Empty variables
/// mean that the recipe says nothing.
const SCRIPT: &str = r#"
has() { grep -q "^$2:" "/etc/$1"; }
if test -n "$LOGIN_SHELL" && ! test -x "$LOGIN_SHELL"; then
    echo "user \"$NAME\" is to have the shell $LOGIN_SHELL, and the image has no such program" >&2
    exit 1
fi
if ! has passwd "$NAME"; then
    shell=${LOGIN_SHELL:-/bin/sh}
    if test -z "$LOGIN_SHELL" && test -x /bin/bash; then shell=/bin/bash; fi
    if command -v useradd >/dev/null; then
        useradd --create-home --shell "$shell" ${USER_ID:+--uid "$USER_ID"} -- "$NAME"
    else
        adduser -D -s "$shell" ${USER_ID:+-u "$USER_ID"} "$NAME"
    fi
    # "*" is no password and, unlike "!", no locked account: keys open it everywhere.
    test -n "$PASSWORD_HASH" || PASSWORD_HASH='*'
elif test -n "$LOGIN_SHELL"; then
    if command -v usermod >/dev/null; then usermod --shell "$LOGIN_SHELL" -- "$NAME"; fi
fi
if test -n "$PASSWORD_HASH"; then printf '%s:%s\n' "$NAME" "$PASSWORD_HASH" | chpasswd -e; fi
for group in $GROUPS_TO_JOIN; do
    if command -v usermod >/dev/null; then
        has group "$group" || groupadd --system -- "$group"
        usermod --append --groups "$group" -- "$NAME"
    else
        has group "$group" || addgroup -S "$group"
        addgroup "$NAME" "$group"
    fi
done
if test "$SUDO" = yes; then
    if test -d /etc/sudoers.d; then
        printf '%s ALL=(ALL:ALL) NOPASSWD:ALL\n' "$NAME" > "/etc/sudoers.d/90-$NAME"
        chmod 0440 "/etc/sudoers.d/90-$NAME"
    elif test -d /etc/doas.d; then
        printf 'permit nopass %s\n' "$NAME" > "/etc/doas.d/90-$NAME.conf"
        chmod 0400 "/etc/doas.d/90-$NAME.conf"
    else
        echo "user \"$NAME\" is to use sudo: the image needs the package sudo" >&2
        exit 1
    fi
fi
if test -n "$KEYS"; then
    home=$(sed -n "s/^$NAME:\([^:]*:\)\{4\}\([^:]*\):.*/\2/p" /etc/passwd)
    group=$(sed -n "s/^$NAME:[^:]*:[^:]*:\([^:]*\):.*/\1/p" /etc/passwd)
    mkdir -p "$home/.ssh"
    printf '%s\n' "$KEYS" >> "$home/.ssh/authorized_keys"
    chmod 0700 "$home/.ssh"
    chmod 0600 "$home/.ssh/authorized_keys"
    chown -R "$NAME:$group" "$home/.ssh"
fi
"#;

pub(super) fn tasks(params: &User) -> Vec<Task> {
    let or_empty = |value: &Option<String>| value.clone().unwrap_or_default();
    let env = BTreeMap::from(
        [
            ("NAME", params.name.clone()),
            ("LOGIN_SHELL", or_empty(&params.shell)),
            (
                "USER_ID",
                params.uid.map(|uid| uid.to_string()).unwrap_or_default(),
            ),
            ("PASSWORD_HASH", or_empty(&params.password_hash)),
            ("GROUPS_TO_JOIN", params.groups.join(" ")),
            ("SUDO", if params.sudo { "yes" } else { "no" }.to_owned()),
            ("KEYS", params.authorized_keys.join("\n")),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let argv = ["/bin/sh", "-euc", SCRIPT].map(str::to_owned).into();
    vec![Task::Command(Command {
        label: Some(format!("user {}", params.name)),
        argv,
        env,
        ..Command::default()
    })]
}
