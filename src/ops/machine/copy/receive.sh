target=$1 name=$2
# For root, too, files get the modes that the umask leaves, and no set-user-id bits.
safe=
if tar --version 2>/dev/null | grep -q GNU; then
	safe=--no-same-permissions
fi
if [ "$name" = "" ] || [ "$name" = . ]; then
	# All of it, into a directory.
	if [ "$name" = . ] && [ ! -e "$target" ]; then
		mkdir -- "$target" || exit
	fi
	cd "$target" && exec tar $safe -xof -
	exit 1
fi
if [ -d "$target" ]; then
	cd "$target" && exec tar $safe -xof - -- "$name"
	exit 1
fi
case $target in
*/)
	echo "$0: $target: no such directory" >&2
	exit 1
	;;
esac
parent=$(dirname "$target")
if [ ! -d "$parent" ]; then
	echo "$0: $parent: no such directory" >&2
	exit 1
fi
part=$(mktemp -d "$parent/.vmfab-cp.XXXXXX") || exit
trap 'rm -rf "$part"' EXIT
trap 'exit 130' INT TERM HUP
tar $safe -xof - -C "$part" -- "$name" && mv -f -- "$part/$name" "$target"
