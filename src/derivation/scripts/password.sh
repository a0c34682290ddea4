#!/bin/sh
# Gives an account the password that vmfab hands over by SMBIOS: base64 of NAME:HASH. It does so once
# for each password, so that a later one of the guest's own stays.
LC_ALL=C
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
line=$(tr '\000' '\n' </sys/firmware/dmi/tables/DMI |
    sed -n 's/^.*io\.systemd\.credential\.binary:vmfab\.password=//p' | base64 -d)
test -n "$line" || exit 0
done=/var/lib/vmfab/password
sum=$(printf '%s' "$line" | cksum)
test "$(cat "$done" 2>/dev/null)" != "$sum" || exit 0
printf '%s\n' "$line" | chpasswd -e
mkdir -p "${done%/*}"
printf '%s\n' "$sum" >"$done"
