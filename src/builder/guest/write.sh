# Writes standard input to the file $1, with mode $2 and, unless empty, owner $3, in place of what is there.
case $1 in
*/?*) mkdir -p -- "${1%/*}/" || exit ;;
esac
if [ -d "$1" ]; then
    echo "$1 is a directory" >&2
    exit 1
fi
umask 077
new=$1.vmfab-new
cat >"$new" && { [ -z "$3" ] || chown -- "$3" "$new"; } && chmod "$2" "$new" && mv -f -- "$new" "$1" && exit
code=$?
rm -f -- "$new"
exit $code
