# Runs in a machine that booted the tree of a bootable container. /run/vmfab has the image as an OCI
# layout, and the arguments of bootc in a file, one a line, without the target disk.
set -u
cd /run/vmfab || exit 1

# The empty disk is the one that is neither the root nor the one of this script.
of() {
    device=$(findmnt -n -o SOURCE "$1")
    echo "${device#/dev/}"
}
root=$(of /) own=$(of /run/vmfab) target=
for disk in /sys/class/block/vd?; do
    disk=${disk##*/}
    case $disk in "$root" | "$own") continue ;; esac
    target=/dev/$disk
done

set --
while IFS= read -r argument; do
    set -- "$@" "$argument"
done <arguments
set -- "$@" "$target"

echo "+ bootc $*"
# To a terminal, bootc would draw its progress many times a second: lines for a log, and slow ones.
{
    bootc "$@"
    echo $? >/run/vmfab-code
} 2>&1 | cat
code=$(cat /run/vmfab-code)
if test $code -ne 0; then
    echo "--- journal"
    journalctl --boot --no-pager --output=short-monotonic --lines=200
    echo "---"
fi
sync
echo "vmfab-install: $code"
