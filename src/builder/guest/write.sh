# Writes standard input to the file $1, with mode $2, owner $3 and time $4 (seconds since 1970), in place of what is
# there.
umask 022
case $1 in
*/?*) mkdir -p -- "${1%/*}/" || exit ;;
esac
if [ -d "$1" ] && [ ! -L "$1" ]; then
    echo "$1 is a directory" >&2
    exit 1
fi
umask 077
new=$1.vmfab-new
# Removed first: mv would go through a link to a directory.
rm -f -- "$new" && cat >"$new" && chown -- "$3" "$new" && chmod "$2" "$new" && touch -d "@$4" -- "$new" &&
    rm -f -- "$1" && mv -f -- "$new" "$1" && exit
code=$?
rm -f -- "$new"
exit $code
