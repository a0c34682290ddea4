#!/bin/bash
# Usage: kernel.sh DIRECTORY ROOT
#
# Puts Debian's kernel and a small initramfs for it, with drivers of other hardware than virtio, too,
# into ROOT/boot, as Alpine names them: vmlinuz-virt, initramfs-virt; and the modules of the power button
# below ROOT/lib/modules. Packages are downloaded to DIRECTORY, which may be kept. Needs cpio, kmod.
set -eu -o pipefail

cache=$1
root=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$cache" "$root/boot"
root=$(realpath "$root")

. "$(dirname "$0")/packages.sh"
unpack busybox "$work/busybox"
busybox=$work/busybox/bin/busybox

# Debian's kernel, with the modules that a machine needs.
package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p')
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
    modules virtio_pci virtio_blk virtio_rng ext4 crc32c_generic virtio_net \
        ahci ata_piix sd_mod nvme e1000 9p 9pnet_virtio virtiofs | while read -r module; do
        cp "$module" "$initramfs/modules/"
        echo "\$bb insmod /modules/$(basename "$module")"
    done
    echo 'for word in $($bb cat /proc/cmdline); do case $word in root=*) wanted=${word#root=} ;; esac; done'
    echo 'for _ in $($bb seq 100); do device=$($bb findfs "$wanted") && break; $bb sleep 0.2; done'
    echo '$bb mount -o rw "$device" /root && exec $bb switch_root /root /sbin/init'
    echo 'echo "no root file system $wanted"; exec $bb sh'
} >"$initramfs/init"
chmod +x "$initramfs/init"
# What an init may load itself: the power button.
for module in drivers/acpi/button.ko drivers/input/evdev.ko; do
    (cd "$work/kernel" && cp --parents "lib/modules/$version/kernel/$module" "$root")
done
(cd "$initramfs" && find . | cpio --quiet -o -H newc | gzip -1) >"$root/boot/initramfs-virt"
