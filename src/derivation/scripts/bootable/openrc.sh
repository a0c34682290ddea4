# Adds the services that the tree has to a runlevel.
add() {
    level=$1
    shift
    for service in "$@"; do
        # Debian's packages add theirs.
        if test -e "/etc/init.d/$service" && ! ls /etc/runlevels/*/"$service" >/dev/null 2>&1; then
            rc-update --quiet add "$service" "$level"
        fi
    done
}
mkdir -p /usr/lib/vmfab /etc/init.d /etc/network
printf '%s' "$SEED" >/usr/lib/vmfab/seed
cat >/etc/init.d/vmfab-seed <<'SERVICE'
#!/sbin/openrc-run
description="Lets in who has the machine's key"

depend() {
    after localmount mountall.sh sysfs mountkernfs.sh hostname hostname.sh udev udev-trigger mdev
    before net networking sshd ssh
}

start() {
    ebegin "Letting in who has the machine's key"
    /usr/lib/vmfab/seed
    eend $?
    if grep -q 'vmfab\.mounts=' /sys/firmware/dmi/tables/DMI; then
        ebegin "Mounting the volumes and shares of this machine"
        /usr/lib/vmfab/mounts
        eend $?
    fi
    if grep -q 'vmfab\.network=' /sys/firmware/dmi/tables/DMI || test -e /etc/vmfab-network; then
        ebegin "Setting up the private network of this machine"
        /usr/lib/vmfab/network
        eend $?
    fi
    if grep -q 'vmfab\.password=' /sys/firmware/dmi/tables/DMI; then
        ebegin "Setting the password that was chosen for this machine"
        /usr/lib/vmfab/password
        eend $?
    fi
    # Only the machine knows the names of its network cards.
    if ! grep -v '^iface lo ' /etc/network/interfaces | grep -q '^iface '; then
        for card in /sys/class/net/e*; do
            # The card of a private network has its address by now.
            case $(cat "$card/address") in 52:54:0a:d5:*) continue ;; esac
            card=${card##*/}
            printf '\nauto %s\niface %s inet dhcp\n' "$card" "$card"
        done >>/etc/network/interfaces
    fi
    # Not every SSH server makes its keys itself.
    ls /etc/ssh/ssh_host_*_key >/dev/null 2>&1 || ssh-keygen -A >/dev/null
}
SERVICE
chmod 0755 /usr/lib/vmfab/seed /etc/init.d/vmfab-seed
add sysinit devfs dmesg mdev hwdrivers udev udev-trigger
add boot modules sysctl hostname bootmisc syslog networking seedrng urandom
# Debian has the network in the first runlevel.
if test -e /etc/runlevels/sysinit/networking; then add sysinit vmfab-seed; else add boot vmfab-seed; fi
add default sshd ssh acpid local
add shutdown killprocs mount-ro savecache
# BusyBox refuses the options for systemd that the file would have otherwise.
if ! test -s /etc/fstab || grep -q '^# UNCONFIGURED FSTAB' /etc/fstab || grep -q cdrom /etc/fstab; then
    echo '/dev/root / ext4 rw,relatime 0 0' >/etc/fstab
fi
if ! grep -qs '^iface ' /etc/network/interfaces; then
    printf 'auto lo\niface lo inet loopback\n' >>/etc/network/interfaces
fi
# A terminal at the serial port, as systemd has it.
if test -e /etc/inittab; then sed -i 's/^#\(ttyS0:\)/\1/' /etc/inittab; fi
# "*" is no password; with "!" the SSH server would take the account for locked.
sed -i 's/^root:!*:/root:*:/' /etc/shadow
