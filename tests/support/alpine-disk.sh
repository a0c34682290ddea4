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

# The package $1, unpacked to $2. What static programs of glibc cannot do is to look up names: so
# BusyBox is the one with libraries.
unpack() {
    local deb
    deb=$(find "$cache" -name "$1_*.deb" | head -n 1)
    if [ -z "$deb" ]; then
        (cd "$cache" && apt-get -qq -o APT::Sandbox::User=root download "$1")
        deb=$(find "$cache" -name "$1_*.deb" | head -n 1)
    fi
    dpkg-deb -x "$deb" "$2"
}
# The libraries of the program $1, below $2.
libraries() {
    ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$2${library%/*}"
        cp -L "$library" "$2$library"
    done
}
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

# Debian's kernel, with the modules that a machine needs.
package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p')
unpack "$package" "$work/kernel"
version=${package#linux-image-}
cp "$work/kernel/boot/vmlinuz-$version" "$root/boot/vmlinuz-virt"
depmod -b "$work/kernel" "$version" 2>/dev/null
modules() {
    modprobe -d "$work/kernel" -S "$version" -D -a "$@" 2>/dev/null | sed -n 's/^insmod \([^ ]*\).*/\1/p' |
        awk '!seen[$0]++'
}

# The initramfs: modules, then the root file system by its label, then its init.
initramfs=$work/initramfs
mkdir -p "$initramfs"/{bin,modules,proc,sys,dev,root}
cp "$busybox" "$initramfs/bin/busybox"
libraries "$busybox" "$initramfs"
{
    echo '#!/bin/busybox sh'
    echo 'bb=/bin/busybox'
    echo '$bb mount -t proc proc /proc; $bb mount -t sysfs sys /sys; $bb mount -t devtmpfs dev /dev'
    modules virtio_pci virtio_blk virtio_rng ext4 crc32c_generic virtio_net | while read -r module; do
        cp "$module" "$initramfs/modules/"
        echo "\$bb insmod /modules/$(basename "$module")"
    done
    echo 'for word in $($bb cat /proc/cmdline); do case $word in root=*) wanted=${word#root=} ;; esac; done'
    echo 'for _ in 1 2 3 4 5 6 7 8 9; do device=$($bb findfs "$wanted") && break; $bb sleep 0.2; done'
    echo '$bb mount -o rw "$device" /root && exec $bb switch_root /root /sbin/init'
    echo 'echo "no root file system $wanted"; exec $bb sh'
} >"$initramfs/init"
chmod +x "$initramfs/init"
(cd "$initramfs" && find . | cpio --quiet -o -H newc | gzip -1) >"$root/boot/initramfs-virt"

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
