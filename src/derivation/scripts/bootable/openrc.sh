# Adds the services that the tree has to a runlevel.
add() {
    level=$1
    shift
    for service in "$@"; do
        if test -e "/etc/init.d/$service"; then rc-update --quiet add "$service" "$level"; fi
    done
}
mkdir -p /usr/lib/vmfab /etc/init.d /etc/network
printf '%s' "$SEED" >/usr/lib/vmfab/seed
cat >/etc/init.d/vmfab-seed <<'SERVICE'
#!/sbin/openrc-run
description="Lets in who has the machine's key"

depend() {
    after localmount sysfs hostname
    before net sshd
}

start() {
    ebegin "Letting in who has the machine's key"
    /usr/lib/vmfab/seed
    eend $?
    # Not every SSH server makes its keys itself.
    ls /etc/ssh/ssh_host_*_key >/dev/null 2>&1 || ssh-keygen -A >/dev/null
}
SERVICE
chmod 0755 /usr/lib/vmfab/seed /etc/init.d/vmfab-seed
add sysinit devfs dmesg mdev hwdrivers udev udev-trigger
add boot modules sysctl hostname bootmisc syslog networking seedrng urandom vmfab-seed
add default sshd ssh acpid local
add shutdown killprocs mount-ro savecache
# BusyBox refuses the options for systemd that the file would have otherwise.
if ! test -s /etc/fstab || grep -q '^# UNCONFIGURED FSTAB' /etc/fstab || grep -q cdrom /etc/fstab; then
    echo '/dev/root / ext4 rw,relatime 0 0' >/etc/fstab
fi
if ! test -e /etc/network/interfaces; then
    printf 'auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n' >/etc/network/interfaces
fi
# A terminal at the serial port, as systemd has it.
if test -e /etc/inittab; then sed -i 's/^#\(ttyS0:\)/\1/' /etc/inittab; fi
# "*" is no password; with "!" the SSH server would take the account for locked.
sed -i 's/^root:!*:/root:*:/' /etc/shadow
