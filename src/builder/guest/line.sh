# Replaces the line of the file $1 that begins with $2 by $3, or adds it at the end. The file keeps its mode.
set -eu
mkdir -p -- "${1%/*}/"
old=/dev/null
mode=0644
if [ -e "$1" ]; then
    if [ ! -f "$1" ]; then
        echo "$1 is not a regular file" >&2
        exit 1
    fi
    old=$1
    mode=$(stat -L -c %a -- "$1")
fi
new=$1.vmfab-new
rm -f -- "$new"
PREFIX=$2 LINE=$3 awk '
    index($0, ENVIRON["PREFIX"]) == 1 && !done { print ENVIRON["LINE"]; done = 1; next }
    { print }
    END { if (!done) print ENVIRON["LINE"] }' "$old" >"$new"
if ! cmp -s "$old" "$new"; then
    chown 0:0 "$new"
    chmod "$mode" "$new"
    rm -f -- "$1"
    mv -f -- "$new" "$1"
fi
rm -f -- "$new"
