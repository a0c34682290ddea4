#!/bin/bash
# Usage: alpine-disk.sh DISK.vhd DIRECTORY [ROOTFS.tar.gz]
#
# Makes a disk like Alpine's for Amazon EC2 (no partitions, ext4 with the label "/", kernel and initramfs
# in /boot, a fixed VHD) that boots: the root file system is ROOTFS, Alpine's own, or else BusyBox as
# Debian has it; the kernel is Debian's; dropbear lets in whom the metadata service of EC2 names, as
# tiny-cloud does on Alpine's disk. Packages are downloaded to DIRECTORY, which may be kept.
# Needs dropbear-bin, cpio, kmod, e2fsprogs, qemu-utils.
set -eu -o pipefail

disk=$1
cache=$2
rootfs=${3-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root" "$cache"

. "$(dirname "$0")/packages.sh"
unpack busybox "$work/busybox"
busybox=$work/busybox/bin/busybox

# The system.
if [ -n "$rootfs" ]; then
    tar -xf "$rootfs" -C "$root"
else
    mkdir -p "$root"/{bin,sbin,etc,usr/bin,usr/sbin,root,home,tmp,var/log,var/lib}
    cp "$busybox" "$root/bin/busybox"
    libraries "$busybox" "$root"
    "$busybox" --list | while read -r applet; do
        [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
    done
    ln -s ../bin/busybox "$root/sbin/init"
    echo root:x:0:0:root:/root:/bin/sh >"$root/etc/passwd"
    echo root:x:0: >"$root/etc/group"
    echo root:*:19000:::::: >"$root/etc/shadow"
    printf 'ID=alpine\nVERSION_ID=0\nNAME="BusyBox like Alpine"\n' >"$root/etc/os-release"
fi
mkdir -p "$root"/{proc,sys,dev,run,boot,lib/modules}
chmod 1777 "$root/tmp"
echo alpine:x:1000:1000:alpine:/home/alpine:/bin/sh >>"$root/etc/passwd"
echo alpine:x:1000: >>"$root/etc/group"
echo 'alpine:*:19000::::::' >>"$root/etc/shadow"
mkdir -p "$root/home/alpine"

"$(dirname "$0")/kernel.sh" "$cache" "$root"

# An SSH server with its libraries, where those of Alpine are not looked for.
cp /usr/sbin/dropbear "$root/usr/sbin/"
libraries /usr/sbin/dropbear "$root"

# What tiny-cloud does, at the first boot: key and name from the metadata service.
cat >"$root/etc/inittab" <<'END'
::sysinit:/etc/rc.start
::shutdown:/bin/umount -a -r
ttyS0::respawn:/sbin/getty -L ttyS0 115200 vt100
END
mkdir -p "$root/sbin"
[ -e "$root/sbin/getty" ] || ln -s /bin/busybox "$root/sbin/getty"
cat >"$root/etc/dhcp.script" <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
ifconfig "$interface" "$ip" netmask "$subnet"
route add default gw $router
for server in $dns; do echo "nameserver $server"; done >/etc/resolv.conf
END
cat >"$root/etc/rc.start" <<'END'
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev 2>/dev/null
mount -t tmpfs run /run; mkdir -p /dev/pts /run/log; mount -t devpts devpts /dev/pts
echo "start of $(sed -n 's/^NAME=//p' /etc/os-release)" >/dev/console
ifconfig lo 127.0.0.1; ifconfig eth0 up
udhcpc -q -f -i eth0 -s /etc/dhcp.script >/dev/console 2>&1
service=169.254.169.254
ask() { printf '%s HTTP/1.0\r\nHost: %s\r\n%s\r\n\r\n' "$1" $service "$2" | nc -w 10 $service 80 | sed '1,/^.$/d'; }
token=$(ask 'PUT /latest/api/token' 'X-aws-ec2-metadata-token-ttl-seconds: 60')
metadata() { ask "GET /latest/$1" "X-aws-ec2-metadata-token: $token"; }
if [ ! -e /var/lib/first-boot ]; then
    mkdir -p /home/alpine/.ssh
    metadata meta-data/public-keys/0/openssh-key >/home/alpine/.ssh/authorized_keys
    chmod 700 /home/alpine/.ssh; chmod 600 /home/alpine/.ssh/authorized_keys
    chown -R alpine:alpine /home/alpine
    metadata meta-data/local-hostname >/etc/hostname
    touch /var/lib/first-boot
    sync
fi
hostname -F /etc/hostname
mkdir -p /etc/dropbear
dropbear -R -s -p 22
echo "up" >/dev/console
END
chmod +x "$root/etc/dhcp.script" "$root/etc/rc.start"

chown -R 0:0 "$root" 2>/dev/null || true
truncate -s 122M "$work/disk.raw"
mke2fs -q -t ext4 -O ^64bit -L / -d "$root" "$work/disk.raw"
qemu-img convert -f raw -O vpc -o subformat=fixed,force_size=on "$work/disk.raw" "$disk"
