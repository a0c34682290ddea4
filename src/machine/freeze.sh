# Writes all file systems on disks back and freezes them, says so, and thaws them when a line or the end
# comes on standard input. Nothing is written between the two: a write would wait for the end.
seen=' '
set --
while read -r device directory type options rest; do
    case $device in /dev/*) ;; *) continue ;; esac
    case ,$options, in *,rw,*) ;; *) continue ;; esac
    case $seen in *" $device "*) continue ;; esac
    seen="$seen$device "
    # Spaces are written as \040. The root is mounted first: it comes last.
    set -- "$(printf '%b' "$directory")" "$@"
done </proc/self/mounts
for directory; do
    # Blocks of files that are gone become holes. Not every file system can.
    fstrim "$directory" >/dev/null 2>&1
done
sync
if command -v fsfreeze >/dev/null 2>&1; then
    for directory; do
        fsfreeze --freeze "$directory" 2>/dev/null || echo "loose $directory"
    done
else
    for directory; do
        echo "loose $directory"
    done
    sync
fi
echo frozen
read -r _
if command -v fsfreeze >/dev/null 2>&1; then
    for directory; do
        fsfreeze --unfreeze "$directory" 2>/dev/null
    done
fi
echo thawed
