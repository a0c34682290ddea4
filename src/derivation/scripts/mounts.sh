#!/bin/sh
# Mounts what vmfab tells the machine, by SMBIOS or as an argument: base64 of lines with what, where,
# the type and the options.
LC_ALL=C
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH

# A device may come a moment later.
try_mount() {
    tries=0
    until mount -t "$kind" -o "$options" "$what" "$1"; do
        tries=$((tries + 1))
        test "$tries" -lt 10 || return 1
        sleep 1
    done
}

# A new volume begins with what the image has in its place.
begin() {
    new=/run/vmfab-new
    mkdir -p "$new"
    try_mount "$new" || return 1
    if test "$(ls -A "$new")" = lost+found; then
        rmdir "$new/lost+found"
        cp -a "$where/." "$new/"
    fi
    umount "$new"
}

# A volume may have become larger.
grow() {
    for program in /usr/lib/systemd/systemd-growfs /lib/systemd/systemd-growfs; do
        if test -x "$program"; then
            "$program" "$where" && return
        fi
    done
    resize2fs "$(sed -n "s|^\([^ ]*\) $where ext4 .*|\1|p" /proc/mounts)"
}

if test $# -gt 0; then
    table=$1
else
    table=$(tr '\000' '\n' </sys/firmware/dmi/tables/DMI |
        sed -n 's/^.*io\.systemd\.credential\.binary:vmfab\.mounts=//p')
fi
printf '%s' "$table" | base64 -d | {
    failed=0
    while read -r what where kind options; do
        if grep -qF " $where " /proc/mounts; then continue; fi
        mkdir -p "$where"
        case $kind,$options in
        ext4,rw*) begin || failed=1 ;;
        esac
        try_mount "$where" || failed=1
        case $kind,$options in
        ext4,rw*) grow >/dev/null 2>&1 ;;
        esac
    done
    exit "$failed"
}
