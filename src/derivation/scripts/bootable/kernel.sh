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
