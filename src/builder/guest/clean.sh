# Takes from a booted system what is of this machine and not of the image: src/sandbox/identity.rs says
# the same for trees that never were booted. Every command may find nothing to do.
export LC_ALL=C

have() { command -v "$1" >/dev/null 2>&1; }
gone() { rm -rf -- "$@"; }
# Removes secrets: what is overwritten cannot be read from the free blocks of the disk.
wipe() {
    for file; do
        if [ -f "$file" ] && [ ! -L "$file" ]; then
            dd if=/dev/zero of="$file" bs="$(stat -c %s -- "$file")" count=1 conv=notrunc,fsync 2>/dev/null
        fi
        gone "$file"
    done
}
empty() {
    for file; do
        if [ -f "$file" ] && [ ! -L "$file" ]; then : >"$file"; fi
    done
}

# What writes at its end is ended first.
if [ -d /run/systemd/system ]; then
    systemctl stop rsyslog.service syslog.socket systemd-random-seed.service systemd-update-utmp.service \
        systemd-timesyncd.service apt-daily.timer apt-daily-upgrade.timer 2>/dev/null
    journalctl --relinquish-var >/dev/null 2>&1
elif have rc-service; then
    for service in syslog chronyd ntpd crond; do
        rc-service --ifstarted "$service" stop >/dev/null 2>&1
    done
    # The seed of the random numbers is saved when this service stops, and here it does not run again.
    rc-service --ifstarted seedrng stop >/dev/null 2>&1
fi

# Passwords that the machine was given, and that were not changed in it: vmfab's script noted a sum, and
# cloud-init keeps what it was told. "*" fits no password, and keys still open the account.
with_given_password() {
    while IFS=: read -r name hash _; do
        case $hash in '$'*) ;; *) continue ;; esac
        sum=$(printf '%s:%s' "$name" "$hash" | cksum)
        if [ "$(cat /var/lib/vmfab/password 2>/dev/null)" = "$sum" ] ||
            grep -rqsF -e "$hash" /var/lib/cloud/instances; then
            echo "$name"
        fi
    done </etc/shadow
}
for name in $(with_given_password); do
    # A link keeps the file that is replaced.
    ln -f /etc/shadow /etc/shadow.vmfab-old || exit
    wipe /etc/shadow-
    usermod -p '*' "$name" 2>/dev/null || printf '%s:*\n' "$name" | chpasswd -e || exit
    wipe /etc/shadow- /etc/shadow.vmfab-old
    if [ -d /var/lib/cloud/instances ]; then
        find /var/lib/cloud/instances -type f | while read -r file; do wipe "$file"; done
    fi
done
gone /var/lib/vmfab/password

# First boot. cloud-init removes what it knows of; without the program what it keeps goes.
if have cloud-init; then
    cloud-init clean --logs >/dev/null 2>&1 || gone /var/lib/cloud/*
else
    gone /var/lib/cloud/instance /var/lib/cloud/instances /var/lib/cloud/data /var/lib/cloud/sem
fi
gone /var/lib/cloud/.bootstrap-complete /var/lib/cloud/user-data /var/lib/cloud/meta-data \
    /var/lib/cloud/vendor-data /var/lib/cloud/network-config /var/log/cloud-init*.log

# Keys of machines of vmfab, known by their comment. Other keys stay.
cut -d : -f 6 /etc/passwd | sort -u | while read -r home; do
    for keys in "$home/.ssh/authorized_keys" "$home/.ssh/authorized_keys2"; do
        if [ ! -f "$keys" ] || ! grep -q ' vmfab machine of ' "$keys"; then continue; fi
        left=$(grep -v ' vmfab machine of ' "$keys")
        if [ -n "$left" ]; then
            printf '%s\n' "$left" >"$keys"
        else
            gone "$keys"
        fi
    done
    gone "$home/.bash_history" "$home/.ash_history" \
        "$home/.sh_history" "$home/.zsh_history" "$home/.lesshst" "$home/.wget-hsts"
    rmdir "$home/.ssh" 2>/dev/null
done

# Identity.
wipe /etc/ssh/ssh_host_*_key /etc/dropbear/dropbear_*_host_key /var/lib/systemd/random-seed \
    /var/lib/systemd/credential.secret
gone /etc/ssh/ssh_host_*_key.pub /var/lib/dbus/machine-id /var/lib/systemd/timesync/* /var/lib/seedrng \
    /var/lib/misc/random-seed
gone /var/lib/dhcp/* /var/lib/dhclient/* /var/lib/dhcpcd/* /var/lib/udhcpc/* /var/lib/NetworkManager/*
if [ -f /etc/machine-id ]; then : >/etc/machine-id; fi

# Caches.
gone /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb \
    /var/cache/apt/archives/partial/* /var/cache/debconf/*-old /var/lib/dpkg/*-old
gone /var/cache/apk/* /var/cache/dnf/* /var/cache/yum/* /var/cache/libdnf5/* /var/cache/ldconfig/aux-cache

# Logs.
gone /var/log/journal/* /var/log/apt/* /var/log/dnf* /var/log/hawkey.log /var/log/alternatives.log \
    /var/log/apk.log /var/log/bootstrap.log /var/log/dpkg.log /var/log/fontconfig.log
find /var/log -xdev -type f | while read -r log; do empty "$log"; done

# What is there for a moment.
find /tmp -xdev -mindepth 1 -maxdepth 1 -exec rm -rf {} + 2>/dev/null
sync
exit 0
