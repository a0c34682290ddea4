case $1 in
*/. | /) directory=$1 name=. ;;
*) directory=$(dirname "$1") name=$(basename "$1") ;;
esac
if [ "$name" != . ] && [ ! -e "$1" ] && [ ! -L "$1" ]; then
	echo "$0: $1: no such file or directory" >&2
	exit 1
fi
cd "$directory" || exit
tar -cf - -- "$name"
code=$?
# Of GNU tar it only means that a file changed meanwhile, as logs do.
if [ "$code" = 1 ] && tar --version 2>/dev/null | grep -q GNU; then
	code=0
fi
exit "$code"
