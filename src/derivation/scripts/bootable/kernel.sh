# While Debian's packages are installed they are told to make no initrd (INITRD=No): they would make it
# twice. The quickest compression does: the file is read once in a boot.
for kernel in /boot/vmlinuz-*; do
    version=${kernel#/boot/vmlinuz-}
    if test -e "$kernel" && command -v update-initramfs >/dev/null &&
        ! test -e "/boot/initrd.img-$version"; then
        mkdir -p /etc/initramfs-tools/conf.d
        echo COMPRESSLEVEL=1 >/etc/initramfs-tools/conf.d/vmfab
        update-initramfs -c -k "$version"
        rm /etc/initramfs-tools/conf.d/vmfab
    fi
done
# Some packages leave the kernel beside its modules, and make no initrd where no machine runs.
mkdir -p /boot
for modules in /lib/modules/*; do
    version=${modules##*/}
    test -f "$modules/vmlinuz" || continue
    test -e "/boot/vmlinuz-$version" || cp "$modules/vmlinuz" "/boot/vmlinuz-$version"
    if command -v dracut >/dev/null && ! test -e "/boot/initramfs-$version.img" &&
        ! test -e "/boot/initrd.img-$version"; then
        dracut --quiet --force --no-hostonly "/boot/initramfs-$version.img" "$version"
    fi
done
